//! Metadata, DescribeCluster, DescribeTopicPartitions.

use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    DeleteTopicsRequest, DescribeClusterRequest, DescribeTopicPartitionsRequest, MetadataRequest,
};
use uuid::Uuid;

use crate::harness::broker::{Broker, free_port};
use crate::harness::topics::{self, name};
use crate::harness::wire::Wire;
use crate::harness::{eventually, unique};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn by_name(names: &[&str], auto_create: bool) -> MetadataRequest {
    let topic = |n: &&str| MetadataRequestTopic::default().with_name(Some(name(n)));
    MetadataRequest::default()
        .with_topics(Some(names.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(auto_create)
}

#[test]
fn metadata() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 3);
    let id = topics::topic_id(&mut wire, &topic);
    for version in wire.versions::<MetadataRequest>() {
        // Versions 0-3 cannot say "do not create": the field is true there.
        let response = wire.call(version, &by_name(&[&topic], version < 4));
        assert_eq!(response.brokers.len(), 1);
        let node = &response.brokers[0];
        assert_eq!(format!("{}:{}", &*node.host, node.port), broker.bootstrap());
        if version >= 1 {
            assert_eq!(response.controller_id, node.node_id, "version {version}");
        }
        if version >= 2 {
            assert!(response.cluster_id.as_ref().is_some_and(|id| !id.is_empty()), "version {version}");
        }
        let described = &response.topics[0];
        assert_eq!(described.error_code, 0);
        assert_eq!(described.name.as_ref().map(|n| n.0.as_str()), Some(&*topic));
        assert!(!described.is_internal);
        if version >= 10 {
            assert_eq!(described.topic_id, id, "version {version}");
        }
        let mut partitions: Vec<_> = described.partitions.iter().map(|p| p.partition_index).collect();
        partitions.sort_unstable();
        assert_eq!(partitions, [0, 1, 2]);
        for partition in &described.partitions {
            assert_eq!(partition.error_code, 0);
            assert_eq!(partition.leader_id, node.node_id);
            assert_eq!(partition.replica_nodes, [node.node_id]);
            assert_eq!(partition.isr_nodes, [node.node_id]);
            assert!(partition.offline_replicas.is_empty());
            if version >= 7 {
                assert!(partition.leader_epoch >= 0, "version {version}");
            }
        }
        if (8..=10).contains(&version) {
            assert_eq!(response.cluster_authorized_operations, i32::MIN, "not asked for");
        }
        if version >= 8 {
            assert_eq!(described.topic_authorized_operations, i32::MIN, "not asked for");
        }
    }
}

#[test]
fn metadata_of_all_topics_lists_each() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    for version in wire.versions::<MetadataRequest>() {
        // All topics: an empty list in version 0, null from version 1 on.
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let response =
            wire.call(version, &MetadataRequest::default().with_topics(all).with_allow_auto_topic_creation(true));
        let names: Vec<_> = response.topics.iter().filter_map(|t| t.name.as_ref()).map(|n| n.0.to_string()).collect();
        assert!(names.contains(&topic), "version {version}: {names:?}");
    }
    let none = wire.call(12, &by_name(&[], false));
    assert!(none.topics.is_empty(), "an empty list asks for the brokers alone");
    assert_eq!(none.brokers.len(), 1);
}

#[test]
fn metadata_by_topic_id() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let id = topics::topic_id(&mut wire, &topic);
    for version in [12, 13] {
        let ask = |id| {
            let topic = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
            MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false)
        };
        let found = wire.call(version, &ask(id));
        assert_eq!(found.topics[0].error_code, 0);
        assert_eq!(found.topics[0].name, Some(name(&topic)));
        let unknown = wire.call(version, &ask(Uuid::new_v4()));
        assert_eq!(unknown.topics[0].error_code, UNKNOWN_TOPIC_ID);
        assert_eq!(unknown.topics[0].name, None);
    }
}

#[test]
fn metadata_of_an_unknown_topic_creates_it_only_when_allowed() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = unique("auto");
    let refused = wire.call(9, &by_name(&[&topic], false));
    assert_eq!(refused.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let made = eventually("the topic is there", || {
        let response = wire.call(9, &by_name(&[&topic], true));
        (response.topics[0].error_code == 0).then(|| response.topics[0].clone())
    });
    assert_eq!(made.partitions.len(), 4, "num.partitions");
    topics::await_topic(&mut wire, &topic, 4);
    assert_eq!(topics::write(&mut wire, &topic, 0, &["first"]), 0);
}

/// Whoever looks whether a topic is gone must not bring it back by that.
#[test]
fn a_topic_that_was_just_deleted_is_missing_first() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let deletion = DeleteTopicsRequest::default().with_topic_names(vec![name(&topic)]).with_timeout_ms(10_000);
    assert_eq!(wire.call(5, &deletion).responses[0].error_code, 0);
    let first = wire.call(9, &by_name(&[&topic], true));
    assert_eq!(first.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    eventually("it is created for those who insist", || {
        let response = wire.call(9, &by_name(&[&topic], true));
        (response.topics[0].error_code == 0).then_some(())
    });
}

