//! Random lives of groups: nothing panics, and what the world checks after each step holds.

use std::sync::Arc;

use proptest::prelude::*;

use super::world::{Event, World, first_join, group, instance, member, protocols};
use crate::coordinator::group::{
    ClientId, Command, CommitPartition, CommitTopic, DeleteGroups, Generation, GroupConfig, GroupId, GroupMetadata,
    Heartbeat, JoinGroup, LeaveGroup, LeavingMember, MemberId, OffsetCommit, OffsetDelete, ProtocolType, Record, Reply,
    Shard, SyncGroup, TimerKey,
};
use crate::types::{Offset, TopicId, TopicName};

/// A step; numbers choose among what is there when it is taken.
#[derive(Clone, Debug)]
enum Step {
    Join { who: usize, with_id: bool, instance: Option<usize>, protocols: usize, version: i16 },
    Sync { who: usize, generation_off: i32, leader_assigns: bool },
    Heartbeat { who: usize, generation_off: i32 },
    Leave { who: usize, by_instance: bool },
    Commit { who: Option<usize>, partition: i32, offset: i64, retention: bool },
    DeleteOffset { partition: i32 },
    DeleteGroup,
    TopicDeleted,
    Pass { ms: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let off = prop_oneof![9 => Just(0), 1 => -1..2_i32];
    prop_oneof![
        8 => (0..6_usize, any::<bool>(), prop::option::weighted(0.3, 0..2_usize), 0..4_usize, 3..10_i16).prop_map(
            |(who, with_id, instance, protocols, version)| Step::Join { who, with_id, instance, protocols, version }
        ),
        8 => (0..6_usize, off.clone(), prop::bool::weighted(0.9)).prop_map(|(who, generation_off, leader_assigns)| {
            Step::Sync { who, generation_off, leader_assigns }
        }),
        3 => (0..6_usize, off).prop_map(|(who, generation_off)| Step::Heartbeat { who, generation_off }),
        2 => (0..6_usize, any::<bool>()).prop_map(|(who, by_instance)| Step::Leave { who, by_instance }),
        4 => (prop::option::of(0..6_usize), 0..3, 0..100_i64, prop::bool::weighted(0.1)).prop_map(
            |(who, partition, offset, retention)| Step::Commit { who, partition, offset, retention }
        ),
        1 => (0..3).prop_map(|partition| Step::DeleteOffset { partition }),
        1 => Just(Step::DeleteGroup),
        1 => Just(Step::TopicDeleted),
        5 => prop_oneof![Just(0), Just(500), Just(3_000), Just(9_000), Just(31_000)].prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Pass { ms: 400_000_000 }),
        1 => Just(Step::Restart),
    ]
}

const PROTOCOLS: [&str; 4] = ["range:t", "range:t,sticky:t", "sticky:t,range:t+u", "other:t"];

/// Everybody who is or could be a member, by a number.
fn pick(world: &World, who: usize) -> MemberId {
    let Some(group) = world.shard.groups.get("g") else { return member("nobody") };
    let known: Vec<&MemberId> = group.classic.members.keys().chain(&group.pending_joins).collect();
    match who.checked_rem(known.len() + 1) {
        Some(at) if at < known.len() => known[at].clone(),
        _ => member("nobody"),
    }
}

fn generation(world: &World) -> i32 {
    world.shard.groups.get("g").map_or(0, |group| group.classic.generation.0)
}

