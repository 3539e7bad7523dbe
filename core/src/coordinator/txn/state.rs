//! A transactional id's state, and how it goes from one to the next (Kafka `TransactionMetadata`).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::coordinator::ids::text;
use crate::types::{ProducerEpoch, ProducerId, Timestamp, TopicPartition};

text!(
    /// The name under which a producer goes on after a restart, and by which an older instance of it is fenced.
    TransactionalId
);

/// From this epoch on a producer gets another id: the epoch above is kept to fence it with
/// (`TransactionMetadata.isEpochExhausted`).
pub(super) const EPOCH_EXHAUSTED: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

/// A level of the feature `transaction.version`, and what clients show of it by the versions that they use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TransactionVersion(pub i16);

impl TransactionVersion {
    pub const V0: Self = Self(0);
    /// Records with tagged fields.
    pub const V1: Self = Self(1);
    /// An epoch for each transaction (KIP-890).
    pub const V2: Self = Self(2);

    /// Whether each end of a transaction bumps the epoch of its producer.
    pub fn bumps_epoch(self) -> bool {
        self >= Self::V2
    }
}

/// Where a transactional id stands. The numbers are those of the records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TransactionState {
    /// It has a producer, which has begun nothing yet.
    Empty,
    Ongoing,
    /// Decided; the partitions are being told.
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl TransactionState {
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// The number of it in a record.
    pub(super) fn number(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
        }
    }

    pub(super) fn prepare(commit: bool) -> Self {
        if commit { Self::PrepareCommit } else { Self::PrepareAbort }
    }

    /// Its outcome is decided and not yet told to all partitions.
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// The outcome, where there is one.
    pub fn is_commit(self) -> Option<bool> {
        match self {
            Self::PrepareCommit | Self::CompleteCommit => Some(true),
            Self::PrepareAbort | Self::CompleteAbort => Some(false),
            Self::Empty | Self::Ongoing => None,
        }
    }
}

/// What is kept of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub state: TransactionState,
    pub producer_id: ProducerId,
    /// The producer id before the latest change of state: usually the same.
    pub previous_producer_id: Option<ProducerId>,
    /// The id that the producer goes on with when the transaction is complete, its epochs being used up.
    pub next_producer_id: Option<ProducerId>,
    pub producer_epoch: ProducerEpoch,
    /// The epoch before the latest bump that its producer may ask for again. Not in records: as in Kafka, a retry that
    /// comes to another coordinator is fenced.
    pub last_producer_epoch: Option<ProducerEpoch>,
    /// Longest time that a transaction may take. `i32::MAX`: for ever (two-phase commit).
    pub timeout_ms: i32,
    /// Those that the transaction reaches. None once it is complete.
    pub partitions: Arc<BTreeSet<TopicPartition>>,
    pub started_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    /// Of the client that brought it into its state.
    pub client_version: TransactionVersion,
}

impl Transaction {
    /// A transactional id that nobody used before, with the first epoch of its producer.
    pub(super) fn first(producer_id: ProducerId, timeout_ms: i32, now: Timestamp) -> Self {
        Self {
            state: TransactionState::Empty,
            producer_id,
            previous_producer_id: Some(producer_id),
            next_producer_id: None,
            producer_epoch: ProducerEpoch(0),
            last_producer_epoch: None,
            timeout_ms,
            partitions: Arc::default(),
            started_at: None,
            updated_at: now,
            client_version: TransactionVersion::V0,
        }
    }

    pub(super) fn has_used_up_its_epochs(&self) -> bool {
        self.producer_epoch >= EPOCH_EXHAUSTED
    }

    /// When it is to be aborted. `None`: it is not ongoing, or may go on for ever.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let started_at = self.started_at.filter(|_| self.state == TransactionState::Ongoing)?;
        (self.timeout_ms != i32::MAX).then(|| started_at.plus_ms(i64::from(self.timeout_ms)))
    }

    /// The same in another state; every change remembers the producer id before it.
    fn changed(&self, state: TransactionState, now: Timestamp) -> Self {
        Self { state, previous_producer_id: Some(self.producer_id), updated_at: now, ..self.clone() }
    }

    /// A producer that begins anew.
    pub(super) fn initialized(
        &self,
        now: Timestamp,
        timeout_ms: i32,
        (producer_id, producer_epoch): (ProducerId, ProducerEpoch),
        last_producer_epoch: Option<ProducerEpoch>,
    ) -> Self {
        Self {
            producer_id,
            producer_epoch,
            last_producer_epoch,
            timeout_ms,
            partitions: Arc::default(),
            started_at: None,
            ..self.changed(TransactionState::Empty, now)
        }
    }

    pub(super) fn with_partitions(
        &self,
        now: Timestamp,
        added: &BTreeSet<TopicPartition>,
        client_version: TransactionVersion,
    ) -> Self {
        let mut partitions = BTreeSet::clone(&self.partitions);
        partitions.extend(added.iter().cloned());
        Self {
            partitions: Arc::new(partitions),
            started_at: if self.state == TransactionState::Ongoing { self.started_at } else { Some(now) },
            client_version,
            ..self.changed(TransactionState::Ongoing, now)
        }
    }

    /// Decided, in the version that the end was asked for in. A transaction that reaches no partition begins with its
    /// end. `next`: the id to go on with, where the epochs are used up.
    pub(super) fn prepared(
        &self,
        now: Timestamp,
        commit: bool,
        version: TransactionVersion,
        next: Option<ProducerId>,
    ) -> Self {
        let is_ongoing = self.state == TransactionState::Ongoing;
        let prepared = Self {
            next_producer_id: next,
            started_at: if is_ongoing { self.started_at } else { Some(now) },
            client_version: if version.bumps_epoch() { version } else { TransactionVersion::V0 },
            ..self.changed(TransactionState::prepare(commit), now)
        };
        match version.bumps_epoch() {
            true => Self {
                producer_epoch: ProducerEpoch(self.producer_epoch.0.saturating_add(1)),
                last_producer_epoch: Some(self.producer_epoch),
                ..prepared
            },
            false => prepared,
        }
    }

    /// Who the producer is once this transaction, which is prepared, is complete.
    pub(super) fn producer_when_complete(&self) -> (ProducerId, ProducerEpoch) {
        match self.next_producer_id.filter(|_| self.client_version.bumps_epoch()) {
            Some(next) => (next, ProducerEpoch(0)),
            None => (self.producer_id, self.producer_epoch),
        }
    }

    /// All partitions know the outcome.
    pub(super) fn completed(&self, now: Timestamp) -> Self {
        let (producer_id, producer_epoch) = self.producer_when_complete();
        let state = match self.state {
            TransactionState::PrepareCommit => TransactionState::CompleteCommit,
            _ => TransactionState::CompleteAbort,
        };
        Self {
            producer_id,
            producer_epoch,
            next_producer_id: None,
            partitions: Arc::default(),
            ..self.changed(state, now)
        }
    }
}
