//! Who shall belong to the raft group of a partition, as the metadata has it: the disks that the nodes of its replicas
//! have now. The leader of the group sees to it.

use std::collections::BTreeMap;

use super::{Image, Partition, Peer};
use crate::types::{NodeId, PeerId};

/// Voters of the metadata log where there are nodes enough; as many as formed the cluster if those were more.
const METADATA_VOTERS: usize = 3;
/// More only make every change slower.
const METADATA_VOTERS_MAX: usize = 5;

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMembers {
    pub voters: Vec<PeerId>,
    pub learners: Vec<PeerId>,
}

impl Image {
    /// The disk of each node: the present one; of a node that is gone, or has not yet come, the last that is known.
    pub fn peers_by_node(&self) -> BTreeMap<NodeId, PeerId> {
        let mut all: BTreeMap<NodeId, PeerId> = self.peers.values().map(|peer| (peer.node, peer.id)).collect();
        for peer in self.peers.values() {
            if self.node(peer.node).is_some_and(|node| node.directory == peer.directory) {
                all.insert(peer.node, peer.id);
            }
        }
        all
    }

    /// The members of the metadata log. Its voters are among the nodes that came first and are not about to leave; one
    /// that is gone keeps its vote until another node can have it. All others learn.
    pub fn metadata_members(&self, founders: &[Peer]) -> GroupMembers {
        let mut came: BTreeMap<NodeId, PeerId> = BTreeMap::new();
        for peer in self.peers.values() {
            came.entry(peer.node).or_insert(peer.id);
        }
        let now = self.peers_by_node();
        let mut here: Vec<NodeId> = self.nodes.keys().copied().filter(|node| came.contains_key(node)).collect();
        here.sort_by_key(|node| came.get(node));
        let absent = founders.iter().map(|peer| peer.node).filter(|node| !self.nodes.contains_key(node));
        let (leaving, mut candidates): (Vec<NodeId>, Vec<NodeId>) =
            here.iter().copied().chain(absent).partition(|node| self.is_leaving(*node));
        // Not all of them can.
        let has_to_stay = candidates.is_empty();
        let others = if has_to_stay {
            candidates.clone_from(&leaving);
            Vec::new()
        } else {
            leaving
        };
        let wanted = founders.len().clamp(METADATA_VOTERS, METADATA_VOTERS_MAX).min(candidates.len());
        // An even number survives no more than the odd one below it, unless it formed the cluster: then each has a copy.
        let is_odd_better = wanted.is_multiple_of(2) && wanted > founders.len();
        let count = if is_odd_better { wanted.saturating_sub(1) } else { wanted };
        let peers = |nodes: &[NodeId]| nodes.iter().filter_map(|node| now.get(node).copied()).collect::<Vec<_>>();
        let (voters, rest) = candidates.split_at(count);
        let rest = rest.iter().chain(&others).copied();
        let learners: Vec<NodeId> = rest.filter(|node| self.nodes.contains_key(node)).collect();
        GroupMembers { voters: peers(voters), learners: peers(&learners) }
    }
}

impl Partition {
    /// The members of the partition's group; `peers`: of each node.
    pub fn members(&self, peers: &BTreeMap<NodeId, PeerId>) -> GroupMembers {
        let voters = self.replicas.iter().filter_map(|node| peers.get(node).copied()).collect();
        GroupMembers { voters, learners: Vec::new() }
    }
}
