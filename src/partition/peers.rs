//! The disks that replicas are on.

use std::collections::HashMap;

use millstream_core::types::{NodeId, PeerId};

/// The node of each disk there ever was.
#[derive(Debug, Default)]
pub(super) struct Peers {
    nodes: HashMap<PeerId, NodeId>,
    /// The disk that each node has now, as far as is known.
    present: HashMap<NodeId, PeerId>,
}

impl Peers {
    /// `present`: the disk that each node has now. It need not be the last that it was given: an old one may come back.
    pub fn new(nodes: HashMap<PeerId, NodeId>, present: impl IntoIterator<Item = (NodeId, PeerId)>) -> Self {
        Self { nodes, present: present.into_iter().collect() }
    }

    /// These, and one more: the present one of a node of which none was known.
    pub fn with(&self, peer: PeerId, node: NodeId) -> Self {
        let (mut nodes, mut present) = (self.nodes.clone(), self.present.clone());
        nodes.insert(peer, node);
        present.entry(node).or_insert(peer);
        Self { nodes, present }
    }

    pub fn get(&self, peer: &PeerId) -> Option<&NodeId> {
        self.nodes.get(peer)
    }

    /// The node of each disk; one may come more than once.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.values().copied()
    }

    /// Whether its node has this disk, and not another in its place.
    pub fn is_present(&self, peer: PeerId) -> bool {
        self.get(&peer).is_some_and(|node| self.present.get(node) == Some(&peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disk_of_a_node_is_the_one_that_it_has() {
        let nodes = HashMap::from([1, 2, 3, 4].map(|n| (PeerId(n), NodeId(n as i32 % 2))));
        let peers = Peers::new(nodes, [(NodeId(0), PeerId(4)), (NodeId(1), PeerId(1))]);
        assert_eq!([1, 2, 3, 4, 5].map(|n| peers.is_present(PeerId(n))), [true, false, false, true, false]);
        assert_eq!((peers.get(&PeerId(3)), peers.nodes().count()), (Some(&NodeId(1)), 4));
        let peers = peers.with(PeerId(5), NodeId(1)).with(PeerId(6), NodeId(7));
        assert_eq!([1, 2, 3, 4, 5, 6].map(|n| peers.is_present(PeerId(n))), [true, false, false, true, false, true]);
    }
}
