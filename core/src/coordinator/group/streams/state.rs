//! A streams group: all that its records say, and indexes over it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::consumer::{Epoch, TargetEpoch};
use super::super::ids::MemberId;
use super::super::record::StreamsChange;
use super::configure::Configured;
use super::holders::Holders;
use super::member::{StreamsCurrent, StreamsMember};
use super::tasks::Tasks;
use super::topology::Topology;
use crate::types::Timestamp;

/// No topics were found to fit a topology.
pub const NOT_VALIDATED: i32 = -1;

/// Settings that an assignment was computed with, by name.
pub type AssignmentConfigs = BTreeMap<Arc<str>, Arc<str>>;

/// The group's epoch, and what was true of the cluster then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsEpoch {
    pub epoch: i32,
    /// Of the topics of the topology.
    pub metadata_hash: i64,
    /// The topology's epoch for which the topics were found to be there and to fit, or [`NOT_VALIDATED`].
    pub validated_topology_epoch: i32,
    pub configs: Arc<AssignmentConfigs>,
}

impl Default for StreamsEpoch {
    /// Of a new group, whose members have an epoch before the first target is computed: 0 is that of who joins.
    fn default() -> Self {
        Self { epoch: Epoch::FIRST, metadata_hash: 0, validated_topology_epoch: 0, configs: Arc::default() }
    }
}

/// The state as clients are told it (`StreamsGroup.StreamsGroupState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamsState {
    Empty,
    /// Topics are missing, or do not fit the topology.
    NotReady,
    /// A target assignment is to be computed.
    Assigning,
    /// Members are on their way to it.
    Reconciling,
    Stable,
}

impl StreamsState {
    pub const ALL: [Self; 5] = [Self::Empty, Self::NotReady, Self::Assigning, Self::Reconciling, Self::Stable];

    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::NotReady => "NotReady",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct StreamsGroup {
    pub epoch: StreamsEpoch,
    pub target_epoch: TargetEpoch,
    /// `None` only where records lack.
    pub topology: Option<Arc<Topology>>,
    pub members: BTreeMap<MemberId, StreamsMember>,
    pub targets: BTreeMap<MemberId, Arc<Tasks>>,
    /// Who has which task.
    pub holders: Holders,
    /// The topics of the topology, with the subtopology that reads each.
    topics: BTreeMap<Arc<str>, Option<Arc<str>>>,
    pub(super) soft: Soft,
}

/// What is in no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Soft {
    /// The topology with the topics as they are; `None`: they are to be looked at again.
    pub configured: Option<Arc<Configured>>,
    /// The first assignment waits for more members.
    pub is_delayed: bool,
    /// Who asked for the end of the application.
    pub shutdown_by: Option<MemberId>,
    /// Grows with what endpoints can be asked about.
    pub endpoint_epoch: i32,
}

/// A change of what is in no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum StreamsSoft {
    Configured(Arc<Configured>),
    TopicsChanged,
    Delayed(bool),
    Shutdown(MemberId),
    EndpointEpoch(i32),
}

impl Default for Soft {
    fn default() -> Self {
        Self { configured: None, is_delayed: false, shutdown_by: None, endpoint_epoch: -1 }
    }
}

impl Default for StreamsGroup {
    fn default() -> Self {
        Self {
            epoch: StreamsEpoch::default(),
            target_epoch: TargetEpoch { epoch: Epoch::FIRST, at: Timestamp(0) },
            topology: None,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            holders: Holders::default(),
            topics: BTreeMap::new(),
            soft: Soft::default(),
        }
    }
}

