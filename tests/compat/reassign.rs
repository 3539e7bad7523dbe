//! AlterPartitionReassignments, ListPartitionReassignments: replicas move between real nodes.

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest,
    ListPartitionReassignmentsRequest,
};

use crate::harness::nodes::Nodes;
use crate::harness::topics::{self, creatable, name};
use crate::harness::wire::Wire;
use crate::harness::{eventually, unique};
use crate::replication::{PARTITIONS, Stream};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;

/// A topic with so many replicas of each partition.
pub fn create(wire: &mut Wire, partitions: i32, replicas: i16) -> String {
    let topic = unique("moved");
    let wanted = creatable(&topic, partitions, &[]).with_replication_factor(replicas);
    let created = wire.call(7, &CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]));
    assert_eq!(created.topics[0].error_code, 0);
    eventually("every partition is led", || {
        let told = topics::metadata(wire, &[&topic]);
        told.topics[0].partitions.iter().all(|p| p.leader_id.0 > 0).then_some(())
    });
    topic
}

fn request(topic: &str, partitions: &[i32], replicas: Option<&[i32]>) -> AlterPartitionReassignmentsRequest {
    let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect::<Vec<_>>());
    let row =
        |number: &i32| ReassignablePartition::default().with_partition_index(*number).with_replicas(replicas.clone());
    let topic = ReassignableTopic::default().with_name(name(topic));
    AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic.with_partitions(partitions.iter().map(row).collect())])
}

/// Error and its words of each partition.
fn alter(wire: &mut Wire, version: i16, request: &AlterPartitionReassignmentsRequest) -> Vec<(i16, String)> {
    let told = wire.call(version, request);
    assert_eq!((told.error_code, told.error_message.as_ref()), (0, None));
    let rows = told.responses[0].partitions.iter();
    rows.map(|row| (row.error_code, row.error_message.as_ref().map(ToString::to_string).unwrap_or_default())).collect()
}

/// Moves every partition of the topic, or goes back where there are no replicas.
#[track_caller]
pub fn move_all(wire: &mut Wire, topic: &str, partitions: i32, replicas: Option<&[i32]>) {
    let all: Vec<i32> = (0..partitions).collect();
    let told = alter(wire, 1, &request(topic, &all, replicas).with_allow_replication_factor_change(true));
    assert!(told.iter().all(|(code, _)| *code == 0), "{told:?}");
}

/// Partition, replicas, adding, removing.
pub type Row = (i32, Vec<i32>, Vec<i32>, Vec<i32>);

