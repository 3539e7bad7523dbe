//! A shard with what a runtime puts around it: a clock, timers, a log, parked replies. Every record passes through
//! its encoding, every decision is applied, and what must always hold is checked after each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::group::consumer::ConsumerGroup;
use crate::coordinator::group::share::ShareGroup;
use crate::coordinator::group::state::{Group, Phase};
use crate::coordinator::group::streams::StreamsGroup;
use crate::coordinator::group::{
    ClientHost, ClientId, Command, CommittedOffset, Effect, EncodedRecord, Generation, GroupConfig, GroupId,
    InstanceId, JoinGroup, MemberId, OffsetKey, Protocol, ProtocolName, ProtocolType, Record, Reply, ReplyToken, Shard,
    TimerChange, TimerKey,
};
use crate::coordinator::timers::Timers;
use crate::types::Timestamp;

pub struct World {
    pub shard: Shard,
    pub now_ms: u64,
    pub timers: Timers<TimerKey>,
    /// The log after compaction: what the store holds.
    pub store: BTreeMap<Bytes, Bytes>,
    /// All that was ever appended.
    pub log: Vec<EncodedRecord>,
    /// Tokens that wait for a reply.
    pub parked: BTreeSet<ReplyToken>,
    pub config: Arc<GroupConfig>,
    /// What was asked for and not done yet.
    pub effects: Vec<Effect>,
    next_token: u64,
    next_ids: BTreeMap<String, u64>,
}

/// What happened, in order.
#[derive(Debug)]
pub enum Event {
    Logged(Record),
    Replied(ReplyToken, Reply),
}

pub const START: i64 = 1_700_000_000_000;

impl World {
    pub fn new(config: GroupConfig) -> Self {
        let config = Arc::new(config);
        let mut world = Self {
            shard: Shard::new(config.clone()),
            now_ms: 0,
            timers: Timers::default(),
            store: BTreeMap::new(),
            log: Vec::new(),
            parked: BTreeSet::new(),
            config,
            effects: Vec::new(),
            next_token: 0,
            next_ids: BTreeMap::new(),
        };
        assert!(world.run(&Command::Loaded).is_empty());
        world
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(START).plus_ms(self.now_ms as i64)
    }

    pub fn token(&mut self) -> ReplyToken {
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        self.parked.insert(token);
        token
    }

    pub fn fresh_member(&mut self, name: &str) -> MemberId {
        let next = self.next_ids.entry(name.to_owned()).or_default();
        *next += 1;
        member(&format!("{name}{next}"))
    }

    /// Decides, logs, applies; and again while there is more to do.
    pub fn run(&mut self, command: &Command) -> Vec<Event> {
        let mut events = Vec::new();
        let mut next = Some(command.clone());
        while let Some(command) = next {
            next = self.step(&command, &mut events);
            self.check();
        }
        events
    }

    fn step(&mut self, command: &Command, events: &mut Vec<Event>) -> Option<Command> {
        let before: BTreeMap<GroupId, Generation> = self
            .shard
            .groups
            .iter()
            .filter(|(_, group)| group.is_classic())
            .map(|(id, group)| (id.clone(), group.classic.generation))
            .collect();
        let decision = self.shard.decide(self.now(), command);
        for record in &decision.records {
            let encoded = record.encode();
            let decoded = Record::decode(&encoded.key, encoded.value.as_deref()).unwrap();
            assert_eq!(decoded.as_ref(), Some(record), "a record changed by its encoding");
            match &encoded.value {
                Some(value) => self.store.insert(encoded.key.clone(), value.clone()),
                None => self.store.remove(&encoded.key),
            };
            self.log.push(encoded);
            events.push(Event::Logged(record.clone()));
        }
        let applied = self.shard.apply(decision);
        for (id, group) in self.shard.groups.iter().filter(|(_, group)| group.classic.phase != Phase::Empty) {
            let Some(was) = before.get(id).copied() else { continue };
            let grew = group.classic.generation == was || group.classic.generation == was.next();
            assert!(grew, "{id}: generation {was} became {}", group.classic.generation);
        }
        for change in applied.timers {
            match change {
                TimerChange::Set { key, after_ms } => {
                    assert!(after_ms > 0, "{key:?} would be due again at once, for ever");
                    self.timers.set(key, self.now_ms + after_ms);
                }
                TimerChange::Cancel(key) => self.timers.cancel(&key),
            }
        }
        for (token, reply) in applied.replies {
            assert!(self.parked.remove(&token), "{token:?} answered twice: {reply:?}");
            events.push(Event::Replied(token, reply));
        }
        self.effects.extend(applied.effects);
        applied.again
    }

