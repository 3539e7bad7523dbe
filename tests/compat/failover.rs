//! How long clients wait when a leader fails. Each test prints what it measured; with `MILLSTREAM_FAULT_TRIES=20` and
//! nothing else on the machine these are the figures of docs/BENCHMARKS.md, and the goals are held.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{CreateTopicsRequest, ProduceRequest};

use crate::harness::batch::Batch;
use crate::harness::nodes::Nodes;
use crate::harness::topics::{METADATA, creatable, metadata, metadata_request, produce_request};
use crate::harness::wire::Wire;
use crate::harness::{PATIENCE, eventually, unique};

/// The first version whose answers name the current leader (KIP-951).
const NAMES_THE_LEADER: i16 = 10;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const REQUEST_TIMED_OUT: i16 = 7;
const NOT_ENOUGH_REPLICAS: i16 = 19;
/// What one attempt may take. Longer than any that succeeds needs.
const ATTEMPT: Duration = Duration::from_secs(1);

/// How often each fault is tried, and whether the goals count: a machine that does other work may miss them.
pub fn tries() -> (usize, bool) {
    match std::env::var("MILLSTREAM_FAULT_TRIES") {
        Ok(tries) => (tries.parse().expect("MILLSTREAM_FAULT_TRIES is a number"), true),
        Err(_) => (2, false),
    }
}

pub fn report(what: &str, goal: Duration, mut took: Vec<Duration>) {
    took.sort_unstable();
    let ms = |at: usize| took[at].as_millis();
    println!("{what}: {} tries, median {} ms, longest {} ms", took.len(), ms(took.len() / 2), ms(took.len() - 1));
    let limit = if tries().1 { goal } else { PATIENCE };
    assert!(took.iter().all(|took| *took <= limit), "{what}: longer than {limit:?}");
}

/// Leader and replicas in sync of the first partition, as a node tells them now.
fn leader(wire: &mut Wire, topic: &str) -> (usize, usize) {
    let told = metadata(wire, &[topic]);
    let Some(partition) = told.topics[0].partitions.first().filter(|p| p.error_code == 0) else { return (0, 0) };
    (usize::try_from(partition.leader_id.0).unwrap_or(0), partition.isr_nodes.len())
}

/// One record with acks=all to the first partition, over a new connection.
fn write_once(nodes: &Nodes, to: usize, topic: &str) -> bool {
    let records = Batch::of(&["a record"]).build();
    let answer = nodes.wire(to).try_call(NAMES_THE_LEADER, &produce_request(topic, 0, records), ATTEMPT);
    answer.is_some_and(|answer| answer.responses[0].partition_responses[0].error_code == 0)
}

/// A client that knows nothing asks the nodes but `without` for the leader, and writes.
pub fn write_anew(nodes: &Nodes, count: usize, without: usize, topic: &str) {
    let asked: Vec<usize> = (1..=count).filter(|id| *id != without).collect();
    let deadline = Instant::now() + PATIENCE;
    for id in asked.iter().cycle() {
        assert!(Instant::now() < deadline, "no acknowledgement after {PATIENCE:?}");
        let (leader, _) = leader(&mut nodes.wire(*id), topic);
        if asked.contains(&leader) && write_once(nodes, leader, topic) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn all_in_sync(nodes: &Nodes, topic: &str) -> usize {
    eventually("a leader and three replicas in sync, whomever one asks", || {
        let mut told = (1..=3).map(|id| leader(&mut nodes.wire(id), topic));
        let (leader, in_sync) = told.next()?;
        (leader > 0 && in_sync == 3 && told.all(|told| told == (leader, 3))).then_some(leader)
    })
}

pub fn replicated(nodes: &Nodes, configs: &[(&str, &str)]) -> String {
    let topic = unique("failover");
    let wanted = creatable(&topic, 1, configs).with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]);
    assert_eq!(nodes.wire(1).call(7, &request).topics[0].error_code, 0);
    topic
}

#[test]
fn a_fresh_client_is_acknowledged_soon_after_a_leader_was_killed() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated(&nodes, &[]);
    let mut took = Vec::new();
    for _ in 0..tries().0 {
        let leader = all_in_sync(&nodes, &topic);
        let failed = Instant::now();
        nodes.kill(leader);
        write_anew(&nodes, 3, leader, &topic);
        took.push(failed.elapsed());
        nodes.spawn(leader);
        nodes.await_ready(leader);
    }
    report("first acknowledgement after kill -9 of a leader", Duration::from_secs(2), took);
}

