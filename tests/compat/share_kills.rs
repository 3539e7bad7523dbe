//! Share consumers work while the nodes are killed one after the other: every record is delivered, and none again once its
//! acknowledgement was confirmed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::CreateTopicsRequest;

use crate::harness::batch::Batch;
use crate::harness::nodes::Nodes;
use crate::harness::share_member::{Member, Range};
use crate::harness::share_state::{Share, State};
use crate::harness::{eventually, topics, unique};

/// Records of which it is known that they were accepted.
const ACKNOWLEDGED: i8 = 2;
const PARTITIONS: i32 = 3;
const RECORDS: i64 = 1_000;
/// Records that a member takes at once, and those of a batch: whole batches are given.
const TAKEN: i32 = 5;

type Record = (i32, i64);

/// What is known of all records.
#[derive(Default)]
struct Known {
    delivered: BTreeSet<Record>,
    /// The group was told to have them; the answer may have been lost with a connection.
    told: BTreeSet<Record>,
    /// And said that it has.
    accepted: BTreeSet<Record>,
    doubled: Vec<Record>,
}

fn records(ranges: &[Range]) -> impl Iterator<Item = Record> {
    ranges.iter().flat_map(|(partition, first, last)| (*first..=*last).map(|offset| (*partition, offset)))
}

#[test]
fn what_was_acknowledged_is_not_delivered_again_though_nodes_are_killed() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = unique("topic");
    let wanted = topics::creatable(&topic, PARTITIONS, &[]).with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]);
    let id = nodes.wire(1).call(7, &request).topics[0].topic_id;
    for partition in 0..PARTITIONS {
        fill(&nodes, &topic, partition);
    }
    let group = unique("readers");
    let shares: Vec<Share> =
        (0..PARTITIONS).map(|partition| Share { group: group.clone(), topic: id, partition }).collect();
    for at in &shares {
        let (_, mut home) = at.wire(&nodes, 1);
        assert_eq!(at.initialize(&mut home, 1, 0), 0);
    }
    let known = Arc::new(Mutex::new(Known::default()));
    let is_over = Arc::new(AtomicBool::new(false));
    let addresses: Vec<String> = (1..=3).map(|node| nodes.kafka(node).to_owned()).collect();
    let members: Vec<_> = (0..3)
        .map(|_| {
            let member = Member::new(&group, (topic.clone(), id), addresses.clone());
            let (known, is_over) = (Arc::clone(&known), Arc::clone(&is_over));
            std::thread::spawn(move || work(member, &known, &is_over))
        })
        .collect();
    let all = usize::try_from(RECORDS).unwrap() * usize::try_from(PARTITIONS).unwrap();
    let count = || {
        let known = known.lock().unwrap();
        (known.accepted.len(), known.told.len())
    };
    for victim in [1, 2, 3, 1, 2, 3] {
        // Somebody has got something since the last one came back.
        let (before, _) = count();
        eventually("records are accepted", || {
            let (accepted, told) = count();
            (accepted > before || told == all).then_some(())
        });
        nodes.kill(victim);
        std::thread::sleep(Duration::from_millis(500));
        nodes.start_all();
    }
    let begun = Instant::now();
    let is_done = |at: &Share| end_of(&at.read(&mut at.wire(&nodes, 1).1, -1)) == RECORDS;
    while !shares.iter().all(is_done) {
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?} of {all} are accepted, and sent to be", count());
        std::thread::sleep(Duration::from_millis(200));
    }
    is_over.store(true, Ordering::Relaxed);
    members.into_iter().for_each(|member| member.join().expect("a member's thread"));
    let known = known.lock().unwrap();
    assert_eq!(known.doubled, [], "accepted, and delivered again");
    assert_eq!((known.delivered.len(), known.told.len()), (all, all), "each is delivered");
}

/// Up to where everything is done with: the start that is kept is the one before the last write.
fn end_of(state: &State) -> i64 {
    let done = state.batches.iter().filter(|(_, _, state, _)| *state == ACKNOWLEDGED);
    done.fold(state.start, |end, (first, last, ..)| if *first == end { last + 1 } else { end })
}

/// Writes the records of a partition, where it is led.
fn fill(nodes: &Nodes, topic: &str, partition: i32) {
    let values: Vec<String> = (0..RECORDS).map(|n| format!("{partition}-{n}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let mut chunks = values.chunks(TAKEN as usize).peekable();
    eventually("the partition is led", || {
        let told = topics::metadata(&mut nodes.wire(1), &[topic]);
        let rows = &told.topics.first()?.partitions;
        let leader = rows.iter().find(|row| row.partition_index == partition)?.leader_id.0;
        let mut wire = nodes.wire(usize::try_from(leader).ok().filter(|leader| *leader > 0)?);
        while let Some(chunk) = chunks.peek() {
            let written = topics::produce(&mut wire, topic, partition, Batch::of(chunk).build());
            if written.error_code != 0 {
                return None;
            }
            chunks.next();
        }
        Some(())
    });
}

/// Takes and accepts, and looks around anew whenever something is the matter, or there is nothing to take: partitions may
/// be led by others now.
fn work(mut member: Member, known: &Mutex<Known>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let mut has_taken = false;
        for leader in member.leaders() {
            match one_round(&mut member, leader, known) {
                Some(count) => has_taken |= count > 0,
                None => {
                    has_taken = false;
                    break;
                }
            }
        }
        if !has_taken {
            std::thread::sleep(Duration::from_millis(100));
            member.look_around();
        }
    }
}

/// How many ranges were taken, and accepted. None: something is the matter.
fn one_round(member: &mut Member, leader: usize, known: &Mutex<Known>) -> Option<usize> {
    let accepted = known.lock().unwrap().accepted.clone();
    let taken = member.take(leader, TAKEN)?;
    {
        let mut known = known.lock().unwrap();
        known.doubled.extend(records(&taken).filter(|record| accepted.contains(record)));
        known.delivered.extend(records(&taken));
    }
    if taken.is_empty() {
        return Some(0);
    }
    // What a member does with its records.
    std::thread::sleep(Duration::from_millis(5));
    known.lock().unwrap().told.extend(records(&taken));
    let kept = member.accept(leader, &taken)?;
    known.lock().unwrap().accepted.extend(records(&kept));
    (kept.len() == taken.len()).then_some(taken.len())
}
