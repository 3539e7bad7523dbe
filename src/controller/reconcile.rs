//! Makes true on this node what the image says: partitions are opened, changed, removed.

use std::collections::HashSet;
use std::sync::Arc;

use millstream_core::config::TopicConfig;
use millstream_core::controller::Topic;
use millstream_core::types::{NodeId, PartitionId, TopicPartition};

use super::{METADATA_PARTITION, Published};
use crate::partition::{Partitions, ToOpen};

pub(super) struct Reconciler {
    pub partitions: Arc<Partitions>,
    pub node_id: NodeId,
}

impl Reconciler {
    /// At the start: every partition of this node is opened; what no topic names is removed.
    pub async fn open_all(&self, now: &Published) {
        let mut to_open = Vec::new();
        let mut known = HashSet::from([METADATA_PARTITION]);
        for topic in now.image.topics() {
            let mine = self.partitions_of(topic, 0, now, false);
            known.extend(mine.iter().map(|p| p.id));
            to_open.extend(mine);
        }
        self.partitions.open(to_open).await;
        for id in self.partitions.on_disk() {
            if !known.contains(&id) {
                tracing::info!(partition = %id, "deleting a partition of no topic");
                self.partitions.discard(id).await;
            }
        }
        self.empty_trash();
    }

    /// After a commit: only topics that are not the same object as before are looked at.
    pub async fn reconcile(&self, before: &Published, after: &Published) {
        let settings_changed = !Arc::ptr_eq(&before.settings, &after.settings);
        let mut to_open = Vec::new();
        for topic in after.image.topics() {
            let old = before.image.topic(topic.id);
            let changed = old.is_none_or(|old| !Arc::ptr_eq(old, topic));
            if changed {
                let from = old.map_or(0, |old| old.partitions.len());
                to_open.extend(self.partitions_of(topic, from, after, true));
            }
            if old.is_some() && (changed || settings_changed) {
                let config = Arc::new(TopicConfig::resolve(&topic.configs, &after.settings));
                for id in ids(topic) {
                    self.partitions.set_config(id, config.clone()).await;
                }
            }
        }
        if !to_open.is_empty() {
            self.partitions.open(to_open).await;
        }
        let gone: Vec<&Arc<Topic>> =
            before.image.topics().filter(|topic| after.image.topic(topic.id).is_none()).collect();
        if !gone.is_empty() {
            for id in gone.iter().flat_map(|topic| ids(topic)) {
                self.partitions.remove(id).await;
            }
            self.empty_trash();
        }
    }

    fn partitions_of(&self, topic: &Topic, from: usize, now: &Published, newborn: bool) -> Vec<ToOpen> {
        let config = Arc::new(TopicConfig::resolve(&topic.configs, &now.settings));
        let mine = ids(topic).zip(&topic.partitions).skip(from).filter(|(_, p)| p.replicas.contains(&self.node_id));
        mine.map(|(id, _)| ToOpen {
            id,
            name: TopicPartition { topic: topic.name.clone(), partition: id.partition },
            config: config.clone(),
            newborn,
            voters: vec![self.partitions.identity().peer],
            preferred: true,
        })
        .collect()
    }

    fn empty_trash(&self) {
        let partitions = self.partitions.clone();
        tokio::spawn(async move { partitions.empty_trash().await });
    }
}

fn ids(topic: &Topic) -> impl Iterator<Item = PartitionId> + use<> {
    let (topic, count) = (topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
    (0..count).map(move |partition| PartitionId { topic, partition })
}
