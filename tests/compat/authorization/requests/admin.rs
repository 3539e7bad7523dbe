//! What administrators ask.

use kafka_protocol::messages::*;

use super::super::{
    ALTER, ALTER_CONFIGS, CREATE, DELETE, DESCRIBE, DESCRIBE_CONFIGS, Row, TOPIC, Things, Told, on_cluster, on_group,
    on_topic,
};
use super::{ask, name, quiet, row};
use crate::harness::wire::Wire;
use crate::harness::{text, topics};

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

pub fn topics_and_settings() -> Vec<Row> {
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

pub fn cluster() -> Vec<Row> {
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
