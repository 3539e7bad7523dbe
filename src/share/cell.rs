//! One share-partition: its state machine, what is on its way to the share coordinator, and who waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_core::share::{ShareLimits, SharePartition, WriteId, WriteQueue};
use millstream_core::types::{LeaderEpoch, Offset, Timestamp};
use tokio::sync::oneshot;

use super::ShareError;
use super::states::ShareKey;
use super::waiting::Waiters;
use crate::partition::Partition;

/// A share-partition in one epoch of its leader.
pub(super) struct Cell {
    pub key: ShareKey,
    pub partition: Arc<Partition>,
    pub epoch: LeaderEpoch,
    /// A leaf: never held over an await.
    inner: Mutex<Inner>,
    pub waiters: Waiters,
}

pub(super) struct Inner {
    pub phase: Phase,
    pub queue: WriteQueue,
    /// Who wants to know how writes end.
    pub asking: HashMap<WriteId, oneshot::Sender<Result<(), ShareError>>>,
    /// A task writes what is in the queue.
    pub is_writing: bool,
    /// When the timers look here next.
    pub timer_at: Option<Timestamp>,
    /// Nobody of the group is left: it is forgotten once all is written.
    pub is_leaving: bool,
}

pub(super) enum Phase {
    Loading,
    Active {
        share: SharePartition,
        state_epoch: i32,
    },
    /// Forgotten; who still holds it is told why.
    Ended(ShareError),
}

/// Where to read next for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub from: Offset,
    /// What begins here or later is not needed: before it is as much as may be acquired.
    pub enough: Offset,
}

impl Cell {
    pub(super) fn new(key: ShareKey, partition: Arc<Partition>, epoch: LeaderEpoch) -> Arc<Self> {
        let inner = Inner {
            phase: Phase::Loading,
            queue: WriteQueue::default(),
            asking: HashMap::new(),
            is_writing: false,
            timer_at: None,
            is_leaving: false,
        };
        Arc::new(Self { key, partition, epoch, inner: Mutex::new(inner), waiters: Waiters::default() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node leads the partition as it did when the share-partition was loaded.
    pub(super) fn is_current(&self) -> bool {
        self.partition.leading_epoch() == Some(self.epoch)
    }

    /// `None`: nothing can be acquired now.
    pub(super) fn plan(&self, limits: &ShareLimits, max_records: i64) -> Result<Option<Plan>, ShareError> {
        match &self.lock().phase {
            Phase::Loading => Ok(None),
            Phase::Ended(error) => Err(error.clone()),
            Phase::Active { share, .. } => Ok(share.can_acquire(limits).then(|| {
                let from = share.next_fetch_offset();
                Plan { from, enough: Offset(share.end().max(from).0.saturating_add(max_records)) }
            })),
        }
    }

    /// Records before `log_start` are gone from the log.
    pub(super) fn trim(&self, log_start: Offset) {
        if let Phase::Active { share, .. } = &mut self.lock().phase {
            share.trim(log_start);
        }
    }
}

impl Inner {
    /// Nothing is on its way to the share coordinator.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_writing && self.queue.is_empty()
    }
}
