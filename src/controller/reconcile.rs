//! Makes true on this node what the image says: partitions are opened, changed, removed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use millstream_core::config::TopicConfig;
use millstream_core::controller::{self, GroupMembers, Image, Peer, Topic};
use millstream_core::types::{NodeId, PartitionId, PeerId, TopicId, TopicPartition};

use super::{METADATA_PARTITION, Published};
use crate::partition::{Gone, Members, Partitions, ToOpen};

pub(super) struct Reconciler {
    partitions: Arc<Partitions>,
    node_id: NodeId,
    /// Partitions on this node's disk that no image has named yet.
    strays: HashSet<PartitionId>,
    /// Nothing is kept any more of partitions that went away and are gone everywhere.
    has_swept: bool,
    founders: Vec<Peer>,
    /// Of the latest image.
    peers: BTreeMap<NodeId, PeerId>,
    metadata: GroupMembers,
}

impl Reconciler {
    pub fn new(partitions: Arc<Partitions>, founders: Vec<Peer>) -> Self {
        Self {
            node_id: partitions.identity().node,
            partitions,
            strays: HashSet::new(),
            has_swept: false,
            founders,
            peers: BTreeMap::new(),
            metadata: GroupMembers::default(),
        }
    }

    /// At the start: every partition of this node is opened.
    pub async fn open_all(&mut self, now: &Published) {
        self.peers = now.image.peers_by_node();
        self.set_metadata_members(now).await;
        self.strays = self.partitions.on_disk().into_iter().filter(|id| *id != METADATA_PARTITION).collect();
        let mut to_open = Vec::new();
        for topic in now.image.topics() {
            let config = Arc::new(TopicConfig::resolve(&topic.configs, &now.settings));
            let mine = numbered(topic).filter(|(_, p)| self.is_mine(p));
            to_open.extend(mine.map(|(id, p)| self.to_open(topic, id, p, &config, false)));
        }
        for partition in &to_open {
            self.strays.remove(&partition.id);
        }
        self.partitions.open(to_open).await;
        self.empty_trash();
    }

    /// To be called when the image is as new as it was anywhere at some moment after the start: what it does not name
    /// then is nobody's. Before that it may be a partition that this node has not yet heard of again.
    pub async fn discard_strays(&mut self, image: &Image) {
        if !std::mem::replace(&mut self.has_swept, true) {
            let known: HashSet<TopicId> = image.topics().map(|topic| topic.id).collect();
            let is_gone = move |id: PartitionId| id != METADATA_PARTITION && !known.contains(&id.topic);
            self.partitions.forget_all(is_gone).await;
        }
        if self.strays.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.strays) {
            let gone = if image.topic(id.topic).is_some() { Gone::Elsewhere } else { Gone::Everywhere };
            tracing::info!(partition = %id, ?gone, "deleting a partition that is not here any more");
            self.partitions.discard(id, gone).await;
        }
        self.empty_trash();
    }

    /// After a commit: only topics that are not the same object as before are looked at.
    pub async fn reconcile(&mut self, before: &Published, after: &Published) {
        let settings_changed = !Arc::ptr_eq(&before.settings, &after.settings);
        let peers = after.image.peers_by_node();
        let peers_changed = peers != self.peers;
        self.peers = peers;
        self.set_metadata_members(after).await;
        let (mut to_open, mut moved_away, mut to_remove) = (Vec::new(), Vec::new(), Vec::new());
        for topic in after.image.topics() {
            let old = before.image.topic(topic.id);
            let changed = old.is_none_or(|old| !Arc::ptr_eq(old, topic));
            if !changed && !settings_changed && !peers_changed {
                continue;
            }
            let config = Arc::new(TopicConfig::resolve(&topic.configs, &after.settings));
            for (id, partition) in numbered(topic) {
                match (old.is_some_and(|old| self.has(old, id)), self.is_mine(partition)) {
                    (true, true) => {
                        self.partitions.set_config(id, config.clone()).await;
                        self.partitions.set_members(id, self.members(partition)).await;
                    }
                    (false, true) => {
                        // It may have been here before a start at which this node had not yet heard of it again.
                        let newborn = !self.strays.remove(&id);
                        to_open.push(self.to_open(topic, id, partition, &config, newborn));
                    }
                    (true, false) => moved_away.push(id),
                    (false, false) => {}
                }
            }
        }
        if !to_open.is_empty() {
            self.partitions.open(to_open).await;
        }
        let gone = before.image.topics().filter(|topic| after.image.topic(topic.id).is_none());
        to_remove.extend(gone.flat_map(|topic| numbered(topic).map(|(id, _)| id)));
        let is_trash = !moved_away.is_empty() || !to_remove.is_empty();
        for id in moved_away {
            tracing::info!(partition = %id, "the replica of this node has moved away");
            self.partitions.remove_replica(id).await;
        }
        for id in to_remove {
            self.partitions.remove(id).await;
        }
        if is_trash {
            self.empty_trash();
        }
    }

    /// Who belongs to the group of the metadata changes with the nodes that there are.
    async fn set_metadata_members(&mut self, now: &Published) {
        if now.image.cluster_id().is_none() {
            return;
        }
        let members = now.image.metadata_members(&self.founders);
        if self.metadata != members {
            self.metadata = members.clone();
            let GroupMembers { voters, learners } = members;
            self.partitions.set_members(METADATA_PARTITION, Members { voters, learners, moves: 0 }).await;
        }
    }

    fn members(&self, partition: &controller::Partition) -> Members {
        let GroupMembers { voters, learners } = partition.members(&self.peers);
        Members { voters, learners, moves: partition.moves }
    }

    fn is_mine(&self, partition: &controller::Partition) -> bool {
        partition.is_on(self.node_id)
    }

    fn has(&self, topic: &Topic, id: PartitionId) -> bool {
        let number = usize::try_from(id.partition).ok();
        number.and_then(|number| topic.partitions.get(number)).is_some_and(|partition| self.is_mine(partition))
    }

    fn to_open(
        &self,
        topic: &Topic,
        id: PartitionId,
        partition: &controller::Partition,
        config: &Arc<TopicConfig>,
        newborn: bool,
    ) -> ToOpen {
        ToOpen {
            id,
            name: TopicPartition { topic: topic.name.clone(), partition: id.partition },
            config: config.clone(),
            newborn,
            voters: partition.peers.clone(),
            since: partition.since,
            members: Some(self.members(partition)),
            preferred: partition.replicas.first() == Some(&self.node_id),
        }
    }

    fn empty_trash(&self) {
        let partitions = self.partitions.clone();
        tokio::spawn(async move { partitions.empty_trash().await });
    }
}

fn numbered(topic: &Topic) -> impl Iterator<Item = (PartitionId, &controller::Partition)> {
    let id = topic.id;
    (0..).zip(&topic.partitions).map(move |(partition, p)| (PartitionId { topic: id, partition }, p))
}
