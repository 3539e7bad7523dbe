//! Keeps the connections between nodes as the metadata has them.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_core::types::NodeId;
use tracing::warn;

use crate::config::{DataDirectory, HostPort, Meta};
use crate::controller::Controller;
use crate::rpc::Rpc;

/// Other nodes whose addresses are remembered for a start on a new disk.
const CONTACTS_MAX: usize = 8;

/// Connects to the nodes of the metadata, now and at every change, and remembers where they are.
pub(super) fn start(rpc: &Arc<Rpc>, directory: &Arc<DataDirectory>, controller: &Arc<Controller>) {
    let (rpc, directory) = (Arc::clone(rpc), Arc::clone(directory));
    let (mut changes, controller) = (controller.changes(), Arc::downgrade(controller));
    tokio::spawn(async move {
        let mut known = HashMap::new();
        loop {
            let Some(nodes) = controller.upgrade().map(|controller| nodes(&controller, &directory)) else { return };
            if nodes != known {
                rpc.set_nodes(nodes.clone());
                remember(&directory, &nodes).await;
                known = nodes;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Where the nodes are. Founders that have not registered yet are where they said they would be.
pub(super) fn nodes(controller: &Controller, directory: &DataDirectory) -> HashMap<NodeId, HostPort> {
    let mut nodes = HashMap::new();
    let is_young = controller.look(|now| now.image.nodes().len() == 0);
    if let Some((_, founders)) = directory.standing().formed() {
        let unknown = founders.iter().filter(|f| {
            is_young || controller.look(|now| now.image.node(f.node).is_none() && now.image.peer(f.peer).is_some())
        });
        nodes.extend(unknown.filter_map(|f| Some((f.node, HostPort::parse(&f.address)?))));
    }
    controller.look(|now| {
        nodes.extend(now.image.nodes().filter_map(|node| Some((node.id, HostPort::parse(&node.rpc_address)?))));
    });
    nodes
}

async fn remember(directory: &Arc<DataDirectory>, nodes: &HashMap<NodeId, HostPort>) {
    let own = directory.node_id();
    let mut others: Vec<(&NodeId, &HostPort)> = nodes.iter().filter(|(node, _)| **node != own).collect();
    others.sort_by_key(|(node, _)| **node);
    let contacts: Vec<String> = others.into_iter().take(CONTACTS_MAX).map(|(_, address)| address.to_string()).collect();
    let directory = Arc::clone(directory);
    let stored = tokio::task::spawn_blocking(move || directory.change(|meta| Some(Meta { contacts, ..meta.clone() })));
    if let Err(e) = stored.await.expect("writing does not panic") {
        // Only a start on a new disk without seeds would miss it.
        warn!(error = %e, "the addresses of the other nodes could not be written to meta.properties");
    }
}
