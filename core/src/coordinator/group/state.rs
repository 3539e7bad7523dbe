//! A group, and a classic group's members.
//!
//! Committed offsets and the latest generation are in records. Who waits for what, which ids were given out and not
//! yet used, all the protocols that a member supports: this is volatile, as it is in Kafka. It changes by drafts: a
//! decision works on a copy, which takes the original's place when the decision is applied.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::command::Protocol;
use super::consumer::ConsumerGroup;
use super::ids::{
    ClientHost, ClientId, Generation, GroupId, InstanceId, MemberId, ProtocolName, ProtocolType, ReplyToken,
};
use super::offsets::Offsets;
use super::record::{GroupMetadata, Record, StoredMember};
use super::reply::{GroupState, JoinedMember};
use super::share::ShareGroup;
use super::streams::StreamsGroup;
use super::subscription::read_topics;
use crate::types::Timestamp;

/// Protocols that one member may name. Clients name a handful; each costs a look at every rebalance.
pub(super) const PROTOCOLS_MAX: usize = 1_000;

/// A group: there as long as it has a generation or offsets in records.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub classic: ClassicGroup,
    /// Members that got an id and were told to come back with it.
    pub pending_joins: BTreeSet<MemberId>,
    /// A group of the consumer protocol: then there is nothing of the classic one.
    pub consumer: Option<Box<ConsumerGroup>>,
    /// A share group: the same.
    pub share: Option<Box<ShareGroup>>,
    /// A streams group: the same.
    pub streams: Option<Box<StreamsGroup>>,
    pub offsets: Offsets,
}

/// A group of the classic protocol (`ClassicGroup`). Without a protocol type it is one that only keeps offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct ClassicGroup {
    pub phase: Phase,
    /// Since when the group is in its phase.
    pub state_since: Option<Timestamp>,
    pub protocol_type: Option<ProtocolType>,
    pub generation: Generation,
    pub protocol: Option<ProtocolName>,
    /// One of `members`, where there are any.
    pub leader: Option<MemberId>,
    pub members: BTreeMap<MemberId, Arc<Member>>,
    /// Which member has which instance id.
    pub static_members: BTreeMap<InstanceId, MemberId>,
    /// Members of this generation that have not asked for their assignment.
    pub pending_syncs: BTreeSet<MemberId>,
    /// The topics that this generation subscribes to, where they can be known.
    pub subscribed: Option<Arc<BTreeSet<Arc<str>>>>,
}

/// Where a group stands between two generations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// No members. Ids may have been given out.
    #[default]
    Empty,
    /// Members are to join. `initial` if the group was empty before.
    PreparingRebalance {
        initial: Option<InitialDelay>,
    },
    /// All have joined and the leader assigns.
    CompletingRebalance,
    Stable,
}

/// An empty group waits for more members, longer while they come (KIP-134).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    /// What the running timer waits.
    pub delay_ms: i32,
    /// What may still be added to it.
    pub remaining_ms: i32,
    /// A member came while the timer ran.
    pub member_added: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub instance: Option<InstanceId>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In the member's order of preference. After a load only the chosen one is known.
    pub protocols: Arc<[Protocol]>,
    pub assignment: Bytes,
    pub awaiting_join: Option<ReplyToken>,
    pub awaiting_sync: Option<ReplyToken>,
    /// Has never been in a generation: may time out while its join is parked.
    pub is_new: bool,
}

/// Why a request does not come from a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotMember {
    Unknown,
    Fenced,
}

impl Group {
    /// Of the classic protocol, or one that only keeps offsets.
    pub fn is_classic(&self) -> bool {
        self.consumer.is_none() && self.share.is_none() && self.streams.is_none()
    }

