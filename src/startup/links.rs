//! Joins the partitions of this node with those of the others.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_core::types::NodeId;
use tracing::warn;
use uuid::Uuid;

use crate::partition::{Outlet, Partitions, Post};
use crate::rpc::{Inbound, Lane, Rpc, kind};

/// Nodes that were never heard of since the start are looked at again after so long, at the latest.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// The way from the partitions to other nodes.
pub(super) fn outlet(rpc: &Arc<Rpc>) -> Outlet {
    let rpc = Arc::clone(rpc);
    Arc::new(move |to, post, parts| {
        let (lane, kind) = match post {
            Post::Urgent => (Lane::Heartbeat, kind::RAFT),
            Post::Raft => (Lane::Append, kind::RAFT),
            Post::Leaders => (Lane::Append, kind::LEADERS),
        };
        rpc.send(to, lane, kind, parts)
    })
}

/// Lets the partitions hear the others, and know which of them are alive.
pub(super) fn connect(rpc: &Arc<Rpc>, partitions: &Arc<Partitions>) {
    for (kind, post) in [(kind::RAFT, Post::Raft), (kind::LEADERS, Post::Leaders)] {
        let partitions = Arc::downgrade(partitions);
        rpc.on_message(kind, move |inbound| Box::pin(deliver(partitions.clone(), post, inbound)));
    }
    tokio::spawn(follow_the_living(Arc::clone(rpc), Arc::downgrade(partitions)));
}

async fn deliver(partitions: Weak<Partitions>, post: Post, inbound: Inbound) {
    let Some(partitions) = partitions.upgrade() else { return };
    if let Err(e) = partitions.deliver(post, inbound.body).await {
        warn!(node = %inbound.from, error = %e, "what a node's partitions say is not understood");
    }
}

async fn follow_the_living(rpc: Arc<Rpc>, partitions: Weak<Partitions>) {
    let mut changes = rpc.alive_changes();
    let mut boots: HashMap<NodeId, Uuid> = HashMap::new();
    loop {
        {
            let Some(partitions) = partitions.upgrade() else { return };
            let (living, dead): (Vec<NodeId>, Vec<NodeId>) =
                partitions.nodes().into_iter().partition(|node| rpc.is_alive(*node));
            partitions.set_dead(HashSet::from_iter(dead));
            for node in living {
                let Some(boot) = rpc.boot_id(node) else { continue };
                if boots.insert(node, boot) != Some(boot) {
                    partitions.greet(node);
                }
            }
        }
        if let Ok(Err(_)) = tokio::time::timeout(LOOK_AFTER, changes.changed()).await {
            return;
        }
    }
}