#[test]
fn a_fresh_client_is_acknowledged_soon_after_a_leader_stood_still() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated(&nodes, &[]);
    let mut took = Vec::new();
    for _ in 0..tries().0 {
        let leader = all_in_sync(&nodes, &topic);
        let failed = Instant::now();
        nodes.pause(leader);
        write_anew(&nodes, 3, leader, &topic);
        took.push(failed.elapsed());
        nodes.resume(leader);
    }
    report("first acknowledgement after SIGSTOP of a leader", Duration::from_secs(2), took);
}

#[test]
fn all_nodes_serve_soon_after_all_were_killed() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated(&nodes, &[]);
    let mut took = Vec::new();
    for _ in 0..tries().0 {
        all_in_sync(&nodes, &topic);
        (1..=3).for_each(|id| nodes.kill(id));
        let restarted = Instant::now();
        (1..=3).for_each(|id| nodes.spawn(id));
        (1..=3).for_each(|id| nodes.await_ready(id));
        write_anew(&nodes, 3, 0, &topic);
        took.push(restarted.elapsed());
    }
    report("first acknowledgement after all nodes were killed and started", Duration::from_secs(3), took);
}

/// A client with a connection to each node, which writes one record after the other and goes where it is sent.
struct Writer<'a> {
    nodes: &'a Nodes,
    topic: &'a str,
    leader: usize,
    wires: [Option<Wire>; 4],
}

impl Writer<'_> {
    fn wire(&mut self, id: usize) -> Option<&mut Wire> {
        let address = self.nodes.kafka(id);
        let wire = &mut self.wires[id];
        if wire.is_none() {
            *wire = TcpStream::connect(address).ok().map(|_| Wire::connect(address));
        }
        wire.as_mut()
    }

    /// The answer, and whether it tells where the leader that it names can be reached.
    fn attempt(&mut self) -> Option<(PartitionProduceResponse, bool)> {
        let request = produce_request(self.topic, 0, Batch::of(&["a record"]).build());
        let answer = self.wire(self.leader)?.try_call(NAMES_THE_LEADER, &request, PATIENCE);
        if answer.is_none() {
            self.wires[self.leader] = None;
        }
        let answer = answer?;
        let row = answer.responses[0].partition_responses[0].clone();
        let is_there = answer.node_endpoints.iter().any(|node| node.node_id == row.current_leader.leader_id);
        Some((row, is_there))
    }

    /// Until it is acknowledged. Nothing may be refused but by one that does not lead any more, and names who does.
    fn write(&mut self) -> Duration {
        let begun = Instant::now();
        loop {
            match self.attempt() {
                Some((row, _)) if row.error_code == 0 => return begun.elapsed(),
                Some((row, is_there)) => {
                    assert_eq!(row.error_code, NOT_LEADER_OR_FOLLOWER);
                    let named = usize::try_from(row.current_leader.leader_id.0).unwrap_or(0);
                    assert!(is_there && (1..=3).contains(&named), "nobody is named: {row:?}");
                    self.leader = named;
                }
                None => self.ask(),
            }
            assert!(begun.elapsed() < PATIENCE, "no acknowledgement after {PATIENCE:?}");
        }
    }

    /// Asks the next node, as clients do when a connection ends or nobody is named.
    fn ask(&mut self) {
        let (next, topic) = (self.leader % 3 + 1, self.topic);
        let told = self.wire(next).and_then(|wire| wire.try_call(METADATA, &metadata_request(&[topic]), PATIENCE));
        if told.is_none() {
            self.wires[next] = None;
        }
        let told = told.map(|told| usize::try_from(told.topics[0].partitions[0].leader_id.0).unwrap_or(0));
        self.leader = told.filter(|leader| *leader > 0).unwrap_or(next);
    }
}

