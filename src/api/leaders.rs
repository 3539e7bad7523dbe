//! Which node leads a partition, as Metadata and DescribeTopicPartitions tell it, and as those are told who asked another
//! (KIP-951).

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use millstream_core::controller::Partition;
use millstream_core::types::{LeaderEpoch, NodeId, PartitionId};

use super::Context;
use super::nodes::ReachableNode;
use crate::config::Listener;
use crate::partition::Leadership;
use crate::protocol::{CurrentLeader, NodeEndpoint, TopicRef};

/// Leader epoch on the wire where none is known.
const NO_EPOCH: i32 = -1;
/// Kafka's `MetadataResponse.NO_LEADER_ID`.
const NO_LEADER: BrokerId = BrokerId(-1);
/// From this version of Metadata on a leader without the client's listener has an error of its own.
const LISTENER_NOT_FOUND_FROM: i16 = 6;

/// What is known of a partition's leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    /// It may have died since it said so.
    pub leader: Option<NodeId>,
    /// The latest that is known, whether anybody leads in it or not.
    pub epoch: Option<LeaderEpoch>,
    /// The leader's last word; empty when nobody said anything.
    pub isr: Vec<NodeId>,
    /// This node has a replica whose log cannot be used.
    pub offline_here: bool,
}

impl Context {
    pub fn lead(&self, id: PartitionId) -> Lead {
        let own = self.node_id();
        let told = self.partitions.leaders().get(id);
        let Some(partition) = self.partitions.get(id) else { return Lead::elsewhere(told, own, None) };
        if let Some(epoch) = partition.leading_epoch() {
            // What it announces comes a moment later.
            let isr = told.filter(|told| told.node == own && told.epoch == epoch).map(|told| told.isr);
            return Lead {
                leader: Some(own),
                epoch: Some(epoch),
                isr: isr.unwrap_or_else(|| vec![own]),
                offline_here: false,
            };
        }
        // Before a replica is open its epoch is 0, lower than any it was told with: then better none.
        let known = Some(partition.leader_epoch()).filter(|epoch| epoch.0 > 0);
        let offline_here = partition.leadership() == Leadership::Offline;
        Lead { offline_here, ..Lead::elsewhere(told, own, known) }
    }

    /// Where a client is to go that asked this node for what another leads. Adds the address of that node to
    /// `endpoints`.
    pub fn point_to_leader(
        &self,
        listener: &Listener,
        topic: &TopicRef,
        index: i32,
        endpoints: &mut Vec<NodeEndpoint>,
    ) -> Option<CurrentLeader> {
        let topic = self.find(topic).ok()?;
        let lead = self.lead(PartitionId { topic: topic.id, partition: index });
        let node = self.reachable_node(listener, lead.leader?)?;
        if !endpoints.iter().any(|known| known.node_id == node.id.0) {
            let ReachableNode { id, host, port, rack } = node;
            endpoints.push(NodeEndpoint { node_id: id.0, host, port: i32::from(port), rack });
        }
        let epoch = lead.epoch.map_or(NO_EPOCH, |epoch| epoch.0);
        Some(CurrentLeader { leader_id: lead.leader?.0, leader_epoch: epoch })
    }
}

impl Lead {
    fn elsewhere(told: Option<crate::partition::LeaderInfo>, own: NodeId, known: Option<LeaderEpoch>) -> Self {
        let Some(told) = told else { return Self { epoch: known, ..Self::default() } };
        // That this node led it is old news.
        let leader = Some(told.node).filter(|node| told.leads && *node != own);
        Self { leader, epoch: known.max(Some(told.epoch)), isr: told.isr, offline_here: false }
    }
}

/// Which nodes a client can reach.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// This node.
    pub own: NodeId,
    /// Those that live.
    pub alive: BTreeSet<NodeId>,
    /// Of those, the ones that have the client's listener.
    pub reachable: BTreeSet<NodeId>,
}

/// A partition's fields that both APIs have.
#[derive(Debug, PartialEq)]
pub struct Described {
    pub error: Option<ResponseError>,
    pub leader_id: BrokerId,
    pub leader_epoch: i32,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub offline: Vec<BrokerId>,
}

