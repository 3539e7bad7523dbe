//! One request for each API and right, about things that are there.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use millstream::protocol::streams_group::{StreamsGroupDescribeRequest, StreamsGroupHeartbeatRequest};

use super::{
    ALTER, ALTER_CONFIGS, CLUSTER_ACTION, CREATE, DELETE, DESCRIBE, DESCRIBE_CONFIGS, IDEMPOTENT_WRITE, READ, Right,
    Row, TOPIC, Things, Told, WRITE, on_cluster, on_group, on_topic, on_transactional_id,
};
use crate::harness::batch::Batch;
use crate::harness::streams_member;
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, topics, unique};

fn ask<R: Request<Response: std::fmt::Debug>>(wire: &mut Wire, version: i16, request: &R) -> String {
    format!("{:?}", wire.call(version, request))
}

fn id(things: &Things) -> TransactionalId {
    TransactionalId(text(&things.name))
}

fn group(things: &Things) -> GroupId {
    GroupId(text(&things.name))
}

/// A share group without members.
fn share_group(things: &Things) -> GroupId {
    GroupId(text(&format!("{}-share", things.name)))
}

/// Makes it.
pub fn make_share_group(wire: &mut Wire, of: &Things) {
    let asked = ShareGroupHeartbeatRequest::default().with_group_id(share_group(of)).with_member_id(text("m"));
    let joins = asked.clone().with_subscribed_topic_names(Some(vec![name(of)]));
    let joined = eventually("a share group", || Some(wire.call(1, &joins)).filter(|told| told.error_code == 0));
    let left = wire.call(1, &asked.with_member_epoch(-1).with_member_id(joined.member_id.unwrap_or_default()));
    assert_eq!(left.error_code, 0);
}

fn name(things: &Things) -> TopicName {
    topics::name(&things.name)
}

fn row(api: ApiKey, of: &'static str, needs: &[Right], ask: fn(&mut Wire, &Things) -> String) -> Row {
    Row { api: api as i16, of, needs: needs.to_vec(), told: Told::Code, ask }
}

/// Of an answer that leaves out what may not be known.
fn quiet(
    api: ApiKey,
    of: &'static str,
    needs: &[Right],
    part: fn(&Things) -> String,
    ask: fn(&mut Wire, &Things) -> String,
) -> Row {
    Row { api: api as i16, of, needs: needs.to_vec(), told: Told::LeftOut(part), ask }
}

pub fn rows() -> Vec<Row> {
    let mut rows = data();
    rows.extend(groups());
    rows.extend(transactions());
    rows.extend(topics_and_settings());
    rows.extend(cluster());
    rows.extend(share_groups());
    rows
}

