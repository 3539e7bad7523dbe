//! Sends consumers to a replica in their own rack (KIP-392, `replica.selector.class`).

use std::sync::Arc;

use millstream_core::fetch::{NearbyReplica, Readable, nearest};
use millstream_core::types::NodeId;

use super::PartitionRead;
use crate::api::Context;
use crate::api::nodes::ReachableNode;
use crate::config::Listener;
use crate::partition::Partition;

/// Which replicas the partitions of a fetch may be read from instead of here.
pub(super) struct Nearby {
    /// The place of a partition in the fetch, and the nodes of the client's rack that have a replica in sync.
    candidates: Vec<(usize, Vec<NodeId>)>,
}

impl Nearby {
    /// Looks for replicas in the client's rack. Only a leader sends away.
    pub fn look(context: &Context, listener: &Listener, rack: &str, reads: &[PartitionRead]) -> Self {
        let own_rack = context.config.broker.text("broker.rack");
        if !context.replica_selector.may_redirect(rack, own_rack) {
            return Self { candidates: Vec::new() };
        }
        let is_near = |node: &ReachableNode| node.rack.as_deref() == Some(rack);
        let near: Vec<NodeId> =
            context.reachable_nodes(listener).into_iter().filter(is_near).map(|node| node.id).collect();
        let candidates = reads.iter().enumerate().filter_map(|(place, read)| {
            let partition = read.partition.as_ref().ok().filter(|partition| partition.is_leading())?;
            let mut nodes = context.lead(partition.id).isr;
            nodes.retain(|node| near.contains(node));
            (!nodes.is_empty()).then_some((place, nodes))
        });
        Self { candidates: if near.is_empty() { Vec::new() } else { candidates.collect() } }
    }

    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Notes for each partition where it is to be read, if elsewhere.
    pub async fn choose(self, context: &Context, reads: &mut [PartitionRead]) {
        for (place, nodes) in self.candidates {
            let Some(read) = reads.get_mut(place) else { continue };
            let Ok(partition) = &read.partition else { continue };
            let nearby = replicas(context, partition, &nodes).await;
            let leader = Readable { log_start: partition.log_start(), high_watermark: partition.high_watermark() };
            read.preferred = nearest(read.ask.from, leader, nearby);
        }
    }
}

/// How far the replicas on these nodes are. None where this node does not lead any more.
async fn replicas(context: &Context, partition: &Arc<Partition>, nodes: &[NodeId]) -> Vec<NearbyReplica> {
    let progress = partition.progress().await.unwrap_or_default();
    let replicas = progress.into_iter().filter_map(|replica| {
        let node = context.partitions.node_of(replica.peer).filter(|node| nodes.contains(node))?;
        Some(NearbyReplica { node, log_end: replica.log_end })
    });
    replicas.collect()
}