#[test]
fn a_leader_that_is_stopped_makes_nobody_wait_for_long() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated(&nodes, &[]);
    let mut took = Vec::new();
    for _ in 0..tries().0 {
        let first = all_in_sync(&nodes, &topic);
        let mut writer = Writer { nodes: &nodes, topic: &topic, leader: first, wires: [const { None }; 4] };
        (0..10).for_each(|_| _ = writer.write());
        nodes.terminate(first);
        let (mut longest, mut by_another) = (Duration::ZERO, 0);
        while by_another < 100 {
            longest = longest.max(writer.write());
            by_another += usize::from(writer.leader != first);
        }
        took.push(longest);
        let (status, log) = nodes.await_end(first);
        assert!(status.success(), "{log}");
        nodes.spawn(first);
        nodes.await_ready(first);
    }
    report("longest acknowledgement while a leader was stopped", Duration::from_millis(500), took);
}

/// Its disk was not mounted for one start, say.
#[test]
fn a_node_whose_old_disk_returns_is_in_sync_again() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    // So an acknowledgement says that each node has its vote on the disk that it has now.
    let topic = replicated(&nodes, &[("min.insync.replicas", "3")]);
    let first = all_in_sync(&nodes, &topic);
    let away = first % 3 + 1;
    let disk = nodes.data_dir(away).clone();
    let kept = disk.with_extension("kept");
    nodes.kill(away);
    std::fs::rename(&disk, &kept).expect("the disk is taken away");
    nodes.spawn(away);
    nodes.await_ready(away);
    write_anew(&nodes, 3, 0, &topic);
    nodes.kill(away);
    std::fs::remove_dir_all(&disk).expect("the other disk is taken away");
    std::fs::rename(&kept, &disk).expect("the disk is back");
    nodes.spawn(away);
    nodes.await_ready(away);
    write_anew(&nodes, 3, 0, &topic);
    let first = all_in_sync(&nodes, &topic);
    nodes.kill(first);
    let others: Vec<usize> = (1..=3).filter(|id| *id != first).collect();
    eventually("one of the others leads, both are in sync", || {
        let told = metadata(&mut nodes.wire(others[0]), &[&topic]);
        let partition = &told.topics[0].partitions[0];
        let in_sync: Vec<usize> = partition.isr_nodes.iter().map(|id| id.0 as usize).collect();
        (others.contains(&(partition.leader_id.0 as usize)) && in_sync == others).then_some(())
    });
}

/// Nobody has its only replica any more: nobody is said to lead it.
#[test]
fn a_partition_whose_only_disk_is_lost_is_told_as_led_by_nobody() {
    const LEADER_NOT_AVAILABLE: i16 = 5;
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = unique("lost");
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![creatable(&topic, 1, &[])]);
    assert_eq!(nodes.wire(1).call(7, &request).topics[0].error_code, 0);
    let has = eventually("it has a leader", || Some(leader(&mut nodes.wire(1), &topic).0).filter(|id| *id > 0));
    nodes.kill(has);
    std::fs::remove_dir_all(nodes.data_dir(has)).expect("the disk is lost");
    nodes.spawn(has);
    nodes.await_ready(has);
    for id in 1..=3 {
        eventually("nobody leads it", || {
            let told = metadata(&mut nodes.wire(id), &[&topic]);
            let partition = &told.topics[0].partitions[0];
            ((partition.error_code, partition.leader_id.0) == (LEADER_NOT_AVAILABLE, -1)).then_some(())
        });
    }
}

#[test]
fn requests_on_one_connection_run_out_of_time_together() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated(&nodes, &[]);
    let leader = all_in_sync(&nodes, &topic);
    let mut wire = nodes.wire(leader);
    let others = (1..=3).filter(|id| *id != leader);
    others.clone().for_each(|id| nodes.pause(id));
    let begun = Instant::now();
    let sent: Vec<i32> = (0..30)
        .map(|n| {
            let records = Batch::of(&[&format!("record {n}")]).build();
            wire.send(NAMES_THE_LEADER, &produce_request(&topic, 0, records).with_timeout_ms(1_000))
        })
        .collect();
    for correlation in sent {
        let answer = wire.receive::<ProduceRequest>(NAMES_THE_LEADER, correlation);
        let code = answer.responses[0].partition_responses[0].error_code;
        assert!([REQUEST_TIMED_OUT, NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS].contains(&code), "{code}");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "one after the other: {:?}", begun.elapsed());
    others.for_each(|id| nodes.resume(id));
}
