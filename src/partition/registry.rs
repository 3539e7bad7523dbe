//! All partitions of this node, and the shards that own them.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use millstream_core::config::TopicConfig;
use millstream_core::types::{LogMark, NodeId, PartitionId, PeerId, Timestamp, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use super::announce::{self, Announcements};
use super::append::Append;
use super::ask::{Ask, MAILBOX_MAX};
use super::handle::Partition;
use super::leaders::Leaders;
use super::log_config::log_config;
use super::members::Members;
use super::open::{Opening, Removed, Replica};
use super::peers::Peers;
use super::shard::{Shard, system_clock};
use super::snapshot::{Caller, Snapshots};
use super::throttle::Throttles;
use crate::log::{DataDir, FlushStats, LogConfig};
use crate::raft::{self, Member, RecoverError, Recovered};
use crate::store::{self, Durability, Store, StoreError};
use crate::telemetry::spawn_essential;

/// Bytes of produced batches that may wait for their commit. Beyond: connections are not read.
const UNCOMMITTED_KIB_MAX: usize = 64 << 10;

/// How often a write that finds no room is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How the partitions of a node are kept.
#[derive(Clone, Copy, Debug)]
pub struct PartitionsConfig {
    /// Event loops, default one per core.
    pub shards: usize,
    /// `producer.id.expiration.ms`, milliseconds, default 1 day: how long an idle producer is remembered.
    pub producer_id_expiration_ms: i64,
    /// `replica.lag.time.max.ms`, default 30 s: a follower that has not caught up for so long is not in sync.
    pub replica_lag_max: Duration,
}

/// What others know this node by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the node's disk, in every raft group.
    pub peer: PeerId,
    pub node: NodeId,
}

/// What goes from the partitions of one node to those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Post {
    /// Raft's heartbeats and votes: they never wait behind batches.
    Urgent,
    /// Raft's other messages, batches beside them.
    Raft,
    /// Who leads what.
    Leaders,
    /// Which groups sleep.
    Sleep,
}

/// Takes post to another node, its parts in a row; never waits. False: it is lost, which raft makes good.
pub type Outlet = Arc<dyn Fn(NodeId, Post, Vec<Bytes>) -> bool + Send + Sync>;

/// The ways to other nodes.
#[derive(Clone)]
pub struct Links {
    pub outlet: Outlet,
    pub caller: Caller,
}

/// What every shard uses.
pub(super) struct Shared {
    pub dir: Arc<DataDir>,
    pub store: Arc<Store>,
    pub identity: Identity,
    pub outlet: Option<Outlet>,
    pub caller: Option<Caller>,
    pub snapshots: Arc<Snapshots>,
    pub throttles: Throttles,
    pub peers: ArcSwap<Peers>,
    /// Nodes that are silent.
    pub dead: ArcSwap<HashSet<NodeId>>,
    /// Those, and nodes that were not heard of for a moment.
    pub silent: ArcSwap<HashSet<NodeId>>,
    pub leaders: Leaders,
    pub announcements: Announcements,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_max: Duration,
    pub clock: fn() -> Timestamp,
    /// `producer.id.expiration.ms`; may change while the node runs.
    pub producer_id_expiration_ms: AtomicI64,
}

impl Shared {
    /// Writes; a failure is logged: nothing that is acknowledged rests on a buffered write.
    pub fn write(&self, batch: store::Batch, durability: Durability) -> bool {
        if batch.is_empty() {
            return true;
        }
        match self.store.write(batch, durability) {
            Ok(()) => true,
            Err(e) => {
                tracing::error!(error = %e, "store write failed");
                if matches!(e, StoreError::NoSpace(_)) {
                    self.dir.ran_full();
                }
                false
            }
        }
    }

    /// Moves a partition's files to the trash and forgets what is stored about it. Blocks for the disk.
    fn delete(&self, id: PartitionId, gone: Gone) {
        if let Err(e) = self.dir.move_to_trash(id) {
            tracing::error!(partition = %id, error = %e, "deletion failed");
        }
        if let Err(e) = self.dir.discard_incoming(id) {
            tracing::warn!(partition = %id, error = %e, "what was fetched of a snapshot stays");
        }
        if let Err(e) = self.forget(id, gone) {
            tracing::error!(partition = %id, error = %e, "deletion failed");
        }
    }

    fn forget(&self, id: PartitionId, gone: Gone) -> Result<(), StoreError> {
        let mut batch = store::Batch::default();
        let promised = if gone == Gone::Elsewhere { self.store.hard_state(id)? } else { None };
        self.store.forget_partition(&mut batch, id)?;
        match promised {
            Some(promised) => batch.put_hard_state(id, &promised),
            None => batch.delete_held(id),
        }
        self.write(batch, Durability::Buffered);
        Ok(())
    }

