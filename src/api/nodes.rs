//! The nodes of the cluster, as clients of one listener are told of them, and as new partitions are placed on them.

use millstream_core::controller::{Image, UsableNode};
use millstream_core::types::NodeId;

use super::Context;
use crate::config::Listener;
use crate::protocol::StrBytes;

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

    /// The nodes that have this listener, by id.
    pub fn reachable_nodes(&self, listener: &Listener) -> Vec<ReachableNode> {
        self.controller.look(|now| reachable(&now.image, self.node_id(), listener))
    }
}

/// Kafka names a node by its endpoint of the listener that the client came in by, and leaves out one that has none.
/// Our own endpoint is the listener itself.
fn reachable(image: &Image, own: NodeId, listener: &Listener) -> Vec<ReachableNode> {
    let mut nodes = Vec::new();
    for node in image.nodes() {
        let endpoint = match node.id == own {
            true => Some((&listener.advertised.host, listener.advertised.port)),
            false => node.endpoints.iter().find(|e| e.listener == listener.name).map(|e| (&e.host, e.port)),
        };
        nodes.extend(endpoint.map(|(host, port)| ReachableNode {
            id: node.id,
            host: StrBytes::from_string(host.clone()),
            port,
            rack: node.rack.clone().map(StrBytes::from_string),
        }));
    }
    nodes
}

/// The nodes that partitions may be placed on. Of one that is not this one nobody knows whether it is alive.
pub(super) fn usable(image: &Image, own: NodeId) -> Vec<UsableNode> {
    image.nodes().map(|node| UsableNode { id: node.id, rack: node.rack.clone(), alive: node.id == own }).collect()
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
            let nodes = reachable(&image, NodeId(1), &listener(name, "bound", port));
            nodes.into_iter().map(|n| format!("{} {}:{}", n.id, &*n.host, n.port)).collect::<Vec<_>>()
        };
        assert_eq!(told("INSIDE", 7), ["1 bound:7", "2 two:9092"]);
        assert_eq!(told("OUTSIDE", 8), ["1 bound:8", "2 two.example.com:443"]);
        assert_eq!(told("OTHER", 9), ["1 bound:9"], "a node without the listener is left out");
    }

    #[test]
    fn only_this_node_is_known_to_be_alive() {
        let mut image = Image::default();
        register(&mut image, 1, &[]);
        register(&mut image, 2, &[]);
        let alive: Vec<_> = usable(&image, NodeId(2)).into_iter().map(|n| (n.id.0, n.alive)).collect();
        assert_eq!(alive, [(1, false), (2, true)]);
    }
}