#[test]
fn a_name_that_is_no_topic_name_is_refused() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let long = "x".repeat(250);
    for bad in ["", ".", "..", "a b", "a/b", "ü", &long] {
        for auto_create in [false, true] {
            let response = wire.call(9, &by_name(&[bad], auto_create));
            assert_eq!(response.topics[0].error_code, INVALID_TOPIC, "name {bad:?}, create {auto_create}");
        }
    }
}

#[test]
fn describe_cluster() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let cluster = topics::metadata(&mut wire, &[]).cluster_id.expect("a cluster id");
    for version in wire.versions::<DescribeClusterRequest>() {
        let response = wire.call(version, &DescribeClusterRequest::default().with_endpoint_type(1));
        assert_eq!(response.error_code, 0, "version {version}");
        assert_eq!(response.cluster_id, cluster);
        assert_eq!(response.brokers.len(), 1);
        assert_eq!(response.controller_id, response.brokers[0].broker_id);
        assert_eq!(format!("{}:{}", &*response.brokers[0].host, response.brokers[0].port), broker.bootstrap());
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
    }
    // Endpoint type 2 asks for controllers, which a broker's listener does not name; 3 is nothing.
    const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
    const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;
    for (kind, expected) in [(2, MISMATCHED_ENDPOINT_TYPE), (3, UNSUPPORTED_ENDPOINT_TYPE)] {
        let response = wire.call(1, &DescribeClusterRequest::default().with_endpoint_type(kind));
        assert_eq!(response.error_code, expected, "endpoint type {kind}");
    }
}

#[test]
fn describe_topic_partitions() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let mut names = [topics::topic(&mut wire, 3), topics::topic(&mut wire, 2)];
    names.sort_unstable();
    let missing = unique("missing");
    let ask = |limit, cursor| {
        let topics = names.iter().chain([&missing]).map(|n| TopicRequest::default().with_name(name(n))).collect();
        DescribeTopicPartitionsRequest::default()
            .with_topics(topics)
            .with_response_partition_limit(limit)
            .with_cursor(cursor)
    };
    let all = wire.call(0, &ask(2_000, None));
    assert_eq!(all.next_cursor, None);
    assert_eq!(all.topics.len(), 3);
    for topic in &all.topics {
        let asked = topic.name.as_ref().map(|n| n.0.to_string()).expect("a name");
        if asked == missing {
            assert_eq!(topic.error_code, UNKNOWN_TOPIC_OR_PARTITION);
            continue;
        }
        assert_eq!(topic.error_code, 0);
        assert!(!topic.topic_id.is_nil());
        for partition in &topic.partitions {
            assert_eq!((partition.error_code, partition.replica_nodes.len(), partition.isr_nodes.len()), (0, 1, 1));
            assert!(partition.leader_epoch >= 0);
        }
    }
    // Page by page: each page names the place where the next one begins.
    let (mut cursor, mut seen, mut pages) = (None::<Cursor>, Vec::new(), 0);
    loop {
        let page = wire.call(0, &ask(2, cursor.clone()));
        pages += 1;
        for topic in &page.topics {
            let asked = topic.name.as_ref().map(|n| n.0.to_string()).expect("a name");
            seen.extend(topic.partitions.iter().map(|p| (asked.clone(), p.partition_index)));
        }
        let Some(next) = page.next_cursor else { break };
        let request_cursor =
            Cursor::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index);
        assert_ne!(Some(&request_cursor), cursor.as_ref(), "the cursor moves");
        cursor = Some(request_cursor);
    }
    assert!(pages >= 3, "{pages} pages");
    let total: usize = all.topics.iter().map(|t| t.partitions.len()).sum();
    assert_eq!(seen.len(), total);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), total, "no partition twice");
}

/// A client is told the addresses of the listener by which it came.
#[test]
fn each_listener_tells_its_own_addresses() {
    let ports = [free_port(), free_port()];
    let listeners = format!("ONE://127.0.0.1:{},TWO://127.0.0.1:{}", ports[0], ports[1]);
    let settings = [
        "listener.security.protocol.map=ONE:PLAINTEXT,TWO:PLAINTEXT",
        "advertised.listeners=ONE://one.example:1111,TWO://two.example:2222",
    ];
    let Some(_broker) = Broker::own_listening(&listeners, &settings) else { return };
    for (port, host, advertised) in [(ports[0], "one.example", 1111), (ports[1], "two.example", 2222)] {
        let mut wire = Wire::connect(&format!("127.0.0.1:{port}"));
        let node = topics::metadata(&mut wire, &[]).brokers[0].clone();
        assert_eq!((&*node.host, node.port), (host, advertised));
        let cluster = wire.call(1, &DescribeClusterRequest::default().with_endpoint_type(1));
        assert_eq!((&*cluster.brokers[0].host, cluster.brokers[0].port), (host, advertised));
    }
}
