//! The ends of transactions, and whether one may begin.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use millstream_core::partition::{Guard, TxnEnd};
use millstream_core::record::{BatchHeader, Marker, control_batch};
use millstream_core::types::{LeaderEpoch, PartitionId, ProducerEpoch, ProducerId, Sequence};
use tokio::sync::oneshot;

use super::append::{AppendError, Appended, InternalKind};
use super::ask::Ask;
use super::handle::{Leadership, Partition};
use super::shard::{Shard, system_clock};

/// What an append waits for.
pub type Committed = oneshot::Receiver<Result<(), AppendError>>;

impl Partition {
    /// Writes the marker that ends a producer's transaction, and returns when it is committed. One that is written again
    /// ends nothing.
    ///
    /// # Errors
    /// `Producer`: the epoch of the producer or of its coordinator is of the past.
    pub async fn write_marker(&self, end: TxnEnd) -> Result<(), AppendError> {
        let epoch = self.leading_epoch().ok_or(AppendError::NotLeader)?;
        let (_, committed) = self.append_marker(epoch, end).await?;
        committed.await.unwrap_or(Err(AppendError::NotLeader))
    }

    /// As `append_internal`, of the marker that ends a transaction.
    pub async fn append_marker(&self, epoch: LeaderEpoch, end: TxnEnd) -> Result<(Appended, Committed), AppendError> {
        let marker = if end.commit { Marker::Commit } else { Marker::Abort };
        let (id, producer_epoch) = (end.producer_id, end.producer_epoch);
        let bytes = control_batch(marker, id, producer_epoch, end.coordinator_epoch, system_clock());
        let header = BatchHeader::parse(&bytes).expect("it was built here");
        self.append_into(epoch, header, bytes, InternalKind::End(end)).await
    }

    /// As `append_internal`, of a batch of a transaction. `guard`: under which that was verified.
    pub async fn append_transactional(
        &self,
        epoch: LeaderEpoch,
        header: BatchHeader,
        bytes: Bytes,
        guard: Option<Guard>,
    ) -> Result<(Appended, Committed), AppendError> {
        self.append_into(epoch, header, bytes, InternalKind::Transactional { guard }).await
    }

    /// To be called before the coordinator of a transaction is asked whether it knows this partition; what is appended with
    /// the guard is refused if the transaction ended meanwhile. `None`: nobody need be asked, the transaction is under way
    /// here. `bumps_epoch`: its epoch rises with each transaction.
    pub async fn begin_verification(
        &self,
        of: (ProducerId, ProducerEpoch, Sequence),
        bumps_epoch: bool,
    ) -> Result<Option<Guard>, AppendError> {
        let (reply, begun) = oneshot::channel();
        self.send(Ask::BeginVerification { id: self.id, of, bumps_epoch, reply }).await?;
        begun.await.map_err(|_| AppendError::NotLeader)?
    }
}

/// A guard that no replica of this process has given before.
fn fresh_guard() -> Guard {
    static LAST: AtomicU64 = AtomicU64::new(0);
    Guard(LAST.fetch_add(1, Ordering::Relaxed))
}

impl Shard {
    pub(super) fn begin_verification(
        &mut self,
        id: PartitionId,
        of: (ProducerId, ProducerEpoch, Sequence),
        bumps_epoch: bool,
    ) -> Result<Option<Guard>, AppendError> {
        let owned = self.owned.get_mut(&id).ok_or(AppendError::NotLeader)?;
        match owned.shared.leadership() {
            Leadership::Leading => {}
            Leadership::Offline => return Err(AppendError::Storage),
            Leadership::Starting | Leadership::Following => return Err(AppendError::NotLeader),
        }
        let now = (self.shared.clock)();
        Ok(owned.producers.begin_verification(of, bumps_epoch, now, fresh_guard())?)
    }
}
