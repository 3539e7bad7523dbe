//! Nodes come and go.

use super::{Command, Decision, Image, Node, Peer};
use crate::types::{NodeId, PeerId};

/// Nobody registered under this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Broker ID {0} is not currently registered")]
pub struct NodeNotRegistered(pub NodeId);

/// A node starts. The reply is its disk's identity in raft: the one it had, or a new one for a disk never seen.
pub fn register_node(image: &Image, node: Node) -> Decision<PeerId> {
    let mut commands = Vec::new();
    let peer = image.peer_of(node.id, node.directory).unwrap_or_else(|| {
        let id = next_peer_id(image);
        commands.push(Command::AssignPeer(Peer { id, node: node.id, directory: node.directory }));
        id
    });
    if image.node(node.id).is_none_or(|known| **known != node) {
        commands.push(Command::RegisterNode(node));
    }
    Decision { commands, reply: peer }
}

/// Peer ids begin at 1 and are never used again; the image keeps all of them.
fn next_peer_id(image: &Image) -> PeerId {
    PeerId(image.peers.last_key_value().map_or(1, |(last, _)| last.0 + 1))
}

/// A node is gone for good. Its replicas stay named in their partitions until they are moved.
pub fn remove_node(image: &Image, node: NodeId) -> Decision<Result<(), NodeNotRegistered>> {
    match image.node(node) {
        Some(_) => Decision { commands: vec![Command::RemoveNode { node }], reply: Ok(()) },
        None => Decision::only(Err(NodeNotRegistered(node))),
    }
}
