//! The coordinators of transactions: the state machine in core, with what it needs of the rest of the node.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI16, Ordering};
use std::sync::{Arc, Weak};

use millstream_core::coordinator::txn::{
    self, Command, Effect, Markers, Reply, Shard, TimerKey, TransactionConfig, TransactionCounts, TransactionVersion,
};
use millstream_core::coordinator::{DecodeError, EncodedRecord};
use millstream_core::types::{LeaderEpoch, NodeId, ProducerId, Timestamp, TopicId, TopicName, TopicPartition};
use tokio::sync::watch;

use super::machine::{Applied, Machine};
use super::markers;
use super::registry::Coordinators;
use super::turn::Effects;
use crate::partition::Partitions;
use crate::store::Store;

/// The transaction coordinators of this node.
pub type Transactions = Coordinators<TransactionMachine>;

/// A future of something outside.
pub type Outcome<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What transaction coordinators need of the rest of the cluster.
pub trait Outside: Send + Sync + 'static {
    /// Who leads a partition now.
    fn place(&self, partition: &TopicPartition) -> Place;

    /// Ends a transaction in partitions that a node leads. What it does not name may have been done or not.
    fn write(&self, node: NodeId, end: End) -> Outcome<Vec<(TopicPartition, Written)>>;

    /// Ends when this node knows all changes of the metadata that were made before the call.
    fn caught_up(&self) -> Outcome<()>;

    /// An id that no producer has. `None`: not now.
    fn producer_id(&self) -> Outcome<Option<ProducerId>>;
}

/// Where a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    At(NodeId),
    /// Nobody leads it now.
    Nowhere,
    /// As far as this node knows, there is none of that name.
    Gone,
}

/// The end of a transaction, for some of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub markers: Markers,
    /// Of the coordinator.
    pub epoch: LeaderEpoch,
    pub partitions: Vec<TopicPartition>,
}

/// What became of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// The partition has seen a newer epoch of the producer: this transaction is over there.
    Overtaken,
    /// There is a newer coordinator.
    Fenced,
    /// To be tried again.
    NotNow,
}

/// What all coordinators of a node share.
pub struct Settings {
    config: Arc<TransactionConfig>,
    version: AtomicI16,
    outside: watch::Sender<Option<Arc<dyn Outside>>>,
}

impl Settings {
    /// Waits until there is one; `None`: there never will be.
    pub(super) async fn outside(&self) -> Option<Arc<dyn Outside>> {
        let mut outside = self.outside.subscribe();
        let found = outside.wait_for(Option::is_some).await;
        found.ok().and_then(|outside| outside.clone())
    }
}

impl Transactions {
    pub fn new(partitions: Arc<Partitions>, store: Arc<Store>, config: TransactionConfig) -> Arc<Self> {
        let settings = Settings {
            config: Arc::new(config),
            version: AtomicI16::new(TransactionVersion::V0.0),
            outside: watch::Sender::new(None),
        };
        Arc::new_cyclic(|this: &Weak<Self>| {
            let this = this.clone();
            let effects: Effects<TransactionMachine> = Arc::new(move |origin, effects| {
                for effect in effects {
                    let (this, origin) = (this.clone(), origin.clone());
                    match effect {
                        Effect::WriteMarkers(end) => drop(tokio::spawn(markers::write(this, origin, end))),
                        Effect::AllocateProducerId { id, producer } => {
                            drop(tokio::spawn(markers::allocate(this, origin, id, producer)));
                        }
                    }
                }
            });
            Self::with_effects(partitions, store, settings, effects)
        })
    }

    /// The cluster's level of `transaction.version`.
    pub fn set_version(&self, version: TransactionVersion) {
        self.config().version.store(version.0, Ordering::Relaxed);
    }

    /// Lets the coordinators reach others. What they have to say meanwhile waits.
    pub fn connect(&self, outside: Arc<dyn Outside>) {
        self.config().outside.send_replace(Some(outside));
    }
}

/// The state machine under the cluster's level of the feature.
pub struct TransactionMachine {
    shard: Shard,
    settings: Arc<Settings>,
}

impl Machine for TransactionMachine {
    const NAME: &'static str = "transaction coordinator";
    type Config = Settings;
    type Command = Command;
    type Reply = Reply;
    type TimerKey = TimerKey;
    type Decision = txn::Decision;
    type Effect = Effect;
    type Counts = TransactionCounts;

    fn load<E>(
        config: &Arc<Self::Config>,
        entries: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]) -> Result<(), DecodeError>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut shard = Shard::new(Arc::clone(&config.config));
        entries(&mut |key, value| shard.replay_encoded(key, Some(value)))?;
        Ok(Self { shard, settings: Arc::clone(config) })
    }

    fn replay_encoded(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        self.shard.replay_encoded(key, value)
    }

    fn entry_count(&self) -> usize {
        self.shard.len()
    }

    fn counts(&self) -> Self::Counts {
        self.shard.counts()
    }

    fn add(counts: &mut Self::Counts, more: &Self::Counts) {
        counts.add(more);
    }

    fn loaded() -> Self::Command {
        Command::Loaded
    }

    fn timer_fired(key: Self::TimerKey) -> Self::Command {
        Command::TimerFired(key)
    }

    /// Where a partition is gone is found out when it is to be told of an end.
    fn topics_deleted(_: Arc<[(TopicName, TopicId)]>) -> Option<Self::Command> {
        None
    }

    fn decide(&self, now: Timestamp, command: &Self::Command) -> Self::Decision {
        let version = TransactionVersion(self.settings.version.load(Ordering::Relaxed));
        self.shard.decide(now, version, command)
    }

    fn records(decision: &Self::Decision) -> impl Iterator<Item = EncodedRecord> {
        decision.records()
    }

    fn is_atomic(decision: &Self::Decision) -> bool {
        decision.is_atomic()
    }

    fn apply(&mut self, decision: Self::Decision) -> Applied<Self> {
        let txn::Applied { replies, timers, effects, again } = self.shard.apply(decision);
        Applied { replies, timers, effects, again }
    }
}