impl StreamsGroup {
    /// Takes a record in, but for the group's own tombstone.
    pub fn replay(&mut self, change: &StreamsChange) {
        match change {
            StreamsChange::Group(epoch) => self.epoch = epoch.clone().unwrap_or_default(),
            StreamsChange::Member(id, Some(said)) => self.member_mut(id).said = Arc::clone(said),
            StreamsChange::Member(id, None) => self.remove(id),
            StreamsChange::TargetEpoch(epoch) => {
                self.target_epoch = epoch.unwrap_or(TargetEpoch { epoch: -1, at: Timestamp(0) });
            }
            StreamsChange::Target(id, Some(target)) => {
                self.targets.insert(id.clone(), Arc::clone(target));
            }
            StreamsChange::Target(id, None) => {
                self.targets.remove(id);
            }
            StreamsChange::Current(id, Some(current)) => self.put_current(id, current.clone()),
            StreamsChange::Current(id, None) => {
                if self.members.contains_key(id) {
                    self.put_current(id, StreamsCurrent::gone());
                }
            }
            StreamsChange::Topology(topology) => {
                self.topology = topology.clone();
                self.topics = topology.as_ref().map(|topology| topology.topics()).unwrap_or_default();
                self.soft.configured = None;
            }
        }
    }

    pub fn change_softly(&mut self, change: StreamsSoft) {
        match change {
            StreamsSoft::Configured(configured) => self.soft.configured = Some(configured),
            StreamsSoft::TopicsChanged => self.soft.configured = None,
            StreamsSoft::Delayed(is_delayed) => self.soft.is_delayed = is_delayed,
            // The first one's counts, as long as there are members to tell.
            StreamsSoft::Shutdown(by) if !self.members.is_empty() => {
                self.soft.shutdown_by.get_or_insert(by);
            }
            StreamsSoft::Shutdown(_) => {}
            StreamsSoft::EndpointEpoch(epoch) => self.soft.endpoint_epoch = epoch,
        }
    }

    /// As it is in records only.
    #[cfg(test)]
    pub fn forget_softly(&mut self) {
        self.soft = Soft::default();
    }

    /// Records of one member come in any order when a shard is loaded.
    fn member_mut(&mut self, id: &MemberId) -> &mut StreamsMember {
        self.members.entry(id.clone()).or_insert_with(StreamsMember::nobody)
    }

    fn put_current(&mut self, id: &MemberId, current: StreamsCurrent) {
        if let Some(member) = self.members.get(id) {
            self.holders.remove(id, &member.current);
        }
        self.holders.add(id, &current);
        self.member_mut(id).current = current;
    }

    fn remove(&mut self, id: &MemberId) {
        if let Some(member) = self.members.remove(id) {
            self.holders.remove(id, &member.current);
        }
        if self.members.is_empty() {
            self.soft.shutdown_by = None;
        }
    }

    pub fn state(&self) -> StreamsState {
        let is_ready = |topology: &Arc<Topology>| topology.epoch == self.epoch.validated_topology_epoch;
        if self.members.is_empty() {
            StreamsState::Empty
        } else if !self.topology.as_ref().is_some_and(is_ready) {
            StreamsState::NotReady
        } else if self.epoch.epoch > self.target_epoch.epoch {
            StreamsState::Assigning
        } else if self.members.values().all(|member| member.current.is_reconciled_to(self.target_epoch.epoch)) {
            StreamsState::Stable
        } else {
            StreamsState::Reconciling
        }
    }

    /// Whether members read `topic`. Nobody does in a group without members, so that its offsets expire.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        !self.members.is_empty() && self.reader_of(topic).is_some()
    }

    /// The subtopology that reads `topic`.
    pub fn reader_of(&self, topic: &str) -> Option<&Arc<str>> {
        self.topics.get(topic)?.as_ref()
    }

    /// Whether an assignment depends on `topic`.
    pub fn is_concerned_with(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub fn target_of(&self, member: &MemberId) -> Arc<Tasks> {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    pub fn process_of(&self, member: &MemberId) -> Option<&Arc<str>> {
        self.members.get(member).map(|member| &member.said.process)
    }

    /// What takes the group away.
    pub fn tombstones(&self) -> Vec<StreamsChange> {
        let ids = || self.members.keys().cloned();
        let mut changes: Vec<StreamsChange> = ids().map(|id| StreamsChange::Current(id, None)).collect();
        changes.extend(ids().map(|id| StreamsChange::Target(id, None)));
        changes.push(StreamsChange::TargetEpoch(None));
        changes.extend(ids().map(|id| StreamsChange::Member(id, None)));
        changes.push(StreamsChange::Group(None));
        changes.push(StreamsChange::Topology(None));
        changes
    }
}
