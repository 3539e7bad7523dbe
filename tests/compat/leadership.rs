//! Three nodes: answers name the node to go to, what only the controller can do is done from any node, and what a node
//! led goes on elsewhere when it dies.

use std::collections::BTreeSet;

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource as Replaced;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeQuorumRequest, ElectLeadersRequest, FetchRequest, FindCoordinatorRequest,
    HeartbeatRequest, IncrementalAlterConfigsRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
};

use crate::groups::{group, stable};
use crate::harness::batch::Batch;
use crate::harness::nodes::Nodes;
use crate::harness::topics::{self, LATEST, creatable, fetch_request, list_offset, name, produce_request, topic_id};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const NOT_COORDINATOR: i16 = 16;
const TOPIC: i8 = 2;
const BROKER_LOGGER: i8 = 8;

/// A topic with a replica on every node; whoever is asked makes it.
#[track_caller]
fn create(wire: &mut Wire, partitions: i32) -> String {
    let topic = unique("topic");
    let wanted = creatable(&topic, partitions, &[]).with_replication_factor(3);
    let created = wire.call(7, &CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]));
    assert_eq!((created.topics[0].error_code, created.topics[0].replication_factor), (0, 3));
    topic
}

/// Leader, replicas and in-sync replicas of each partition, as a node tells them, once it tells a leader of each.
#[track_caller]
fn leaders(nodes: &Nodes, asked: usize, topic: &str) -> Vec<(i32, Vec<i32>, BTreeSet<i32>)> {
    let mut wire = nodes.wire(asked);
    eventually("each partition is led", || {
        let told = topics::metadata(&mut wire, &[topic]);
        let rows: Vec<_> = told.topics[0]
            .partitions
            .iter()
            .map(|p| {
                let ids = |nodes: &[kafka_protocol::messages::BrokerId]| nodes.iter().map(|n| n.0).collect::<Vec<_>>();
                (p.leader_id.0, ids(&p.replica_nodes), ids(&p.isr_nodes).into_iter().collect())
            })
            .collect();
        (!rows.is_empty() && rows.iter().all(|(leader, ..)| *leader > 0)).then_some(rows)
    })
}

fn node(id: i32) -> usize {
    usize::try_from(id).expect("a node id")
}

fn alteration(kind: i8, of: &str, setting: &str, value: &str) -> AlterConfigsResource {
    let config = AlterableConfig::default().with_name(text(setting)).with_config_operation(0);
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(of))
        .with_configs(vec![config.with_value(Some(text(value)))])
}

/// The value of a topic's setting as a node knows it.
fn setting(wire: &mut Wire, topic: &str, setting: &str) -> Option<String> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(vec![text(setting)]));
    let told = wire.call(4, &DescribeConfigsRequest::default().with_resources(vec![resource]));
    told.results[0].configs[0].value.as_ref().map(|value| value.to_string())
}