    /// Writes what raft rests on. Nothing does yet, so a full disk is waited for; after any other failure nothing is
    /// known any more, and the process stops.
    pub async fn write_or_abort(self: &Arc<Self>, batch: store::Batch) {
        loop {
            let (shared, again) = (self.clone(), batch.clone());
            let written = tokio::task::spawn_blocking(move || shared.store.write(again, Durability::Synced)).await;
            match written.expect("a write does not panic") {
                Ok(()) => return,
                Err(e @ StoreError::NoSpace(_)) => {
                    tracing::warn!(error = %e, "raft's hard state cannot be written, will retry");
                    self.dir.ran_full();
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(e) => {
                    tracing::error!(error = %e, "raft's hard state could not be written, stopping");
                    std::process::abort();
                }
            }
        }
    }
}

/// The registry. Partitions come and go as the metadata says.
pub struct Partitions {
    shards: Vec<mpsc::Sender<Ask>>,
    /// Taken by `stop`.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    announcer: Option<AbortHandle>,
    pub(super) shared: Arc<Shared>,
    map: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    hasher: RandomState,
    uncommitted: Arc<Semaphore>,
}

/// A partition that this node shall own.
pub struct ToOpen {
    pub id: PartitionId,
    pub name: TopicPartition,
    pub config: Arc<TopicConfig>,
    /// Never opened before: there is nothing to recover.
    pub newborn: bool,
    /// The replicas that the group is born with: a newborn one starts with them.
    pub voters: Vec<PeerId>,
    /// The replica neither votes nor stands for election before its log reaches there.
    pub since: LogMark,
    /// Who shall belong to the group now; `None`: nobody says so.
    pub members: Option<Members>,
    /// This node is to lead when it can.
    pub preferred: bool,
}

/// Why this node has a partition no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its topic is deleted.
    Everywhere,
    /// It lives on other nodes, and may come back: who votes here must know then in which terms it has voted.
    Elsewhere,
}

/// How an opening went.
#[derive(Debug)]
pub struct OpenOutcome {
    pub id: PartitionId,
    /// Why the partition is offline, if it is.
    pub failed: Option<RecoverError>,
}

impl Partitions {
    /// Starts the shards as tasks of the present runtime.
    /// `links`: the ways to other nodes, if there are any.
    pub fn start(
        dir: Arc<DataDir>,
        store: Arc<Store>,
        identity: Identity,
        links: Option<Links>,
        config: PartitionsConfig,
    ) -> Arc<Self> {
        let producer_id_expiration_ms = AtomicI64::new(config.producer_id_expiration_ms);
        let peers = ArcSwap::from_pointee(HashMap::from([(identity.peer, identity.node)]).into());
        let (outlet, caller) = links.map(|links| (links.outlet, links.caller)).unzip();
        let shared = Arc::new(Shared {
            dir,
            store,
            identity,
            outlet,
            caller,
            snapshots: Arc::default(),
            throttles: Throttles::default(),
            peers,
            dead: ArcSwap::default(),
            silent: ArcSwap::default(),
            leaders: Leaders::default(),
            announcements: Announcements::default(),
            replica_lag_max: config.replica_lag_max,
            clock: system_clock,
            producer_id_expiration_ms,
        });
        let start = |_| {
            let (me, mailbox) = mpsc::channel(MAILBOX_MAX);
            let task = spawn_essential("partitions", Shard::new(shared.clone(), mailbox).run());
            (me, task)
        };
        let (shards, tasks): (Vec<_>, Vec<_>) = (0..config.shards.max(1)).map(start).unzip();
        let announcer = shared.outlet.is_some().then(|| tokio::spawn(announce::run(shared.clone())));
        Arc::new(Self {
            shards,
            tasks: Mutex::new(tasks),
            announcer: announcer.map(|task| task.abort_handle()),
            shared,
            map: RwLock::default(),
            hasher: RandomState::new(),
            uncommitted: Arc::new(Semaphore::new(UNCOMMITTED_KIB_MAX)),
        })
    }

    pub fn get(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Every partition, in no order.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Whether the disk has room for so many bytes, and more than a little beside them.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        self.shared.dir.has_room_for(bytes)
    }

