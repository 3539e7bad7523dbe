//! Records that are given back: by a word of the member, because it is gone, because its time is over. All of it is
//! written by the share coordinator, one write after the other.

use std::sync::Arc;

use millstream_core::share::{AcknowledgeError, Acknowledgement, Left, SessionKey, StateWrite};
use millstream_core::types::{PartitionId, Timestamp};
use tokio::sync::oneshot;

use super::ShareError;
use super::cell::{Cell, Inner, Phase};
use super::shares::Shares;

/// Acknowledgements that are on their way, carried out whether anybody waits or not.
#[must_use]
pub enum Acknowledging {
    Done(Result<(), ShareError>),
    Written(oneshot::Receiver<Result<(), ShareError>>),
}

impl Acknowledging {
    /// Whether they count, once that is replicated.
    pub async fn outcome(self) -> Result<(), ShareError> {
        match self {
            Self::Done(outcome) => outcome,
            Self::Written(outcome) => outcome.await.unwrap_or(Err(ShareError::CoordinatorNotAvailable)),
        }
    }
}

impl Shares {
    /// Has its place in line when this returns: what is fetched next comes after it.
    pub fn acknowledge(
        self: &Arc<Self>,
        key: &SessionKey,
        id: PartitionId,
        acknowledgements: &[Acknowledgement],
    ) -> Acknowledging {
        let Some(cell) = self.find(&key.group, id) else {
            return Acknowledging::Done(Err(ShareError::UnknownPartition));
        };
        if !cell.is_current() {
            self.end(&cell, ShareError::NotLeader);
            return Acknowledging::Done(Err(ShareError::NotLeader));
        }
        let (limits, now) = (self.settings(&key.group).limits, self.now());
        let mut inner = cell.lock();
        let outcome = match &mut inner.phase {
            Phase::Loading => Err(AcknowledgeError::NotAcquired.into()),
            Phase::Ended(error) => Err(error.clone()),
            Phase::Active { share, .. } => {
                share.acknowledge(now, &limits, &key.member, acknowledgements).map_err(ShareError::from)
            }
        };
        match outcome {
            Err(refused) => Acknowledging::Done(Err(refused)),
            Ok(None) => Acknowledging::Done(Ok(())),
            Ok(Some(write)) => {
                let (told, outcome) = oneshot::channel();
                inner.asking.insert(write.id, told);
                self.write(&cell, &mut inner, write);
                Acknowledging::Written(outcome)
            }
        }
    }

    /// A member's session is gone: others get what it had.
    pub(super) fn release(self: &Arc<Self>, left: &Left) {
        let limits = self.settings(&left.key.group).limits;
        for id in &left.partitions {
            let Some(cell) = self.find(&left.key.group, *id) else { continue };
            let mut inner = cell.lock();
            if let Phase::Active { share, .. } = &mut inner.phase
                && let Some(write) = share.release_member(&limits, &left.key.member)
            {
                self.write(&cell, &mut inner, write);
            }
        }
        if left.is_last {
            self.group_left(&left.key.group);
        }
    }

    /// The lock that was to end at `at` has, if it was not prolonged.
    pub(super) fn expire(self: &Arc<Self>, cell: &Arc<Cell>, at: Timestamp) {
        let limits = self.settings(&cell.key.group).limits;
        let mut inner = cell.lock();
        // Another look comes sooner or later than this.
        if inner.timer_at != Some(at) {
            return;
        }
        inner.timer_at = None;
        let write = match &mut inner.phase {
            Phase::Active { share, .. } => share.expire(self.now(), &limits),
            Phase::Loading | Phase::Ended(_) => None,
        };
        let is_free = write.is_some();
        if let Some(write) = write {
            self.write(cell, &mut inner, write);
        }
        self.timers.arm(cell, &mut inner);
        drop(inner);
        if is_free {
            cell.waiters.wake();
        }
    }

    fn write(self: &Arc<Self>, cell: &Arc<Cell>, inner: &mut Inner, write: StateWrite) {
        inner.queue.push(write);
        if !inner.is_writing {
            inner.is_writing = true;
            drop(self.runtime.spawn(Arc::clone(self).write_all(Arc::clone(cell))));
        }
    }

    /// Writes until the queue is empty.
    async fn write_all(self: Arc<Self>, cell: Arc<Cell>) {
        loop {
            let (write, ids, state_epoch) = {
                let mut inner = cell.lock();
                let Some((write, ids)) = inner.queue.take() else {
                    inner.is_writing = false;
                    let is_leaving = inner.is_leaving;
                    drop(inner);
                    if is_leaving {
                        self.end(&cell, ShareError::UnknownPartition);
                    }
                    return;
                };
                let state_epoch = match &inner.phase {
                    Phase::Active { state_epoch, .. } => Ok(*state_epoch),
                    Phase::Ended(error) => Err(error.clone()),
                    Phase::Loading => Err(ShareError::Unsound),
                };
                (write, ids, state_epoch)
            };
            let written = match (state_epoch, self.states()) {
                (Ok(state_epoch), Ok(states)) => states.write(cell.key.clone(), cell.epoch, state_epoch, write).await,
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            let limits = self.settings(&cell.key.group).limits;
            {
                let mut inner = cell.lock();
                let Inner { phase, asking, .. } = &mut *inner;
                for id in ids {
                    if let Phase::Active { share, .. } = phase {
                        share.written(id, written.is_ok(), self.now(), &limits);
                    }
                    // Nobody asks any more, or nobody ever did.
                    let Some(asking) = asking.remove(&id) else { continue };
                    drop(asking.send(written.clone()));
                }
                self.timers.arm(&cell, &mut inner);
            }
            if let Err(error) = written {
                tracing::info!(group = %cell.key.group, partition = %cell.partition.name, %error,
                    "the state of a share-partition could not be written");
                if error.ends_it() {
                    self.end(&cell, error);
                }
            }
            cell.waiters.wake();
        }
    }
}
