//! What one request may ask for: answers and work stay in proportion to it, and what stands in it twice counts once.

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;

use crate::harness::batch::{Batch, zstd_bomb};
use crate::harness::broker::Broker;
use crate::harness::now_ms;
use crate::harness::topics::{self, name};
use crate::harness::wire::Wire;

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
