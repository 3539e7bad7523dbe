//! Refusals that need no story, and work that is cut into passes.

use super::world::{Event, World, first_join, group, member, protocols};
use crate::coordinator::group::state::PROTOCOLS_MAX;
use crate::coordinator::group::{
    Command, CommitError, CommitPartition, CommitPartitionError, CommitTopic, DeleteGroupError, DeleteGroups,
    Generation, GroupConfig, Heartbeat, HeartbeatError, JoinError, JoinGroup, JoinRefused, LeaveError, LeaveGroup,
    OffsetCommit, OffsetDelete, OffsetDeleteError, Record, Reply, SyncError, SyncGroup,
};
use crate::types::{Offset, TopicId, TopicName};

/// The one reply to a command that logs nothing.
fn reply(world: &mut World, command: &Command) -> Reply {
    let mut events = world.run(command);
    match (events.pop(), events.is_empty()) {
        (Some(Event::Replied(_, reply)), true) => reply,
        other => panic!("{other:?} {events:?}"),
    }
}

fn commit(world: &mut World, id: &str, partitions: Vec<CommitPartition>) -> OffsetCommit {
    OffsetCommit {
        token: world.token(),
        group: group(id),
        member: None,
        instance: None,
        generation: Generation(-1),
        retention_ms: None,
        knows_epochs: true,
        topics: vec![CommitTopic { name: TopicName::new("t").unwrap(), id: TopicId::ZERO, partitions }],
    }
}

fn partition(partition: i32, metadata: &str) -> CommitPartition {
    CommitPartition { partition, offset: Offset(1), leader_epoch: None, metadata: metadata.into() }
}

#[test]
fn an_empty_group_id_is_refused_where_members_are_concerned() {
    let mut world = World::new(GroupConfig::default());
    let join = JoinGroup { group: group(""), ..first_join(&mut world, "a") };
    let refused = JoinRefused { error: JoinError::InvalidGroupId, member: None };
    assert_eq!(reply(&mut world, &Command::JoinGroup(join)), Reply::JoinGroup(Err(refused)));
    let sync = SyncGroup {
        token: world.token(),
        group: group(""),
        member: member("a"),
        instance: None,
        generation: Generation(1),
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    };
    assert_eq!(reply(&mut world, &Command::SyncGroup(sync)), Reply::SyncGroup(Err(SyncError::InvalidGroupId)));
    let heartbeat = Heartbeat {
        token: world.token(),
        group: group(""),
        member: member("a"),
        instance: None,
        generation: Generation(1),
    };
    let refused = Reply::Heartbeat(Err(HeartbeatError::InvalidGroupId));
    assert_eq!(reply(&mut world, &Command::Heartbeat(heartbeat)), refused);
    let leave = LeaveGroup { token: world.token(), group: group(""), members: Vec::new() };
    assert_eq!(reply(&mut world, &Command::LeaveGroup(leave)), Reply::LeaveGroup(Err(LeaveError::InvalidGroupId)));
    let delete = OffsetDelete { token: world.token(), group: group(""), topics: Vec::new() };
    let refused = Reply::OffsetDelete(Err(OffsetDeleteError::InvalidGroupId));
    assert_eq!(reply(&mut world, &Command::OffsetDelete(delete)), refused);
}

#[test]
fn an_empty_group_id_may_commit() {
    let mut world = World::new(GroupConfig::default());
    let commit = commit(&mut world, "", vec![partition(0, "")]);
    assert_eq!(world.run(&Command::OffsetCommit(commit)).len(), 2);
    assert_eq!(world.shard.group_count(), 1);
}

#[test]
fn session_timeouts_have_bounds() {
    for (session_timeout_ms, is_legal) in [(5_999, false), (6_000, true), (1_800_000, true), (1_800_001, false)] {
        let mut world = World::new(GroupConfig::default());
        let join = JoinGroup { session_timeout_ms, ..first_join(&mut world, "a") };
        let events = world.run(&Command::JoinGroup(join));
        let refused = matches!(
            events.first(),
            Some(Event::Replied(_, Reply::JoinGroup(Err(JoinRefused { error: JoinError::InvalidSessionTimeout, .. }))))
        );
        assert_eq!(refused, !is_legal, "{session_timeout_ms}: {events:?}");
    }
}

#[test]
fn a_refused_join_makes_no_group() {
    let mut world = World::new(GroupConfig::default());
    let join = JoinGroup { protocols: [].into(), ..first_join(&mut world, "a") };
    let refused = JoinRefused { error: JoinError::InconsistentProtocol, member: None };
    assert_eq!(reply(&mut world, &Command::JoinGroup(join)), Reply::JoinGroup(Err(refused)));
    assert_eq!(world.shard.group_count(), 0);
}

