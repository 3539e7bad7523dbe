//! Short forms of the requests that many tests need in passing.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse,
    ProduceRequest, TopicName,
};
use uuid::Uuid;

use super::wire::Wire;
use super::{batch, eventually, text, unique};

pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;
/// The version in which Metadata is asked.
pub const METADATA: i16 = 12;

pub fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

/// Creates a topic of that many partitions under a fresh name and waits until each of them serves.
#[track_caller]
pub fn topic(wire: &mut Wire, partitions: i32) -> String {
    topic_with(wire, partitions, &[])
}

#[track_caller]
pub fn topic_with(wire: &mut Wire, partitions: i32, configs: &[(&str, &str)]) -> String {
    let topic = unique("topic");
    let request = CreateTopicsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![creatable(&topic, partitions, configs)]);
    let response = wire.call(7, &request);
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    await_topic(wire, &topic, partitions);
    topic
}

/// Waits until each partition is led and serves.
#[track_caller]
pub fn await_topic(wire: &mut Wire, topic: &str, partitions: i32) {
    for partition in 0..partitions {
        eventually("the partition serves", || {
            (list_offset(wire, topic, partition, LATEST).error_code == 0).then_some(())
        });
    }
}

pub fn creatable(topic: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let config = |(k, v): &(&str, &str)| CreatableTopicConfig::default().with_name(text(k)).with_value(Some(text(v)));
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect())
}

#[track_caller]
pub fn metadata(wire: &mut Wire, topics: &[&str]) -> MetadataResponse {
    wire.call(METADATA, &metadata_request(topics))
}

/// The same of every topic there is, internal ones too.
#[track_caller]
pub fn metadata_of_all(wire: &mut Wire) -> MetadataResponse {
    wire.call(METADATA, &metadata_request(&[]).with_topics(None))
}

pub fn metadata_request(topics: &[&str]) -> MetadataRequest {
    let topic = |t: &&str| MetadataRequestTopic::default().with_name(Some(name(t)));
    MetadataRequest::default()
        .with_topics(Some(topics.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(false)
}

#[track_caller]
pub fn topic_id(wire: &mut Wire, topic: &str) -> Uuid {
    let id = metadata(wire, &[topic]).topics[0].topic_id;
    assert!(!id.is_nil(), "a topic has an id");
    id
}

/// Writes one or more encoded batches with acks=all.
#[track_caller]
pub fn produce(wire: &mut Wire, topic: &str, partition: i32, records: Bytes) -> PartitionProduceResponse {
    let response = wire.call(9, &produce_request(topic, partition, records));
    response.responses[0].partition_responses[0].clone()
}

pub fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data])])
}

/// Writes values as one batch, which must succeed; gives the base offset.
#[track_caller]
pub fn write(wire: &mut Wire, topic: &str, partition: i32, values: &[&str]) -> i64 {
    let response = produce(wire, topic, partition, batch::Batch::of(values).build());
    assert_eq!(response.error_code, 0, "{:?}", response.error_message);
    response.base_offset
}

pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let data = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(1 << 20);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(vec![FetchTopic::default().with_topic(name(topic)).with_partitions(vec![data])])
}

/// One partition from an offset on, outside of a session.
#[track_caller]
pub fn fetch(wire: &mut Wire, topic: &str, partition: i32, offset: i64) -> PartitionData {
    let response = wire.call(12, &fetch_request(topic, partition, offset));
    assert_eq!(response.error_code, 0);
    response.responses[0].partitions[0].clone()
}

/// The values of all records from an offset on.
#[track_caller]
pub fn values(wire: &mut Wire, topic: &str, partition: i32, mut offset: i64) -> Vec<String> {
    let mut out = Vec::new();
    loop {
        let data = fetch(wire, topic, partition, offset);
        assert_eq!(data.error_code, 0);
        let records = batch::read(&data.records.clone().unwrap_or_default());
        let Some(last) = records.last() else {
            assert_eq!(offset, data.high_watermark, "nothing is missing before the high watermark");
            return out;
        };
        let after = last.offset + 1;
        let wanted = records.into_iter().filter(|r| r.offset >= offset);
        out.extend(wanted.map(|r| String::from_utf8(r.value.expect("a value")).expect("UTF-8")));
        offset = after;
    }
}

#[track_caller]
pub fn list_offset(wire: &mut Wire, topic: &str, partition: i32, timestamp: i64) -> ListOffsetsPartitionResponse {
    let response = wire.call(7, &list_offsets_request(topic, partition, timestamp));
    response.topics[0].partitions[0].clone()
}

pub fn list_offsets_request(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition])])
}

/// A fresh producer id and its epoch. A broker that has just started may say that it is loading.
#[track_caller]
pub fn producer_id(wire: &mut Wire, version: i16) -> (i64, i16) {
    const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let request = if version >= 3 { request.with_producer_id((-1).into()).with_producer_epoch(-1) } else { request };
    eventually("a producer id", || {
        let response = wire.call(version, &request);
        assert!([0, COORDINATOR_LOAD_IN_PROGRESS].contains(&response.error_code), "error {}", response.error_code);
        (response.error_code == 0).then_some((response.producer_id.0, response.producer_epoch))
    })
}
