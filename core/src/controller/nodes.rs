//! Nodes come and go.

use super::{Command, ConfigOwner, Decision, Image, Node, Peer, UsableNode};
use crate::types::{NodeId, PeerId};

/// What an operator wants of a broker.
const STATE: &str = "broker.state";
/// Which of its directories take no new partitions (KIP-1066). There is but one.
const CORDONED: &str = "cordoned.log.dirs";

impl Image {
    /// The node shall lead nothing that another can lead.
    pub fn is_drained(&self, node: NodeId) -> bool {
        self.node_setting(node, STATE).is_some_and(|state| state != "active")
    }

    /// The node is to be without partitions and without a vote.
    pub fn is_leaving(&self, node: NodeId) -> bool {
        self.node_setting(node, STATE).is_some_and(|state| state == "leaving")
    }

    /// The node's directory takes no new partitions.
    pub fn is_cordoned(&self, node: NodeId) -> bool {
        self.is_leaving(node) || self.node_setting(node, CORDONED).is_some_and(|list| !list.trim().is_empty())
    }

    /// Whether more than half of all nodes live. Who hears of fewer may be the one that is cut off.
    pub fn most_nodes_live(&self, is_alive: impl Fn(NodeId) -> bool) -> bool {
        2 * self.nodes().filter(|node| is_alive(node.id)).count() > self.nodes().len()
    }

    /// The nodes that new partitions may be placed on.
    pub fn usable_nodes(&self, is_alive: impl Fn(NodeId) -> bool) -> Vec<UsableNode> {
        let open = self.nodes().filter(|node| !self.is_cordoned(node.id));
        open.map(|node| UsableNode { id: node.id, rack: node.rack.clone(), alive: is_alive(node.id) }).collect()
    }

    /// One that was set while the node ran.
    fn node_setting(&self, node: NodeId, name: &str) -> Option<String> {
        self.configs(&ConfigOwner::Broker(node)).get(name).cloned()
    }
}

/// Nobody registered under this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Broker ID {0} is not currently registered")]
pub struct NodeNotRegistered(pub NodeId);

/// A node starts. The reply is its disk's identity in raft: the one it had, or a new one for a disk never seen. One that
/// was gone begins anew: it is not to leave any more.
pub fn register_node(image: &Image, node: Node) -> Decision<PeerId> {
    let mut commands = Vec::new();
    if image.node(node.id).is_none() {
        let set = [STATE, CORDONED].into_iter().filter(|name| image.node_setting(node.id, name).is_some());
        let changes: Vec<_> = set.map(|name| (name.to_owned(), None)).collect();
        if !changes.is_empty() {
            commands.push(Command::ChangeConfigs { owner: ConfigOwner::Broker(node.id), changes });
        }
    }
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

/// A node says that it is where another one lives. Both cannot be there: messages for the one would go to the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {holder}, which is alive, is at {address}, where node {node} says it is: every node needs an rpc.advertised of its own"
)]
pub struct AddressTaken {
    pub node: NodeId,
    pub holder: NodeId,
    pub address: String,
}

/// As `register_node`, unless another node that lives has the address. That of a node that is gone may be another's now.
pub fn take_in_node(
    image: &Image,
    node: Node,
    is_alive: impl Fn(NodeId) -> bool,
) -> Decision<Result<PeerId, AddressTaken>> {
    let is_there = |other: &Node| {
        other.id != node.id
            && !node.rpc_address.is_empty()
            && other.rpc_address == node.rpc_address
            && is_alive(other.id)
    };
    match image.nodes().find(|other| is_there(other)).map(|other| other.id) {
        Some(holder) => Decision::only(Err(AddressTaken { node: node.id, holder, address: node.rpc_address })),
        None => {
            let Decision { commands, reply } = register_node(image, node);
            Decision { commands, reply: Ok(reply) }
        }
    }
}

/// Peer ids begin at 1 and are never used again; the image keeps all of them.
fn next_peer_id(image: &Image) -> PeerId {
    PeerId(image.peers.last_key_value().map_or(1, |(last, _)| last.0 + 1))
}

/// A node is gone for good. Its replicas stay named in their partitions until they are moved. That it was leaving is known
/// until it comes again: else a founder that is gone would get its vote back.
pub fn remove_node(image: &Image, node: NodeId) -> Decision<Result<(), NodeNotRegistered>> {
    match image.node(node) {
        Some(_) => Decision { commands: vec![Command::RemoveNode { node }], reply: Ok(()) },
        None => Decision::only(Err(NodeNotRegistered(node))),
    }
}
