//! What the metadata says that concerns coordinators: where `__consumer_offsets`, `__transaction_state` and
//! `__share_group_state` are, which topics are gone, and in which version transactions are made.

use std::sync::Arc;

use millstream_core::controller::TRANSACTION_VERSION;
use millstream_core::coordinator::txn::TransactionVersion;
use millstream_core::types::{TopicId, TopicName};

use super::surroundings;
use crate::controller::{Controller, Published};
use crate::coordinator::{Groups, ShareStateCoordinators, Transactions};

/// The topic that group coordinators live on.
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that transaction coordinators live on.
const TRANSACTIONS_TOPIC: &str = "__transaction_state";
/// The topic that share coordinators live on.
const SHARE_STATES_TOPIC: &str = "__share_group_state";

/// All coordinators of a node.
#[derive(Clone)]
pub(super) struct AllCoordinators {
    pub groups: Arc<Groups>,
    pub transactions: Arc<Transactions>,
    pub share_states: Arc<ShareStateCoordinators>,
}

/// Follows the metadata from now on, until the node stops.
pub(super) fn follow(controller: &Arc<Controller>, all: AllCoordinators) {
    let mut changes = controller.changes();
    changes.mark_unchanged();
    let mut before = controller.published();
    surroundings::follow(controller, &all.groups);
    start_coordinators(&before, &all);
    let controller = Arc::downgrade(controller);
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            let Some(controller) = controller.upgrade() else { return };
            let now = controller.published();
            start_coordinators(&now, &all);
            let is_gone = |id: TopicId| now.image.topic(id).is_none();
            let gone: Arc<[(TopicName, TopicId)]> =
                before.image.topics().filter(|t| is_gone(t.id)).map(|t| (t.name.clone(), t.id)).collect();
            if !gone.is_empty() {
                all.groups.topics_deleted(Arc::clone(&gone)).await;
                all.transactions.topics_deleted(Arc::clone(&gone)).await;
                all.share_states.topics_deleted(gone).await;
            }
            before = now;
        }
    });
}

fn start_coordinators(now: &Published, all: &AllCoordinators) {
    let level = now.image.features().find(|(name, _)| *name == TRANSACTION_VERSION).map(|(_, level)| level);
    all.transactions.set_version(level.map_or(TransactionVersion::V0, TransactionVersion));
    let topic = |name| {
        let topic = now.image.topic_by_name(name)?;
        Some((topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)))
    };
    if let Some((topic, partition_count)) = topic(OFFSETS_TOPIC) {
        all.groups.follow(topic, partition_count);
    }
    if let Some((topic, partition_count)) = topic(TRANSACTIONS_TOPIC) {
        all.transactions.follow(topic, partition_count);
    }
    if let Some((topic, partition_count)) = topic(SHARE_STATES_TOPIC) {
        all.share_states.follow(topic, partition_count);
    }
}
