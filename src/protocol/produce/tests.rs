use bytes::BufMut;
use kafka_protocol::messages::{self, BrokerId, produce_response};
use kafka_protocol::protocol::{Decodable, Encodable};
use rand::RngExt;
use rand::rngs::StdRng;

use super::super::allocated::allocated_by;
use super::super::samples::{body, damage, with_seeds};
use super::super::{decode, guard};
use super::*;

fn name(topic: &TopicRef) -> messages::TopicName {
    match topic {
        TopicRef::Name(name) => messages::TopicName(name.clone()),
        TopicRef::Id(_) => messages::TopicName::default(),
    }
}

fn id(topic: &TopicRef) -> uuid::Uuid {
    match topic {
        TopicRef::Name(_) => uuid::Uuid::nil(),
        TopicRef::Id(id) => *id,
    }
}

#[test]
fn a_request_is_read_as_the_crate_reads_it() {
    for version in 3..=13 {
        with_seeds(200, |rng| {
            let frame = body(shape::request(KEY).expect("known"), version, rng).0;
            let ours = decode::<ProduceRequest>(version, frame.clone()).expect("well formed");
            let theirs = messages::ProduceRequest::decode(&mut frame.clone(), version).expect("well formed");
            assert_eq!(ours.transactional_id, theirs.transactional_id.map(|id| id.0));
            assert_eq!((ours.acks, ours.timeout_ms), (theirs.acks, theirs.timeout_ms));
            assert_eq!(ours.topics.len(), theirs.topic_data.len());
            for (ours, theirs) in ours.topics.iter().zip(theirs.topic_data) {
                assert_eq!((name(&ours.topic), id(&ours.topic)), (theirs.name, theirs.topic_id));
                let partitions = theirs.partition_data.into_iter();
                let partitions = partitions.map(|p| ProducePartition { index: p.index, records: p.records });
                assert_eq!(ours.partitions, partitions.collect::<Vec<_>>());
            }
        });
    }
}

#[test]
fn records_are_slices_of_the_frame() {
    let mut frame = BytesMut::new();
    // No transactional id, acks, timeout; one topic `t` with partition 0 and 100,000 bytes.
    frame.put_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0]);
    frame.put_i32(100_000);
    let at = frame.len();
    frame.put_bytes(7, 100_000);
    let frame = frame.freeze();
    let (request, allocated) = allocated_by(|| decode::<ProduceRequest>(8, frame.clone()).expect("well formed"));
    let records = request.topics[0].partitions[0].records.as_ref().expect("not null");
    assert_eq!(records.as_ptr(), frame[at..].as_ptr());
    assert_eq!(records.len(), 100_000);
    assert!(allocated < 1000, "{allocated}");
}

