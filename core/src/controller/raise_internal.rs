//! Internal topics get more replicas as nodes come: one that was made by a cluster of one node would otherwise be lost
//! with that node, whatever it is configured for (Kafka leaves it at that).

use std::collections::{BTreeMap, BTreeSet};

use super::auto_create::configured_replicas;
use super::{Command, Decision, Image, Topic, UsableNode};
use crate::config::BrokerConfig;
use crate::types::NodeId;

const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];
/// A second replica alone would make every write need both nodes: it comes with the third.
const REPLICAS_MIN: usize = 3;

/// Replicas for partitions of internal topics that have fewer than they are configured for and than nodes live.
pub fn raise_internal_topics(image: &Image, broker: &BrokerConfig, nodes: &[UsableNode]) -> Decision<()> {
    let alive: Vec<&UsableNode> = nodes.iter().filter(|node| node.alive).collect();
    let mut commands = Vec::new();
    for topic in INTERNAL_TOPICS.iter().filter_map(|name| image.topic_by_name(name)) {
        let configured = usize::try_from(configured_replicas(topic.name.as_str(), broker)).unwrap_or(0);
        let wanted = configured.min(alive.len());
        if wanted < configured.min(REPLICAS_MIN) {
            continue;
        }
        let replicas = raise(topic, wanted, &alive);
        if !replicas.is_empty() {
            commands.push(Command::SetReplicas { id: topic.id, replicas });
        }
    }
    Decision { commands, reply: () }
}

/// The new replicas of the partitions that have fewer than `wanted`. Those that they have stay.
fn raise(topic: &Topic, wanted: usize, alive: &[&UsableNode]) -> Vec<(i32, Vec<NodeId>)> {
    let mut held: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
    for partition in &topic.partitions {
        partition.replicas.iter().for_each(|node| *held.entry(*node).or_default() += 1);
        if let Some(leader) = partition.replicas.first().filter(|_| partition.replicas.len() >= wanted) {
            *led.entry(*leader).or_default() += 1;
        }
    }
    let count = |of: &BTreeMap<NodeId, usize>, node: NodeId| of.get(&node).copied().unwrap_or(0);
    let mut raised = Vec::new();
    for (number, partition) in (0..).zip(&topic.partitions) {
        // Where somebody moves replicas they have the say.
        if partition.moving.is_some() {
            continue;
        }
        let mut replicas = partition.replicas.clone();
        while replicas.len() < wanted {
            let racks: BTreeSet<&Option<String>> =
                alive.iter().filter(|node| replicas.contains(&node.id)).map(|node| &node.rack).collect();
            let candidates = alive.iter().filter(|node| !replicas.contains(&node.id));
            let Some(next) = candidates.min_by_key(|node| (racks.contains(&node.rack), count(&held, node.id), node.id))
            else {
                break;
            };
            *held.entry(next.id).or_default() += 1;
            replicas.push(next.id);
        }
        if replicas.len() == partition.replicas.len() {
            continue;
        }
        // They are to lead in turn; who leads now goes on until leaderships are balanced.
        if let Some(leader) = replicas.iter().copied().min_by_key(|node| (count(&led, *node), *node)) {
            *led.entry(leader).or_default() += 1;
            replicas.retain(|node| *node != leader);
            replicas.insert(0, leader);
        }
        raised.push((number, replicas));
    }
    raised
}