fn data() -> Vec<Row> {
    vec![
        row(ApiKey::Produce, "Produce by name", &[on_topic(WRITE)], |wire, of| {
            ask(wire, 9, &topics::produce_request(&of.name, 0, Batch::of(&["a"]).build()))
        }),
        row(ApiKey::Produce, "Produce by id", &[on_topic(WRITE)], |wire, of| {
            let mut request = topics::produce_request("", 0, Batch::of(&["a"]).build());
            request.topic_data[0].topic_id = of.topic_id;
            ask(wire, 13, &request)
        }),
        row(ApiKey::Fetch, "Fetch by name", &[on_topic(READ)], |wire, of| {
            ask(wire, 12, &topics::fetch_request(&of.name, 0, 0))
        }),
        row(ApiKey::Fetch, "Fetch by id", &[on_topic(READ)], |wire, of| {
            let mut request = topics::fetch_request("", 0, 0);
            request.topics[0].topic_id = of.topic_id;
            ask(wire, 13, &request)
        }),
        row(ApiKey::ListOffsets, "ListOffsets", &[on_topic(DESCRIBE)], |wire, of| {
            ask(wire, 7, &topics::list_offsets_request(&of.name, 0, -1))
        }),
        row(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", &[on_topic(DESCRIBE)], |wire, of| {
            use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
            let partition = OffsetForLeaderPartition::default().with_partition(0).with_leader_epoch(0);
            let topic = OffsetForLeaderTopic::default().with_topic(name(of)).with_partitions(vec![partition]);
            ask(wire, 4, &OffsetForLeaderEpochRequest::default().with_topics(vec![topic]))
        }),
        row(ApiKey::Metadata, "Metadata by name", &[on_topic(DESCRIBE)], |wire, of| {
            ask(wire, 12, &topics::metadata_request(&[&of.name]))
        }),
        row(ApiKey::Metadata, "Metadata by id", &[on_topic(DESCRIBE)], |wire, of| {
            let topic = metadata_request::MetadataRequestTopic::default().with_topic_id(of.topic_id).with_name(None);
            ask(wire, 12, &MetadataRequest::default().with_topics(Some(vec![topic])))
        }),
        quiet(
            ApiKey::Metadata,
            "Metadata of all",
            &[on_topic(DESCRIBE)],
            |of| of.name.clone(),
            |wire, _| ask(wire, 12, &MetadataRequest::default().with_topics(None)),
        ),
        quiet(
            ApiKey::Metadata,
            "operations of the cluster",
            &[on_cluster(DESCRIBE)],
            |_| "cluster_authorized_operations: 256,".to_owned(),
            |wire, _| {
                let asked = MetadataRequest::default().with_topics(Some(Vec::new()));
                ask(wire, 10, &asked.with_include_cluster_authorized_operations(true))
            },
        ),
        row(ApiKey::DescribeTopicPartitions, "DescribeTopicPartitions", &[on_topic(DESCRIBE)], |wire, of| {
            let topic = describe_topic_partitions_request::TopicRequest::default().with_name(name(of));
            ask(wire, 0, &DescribeTopicPartitionsRequest::default().with_topics(vec![topic]).with_cursor(None))
        }),
        row(ApiKey::DescribeProducers, "DescribeProducers", &[on_topic(READ)], |wire, of| {
            use describe_producers_request::TopicRequest;
            let topic = TopicRequest::default().with_name(name(of)).with_partition_indexes(vec![0]);
            ask(wire, 0, &DescribeProducersRequest::default().with_topics(vec![topic]))
        }),
        row(ApiKey::DeleteRecords, "DeleteRecords", &[on_topic(DELETE)], |wire, of| {
            use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
            let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(0);
            let topic = DeleteRecordsTopic::default().with_name(name(of)).with_partitions(vec![partition]);
            ask(wire, 2, &DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000))
        }),
    ]
}