#[test]
fn it_refuses_what_the_guard_refuses() {
    for version in 3..=13 {
        with_seeds(300, |rng| {
            let frame = damage(&body(shape::request(KEY).expect("known"), version, rng).0, rng);
            let walked = guard::check_request(KEY, version, &frame);
            let (decoded, allocated) = allocated_by(|| ProduceRequest::decode_body(version, frame.clone()));
            assert!(allocated <= 64 * frame.len() + 4096, "{allocated}");
            match (walked, decoded) {
                (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
                // The walk does not look into strings.
                (Ok(_), Err(DecodeError::Malformed(at))) => assert_eq!(at.fault, super::super::Fault::Utf8),
                (walked, decoded) => panic!("{walked:?} but {decoded:?}"),
            }
        });
    }
}

fn text(rng: &mut StdRng) -> StrBytes {
    StrBytes::from_string("x".repeat(rng.random_range(0..200)))
}

fn maybe<T>(rng: &mut StdRng, make: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    rng.random_bool(0.5).then(|| make(rng))
}

fn several<T>(rng: &mut StdRng, mut make: impl FnMut(&mut StdRng) -> T) -> Vec<T> {
    (0..rng.random_range(0..4)).map(|_| make(rng)).collect()
}

fn any_response(version: i16, rng: &mut StdRng) -> ProduceResponse {
    let by_id = version >= TOPIC_ID_FROM;
    ProduceResponse {
        topics: several(rng, |rng| ProduceTopicResponse {
            topic: if by_id { TopicRef::Id(uuid::Uuid::from_u128(rng.random())) } else { TopicRef::Name(text(rng)) },
            partitions: several(rng, |rng| ProducePartitionResponse {
                index: rng.random(),
                error_code: rng.random(),
                base_offset: rng.random(),
                log_append_time_ms: rng.random(),
                log_start_offset: rng.random(),
                record_errors: several(rng, |rng| RecordError { batch_index: rng.random(), message: maybe(rng, text) }),
                error_message: maybe(rng, text),
                current_leader: maybe(rng, |rng| CurrentLeader { leader_id: rng.random(), leader_epoch: rng.random() }),
            }),
        }),
        throttle_time_ms: rng.random(),
        node_endpoints: several(rng, |rng| NodeEndpoint {
            node_id: rng.random(),
            host: text(rng),
            port: rng.random(),
            rack: maybe(rng, text),
        }),
    }
}

/// The same for the crate, without what the version lacks: it refuses to leave such a thing out.
fn theirs(version: i16, response: &ProduceResponse) -> messages::ProduceResponse {
    let partition = |partition: &ProducePartitionResponse| {
        let errors = partition.record_errors.iter().filter(|_| version >= RECORD_ERRORS_FROM).map(|error| {
            produce_response::BatchIndexAndErrorMessage::default()
                .with_batch_index(error.batch_index)
                .with_batch_index_error_message(error.message.clone())
        });
        let leader = partition.current_leader.filter(|_| version >= LEADER_FROM).map(|leader| {
            produce_response::LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(leader.leader_id))
                .with_leader_epoch(leader.leader_epoch)
        });
        produce_response::PartitionProduceResponse::default()
            .with_index(partition.index)
            .with_error_code(partition.error_code)
            .with_base_offset(partition.base_offset)
            .with_log_append_time_ms(partition.log_append_time_ms)
            .with_log_start_offset(partition.log_start_offset)
            .with_record_errors(errors.collect())
            .with_error_message(partition.error_message.clone())
            .with_current_leader(leader.unwrap_or_default())
    };
    let topics = response.topics.iter().map(|topic| {
        produce_response::TopicProduceResponse::default()
            .with_name(name(&topic.topic))
            .with_topic_id(id(&topic.topic))
            .with_partition_responses(topic.partitions.iter().map(partition).collect())
    });
    let endpoints = response.node_endpoints.iter().filter(|_| version >= LEADER_FROM).map(|endpoint| {
        produce_response::NodeEndpoint::default()
            .with_node_id(BrokerId(endpoint.node_id))
            .with_host(endpoint.host.clone())
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.clone())
    });
    messages::ProduceResponse::default()
        .with_responses(topics.collect())
        .with_throttle_time_ms(response.throttle_time_ms)
        .with_node_endpoints(endpoints.collect())
}

#[test]
fn a_response_is_written_as_the_crate_writes_it() {
    for version in 3..=13 {
        with_seeds(200, |rng| {
            let response = any_response(version, rng);
            let (mut ours, mut expected) = (BytesMut::new(), BytesMut::new());
            response.encode_body(version, &mut ours).expect("can be said");
            theirs(version, &response).encode(&mut expected, version).expect("can be said");
            assert_eq!(ours, expected, "version {version}");
        });
    }
}

#[test]
fn a_topic_in_the_wrong_terms_is_refused() {
    let response = |topic| ProduceResponse {
        topics: vec![ProduceTopicResponse { topic, partitions: Vec::new() }],
        ..ProduceResponse::default()
    };
    let by_name = response(TopicRef::Name(StrBytes::from_static_str("t")));
    let by_id = response(TopicRef::Id(uuid::Uuid::nil()));
    assert!(by_name.encode_body(13, &mut BytesMut::new()).is_err());
    assert!(by_id.encode_body(12, &mut BytesMut::new()).is_err());
}