#[test]
fn what_only_the_controller_can_do_is_done_from_any_node() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let mut producers = BTreeSet::new();
    for asked in 1..=3 {
        let mut wire = nodes.wire(asked);
        let topic = create(&mut wire, 2);
        // The node that was asked knows at once what was done.
        assert_eq!(topics::metadata(&mut wire, &[&topic]).topics[0].partitions.len(), 2);
        let more = CreatePartitionsTopic::default().with_name(name(&topic)).with_count(3).with_assignments(None);
        let grown = wire.call(3, &CreatePartitionsRequest::default().with_timeout_ms(30_000).with_topics(vec![more]));
        assert_eq!(grown.results[0].error_code, 0);
        assert_eq!(topics::metadata(&mut wire, &[&topic]).topics[0].partitions.len(), 3);

        // A topic's settings are the cluster's, the levels of a log its node's.
        let own = asked.to_string();
        let resources = vec![
            alteration(TOPIC, &topic, "retention.ms", "1234567"),
            alteration(BROKER_LOGGER, &own, "millstream.net", "WARN"),
        ];
        let altered = wire.call(1, &IncrementalAlterConfigsRequest::default().with_resources(resources));
        let codes: Vec<_> = altered.responses.iter().map(|row| (row.resource_type, row.error_code)).collect();
        assert_eq!(codes, [(TOPIC, 0), (BROKER_LOGGER, 0)], "{:?}", altered.responses);
        assert_eq!(setting(&mut wire, &topic, "retention.ms").as_deref(), Some("1234567"));
        let replaced = Replaced::default().with_resource_type(TOPIC).with_resource_name(text(&topic));
        let altered = wire.call(2, &AlterConfigsRequest::default().with_resources(vec![replaced]));
        assert_eq!(altered.responses[0].error_code, 0);
        assert_eq!(setting(&mut wire, &topic, "retention.ms").as_deref(), Some("604800000"));

        let quorum = TopicData::default()
            .with_topic_name(name("__cluster_metadata"))
            .with_partitions(vec![PartitionData::default().with_partition_index(0)]);
        let told = wire.call(2, &DescribeQuorumRequest::default().with_topics(vec![quorum]));
        let quorum = &told.topics[0].partitions[0];
        let voters: Vec<i32> = quorum.current_voters.iter().map(|voter| voter.replica_id.0).collect();
        assert_eq!((quorum.error_code, voters, told.nodes.len()), (0, vec![1, 2, 3], 3));
        assert!((1..=3).contains(&quorum.leader_id.0) && quorum.observers.is_empty());

        for _ in 0..2 {
            assert!(producers.insert(topics::producer_id(&mut wire, 4).0), "an id is given once");
        }
        let gone = DeleteTopicState::default().with_name(Some(name(&topic)));
        let deleted = wire.call(6, &DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![gone]));
        assert_eq!(deleted.responses[0].error_code, 0);
        assert_eq!(topics::metadata(&mut wire, &[&topic]).topics[0].error_code, 3, "unknown");
    }
}

#[test]
fn a_client_that_asks_a_follower_is_sent_to_the_leader() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let topic = create(&mut nodes.wire(1), 1);
    let (leader, replicas, _) = leaders(&nodes, 1, &topic).remove(0);
    assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 3);
    let id = topic_id(&mut nodes.wire(1), &topic);
    // The others may know of it before its first entry is committed.
    eventually("who is told as the leader leads", || {
        let written = topics::produce(&mut nodes.wire(node(leader)), &topic, 0, Batch::of(&["one"]).build());
        (written.error_code == 0).then_some(())
    });
    for follower in replicas.into_iter().filter(|node| *node != leader) {
        // Sooner or later every node knows the same.
        assert_eq!(leaders(&nodes, node(follower), &topic)[0].0, leader);
        let mut wire = nodes.wire(node(follower));
        let produced = wire.call(12, &produce_request(&topic, 0, Batch::of(&["two"]).build()));
        let row = &produced.responses[0].partition_responses[0];
        assert_eq!((row.error_code, row.current_leader.leader_id.0), (NOT_LEADER_OR_FOLLOWER, leader));
        assert!(row.current_leader.leader_epoch > 0);
        let endpoints: Vec<i32> = produced.node_endpoints.iter().map(|node| node.node_id.0).collect();
        assert_eq!(endpoints, [leader]);
        // Who knows nothing of followers that one may read from.
        let older: FetchRequest = fetch_request(&topic, 0, 0);
        assert_eq!(wire.call(10, &older).responses[0].partitions[0].error_code, NOT_LEADER_OR_FOLLOWER);
        // And who is a replica itself.
        let mut request = older;
        request.replica_state.replica_id = 9.into();
        request.topics[0].topic_id = id;
        let fetched = wire.call(17, &request);
        let row = &fetched.responses[0].partitions[0];
        assert_eq!((row.error_code, row.current_leader.leader_id.0), (NOT_LEADER_OR_FOLLOWER, leader));
        let endpoints: Vec<i32> = fetched.node_endpoints.iter().map(|node| node.node_id.0).collect();
        assert_eq!(endpoints, [leader]);
        let older: ProduceRequest = produce_request(&topic, 0, Batch::of(&["two"]).build());
        assert_eq!(wire.call(9, &older).responses[0].partition_responses[0].error_code, NOT_LEADER_OR_FOLLOWER);
        assert_eq!(list_offset(&mut wire, &topic, 0, LATEST).error_code, NOT_LEADER_OR_FOLLOWER);
    }
}

