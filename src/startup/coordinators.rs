//! What the metadata says that concerns coordinators: where `__consumer_offsets` and `__transaction_state` are, which
//! topics are gone, and in which version transactions are made.

use std::sync::Arc;

use millstream_core::controller::TRANSACTION_VERSION;
use millstream_core::coordinator::txn::TransactionVersion;
use millstream_core::types::{TopicId, TopicName};

use super::surroundings;
use crate::controller::{Controller, Published};
use crate::coordinator::{Groups, Transactions};

/// The topic that group coordinators live on.
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that transaction coordinators live on.
const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Follows the metadata from now on, until the node stops.
pub(super) fn follow(controller: &Arc<Controller>, groups: &Arc<Groups>, transactions: &Arc<Transactions>) {
    let mut changes = controller.changes();
    changes.mark_unchanged();
    let mut before = controller.published();
    surroundings::follow(controller, groups);
    start_coordinators(&before, groups, transactions);
    let (controller, groups, transactions) = (Arc::downgrade(controller), Arc::clone(groups), Arc::clone(transactions));
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            let Some(controller) = controller.upgrade() else { return };
            let now = controller.published();
            start_coordinators(&now, &groups, &transactions);
            let is_gone = |id: TopicId| now.image.topic(id).is_none();
            let gone: Arc<[(TopicName, TopicId)]> =
                before.image.topics().filter(|t| is_gone(t.id)).map(|t| (t.name.clone(), t.id)).collect();
            if !gone.is_empty() {
                groups.topics_deleted(Arc::clone(&gone)).await;
                transactions.topics_deleted(gone).await;
            }
            before = now;
        }
    });
}

fn start_coordinators(now: &Published, groups: &Groups, transactions: &Transactions) {
    let level = now.image.features().find(|(name, _)| *name == TRANSACTION_VERSION).map(|(_, level)| level);
    transactions.set_version(level.map_or(TransactionVersion::V0, TransactionVersion));
    if let Some(topic) = now.image.topic_by_name(OFFSETS_TOPIC) {
        groups.follow(topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
    }
    if let Some(topic) = now.image.topic_by_name(TRANSACTIONS_TOPIC) {
        transactions.follow(topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
    }
}