    /// Nobody is a member. Ids may have been given out.
    pub fn is_empty(&self) -> bool {
        match (&self.consumer, &self.share, &self.streams) {
            (Some(consumer), ..) => consumer.members.is_empty(),
            (_, Some(share), _) => share.members.is_empty(),
            (.., Some(streams)) => streams.members.is_empty(),
            (None, None, None) => self.classic.phase == Phase::Empty,
        }
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match (&self.consumer, &self.share, &self.streams) {
            (Some(consumer), ..) => consumer.is_subscribed_to(topic),
            (_, Some(share), _) => share.is_subscribed_to(topic),
            (.., Some(streams)) => streams.is_subscribed_to(topic),
            (None, None, None) => self.classic.is_subscribed_to(topic),
        }
    }

    /// What takes the group away, but for its offsets.
    pub fn tombstones(&self, id: &GroupId) -> Vec<Record> {
        match (&self.consumer, &self.share, &self.streams) {
            (Some(consumer), ..) => {
                let changes = super::consumer::tombstones(consumer).into_iter();
                changes.map(|change| Record::Consumer { group: id.clone(), change }).collect()
            }
            (_, Some(share), _) => {
                let changes = share.tombstones().into_iter();
                changes.map(|change| Record::Share { group: id.clone(), change }).collect()
            }
            (.., Some(streams)) => {
                let changes = streams.tombstones().into_iter();
                changes.map(|change| Record::Streams { group: id.clone(), change }).collect()
            }
            (None, None, None) => vec![Record::GroupMetadata { group: id.clone(), value: None }],
        }
    }
}

impl ClassicGroup {
    pub fn new(now: Timestamp) -> Self {
        Self { state_since: Some(now), ..Self::default() }
    }

    /// The group as a record has it: stable or empty.
    pub fn from_record(value: &GroupMetadata) -> Self {
        let protocol_type = value.protocol_type.clone();
        let mut group = Self {
            phase: if value.members.is_empty() { Phase::Empty } else { Phase::Stable },
            state_since: value.state_since,
            protocol_type,
            generation: value.generation,
            protocol: value.protocol.clone(),
            ..Self::default()
        };
        for stored in &value.members {
            if let Some(instance) = &stored.instance {
                group.static_members.insert(instance.clone(), stored.id.clone());
            }
            group.members.insert(stored.id.clone(), Arc::new(Member::from_record(stored, value.protocol.as_ref())));
        }
        group.leader = value.leader.clone().filter(|leader| group.members.contains_key(leader));
        if group.leader.is_none() {
            group.leader = group.members.keys().next().cloned();
        }
        group.subscribed = group.compute_subscribed();
        group
    }