/// The node that coordinates a group, as another one tells.
#[track_caller]
pub fn coordinator(nodes: &Nodes, asked: usize, of: &str) -> i32 {
    let mut wire = nodes.wire(asked);
    eventually("the coordinator is known", || {
        let found = wire.call(2, &FindCoordinatorRequest::default().with_key(text(of)).with_key_type(0));
        (found.error_code == 0).then_some(found.node_id.0)
    })
}

#[test]
fn a_group_goes_on_without_a_rebalance_when_its_coordinator_dies() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let of = unique("group");
    let topic = create(&mut nodes.wire(1), 1);
    let home = coordinator(&nodes, 1, &of);
    for other in (1..=3).filter(|id| *id != home) {
        assert_eq!(coordinator(&nodes, node(other), &of), home, "every node tells the same");
        let beat = HeartbeatRequest::default().with_group_id(group(&of)).with_member_id(text("m"));
        assert_eq!(nodes.wire(node(other)).call(4, &beat).error_code, NOT_COORDINATOR);
    }
    let mut wire = nodes.wire(node(home));
    let (member, generation) = stable(&mut wire, &of, None);
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(42);
    let commit = OffsetCommitRequest::default()
        .with_group_id(group(&of))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(&member))
        .with_topics(vec![
            OffsetCommitRequestTopic::default().with_name(name(&topic)).with_partitions(vec![partition]),
        ]);
    assert_eq!(wire.call(8, &commit).topics[0].partitions[0].error_code, 0);

    nodes.kill(node(home));
    let asked = if home == 1 { 2 } else { 1 };
    let heir = eventually("another node coordinates the group", || {
        let now = coordinator(&nodes, asked, &of);
        (now != home).then_some(now)
    });
    let mut wire = nodes.wire(node(heir));
    let beat = HeartbeatRequest::default()
        .with_group_id(group(&of))
        .with_generation_id(generation)
        .with_member_id(text(&member));
    eventually("the member goes on", || {
        let code = wire.call(4, &beat).error_code;
        assert!([0, 14, 15, 16].contains(&code), "error {code}: the group was to stay as it was");
        (code == 0).then_some(())
    });
    let wanted = OffsetFetchRequestTopic::default().with_name(name(&topic)).with_partition_indexes(vec![0]);
    let fetched =
        wire.call(7, &OffsetFetchRequest::default().with_group_id(group(&of)).with_topics(Some(vec![wanted])));
    assert_eq!((fetched.error_code, fetched.topics[0].partitions[0].committed_offset), (0, 42));
    // And commits go on.
    assert_eq!(wire.call(8, &commit).topics[0].partitions[0].error_code, 0);
}

/// Brokers as DescribeCluster tells them: number and whether it is fenced.
fn brokers(nodes: &Nodes, asked: usize, fenced: bool) -> Vec<(i32, bool)> {
    let told = nodes.wire(asked).call(2, &DescribeClusterRequest::default().with_include_fenced_brokers(fenced));
    told.brokers.iter().map(|broker| (broker.broker_id.0, broker.is_fenced)).collect()
}

