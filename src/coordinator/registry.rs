//! Which coordinators run here, and the way to them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use millstream_core::coordinator::group::{Command, GroupConfig, Reply, ReplyToken};
use millstream_core::types::{PartitionId, TopicId, TopicName};
use tokio::sync::{mpsc, oneshot};

use super::CoordinatorError;
use super::runtime::{Ask, Runtime};
use crate::partition::Partitions;
use crate::store::Store;

/// Commands that wait for one coordinator. Full: the connections that ask are not read until there is room.
const MAILBOX_MAX: usize = 1024;

/// The group coordinators of this node.
pub struct Groups {
    partitions: Arc<Partitions>,
    store: Arc<Store>,
    config: Arc<GroupConfig>,
    mailboxes: RwLock<BTreeMap<i32, mpsc::Sender<Ask>>>,
}

/// The partition of `__consumer_offsets` that a group belongs to: Java's `String.hashCode`, its sign bit cleared,
/// modulo the number of partitions (Kafka `GroupCoordinatorService.partitionFor`).
pub fn partition_of(group: &str, partition_count: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) % partition_count.max(1)
}

impl Groups {
    pub fn new(partitions: Arc<Partitions>, store: Arc<Store>, config: GroupConfig) -> Arc<Self> {
        Arc::new(Self { partitions, store, config: Arc::new(config), mailboxes: RwLock::default() })
    }

    /// Starts the coordinators of partitions that have none yet. Called when `__consumer_offsets` is there or grew.
    pub fn follow(&self, topic: TopicId, partition_count: i32) {
        let mut mailboxes = self.mailboxes.write().unwrap_or_else(PoisonError::into_inner);
        for partition in 0..partition_count {
            if mailboxes.contains_key(&partition) {
                continue;
            }
            let Some(handle) = self.partitions.get(PartitionId { topic, partition }) else { continue };
            let (sender, mailbox) = mpsc::channel(MAILBOX_MAX);
            tokio::spawn(Runtime::new(handle, self.store.clone(), self.config.clone(), mailbox).run());
            mailboxes.insert(partition, sender);
        }
    }

    /// How many partitions `__consumer_offsets` has here; 0 before it is made.
    pub fn partition_count(&self) -> i32 {
        let mailboxes = self.mailboxes.read().unwrap_or_else(PoisonError::into_inner);
        mailboxes.last_key_value().map_or(0, |(last, _)| last + 1)
    }

    /// The partitions whose groups this node coordinates.
    pub fn coordinated(&self) -> Vec<i32> {
        self.mailboxes.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Asks the coordinator of a group. The reply comes when what it rests on is committed; of a join, when the
    /// rebalance is done.
    pub async fn call_for(
        &self,
        group: &str,
        command: impl FnOnce(ReplyToken) -> Command + Send + 'static,
    ) -> Result<Reply, CoordinatorError> {
        let count = self.partition_count();
        if count == 0 {
            return Err(CoordinatorError::NotCoordinator);
        }
        self.call(partition_of(group, count), command).await
    }

    /// Asks the coordinator of a partition.
    pub async fn call(
        &self,
        partition: i32,
        command: impl FnOnce(ReplyToken) -> Command + Send + 'static,
    ) -> Result<Reply, CoordinatorError> {
        let mailbox = self.mailboxes.read().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned();
        let mailbox = mailbox.ok_or(CoordinatorError::NotCoordinator)?;
        let (reply, done) = oneshot::channel();
        let ask = Ask::Call { command: Box::new(command), reply };
        mailbox.send(ask).await.map_err(|_| CoordinatorError::NotCoordinator)?;
        done.await.map_err(|_| CoordinatorError::NotCoordinator)?
    }

    /// Topics are gone: their committed offsets go too.
    pub async fn topics_deleted(&self, topics: Arc<[(TopicName, TopicId)]>) {
        let mailboxes: Vec<_> =
            self.mailboxes.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for mailbox in mailboxes {
            // An error: the coordinator has ended with the node.
            drop(mailbox.send(Ask::TopicsDeleted(topics.clone())).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_partition_is_kafkas() {
        // "my-group".hashCode() is 959258480 and "".hashCode() 0 in Java; the third is negative there.
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        let by_hand = "my-group".bytes().fold(0i32, |h, b| h.wrapping_mul(31).wrapping_add(i32::from(b)));
        assert_eq!(partition_of("my-group", 50), (by_hand & i32::MAX) % 50);
    }
}
