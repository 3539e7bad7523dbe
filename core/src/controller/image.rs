//! All metadata at one moment.
//!
//! Copies are cheap and independent: whoever reads holds one, whoever carries out commands changes another. Who leads
//! which partition is not here; leaders announce it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::shards::Shards;
use super::{Command, ConfigOwner, Node, Partition, Peer, Topic};
use crate::config::{BrokerConfig, ConfigMap};
use crate::security::{Acls, ScramCredential, ScramMechanism};
use crate::types::{DirectoryId, NodeId, PartitionId, PeerId, ProducerId, TopicId, TopicName};

/// The metadata after some number of commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub(super) version: u64,
    pub(super) cluster_id: Option<Arc<str>>,
    pub(super) nodes: Arc<BTreeMap<NodeId, Arc<Node>>>,
    /// Of every disk there ever was, by peer id.
    pub(super) peers: Arc<BTreeMap<PeerId, Peer>>,
    topics: Shards<TopicId, Arc<Topic>>,
    topic_ids: Shards<TopicName, TopicId>,
    /// Those with partitions whose replicas move.
    moving: Arc<BTreeSet<TopicId>>,
    /// Names with '.' or '_' by what they are with '_' alone: Kafka lets no two of them be alike in that.
    alike: Shards<String, BTreeSet<TopicName>>,
    /// Of all but topics, which keep their own.
    pub(super) configs: Arc<BTreeMap<ConfigOwner, Arc<ConfigMap>>>,
    pub(super) next_producer_id: i64,
    pub(super) features: Arc<BTreeMap<String, i16>>,
    pub(super) acls: Acls,
    /// By user.
    pub(super) scram: Arc<BTreeMap<String, BTreeMap<ScramMechanism, ScramCredential>>>,
    pub(super) login_secret: Option<Arc<[u8]>>,
}

impl Image {
    /// How many commands led here. Grows by one with each.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// `None` before the cluster was formed.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// By id.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The identity in raft of a node's disk.
    pub fn peer_of(&self, node: NodeId, directory: DirectoryId) -> Option<PeerId> {
        self.peers.values().find(|peer| peer.node == node && peer.directory == directory).map(|peer| peer.id)
    }

