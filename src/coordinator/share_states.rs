//! The coordinators of share-partitions: the state machine in core, as the runtime needs it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::config::BrokerConfig;
use millstream_core::coordinator::group::GroupId;
use millstream_core::coordinator::share_state::{self, Command, Decision, Reply, Shard, ShareStateKey};
use millstream_core::coordinator::{DecodeError, EncodedRecord};
use millstream_core::types::{Timestamp, TopicId, TopicName};

use super::machine::{Applied, Machine};
use super::registry::Coordinators;
use crate::config::{base64, from_base64};
use crate::partition::Partitions;
use crate::store::Store;

/// The share coordinators of this node.
pub type ShareStateCoordinators = Coordinators<Shard>;

/// Settings of the share coordinators.
#[derive(Clone, Copy, Debug)]
pub struct ShareStateConfig {
    /// `share.coordinator.write.timeout.ms`. Shorter, and writes are asked for again that are under way.
    pub write_timeout: Duration,
}

impl ShareStateConfig {
    /// As a broker is set up.
    pub fn of(broker: &BrokerConfig) -> Self {
        let ms = u64::try_from(broker.integer("share.coordinator.write.timeout.ms")).unwrap_or(0);
        Self { write_timeout: Duration::from_millis(ms) }
    }
}

/// What a share-partition is called where its coordinator is looked for: `GROUP:TOPIC:PARTITION` (Kafka's
/// `SharePartitionKey.asCoordinatorKey`).
pub fn coordinator_key(key: &ShareStateKey) -> String {
    format!("{}:{}:{}", key.group, base64(key.topic.0), key.partition)
}

/// The share-partition of that name. A group's name may hold colons.
pub fn key_of(name: &str) -> Option<ShareStateKey> {
    let mut words = name.rsplitn(3, ':');
    let (partition, topic, group) = (words.next()?, words.next()?, words.next()?);
    let group = GroupId::new(group).ok().filter(|group| !group.is_empty())?;
    Some(ShareStateKey { group, topic: TopicId(from_base64(topic)?), partition: partition.parse().ok()? })
}

impl ShareStateCoordinators {
    pub fn new(partitions: Arc<Partitions>, store: Arc<Store>, config: ShareStateConfig) -> Arc<Self> {
        Arc::new(Self::with_effects(partitions, store, config, Arc::new(|_, _| {})))
    }
}

impl Machine for Shard {
    const NAME: &'static str = "share coordinator";
    type Config = ShareStateConfig;
    type Command = Command;
    type Reply = Reply;
    type TimerKey = Infallible;
    type Decision = Decision;
    type Effect = Infallible;
    type Counts = usize;

    fn load<E>(
        _config: &Arc<Self::Config>,
        entries: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]) -> Result<(), DecodeError>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut shard = Self::default();
        entries(&mut |key, value| shard.replay_encoded(key, Some(value)))?;
        Ok(shard)
    }

    fn replay_encoded(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        self.replay_encoded(key, value)
    }

    fn entry_count(&self) -> usize {
        self.len()
    }

    fn counts(&self) -> Self::Counts {
        self.len()
    }

    fn add(counts: &mut Self::Counts, more: &Self::Counts) {
        *counts += more;
    }

    fn loaded() -> Self::Command {
        Command::Loaded
    }

    fn timer_fired(key: Self::TimerKey) -> Self::Command {
        match key {}
    }

    fn topics_deleted(topics: Arc<[(TopicName, TopicId)]>) -> Option<Self::Command> {
        Some(Command::TopicsDeleted { topics, after: None })
    }

    fn decide(&self, now: Timestamp, command: &Self::Command) -> Self::Decision {
        self.decide(now, command)
    }

    fn records(decision: &Self::Decision) -> impl Iterator<Item = EncodedRecord> {
        decision.records()
    }

    fn is_atomic(decision: &Self::Decision) -> bool {
        decision.is_atomic()
    }

    fn apply(&mut self, decision: Self::Decision) -> Applied<Self> {
        let share_state::Applied { replies, again } = self.apply(decision);
        Applied { replies, timers: Vec::new(), effects: Vec::new(), again }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_share_partition_has_a_name_that_tells_where_it_is_kept() {
        let key = |group: &str| ShareStateKey {
            group: GroupId::new(group).unwrap(),
            topic: TopicId(Uuid::from_u128(1)),
            partition: 3,
        };
        assert_eq!(coordinator_key(&key("g")), "g:AAAAAAAAAAAAAAAAAAAAAQ:3");
        for group in ["g", "a:b", ":"] {
            assert_eq!(key_of(&coordinator_key(&key(group))), Some(key(group)));
        }
        for name in ["", "g", "g:3", ":AAAAAAAAAAAAAAAAAAAAAQ:3", "g:AAAA:3", "g:AAAAAAAAAAAAAAAAAAAAAQ:x"] {
            assert_eq!(key_of(name), None, "{name}");
        }
    }
}
