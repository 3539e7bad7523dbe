//! Faults of every kind, drawn by chance, one after the other, under idempotent producers and group consumers.
//!
//! Run by `scripts/soak`: `MILLSTREAM_TEST_FAULT_SECONDS` says for how long, `MILLSTREAM_TEST_SEED` which faults come.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::harness::nodes::Nodes;
use crate::harness::{chance, number};
use crate::leaving::json;
use crate::reassign::move_all;
use crate::repair::{closed_segments, flip};
use crate::replication::{PARTITIONS, Stream, all_in_sync, internals_in_sync, replicated_topic};

const NODES: [usize; 3] = [1, 2, 3];
/// Files come and go all the time, and damage is found at once.
const SETTINGS: [&str; 5] = [
    "log.roll.ms=1000",
    "offsets.topic.num.partitions=4",
    "log.scrub.interval.ms=500",
    "log.scrub.bytes.per.second=1000000000",
    // A damaged replica begins anew when the leader has led for longer than this.
    "replica.lag.time.max.ms=1000",
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(usize),
    KillAll,
    Stop(usize),
    Pause(usize),
    PauseAll,
    /// All of a disk, or one of its folders.
    LoseDisk(usize, &'static str),
    /// A bit of a closed segment, while the node is away.
    Damage(usize),
    /// The replicas of a topic leave the node, and come back.
    Move(usize),
    /// The node leads nothing for a while.
    Drain(usize),
    Isolate(usize),
    /// What the first sends to the second is lost.
    CutOneWay(usize, usize),
    SlowLinks,
}

fn draw(chance: &mut StdRng, has_net: bool) -> Fault {
    let id = chance.random_range(1..=3);
    let other = (id + chance.random_range(0..2)) % 3 + 1;
    match chance.random_range(0..if has_net { 15 } else { 12 }) {
        0 | 1 => Fault::Kill(id),
        2 => Fault::KillAll,
        3 | 4 => Fault::Stop(id),
        5 => Fault::Pause(id),
        6 => Fault::PauseAll,
        7 | 8 => Fault::LoseDisk(id, ["", "kv", "log"][chance.random_range(0..3)]),
        9 => Fault::Damage(id),
        10 => Fault::Move(id),
        11 => Fault::Drain(id),
        12 => Fault::Isolate(id),
        13 => Fault::CutOneWay(id, other),
        _ => Fault::SlowLinks,
    }
}

/// Producers and consumers of some topics.
struct Load<'a>(Vec<Stream<'a>>);

impl Load<'_> {
    /// Sends until some more of each is acknowledged; some are still on their way then.
    fn go_on(&mut self, chance: &mut StdRng) {
        for stream in &mut self.0 {
            stream.send(chance.random_range(100..1_500));
            stream.push(chance.random_range(0..300));
        }
    }

    fn check_committed(&mut self, nodes: &Nodes) {
        self.0.iter_mut().for_each(|stream| stream.check_committed(nodes));
    }
}

/// Everything is on every node: one may lose its disk.
fn settle(nodes: &Nodes, topics: &[String]) {
    topics.iter().for_each(|topic| all_in_sync(nodes, topic));
    internals_in_sync(nodes);
}

/// Changes a bit of a closed segment of a topic, if there is one.
fn damage_closed(nodes: &Nodes, id: usize, topic: &str, chance: &mut StdRng) -> bool {
    let mut closed = closed_segments(nodes, id, topic);
    closed.sort();
    let Some(path) = closed.get(chance.random_range(0..closed.len().max(1))) else { return false };
    flip(path);
    true
}

fn suffer(fault: Fault, nodes: &mut Nodes, topics: &[String], load: &mut Load<'_>, chance: &mut StdRng) {
    match fault {
        Fault::Kill(id) => {
            nodes.kill(id);
            load.go_on(chance);
        }
        Fault::KillAll => NODES.into_iter().for_each(|id| nodes.kill(id)),
        Fault::Stop(id) => {
            let (status, log) = nodes.stop(id);
            assert!(status.success(), "{log}");
            load.go_on(chance);
        }
        Fault::Pause(id) => {
            nodes.pause(id);
            load.go_on(chance);
            nodes.resume(id);
        }
        Fault::PauseAll => {
            NODES.into_iter().for_each(|id| nodes.pause(id));
            std::thread::sleep(Duration::from_millis(chance.random_range(0..3_000)));
            NODES.into_iter().for_each(|id| nodes.resume(id));
        }
        Fault::LoseDisk(id, part) => {
            settle(nodes, topics);
            nodes.kill(id);
            std::fs::remove_dir_all(nodes.data_dir(id).join(part)).expect("the disk is lost");
            load.go_on(chance);
            nodes.start_all();
            settle(nodes, topics);
        }
        Fault::Damage(id) => {
            settle(nodes, topics);
            nodes.kill(id);
            let is_damaged = damage_closed(nodes, id, &topics[0], chance);
            load.go_on(chance);
            nodes.start_all();
            if is_damaged {
                nodes.await_log(id, "a replica that learnt anew is whole again");
            }
            settle(nodes, topics);
        }
        Fault::Move(id) => {
            let all = NODES.map(|node| i32::try_from(node).expect("small"));
            let others: Vec<i32> = all.into_iter().filter(|node| *node != all[id - 1]).collect();
            for on in [&others[..], &all] {
                move_all(&mut nodes.wire(1), &topics[0], PARTITIONS, Some(on));
                load.go_on(chance);
            }
            settle(nodes, topics);
        }
        Fault::Drain(id) => {
            json(nodes, &["cluster", "drain", &id.to_string()]);
            load.go_on(chance);
            json(nodes, &["cluster", "drain", &id.to_string(), "--undo"]);
        }
        Fault::Isolate(id) => {
            nodes.net().isolate(id);
            load.go_on(chance);
            nodes.net().heal();
        }
        Fault::CutOneWay(from, to) => {
            nodes.net().cut(from, to);
            load.go_on(chance);
            nodes.net().heal();
        }
        Fault::SlowLinks => {
            nodes.net().slow_down("8mbit");
            load.go_on(chance);
            nodes.net().heal();
        }
    }
    nodes.start_all();
}

#[test]
fn faults_of_every_kind_one_after_the_other_lose_and_double_nothing() {
    let Some(seconds) = number("MILLSTREAM_TEST_FAULT_SECONDS") else {
        return eprintln!("SKIP: for scripts/soak");
    };
    let apart = Nodes::started_apart(3, &SETTINGS);
    let has_net = apart.is_some();
    let Some(mut nodes) = apart.or_else(|| Nodes::started(3, &SETTINGS)) else { return };
    let mut chance = chance();
    let topics = [replicated_topic(&nodes), replicated_topic(&nodes)];
    let mut load = Load(topics.iter().map(|topic| Stream::start_impatient(&nodes, topic)).collect());
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        load.go_on(&mut chance);
        let fault = draw(&mut chance, has_net);
        println!("{:?}: {fault:?}", begun.elapsed());
        suffer(fault, &mut nodes, &topics, &mut load, &mut chance);
        load.check_committed(&nodes);
        count += 1;
    }
    load.go_on(&mut chance);
    let mut records = 0;
    for stream in load.0 {
        records += stream.check(&nodes).values().sum::<i64>();
    }
    println!("{count} faults in {:?}, {records} records", begun.elapsed());
}