fn groups() -> Vec<Row> {
    vec![
        row(ApiKey::FindCoordinator, "of a group", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&of.name)]))
        }),
        row(ApiKey::FindCoordinator, "of a group, before 4", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 3, &FindCoordinatorRequest::default().with_key(text(&of.name)))
        }),
        row(ApiKey::FindCoordinator, "of a share-partition", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            let key = text(&format!("{}:{}:0", of.name, of.topic_id));
            ask(wire, 6, &FindCoordinatorRequest::default().with_key_type(2).with_coordinator_keys(vec![key]))
        }),
        row(ApiKey::JoinGroup, "JoinGroup", &[on_group(READ)], |wire, of| {
            let asked = JoinGroupRequest::default().with_group_id(group(of)).with_protocol_type(text("consumer"));
            ask(wire, 9, &asked.with_session_timeout_ms(10_000).with_rebalance_timeout_ms(1_000))
        }),
        row(ApiKey::SyncGroup, "SyncGroup", &[on_group(READ)], |wire, of| {
            let asked = SyncGroupRequest::default().with_group_id(group(of)).with_member_id(text("m"));
            ask(wire, 5, &asked.with_protocol_name(Some(text("p"))).with_protocol_type(Some(text("consumer"))))
        }),
        row(ApiKey::Heartbeat, "Heartbeat", &[on_group(READ)], |wire, of| {
            ask(wire, 4, &HeartbeatRequest::default().with_group_id(group(of)).with_member_id(text("m")))
        }),
        row(ApiKey::LeaveGroup, "LeaveGroup", &[on_group(READ)], |wire, of| {
            let member = leave_group_request::MemberIdentity::default().with_member_id(text("m"));
            ask(wire, 5, &LeaveGroupRequest::default().with_group_id(group(of)).with_members(vec![member]))
        }),
        row(ApiKey::DescribeGroups, "DescribeGroups", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 6, &DescribeGroupsRequest::default().with_groups(vec![group(of)]))
        }),
        row(ApiKey::DeleteGroups, "DeleteGroups", &[on_group(DELETE)], |wire, of| {
            ask(wire, 2, &DeleteGroupsRequest::default().with_groups_names(vec![group(of)]))
        }),
        quiet(
            ApiKey::ListGroups,
            "ListGroups",
            &[on_group(DESCRIBE)],
            |of| of.name.clone(),
            |wire, _| ask(wire, 5, &ListGroupsRequest::default()),
        ),
        quiet(
            ApiKey::ListGroups,
            "by the cluster",
            &[on_cluster(DESCRIBE)],
            |of| of.name.clone(),
            |wire, _| ask(wire, 5, &ListGroupsRequest::default()),
        ),
        row(ApiKey::OffsetCommit, "OffsetCommit", &[on_group(READ), on_topic(READ)], |wire, of| {
            ask(wire, 9, &commit(of))
        }),
        row(ApiKey::OffsetFetch, "OffsetFetch", &[on_group(DESCRIBE), on_topic(DESCRIBE)], |wire, of| {
            use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
            let topic = OffsetFetchRequestTopics::default().with_name(name(of)).with_partition_indexes(vec![0]);
            let group = OffsetFetchRequestGroup::default().with_group_id(group(of)).with_topics(Some(vec![topic]));
            ask(wire, 9, &OffsetFetchRequest::default().with_groups(vec![group]))
        }),
        row(ApiKey::OffsetFetch, "of all topics", &[on_group(DESCRIBE)], |wire, of| {
            let group = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group(of));
            ask(wire, 9, &OffsetFetchRequest::default().with_groups(vec![group.with_topics(None)]))
        }),
        row(ApiKey::OffsetDelete, "OffsetDelete", &[on_group(DELETE), on_topic(READ)], |wire, of| {
            use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
            let partitions = vec![OffsetDeleteRequestPartition::default().with_partition_index(0)];
            let topic = OffsetDeleteRequestTopic::default().with_name(name(of)).with_partitions(partitions);
            ask(wire, 0, &OffsetDeleteRequest::default().with_group_id(group(of)).with_topics(vec![topic]))
        }),
        row(
            ApiKey::ConsumerGroupHeartbeat,
            "ConsumerGroupHeartbeat",
            &[on_group(READ), on_topic(DESCRIBE)],
            |wire, of| {
                let asked = ConsumerGroupHeartbeatRequest::default()
                    .with_group_id(GroupId(text(&unique(&of.name))))
                    .with_member_id(text("m"))
                    .with_rebalance_timeout_ms(60_000)
                    .with_subscribed_topic_names(Some(vec![name(of)]))
                    .with_topic_partitions(Some(Vec::new()));
                ask(wire, 1, &asked.with_group_id(group(of)))
            },
        ),
        row(ApiKey::ConsumerGroupDescribe, "ConsumerGroupDescribe", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 1, &ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(of)]))
        }),
        Row {
            api: 88,
            of: "StreamsGroupHeartbeat",
            needs: vec![on_group(READ), on_topic(DESCRIBE)],
            told: Told::Code,
            ask: |wire, of| {
                let mut topology = streams_member::topology(&of.name, &of.name);
                topology.subtopologies.truncate(1);
                topology.subtopologies[0].repartition_sink_topics.clear();
                let request: StreamsGroupHeartbeatRequest = streams_member::join(&of.name, "m", topology);
                format!("{:?}", streams_member::call(wire, &request))
            },
        },
        Row {
            api: 89,
            of: "StreamsGroupDescribe",
            needs: vec![on_group(DESCRIBE)],
            told: Told::Code,
            ask: |wire, of| {
                let request = StreamsGroupDescribeRequest {
                    group_ids: vec![text(&of.name)],
                    ..StreamsGroupDescribeRequest::default()
                };
                format!("{:?}", streams_member::call(wire, &request))
            },
        },
    ]
}