/// Describes a partition as Metadata of `version` does (Kafka `KRaftMetadataCache.partitionMetadata`). Its in-sync
/// replicas are never none, as with Kafka: as long as nobody has said anything all are named.
pub fn describe(lead: &Lead, reach: &Reach, partition: &Partition, version: i16) -> Described {
    // The first version knows no replicas that cannot be reached.
    let is_told = |node: &&NodeId| version > 0 || reach.reachable.contains(node);
    let told = |nodes: &[NodeId]| nodes.iter().filter(is_told).map(|node| BrokerId(node.0)).collect::<Vec<_>>();
    let every = partition.told_replicas();
    let isr = if lead.isr.is_empty() { &every } else { &lead.isr };
    let (replicas, isr, all) = (told(&every), told(isr), every.len() + isr.len());
    let is_offline = |node: &&NodeId| !reach.reachable.contains(node) || lead.offline_here && **node == reach.own;
    let leader = lead.leader.filter(|node| reach.reachable.contains(node));
    let error = match (leader, lead.leader) {
        (Some(_), _) => (replicas.len() + isr.len() < all).then_some(ResponseError::ReplicaNotAvailable),
        (None, Some(node)) if version >= LISTENER_NOT_FOUND_FROM && reach.alive.contains(&node) => {
            Some(ResponseError::ListenerNotFound)
        }
        (None, _) => Some(ResponseError::LeaderNotAvailable),
    };
    Described {
        error,
        leader_id: leader.map_or(NO_LEADER, |node| BrokerId(node.0)),
        leader_epoch: lead.epoch.map_or(NO_EPOCH, |epoch| epoch.0),
        replicas,
        isr,
        offline: every.iter().filter(is_offline).map(|node| BrokerId(node.0)).collect(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::partition::LeaderInfo;

    /// A node that can be reached, of all those that live.
    pub(in crate::api) fn reach(own: i32, reachable: &[i32], alive: &[i32]) -> Reach {
        let nodes = |ids: &[i32]| ids.iter().map(|id| NodeId(*id)).collect();
        Reach { own: NodeId(own), alive: nodes(alive), reachable: nodes(reachable) }
    }

    pub(in crate::api) fn led_by(node: i32, epoch: i32) -> Lead {
        let node = NodeId(node);
        Lead { leader: Some(node), epoch: Some(LeaderEpoch(epoch)), isr: vec![node], offline_here: false }
    }

    /// Leader and epoch, in-sync replicas, offline replicas, error, of a partition on nodes 5, 6, 7.
    fn told(lead: &Lead, reach: &Reach, version: i16) -> (i32, i32, Vec<i32>, Vec<i32>, Option<ResponseError>) {
        let partition = Partition { replicas: [5, 6, 7].map(NodeId).to_vec(), ..Partition::default() };
        let d = describe(lead, reach, &partition, version);
        let ids = |nodes: &[BrokerId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
        assert_eq!(ids(&d.replicas).len(), if version == 0 { reach.reachable.len() } else { 3 });
        (d.leader_id.0, d.leader_epoch, ids(&d.isr), ids(&d.offline), d.error)
    }

    #[test]
    fn a_partition_that_is_led_is_whole() {
        assert_eq!(told(&led_by(6, 3), &reach(5, &[5, 6, 7], &[5, 6, 7]), 12), (6, 3, vec![6], vec![], None));
    }

    #[test]
    fn one_that_nobody_leads_says_so_and_keeps_its_epoch() {
        let (all, error) = (reach(5, &[5, 6, 7], &[5, 6, 7]), Some(ResponseError::LeaderNotAvailable));
        assert_eq!(told(&Lead::default(), &all, 12), (-1, -1, vec![5, 6, 7], vec![], error));
        let lead = Lead { leader: None, offline_here: true, ..led_by(5, 3) };
        assert_eq!(told(&lead, &all, 12), (-1, 3, vec![5], vec![5], error));
    }

    #[test]
    fn a_leader_that_died_or_cannot_be_reached_leads_nothing() {
        let dead = (-1, 3, vec![6], vec![6], Some(ResponseError::LeaderNotAvailable));
        assert_eq!(told(&led_by(6, 3), &reach(5, &[5, 7], &[5, 7]), 12), dead);
        let elsewhere = (-1, 3, vec![6], vec![6], Some(ResponseError::ListenerNotFound));
        assert_eq!(told(&led_by(6, 3), &reach(5, &[5, 7], &[5, 6, 7]), 6), elsewhere);
        assert_eq!(told(&led_by(6, 3), &reach(5, &[5, 7], &[5, 6, 7]), 5), dead);
    }

    #[test]
    fn the_first_version_leaves_out_replicas_that_cannot_be_reached() {
        let error = Some(ResponseError::ReplicaNotAvailable);
        assert_eq!(told(&led_by(5, 3), &reach(5, &[5, 7], &[5, 7]), 0), (5, 3, vec![5], vec![6], error));
        assert_eq!(told(&led_by(5, 3), &reach(5, &[5, 6, 7], &[5, 6, 7]), 0), (5, 3, vec![5], vec![], None));
    }

    #[test]
    fn that_this_node_led_is_old_news() {
        let info = |node, epoch| {
            Some(LeaderInfo { isr: vec![NodeId(node), NodeId(9)], ..LeaderInfo::of(NodeId(node), LeaderEpoch(epoch)) })
        };
        let known = Some(LeaderEpoch(4));
        let lead = Lead::elsewhere(info(1, 3), NodeId(1), known);
        assert_eq!((lead.leader, lead.epoch, lead.isr.len()), (None, known, 2));
        let lead = Lead::elsewhere(info(2, 5), NodeId(1), known);
        assert_eq!((lead.leader, lead.epoch), (Some(NodeId(2)), Some(LeaderEpoch(5))));
        let ended = info(2, 5).map(|info| LeaderInfo { leads: false, ..info });
        let lead = Lead::elsewhere(ended, NodeId(1), known);
        assert_eq!((lead.leader, lead.epoch, lead.isr.len()), (None, Some(LeaderEpoch(5)), 2));
        assert_eq!(Lead::elsewhere(None, NodeId(1), known).epoch, known);
    }
}
