//! A leader that stood still while another was elected tells nobody what was so before: committed offsets, groups and the
//! ends of logs are told after a majority has said that it leads still, or not at all.

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, DescribeGroupsRequest, FindCoordinatorRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest,
};

use crate::groups::group;
use crate::harness::nodes::Nodes;
use crate::harness::topics::{self, LATEST, creatable, list_offsets_request, name};
use crate::harness::wire::Wire;
use crate::harness::{batch::Batch, eventually, text, unique};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const OFFSET_NOT_AVAILABLE: i16 = 78;
/// Load in progress, not available, not the coordinator: the client looks for it again.
const COORDINATOR_ERRORS: [i16; 3] = [14, 15, 16];
/// Connections on which each question waits for the node that stands still.
const ASKERS: usize = 8;
const ROUNDS: i64 = 3;

fn others(node: usize) -> impl Iterator<Item = usize> {
    (1..=3).filter(move |other| *other != node)
}

/// A topic of one partition with a replica on each node.
#[track_caller]
fn create(nodes: &Nodes) -> String {
    let topic = unique("topic");
    let wanted = creatable(&topic, 1, &[]).with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]);
    assert_eq!(nodes.wire(1).call(7, &request).topics[0].error_code, 0);
    topic
}

#[track_caller]
fn coordinator(nodes: &Nodes, asked: usize, of: &str, is_it: impl Fn(usize) -> bool) -> usize {
    eventually("the coordinator is known", || {
        let found = nodes.wire(asked).call(2, &FindCoordinatorRequest::default().with_key(text(of)).with_key_type(0));
        let node = usize::try_from(found.node_id.0).ok().filter(|_| found.error_code == 0)?;
        is_it(node).then_some(node)
    })
}

/// Commits an offset as an application without a group's protocol does, wherever the coordinator is.
#[track_caller]
fn commit(nodes: &Nodes, asked: usize, of: &str, topic: &str, offset: i64, is_it: impl Fn(usize) -> bool) -> usize {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
    let topics = vec![OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition])];
    let request = OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics);
    eventually("the offset is committed", || {
        let home = coordinator(nodes, asked, of, &is_it);
        let code = nodes.wire(home).call(8, &request).topics[0].partitions[0].error_code;
        assert!(code == 0 || COORDINATOR_ERRORS.contains(&code), "error {code}");
        (code == 0).then_some(home)
    })
}

fn offset_fetch(of: &str, topic: &str, require_stable: bool) -> OffsetFetchRequest {
    let wanted = OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(vec![0]);
    OffsetFetchRequest::default()
        .with_group_id(group(of))
        .with_require_stable(require_stable)
        .with_topics(Some(vec![wanted]))
}

#[test]
fn a_coordinator_that_was_replaced_tells_no_old_offset() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let (of, topic) = (unique("group"), create(&nodes));
    let mut home = commit(&nodes, 1, &of, &topic, 0, |_| true);
    for round in 1..=ROUNDS {
        let mut askers: Vec<Wire> = (0..ASKERS).map(|_| nodes.wire(home)).collect();
        let mut lookers: Vec<Wire> = (0..ASKERS).map(|_| nodes.wire(home)).collect();
        nodes.pause(home);
        let fetch = |stable| offset_fetch(&of, &topic, stable);
        let asked: Vec<i32> = askers.iter_mut().enumerate().map(|(n, wire)| wire.send(7, &fetch(n % 2 == 0))).collect();
        let describe = DescribeGroupsRequest::default().with_groups(vec![group(&of)]);
        let looked: Vec<i32> = lookers.iter_mut().map(|wire| wire.send(5, &describe)).collect();
        let asked_of = others(home).next().expect("another node");
        let heir = commit(&nodes, asked_of, &of, &topic, round, |node| node != home);
        nodes.resume(home);
        for (wire, asked) in askers.iter_mut().zip(asked) {
            let told = wire.receive::<OffsetFetchRequest>(7, asked);
            let offset = told.topics.first().map(|topic| topic.partitions[0].committed_offset);
            let is_sent_away = COORDINATOR_ERRORS.contains(&told.error_code);
            assert!(is_sent_away || (told.error_code, offset) == (0, Some(round)), "round {round}: {told:?}");
        }
        for (wire, looked) in lookers.iter_mut().zip(looked) {
            let told = wire.receive::<DescribeGroupsRequest>(5, looked);
            // On a busy machine it may be the coordinator again by then, and be right.
            let is_home_again = || coordinator(&nodes, heir, &of, |_| true) == home;
            let is_sent_away = COORDINATOR_ERRORS.contains(&told.groups[0].error_code);
            assert!(is_sent_away || is_home_again(), "round {round}: {told:?}");
        }
        home = heir;
    }
}

#[test]
fn a_leader_that_was_replaced_tells_no_old_end() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let topic = create(&nodes);
    let write = |asked: usize, not: Option<usize>| {
        eventually("it is written", || {
            let told = topics::metadata(&mut nodes.wire(asked), &[&topic]);
            let leader = usize::try_from(told.topics[0].partitions.first()?.leader_id.0).ok()?;
            (leader > 0 && Some(leader) != not).then_some(())?;
            let written = topics::produce(&mut nodes.wire(leader), &topic, 0, Batch::of(&["more"]).build());
            assert!([0, NOT_LEADER_OR_FOLLOWER].contains(&written.error_code), "error {}", written.error_code);
            (written.error_code == 0).then_some((leader, written.base_offset + 1))
        })
    };
    let (mut leader, _) = write(1, None);
    for round in 0..ROUNDS {
        let mut askers: Vec<Wire> = (0..ASKERS).map(|_| nodes.wire(leader)).collect();
        nodes.pause(leader);
        let request = list_offsets_request(&topic, 0, LATEST);
        let asked: Vec<i32> = askers.iter_mut().map(|wire| wire.send(7, &request)).collect();
        let asked_of = others(leader).next().expect("another node");
        let (heir, end) = write(asked_of, Some(leader));
        nodes.resume(leader);
        for (wire, asked) in askers.iter_mut().zip(asked) {
            let told = wire.receive::<ListOffsetsRequest>(7, asked).topics[0].partitions[0].clone();
            let is_sent_away = [NOT_LEADER_OR_FOLLOWER, OFFSET_NOT_AVAILABLE].contains(&told.error_code);
            assert!(is_sent_away || (told.error_code, told.offset) == (0, end), "round {round}: {told:?}");
        }
        leader = heir;
    }
}