fn command(world: &mut World, step: &Step) -> Option<Command> {
    let g = || group("g");
    Some(match step {
        Step::Join { who, with_id, instance: holder, protocols: at, version } => {
            let id = pick(world, *who);
            let held = world.shard.groups.get("g").and_then(|group| group.classic.members.get(&id)?.instance.clone());
            Command::JoinGroup(JoinGroup {
                member: with_id.then_some(id),
                instance: if *with_id { held } else { holder.map(|at| instance(["i", "j"][at])) },
                protocols: protocols(PROTOCOLS[*at]),
                known_member_required: *version >= 4,
                skips_assignment: *version >= 9,
                client_id: ClientId::new("c").unwrap(),
                protocol_type: ProtocolType::new("consumer").unwrap(),
                ..first_join(world, "c")
            })
        }
        Step::Sync { who, generation_off, leader_assigns } => {
            let id = pick(world, *who);
            let assignments = if *leader_assigns { vec![(id.clone(), "A".into())] } else { Vec::new() };
            Command::SyncGroup(SyncGroup {
                token: world.token(),
                group: g(),
                member: id,
                instance: None,
                generation: Generation(generation(world) + generation_off),
                protocol_type: None,
                protocol: None,
                assignments,
            })
        }
        Step::Heartbeat { who, generation_off } => Command::Heartbeat(Heartbeat {
            token: world.token(),
            group: g(),
            member: pick(world, *who),
            instance: None,
            generation: Generation(generation(world) + generation_off),
        }),
        Step::Leave { who, by_instance } => {
            let leaving = match by_instance {
                true => LeavingMember { member: None, instance: Some(instance(["i", "j"][who % 2])) },
                false => LeavingMember { member: Some(pick(world, *who)), instance: None },
            };
            Command::LeaveGroup(LeaveGroup { token: world.token(), group: g(), members: vec![leaving] })
        }
        Step::Commit { who, partition, offset, retention } => {
            let partitions = vec![CommitPartition {
                partition: *partition,
                offset: Offset(*offset),
                leader_epoch: None,
                metadata: "".into(),
            }];
            let name = TopicName::new(["t", "u"][*partition as usize % 2]).unwrap();
            Command::OffsetCommit(OffsetCommit {
                token: world.token(),
                group: g(),
                member: who.map(|who| pick(world, who)),
                instance: None,
                generation: Generation(who.map_or(-1, |_| generation(world))),
                retention_ms: retention.then_some(1_000),
                knows_epochs: true,
                topics: vec![CommitTopic { name, id: TopicId::ZERO, partitions }],
            })
        }
        Step::DeleteOffset { partition } => Command::OffsetDelete(OffsetDelete {
            token: world.token(),
            group: g(),
            topics: vec![(TopicName::new("u").unwrap(), vec![*partition])],
        }),
        Step::DeleteGroup => Command::DeleteGroups(DeleteGroups { token: world.token(), groups: vec![g()] }),
        Step::TopicDeleted => {
            let topic = (TopicName::new("t").unwrap(), TopicId::ZERO);
            Command::TopicsDeleted { topics: Arc::new([topic]), after: None }
        }
        Step::Pass { .. } | Step::Restart => return None,
    })
}

/// A committed offset changes by an accepted commit, a deletion, or expiry, and by nothing else.
fn check_offsets(command: Option<&Command>, events: &[Event]) {
    let accepted = events.iter().any(|event| matches!(event, Event::Replied(_, Reply::OffsetCommit(Ok(_)))));
    for event in events {
        let Event::Logged(Record::OffsetCommit { value, .. }) = event else { continue };
        match (value, command) {
            (Some(_), Some(Command::OffsetCommit(_))) => assert!(accepted),
            (
                None,
                None
                | Some(Command::OffsetDelete(_) | Command::DeleteGroups(_) | Command::TopicsDeleted { .. })
                | Some(Command::TimerFired(TimerKey::Expiry)),
            ) => {}
            other => panic!("an offset changed by {other:?}"),
        }
    }
}

/// Offsets and generations, as far as records hold them.
fn durable(shard: &Shard) -> Vec<(GroupId, GroupMetadata, usize)> {
    let groups = shard.groups.iter().filter(|(_, group)| {
        !group.offsets.is_empty() || group.classic.state_since.is_some() || group.classic.protocol_type.is_some()
    });
    groups.map(|(id, group)| (id.clone(), group.classic.to_record(), group.offsets.len())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn groups_live_by_their_rules(steps in prop::collection::vec(step(), 1..80), delay in prop_oneof![Just(0), Just(3_000)], max in 1..5_usize) {
        let config =
            GroupConfig { initial_rebalance_delay_ms: delay, group_size_max: max, ..GroupConfig::default() };
        let mut world = World::new(config);
        for step in &steps {
            let command = command(&mut world, step);
            let events = match (&command, step) {
                (Some(command), _) => world.run(command),
                (None, Step::Pass { ms }) => world.pass(*ms),
                (None, _) => world.restart(),
            };
            check_offsets(command.as_ref(), &events);
        }
        // The whole log and what compaction leaves of it say the same.
        let mut replayed = Shard::new(world.config.clone());
        for record in &world.log {
            replayed.replay_encoded(&record.key, record.value.as_deref()).unwrap();
        }
        let loaded = Shard::load(world.config.clone(), &world.store).unwrap();
        prop_assert_eq!(durable(&replayed), durable(&loaded));
        let backward = Shard::load(world.config.clone(), world.store.iter().rev()).unwrap();
        prop_assert_eq!(durable(&backward), durable(&loaded), "the order of entries does not matter");
        for (id, group) in &loaded.groups {
            prop_assert_eq!(&group.offsets, &replayed.groups[id].offsets);
        }
    }

    /// Every parked join and sync is answered in the end: no client waits for ever.
    #[test]
    fn nobody_waits_for_ever(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(GroupConfig::default());
        for step in &steps {
            let command = command(&mut world, step);
            match (&command, step) {
                (Some(command), _) => drop(world.run(command)),
                (None, Step::Pass { ms }) => drop(world.pass(*ms)),
                (None, _) => drop(world.restart()),
            }
        }
        world.pass(1_000_000);
        prop_assert!(world.parked.is_empty(), "{:?} still wait", world.parked);
    }
}