#[test]
fn metadata_is_counted_in_utf16_units() {
    let mut world = World::new(GroupConfig::default());
    let most = "é".repeat(4_096);
    let partitions = vec![partition(0, &most), partition(1, &format!("{most}x")), partition(2, "")];
    let commit = commit(&mut world, "g", partitions);
    let events = world.run(&Command::OffsetCommit(commit));
    let Some(Event::Replied(_, Reply::OffsetCommit(Ok(topics)))) = events.last() else { panic!("{events:?}") };
    let results: Vec<_> = topics[0].partitions.iter().map(|(_, result)| *result).collect();
    assert_eq!(results, [Ok(()), Err(CommitPartitionError::MetadataTooLarge), Ok(())]);
    assert_eq!(events.len(), 3);
}

#[test]
fn a_generation_needs_its_group() {
    let mut world = World::new(GroupConfig::default());
    let commit = OffsetCommit { generation: Generation(1), ..commit(&mut world, "g", vec![partition(0, "")]) };
    let refused = Reply::OffsetCommit(Err(CommitError::GroupNotFound));
    assert_eq!(reply(&mut world, &Command::OffsetCommit(commit)), refused);
}

#[test]
fn a_group_named_twice_is_deleted_once() {
    let mut world = World::new(GroupConfig::default());
    let commit = commit(&mut world, "g", vec![partition(0, "")]);
    world.run(&Command::OffsetCommit(commit));
    let delete = DeleteGroups { token: world.token(), groups: vec![group("h"), group("g"), group("g")] };
    let events = world.run(&Command::DeleteGroups(delete));
    let results = vec![(group("g"), Ok(())), (group("h"), Err(DeleteGroupError::GroupNotFound))];
    assert!(matches!(events.last(), Some(Event::Replied(_, Reply::DeleteGroups(got))) if *got == results));
    assert_eq!((events.len(), world.shard.group_count()), (3, 0));
}

#[test]
fn a_long_work_is_cut_into_passes() {
    let mut world = World::new(GroupConfig::default());
    for id in ["f", "g", "h"] {
        let commit = commit(&mut world, id, (0..7_000).map(|at| partition(at, "")).collect());
        world.run(&Command::OffsetCommit(commit));
    }
    assert_eq!(world.shard.counts().offsets, 21_000);
    let topic = (TopicName::new("t").unwrap(), TopicId::ZERO);
    let command = Command::TopicsDeleted { topics: [topic].into(), after: None };
    let decision = world.shard.decide(world.now(), &command);
    assert_eq!(decision.records.len(), 14_000);
    assert!(!decision.atomic && decision.again.is_some());
    assert_eq!(world.run(&command).len(), 21_000);
    assert_eq!(world.shard.counts().offsets, 0);
    // The groups have nothing left: the next expiry removes them.
    let events = world.pass(world.config.expiry_interval_ms);
    assert!(events.iter().all(|event| matches!(event, Event::Logged(Record::GroupMetadata { value: None, .. }))));
    assert_eq!((events.len(), world.shard.group_count()), (3, 0));
}

#[test]
fn a_member_with_too_many_protocols_is_refused_and_those_with_many_agree() {
    let mut world = World::new(GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() });
    let named = |count: usize, last: &str| protocols(&format!("{}{last}", "x,".repeat(count - 1)));
    let too_many = JoinGroup { protocols: named(PROTOCOLS_MAX + 1, "range"), ..first_join(&mut world, "a") };
    let refused = reply(&mut world, &Command::JoinGroup(too_many));
    assert_eq!(refused, Reply::JoinGroup(Err(JoinRefused { error: JoinError::InconsistentProtocol, member: None })));
    let many = JoinGroup {
        protocols: named(PROTOCOLS_MAX, "range"),
        known_member_required: false,
        ..first_join(&mut world, "a")
    };
    world.run(&Command::JoinGroup(many));
    world.pass(1);
    // Named often by one member, `x` is not supported by both.
    let other =
        JoinGroup { protocols: protocols("y,range"), known_member_required: false, ..first_join(&mut world, "b") };
    let none = JoinGroup { protocols: protocols("y"), known_member_required: false, ..first_join(&mut world, "c") };
    let refused = reply(&mut world, &Command::JoinGroup(none));
    assert_eq!(refused, Reply::JoinGroup(Err(JoinRefused { error: JoinError::InconsistentProtocol, member: None })));
    assert!(world.run(&Command::JoinGroup(other)).is_empty(), "it waits for the first to join again");
}

#[test]
fn ids_that_were_given_out_cost_later_joins_nothing() {
    let mut world = World::new(GroupConfig::default());
    for at in 0..100 {
        let join = first_join(&mut world, &format!("m{at}"));
        world.run(&Command::JoinGroup(join));
    }
    assert_eq!(world.shard.groups[&group("g")].pending_joins.len(), 100);
    let join = first_join(&mut world, "last");
    let decision = world.shard.decide(world.now(), &Command::JoinGroup(join));
    assert_eq!(decision.drafts[0].pending.len(), 1, "only what changes is copied");
}
