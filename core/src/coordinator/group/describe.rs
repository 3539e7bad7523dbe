//! ListGroups and DescribeGroups.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::command::{DescribeGroups, ListGroups};
use super::consumer::ConsumerState;
use super::decision::Decision;
use super::ids::ProtocolType;
use super::reply::{DescribedGroup, DescribedMember, GroupState, ListedGroup, Reply};
use super::shard::Shard;
use super::share::ShareState;
use super::state::{ClassicGroup, Group};
use super::streams::StreamsState;

/// Which protocol a group's members speak (`GroupType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    Classic,
    Consumer,
    Share,
    Streams,
}

impl GroupKind {
    pub const ALL: [Self; 4] = [Self::Classic, Self::Consumer, Self::Share, Self::Streams];

    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
            Self::Streams => "streams",
        }
    }

    /// The names of all states that groups may be in; some are of several kinds.
    pub fn states() -> impl Iterator<Item = &'static str> {
        let classic = GroupState::ALL.map(GroupState::name).into_iter();
        let shared =
            ConsumerState::ALL.map(ConsumerState::name).into_iter().chain(ShareState::ALL.map(ShareState::name));
        classic.chain(shared).chain(StreamsState::ALL.map(StreamsState::name))
    }
}

impl Group {
    fn kind(&self) -> GroupKind {
        match (&self.consumer, &self.share, &self.streams) {
            (Some(_), ..) => GroupKind::Consumer,
            (_, Some(_), _) => GroupKind::Share,
            (.., Some(_)) => GroupKind::Streams,
            (None, None, None) => GroupKind::Classic,
        }
    }

    fn state_name(&self) -> &'static str {
        match (&self.consumer, &self.share, &self.streams) {
            (Some(consumer), ..) => consumer.state().name(),
            (_, Some(share), _) => share.state().name(),
            (.., Some(streams)) => streams.state().name(),
            (None, None, None) => self.classic.state().name(),
        }
    }
}

/// How much a shard holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Every state of any protocol, also without groups, by its name.
    pub groups: BTreeMap<&'static str, usize>,
    /// Committed offsets.
    pub offsets: usize,
}

impl GroupCounts {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        for (state, count) in &other.groups {
            *self.groups.entry(state).or_default() += count;
        }
        self.offsets += other.offsets;
    }
}

impl Shard {
    /// Counts everything: for metrics, not for every command.
    pub fn counts(&self) -> GroupCounts {
        let mut counts = GroupCounts { groups: GroupKind::states().map(|state| (state, 0)).collect(), offsets: 0 };
        for group in self.groups.values() {
            *counts.groups.entry(group.state_name()).or_default() += 1;
            counts.offsets += group.offsets.len();
        }
        counts
    }

    pub(super) fn list_groups(&self, list: &ListGroups) -> Decision {
        let is_listed = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
        };
        let mut groups = Vec::new();
        // A type's name is not trimmed, as in Kafka.
        let is_of_type = |kind: GroupKind| {
            list.types.is_empty() || list.types.iter().any(|wanted| wanted.eq_ignore_ascii_case(kind.name()))
        };
        for (id, group) in &self.groups {
            let (kind, state) = (group.kind(), group.state_name());
            if is_of_type(kind) && is_listed(&list.states, state) {
                let protocol_type = match kind {
                    GroupKind::Classic => group.classic.protocol_type.clone(),
                    GroupKind::Consumer => ProtocolType::new(ProtocolType::CONSUMER).ok(),
                    GroupKind::Share => ProtocolType::new(ProtocolType::SHARE).ok(),
                    GroupKind::Streams => ProtocolType::new(ProtocolType::STREAMS).ok(),
                };
                groups.push(ListedGroup { group: id.clone(), protocol_type, state, kind });
            }
        }
        Decision::reply(list.token, Reply::ListGroups(groups))
    }

    pub(super) fn describe_groups(&self, describe: &DescribeGroups) -> Decision {
        let groups = describe.groups.iter().map(|id| {
            let classic = self.groups.get(id).filter(|group| group.is_classic());
            let described = classic.map(|group| describe_classic(&group.classic));
            (id.clone(), described)
        });
        Decision::reply(describe.token, Reply::DescribeGroups(groups.collect()))
    }
}

fn describe_classic(group: &ClassicGroup) -> DescribedGroup {
    let state = group.state();
    let protocol = group.protocol.clone().filter(|_| state == GroupState::Stable);
    let members = group
        .members
        .iter()
        .map(|(id, member)| DescribedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol.as_ref().map_or_else(Bytes::new, |protocol| member.metadata(Some(protocol))),
            assignment: member.assignment.clone(),
        })
        .collect();
    DescribedGroup { state, protocol_type: group.protocol_type.clone(), protocol, members }
}