fn commit(of: &Things) -> OffsetCommitRequest {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(0);
    let topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
    let topic = topic.with_name(name(of));
    OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

fn transactions() -> Vec<Row> {
    vec![
        row(ApiKey::FindCoordinator, "of a transactional id", &[on_transactional_id(DESCRIBE)], |wire, of| {
            let keys = vec![text(&of.name)];
            ask(wire, 4, &FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(keys))
        }),
        row(ApiKey::InitProducerId, "with a transactional id", &[on_transactional_id(WRITE)], |wire, of| {
            let asked = InitProducerIdRequest::default().with_transactional_id(Some(id(of)));
            ask(
                wire,
                5,
                &asked.with_transaction_timeout_ms(10_000).with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
            )
        }),
        row(ApiKey::InitProducerId, "idempotent", &[on_cluster(IDEMPOTENT_WRITE)], |wire, _| idempotent(wire)),
        row(
            ApiKey::AddPartitionsToTxn,
            "AddPartitionsToTxn",
            &[on_transactional_id(WRITE), on_topic(WRITE)],
            |wire, of| {
                let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                    .with_name(name(of))
                    .with_partitions(vec![0]);
                let asked = AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id(of));
                ask(wire, 3, &asked.with_v3_and_below_topics(vec![topic]))
            },
        ),
        row(ApiKey::AddPartitionsToTxn, "of nodes", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            let transaction =
                add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default().with_transactional_id(id(of));
            ask(wire, 5, &AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]))
        }),
        row(ApiKey::AddOffsetsToTxn, "AddOffsetsToTxn", &[on_transactional_id(WRITE), on_group(READ)], |wire, of| {
            ask(wire, 4, &AddOffsetsToTxnRequest::default().with_transactional_id(id(of)).with_group_id(group(of)))
        }),
        row(ApiKey::EndTxn, "EndTxn", &[on_transactional_id(WRITE)], |wire, of| {
            ask(wire, 4, &EndTxnRequest::default().with_transactional_id(id(of)))
        }),
        row(
            ApiKey::TxnOffsetCommit,
            "TxnOffsetCommit",
            &[on_transactional_id(WRITE), on_group(READ), on_topic(READ)],
            |wire, of| {
                use txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
                let partitions = vec![TxnOffsetCommitRequestPartition::default().with_partition_index(0)];
                let topic = TxnOffsetCommitRequestTopic::default().with_name(name(of)).with_partitions(partitions);
                let asked = TxnOffsetCommitRequest::default().with_transactional_id(id(of)).with_group_id(group(of));
                ask(wire, 3, &asked.with_topics(vec![topic]))
            },
        ),
        row(ApiKey::WriteTxnMarkers, "by ClusterAction", &[on_cluster(CLUSTER_ACTION)], markers),
        row(ApiKey::WriteTxnMarkers, "by Alter", &[on_cluster(ALTER)], markers),
        row(ApiKey::DescribeTransactions, "DescribeTransactions", &[on_transactional_id(DESCRIBE)], |wire, of| {
            ask(wire, 0, &DescribeTransactionsRequest::default().with_transactional_ids(vec![id(of)]))
        }),
        quiet(
            ApiKey::ListTransactions,
            "ListTransactions",
            &[on_transactional_id(DESCRIBE)],
            |of| of.name.clone(),
            |wire, _| ask(wire, 1, &ListTransactionsRequest::default()),
        ),
    ]
}

pub fn idempotent(wire: &mut Wire) -> String {
    let asked = InitProducerIdRequest::default().with_transactional_id(None);
    ask(wire, 5, &asked.with_producer_id(ProducerId(-1)).with_producer_epoch(-1))
}

fn markers(wire: &mut Wire, of: &Things) -> String {
    use write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    let topic = WritableTxnMarkerTopic::default().with_name(name(of)).with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default().with_producer_id(ProducerId(1)).with_topics(vec![topic]);
    ask(wire, 1, &WriteTxnMarkersRequest::default().with_markers(vec![marker]))
}

/// Types of what has settings.
const SETTINGS_OF_TOPIC: i8 = 2;
const SETTINGS_OF_BROKER: i8 = 4;
const LEVELS_OF_BROKER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const SETTINGS_OF_GROUP: i8 = 32;