    /// The record of the group as it stands.
    pub fn to_record(&self) -> GroupMetadata {
        let stored = |(id, member): (&MemberId, &Arc<Member>)| StoredMember {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_ref()),
            assignment: member.assignment.clone(),
        };
        GroupMetadata {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since: self.state_since,
            members: self.members.iter().map(stored).collect(),
        }
    }

    pub fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::PreparingRebalance { .. } => GroupState::PreparingRebalance,
            Phase::CompletingRebalance => GroupState::CompletingRebalance,
            Phase::Stable => GroupState::Stable,
        }
    }

    pub fn is_leader(&self, member: &MemberId) -> bool {
        self.leader.as_ref() == Some(member)
    }

    /// Whether a request comes from a member, and from the one that holds the instance id if it names one.
    pub fn validate_member(&self, member: &MemberId, instance: Option<&InstanceId>) -> Result<(), NotMember> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(NotMember::Unknown),
                Some(holder) if holder != member => return Err(NotMember::Fenced),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(NotMember::Unknown) }
    }

    /// A copy of the member, if shared, to be changed. Panics for one that is not there: callers have looked.
    pub fn member_mut(&mut self, id: &MemberId) -> &mut Member {
        Arc::make_mut(self.members.get_mut(id).expect("the member was looked up before"))
    }

    pub fn awaiting_joins(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }

    /// The longest of the members'.
    pub fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0).max(0)
    }

    pub fn add(&mut self, id: MemberId, member: Member, protocol_type: &ProtocolType) {
        if let Some(instance) = &member.instance {
            self.static_members.insert(instance.clone(), id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.members.insert(id, Arc::new(member));
    }

    /// Forgets a member. A leader is followed by the first of the others.
    pub fn remove(&mut self, id: &MemberId) -> Option<Arc<Member>> {
        let removed = self.members.remove(id);
        if let Some(instance) = removed.as_ref().and_then(|member| member.instance.as_ref()) {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_syncs.remove(id);
        removed
    }

    /// All members with what they say for the chosen protocol, for the leader.
    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let joined = |(id, member): (&MemberId, &Arc<Member>)| JoinedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(self.protocol.as_ref()),
        };
        self.members.iter().map(joined).collect()
    }

    /// Whether a member with these protocols can be in the group: all members must have one in common.
    pub fn supports(&self, protocol_type: &ProtocolType, protocols: &[Protocol]) -> bool {
        if protocols.len() > PROTOCOLS_MAX {
            return false;
        }
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(protocol_type) && !self.supported_by_all(protocols).is_empty()
    }

    /// Which of `protocols` all members support.
    fn supported_by_all<'a>(&self, protocols: &'a [Protocol]) -> BTreeSet<&'a ProtocolName> {
        // How many members support each. A member counts once, however often it names one.
        let mut counts: BTreeMap<&ProtocolName, usize> = protocols.iter().map(|own| (&own.name, 0)).collect();
        for (before, member) in self.members.values().enumerate() {
            for own in member.protocols.iter() {
                if let Some(count) = counts.get_mut(&own.name).filter(|count| **count == before) {
                    *count += 1;
                }
            }
        }
        counts.into_iter().filter(|(_, count)| *count == self.members.len()).map(|(name, _)| name).collect()
    }

    /// The protocol with the most votes: each member votes for the first of its own that all support.
    /// `None` without members.
    pub fn select_protocol(&self) -> Option<ProtocolName> {
        let candidates = self.supported_by_all(&self.members.values().next()?.protocols);
        // Votes, and how late the first of them came: of those with the most, the first wins in every run.
        let mut votes: BTreeMap<&ProtocolName, (usize, Reverse<usize>)> = BTreeMap::new();
        for (before, member) in self.members.values().enumerate() {
            let vote = member.protocols.iter().map(|protocol| &protocol.name).find(|name| candidates.contains(name));
            let Some(vote) = vote else { continue };
            votes.entry(vote).or_insert((0, Reverse(before))).0 += 1;
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.clone())
    }

    /// The topics that the members subscribe to. `None` where the group does not use the consumer protocol or its
    /// subscriptions cannot be read.
    pub fn compute_subscribed(&self) -> Option<Arc<BTreeSet<Arc<str>>>> {
        if !self.protocol_type.as_ref().is_some_and(ProtocolType::is_consumer) {
            return None;
        }
        let mut topics = BTreeSet::new();
        if self.members.is_empty() {
            return Some(Arc::new(topics));
        }
        let protocol = self.protocol.as_ref()?;
        for member in self.members.values() {
            read_topics(&member.metadata(Some(protocol)), &mut topics).ok()?;
        }
        Some(Arc::new(topics))
    }

    /// Whether members subscribe to `topic`. Consumers whose subscriptions are not known count as subscribed.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type.as_ref().is_some_and(ProtocolType::is_consumer),
        }
    }
}

impl Member {
    fn from_record(stored: &StoredMember, protocol: Option<&ProtocolName>) -> Self {
        let known = protocol.map(|name| Protocol { name: name.clone(), metadata: stored.subscription.clone() });
        Self {
            instance: stored.instance.clone(),
            client_id: stored.client_id.clone(),
            client_host: stored.client_host.clone(),
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            session_timeout_ms: stored.session_timeout_ms,
            protocols: known.into_iter().collect(),
            assignment: stored.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    /// What the member says for `protocol`. Empty if it does not support it, which no chosen protocol comes to.
    pub fn metadata(&self, protocol: Option<&ProtocolName>) -> Bytes {
        let own = self.protocols.iter().find(|own| Some(&own.name) == protocol);
        own.map(|own| own.metadata.clone()).unwrap_or_default()
    }

    /// Whether silence can be forgiven: a member that waits for us sends no heartbeats.
    pub fn is_excused(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}
