//! What every shard of a node uses.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use millstream_core::types::{NodeId, PeerId, Timestamp};
use uuid::Uuid;

use super::announce::Announcements;
use super::leaders::Leaders;
use super::peers::Peers;
use super::snapshot::{Caller, Snapshots};
use super::throttle::Throttles;
use crate::log::DataDir;
use crate::store::{self, Durability, Store, StoreError};

/// How often a write that finds no room is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What others know this node by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the node's disk, in every raft group.
    pub peer: PeerId,
    pub node: NodeId,
    /// Another at each start of the process.
    pub boot: Uuid,
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
