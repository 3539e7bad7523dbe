//! Partitions that members subscribe to come to the share coordinators before they are assigned.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::command::Effect;
use super::super::consumer::Target;
use super::super::decision::Decision;
use super::super::ids::GroupId;
use super::super::shard::Shard;
use super::command::InitializeShares;
use super::partitions::{SharePartitions, TopicPartitions, UNKNOWN_NAME, add};
use super::state::ShareGroup;
use super::target::ShareWork;
use crate::types::{Timestamp, TopicId};

impl ShareWork<'_> {
    /// Asks the share coordinators for partitions of these topics that are new, or that they were asked for long ago.
    pub fn initialize(&mut self, group_epoch: i32, topics: &BTreeMap<Arc<str>, usize>) {
        let missing = self.missing(topics);
        if missing.is_empty() {
            return;
        }
        let anywhere = |(id, topic): (&TopicId, &TopicPartitions)| {
            (*id, topic.partitions.iter().map(|index| (*index, None)).collect())
        };
        let asked = missing.iter().map(anywhere).collect();
        let mut partitions = self.partitions();
        partitions.begin(&missing);
        self.emit_partitions(partitions);
        let asked = InitializeShares { group: self.id.clone(), epoch: group_epoch, topics: asked };
        self.decision.effects.push(Effect::InitializeShares(asked));
    }

    fn missing(&self, topics: &BTreeMap<Arc<str>, usize>) -> BTreeMap<TopicId, TopicPartitions> {
        let mut known = BTreeMap::new();
        if let Some(partitions) = &self.group.partitions {
            add(&mut known, &partitions.initialized);
            let since = self.group.soft.initializing_since;
            let waits = since.is_some_and(|since| self.now.0 - since.0 < self.config().initialize_retry_ms);
            if waits {
                add(&mut known, &partitions.initializing);
            }
        }
        let missing = |name: &Arc<str>| {
            let topic = self.topics().by_name(name)?;
            let known = known.get(&topic.id).map(|topic| &topic.partitions);
            let is_new = |index: &i32| known.is_none_or(|known| !known.contains(index));
            let partitions: BTreeSet<i32> = (0..topic.partition_count).filter(is_new).collect();
            (!partitions.is_empty()).then(|| (topic.id, TopicPartitions { name: name.clone(), partitions }))
        };
        topics.keys().filter_map(missing).collect()
    }

    pub fn partitions(&self) -> SharePartitions {
        self.group.partitions.as_deref().cloned().unwrap_or_default()
    }
}

impl Shard {
    /// The share coordinators have these. A group that has gone meanwhile does not come back.
    pub(super) fn shares_initialized(&self, now: Timestamp, id: &GroupId, topics: &Target) -> Decision {
        let Ok(group) = self.share_group(id) else { return Decision::nothing() };
        if topics.is_empty() {
            return Decision::nothing();
        }
        let named = |(topic, partitions): (&TopicId, &BTreeSet<i32>)| {
            let name = self.surroundings.topics.by_id(*topic).map_or(UNKNOWN_NAME, |topic| topic.name.as_str());
            (*topic, TopicPartitions { name: name.into(), partitions: partitions.clone() })
        };
        let mut work = ShareWork::new(self, now, id, Cow::Borrowed(group));
        let mut partitions = work.partitions();
        partitions.done(&topics.iter().map(named).collect());
        work.emit_partitions(partitions);
        work.decision
    }

    /// They have not; they are asked again with a heartbeat.
    pub(super) fn shares_not_initialized(&self, now: Timestamp, id: &GroupId, topics: &Target) -> Decision {
        let Ok(ShareGroup { partitions: Some(known), .. }) = self.share_group(id) else { return Decision::nothing() };
        if known.initializing.is_empty() || topics.is_empty() {
            return Decision::nothing();
        }
        let Ok(group) = self.share_group(id) else { return Decision::nothing() };
        let mut work = ShareWork::new(self, now, id, Cow::Borrowed(group));
        let mut partitions = SharePartitions::clone(known);
        partitions.give_up(topics);
        work.emit_partitions(partitions);
        work.decision
    }
}
