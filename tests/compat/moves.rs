//! Replicas move under a producer and a group, their committed offsets too, while those who have a part in it die.

use kafka_protocol::messages::DescribeQuorumRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};

use crate::harness::nodes::Nodes;
use crate::harness::topics::name;
use crate::harness::{eventually, topics};
use crate::leaving::{brokers, json_while_sending};
use crate::reassign::{await_files, await_on, create, move_all, ongoing};
use crate::replication::{PARTITIONS, Stream, leader_of_first};

const OFFSETS: &str = "__consumer_offsets";
/// Of the committed offsets.
const OFFSETS_PARTITIONS: i32 = 8;

enum Dies {
    Leader,
    /// Who has no replica yet.
    Target(usize),
    Controller,
}

fn controller(nodes: &Nodes) -> usize {
    let partition = PartitionData::default().with_partition_index(0);
    let topic = TopicData::default().with_topic_name(name("__cluster_metadata")).with_partitions(vec![partition]);
    let ask = DescribeQuorumRequest::default().with_topics(vec![topic]);
    eventually("the metadata are led", || {
        let told = nodes.wire(1).call(2, &ask);
        let quorum = told.topics.first()?.partitions.first().filter(|quorum| quorum.error_code == 0)?;
        usize::try_from(quorum.leader_id.0).ok().filter(|leader| *leader > 0)
    })
}

/// Two topics: ours, and that of committed offsets.
fn move_both(nodes: &Nodes, topic: &str, on: &[i32]) {
    move_all(&mut nodes.wire(1), topic, PARTITIONS, Some(on));
    move_all(&mut nodes.wire(1), OFFSETS, OFFSETS_PARTITIONS, Some(on));
}

fn await_both(nodes: &Nodes, topic: &str, on: &[i32]) {
    for moved in [topic, OFFSETS] {
        await_on(nodes, 1, moved, on);
    }
}

#[test]
fn replicas_move_under_load_while_a_leader_a_target_and_the_controller_die() {
    let Some(mut nodes) = Nodes::started(4, &[]) else { return };
    let topic = create(&mut nodes.wire(1), PARTITIONS, 3);
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(500);
    eventually("something is committed", || stream.has_committed().then_some(()));
    move_both(&nodes, &topic, &[1, 2, 3]);
    await_both(&nodes, &topic, &[1, 2, 3]);
    for (on, dies) in [([2, 3, 4], Dies::Leader), ([3, 4, 1], Dies::Target(1)), ([4, 1, 2], Dies::Controller)] {
        stream.send(500);
        let dies = match dies {
            Dies::Leader => leader_of_first(&nodes, &topic),
            Dies::Target(id) => id,
            Dies::Controller => controller(&nodes),
        };
        move_both(&nodes, &topic, &on);
        nodes.kill(dies);
        println!("to {on:?}, and node {dies} dies");
        stream.send(500);
        stream.check_committed(&nodes);
        nodes.spawn(dies);
        nodes.await_ready(dies);
        await_both(&nodes, &topic, &on);
        stream.check_committed(&nodes);
    }
    await_files(&nodes, &mut nodes.wire(1), &topic, 3, false);
    stream.check(&nodes);
}

#[test]
fn a_broker_is_decommissioned_under_load_while_the_one_that_takes_over_dies() {
    let Some(mut nodes) = Nodes::started(4, &[]) else { return };
    let topic = create(&mut nodes.wire(1), PARTITIONS, 3);
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(500);
    eventually("something is committed", || stream.has_committed().then_some(()));
    move_both(&nodes, &topic, &[1, 2, 3]);
    await_both(&nodes, &topic, &[1, 2, 3]);
    let bootstrap = nodes.bootstrap();
    let command = std::thread::spawn(move || {
        crate::cli::run(&["cluster", "decommission", "3", "--brokers", &bootstrap, "--format", "json"], "")
    });
    eventually("it has begun", || (!ongoing(&mut nodes.wire(1), None).is_empty()).then_some(()));
    nodes.kill(4);
    stream.send(500);
    stream.check_committed(&nodes);
    nodes.spawn(4);
    nodes.await_ready(4);
    let done = command.join().expect("it runs to its end");
    // It may have been told of the death, and is run again then.
    if done.code != Some(0) {
        println!("again after: {}", done.stderr);
        json_while_sending(&nodes, &mut stream, &["cluster", "decommission", "3"]);
    }
    eventually("nobody knows it any more", || {
        (brokers(&nodes, 1) == [(1, false), (2, false), (4, false)]).then_some(())
    });
    stream.send(500);
    let told = topics::metadata_of_all(&mut nodes.wire(1));
    let mut replicas = told.topics.iter().flat_map(|topic| &topic.partitions).flat_map(|p| &p.replica_nodes);
    assert!(replicas.all(|id| id.0 != 3), "{told:?}");
    nodes.kill(3);
    stream.check(&nodes);
}
