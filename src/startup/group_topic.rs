//! What the metadata says that concerns coordinators: where `__consumer_offsets` is, and which topics are gone.

use std::sync::Arc;

use millstream_core::types::{TopicId, TopicName};

use crate::controller::{Controller, Published};
use crate::coordinator::Groups;

/// The topic that group coordinators live on.
const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Follows the metadata from now on, until the node stops.
pub(super) fn follow(controller: &Arc<Controller>, groups: &Arc<Groups>) {
    let mut changes = controller.changes();
    changes.mark_unchanged();
    let mut before = controller.published();
    start_coordinators(&before, groups);
    let (controller, groups) = (Arc::downgrade(controller), Arc::clone(groups));
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            let Some(controller) = controller.upgrade() else { return };
            let now = controller.published();
            start_coordinators(&now, &groups);
            let is_gone = |id: TopicId| now.image.topic(id).is_none();
            let gone: Vec<(TopicName, TopicId)> =
                before.image.topics().filter(|t| is_gone(t.id)).map(|t| (t.name.clone(), t.id)).collect();
            if !gone.is_empty() {
                groups.topics_deleted(gone.into()).await;
            }
            before = now;
        }
    });
}

fn start_coordinators(now: &Published, groups: &Groups) {
    if let Some(topic) = now.image.topic_by_name(OFFSETS_TOPIC) {
        groups.follow(topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
    }
}
