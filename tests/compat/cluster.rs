//! DescribeLogDirs, AlterReplicaLogDirs, DescribeProducers, DescribeQuorum, UpdateFeatures.

use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterReplicaLogDirsRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeQuorumRequest,
    ElectLeadersRequest, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::Request;

use crate::harness::batch::Batch;
use crate::harness::broker::Broker;
use crate::harness::flex::{Reader, Writer};
use crate::harness::topics::{self, name};
use crate::harness::{text, unique};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LOG_DIR_NOT_FOUND: i16 = 57;
const ELECTION_NOT_NEEDED: i16 = 84;

#[test]
fn describe_log_dirs() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    topics::write(&mut wire, &topic, 1, &["some", "bytes"]);
    let asked = DescribableLogDirTopic::default().with_topic(name(&topic)).with_partitions(vec![0, 1]);
    let request = DescribeLogDirsRequest::default().with_topics(Some(vec![asked]));
    for version in wire.versions::<DescribeLogDirsRequest>() {
        let response = wire.call(version, &request);
        if version >= 3 {
            assert_eq!(response.error_code, 0);
        }
        assert_eq!(response.results.len(), 1, "one directory");
        let directory = &response.results[0];
        assert_eq!(directory.error_code, 0);
        assert!(directory.log_dir.starts_with('/'), "an absolute path");
        if version >= 4 {
            assert!(
                directory.total_bytes > 0
                    && directory.usable_bytes > 0
                    && directory.usable_bytes <= directory.total_bytes
            );
        }
        let mut sizes: Vec<_> = directory.topics[0]
            .partitions
            .iter()
            .map(|p| (p.partition_index, p.partition_size > 60, p.is_future_key))
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes.last(), Some(&(1, true, false)));
        let is_empty = |partition: i32| {
            directory.topics[0].partitions.iter().any(|p| p.partition_index == partition && p.partition_size == 0)
        };
        assert!(is_empty(0) && !is_empty(1), "a partition without records has no size");
        assert!(directory.topics[0].partitions.iter().all(|p| p.offset_lag == 0));
        let all = wire.call(version, &DescribeLogDirsRequest::default().with_topics(None));
        assert!(all.results[0].topics.iter().any(|t| t.name == name(&topic)));
    }
}

/// Version 5 adds whether the directory is cordoned.
#[test]
fn describe_log_dirs_version_5() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let body = Writer::default().array(1).string(&topic).array(1).i32(0).tags().tags().bytes();
    let correlation = wire.send_body(DescribeLogDirsRequest::KEY, 5, 2, &body);
    let mut reader = Reader(wire.receive_body(1, correlation));
    assert_eq!((reader.i32(), reader.i16()), (0, 0), "throttle time, error");
    assert_eq!(reader.array(), Some(1), "directories");
    assert_eq!(reader.i16(), 0);
    assert!(reader.string().is_some_and(|path| path.starts_with('/')));
    assert_eq!(reader.array(), Some(1), "topics");
    assert_eq!(reader.string().as_deref(), Some(&*topic));
    assert_eq!(reader.array(), Some(1), "partitions");
    assert_eq!(reader.i32(), 0);
    assert!(reader.i64() >= 0, "size");
    assert_eq!((reader.i64(), reader.i8()), (0, 0), "lag, future");
    reader.tags();
    reader.tags();
    assert!(reader.i64() > 0 && reader.i64() > 0, "total and usable bytes");
    assert_eq!(reader.i8(), 0, "not cordoned");
    reader.tags();
    reader.tags();
    reader.end();
}

#[test]
fn alter_replica_log_dirs() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    for version in wire.versions::<AlterReplicaLogDirsRequest>() {
        let moved = AlterReplicaLogDirTopic::default().with_name(name(&topic)).with_partitions(vec![0]);
        let to = AlterReplicaLogDir::default().with_path(text("/no/such/directory")).with_topics(vec![moved]);
        let response = wire.call(version, &AlterReplicaLogDirsRequest::default().with_dirs(vec![to]));
        let result = &response.results[0];
        assert_eq!(result.topic_name, name(&topic));
        assert_eq!((result.partitions[0].partition_index, result.partitions[0].error_code), (0, LOG_DIR_NOT_FOUND));
    }
}

