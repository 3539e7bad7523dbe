//! What the runtime needs of a state machine.

use std::hash::Hash;
use std::sync::Arc;

use millstream_core::coordinator::ids::ReplyToken;
use millstream_core::coordinator::timers::TimerChange;
use millstream_core::coordinator::undecided::InTransaction;
use millstream_core::coordinator::{DecodeError, EncodedRecord, group};
use millstream_core::types::{Offset, ProducerId, Timestamp, TopicId, TopicName};

/// A state machine over the records of one partition: decides, then applies what it decided.
pub trait Machine: Sized + Send + 'static {
    /// What it is, for the log.
    const NAME: &'static str;
    type Config: Send + Sync;
    type Command: Clone + Send + Sync;
    type Reply: Send;
    type TimerKey: Clone + Eq + Hash + Ord + Send;
    type Decision: Send;
    /// What is to be done elsewhere once the records of a decision are committed.
    type Effect: Send;
    type Counts: Default + Send;

    /// From stored entries, which `entries` hands over one by one.
    fn load<E>(
        config: &Arc<Self::Config>,
        entries: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]) -> Result<(), DecodeError>) -> Result<(), E>,
    ) -> Result<Self, E>;

    /// A committed record as it stands in the log.
    fn replay_encoded(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError>;

    /// Groups, or whatever it has.
    fn entry_count(&self) -> usize;

    fn counts(&self) -> Self::Counts;

    fn add(counts: &mut Self::Counts, more: &Self::Counts);

    /// This node leads the partition, and the state is there.
    fn loaded() -> Self::Command;

    fn timer_fired(key: Self::TimerKey) -> Self::Command;

    /// `None`: it does not care.
    fn topics_deleted(topics: Arc<[(TopicName, TopicId)]>) -> Option<Self::Command>;

    fn decide(&self, now: Timestamp, command: &Self::Command) -> Self::Decision;

    /// In order.
    fn records(decision: &Self::Decision) -> impl Iterator<Item = EncodedRecord>;

    /// The records are one batch.
    fn is_atomic(decision: &Self::Decision) -> bool;

    fn apply(&mut self, decision: Self::Decision) -> Applied<Self>;

    /// `apply`, of a decision whose records were appended as part of a producer's transaction, the first at `base`.
    /// Only groups have such; for others it is what it is without.
    fn apply_in_transaction(
        &mut self,
        decision: Self::Decision,
        _producer: ProducerId,
        _base: Offset,
    ) -> Applied<Self> {
        self.apply(decision)
    }

    /// `replay_encoded`, of a record of a transaction.
    fn replay_in_transaction(
        &mut self,
        _of: InTransaction,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), DecodeError> {
        self.replay_encoded(key, value)
    }

    /// A marker.
    fn end_transaction(&mut self, _producer: ProducerId, _commit: bool) {}
}

/// What remains to be done once a decision is applied.
pub struct Applied<M: Machine> {
    pub replies: Vec<(ReplyToken, M::Reply)>,
    pub timers: Vec<TimerChange<M::TimerKey>>,
    pub effects: Vec<M::Effect>,
    /// Goes on with what was cut short.
    pub again: Option<M::Command>,
}

impl Machine for group::Shard {
    const NAME: &'static str = "group coordinator";
    type Config = group::GroupConfig;
    type Command = group::Command;
    type Reply = group::Reply;
    type TimerKey = group::TimerKey;
    type Decision = group::Decision;
    type Effect = group::Effect;
    type Counts = group::GroupCounts;

    fn load<E>(
        config: &Arc<Self::Config>,
        entries: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]) -> Result<(), DecodeError>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut loader = group::Loader::new(Arc::clone(config));
        entries(&mut |key, value| loader.put(key, value))?;
        Ok(loader.finish())
    }

    fn replay_encoded(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        self.replay_encoded(key, value)
    }

    fn entry_count(&self) -> usize {
        self.group_count()
    }

    fn counts(&self) -> Self::Counts {
        self.counts()
    }

    fn add(counts: &mut Self::Counts, more: &Self::Counts) {
        counts.add(more);
    }

    fn loaded() -> Self::Command {
        group::Command::Loaded
    }

    fn timer_fired(key: Self::TimerKey) -> Self::Command {
        group::Command::TimerFired(key)
    }

    fn topics_deleted(topics: Arc<[(TopicName, TopicId)]>) -> Option<Self::Command> {
        Some(group::Command::TopicsDeleted { topics, after: None })
    }

    fn decide(&self, now: Timestamp, command: &Self::Command) -> Self::Decision {
        self.decide(now, command)
    }

    fn records(decision: &Self::Decision) -> impl Iterator<Item = EncodedRecord> {
        decision.records.iter().map(group::Record::encode)
    }

    fn is_atomic(decision: &Self::Decision) -> bool {
        decision.atomic
    }

    fn apply(&mut self, decision: Self::Decision) -> Applied<Self> {
        self.apply(decision).into()
    }

    fn apply_in_transaction(&mut self, decision: Self::Decision, producer: ProducerId, base: Offset) -> Applied<Self> {
        self.apply_in_transaction(decision, producer, base).into()
    }

    fn replay_in_transaction(
        &mut self,
        of: InTransaction,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), DecodeError> {
        self.replay_in_transaction(of, key, value)
    }

    fn end_transaction(&mut self, producer: ProducerId, commit: bool) {
        self.end_transaction(producer, commit);
    }
}

impl From<group::Applied> for Applied<group::Shard> {
    fn from(applied: group::Applied) -> Self {
        let group::Applied { replies, timers, effects, again } = applied;
        Self { replies, timers, effects, again }
    }
}