    /// What flushing took so far.
    pub fn flush_stats(&self) -> FlushStats {
        self.shared.dir.flush_stats()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn shards(&self) -> &[mpsc::Sender<Ask>] {
        &self.shards
    }

    pub(super) fn shard(&self, id: PartitionId) -> &mpsc::Sender<Ask> {
        &self.shards[self.shard_of(id)]
    }

    pub(super) fn shard_of(&self, id: PartitionId) -> usize {
        (self.hasher.hash_one(id) % self.shards.len() as u64) as usize
    }

    /// Opens partitions, all in one flush round, and returns when those that could be opened lead.
    pub async fn open(&self, partitions: Vec<ToOpen>) -> Vec<OpenOutcome> {
        let mut outcomes = Vec::with_capacity(partitions.len());
        let mut by_shard: Vec<Vec<Opening>> = self.shards.iter().map(|_| Vec::new()).collect();
        let must_sync = partitions.iter().any(|p| !p.newborn);
        for (to_open, recovered) in self.recover(partitions).await {
            let ToOpen { id, name, config, voters, since, members, preferred, .. } = to_open;
            let member = Member { peer: self.shared.identity.peer, voters, since };
            let shard = self.shard_of(id);
            let log_config = log_config(&config);
            let handle = Arc::new(Partition::new(id, name, config, self.shards[shard].clone()));
            self.map.write().unwrap_or_else(PoisonError::into_inner).insert(id, handle.clone());
            let (replica, failed) = match recovered {
                Ok(recovered) => (Replica::Recovered(Box::new(recovered)), None),
                Err(e) => {
                    tracing::error!(partition = %handle.name, error = %e, "partition is offline");
                    (if e.is_final() { Replica::Lost } else { Replica::Halted }, Some(e))
                }
            };
            by_shard[shard].push(Opening {
                shared: handle,
                config: log_config,
                replica,
                member,
                members,
                stands: preferred,
            });
            outcomes.push(OpenOutcome { id, failed });
        }
        if must_sync {
            // Raft takes what the log holds for persisted; after kill -9 it may be in the page cache only.
            let dir = self.shared.dir.clone();
            blocking(move || dir.sync_all_blocking()).await;
        }
        let mut waiting = Vec::new();
        for (shard, partitions) in self.shards.iter().zip(by_shard).filter(|(_, p)| !p.is_empty()) {
            let (reply, done) = oneshot::channel();
            if shard.send(Ask::Open { partitions, reply }).await.is_ok() {
                waiting.push(done);
            }
        }
        for done in waiting {
            // An error: the shard has ended, and the node with it.
            drop(done.await);
        }
        outcomes
    }

    /// Reads replicas back on a few threads.
    async fn recover(&self, partitions: Vec<ToOpen>) -> Vec<(ToOpen, Result<Recovered, RecoverError>)> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(partitions.len().max(1));
        let mut shares: Vec<Vec<ToOpen>> = (0..threads).map(|_| Vec::new()).collect();
        for (n, partition) in partitions.into_iter().enumerate() {
            shares[n % threads].push(partition);
        }
        let mut tasks = Vec::new();
        for share in shares {
            let shared = self.shared.clone();
            tasks.push(tokio::task::spawn_blocking(move || {
                share.into_iter().map(|p| recover_one(&shared, p)).collect::<Vec<_>>()
            }));
        }
        let mut recovered = Vec::new();
        for task in tasks {
            recovered.extend(task.await.expect("recovery does not panic"));
        }
        recovered
    }

    /// Deletes a partition that is no more, with all it holds. Readers that have its files open go on.
    pub async fn remove(&self, id: PartitionId) -> Removed {
        self.shared.leaders.forget(id);
        self.close_and_delete(id, Gone::Everywhere).await
    }

    /// The same for a partition that lives on other nodes: who leads it there stays known.
    pub async fn remove_replica(&self, id: PartitionId) -> Removed {
        self.close_and_delete(id, Gone::Elsewhere).await
    }

    async fn close_and_delete(&self, id: PartitionId, gone: Gone) -> Removed {
        let handle = self.map.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let Some(handle) = handle else { return Removed::Unknown };
        let (reply, done) = oneshot::channel();
        if handle.shard.send(Ask::Remove { id, reply }).await.is_ok() {
            drop(done.await);
        }
        let shared = self.shared.clone();
        blocking(move || shared.delete(id, gone)).await;
        Removed::Done
    }

    /// Every partition that the data directory holds something of.
    pub fn on_disk(&self) -> Vec<PartitionId> {
        self.shared.dir.list_partitions().unwrap_or_else(|e| {
            tracing::error!(error = %e, "data directory could not be listed");
            Vec::new()
        })
    }

    /// Deletes what the data directory holds of a partition that is not open.
    pub async fn discard(&self, id: PartitionId, gone: Gone) {
        let shared = self.shared.clone();
        blocking(move || shared.delete(id, gone)).await;
    }