#[test]
fn leaderships_move_when_a_node_dies_and_go_back_on_request() {
    let Some(mut nodes) = Nodes::started(3, &["auto.leader.rebalance.enable=false"]) else { return };
    let topic = create(&mut nodes.wire(1), 6);
    let before = leaders(&nodes, 1, &topic);
    let preferred = |rows: &[(i32, Vec<i32>, BTreeSet<i32>)]| rows.iter().all(|(leader, all, _)| *leader == all[0]);
    eventually("the preferred replicas lead", || preferred(&leaders(&nodes, 1, &topic)).then_some(()));
    let led: BTreeSet<i32> = before.iter().map(|(leader, ..)| *leader).collect();
    assert_eq!(led, BTreeSet::from([1, 2, 3]), "leaders are spread");

    nodes.kill(3);
    eventually("others lead and are in sync", || {
        let now = leaders(&nodes, 1, &topic);
        now.iter().all(|(leader, _, isr)| *leader != 3 && *isr == BTreeSet::from([1, 2])).then_some(())
    });
    eventually("it is known to be dead", || (brokers(&nodes, 2, false).len() == 2).then_some(()));
    assert_eq!(brokers(&nodes, 2, true), [(1, false), (2, false), (3, true)]);
    let offline = topics::metadata(&mut nodes.wire(2), &[&topic]).topics[0].partitions[0].offline_replicas.clone();
    assert_eq!(offline, [kafka_protocol::messages::BrokerId(3)]);

    nodes.spawn(3);
    nodes.await_ready(3);
    let all = BTreeSet::from([1, 2, 3]);
    eventually("it is in sync again", || leaders(&nodes, 1, &topic).iter().all(|(.., isr)| *isr == all).then_some(()));
    assert!(!preferred(&leaders(&nodes, 1, &topic)), "nobody asked for it yet");
    let partitions = TopicPartitions::default().with_topic(name(&topic)).with_partitions((0..6).collect());
    let elect = ElectLeadersRequest::default().with_timeout_ms(30_000).with_topic_partitions(Some(vec![partitions]));
    let elected = nodes.wire(3).call(2, &elect);
    let rows = &elected.replica_election_results[0].partition_result;
    let wanted = before.iter().map(|(_, replicas, _)| if replicas[0] == 3 { 0 } else { 84 });
    assert_eq!(rows.iter().map(|row| row.error_code).collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    eventually("the preferred replicas lead again", || preferred(&leaders(&nodes, 1, &topic)).then_some(()));
}

#[test]
fn leaderships_go_back_by_themselves() {
    let Some(mut nodes) = Nodes::started(3, &["leader.imbalance.check.interval.seconds=1"]) else { return };
    let topic = create(&mut nodes.wire(1), 3);
    leaders(&nodes, 1, &topic);
    nodes.kill(2);
    eventually("others lead", || leaders(&nodes, 1, &topic).iter().all(|(leader, ..)| *leader != 2).then_some(()));
    nodes.spawn(2);
    nodes.await_ready(2);
    eventually("the preferred replicas lead again", || {
        leaders(&nodes, 1, &topic).iter().all(|(leader, replicas, _)| *leader == replicas[0]).then_some(())
    });
}

/// In sync on so many nodes.
fn is_on(nodes: &Nodes, asked: usize, topic: &str, count: usize) -> bool {
    let told = topics::metadata(&mut nodes.wire(asked), &[topic]);
    let partitions = &told.topics[0].partitions;
    !partitions.is_empty() && partitions.iter().all(|p| p.error_code == 0 && p.isr_nodes.len() == count)
}

#[test]
fn the_topic_of_groups_gets_its_replicas_when_nodes_come() {
    let Some(mut nodes) = Nodes::started(1, &[]) else { return };
    let of = unique("group");
    let topic = topics::topic(&mut nodes.wire(1), 1);
    let mut wire = nodes.wire(1);
    let (member, generation) = stable(&mut wire, &of, None);
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(7);
    let commit = OffsetCommitRequest::default()
        .with_group_id(group(&of))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(&member))
        .with_topics(vec![
            OffsetCommitRequestTopic::default().with_name(name(&topic)).with_partitions(vec![partition]),
        ]);
    assert_eq!(wire.call(8, &commit).topics[0].partitions[0].error_code, 0);
    assert!(is_on(&nodes, 1, "__consumer_offsets", 1));
    for _ in 0..2 {
        let id = nodes.add(vec![1]);
        nodes.spawn(id);
        nodes.await_ready(id);
    }
    eventually("it has three replicas", || is_on(&nodes, 2, "__consumer_offsets", 3).then_some(()));
    let quorum = TopicData::default()
        .with_topic_name(name("__cluster_metadata"))
        .with_partitions(vec![PartitionData::default().with_partition_index(0)]);
    eventually("the metadata have three voters", || {
        let told = nodes.wire(3).call(2, &DescribeQuorumRequest::default().with_topics(vec![quorum.clone()]));
        (told.topics[0].partitions[0].current_voters.len() == 3).then_some(())
    });
    // Written by the members that there are now: with it each of them learns that all of them have settled.
    let home = coordinator(&nodes, 2, &of);
    eventually("commits go on", || {
        let committed = nodes.wire(node(home)).call(8, &commit);
        (committed.topics[0].partitions[0].error_code == 0).then_some(())
    });
    create(&mut nodes.wire(2), 1);
    nodes.kill(1);
    let heir = eventually("another node coordinates the group", || {
        let now = coordinator(&nodes, 2, &of);
        (now != 1).then_some(now)
    });
    let mut wire = nodes.wire(node(heir));
    let wanted = OffsetFetchRequestTopic::default().with_name(name(&topic)).with_partition_indexes(vec![0]);
    let fetch = OffsetFetchRequest::default().with_group_id(group(&of)).with_topics(Some(vec![wanted]));
    eventually("what was committed is there", || {
        let fetched = wire.call(7, &fetch);
        (fetched.error_code == 0 && fetched.topics[0].partitions[0].committed_offset == 7).then_some(())
    });
}

