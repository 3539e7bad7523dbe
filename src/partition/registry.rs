//! All partitions of this node, and the shards that own them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use millstream_core::config::TopicConfig;
use millstream_core::types::PartitionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use super::announce::{self, Announcements};
use super::append::Append;
use super::ask::{Ask, MAILBOX_MAX};
use super::handle::Partition;
use super::leaders::Leaders;
use super::log_config::log_config;
use super::peers::Peers;
use super::shard::{Shard, system_clock};
use super::shared::{Identity, Links, Shared};
use super::throttle::Throttles;
use crate::log::{DataDir, FlushStats};
use crate::store::Store;
use crate::telemetry::spawn_essential;

/// Bytes of produced batches that may wait for their commit. Beyond: connections are not read.
const UNCOMMITTED_KIB_MAX: usize = 64 << 10;

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

/// The registry. Partitions come and go as the metadata says.
pub struct Partitions {
    shards: Vec<mpsc::Sender<Ask>>,
    /// Taken by `stop`.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    announcer: Option<AbortHandle>,
    pub(super) shared: Arc<Shared>,
    pub(super) map: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    hasher: RandomState,
    uncommitted: Arc<Semaphore>,
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
        let own = HashMap::from([(identity.peer, identity.node)]);
        let peers = ArcSwap::from_pointee(Peers::new(own, [(identity.node, identity.peer)]));
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