    /// Forgets of partitions that are not here what was kept in case that they come back, where they are gone everywhere.
    pub async fn forget_all(&self, is_gone: impl Fn(PartitionId) -> bool + Send + 'static) {
        let shared = self.shared.clone();
        blocking(move || {
            let found = shared.store.hard_state_partitions().unwrap_or_else(|e| {
                tracing::warn!(error = %e, "what is kept of partitions that are gone stays");
                Vec::new()
            });
            found.into_iter().filter(|id| is_gone(*id)).for_each(|id| {
                if let Err(e) = shared.forget(id, Gone::Everywhere) {
                    tracing::warn!(partition = %id, error = %e, "what is kept of it stays");
                }
            });
        })
        .await;
    }

    /// Deletes the files of removed partitions.
    pub async fn empty_trash(&self) {
        let dir = self.shared.dir.clone();
        blocking(move || {
            if let Err(e) = dir.empty_trash() {
                tracing::warn!(error = %e, "trash could not be emptied");
            }
        })
        .await;
    }

    pub async fn set_config(&self, id: PartitionId, config: Arc<TopicConfig>) {
        if let Some(handle) = self.get(id) {
            let log = log_config(&config);
            handle.set_config(config);
            // An error: the shard has ended.
            drop(handle.shard.send(Ask::SetConfig { id, config: log }).await);
        }
    }

    /// Room for a produce of so many bytes; give it back when it is answered.
    pub async fn admit(&self, size_bytes: usize) -> OwnedSemaphorePermit {
        let kib = size_bytes.div_ceil(1024).clamp(1, UNCOMMITTED_KIB_MAX);
        let kib = u32::try_from(kib).expect("at most 64 MiB in KiB");
        self.uncommitted.clone().acquire_many_owned(kib).await.expect("never closed")
    }

    /// Sends the batches of one produce to their owners: their order is settled when this returns.
    pub async fn append(&self, mut batches: Vec<Append>) {
        while let Some(last) = batches.last() {
            let shard = self.shard_of(last.id);
            let mut mine: Vec<Append> = batches.extract_if(.., |b| self.shard_of(b.id) == shard).collect();
            if let Err(mpsc::error::SendError(Ask::Append(refused))) =
                self.shards[shard].send(Ask::Append(std::mem::take(&mut mine))).await
            {
                for append in refused {
                    append.ticket.fill(append.place, Err(super::AppendError::NotLeader));
                }
            }
        }
    }

    /// Applies `retention.*` everywhere.
    pub async fn retain(&self) {
        for shard in &self.shards {
            drop(shard.send(Ask::Retain).await);
        }
    }

    /// Forgets idle producers everywhere.
    pub async fn expire_producers(&self) {
        for shard in &self.shards {
            drop(shard.send(Ask::ExpireProducers).await);
        }
    }

    /// How long an idle producer is remembered from now on (`producer.id.expiration.ms`).
    pub fn set_producer_id_expiration_ms(&self, milliseconds: i64) {
        self.shared.producer_id_expiration_ms.store(milliseconds, Ordering::Relaxed);
    }

    /// Ends the shards where they stand, as a crash of the process does.
    #[cfg(test)]
    pub(super) async fn crash(&self) {
        self.announcer.iter().for_each(AbortHandle::abort);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for shard in &self.shards {
            drop(shard.send(Ask::Crash).await);
        }
        for task in tasks {
            drop(task.await);
        }
    }

    /// Ends the shards once everything they hold is flushed and saved.
    pub async fn stop(&self) {
        let mut waiting = Vec::new();
        for shard in &self.shards {
            let (reply, done) = oneshot::channel();
            if shard.send(Ask::Stop { reply }).await.is_ok() {
                waiting.push(done);
            }
        }
        for done in waiting {
            drop(done.await);
        }
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(announcer) = &self.announcer {
            announcer.abort();
        }
        for task in tasks {
            // A shard that panicked has said so.
            drop(task.await);
        }
    }
}

fn recover_one(shared: &Shared, partition: ToOpen) -> (ToOpen, Result<Recovered, RecoverError>) {
    let config = log_config(&partition.config);
    let member = Member { peer: shared.identity.peer, voters: partition.voters.clone(), since: partition.since };
    let recovered = open_one(shared, &partition, config, &member);
    (partition, recovered)
}

fn open_one(
    shared: &Shared,
    partition: &ToOpen,
    config: LogConfig,
    member: &Member,
) -> Result<Recovered, RecoverError> {
    let id = partition.id;
    // Between the two steps of an exchange a partition has no directory: it is not newborn for that.
    let is_installing = shared.store.is_installing(id)?;
    if !is_installing && let Err(e) = shared.dir.discard_incoming(id) {
        tracing::warn!(partition = %id, error = %e, "what was fetched of a snapshot stays");
    }
    if partition.newborn && !is_installing {
        raft::create(&shared.dir, &shared.store, id, config, member)
    } else {
        raft::recover_or_begin_anew(&shared.dir, &shared.store, id, config, member)
    }
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic");
}