fn described(wire: &mut Wire, kind: i8, of: &str) -> String {
    let resource = describe_configs_request::DescribeConfigsResource::default();
    let resource = resource.with_resource_type(kind).with_resource_name(text(of)).with_configuration_keys(None);
    ask(wire, 4, &DescribeConfigsRequest::default().with_resources(vec![resource]))
}

fn altered(wire: &mut Wire, kind: i8, of: &str) -> String {
    let resource = incremental_alter_configs_request::AlterConfigsResource::default();
    let resource = resource.with_resource_type(kind).with_resource_name(text(of));
    ask(wire, 1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(true))
}

fn topics_and_settings() -> Vec<Row> {
    vec![
        row(ApiKey::CreateTopics, "by the topic", &[on_topic(CREATE), on_topic(DESCRIBE_CONFIGS)], create),
        // Who may create no topics may perhaps create this one: that is what is refused.
        Row {
            told: Told::As(TOPIC),
            ..row(ApiKey::CreateTopics, "by the cluster", &[on_cluster(CREATE), on_topic(DESCRIBE_CONFIGS)], create)
        },
        row(ApiKey::DeleteTopics, "by name", &[on_topic(DELETE)], |wire, of| {
            let topic = delete_topics_request::DeleteTopicState::default().with_name(Some(name(of)));
            ask(wire, 6, &DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000))
        }),
        row(ApiKey::DeleteTopics, "by id", &[on_topic(DELETE)], |wire, of| {
            let topic = delete_topics_request::DeleteTopicState::default().with_name(None).with_topic_id(of.topic_id);
            ask(wire, 6, &DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000))
        }),
        row(ApiKey::CreatePartitions, "CreatePartitions", &[on_topic(ALTER)], |wire, of| {
            let topic = create_partitions_request::CreatePartitionsTopic::default().with_name(name(of)).with_count(2);
            let asked = CreatePartitionsRequest::default().with_topics(vec![topic.with_assignments(None)]);
            ask(wire, 3, &asked.with_timeout_ms(30_000))
        }),
        row(ApiKey::DescribeConfigs, "of a topic", &[on_topic(DESCRIBE_CONFIGS)], |wire, of| {
            described(wire, SETTINGS_OF_TOPIC, &of.name)
        }),
        row(ApiKey::DescribeConfigs, "of a group", &[on_group(DESCRIBE_CONFIGS)], |wire, of| {
            described(wire, SETTINGS_OF_GROUP, &of.name)
        }),
        row(ApiKey::DescribeConfigs, "of a broker", &[on_cluster(DESCRIBE_CONFIGS)], |wire, _| {
            described(wire, SETTINGS_OF_BROKER, "1")
        }),
        row(ApiKey::DescribeConfigs, "of a broker's log", &[on_cluster(DESCRIBE_CONFIGS)], |wire, _| {
            described(wire, LEVELS_OF_BROKER, "1")
        }),
        row(ApiKey::DescribeConfigs, "of client metrics", &[on_cluster(DESCRIBE_CONFIGS)], |wire, of| {
            described(wire, CLIENT_METRICS, &of.name)
        }),
        row(ApiKey::IncrementalAlterConfigs, "of a topic", &[on_topic(ALTER_CONFIGS)], |wire, of| {
            altered(wire, SETTINGS_OF_TOPIC, &of.name)
        }),
        row(ApiKey::IncrementalAlterConfigs, "of a group", &[on_group(ALTER_CONFIGS)], |wire, of| {
            altered(wire, SETTINGS_OF_GROUP, &of.name)
        }),
        row(ApiKey::IncrementalAlterConfigs, "of a broker", &[on_cluster(ALTER_CONFIGS)], |wire, _| {
            altered(wire, SETTINGS_OF_BROKER, "1")
        }),
        row(ApiKey::IncrementalAlterConfigs, "of a broker's log", &[on_cluster(ALTER_CONFIGS)], |wire, _| {
            altered(wire, LEVELS_OF_BROKER, "1")
        }),
        row(ApiKey::IncrementalAlterConfigs, "of client metrics", &[on_cluster(ALTER_CONFIGS)], |wire, of| {
            altered(wire, CLIENT_METRICS, &of.name)
        }),
        row(ApiKey::AlterConfigs, "AlterConfigs", &[on_topic(ALTER_CONFIGS)], |wire, of| {
            let resource = alter_configs_request::AlterConfigsResource::default();
            let resource = resource.with_resource_type(SETTINGS_OF_TOPIC).with_resource_name(text(&of.name));
            ask(wire, 2, &AlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(true))
        }),
        row(ApiKey::ListConfigResources, "ListConfigResources", &[on_cluster(DESCRIBE_CONFIGS)], |wire, _| {
            ask(wire, 1, &ListConfigResourcesRequest::default())
        }),
    ]
}

