//! Where a log starts on several nodes: what DeleteRecords and retention took is gone on every replica, also on one that was
//! away meanwhile, and clients are told the same whoever leads.

use std::time::Duration;

use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::harness::client::{admin, config, wait};
use crate::harness::nodes::Nodes;
use crate::harness::topics::{self, EARLIEST};
use crate::harness::{batch, eventually, text, unique};
use crate::snapshots::{all_in_sync, numbers, produce};

const OFFSET_OUT_OF_RANGE: i16 = 1;

/// What one node, leader or follower, tells of a fetch at an offset: the error, and where its log starts.
fn fetched(nodes: &Nodes, id: usize, topic: &str, offset: i64) -> (i16, i64) {
    let told = topics::fetch(&mut nodes.wire(id), topic, 0, offset);
    (told.error_code, told.log_start_offset)
}

/// The batches that a replica gives of this range. What it has before, in a segment that is not all gone, is its own affair.
fn batches(nodes: &Nodes, id: usize, topic: &str, mut offset: i64, end: i64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while offset < end {
        let told = topics::fetch(&mut nodes.wire(id), topic, 0, offset);
        let records = told.records.filter(|_| told.error_code == 0)?;
        offset = batch::read(&records).last()?.offset + 1;
        out.extend_from_slice(&records);
    }
    Some(out)
}

/// Waits until all replicas are in sync and the log of each starts there; the leader says the same to those who ask for the
/// earliest offset, and nobody gives what is before. `end`: of the log.
#[track_caller]
fn await_start(nodes: &Nodes, topic: &str, start: i64, end: i64) -> usize {
    let leader = all_in_sync(nodes, topic);
    for id in 1..=3 {
        eventually(&format!("the log of node {id} starts at {start}"), || {
            (fetched(nodes, id, topic, end) == (0, start)).then_some(())
        });
        eventually(&format!("node {id} refuses what is before {start}"), || {
            (fetched(nodes, id, topic, start - 1).0 == OFFSET_OUT_OF_RANGE).then_some(())
        });
    }
    let told = eventually("the leader tells", || {
        let told = topics::list_offset(&mut nodes.wire(all_in_sync(nodes, topic)), topic, 0, EARLIEST);
        (told.error_code == 0).then_some(told.offset)
    });
    assert_eq!(told, start);
    eventually("every replica gives the same bytes", || {
        let first = batches(nodes, 1, topic, start, end)?;
        [2, 3].iter().all(|id| batches(nodes, *id, topic, start, end).as_ref() == Some(&first)).then_some(())
    });
    leader
}

/// The first offset that a consumer gets who comes with an old one.
fn first_read(nodes: &Nodes, topic: &str) -> i64 {
    let more = [("group.id", "unused"), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest")];
    let consumer: BaseConsumer = BaseConsumer::from_config(&config(&nodes.bootstrap(), &more)).expect("consumer");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Offset(10)).expect("partition");
    consumer.assign(&assignment).expect("assign");
    eventually("a record comes", || Some(consumer.poll(Duration::from_millis(200))?.ok()?.offset()))
}

fn delete_before(nodes: &Nodes, topic: &str, offset: Offset) {
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(topic, 0, offset).expect("offset");
    let deleted = wait(admin(&nodes.bootstrap()).delete_records(&before, &AdminOptions::new())).expect("an answer");
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
}

/// Asks a node that is there: rdkafka waits for a minute for a controller that it was told of just before that one died.
fn set(nodes: &Nodes, topic: &str, key: &str, value: &str) {
    const TOPIC: i8 = 2;
    let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let asked = (1..=3).find(|id| nodes.is_running(*id)).expect("one that runs");
    eventually("the setting is changed", || {
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource.clone()]);
        let told = nodes.wire(asked).call(1, &request);
        (told.responses[0].error_code == 0).then_some(())
    });
}

fn other_than(node: usize) -> usize {
    node % 3 + 1
}

/// While all are there, while a follower is away, and while the node that led is.
#[test]
fn a_log_starts_at_the_same_offset_on_every_replica() {
    let Some(mut nodes) = Nodes::started(3, &["log.retention.check.interval.ms=200"]) else { return };
    let topic = unique("trimmed");
    let new = [NewTopic::new(&topic, 1, TopicReplication::Fixed(3)).set("segment.bytes", "1048576")];
    let created = wait(admin(&nodes.bootstrap()).create_topics(&new, &AdminOptions::new())).expect("an answer");
    assert!(created[0].is_ok(), "{created:?}");
    all_in_sync(&nodes, &topic);
    produce(&nodes, &topic, 0..6_000);
    delete_before(&nodes, &topic, Offset::Offset(1_000));
    let leader = await_start(&nodes, &topic, 1_000, 6_000);

    // retention.bytes, and a follower that comes back with a log that ends where the others begin anew.
    let away = other_than(leader);
    nodes.kill(away);
    set(&nodes, &topic, "retention.bytes", "2097152");
    produce(&nodes, &topic, 6_000..12_000);
    let start = eventually("retention has taken what the one who is away has", || {
        let asked = leader_without(&nodes, &topic, away)?;
        let (code, start) = fetched(&nodes, asked, &topic, 12_000);
        // Less than a segment more than what is kept.
        (code == 0 && start > 12_000 - 3 * 1_048).then_some(start)
    });
    nodes.spawn(away);
    nodes.await_ready(away);
    let leader = await_start(&nodes, &topic, start, 12_000);
    assert_eq!(first_read(&nodes, &topic), start);

    // Another leads: the same start. What it deletes then the one who led hears of when it is back.
    nodes.kill(leader);
    let all: Vec<usize> = (usize::try_from(start).expect("an offset")..12_000).collect();
    assert_eq!(numbers(&nodes, &topic), all);
    assert_eq!(first_read(&nodes, &topic), start);
    delete_before(&nodes, &topic, Offset::Offset(11_500));
    nodes.spawn(leader);
    nodes.await_ready(leader);
    let leader = await_start(&nodes, &topic, 11_500, 12_000);

    // retention.ms, which ends with nothing, while one is away.
    let away = other_than(leader);
    nodes.kill(away);
    set(&nodes, &topic, "retention.ms", "100");
    eventually("everything is too old", || {
        let asked = leader_without(&nodes, &topic, away)?;
        (fetched(&nodes, asked, &topic, 12_000) == (0, 12_000)).then_some(())
    });
    set(&nodes, &topic, "retention.ms", "-1");
    nodes.spawn(away);
    nodes.await_ready(away);
    await_start(&nodes, &topic, 12_000, 12_000);
    produce(&nodes, &topic, 12_000..12_010);
    assert_eq!(numbers(&nodes, &topic), (12_000..12_010).collect::<Vec<_>>());
    await_start(&nodes, &topic, 12_000, 12_010);
}

/// Who leads while one is away.
fn leader_without(nodes: &Nodes, topic: &str, away: usize) -> Option<usize> {
    let told = nodes.told_of(other_than(away), topic)?;
    usize::try_from(told.first()?.leader_id.0).ok().filter(|leader| *leader > 0 && *leader != away)
}
