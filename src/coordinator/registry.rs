//! Which coordinators run here, and the way to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use millstream_core::coordinator::group;
use millstream_core::coordinator::ids::ReplyToken;
use millstream_core::partition::TxnEnd;
use millstream_core::types::{PartitionId, TopicId, TopicName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::CoordinatorError;
use super::group_effects;
use super::in_transaction::Transaction;
use super::machine::Machine;
use super::runtime::Runtime;
use super::share_keepers::ShareKeepers;
use super::turn::{Ask, Effects};
use crate::partition::{Partition, Partitions, confirm_leaderships};
use crate::store::Store;
use crate::telemetry::spawn_essential;

/// Commands that wait for one coordinator. Full: the connections that ask are not read until there is room.
const MAILBOX_MAX: usize = 1024;

/// The group coordinators of this node.
pub type Groups = Coordinators<group::Shard>;

/// How long one waits for coordinators to learn what the metadata says.
const REACH_FOR: Duration = Duration::from_secs(1);

/// The coordinators of a kind on this node.
pub struct Coordinators<M: Machine> {
    partitions: Arc<Partitions>,
    store: Arc<Store>,
    config: Arc<M::Config>,
    effects: Effects<M>,
    /// What every coordinator is told before it serves, and again when it changes.
    surroundings: watch::Sender<Option<M::Command>>,
    /// Version of the metadata that these were last compared with.
    looked_at: watch::Sender<u64>,
    followed: RwLock<Followed<M>>,
}

/// The topic that coordinators live on, and those that run here.
struct Followed<M: Machine> {
    topic: Option<TopicId>,
    partition_count: i32,
    coordinators: BTreeMap<i32, Coordinator<M>>,
    stopped: bool,
}

impl<M: Machine> Default for Followed<M> {
    fn default() -> Self {
        Self { topic: None, partition_count: 0, coordinators: BTreeMap::new(), stopped: false }
    }
}

/// Dropping it ends the task once what it has taken on is committed.
struct Coordinator<M: Machine> {
    partition: Arc<Partition>,
    mailbox: mpsc::Sender<Ask<M>>,
    /// Whether it has its state.
    loaded: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

/// A command on its way: it has its place in line.
#[must_use]
pub struct Asked<R = group::Reply> {
    done: oneshot::Receiver<Result<R, CoordinatorError>>,
}

impl<R> Asked<R> {
    /// The reply, when what it rests on is committed; of a join, when the rebalance is done.
    pub async fn reply(self) -> Result<R, CoordinatorError> {
        self.done.await.unwrap_or(Err(CoordinatorError::NotCoordinator))
    }

    /// The same for a command that waits for nothing but its commit: when the time is over, whoever asks is told that
    /// the coordinator is not available. It may still come true.
    pub async fn reply_within(self, time: Duration) -> Result<R, CoordinatorError> {
        tokio::time::timeout(time, self.reply()).await.unwrap_or(Err(CoordinatorError::NotAvailable))
    }
}

impl Asked {
    /// The same within `offsets.commit.timeout.ms`.
    pub async fn reply_in_time(self, config: &group::GroupConfig) -> Result<group::Reply, CoordinatorError> {
        self.reply_within(Duration::from_millis(config.commit_timeout_ms)).await
    }
}

/// The partition of its topic that a group, a transactional id or a share-partition belongs to: the absolute value of Java's
/// `String.hashCode`, modulo the number of partitions (Kafka `GroupCoordinatorService.partitionFor`, `Utils.abs`).
pub fn partition_of(key: &str, partition_count: i32) -> i32 {
    hash_of(key).checked_abs().unwrap_or(0) % partition_count.max(1)
}

/// Java's `String.hashCode`.
fn hash_of(key: &str) -> i32 {
    key.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

impl Groups {
    pub fn new(
        partitions: Arc<Partitions>,
        store: Arc<Store>,
        config: group::GroupConfig,
        keepers: Arc<ShareKeepers>,
    ) -> Arc<Self> {
        let effects = |groups: &Weak<Self>| group_effects::effects(groups.clone(), keepers);
        Arc::new_cyclic(|groups| Self::with_effects(partitions, store, config, effects(groups)))
    }

    /// Tells all coordinators, also those to come, what the cluster is like now.
    pub fn set_surroundings(&self, surroundings: group::consumer::Surroundings) {
        self.surroundings.send_replace(Some(group::Command::SurroundingsChanged(surroundings)));
    }

    /// What coordinators were told is true of this version of the metadata.
    pub fn set_looked_at(&self, version: u64) {
        self.looked_at.send_replace(version);
    }

    /// Waits until what is asked from now on is answered by this version of the metadata, or a later one; not for long: a
    /// client that was told of a topic a moment ago may name it.
    pub async fn reach(&self, version: u64) {
        let mut looked_at = self.looked_at.subscribe();
        drop(tokio::time::timeout(REACH_FOR, looked_at.wait_for(|looked_at| *looked_at >= version)).await);
    }
}

impl<M: Machine> Coordinators<M> {
    pub(super) fn with_effects(
        partitions: Arc<Partitions>,
        store: Arc<Store>,
        config: M::Config,
        effects: Effects<M>,
    ) -> Self {
        let (surroundings, _) = watch::channel(None);
        let (looked_at, _) = watch::channel(0);
        Self {
            partitions,
            store,
            config: Arc::new(config),
            effects,
            surroundings,
            looked_at,
            followed: RwLock::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub fn config(&self) -> &M::Config {
        &self.config
    }

    /// Starts the coordinators of this node's partitions that have none yet, and ends those whose partition went
    /// elsewhere. Called when their topic is there. How many partitions it has counts once, as in Kafka: with another
    /// number groups would be looked for elsewhere. Needs a runtime to be entered.
    pub fn follow(&self, topic: TopicId, partition_count: i32) {
        let mut followed = self.write();
        if followed.stopped {
            return;
        }
        if followed.topic != Some(topic) {
            *followed = Followed { topic: Some(topic), partition_count, ..Followed::default() };
        }
        let is_here = |partition: i32, of: &Arc<Partition>| {
            self.partitions.get(PartitionId { topic, partition }).is_some_and(|now| Arc::ptr_eq(&now, of))
        };
        followed.coordinators.retain(|number, coordinator| is_here(*number, &coordinator.partition));
        for partition in 0..followed.partition_count {
            if followed.coordinators.contains_key(&partition) {
                continue;
            }
            let Some(handle) = self.partitions.get(PartitionId { topic, partition }) else { continue };
            let (mailbox, asks) = mpsc::channel(MAILBOX_MAX);
            let (is_loaded, loaded) = watch::channel(false);
            let (config, effects) = (self.config.clone(), self.effects.clone());
            let runtime = Runtime::new(handle.clone(), self.store.clone(), config, effects, asks, is_loaded)
                .in_surroundings(self.surroundings.subscribe());
            let task = spawn_essential(M::NAME, runtime.run());
            followed.coordinators.insert(partition, Coordinator { partition: handle, mailbox, loaded, task });
        }
    }

    /// How many partitions the topic of the coordinators has; 0 before it is made.
    pub fn partition_count(&self) -> i32 {
        self.read().partition_count
    }

    /// The partition whose coordinator a group has. `NotCoordinator` before there is one.
    pub fn partition_for(&self, group: &str) -> Result<i32, CoordinatorError> {
        match self.partition_count() {
            0 => Err(CoordinatorError::NotCoordinator),
            count => Ok(partition_of(group, count)),
        }
    }

    /// The partitions whose groups this node coordinates, or may come to.
    pub fn coordinated(&self) -> Vec<i32> {
        self.read().coordinators.keys().copied().collect()
    }

    /// The partition whose leader coordinates a group.
    pub fn partition_id_for(&self, group: &str) -> Result<PartitionId, CoordinatorError> {
        let followed = self.read();
        let topic = followed.topic.filter(|_| followed.partition_count > 0).ok_or(CoordinatorError::NotCoordinator)?;
        Ok(PartitionId { topic, partition: partition_of(group, followed.partition_count) })
    }

    /// Waits until the coordinator of a group has its state, at most until `deadline`: whoever is sent to it before
    /// that is sent away again.
    pub async fn loaded(&self, group: &str, deadline: Instant) {
        let Ok(partition) = self.partition_for(group) else { return };
        let loaded = self.read().coordinators.get(&partition).map(|c| c.loaded.clone());
        let Some(mut loaded) = loaded else { return };
        // Not in time, or ended: the coordinator itself says what is the matter.
        drop(tokio::time::timeout_at(deadline, loaded.wait_for(|loaded| *loaded)).await);
    }

    /// What the coordinators of this node hold; those that load count nothing.
    pub async fn counts(&self) -> M::Counts {
        let mailboxes: Vec<_> = self.read().coordinators.values().map(|c| c.mailbox.clone()).collect();
        let mut counts = M::Counts::default();
        for mailbox in mailboxes {
            let (reply, counted) = oneshot::channel();
            if mailbox.send(Ask::Count(reply)).await.is_ok()
                && let Ok(counted) = counted.await
            {
                M::add(&mut counts, &counted);
            }
        }
        counts
    }

    /// Ends when this node is known to coordinate each of these groups still, or does not: then its coordinator says so.
    /// What that answers after this is not older than the call.
    pub async fn confirm(&self, groups: impl IntoIterator<Item = &str>) {
        let partitions: BTreeSet<i32> = groups.into_iter().filter_map(|group| self.partition_for(group).ok()).collect();
        let handle = |number: &i32| self.read().coordinators.get(number).map(|c| c.partition.clone());
        let handles: Vec<Arc<Partition>> = partitions.iter().filter_map(handle).collect();
        confirm_leaderships(handles).await;
    }

    /// Puts a command to the coordinator of a partition; waits only for room in its mailbox.
    pub async fn ask(
        &self,
        partition: i32,
        command: impl FnOnce(ReplyToken) -> M::Command + Send + 'static,
    ) -> Result<Asked<M::Reply>, CoordinatorError> {
        let mailbox = self.mailbox(partition)?;
        let (reply, done) = oneshot::channel();
        let ask = Ask::Call { command: Box::new(command), reply };
        mailbox.send(ask).await.map_err(|_| CoordinatorError::NotCoordinator)?;
        Ok(Asked { done })
    }

    /// Puts a command that has no reply to the coordinator of a partition. One that is not loaded forgets it.
    pub async fn tell(&self, partition: i32, command: M::Command) {
        let mailbox = self.read().coordinators.get(&partition).map(|c| c.mailbox.clone());
        if let Some(mailbox) = mailbox {
            // An error: it has ended with the node.
            drop(mailbox.send(Ask::Tell(command)).await);
        }
    }

    /// Puts a command to the coordinator of a group.
    pub async fn ask_for(
        &self,
        group: &str,
        command: impl FnOnce(ReplyToken) -> M::Command + Send + 'static,
    ) -> Result<Asked<M::Reply>, CoordinatorError> {
        self.ask(self.partition_for(group)?, command).await
    }

    /// Puts a command to the coordinator of a partition whose records belong to a transaction.
    pub async fn ask_in(
        &self,
        partition: i32,
        of: Transaction,
        command: impl FnOnce(ReplyToken) -> M::Command + Send + 'static,
    ) -> Result<Asked<M::Reply>, CoordinatorError> {
        let mailbox = self.mailbox(partition)?;
        let (reply, done) = oneshot::channel();
        let ask = Ask::CallIn { of, command: Box::new(command), reply };
        mailbox.send(ask).await.map_err(|_| CoordinatorError::NotCoordinator)?;
        Ok(Asked { done })
    }

    /// Ends a transaction that wrote to a partition of the coordinators' topic. Returns when that is committed, and what was
    /// written with it counts, or never will.
    pub async fn end_transaction(&self, partition: i32, end: TxnEnd) -> Result<(), CoordinatorError> {
        let mailbox = self.mailbox(partition)?;
        let (done, ended) = oneshot::channel();
        mailbox.send(Ask::EndTransaction { end, done }).await.map_err(|_| CoordinatorError::NotCoordinator)?;
        ended.await.unwrap_or(Err(CoordinatorError::NotCoordinator))
    }

    fn mailbox(&self, partition: i32) -> Result<mpsc::Sender<Ask<M>>, CoordinatorError> {
        let mailbox = self.read().coordinators.get(&partition).map(|c| c.mailbox.clone());
        mailbox.ok_or(CoordinatorError::NotCoordinator)
    }

    /// Topics are gone: their committed offsets go too. The coordinators see to it in their own time.
    pub async fn topics_deleted(&self, topics: Arc<[(TopicName, TopicId)]>) {
        let mailboxes: Vec<_> = {
            let mut followed = self.write();
            if topics.iter().any(|(_, id)| followed.topic == Some(*id)) {
                *followed = Followed { stopped: followed.stopped, ..Followed::default() };
            }
            followed.coordinators.values().map(|c| c.mailbox.clone()).collect()
        };
        for mailbox in mailboxes {
            // An error: the coordinator has ended with the node.
            drop(mailbox.send(Ask::TopicsDeleted(topics.clone())).await);
        }
    }

    /// Ends all coordinators once what they appended is committed. Whoever asks later is sent away. To be called
    /// while the partitions still run.
    pub async fn stop(&self) {
        let ended = {
            let mut followed = self.write();
            followed.stopped = true;
            std::mem::take(&mut followed.coordinators)
        };
        for (_, Coordinator { mailbox, task, .. }) in ended {
            drop(mailbox);
            if let Err(e) = task.await {
                tracing::warn!(error = %e, "a coordinator did not end well");
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Followed<M>> {
        self.followed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Followed<M>> {
        self.followed.write().unwrap_or_else(PoisonError::into_inner)
    }
}
