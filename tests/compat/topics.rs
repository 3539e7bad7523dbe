//! CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
};
use uuid::Uuid;

use crate::harness::broker::Broker;
use crate::harness::topics::{self, EARLIEST, LATEST, creatable, name};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000)
}

fn outcome(wire: &mut Wire, topic: CreatableTopic) -> i16 {
    wire.call(7, &create(vec![topic])).topics[0].error_code
}

#[test]
fn create_topics() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<CreateTopicsRequest>() {
        let topic = unique("create");
        let wanted = creatable(&topic, 3, &[("retention.ms", "12345")]);
        if version >= 1 {
            let checked = wire.call(version, &create(vec![wanted.clone()]).with_validate_only(true));
            assert_eq!(checked.topics[0].error_code, 0);
            assert_eq!(topics::metadata(&mut wire, &[&topic]).topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
        }
        let made = wire.call(version, &create(vec![wanted.clone()]));
        let made = &made.topics[0];
        assert_eq!((made.error_code, made.name.0.as_str()), (0, &*topic), "version {version}");
        if version >= 5 {
            assert_eq!((made.num_partitions, made.replication_factor), (3, 1));
            let configs = made.configs.as_ref().expect("configs");
            let find = |key: &str| configs.iter().find(|c| &*c.name == key).unwrap_or_else(|| panic!("no {key}"));
            let retention = find("retention.ms");
            // 1 = set on the topic, 5 = Kafka's default.
            assert_eq!((retention.value.as_deref(), retention.config_source), (Some("12345"), 1));
            assert_eq!(
                (find("cleanup.policy").value.as_deref(), find("cleanup.policy").config_source),
                (Some("delete"), 5)
            );
        }
        topics::await_topic(&mut wire, &topic, 3);
        if version >= 7 {
            assert_eq!(made.topic_id, topics::topic_id(&mut wire, &topic));
        }
        let again = wire.call(version, &create(vec![wanted]));
        assert_eq!(again.topics[0].error_code, TOPIC_ALREADY_EXISTS);
    }
}

#[test]
fn create_topics_takes_the_brokers_defaults() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = unique("defaults");
    let response = wire.call(7, &create(vec![creatable(&topic, -1, &[]).with_replication_factor(-1)]));
    let made = &response.topics[0];
    assert_eq!((made.error_code, made.num_partitions, made.replication_factor), (0, 4, 1));
}

#[test]
fn create_topics_with_assignments() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let node = topics::metadata(&mut wire, &[]).brokers[0].node_id;
    let assignment = |partition, ids: &[i32]| {
        CreatableReplicaAssignment::default()
            .with_partition_index(partition)
            .with_broker_ids(ids.iter().map(|id| (*id).into()).collect())
    };
    let topic =
        |assignments| creatable(&unique("assigned"), -1, &[]).with_replication_factor(-1).with_assignments(assignments);
    let good = topic(vec![assignment(0, &[node.0]), assignment(1, &[node.0])]);
    let made = good.name.0.to_string();
    assert_eq!(outcome(&mut wire, good.clone()), 0);
    topics::await_topic(&mut wire, &made, 2);
    assert_eq!(topics::metadata(&mut wire, &[&made]).topics[0].partitions.len(), 2);
    for (what, bad) in [
        ("an unknown broker", topic(vec![assignment(0, &[node.0 + 17])])),
        ("a broker twice", topic(vec![assignment(0, &[node.0, node.0])])),
        ("no broker", topic(vec![assignment(0, &[])])),
        ("a gap", topic(vec![assignment(0, &[node.0]), assignment(2, &[node.0])])),
        ("a partition twice", topic(vec![assignment(0, &[node.0]), assignment(0, &[node.0])])),
    ] {
        assert_eq!(outcome(&mut wire, bad), INVALID_REPLICA_ASSIGNMENT, "{what}");
    }
    let both = topic(vec![assignment(0, &[node.0])]).with_num_partitions(1);
    assert_eq!(outcome(&mut wire, both), INVALID_REQUEST, "assignments and a count");
}