#[test]
fn what_was_changed_while_a_node_was_away_is_true_there_when_it_returns() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let (gone, kept) = (create(&mut nodes.wire(1), 2), create(&mut nodes.wire(1), 1));
    leaders(&nodes, 3, &gone);
    let id = topic_id(&mut nodes.wire(1), &gone);
    let directory = nodes.data_dir(3).join("log").join(id.to_string());
    eventually("it has its replicas", || directory.is_dir().then_some(()));
    nodes.kill(3);
    let delete = DeleteTopicState::default().with_name(Some(name(&gone)));
    let request = DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![delete]);
    eventually("a controller deletes it", || {
        let code = nodes.wire(1).call(6, &request).responses[0].error_code;
        [0, 3].contains(&code).then_some(())
    });
    let more = CreatePartitionsTopic::default().with_name(name(&kept)).with_count(4).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_timeout_ms(30_000).with_topics(vec![more]);
    assert_eq!(nodes.wire(2).call(3, &request).results[0].error_code, 0);
    nodes.spawn(3);
    nodes.await_ready(3);
    // It says that it is ready when it knows what the others knew then.
    let told = topics::metadata(&mut nodes.wire(3), &[&gone, &kept]);
    assert_eq!((told.topics[0].error_code, told.topics[1].partitions.len()), (3, 4));
    eventually("its replicas are gone", || (!directory.exists()).then_some(()));
    let all = BTreeSet::from([1, 2, 3]);
    eventually("the new ones are in sync there", || {
        leaders(&nodes, 3, &kept).iter().all(|(.., isr)| *isr == all).then_some(())
    });
}

/// Who asks right after the death of the node that decides waits for the next one, and is told nothing of it.
#[test]
fn a_topic_is_created_though_the_controller_has_just_died() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    for _ in 0..2 {
        let quorum = TopicData::default()
            .with_topic_name(name("__cluster_metadata"))
            .with_partitions(vec![PartitionData::default().with_partition_index(0)]);
        let told = nodes.wire(1).call(2, &DescribeQuorumRequest::default().with_topics(vec![quorum]));
        let controller = node(told.topics[0].partitions[0].leader_id.0);
        let asked = controller % 3 + 1;
        let mut wire = nodes.wire(asked);
        nodes.kill(controller);
        let topic = unique("topic");
        let wanted = creatable(&topic, 1, &[]).with_replication_factor(2);
        let created = wire.call(7, &CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]));
        assert_eq!(created.topics[0].error_code, 0, "{:?}", created.topics[0].error_message);
        assert_eq!(topics::metadata(&mut wire, &[&topic]).topics[0].partitions.len(), 1);
        nodes.spawn(controller);
        nodes.await_ready(controller);
    }
}