fn create(wire: &mut Wire, of: &Things) -> String {
    let request =
        CreateTopicsRequest::default().with_topics(vec![topics::creatable(&format!("{}-new", of.name), 1, &[])]);
    ask(wire, 7, &request.with_timeout_ms(30_000).with_validate_only(true))
}

fn cluster() -> Vec<Row> {
    vec![
        row(ApiKey::DescribeAcls, "DescribeAcls", &[on_cluster(DESCRIBE)], |wire, _| {
            let any = DescribeAclsRequest::default().with_resource_type_filter(1).with_pattern_type_filter(1);
            let any = any.with_resource_name_filter(None).with_principal_filter(Some(text("User:nobody")));
            ask(wire, 3, &any.with_host_filter(None).with_operation(1).with_permission_type(1))
        }),
        row(ApiKey::CreateAcls, "CreateAcls", &[on_cluster(ALTER)], |wire, of| {
            let acl = create_acls_request::AclCreation::default()
                .with_resource_type(2)
                .with_resource_pattern_type(3)
                .with_resource_name(text(&of.name))
                .with_principal(text("User:nobody"))
                .with_host(text("*"))
                .with_operation(3)
                .with_permission_type(3);
            ask(wire, 3, &CreateAclsRequest::default().with_creations(vec![acl]))
        }),
        row(ApiKey::DeleteAcls, "DeleteAcls", &[on_cluster(ALTER)], |wire, _| {
            let filter = delete_acls_request::DeleteAclsFilter::default()
                .with_resource_type_filter(1)
                .with_pattern_type_filter(1)
                .with_principal_filter(Some(text("User:nobody")))
                .with_operation(1)
                .with_permission_type(1);
            let filter = filter.with_resource_name_filter(None).with_host_filter(None);
            ask(wire, 3, &DeleteAclsRequest::default().with_filters(vec![filter]))
        }),
        row(ApiKey::AlterReplicaLogDirs, "AlterReplicaLogDirs", &[on_cluster(ALTER)], |wire, of| {
            use alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
            let topic = AlterReplicaLogDirTopic::default().with_name(name(of)).with_partitions(vec![0]);
            let dir = AlterReplicaLogDir::default().with_path(text("/nowhere")).with_topics(vec![topic]);
            ask(wire, 2, &AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]))
        }),
        row(ApiKey::DescribeLogDirs, "DescribeLogDirs", &[on_cluster(DESCRIBE)], |wire, _| {
            ask(wire, 4, &DescribeLogDirsRequest::default().with_topics(Some(Vec::new())))
        }),
        row(ApiKey::ElectLeaders, "ElectLeaders", &[on_cluster(ALTER)], |wire, of| {
            let topic = elect_leaders_request::TopicPartitions::default().with_topic(name(of)).with_partitions(vec![0]);
            ask(
                wire,
                2,
                &ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic])).with_timeout_ms(9_000),
            )
        }),
        row(ApiKey::AlterPartitionReassignments, "AlterPartitionReassignments", &[on_cluster(ALTER)], |wire, of| {
            use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
            let partition = ReassignablePartition::default().with_partition_index(0).with_replicas(None);
            let topic = ReassignableTopic::default().with_name(name(of)).with_partitions(vec![partition]);
            ask(wire, 0, &AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(9_000))
        }),
        row(ApiKey::ListPartitionReassignments, "ListPartitionReassignments", &[on_cluster(DESCRIBE)], |wire, _| {
            ask(wire, 0, &ListPartitionReassignmentsRequest::default().with_topics(None).with_timeout_ms(9_000))
        }),
        row(ApiKey::DescribeQuorum, "DescribeQuorum", &[on_cluster(DESCRIBE)], |wire, _| {
            use describe_quorum_request::{PartitionData, TopicData};
            let partition = PartitionData::default().with_partition_index(0);
            let topic = TopicData::default().with_topic_name(topics::name("__cluster_metadata"));
            ask(wire, 2, &DescribeQuorumRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]))
        }),
        row(
            ApiKey::DescribeUserScramCredentials,
            "DescribeUserScramCredentials",
            &[on_cluster(DESCRIBE)],
            // Apache Kafka has no answer for who may not, and asks for all.
            |wire, _| {
                let user = describe_user_scram_credentials_request::UserName::default().with_name(text("nobody"));
                ask(wire, 0, &DescribeUserScramCredentialsRequest::default().with_users(Some(vec![user])))
            },
        ),
        row(ApiKey::AlterUserScramCredentials, "AlterUserScramCredentials", &[on_cluster(ALTER)], |wire, _| {
            let deletion = alter_user_scram_credentials_request::ScramCredentialDeletion::default();
            let deletion = deletion.with_name(text("nobody")).with_mechanism(1);
            ask(wire, 0, &AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]))
        }),
        row(ApiKey::UpdateFeatures, "UpdateFeatures", &[on_cluster(ALTER)], |wire, _| {
            let update = update_features_request::FeatureUpdateKey::default();
            let update = update.with_feature(text("group.version")).with_max_version_level(1).with_upgrade_type(1);
            ask(wire, 2, &UpdateFeaturesRequest::default().with_feature_updates(vec![update]).with_validate_only(true))
        }),
        row(ApiKey::UnregisterBroker, "UnregisterBroker", &[on_cluster(ALTER)], |wire, _| {
            ask(wire, 0, &UnregisterBrokerRequest::default().with_broker_id(BrokerId(4_711)))
        }),
        quiet(
            ApiKey::DescribeCluster,
            "operations of the cluster",
            &[on_cluster(DESCRIBE)],
            |_| "cluster_authorized_operations: 256,".to_owned(),
            |wire, _| ask(wire, 1, &DescribeClusterRequest::default().with_include_cluster_authorized_operations(true)),
        ),
    ]
}

