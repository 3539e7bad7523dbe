//! OffsetFetch and OffsetDelete.

use super::command::{FetchTopic, OffsetDelete, OffsetFetch};
use super::decision::Decision;
use super::offsets::Offsets;
use super::record::{CommittedOffset, OffsetKey, Record};
use super::reply::{DeletePartitionError, DeletedOffsets, FetchedOffset, FetchedTopic, OffsetDeleteError, Reply};
use super::shard::Shard;
use super::state::{Group, Phase};
use crate::types::{TopicId, TopicName};

impl Shard {
    /// A group that is not there has committed nothing.
    pub(super) fn fetch_offsets(&self, fetch: &OffsetFetch) -> Decision {
        let offsets = self.groups.get(&fetch.group).map(|group| &group.offsets);
        let topics = match &fetch.topics {
            Some(topics) => topics.iter().map(|topic| fetch_topic(offsets, topic)).collect(),
            None => offsets.map(fetch_all).unwrap_or_default(),
        };
        Decision::reply(fetch.token, Reply::OffsetFetch(topics))
    }

    pub(super) fn delete_offsets(&self, delete: &OffsetDelete) -> Decision {
        let refuse = |error| Decision::reply(delete.token, Reply::OffsetDelete(Err(error)));
        if delete.group.is_empty() {
            return refuse(OffsetDeleteError::InvalidGroupId);
        }
        let Some(group) = self.groups.get(&delete.group) else { return refuse(OffsetDeleteError::GroupNotFound) };
        let is_consumer = group.classic.protocol_type.as_ref().is_some_and(|name| name.is_consumer());
        if group.classic.phase != Phase::Empty && !is_consumer {
            return refuse(OffsetDeleteError::NonEmpty);
        }
        let mut decision = Decision::nothing();
        let delete_topic =
            |(topic, partitions): &(TopicName, Vec<i32>)| delete_topic(delete, group, topic, partitions, &mut decision);
        let topics = delete.topics.iter().map(delete_topic).collect();
        decision.replies.push((delete.token, Reply::OffsetDelete(Ok(topics))));
        decision
    }
}

fn fetch_topic(offsets: Option<&Offsets>, topic: &FetchTopic) -> FetchedTopic {
    let fetch = |partition: &i32| {
        let committed = offsets.and_then(|offsets| offsets.get(topic.name.as_str(), *partition));
        let committed = committed.filter(|committed| is_same_topic(committed.topic_id, topic.id));
        (*partition, committed.map(FetchedOffset::from))
    };
    FetchedTopic { name: topic.name.clone(), id: topic.id, partitions: topic.partitions.iter().map(fetch).collect() }
}

fn fetch_all(offsets: &Offsets) -> Vec<FetchedTopic> {
    let fetch = |topic: &TopicName| FetchedTopic {
        name: topic.clone(),
        id: TopicId::ZERO,
        partitions: offsets
            .of_topic(topic.as_str())
            .map(|(partition, committed)| (partition, Some(committed.into())))
            .collect(),
    };
    offsets.topics().map(fetch).collect()
}

/// What was committed for a topic of this name that is gone is not an answer for its successor.
fn is_same_topic(committed: TopicId, asked: TopicId) -> bool {
    committed == TopicId::ZERO || asked == TopicId::ZERO || committed == asked
}

impl From<CommittedOffset> for FetchedOffset {
    fn from(committed: CommittedOffset) -> Self {
        let CommittedOffset { offset, leader_epoch, metadata, .. } = committed;
        Self { offset, leader_epoch, metadata }
    }
}

fn delete_topic(
    delete: &OffsetDelete,
    group: &Group,
    topic: &TopicName,
    partitions: &[i32],
    decision: &mut Decision,
) -> DeletedOffsets {
    let is_subscribed = group.classic.is_subscribed_to(topic.as_str());
    let mut results = Vec::with_capacity(partitions.len());
    for &partition in partitions {
        if is_subscribed {
            results.push((partition, Err(DeletePartitionError::Subscribed)));
            continue;
        }
        if group.offsets.get(topic.as_str(), partition).is_some() {
            let key = OffsetKey { group: delete.group.clone(), topic: topic.clone(), partition };
            decision.records.push(Record::OffsetCommit { key, value: None });
        }
        results.push((partition, Ok(())));
    }
    DeletedOffsets { name: topic.clone(), partitions: results }
}