    /// Every disk there ever was, by peer id.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = &Peer> {
        self.peers.values()
    }

    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    /// The identity in raft of the disk that a node has now.
    pub fn peer_of_node(&self, node: NodeId) -> Option<PeerId> {
        self.peer_of(node, self.node(node)?.directory)
    }

    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// All topics, in no order that means anything.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter().map(|(_, topic)| topic)
    }

    /// The topics with partitions whose replicas move, by id.
    pub fn moving_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.moving.iter().filter_map(|id| self.topic(*id))
    }

    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.topic(id.topic)?.partitions.get(usize::try_from(id.partition).ok()?)
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// A topic whose name differs from this one in dots and underscores only.
    pub(super) fn topic_alike(&self, name: &str) -> Option<&TopicName> {
        self.alike.get(unified(name)?.as_str())?.first()
    }

    /// Settings of their own; empty when there are none.
    pub fn configs(&self, owner: &ConfigOwner) -> Arc<ConfigMap> {
        match owner {
            ConfigOwner::Topic(id) => self.topic(*id).map(|topic| topic.configs.clone()),
            _ => self.configs.get(owner).cloned(),
        }
        .unwrap_or_default()
    }

    /// Everything but topics that has settings of its own.
    pub fn config_owners(&self) -> impl Iterator<Item = &ConfigOwner> {
        self.configs.keys()
    }

    /// The settings of the broker that was started with `given`, with what was changed since.
    pub fn broker_config(&self, given: &BrokerConfig) -> BrokerConfig {
        let for_this = self.configs(&ConfigOwner::Broker(given.node_id()));
        given.with_dynamic(&self.configs(&ConfigOwner::AllBrokers), &for_this)
    }

    /// Ids from here on belong to nobody yet.
    pub fn next_producer_id(&self) -> ProducerId {
        ProducerId(self.next_producer_id)
    }

    /// Level of a feature for the whole cluster; 0: off.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All features that are on, by name.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    /// Carries a command out. What it is about and is not there (any more) stays so.
    pub fn apply(&mut self, command: &Command) {
        self.version += 1;
        match command {
            Command::FormCluster { cluster_id } => self.cluster_id = Some(cluster_id.as_str().into()),
            Command::RegisterNode(node) => {
                Arc::make_mut(&mut self.nodes).insert(node.id, Arc::new(node.clone()));
            }
            Command::RemoveNode { node } => {
                Arc::make_mut(&mut self.nodes).remove(node);
            }
            Command::AssignPeer(peer) => {
                Arc::make_mut(&mut self.peers).insert(peer.id, *peer);
            }
            Command::CreateTopic(topic) => self.put_topic(topic.clone()),
            Command::DeleteTopic { id } => self.remove_topic(*id),
            Command::AddPartitions { id, first, partitions } => self.change_topic(*id, |topic| {
                let first = usize::try_from(*first).unwrap_or(0);
                topic.partitions.truncate(first);
                topic.partitions.extend(partitions.iter().cloned());
            }),
            Command::MoveReplicas { id, replicas, moving, since } => self.change_topic(id.topic, |topic| {
                let partition = usize::try_from(id.partition).ok().and_then(|n| topic.partitions.get_mut(n));
                if let Some(partition) = partition {
                    partition.moves = partition.moves.wrapping_add(1);
                    partition.replicas.clone_from(replicas);
                    partition.moving.clone_from(moving);
                    partition.since = *since;
                }
            }),
            Command::ChangeConfigs { owner: ConfigOwner::Topic(id), changes } => self.change_topic(*id, |topic| {
                change_configs(&mut topic.configs, changes);
            }),
            Command::ChangeConfigs { owner, changes } => self.change_owner(owner, changes),
            Command::AllocateProducerIds { next, .. } => self.next_producer_id = next.0,
            Command::SetReplicas { id, replicas } => self.change_topic(*id, |topic| {
                for (partition, replicas) in replicas {
                    let number = usize::try_from(*partition).ok();
                    if let Some(partition) = number.and_then(|number| topic.partitions.get_mut(number)) {
                        partition.replicas.clone_from(replicas);
                    }
                }
            }),
            Command::SetFeature { name, level } => {
                let features = Arc::make_mut(&mut self.features);
                match level {
                    0 => features.remove(name),
                    level => features.insert(name.clone(), *level),
                };
            }
            Command::AddAcl(acl) => self.acls.insert(acl),
            Command::RemoveAcl(acl) => self.acls.remove(acl),
            Command::SetScram { user, mechanism, credential } => self.set_scram(user, *mechanism, credential.clone()),
            Command::SetLoginSecret { secret } => self.login_secret = Some(secret.as_slice().into()),
        }
    }

    pub(super) fn set_scram(&mut self, user: &str, mechanism: ScramMechanism, credential: Option<ScramCredential>) {
        let all = Arc::make_mut(&mut self.scram);
        let of_user = all.entry(user.to_owned()).or_default();
        match credential {
            Some(credential) => of_user.insert(mechanism, credential),
            None => of_user.remove(&mechanism),
        };
        if of_user.is_empty() {
            all.remove(user);
        }
    }

    pub(super) fn put_topic(&mut self, topic: Topic) {
        if let Some(alike) = unified(topic.name.as_str()) {
            let mut names = self.alike.get(&alike).cloned().unwrap_or_default();
            names.insert(topic.name.clone());
            self.alike.insert(alike, names);
        }
        self.note_moves(topic.id, &topic.partitions);
        self.topic_ids.insert(topic.name.clone(), topic.id);
        self.topics.insert(topic.id, Arc::new(topic));
    }

    fn remove_topic(&mut self, id: TopicId) {
        let Some(topic) = self.topics.remove(&id) else { return };
        self.note_moves(id, &[]);
        self.topic_ids.remove(topic.name.as_str());
        let Some(alike) = unified(topic.name.as_str()) else { return };
        let mut names = self.alike.remove(&alike).unwrap_or_default();
        names.remove(&topic.name);
        if !names.is_empty() {
            self.alike.insert(alike, names);
        }
    }

    fn change_topic(&mut self, id: TopicId, change: impl FnOnce(&mut Topic)) {
        let Some(topic) = self.topics.get(&id) else { return };
        let mut topic = Topic::clone(topic);
        change(&mut topic);
        self.note_moves(id, &topic.partitions);
        self.topics.insert(id, Arc::new(topic));
    }

    fn note_moves(&mut self, id: TopicId, partitions: &[Partition]) {
        let is_moving = partitions.iter().any(|partition| partition.moving.is_some());
        if is_moving != self.moving.contains(&id) {
            let moving = Arc::make_mut(&mut self.moving);
            if is_moving {
                moving.insert(id)
            } else {
                moving.remove(&id)
            };
        }
    }

    fn change_owner(&mut self, owner: &ConfigOwner, changes: &[(String, Option<String>)]) {
        let mut configs = self.configs(owner);
        change_configs(&mut configs, changes);
        let all = Arc::make_mut(&mut self.configs);
        match configs.is_empty() {
            true => all.remove(owner),
            false => all.insert(owner.clone(), configs),
        };
    }
}

fn change_configs(configs: &mut Arc<ConfigMap>, changes: &[(String, Option<String>)]) {
    let configs = Arc::make_mut(configs);
    for (name, value) in changes {
        match value {
            Some(value) => configs.insert(name.clone(), value.clone()),
            None => configs.remove(name),
        };
    }
}

/// Of names that hold a dot or an underscore (Kafka `Topic.unifyCollisionChars`).
fn unified(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}
