//! Partitions come to a node and go from it: opened together, in one flush round, and deleted with all they hold.

use std::sync::{Arc, PoisonError};

use millstream_core::config::TopicConfig;
use millstream_core::types::{LogMark, PartitionId, PeerId, TopicPartition};
use tokio::sync::oneshot;

use super::ask::Ask;
use super::handle::Partition;
use super::log_config::log_config;
use super::members::Members;
use super::open::{Opening, Removed, Replica};
use super::registry::Partitions;
use super::shared::Shared;
use crate::log::LogConfig;
use crate::raft::{self, Member, RecoverError, Recovered};
use crate::store::{self, Durability, StoreError};

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
    /// Opens partitions, all in one flush round, and returns when those that could be opened lead.
    pub async fn open(&self, partitions: Vec<ToOpen>) -> Vec<OpenOutcome> {
        let mut outcomes = Vec::with_capacity(partitions.len());
        let mut by_shard: Vec<Vec<Opening>> = self.shards().iter().map(|_| Vec::new()).collect();
        let must_sync = partitions.iter().any(|p| !p.newborn);
        for (to_open, recovered) in self.recover(partitions).await {
            let ToOpen { id, name, config, voters, since, members, preferred, .. } = to_open;
            let member = Member { peer: self.shared.identity.peer, voters, since };
            let shard = self.shard_of(id);
            let log_config = log_config(&config);
            let handle = Arc::new(Partition::new(id, name, config, self.shards()[shard].clone()));
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
        for (shard, partitions) in self.shards().iter().zip(by_shard).filter(|(_, p)| !p.is_empty()) {
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
}

impl Shared {
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
        batch.delete_held(id);
        if let Some(promised) = promised {
            batch.put_hard_state(id, &promised);
        }
        self.write(batch, Durability::Buffered);
        Ok(())
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
