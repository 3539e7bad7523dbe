use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{self, BrokerId, ProducerId, fetch_response};
use kafka_protocol::protocol::StrBytes;
use rand::RngExt;
use rand::rngs::StdRng;

use super::super::encode_response;
use super::super::response::FileRange;
use super::super::samples::with_seeds;
use super::*;

fn maybe<T>(rng: &mut StdRng, make: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    rng.random_bool(0.4).then(|| make(rng))
}

fn several<T>(rng: &mut StdRng, mut make: impl FnMut(&mut StdRng) -> T) -> Vec<T> {
    (0..rng.random_range(0..4)).map(|_| make(rng)).collect()
}

fn any_response(version: i16, rng: &mut StdRng) -> FetchResponse {
    let by_id = version >= TOPIC_ID_FROM;
    let name = TopicRef::Name(StrBytes::from_static_str("orders"));
    FetchResponse {
        throttle_time_ms: rng.random(),
        error_code: rng.random(),
        session_id: rng.random(),
        topics: several(rng, |rng| FetchTopicResponse {
            topic: if by_id { TopicRef::Id(uuid::Uuid::from_u128(rng.random())) } else { name.clone() },
            partitions: several(rng, any_partition),
        }),
        node_endpoints: several(rng, |rng| NodeEndpoint {
            node_id: rng.random(),
            host: StrBytes::from_static_str("node"),
            port: rng.random(),
            rack: maybe(rng, |_| StrBytes::from_static_str("rack")),
        }),
    }
}

fn any_partition(rng: &mut StdRng) -> FetchPartitionResponse {
    FetchPartitionResponse {
        index: rng.random(),
        error_code: rng.random(),
        high_watermark: rng.random(),
        last_stable_offset: rng.random(),
        log_start_offset: rng.random(),
        aborted_transactions: maybe(rng, |rng| {
            several(rng, |rng| AbortedTransaction { producer_id: rng.random(), first_offset: rng.random() })
        }),
        preferred_read_replica: rng.random(),
        diverging_epoch: maybe(rng, |rng| EpochEndOffset { epoch: rng.random(), end_offset: rng.random() }),
        current_leader: maybe(rng, |rng| CurrentLeader { leader_id: rng.random(), leader_epoch: rng.random() }),
        snapshot_id: maybe(rng, |rng| SnapshotId { end_offset: rng.random(), epoch: rng.random() }),
        records: several(rng, |rng| {
            let byte = rng.random();
            Part::Bytes(Bytes::from(vec![byte; rng.random_range(0..300)]))
        }),
    }
}

fn bytes_of(parts: &[Part]) -> Bytes {
    let mut all = BytesMut::new();
    for part in parts {
        match part {
            Part::Bytes(bytes) => all.extend_from_slice(bytes),
            Part::File(_) => panic!("no file was given"),
        }
    }
    all.freeze()
}

/// The same for the crate, without what the version lacks: it refuses to leave such a thing out.
fn theirs(version: i16, response: &FetchResponse) -> messages::FetchResponse {
    let endpoints = response.node_endpoints.iter().filter(|_| version >= NODE_ENDPOINTS_FROM).map(|endpoint| {
        fetch_response::NodeEndpoint::default()
            .with_node_id(BrokerId(endpoint.node_id))
            .with_host(endpoint.host.clone())
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.clone())
    });
    let topics = response.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| their_partition(version, partition)).collect();
        let theirs = fetch_response::FetchableTopicResponse::default().with_partitions(partitions);
        match &topic.topic {
            TopicRef::Name(name) => theirs.with_topic(messages::TopicName(name.clone())),
            TopicRef::Id(id) => theirs.with_topic_id(*id),
        }
    });
    let sessions = version >= SESSION_FROM;
    messages::FetchResponse::default()
        .with_throttle_time_ms(response.throttle_time_ms)
        .with_error_code(if sessions { response.error_code } else { 0 })
        .with_session_id(if sessions { response.session_id } else { 0 })
        .with_responses(topics.collect())
        .with_node_endpoints(endpoints.collect())
}