/// The moves of a topic, or of all.
pub fn ongoing(wire: &mut Wire, asked: Option<(&str, &[i32])>) -> Vec<Row> {
    let asked = asked.map(|(topic, partitions)| {
        let topic = ListPartitionReassignmentsTopics::default().with_name(name(topic));
        vec![topic.with_partition_indexes(partitions.to_vec())]
    });
    let request = ListPartitionReassignmentsRequest::default().with_timeout_ms(30_000).with_topics(asked);
    let told = wire.call(0, &request);
    assert_eq!(told.error_code, 0);
    let ids = |nodes: &[BrokerId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let rows = told.topics.iter().flat_map(|topic| &topic.partitions);
    rows.map(|p| (p.partition_index, ids(&p.replicas), ids(&p.adding_replicas), ids(&p.removing_replicas))).collect()
}

/// Replicas of each partition; in-sync replicas sorted.
pub fn replicas(wire: &mut Wire, topic: &str) -> Vec<(Vec<i32>, Vec<i32>)> {
    let told = topics::metadata(wire, &[topic]);
    let ids = |nodes: &[BrokerId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let mut rows: Vec<_> = told.topics[0].partitions.iter().collect();
    rows.sort_by_key(|p| p.partition_index);
    let row = |in_sync: Vec<i32>| {
        let mut sorted = in_sync;
        sorted.sort_unstable();
        sorted
    };
    rows.into_iter().map(|p| (ids(&p.replica_nodes), row(ids(&p.isr_nodes)))).collect()
}

/// Waits until every partition is on these nodes, in sync, and no move is left.
#[track_caller]
pub fn await_on(nodes: &Nodes, asked: usize, topic: &str, on: &[i32]) {
    let mut wire = nodes.wire(asked);
    let mut sorted = on.to_vec();
    sorted.sort_unstable();
    eventually("every partition has moved", || {
        let is_there = replicas(&mut wire, topic).iter().all(|(all, in_sync)| all == on && *in_sync == sorted);
        (is_there && ongoing(&mut wire, None).is_empty()).then_some(())
    });
}

/// Waits until a node has files of a topic, or none.
#[track_caller]
pub fn await_files(nodes: &Nodes, wire: &mut Wire, topic: &str, node: usize, has: bool) {
    let dir = nodes.data_dir(node).join("log").join(topics::topic_id(wire, topic).to_string());
    eventually("the files are there, or gone", || {
        let count = std::fs::read_dir(&dir).map_or(0, |entries| entries.count());
        ((count > 0) == has).then_some(())
    });
}

#[test]
fn alter_partition_reassignments() {
    let Some(nodes) = Nodes::started(4, &[]) else { return };
    let mut wire = nodes.wire(1);
    let topic = create(&mut wire, PARTITIONS, 1);
    for version in wire.versions::<AlterPartitionReassignmentsRequest>() {
        let mut refused = |partition: i32, replicas: Option<&[i32]>| {
            alter(&mut wire, version, &request(&topic, &[partition], replicas)).remove(0)
        };
        let (code, words) = refused(PARTITIONS, Some(&[1]));
        assert_eq!(
            (code, words),
            (UNKNOWN_TOPIC_OR_PARTITION, format!("Unable to find partition {topic}:{PARTITIONS}."))
        );
        let words = "No partition reassignment is in progress.";
        assert_eq!(refused(0, None), (NO_REASSIGNMENT_IN_PROGRESS, words.to_owned()));
        let words = "The manual partition assignment includes broker 9, but no such broker is registered.";
        assert_eq!(refused(0, Some(&[9])), (INVALID_REPLICA_ASSIGNMENT, words.to_owned()));
    }
    let words = "The replication factor is changed from 1 to 3";
    let fixed = request(&topic, &[0], Some(&[1, 2, 3])).with_allow_replication_factor_change(false);
    assert_eq!(alter(&mut wire, 1, &fixed), [(INVALID_REPLICATION_FACTOR, words.to_owned())]);
    let unknown = request("nobody", &[0], Some(&[1]));
    assert_eq!(alter(&mut wire, 0, &unknown)[0].0, UNKNOWN_TOPIC_OR_PARTITION);

    // Under a producer: more replicas, fewer, all elsewhere, and back to a node that had one before.
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(1_000);
    for on in [&[1, 2, 3][..], &[3, 2], &[4], &[1, 2], &[4, 3, 1], &[2]] {
        move_all(&mut wire, &topic, PARTITIONS, Some(on));
        stream.send(1_000);
        await_on(&nodes, 4, &topic, on);
        for node in 1..=4 {
            await_files(&nodes, &mut wire, &topic, node, on.contains(&i32::try_from(node).expect("small")));
        }
        stream.send(500);
    }
    stream.check(&nodes);
}

#[test]
fn list_partition_reassignments() {
    let Some(mut nodes) = Nodes::started(4, &[]) else { return };
    let mut wire = nodes.wire(1);
    let topic = create(&mut wire, 2, 1);
    move_all(&mut wire, &topic, 2, Some(&[1, 2]));
    await_on(&nodes, 1, &topic, &[1, 2]);
    assert_eq!(ongoing(&mut wire, None), []);

    // A move to a node that is dead waits, and can be cancelled.
    nodes.kill(4);
    move_all(&mut wire, &topic, 2, Some(&[4, 2]));
    let moving = |number| (number, vec![4, 2, 1], vec![4], vec![1]);
    assert_eq!(ongoing(&mut wire, None), [moving(0), moving(1)]);
    assert_eq!(ongoing(&mut wire, Some((&topic, &[1, 7]))), [moving(1)]);
    assert_eq!(ongoing(&mut wire, Some(("nobody", &[0]))), []);
    for asked in 1..=3 {
        let mut wire = nodes.wire(asked);
        eventually("every node tells all replicas", || {
            replicas(&mut wire, &topic).iter().all(|(all, _)| *all == [4, 2, 1]).then_some(())
        });
    }
    move_all(&mut wire, &topic, 2, None);
    assert_eq!(ongoing(&mut wire, None), []);
    await_on(&nodes, 2, &topic, &[1, 2]);
    let told = alter(&mut wire, 0, &request(&topic, &[0], None));
    assert_eq!(told[0].0, NO_REASSIGNMENT_IN_PROGRESS);
    topics::write(&mut leader(&nodes, &topic), &topic, 0, &["still", "there"]);
}

/// A connection to the leader of the first partition.
fn leader(nodes: &Nodes, topic: &str) -> Wire {
    let mut wire = nodes.wire(1);
    let leader = eventually("the first partition is led", || {
        let told = topics::metadata(&mut wire, &[topic]);
        let first = told.topics[0].partitions.iter().find(|p| p.partition_index == 0)?;
        usize::try_from(first.leader_id.0).ok().filter(|leader| *leader > 0)
    });
    nodes.wire(leader)
}

#[test]
fn a_move_goes_on_when_every_node_was_killed_and_its_target_comes_up() {
    let Some(mut nodes) = Nodes::started(4, &[]) else { return };
    let topic = create(&mut nodes.wire(1), PARTITIONS, 3);
    let doomed = create(&mut nodes.wire(1), 1, 1);
    move_all(&mut nodes.wire(1), &topic, PARTITIONS, Some(&[3, 1, 2]));
    move_all(&mut nodes.wire(1), &doomed, 1, Some(&[3]));
    await_on(&nodes, 1, &topic, &[3, 1, 2]);
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(1_000);
    nodes.kill(4);
    move_all(&mut nodes.wire(1), &topic, PARTITIONS, Some(&[4, 1, 2]));
    move_all(&mut nodes.wire(1), &doomed, 1, Some(&[4]));
    (1..=3).for_each(|id| nodes.kill(id));
    (1..=3).for_each(|id| nodes.spawn(id));
    (1..=3).for_each(|id| nodes.await_ready(id));
    stream.send(500);
    let mut wire = nodes.wire(2);
    assert_eq!(ongoing(&mut wire, Some((&topic, &[0]))).len(), 1);
    let doomed = DeleteTopicState::default().with_name(Some(name(&doomed)));
    let deleted = wire.call(6, &DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![doomed]));
    assert_eq!(deleted.responses[0].error_code, 0);
    nodes.spawn(4);
    nodes.await_ready(4);
    stream.send(500);
    await_on(&nodes, 4, &topic, &[4, 1, 2]);
    await_files(&nodes, &mut wire, &topic, 3, false);
    stream.check(&nodes);
}

#[test]
fn a_node_that_was_away_while_its_replicas_moved_drops_them() {
    let Some(mut nodes) = Nodes::started(4, &[]) else { return };
    let topic = create(&mut nodes.wire(1), PARTITIONS, 3);
    move_all(&mut nodes.wire(1), &topic, PARTITIONS, Some(&[1, 2, 3]));
    await_on(&nodes, 1, &topic, &[1, 2, 3]);
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(500);
    // While it is away its replicas move; then those who know of it are killed, so that it must not help to elect.
    nodes.kill(3);
    move_all(&mut nodes.wire(1), &topic, PARTITIONS, Some(&[1, 2, 4]));
    await_on(&nodes, 1, &topic, &[1, 2, 4]);
    stream.send(500);
    [1, 2, 4].into_iter().for_each(|id| nodes.kill(id));
    (1..=4).for_each(|id| nodes.spawn(id));
    (1..=4).for_each(|id| nodes.await_ready(id));
    stream.send(500);
    await_files(&nodes, &mut nodes.wire(2), &topic, 3, false);
    // It gets them again, with nothing left of what they were.
    move_all(&mut nodes.wire(1), &topic, PARTITIONS, Some(&[3, 2, 4]));
    stream.send(500);
    await_on(&nodes, 3, &topic, &[3, 2, 4]);
    nodes.kill(2);
    stream.send(500);
    nodes.spawn(2);
    nodes.await_ready(2);
    stream.check(&nodes);
}