    /// Lets time pass; due timers fire in order.
    pub fn pass(&mut self, ms: u64) -> Vec<Event> {
        let end = self.now_ms + ms;
        let mut events = Vec::new();
        while let Some(deadline) = self.timers.next_deadline_ms().filter(|deadline| *deadline <= end) {
            self.now_ms = self.now_ms.max(deadline);
            let key = self.timers.pop_due(self.now_ms).expect("it is due");
            events.extend(self.run(&Command::TimerFired(key)));
        }
        self.now_ms = end;
        events
    }

    /// Another node takes over with what is stored: what was parked here is lost.
    pub fn restart(&mut self) -> Vec<Event> {
        self.timers = Timers::default();
        self.parked.clear();
        self.effects.clear();
        let surroundings = self.shard.surroundings.clone();
        self.shard = Shard::load(self.config.clone(), &self.store).unwrap();
        let mut events = self.run(&Command::SurroundingsChanged(surroundings));
        events.extend(self.run(&Command::Loaded));
        events
    }

    fn check(&self) {
        for (id, group) in &self.shard.groups {
            check_group(id, group, &self.parked);
        }
        self.check_stored();
        self.check_consumer_groups();
    }

    /// Consumer, share and streams groups are all that was stored, and nothing else.
    fn check_consumer_groups(&self) {
        let loaded = Shard::load(self.config.clone(), &self.store).unwrap();
        let consumers = |shard: &Shard| -> BTreeMap<GroupId, ConsumerGroup> {
            let of = |(id, group): (&GroupId, &Group)| {
                let mut consumer = group.consumer.as_deref()?.clone();
                consumer.forget_softly();
                Some((id.clone(), consumer))
            };
            shard.groups.iter().filter_map(of).collect()
        };
        assert_eq!(consumers(&self.shard), consumers(&loaded));
        let shares = |shard: &Shard| -> BTreeMap<GroupId, ShareGroup> {
            let of = |(id, group): (&GroupId, &Group)| {
                let mut share = group.share.as_deref()?.clone();
                share.forget_softly();
                Some((id.clone(), share))
            };
            shard.groups.iter().filter_map(of).collect()
        };
        assert_eq!(shares(&self.shard), shares(&loaded));
        let streams = |shard: &Shard| -> BTreeMap<GroupId, StreamsGroup> {
            let of = |(id, group): (&GroupId, &Group)| {
                let mut streams = group.streams.as_deref()?.clone();
                streams.forget_softly();
                Some((id.clone(), streams))
            };
            shard.groups.iter().filter_map(of).collect()
        };
        assert_eq!(streams(&self.shard), streams(&loaded));
        for group in streams(&loaded).values() {
            assert_eq!(group.holders.doubles(), Vec::new(), "tasks that are active twice");
        }
        for group in consumers(&loaded).values() {
            let held: usize = group.holders.values().map(BTreeMap::len).sum();
            let claimed: usize = group.members.values().map(|member| member.current.held().count()).sum();
            assert_eq!(held, claimed, "a partition has two owners");
        }
    }

    /// What is in memory is what was stored, but for generations in the making.
    fn check_stored(&self) {
        let mut offsets: BTreeMap<OffsetKey, CommittedOffset> = BTreeMap::new();
        for (key, value) in &self.store {
            match Record::decode(key, Some(value)).unwrap() {
                Some(Record::OffsetCommit { key, value: Some(value) }) => {
                    offsets.insert(key, value);
                }
                Some(Record::GroupMetadata { group, value: Some(value) }) => {
                    let classic = &self.shard.groups.get(&group).expect("a stored group is there").classic;
                    match classic.phase {
                        Phase::Stable => assert_eq!(classic.to_record(), value),
                        Phase::Empty if classic.protocol_type.is_some() => assert_eq!(classic.to_record(), value),
                        _ => assert!(value.generation <= classic.generation),
                    }
                }
                Some(Record::Consumer { .. } | Record::Share { .. } | Record::Streams { .. }) => {}
                other => panic!("{other:?} in the store"),
            }
        }
        let mut held = BTreeMap::new();
        for (id, group) in &self.shard.groups {
            for topic in group.offsets.topics() {
                for (partition, committed) in group.offsets.of_topic(topic.as_str()) {
                    held.insert(OffsetKey { group: id.clone(), topic: topic.clone(), partition }, committed);
                }
            }
        }
        assert_eq!(held, offsets);
    }
}