fn their_partition(version: i16, partition: &FetchPartitionResponse) -> fetch_response::PartitionData {
    let aborted = partition.aborted_transactions.as_ref().map(|all| {
        let each = |aborted: &AbortedTransaction| {
            fetch_response::AbortedTransaction::default()
                .with_producer_id(ProducerId(aborted.producer_id))
                .with_first_offset(aborted.first_offset)
        };
        all.iter().map(each).collect()
    });
    let mut theirs = fetch_response::PartitionData::default()
        .with_partition_index(partition.index)
        .with_error_code(partition.error_code)
        .with_high_watermark(partition.high_watermark)
        .with_last_stable_offset(partition.last_stable_offset)
        .with_log_start_offset(partition.log_start_offset)
        .with_aborted_transactions(aborted)
        .with_records(Some(bytes_of(&partition.records)));
    if version >= PREFERRED_REPLICA_FROM {
        theirs = theirs.with_preferred_read_replica(BrokerId(partition.preferred_read_replica));
    }
    if version < 12 {
        return theirs;
    }
    if let Some(end) = partition.diverging_epoch {
        let end = fetch_response::EpochEndOffset::default().with_epoch(end.epoch).with_end_offset(end.end_offset);
        theirs = theirs.with_diverging_epoch(end);
    }
    if let Some(leader) = partition.current_leader {
        let leader = fetch_response::LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(leader.leader_id))
            .with_leader_epoch(leader.leader_epoch);
        theirs = theirs.with_current_leader(leader);
    }
    if let Some(id) = partition.snapshot_id {
        let id = fetch_response::SnapshotId::default().with_end_offset(id.end_offset).with_epoch(id.epoch);
        theirs = theirs.with_snapshot_id(id);
    }
    theirs
}

#[test]
fn a_response_is_written_as_the_crate_writes_it() {
    for version in 4..=18 {
        with_seeds(200, |rng| {
            let response = any_response(version, rng);
            let expected = encode_response(KEY, version, 77, &theirs(version, &response)).expect("can be said");
            let ours = encode_fetch_response(version, 77, response).expect("can be said");
            assert_eq!(ours.size_bytes(), expected.size_bytes(), "version {version}");
            assert_eq!(bytes_of(ours.parts()), bytes_of(expected.parts()), "version {version}");
        });
    }
}

#[test]
fn files_and_bytes_keep_their_order_and_are_counted() {
    let file = std::sync::Arc::new(tempfile::tempfile().expect("a file"));
    let range = |position, len| Part::File(FileRange { file: file.clone(), position, len });
    let mut partition = any_partition(&mut rand::SeedableRng::seed_from_u64(1));
    partition.records = vec![range(0, 4096), range(8192, 70_000), Part::Bytes(Bytes::from_static(b"tail"))];
    let second = FetchPartitionResponse { index: 1, records: vec![range(9, 1)], ..partition.clone() };
    let topic = FetchTopicResponse { topic: TopicRef::Id(uuid::Uuid::nil()), partitions: vec![partition, second] };
    let response = FetchResponse { topics: vec![topic], ..FetchResponse::default() };
    let response = encode_fetch_response(17, 1, response).expect("can be said");
    let parts = response.parts();
    let kinds: Vec<_> = parts.iter().map(|part| matches!(part, Part::File(_))).collect();
    assert_eq!(kinds, [false, true, true, false, false, true, false]);
    let Part::Bytes(first) = &parts[0] else { panic!("the prefix comes first") };
    let announced = i32::from_be_bytes(first[..4].try_into().expect("four bytes"));
    assert_eq!(announced as usize + 4, parts.iter().map(Part::len).sum::<usize>());
    assert_eq!(response.size_bytes(), announced as usize + 4);
}

#[test]
fn more_than_a_length_can_say_is_refused() {
    let file = std::sync::Arc::new(tempfile::tempfile().expect("a file"));
    let mut partition = any_partition(&mut rand::SeedableRng::seed_from_u64(1));
    let half = FileRange { file, position: 0, len: 1 << 30 };
    partition.records = vec![Part::File(half.clone()), Part::File(half)];
    let topic = FetchTopicResponse { topic: TopicRef::Id(uuid::Uuid::nil()), partitions: vec![partition] };
    let response = FetchResponse { topics: vec![topic], ..FetchResponse::default() };
    assert_eq!(encode_fetch_response(17, 1, response).err(), Some(EncodeError::TooLong(2 << 30)));
}
