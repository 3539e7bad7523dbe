//! What one request may ask for: answers and work stay in proportion to it, and what stands in it twice counts once.

use bytes::Bytes;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeProducersRequest, DescribeQuorumRequest, FetchRequest, FindCoordinatorRequest,
    ProduceRequest,
};

use crate::harness::batch::{Batch, zstd_bomb};
use crate::harness::broker::Broker;
use crate::harness::topics::{self, fetch_request, name, producer_id};
use crate::harness::wire::{API_VERSIONS, Wire, software};
use crate::harness::{now_ms, text};

const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;

/// Sends batches in one request, each under the number of its partition.
fn produce(wire: &mut Wire, topic: &str, batches: &[(i32, Bytes)]) -> Vec<PartitionProduceResponse> {
    let data = |(index, batch): &(i32, Bytes)| {
        PartitionProduceData::default().with_index(*index).with_records(Some(batch.clone()))
    };
    let topic =
        TopicProduceData::default().with_name(name(topic)).with_partition_data(batches.iter().map(data).collect());
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    wire.call(9, &request).responses.into_iter().flat_map(|topic| topic.partition_responses).collect()
}

#[test]
fn a_produce_is_told_of_a_thousand_bad_records_at_most() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 3);
    let future = Batch::of(&["x"; 600]).timestamp(now_ms() + 10 * 24 * 3_600_000).build();
    let told = produce(&mut wire, &topic, &[(0, future.clone()), (1, future.clone()), (2, future)]);
    let told: Vec<_> = told.iter().map(|p| (p.error_code, p.record_errors.len())).collect();
    assert_eq!(told, [(INVALID_TIMESTAMP, 600), (INVALID_TIMESTAMP, 400), (INVALID_TIMESTAMP, 0)]);
}

#[test]
fn a_produce_inflates_to_no_more_than_its_share() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 6);
    // Each is within what its topic takes; 256 MiB is what a small request may inflate to.
    let bomb = Batch::of(&["a"]).with(|b| (b.attributes, b.raw_records) = (4, Some(zstd_bomb(60 << 20))));
    let batches: Vec<_> = (0..6).map(|partition| (partition, bomb.build())).collect();
    let errors: Vec<_> = produce(&mut wire, &topic, &batches).iter().map(|p| p.error_code).collect();
    assert_eq!(errors, [0, 0, 0, 0, MESSAGE_TOO_LARGE, MESSAGE_TOO_LARGE]);
}

#[test]
fn of_two_batches_for_a_partition_the_last_is_written_and_one_is_answered() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    let batch = |value| Batch::of(&[value]).build();
    let answered = produce(&mut wire, &topic, &[(0, batch("first")), (1, batch("other")), (0, batch("last"))]);
    let mut answered: Vec<_> = answered.iter().map(|p| (p.index, p.error_code, p.base_offset)).collect();
    answered.sort_unstable();
    assert_eq!(answered, [(0, 0, 0), (1, 0, 0)]);
    assert_eq!(topics::values(&mut wire, &topic, 0, 0), ["last"]);
}

#[test]
fn a_fetch_is_answered_once_for_a_partition_as_it_was_last_asked_for() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["a"]);
    topics::write(&mut wire, &topic, 0, &["b"]);
    let mut request = fetch_request(&topic, 0, 0);
    let last = request.topics[0].partitions[0].clone().with_fetch_offset(1);
    request.topics[0].partitions.push(last);
    let response = wire.call(12, &request);
    let rows: Vec<_> = response.responses.iter().flat_map(|topic| &topic.partitions).collect();
    assert_eq!(rows.len(), 1);
    let read = crate::harness::batch::read(rows[0].records.as_ref().expect("records"));
    assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_partition_is_described_once_with_its_producers() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let (id, epoch) = producer_id(&mut wire, 4);
    let batch = Batch::of(&["x"]).producer(id, epoch, 0).build();
    assert_eq!(topics::produce(&mut wire, &topic, 0, batch).error_code, 0);
    let asked = kafka_protocol::messages::describe_producers_request::TopicRequest::default()
        .with_name(name(&topic))
        .with_partition_indexes(vec![0; 5_000]);
    let response = wire.call(0, &DescribeProducersRequest::default().with_topics(vec![asked]));
    let told: Vec<_> = response.topics[0].partitions.iter().map(|p| p.active_producers.len()).collect();
    assert_eq!(told, [1]);
}

#[test]
fn a_resource_is_described_once() {
    let Some(broker) = Broker::own(&[]) else { return };
    const BROKER: i8 = 4;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text("1"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource; 1_000])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let results = broker.wire().call(4, &request).results;
    assert_eq!((results.len(), results[0].error_code), (1, 0));
}

/// Large requests of small elements: each element costs more than it takes on the wire.
#[test]
fn requests_of_very_many_elements_are_refused_while_others_are_served() {
    let Some(broker) = Broker::own(&[]) else { return };
    let (mut keys, mut partitions, mut unknown) = (broker.wire(), broker.wire(), broker.wire());
    let find = |n: usize| FindCoordinatorRequest::default().with_coordinator_keys((0..n).map(|_| text("g")).collect());
    let quorum =
        TopicData::default().with_topic_name(name("x")).with_partitions(vec![PartitionData::default(); 500_000]);
    let quorum = DescribeQuorumRequest::default().with_topics(vec![quorum]);
    let mut fetch = fetch_request("unknown", 0, 0);
    let one = fetch.topics[0].partitions[0].clone();
    fetch.topics[0].partitions = (0..100_000).map(|n| one.clone().with_partition(n)).collect();
    keys.send(4, &find(100_001));
    let asked_quorum = partitions.send(2, &quorum);
    let asked_fetch = unknown.send(12, &fetch);
    assert_eq!(broker.wire().call(API_VERSIONS, &software()).error_code, 0);
    assert!(keys.is_closed());
    let refused = partitions.receive::<DescribeQuorumRequest>(2, asked_quorum);
    assert_eq!((refused.error_code, refused.topics.len()), (42, 0));
    let told = unknown.receive::<FetchRequest>(12, asked_fetch);
    assert_eq!(told.responses[0].partitions.len(), 100_000);
    let found = broker.wire().call(4, &find(100_000));
    assert_eq!(found.coordinators.len(), 100_000);
}