#[test]
fn create_topics_refuses_what_cannot_be() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let long = "x".repeat(250);
    for bad in ["", ".", "..", "a b", "a/b", "ü", "a\0b", &long] {
        assert_eq!(outcome(&mut wire, creatable(bad, 1, &[])), INVALID_TOPIC, "name {bad:?}");
    }
    for partitions in [0, -2, i32::MIN] {
        assert_eq!(outcome(&mut wire, creatable(&unique("p"), partitions, &[])), INVALID_PARTITIONS, "{partitions}");
    }
    for factor in [0, -2, 2, i16::MAX, i16::MIN] {
        let topic = creatable(&unique("r"), 1, &[]).with_replication_factor(factor);
        assert_eq!(outcome(&mut wire, topic), INVALID_REPLICATION_FACTOR, "factor {factor}");
    }
    for (key, value) in [
        ("no.such.config", "1"),
        ("retention.ms", "soon"),
        ("retention.ms", "-2"),
        ("cleanup.policy", "burn"),
        ("compression.type", "zip"),
        ("max.message.bytes", "-1"),
        ("segment.bytes", "1"),
        ("min.cleanable.dirty.ratio", "2"),
        ("min.insync.replicas", "0"),
        ("message.timestamp.type", "Now"),
        ("preallocate", "perhaps"),
    ] {
        assert_eq!(outcome(&mut wire, creatable(&unique("c"), 1, &[(key, value)])), INVALID_CONFIG, "{key}={value}");
    }
    let twice = unique("twice");
    let response = wire.call(7, &create(vec![creatable(&twice, 1, &[]), creatable(&twice, 1, &[])]));
    assert!(response.topics.iter().all(|t| t.error_code == INVALID_REQUEST), "{:?}", response.topics);
    let refused = outcome(&mut wire, creatable(&unique("huge"), 1_000_000_000, &[]));
    assert!([POLICY_VIOLATION, INVALID_PARTITIONS].contains(&refused), "error {refused}");
}

#[test]
fn names_that_differ_only_in_dots_and_underscores_collide() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let stem = unique("collide");
    assert_eq!(outcome(&mut wire, creatable(&format!("{stem}.a"), 1, &[])), 0);
    assert_eq!(outcome(&mut wire, creatable(&format!("{stem}_a"), 1, &[])), INVALID_TOPIC);
}

#[test]
fn delete_topics() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<DeleteTopicsRequest>() {
        let topic = topics::topic(&mut wire, 2);
        topics::write(&mut wire, &topic, 0, &["gone"]);
        let id = topics::topic_id(&mut wire, &topic);
        let by_name = |topic: &str| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
            match version {
                6.. => request.with_topics(vec![DeleteTopicState::default().with_name(Some(name(topic)))]),
                _ => request.with_topic_names(vec![name(topic)]),
            }
        };
        let gone = wire.call(version, &by_name(&topic));
        assert_eq!(gone.responses[0].error_code, 0, "version {version}");
        if version >= 6 {
            assert_eq!(gone.responses[0].topic_id, id);
        }
        eventually("the topic is gone", || {
            (topics::metadata(&mut wire, &[&topic]).topics[0].error_code == UNKNOWN_TOPIC_OR_PARTITION).then_some(())
        });
        assert_eq!(wire.call(version, &by_name(&topic)).responses[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    }
}

#[test]
fn delete_topics_by_id() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let id = topics::topic_id(&mut wire, &topic);
    let ask = |id| {
        let state = DeleteTopicState::default().with_name(None).with_topic_id(id);
        DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![state])
    };
    assert_eq!(wire.call(6, &ask(Uuid::new_v4())).responses[0].error_code, UNKNOWN_TOPIC_ID);
    let gone = wire.call(6, &ask(id));
    assert_eq!((gone.responses[0].error_code, gone.responses[0].topic_id), (0, id));
}

/// The same name again is another topic: nothing of the old one is left in it.
#[test]
fn a_topic_made_again_is_empty_and_has_another_id() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["old"]);
    let old = topics::topic_id(&mut wire, &topic);
    let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
    let gone = wire.call(5, &request.with_topic_names(vec![name(&topic)]));
    assert_eq!(gone.responses[0].error_code, 0);
    eventually("the name is free", || (outcome(&mut wire, creatable(&topic, 1, &[])) == 0).then_some(()));
    topics::await_topic(&mut wire, &topic, 1);
    assert_ne!(topics::topic_id(&mut wire, &topic), old);
    assert_eq!(topics::list_offset(&mut wire, &topic, 0, LATEST).offset, 0);
    assert_eq!(topics::write(&mut wire, &topic, 0, &["new"]), 0);
    assert_eq!(topics::values(&mut wire, &topic, 0, 0), ["new"]);
}

