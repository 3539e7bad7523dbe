//! ListGroups and DescribeGroups.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::command::{DescribeGroups, ListGroups};
use super::decision::Decision;
use super::reply::{DescribedGroup, DescribedMember, GroupState, ListedGroup, Reply};
use super::shard::Shard;
use super::state::ClassicGroup;

/// Kafka's name for groups of this protocol (`GroupType`).
const CLASSIC: &str = "classic";

/// How much a shard holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Every state, also without groups.
    pub groups: BTreeMap<GroupState, usize>,
    /// Committed offsets.
    pub offsets: usize,
}

impl GroupCounts {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Self) {
        for (state, count) in &other.groups {
            *self.groups.entry(*state).or_default() += count;
        }
        self.offsets += other.offsets;
    }
}

impl Shard {
    /// Counts everything: for metrics, not for every command.
    pub fn counts(&self) -> GroupCounts {
        let mut counts = GroupCounts { groups: GroupState::ALL.map(|state| (state, 0)).into(), offsets: 0 };
        for group in self.groups.values() {
            *counts.groups.entry(group.classic.state()).or_default() += 1;
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
        if list.types.is_empty() || list.types.iter().any(|wanted| wanted.eq_ignore_ascii_case(CLASSIC)) {
            for (id, group) in &self.groups {
                let state = group.classic.state();
                if is_listed(&list.states, state.name()) {
                    let protocol_type = group.classic.protocol_type.clone();
                    groups.push(ListedGroup { group: id.clone(), protocol_type, state });
                }
            }
        }
        Decision::reply(list.token, Reply::ListGroups(groups))
    }

    pub(super) fn describe_groups(&self, describe: &DescribeGroups) -> Decision {
        let groups = describe.groups.iter().map(|id| {
            let described = self.groups.get(id).map(|group| describe_classic(&group.classic));
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
