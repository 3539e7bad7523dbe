//! Nodes whose disks are lost for good: another takes their place, and what comes back under the old number is nobody.

use std::fs::remove_dir_all;
use std::time::{Duration, Instant};

use crate::harness::nodes::Nodes;
use crate::harness::{eventually, topics};
use crate::leaving::{await_quorum, brokers, json_while_sending};
use crate::replication::{Stream, all_in_sync, in_sync, internals_in_sync, replicated_topic};

/// Every partition, also of the committed offsets, has its replicas on these nodes and no others.
fn await_everything_on(nodes: &Nodes, asked: usize, on: [i32; 3]) {
    eventually("every replica is there, and in sync", || {
        let told = topics::metadata_of_all(&mut nodes.wire(asked));
        let is_there = |ids: &[kafka_protocol::messages::BrokerId]| {
            let mut ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
            ids.sort_unstable();
            ids == on
        };
        let mut partitions = told.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.all(|p| is_there(&p.replica_nodes) && is_there(&p.isr_nodes)).then_some(())
    });
}

#[test]
fn a_voter_that_is_lost_for_good_is_replaced_by_a_node_with_a_new_number() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(1_000);
    internals_in_sync(&nodes);
    nodes.kill(2);
    remove_dir_all(nodes.data_dir(2)).expect("the disk is lost");
    stream.send(500);
    let new = nodes.add(vec![1, 3]);
    nodes.spawn(new);
    nodes.await_ready(new);
    let done = json_while_sending(&nodes, &mut stream, &["cluster", "decommission", "2"]);
    assert_eq!(done["status"], "decommissioned", "{done}");
    for asked in [1, 3, new] {
        eventually("nobody knows it any more", || {
            (brokers(&nodes, asked) == [(1, false), (3, false), (4, false)]).then_some(())
        });
    }
    await_quorum(&nodes, new, &[1, 3, 4], &[]);
    await_everything_on(&nodes, new, [1, 3, 4]);
    stream.check_committed(&nodes);
    // Its word counts: with it, another may go.
    nodes.kill(1);
    stream.send(500);
    stream.check_committed(&nodes);
    nodes.spawn(1);
    nodes.await_ready(1);
    stream.check(&nodes);
}

/// Longer than an election takes.
const LONG: Duration = Duration::from_secs(3);

/// A wiped node, and one that lacks what was acknowledged: were the first taken for who it was, they would be a majority.
#[test]
fn a_voter_that_lost_its_disk_does_not_vote_as_who_it_was() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(500);
    internals_in_sync(&nodes);
    let (wiped, behind, whole) = (1, 2, 3);
    nodes.kill(behind);
    in_sync(&nodes, &topic, 2);
    stream.send(1_000);
    nodes.kill(wiped);
    remove_dir_all(nodes.data_dir(wiped)).expect("the disk is lost");
    nodes.spawn(wiped);
    nodes.await_port(wiped);
    nodes.kill(whole);
    nodes.spawn(behind);
    nodes.await_port(behind);
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        for id in [wiped, behind] {
            let told = nodes.told_of(id, &topic);
            let is_led = told.is_some_and(|told| told.iter().any(|p| p.leader_id.0 > 0));
            assert!(!is_led, "node {id} knows of a leader");
        }
        assert_eq!(nodes.meta(wiped, "peer.id"), None, "nobody has given it an identity");
        std::thread::sleep(Duration::from_millis(50));
    }
    nodes.spawn(whole);
    (1..=3).for_each(|id| nodes.await_ready(id));
    stream.send(500);
    all_in_sync(&nodes, &topic);
    internals_in_sync(&nodes);
    stream.check(&nodes);
}
