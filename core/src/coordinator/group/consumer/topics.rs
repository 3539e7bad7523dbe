//! What is known of the cluster besides the group's own records: topics, and the settings of groups.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::settings::GroupSettings;
use crate::types::{TopicId, TopicName};

/// The start of what a topic's hash is made of, for later changes of that (`Utils.TOPIC_HASH_MAGIC_BYTE`).
const HASH_FORM: u8 = 0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTopic {
    pub id: TopicId,
    pub name: TopicName,
    pub partition_count: i32,
    /// Changes with all that concerns an assignment.
    pub hash: i64,
}

impl KnownTopic {
    /// `racks`: of each partition's replicas, those that are known.
    pub fn new(id: TopicId, name: TopicName, racks: &[Vec<Arc<str>>]) -> Self {
        let partition_count = i32::try_from(racks.len()).unwrap_or(i32::MAX);
        let hash = hash_topic(id, &name, partition_count, racks);
        Self { id, name, partition_count, hash }
    }
}

/// The topics of the cluster at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// Of the metadata.
    version: i64,
    /// The version that brought the last new topic.
    new_topics_at: i64,
    by_name: BTreeMap<Arc<str>, Arc<KnownTopic>>,
    by_id: HashMap<TopicId, Arc<KnownTopic>>,
}

impl Topics {
    /// `before`: what was known before, to tell what is new.
    pub fn new(version: i64, topics: impl IntoIterator<Item = Arc<KnownTopic>>, before: &Self) -> Self {
        let by_id: HashMap<_, _> = topics.into_iter().map(|topic| (topic.id, topic)).collect();
        let by_name = by_id.values().map(|topic| (Arc::from(topic.name.as_str()), Arc::clone(topic))).collect();
        let is_new = |id: &TopicId| !before.by_id.contains_key(id);
        let new_topics_at =
            if before.version == 0 || by_id.keys().any(is_new) { version } else { before.new_topics_at };
        Self { version, new_topics_at, by_name, by_id }
    }

    pub fn version(&self) -> i64 {
        self.version
    }

    pub fn new_topics_at(&self) -> i64 {
        self.new_topics_at
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<KnownTopic>> {
        self.by_name.get(name)
    }

    pub fn by_id(&self, id: TopicId) -> Option<&Arc<KnownTopic>> {
        self.by_id.get(&id)
    }

    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }

    pub fn partition_count(&self, id: TopicId) -> Option<i32> {
        self.by_id.get(&id).map(|topic| topic.partition_count)
    }

    /// Names of topics that came, went or changed since `before`.
    pub fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Arc<str>> {
        let differs = |name: &Arc<str>, topic: &Arc<KnownTopic>, other: &Self| {
            other.by_name.get(name).is_none_or(|known| !Arc::ptr_eq(known, topic) && known != topic)
        };
        let came = self.by_name.iter().filter(move |(name, topic)| differs(name, topic, before));
        let went = before.by_name.iter().filter(move |(name, _)| !self.by_name.contains_key(*name));
        came.chain(went).map(|(name, _)| name)
    }

    /// The hash of those of the topics that are there, in the order of their names (`Utils.computeGroupHash`).
    pub(in super::super) fn hash_of<'a>(&self, names: impl IntoIterator<Item = &'a Arc<str>>) -> i64 {
        let mut bytes = Vec::new();
        for topic in names.into_iter().filter_map(|name| self.by_name(name)) {
            bytes.extend_from_slice(&topic.hash.to_le_bytes());
        }
        if bytes.is_empty() { 0 } else { hash(&bytes) }
    }
}

/// What a coordinator is told of the cluster whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub topics: Arc<Topics>,
    /// Of groups that have settings of their own.
    pub groups: Arc<BTreeMap<String, GroupSettings>>,
}

fn hash_topic(id: TopicId, name: &TopicName, partition_count: i32, racks: &[Vec<Arc<str>>]) -> i64 {
    let mut bytes = vec![HASH_FORM];
    let (high, low) = id.0.as_u64_pair();
    bytes.extend_from_slice(&high.to_le_bytes());
    bytes.extend_from_slice(&low.to_le_bytes());
    push_text(&mut bytes, name.as_str());
    bytes.extend_from_slice(&partition_count.to_le_bytes());
    for (partition, racks) in (0_i32..).zip(racks) {
        bytes.extend_from_slice(&partition.to_le_bytes());
        let mut racks: Vec<&Arc<str>> = racks.iter().collect();
        racks.sort();
        for rack in racks {
            let len = i32::try_from(rack.encode_utf16().count()).unwrap_or(i32::MAX);
            bytes.extend_from_slice(&len.to_le_bytes());
            push_text(&mut bytes, rack);
        }
    }
    hash(&bytes)
}

/// UTF-16 units, then how many (`HashSink.putString`).
fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let mut len = 0_i32;
    for unit in text.encode_utf16() {
        bytes.extend_from_slice(&unit.to_le_bytes());
        len += 1;
    }
    bytes.extend_from_slice(&len.to_le_bytes());
}

fn hash(bytes: &[u8]) -> i64 {
    twox_hash::XxHash3_64::oneshot(bytes).cast_signed()
}