fn check_group(id: &GroupId, group: &Group, parked: &BTreeSet<ReplyToken>) {
    let classic = &group.classic;
    assert_eq!(classic.phase == Phase::Empty, classic.members.is_empty() && !is_preparing(&classic.phase), "{id}");
    match &classic.leader {
        Some(leader) => assert!(classic.members.contains_key(leader), "{id}: the leader {leader} is no member"),
        None => assert!(classic.members.is_empty(), "{id}: members without a leader"),
    }
    let held: BTreeMap<InstanceId, MemberId> = classic
        .members
        .iter()
        .filter_map(|(member, known)| known.instance.clone().map(|instance| (instance, member.clone())))
        .collect();
    assert_eq!(held, classic.static_members, "{id}");
    for (member, known) in &classic.members {
        assert!(!group.pending_joins.contains(member), "{id}: {member} is a member and pending");
        for token in known.awaiting_join.iter().chain(&known.awaiting_sync) {
            assert!(parked.contains(token), "{id}: {member} waits with a token that is answered");
        }
        match classic.phase {
            Phase::Stable => assert!(known.awaiting_join.is_none() && known.awaiting_sync.is_none(), "{id}: {member}"),
            Phase::CompletingRebalance => assert!(known.awaiting_join.is_none(), "{id}: {member}"),
            Phase::PreparingRebalance { .. } => assert!(known.awaiting_sync.is_none(), "{id}: {member}"),
            Phase::Empty => {}
        }
    }
    if matches!(classic.phase, Phase::Stable | Phase::CompletingRebalance) {
        let protocol = classic.protocol.as_ref().expect("a generation has a protocol");
        for member in classic.members.values() {
            assert!(member.protocols.iter().any(|own| own.name == *protocol), "{id}: {protocol} is not for all");
        }
    }
    for member in &classic.pending_syncs {
        assert!(classic.members.contains_key(member), "{id}: {member} is to sync and no member");
    }
}

/// While an empty group waits for members, those who came may be gone again.
fn is_preparing(phase: &Phase) -> bool {
    matches!(phase, Phase::PreparingRebalance { .. })
}

pub fn group(id: &str) -> GroupId {
    GroupId::new(id).unwrap()
}

pub fn member(id: &str) -> MemberId {
    MemberId::new(id).unwrap()
}

pub fn instance(id: &str) -> InstanceId {
    InstanceId::new(id).unwrap()
}

/// Protocols from `range:t1+t2,sticky:t1`: each with a subscription to its topics.
pub fn protocols(text: &str) -> Arc<[Protocol]> {
    let protocol = |part: &str| {
        let (name, topics) = part.split_once(':').unwrap_or((part, ""));
        Protocol { name: ProtocolName::new(name).unwrap(), metadata: subscription(topics) }
    };
    text.split(',').filter(|part| !part.is_empty()).map(protocol).collect()
}

/// Version 0 of a consumer's subscription.
fn subscription(topics: &str) -> Bytes {
    let topics: Vec<&str> = topics.split('+').filter(|topic| !topic.is_empty()).collect();
    let mut bytes = vec![0, 0];
    bytes.extend_from_slice(&(topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend_from_slice(&(topic.len() as i16).to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
    }
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.into()
}

/// A join as most consumers send it, without an id yet.
pub fn first_join(world: &mut World, name: &str) -> JoinGroup {
    JoinGroup {
        token: world.token(),
        group: group("g"),
        member: None,
        fresh_member: world.fresh_member(name),
        instance: None,
        client_id: ClientId::new(name).unwrap(),
        client_host: ClientHost::new("/127.0.0.1").unwrap(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: ProtocolType::new("consumer").unwrap(),
        protocols: protocols("range:t"),
        known_member_required: true,
        skips_assignment: true,
    }
}
