//! The nodes of the cluster, as clients of one listener are told of them, and as new partitions are placed on them.

use std::time::Duration;

use millstream_core::controller::{Image, Node, UsableNode};
use millstream_core::types::NodeId;

use super::Context;
use super::leaders::Reach;
use crate::config::Listener;
use crate::protocol::StrBytes;

/// So soon after a start every node that lives has been heard of.
const HEARD_OF_AFTER: Duration = Duration::from_secs(3);

/// Where clients of one listener reach a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachableNode {
    pub id: NodeId,
    pub host: StrBytes,
    pub port: u16,
    pub rack: Option<StrBytes>,
}

impl Context {
    pub fn node_id(&self) -> NodeId {
        self.config.broker.node_id()
    }

    /// The nodes that live and have this listener, by id. One that hears of few others tells all that it knows, as a
    /// broker of Kafka does that its controller cannot reach: it may be the one that is cut off, and clients forget
    /// whom they are not told of, so that they would ask nobody but this node any more. Whom a node that has just
    /// started has not heard of yet it tells, too.
    pub fn reachable_nodes(&self, listener: &Listener) -> Vec<ReachableNode> {
        let nodes = self.known_nodes(listener);
        if !self.controller.look(|now| now.image.most_nodes_live(|node| self.is_alive(node))) {
            return nodes;
        }
        let is_young = self.started.elapsed() < HEARD_OF_AFTER;
        let is_told = |id| self.is_alive(id) || is_young && (self.silent_for)(id).is_none();
        nodes.into_iter().filter(|node| is_told(node.id)).collect()
    }

    /// The nodes that have this listener, whether they live or not, by id.
    pub fn known_nodes(&self, listener: &Listener) -> Vec<ReachableNode> {
        let own = self.node_id();
        self.controller.look(|now| now.image.nodes().filter_map(|node| reachable(node, own, listener)).collect())
    }

    /// A node, if it lives and has this listener.
    pub fn reachable_node(&self, listener: &Listener, id: NodeId) -> Option<ReachableNode> {
        let own = self.node_id();
        self.is_alive(id).then_some(())?;
        self.controller.look(|now| now.image.node(id).and_then(|node| reachable(node, own, listener)))
    }

    /// Which nodes the clients of a listener can reach.
    pub fn reach(&self, listener: &Listener) -> Reach {
        let own = self.node_id();
        let mut reach = Reach { own, ..Reach::default() };
        self.controller.look(|now| {
            for node in now.image.nodes().filter(|node| self.is_alive(node.id)) {
                reach.alive.insert(node.id);
                if has(node, own, listener) {
                    reach.reachable.insert(node.id);
                }
            }
        });
        reach
    }

    /// The nodes that partitions may be placed on, as they are now.
    pub(super) fn usable_nodes(&self) -> impl Fn(&Image) -> Vec<UsableNode> + Send + use<> {
        let alive = self.alive.clone();
        move |image| image.usable_nodes(&*alive)
    }

    /// The node that clients are told is the controller: the one that decides, or any that lives, for every node takes
    /// what is meant for it (Kafka tells any broker that lives).
    pub fn controller_node(&self) -> NodeId {
        self.controller.leader().filter(|node| self.is_alive(*node)).unwrap_or_else(|| self.node_id())
    }

    /// Whether a node was heard of lately; this one always.
    pub fn is_alive(&self, node: NodeId) -> bool {
        (self.alive)(node)
    }
}

/// Kafka names a node by its endpoint of the listener that the client came in by, and leaves out one that has none.
/// Our own endpoint is the listener itself.
fn reachable(node: &Node, own: NodeId, listener: &Listener) -> Option<ReachableNode> {
    let (host, port) = match node.id == own {
        true => (&listener.advertised.host, listener.advertised.port),
        false => node.endpoints.iter().find(|e| e.listener == listener.name).map(|e| (&e.host, e.port))?,
    };
    Some(ReachableNode {
        id: node.id,
        host: StrBytes::from_string(host.clone()),
        port,
        rack: node.rack.clone().map(StrBytes::from_string),
    })
}

fn has(node: &Node, own: NodeId, listener: &Listener) -> bool {
    node.id == own || node.endpoints.iter().any(|endpoint| endpoint.listener == listener.name)
}

#[cfg(test)]
pub(super) mod tests {
    use millstream_core::controller::{Command, Endpoint, Node};
    use millstream_core::types::DirectoryId;
    use uuid::Uuid;

    use super::*;
    use crate::config::{HostPort, SecurityProtocol};

    pub(in crate::api) fn listener(name: &str, host: &str, port: u16) -> Listener {
        let address = HostPort { host: host.to_owned(), port };
        Listener {
            name: name.to_owned(),
            protocol: SecurityProtocol::Plaintext,
            bind: address.clone(),
            advertised: address,
        }
    }

    pub(in crate::api) fn register(image: &mut Image, id: i32, listeners: &[(&str, &str, u16)]) {
        let endpoint = |(name, host, port): &(&str, &str, u16)| Endpoint {
            listener: (*name).to_owned(),
            host: (*host).to_owned(),
            port: *port,
            protocol: 0,
        };
        image.apply(&Command::RegisterNode(Node {
            id: NodeId(id),
            directory: DirectoryId(Uuid::from_u128(id as u128 + 1)),
            rack: Some(format!("rack-{id}")),
            endpoints: listeners.iter().map(endpoint).collect(),
            rpc_address: String::new(),
            features: Vec::new(),
        }));
    }

    #[test]
    fn nodes_are_named_by_the_listener_the_client_came_in_by() {
        let mut image = Image::default();
        register(&mut image, 2, &[("INSIDE", "two", 9092), ("OUTSIDE", "two.example.com", 443)]);
        register(&mut image, 1, &[("INSIDE", "one", 9092)]);
        let told = |name, port| {
            let nodes = image.nodes().filter_map(|node| reachable(node, NodeId(1), &listener(name, "bound", port)));
            nodes.map(|n| format!("{} {}:{}", n.id, &*n.host, n.port)).collect::<Vec<_>>()
        };
        assert_eq!(told("INSIDE", 7), ["1 bound:7", "2 two:9092"]);
        assert_eq!(told("OUTSIDE", 8), ["1 bound:8", "2 two.example.com:443"]);
        assert_eq!(told("OTHER", 9), ["1 bound:9"], "a node without the listener is left out");
    }

    #[test]
    fn a_node_that_died_is_placed_on_as_a_dead_one() {
        let mut image = Image::default();
        register(&mut image, 1, &[]);
        register(&mut image, 2, &[]);
        let alive: Vec<_> =
            image.usable_nodes(|node| node == NodeId(2)).into_iter().map(|n| (n.id.0, n.alive)).collect();
        assert_eq!(alive, [(1, false), (2, true)]);
    }
}
