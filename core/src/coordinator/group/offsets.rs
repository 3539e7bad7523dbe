//! The committed offsets of one group, kept small: a node may hold millions.

use std::collections::BTreeMap;

use super::record::CommittedOffset;
use crate::types::{InvalidTopicName, LeaderEpoch, Offset, Timestamp, TopicId, TopicName};

/// By topic, then by partition. In order, so that listings and expiry always run the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// No topic without an entry; entries sorted by partition.
    topics: BTreeMap<TopicName, Vec<Entry>>,
}

/// [`CommittedOffset`] in 48 bytes: metadata and an expiry of its own are rare.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    partition: i32,
    /// -1: unknown.
    leader_epoch: LeaderEpoch,
    offset: Offset,
    committed_at: Timestamp,
    topic_id: TopicId,
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rare {
    metadata: Box<str>,
    expires_at: Option<Timestamp>,
}

const NO_EPOCH: LeaderEpoch = LeaderEpoch(-1);

impl Offsets {
    /// Puts `value` in the place of what was committed before. Fails on a topic name that is none.
    pub fn put(&mut self, topic: &str, partition: i32, value: CommittedOffset) -> Result<(), InvalidTopicName> {
        let entry = Entry::new(partition, value);
        match self.topics.get_mut(topic) {
            Some(entries) => match entries.binary_search_by_key(&partition, |entry| entry.partition) {
                Ok(at) => entries[at] = entry,
                Err(at) => entries.insert(at, entry),
            },
            None => {
                self.topics.insert(TopicName::new(topic)?, vec![entry]);
            }
        }
        Ok(())
    }

    pub fn remove(&mut self, topic: &str, partition: i32) {
        let Some(entries) = self.topics.get_mut(topic) else { return };
        if let Ok(at) = entries.binary_search_by_key(&partition, |entry| entry.partition) {
            entries.remove(at);
        }
        if entries.is_empty() {
            self.topics.remove(topic);
        }
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<CommittedOffset> {
        let entries = self.topics.get(topic)?;
        let at = entries.binary_search_by_key(&partition, |entry| entry.partition).ok()?;
        entries.get(at).map(Entry::to_committed)
    }

    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn len(&self) -> usize {
        self.topics.values().map(Vec::len).sum()
    }

    pub fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.keys()
    }

    /// What is committed for `topic`, by partition.
    pub fn of_topic(&self, topic: &str) -> impl Iterator<Item = (i32, CommittedOffset)> {
        self.topics.get(topic).into_iter().flatten().map(|entry| (entry.partition, entry.to_committed()))
    }
}

impl Entry {
    fn new(partition: i32, value: CommittedOffset) -> Self {
        let CommittedOffset { offset, leader_epoch, metadata, committed_at, expires_at, topic_id } = value;
        let rare = (!metadata.is_empty() || expires_at.is_some()).then(|| Box::new(Rare { metadata, expires_at }));
        Self { partition, leader_epoch: leader_epoch.unwrap_or(NO_EPOCH), offset, committed_at, topic_id, rare }
    }

    fn to_committed(&self) -> CommittedOffset {
        CommittedOffset {
            offset: self.offset,
            leader_epoch: (self.leader_epoch != NO_EPOCH).then_some(self.leader_epoch),
            metadata: self.rare.as_ref().map(|rare| rare.metadata.clone()).unwrap_or_default(),
            committed_at: self.committed_at,
            expires_at: self.rare.as_ref().and_then(|rare| rare.expires_at),
            topic_id: self.topic_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset: Offset(offset),
            leader_epoch: None,
            metadata: "".into(),
            committed_at: Timestamp(7),
            expires_at: None,
            topic_id: TopicId::ZERO,
        }
    }

    #[test]
    fn an_entry_stays_small() {
        assert_eq!(size_of::<Entry>(), 48);
    }

    #[test]
    fn partitions_are_kept_in_order_and_apart() {
        let mut offsets = Offsets::default();
        for partition in [3, 1, 2] {
            offsets.put("t", partition, committed(i64::from(partition))).unwrap();
        }
        let full = CommittedOffset {
            metadata: "note".into(),
            leader_epoch: Some(LeaderEpoch(4)),
            expires_at: Some(Timestamp(9)),
            ..committed(10)
        };
        offsets.put("t", 2, full.clone()).unwrap();
        assert_eq!(offsets.of_topic("t").map(|(partition, _)| partition).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(offsets.get("t", 2), Some(full));
        assert_eq!(offsets.get("t", 4), None);
        assert_eq!(offsets.len(), 3);
    }

    #[test]
    fn a_topic_goes_with_its_last_offset() {
        let mut offsets = Offsets::default();
        offsets.put("t", 0, committed(1)).unwrap();
        offsets.remove("t", 1);
        offsets.remove("u", 0);
        assert!(!offsets.is_empty());
        offsets.remove("t", 0);
        assert!(offsets.is_empty());
        assert!(offsets.put("a b", 0, committed(1)).is_err());
    }
}