#[test]
fn describe_producers() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let (id, epoch) = topics::producer_id(&mut wire, 4);
    let batch = Batch::of(&["a", "b"]).producer(id, epoch, 0);
    assert_eq!(topics::produce(&mut wire, &topic, 0, batch.build()).error_code, 0);
    let ask = |topic: &str, partition| {
        let topic = TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
        DescribeProducersRequest::default().with_topics(vec![topic])
    };
    let response = wire.call(0, &ask(&topic, 0));
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.active_producers.len()), (0, 1));
    let producer = &partition.active_producers[0];
    assert_eq!((producer.producer_id.0, producer.producer_epoch), (id, i32::from(epoch)));
    assert_eq!(producer.last_sequence, 1);
    assert_eq!(producer.current_txn_start_offset, -1);
    assert!(producer.last_timestamp > 0);
    for (topic, partition) in [(unique("missing"), 0), (topic, 9)] {
        let response = wire.call(0, &ask(&topic, partition));
        assert_eq!(response.topics[0].partitions[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    }
}

/// Of a partition with one replica there is nobody else to elect.
#[test]
fn elect_leaders() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    for version in wire.versions::<ElectLeadersRequest>() {
        let named = |topic: &str, partitions: &[i32]| {
            TopicPartitions::default().with_topic(name(topic)).with_partitions(partitions.to_vec())
        };
        let request = ElectLeadersRequest::default()
            .with_timeout_ms(10_000)
            .with_topic_partitions(Some(vec![named(&topic, &[0, 5]), named("no-such-topic", &[0])]));
        let response = wire.call(version, &request);
        assert_eq!(response.error_code, 0);
        let mut rows: Vec<_> = response
            .replica_election_results
            .iter()
            .flat_map(|of| of.partition_result.iter().map(|p| (of.topic == name(&topic), p.partition_id, p.error_code)))
            .collect();
        rows.sort_unstable();
        let expected = [
            (false, 0, UNKNOWN_TOPIC_OR_PARTITION),
            (true, 0, ELECTION_NOT_NEEDED),
            (true, 5, UNKNOWN_TOPIC_OR_PARTITION),
        ];
        assert_eq!(rows, expected, "version {version}");
        let all = ElectLeadersRequest::default().with_timeout_ms(10_000).with_topic_partitions(None);
        assert!(wire.call(version, &all).replica_election_results.is_empty());
    }
}

#[test]
fn describe_quorum() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let node = topics::metadata(&mut wire, &[]).brokers[0].node_id;
    let ask = |topic: &str, partition| {
        let partition = PartitionData::default().with_partition_index(partition);
        let topic = TopicData::default().with_topic_name(name(topic)).with_partitions(vec![partition]);
        DescribeQuorumRequest::default().with_topics(vec![topic])
    };
    for version in wire.versions::<DescribeQuorumRequest>() {
        let response = wire.call(version, &ask("__cluster_metadata", 0));
        assert_eq!(response.error_code, 0, "version {version}");
        let quorum = &response.topics[0].partitions[0];
        assert_eq!((quorum.error_code, quorum.leader_id), (0, node));
        assert!(quorum.leader_epoch > 0 && quorum.high_watermark > 0);
        assert_eq!(quorum.current_voters.len(), 1);
        assert_eq!(quorum.current_voters[0].replica_id, node);
        assert!(quorum.current_voters[0].log_end_offset >= quorum.high_watermark);
        if version >= 2 {
            assert_eq!(response.nodes.len(), 1);
            assert!(!quorum.current_voters[0].replica_directory_id.is_nil());
        }
    }
}

#[test]
fn update_features() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    const INVALID_UPDATE_VERSION: i16 = 95;
    const INVALID_REQUEST: i16 = 42;
    for version in wire.versions::<UpdateFeaturesRequest>() {
        let ask = |feature: &str, level| {
            let update = FeatureUpdateKey::default().with_feature(text(feature)).with_max_version_level(level);
            let update = if version >= 1 { update.with_upgrade_type(1) } else { update };
            UpdateFeaturesRequest::default().with_timeout_ms(30_000).with_feature_updates(vec![update])
        };
        let mut outcome = |request: &UpdateFeaturesRequest| {
            let response = wire.call(version, request);
            // Up to version 1 each feature has its error; version 2 has one for all.
            response.results.first().map_or(response.error_code, |r| r.error_code.max(response.error_code))
        };
        let unknown = outcome(&ask("no.such.feature", 1));
        assert_eq!(unknown, INVALID_UPDATE_VERSION, "version {version}");
        assert_eq!(outcome(&ask("", 1)), INVALID_UPDATE_VERSION, "version {version}, an empty name");
        let none = wire.call(version, &UpdateFeaturesRequest::default().with_timeout_ms(30_000));
        assert!([0, INVALID_REQUEST].contains(&none.error_code), "nothing to do: {}", none.error_code);
    }
}