fn share_groups() -> Vec<Row> {
    vec![
        row(ApiKey::ShareGroupHeartbeat, "ShareGroupHeartbeat", &[on_group(READ), on_topic(DESCRIBE)], |wire, of| {
            let asked = ShareGroupHeartbeatRequest::default().with_group_id(group(of)).with_member_id(text("m"));
            ask(wire, 1, &asked.with_subscribed_topic_names(Some(vec![name(of)])))
        }),
        row(ApiKey::ShareGroupDescribe, "ShareGroupDescribe", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 1, &ShareGroupDescribeRequest::default().with_group_ids(vec![group(of)]))
        }),
        row(ApiKey::ShareFetch, "ShareFetch", &[on_group(READ), on_topic(READ)], |wire, of| {
            use share_fetch_request::{FetchPartition, FetchTopic};
            let partition = FetchPartition::default().with_partition_index(0);
            let topic = FetchTopic::default().with_topic_id(of.topic_id).with_partitions(vec![partition]);
            let asked = ShareFetchRequest::default().with_group_id(Some(group(of))).with_topics(vec![topic]);
            let asked = asked.with_member_id(Some(text("AAAAAAAAAAAAAAAAAAAAAQ"))).with_max_wait_ms(0);
            ask(wire, 1, &asked.with_max_bytes(1_000).with_max_records(1).with_batch_size(1))
        }),
        row(ApiKey::ShareAcknowledge, "ShareAcknowledge", &[on_group(READ)], |wire, of| {
            let asked = ShareAcknowledgeRequest::default().with_group_id(Some(group(of))).with_share_session_epoch(1);
            ask(wire, 1, &asked.with_member_id(Some(text("AAAAAAAAAAAAAAAAAAAAAQ"))))
        }),
        row(
            ApiKey::InitializeShareGroupState,
            "InitializeShareGroupState",
            &[on_cluster(CLUSTER_ACTION)],
            |wire, of| {
                use initialize_share_group_state_request::{InitializeStateData, PartitionData};
                let topic = InitializeStateData::default().with_topic_id(of.topic_id);
                let topic = topic.with_partitions(vec![PartitionData::default()]);
                let asked = InitializeShareGroupStateRequest::default().with_group_id(text(&of.name));
                ask(wire, 0, &asked.with_topics(vec![topic]))
            },
        ),
        row(ApiKey::ReadShareGroupState, "ReadShareGroupState", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            use read_share_group_state_request::{PartitionData, ReadStateData};
            let topic = ReadStateData::default().with_topic_id(of.topic_id);
            let topic = topic.with_partitions(vec![PartitionData::default()]);
            ask(wire, 0, &ReadShareGroupStateRequest::default().with_group_id(text(&of.name)).with_topics(vec![topic]))
        }),
        row(ApiKey::WriteShareGroupState, "WriteShareGroupState", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            use write_share_group_state_request::{PartitionData, WriteStateData};
            let topic = WriteStateData::default().with_topic_id(of.topic_id);
            let topic = topic.with_partitions(vec![PartitionData::default()]);
            ask(wire, 0, &WriteShareGroupStateRequest::default().with_group_id(text(&of.name)).with_topics(vec![topic]))
        }),
        row(ApiKey::DeleteShareGroupState, "DeleteShareGroupState", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            use delete_share_group_state_request::{DeleteStateData, PartitionData};
            let topic = DeleteStateData::default().with_topic_id(of.topic_id);
            let topic = topic.with_partitions(vec![PartitionData::default()]);
            ask(
                wire,
                0,
                &DeleteShareGroupStateRequest::default().with_group_id(text(&of.name)).with_topics(vec![topic]),
            )
        }),
        row(
            ApiKey::ReadShareGroupStateSummary,
            "ReadShareGroupStateSummary",
            &[on_cluster(CLUSTER_ACTION)],
            |wire, of| {
                use read_share_group_state_summary_request::{PartitionData, ReadStateSummaryData};
                let topic = ReadStateSummaryData::default().with_topic_id(of.topic_id);
                let topic = topic.with_partitions(vec![PartitionData::default()]);
                let asked = ReadShareGroupStateSummaryRequest::default().with_group_id(text(&of.name));
                ask(wire, 0, &asked.with_topics(vec![topic]))
            },
        ),
        row(
            ApiKey::DescribeShareGroupOffsets,
            "DescribeShareGroupOffsets",
            &[on_group(DESCRIBE), on_topic(DESCRIBE)],
            |wire, of| {
                use describe_share_group_offsets_request::{
                    DescribeShareGroupOffsetsRequestGroup as Group, DescribeShareGroupOffsetsRequestTopic as Topic,
                };
                let topic = Topic::default().with_topic_name(name(of)).with_partitions(vec![0]);
                let group = Group::default().with_group_id(group(of)).with_topics(Some(vec![topic]));
                ask(wire, 0, &DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]))
            },
        ),
        row(ApiKey::AlterShareGroupOffsets, "AlterShareGroupOffsets", &[on_group(READ), on_topic(READ)], |wire, of| {
            use alter_share_group_offsets_request::{
                AlterShareGroupOffsetsRequestPartition as Partition, AlterShareGroupOffsetsRequestTopic as Topic,
            };
            let partition = Partition::default().with_partition_index(0).with_start_offset(0);
            let topic = Topic::default().with_topic_name(name(of)).with_partitions(vec![partition]);
            let asked = AlterShareGroupOffsetsRequest::default().with_group_id(share_group(of));
            ask(wire, 0, &asked.with_topics(vec![topic]))
        }),
        row(
            ApiKey::DeleteShareGroupOffsets,
            "DeleteShareGroupOffsets",
            &[on_group(DELETE), on_topic(READ)],
            |wire, of| {
                let topic = delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic::default();
                let topic = topic.with_topic_name(name(of));
                let asked = DeleteShareGroupOffsetsRequest::default().with_group_id(share_group(of));
                ask(wire, 0, &asked.with_topics(vec![topic]))
            },
        ),
    ]
}
