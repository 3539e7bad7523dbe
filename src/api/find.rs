//! From what a client names to what is there.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::controller::auto_created_topic;
use millstream_core::types::{PartitionId, TopicId, TopicName};
use uuid::Uuid;

use super::Context;
use crate::controller::Published;
use crate::partition::Partition;
use crate::protocol::{StrBytes, TopicRef};

/// Where groups keep their offsets.
pub(super) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Where transactional ids keep their states.
const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Where share coordinators keep what became of records.
const SHARE_STATES_TOPIC: &str = "__share_group_state";

/// A topic that exists.
#[derive(Clone, Debug)]
pub struct Found {
    pub id: TopicId,
    pub name: TopicName,
    pub partition_count: i32,
}

impl Context {
    pub fn find_by_name(&self, name: &str) -> Result<Found, ResponseError> {
        self.controller
            .look(|now| now.image.topic_by_name(name).map(|t| found(t)))
            .ok_or(ResponseError::UnknownTopicOrPartition)
    }

    pub fn find_by_id(&self, id: Uuid) -> Result<Found, ResponseError> {
        self.controller.look(|now| now.image.topic(TopicId(id)).map(|t| found(t))).ok_or(ResponseError::UnknownTopicId)
    }

    pub fn find(&self, topic: &TopicRef) -> Result<Found, ResponseError> {
        match topic {
            TopicRef::Name(name) => self.find_by_name(name),
            TopicRef::Id(id) => self.find_by_id(*id),
        }
    }

    /// A partition that this node has.
    pub fn partition(&self, topic: &Found, index: i32) -> Result<Arc<Partition>, ResponseError> {
        if !(0..topic.partition_count).contains(&index) {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        let id = PartitionId { topic: topic.id, partition: index };
        self.partitions.get(id).ok_or(ResponseError::NotLeaderOrFollower)
    }

    /// The id of `__consumer_offsets` and how many partitions it has. Creates it first if it is missing.
    ///
    /// # Errors
    ///
    /// COORDINATOR_NOT_AVAILABLE: it cannot be created, or not so soon. The client tries again.
    pub async fn ensure_offsets_topic(&self) -> Result<(TopicId, i32), ResponseError> {
        self.ensure_internal_topic(OFFSETS_TOPIC).await
    }

    /// The same of `__transaction_state`.
    pub async fn ensure_transactions_topic(&self) -> Result<(TopicId, i32), ResponseError> {
        self.ensure_internal_topic(TRANSACTIONS_TOPIC).await
    }

    /// The same of `__share_group_state`, and its coordinators know of it.
    pub async fn with_share_states(&self) -> Result<(), ResponseError> {
        if self.share_states.partition_count() > 0 {
            return Ok(());
        }
        let (topic, partition_count) = self.ensure_internal_topic(SHARE_STATES_TOPIC).await?;
        self.share_states.follow(topic, partition_count);
        Ok(())
    }

    async fn ensure_internal_topic(&self, name: &str) -> Result<(TopicId, i32), ResponseError> {
        let there = |now: &Published| now.image.topic_by_name(name).map(|topic| found(topic));
        if let Some(topic) = self.controller.look(there) {
            return Ok((topic.id, topic.partition_count));
        }
        let missing = self.controller.look(|now| auto_created_topic(name, &now.image, &now.settings));
        self.auto_create(vec![missing]).await;
        let topic = self.controller.look(there).ok_or(ResponseError::CoordinatorNotAvailable)?;
        Ok((topic.id, topic.partition_count))
    }

    /// The cluster's id as clients are told it.
    pub fn cluster_id(&self) -> StrBytes {
        let id = self.controller.look(|now| now.image.cluster_id().map(str::to_owned));
        StrBytes::from_string(id.unwrap_or_default())
    }

    pub fn partition_by_name(&self, topic: &str, index: i32) -> Result<Arc<Partition>, ResponseError> {
        self.partition(&self.find_by_name(topic)?, index)
    }
}

fn found(topic: &millstream_core::controller::Topic) -> Found {
    Found {
        id: topic.id,
        name: topic.name.clone(),
        partition_count: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    }
}
