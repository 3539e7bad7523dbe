//! The disks that replicas are on.

use std::collections::HashMap;

use millstream_core::types::{NodeId, PeerId};

/// The node of each disk there ever was.
#[derive(Debug, Default)]
pub(super) struct Peers {
    nodes: HashMap<PeerId, NodeId>,
    /// The disk that each node has now: the last it was given.
    latest: HashMap<NodeId, PeerId>,
}

impl From<HashMap<PeerId, NodeId>> for Peers {
    fn from(nodes: HashMap<PeerId, NodeId>) -> Self {
        let mut latest: HashMap<NodeId, PeerId> = HashMap::new();
        for (peer, node) in &nodes {
            let last = latest.entry(*node).or_insert(*peer);
            *last = (*last).max(*peer);
        }
        Self { nodes, latest }
    }
}

impl Peers {
    /// These, and one more.
    pub fn with(&self, peer: PeerId, node: NodeId) -> Self {
        let mut nodes = self.nodes.clone();
        nodes.insert(peer, node);
        nodes.into()
    }

    pub fn get(&self, peer: &PeerId) -> Option<&NodeId> {
        self.nodes.get(peer)
    }

    /// The node of each disk; one may come more than once.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.values().copied()
    }

    /// Whether no later disk has taken the place of this one: it is gone, though its node is there.
    pub fn is_latest(&self, peer: PeerId) -> bool {
        self.get(&peer).is_some_and(|node| self.latest.get(node) == Some(&peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_disk_of_a_node_is_the_one_that_it_has() {
        let peers = Peers::from(HashMap::from([1, 2, 3, 4].map(|n| (PeerId(n), NodeId(n as i32 % 2)))));
        assert_eq!([1, 2, 3, 4, 5].map(|n| peers.is_latest(PeerId(n))), [false, false, true, true, false]);
        assert_eq!((peers.get(&PeerId(3)), peers.nodes().count()), (Some(&NodeId(1)), 4));
        let peers = peers.with(PeerId(5), NodeId(1));
        assert_eq!([1, 2, 3, 4, 5].map(|n| peers.is_latest(PeerId(n))), [false, false, false, true, true]);
    }
}