#[test]
fn create_partitions() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let node = topics::metadata(&mut wire, &[]).brokers[0].node_id;
    for version in wire.versions::<CreatePartitionsRequest>() {
        let topic = topics::topic(&mut wire, 2);
        topics::write(&mut wire, &topic, 1, &["stays"]);
        let ask = |topic: &str, count, nodes: Option<&[i32]>| {
            let assign = |id: &i32| CreatePartitionsAssignment::default().with_broker_ids(vec![(*id).into()]);
            let topic = CreatePartitionsTopic::default()
                .with_name(name(topic))
                .with_count(count)
                .with_assignments(nodes.map(|ids| ids.iter().map(assign).collect()));
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
        };
        let mut outcome = |request: &CreatePartitionsRequest| {
            let response = wire.call(version, request);
            assert_eq!(response.results.len(), 1, "each topic has its result");
            response.results[0].error_code
        };
        assert_eq!(outcome(&ask(&topic, 1, None)), INVALID_PARTITIONS, "fewer");
        assert_eq!(outcome(&ask(&topic, 2, None)), INVALID_PARTITIONS, "as many");
        assert_eq!(outcome(&ask(&topic, -1, None)), INVALID_PARTITIONS, "negative");
        assert_eq!(outcome(&ask(&unique("missing"), 3, None)), UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(outcome(&ask(&topic, 4, Some(&[node.0]))), INVALID_REPLICA_ASSIGNMENT, "one assignment for two");
        assert_eq!(outcome(&ask(&topic, 3, Some(&[node.0 + 9]))), INVALID_REPLICA_ASSIGNMENT, "an unknown broker");
        assert_eq!(outcome(&ask(&topic, 3, None).with_validate_only(true)), 0);
        assert_eq!(outcome(&ask(&topic, 3, Some(&[node.0]))), 0, "validate_only made nothing");
        assert_eq!(outcome(&ask(&topic, 5, None)), 0);
        topics::await_topic(&mut wire, &topic, 5);
        assert_eq!(topics::write(&mut wire, &topic, 4, &["new"]), 0);
        assert_eq!(topics::values(&mut wire, &topic, 1, 0), ["stays"]);
    }
}

#[test]
fn delete_records() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<DeleteRecordsRequest>() {
        let topic = topics::topic(&mut wire, 1);
        topics::write(&mut wire, &topic, 0, &["a", "b", "c"]);
        topics::write(&mut wire, &topic, 0, &["d", "e"]);
        let ask = |topic: &str, partition, offset| {
            let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
            let topic = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
            DeleteRecordsRequest::default().with_timeout_ms(30_000).with_topics(vec![topic])
        };
        let mut outcome = |topic: &str, partition, offset| {
            let response = wire.call(version, &ask(topic, partition, offset));
            let result = &response.topics[0].partitions[0];
            (result.error_code, result.low_watermark)
        };
        assert_eq!(outcome(&topic, 0, 2), (0, 2), "in the middle of a batch");
        assert_eq!(outcome(&topic, 0, 1), (0, 2), "the log start never goes back");
        assert_eq!(outcome(&topic, 0, 6).0, OFFSET_OUT_OF_RANGE, "beyond the end");
        assert_eq!(outcome(&topic, 0, -2).0, OFFSET_OUT_OF_RANGE, "no offset");
        assert_eq!(outcome(&topic, 7, 0).0, UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(outcome(&unique("missing"), 0, 0).0, UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(topics::list_offset(&mut wire, &topic, 0, EARLIEST).offset, 2);
        assert_eq!(topics::fetch(&mut wire, &topic, 0, 1).error_code, OFFSET_OUT_OF_RANGE);
        let data = topics::fetch(&mut wire, &topic, 0, 2);
        assert_eq!((data.error_code, data.log_start_offset), (0, 2));
        assert_eq!(topics::values(&mut wire, &topic, 0, 2), ["c", "d", "e"]);
        let all = wire.call(version, &ask(&topic, 0, -1));
        assert_eq!(all.topics[0].partitions[0].low_watermark, 5, "-1 is the high watermark");
        assert_eq!(topics::list_offset(&mut wire, &topic, 0, EARLIEST).offset, 5);
        assert_eq!(topics::write(&mut wire, &topic, 0, &["f"]), 5);
        assert_eq!(topics::values(&mut wire, &topic, 0, 5), ["f"]);
    }
}

/// What DeleteRecords took away stays away after a crash.
#[test]
fn the_log_start_survives_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["a", "b", "c"]);
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(2);
    let request = DeleteRecordsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![DeleteRecordsTopic::default().with_name(name(&topic)).with_partitions(vec![partition])]);
    assert_eq!(wire.call(2, &request).topics[0].partitions[0].low_watermark, 2);
    broker.kill();
    broker.restart();
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &topic, 1);
    assert_eq!(topics::list_offset(&mut wire, &topic, 0, EARLIEST).offset, 2);
    assert_eq!(topics::values(&mut wire, &topic, 0, 2), ["c"]);
}

/// Topics, their ids and configs are all there after a crash.
#[test]
fn topics_survive_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let kept = topics::topic_with(&mut wire, 3, &[("retention.ms", "777777")]);
    let id = topics::topic_id(&mut wire, &kept);
    let gone = topics::topic(&mut wire, 1);
    let request = DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topic_names(vec![name(&gone)]);
    assert_eq!(wire.call(5, &request).responses[0].error_code, 0);
    broker.kill();
    broker.restart();
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &kept, 3);
    assert_eq!(topics::topic_id(&mut wire, &kept), id);
    assert_eq!(topics::metadata(&mut wire, &[&gone]).topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let described = crate::configs::describe(&mut wire, 2, &kept);
    let retention = described.iter().find(|c| c.name == text("retention.ms")).expect("retention.ms");
    assert_eq!(retention.value, Some(text("777777")));
}
