//! OffsetFetch and OffsetDelete.

use super::command::{FetchTopic, OffsetDelete, OffsetFetch};
use super::decision::Decision;
use super::record::{CommittedOffset, OffsetKey, Record};
use super::reply::{
    DeletePartitionError, DeletedOffsets, Fetched, FetchedOffset, FetchedTopic, OffsetDeleteError, Reply,
};
use super::shard::Shard;
use super::state::Group;
use crate::types::{TopicId, TopicName};

impl Shard {
    /// A group that is not there has committed nothing.
    pub(super) fn fetch_offsets(&self, fetch: &OffsetFetch) -> Decision {
        let allowed = match self.groups.get(&fetch.group) {
            Some(Group { consumer: Some(consumer), .. }) => consumer.validate_fetch(fetch),
            Some(Group { streams: Some(streams), .. }) => streams.validate_fetch(fetch),
            _ => Ok(()),
        };
        if let Err(error) = allowed {
            return Decision::reply(fetch.token, Reply::OffsetFetch(Err(error)));
        }
        let topics = match &fetch.topics {
            Some(topics) => topics.iter().map(|topic| self.fetch_topic(fetch, topic)).collect(),
            None => self.fetch_all(fetch),
        };
        Decision::reply(fetch.token, Reply::OffsetFetch(Ok(topics)))
    }

    /// Whether the answer waits for the end of a transaction.
    fn is_unstable(&self, fetch: &OffsetFetch, topic: &TopicName, partition: i32) -> bool {
        fetch.require_stable && !self.undecided.is_empty() && {
            let key = OffsetKey { group: fetch.group.clone(), topic: topic.clone(), partition };
            self.undecided.contains(&key)
        }
    }

    fn fetch_topic(&self, fetch: &OffsetFetch, topic: &FetchTopic) -> FetchedTopic {
        let offsets = self.groups.get(&fetch.group).map(|group| &group.offsets);
        let look = |partition: &i32| {
            if self.is_unstable(fetch, &topic.name, *partition) {
                return (*partition, Fetched::Unstable);
            }
            let committed = offsets.and_then(|offsets| offsets.get(topic.name.as_str(), *partition));
            let committed = committed.filter(|committed| is_same_topic(committed.topic_id, topic.id));
            (*partition, committed.map_or(Fetched::Nothing, Fetched::from))
        };
        FetchedTopic { name: topic.name.clone(), id: topic.id, partitions: topic.partitions.iter().map(look).collect() }
    }

    fn fetch_all(&self, fetch: &OffsetFetch) -> Vec<FetchedTopic> {
        let Some(group) = self.groups.get(&fetch.group) else { return Vec::new() };
        let of_topic = |topic: &TopicName| {
            let look = |(partition, committed)| match self.is_unstable(fetch, topic, partition) {
                true => (partition, Fetched::Unstable),
                false => (partition, Fetched::from(committed)),
            };
            let partitions = group.offsets.of_topic(topic.as_str()).map(look).collect();
            FetchedTopic { name: topic.clone(), id: TopicId::ZERO, partitions }
        };
        group.offsets.topics().map(of_topic).collect()
    }

    pub(super) fn delete_offsets(&self, delete: &OffsetDelete) -> Decision {
        let refuse = |error| Decision::reply(delete.token, Reply::OffsetDelete(Err(error)));
        if delete.group.is_empty() {
            return refuse(OffsetDeleteError::InvalidGroupId);
        }
        let known = self.groups.get(&delete.group).filter(|group| group.share.is_none());
        let Some(group) = known else { return refuse(OffsetDeleteError::GroupNotFound) };
        let is_classic_consumer = group.classic.protocol_type.as_ref().is_some_and(|name| name.is_consumer());
        let is_known = group.consumer.is_some() || group.streams.is_some() || is_classic_consumer;
        if !group.is_empty() && !is_known {
            return refuse(OffsetDeleteError::NonEmpty);
        }
        let mut decision = Decision::nothing();
        let delete_topic = |(topic, partitions): &(TopicName, Vec<i32>)| {
            self.delete_topic(delete, group, topic, partitions, &mut decision)
        };
        let topics = delete.topics.iter().map(delete_topic).collect();
        decision.replies.push((delete.token, Reply::OffsetDelete(Ok(topics))));
        decision
    }
}

/// What was committed for a topic of this name that is gone is not an answer for its successor.
fn is_same_topic(committed: TopicId, asked: TopicId) -> bool {
    committed == TopicId::ZERO || asked == TopicId::ZERO || committed == asked
}

impl From<CommittedOffset> for Fetched {
    fn from(committed: CommittedOffset) -> Self {
        let CommittedOffset { offset, leader_epoch, metadata, .. } = committed;
        Self::Offset(FetchedOffset { offset, leader_epoch, metadata })
    }
}

impl Shard {
    fn delete_topic(
        &self,
        delete: &OffsetDelete,
        group: &Group,
        topic: &TopicName,
        partitions: &[i32],
        decision: &mut Decision,
    ) -> DeletedOffsets {
        let is_subscribed = group.is_subscribed_to(topic.as_str());
        let mut results = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            if is_subscribed {
                results.push((partition, Err(DeletePartitionError::Subscribed)));
                continue;
            }
            let key = OffsetKey { group: delete.group.clone(), topic: topic.clone(), partition };
            if group.offsets.get(topic.as_str(), partition).is_some() || self.undecided.contains(&key) {
                decision.records.push(Record::OffsetCommit { key, value: None });
            }
            results.push((partition, Ok(())));
        }
        DeletedOffsets { name: topic.clone(), partitions: results }
    }
}
