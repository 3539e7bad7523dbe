//! The beginning of a share-partition: what the share coordinator has of it, or where its group begins to read.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_core::share::{OffsetReset, SharePartition};
use millstream_core::types::{LeaderEpoch, Offset, Timestamp};

use super::ShareError;
use super::cell::{Cell, Phase};
use super::shares::Shares;
use crate::partition::{Isolation, ListError, ListSpec, Partition, ReadRefused};

impl Shares {
    /// Ends when the share-partition is there, or has failed.
    pub(super) async fn load(self: Arc<Self>, cell: Arc<Cell>) {
        match self.read_state(&cell).await {
            Ok((share, state_epoch)) => {
                let mut inner = cell.lock();
                if matches!(inner.phase, Phase::Loading) {
                    inner.phase = Phase::Active { share, state_epoch };
                }
                drop(inner);
                cell.waiters.wake();
            }
            Err(error) => {
                tracing::info!(group = %cell.key.group, partition = %cell.partition.name, %error,
                    "a share-partition could not be loaded");
                self.end(&cell, error);
            }
        }
    }

    async fn read_state(&self, cell: &Cell) -> Result<(SharePartition, i32), ShareError> {
        let state = self.states()?.read(cell.key.clone(), cell.epoch).await?;
        let start = match state.start {
            Some(start) => start,
            None => first_offset(&cell.partition, self.settings(&cell.key.group).reset, cell.epoch).await?,
        };
        let share = SharePartition::load(start, &state.batches).map_err(|error| {
            tracing::error!(group = %cell.key.group, partition = %cell.partition.name, %error,
                "the state of a share-partition is not sound");
            ShareError::Unsound
        })?;
        Ok((share, state.state_epoch))
    }
}

/// Where a group begins. Kafka refuses a time after which there is no record; here that is the end of the log.
async fn first_offset(
    partition: &Arc<Partition>,
    reset: OffsetReset,
    epoch: LeaderEpoch,
) -> Result<Offset, ShareError> {
    let spec = match reset {
        OffsetReset::Earliest => ListSpec::Earliest,
        OffsetReset::Latest => ListSpec::Latest,
        OffsetReset::ByDuration(ms) => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
            ListSpec::At(Timestamp(now.saturating_sub(ms)))
        }
    };
    let partition = Arc::clone(partition);
    let listed = tokio::task::spawn_blocking(move || {
        let list = |spec| partition.list_offset(spec, Isolation::ReadUncommitted, Some(epoch));
        Ok(match list(spec)? {
            Some(found) => Some(found.offset),
            None => list(ListSpec::Latest)?.map(|end| end.offset),
        })
    });
    match listed.await.expect("a look-up does not panic") {
        Ok(found) => found.ok_or(ShareError::OffsetNotAvailable),
        Err(ListError::NotAvailable) => Err(ShareError::OffsetNotAvailable),
        Err(ListError::Refused(refused)) => Err(of_read(&refused)),
    }
}

/// A refused read, as the share-partition sees it.
pub(super) fn of_read(refused: &ReadRefused) -> ShareError {
    match refused {
        ReadRefused::NotLeader | ReadRefused::FencedEpoch { .. } | ReadRefused::UnknownEpoch { .. } => {
            ShareError::NotLeader
        }
        ReadRefused::Storage | ReadRefused::Cold => ShareError::Storage,
        ReadRefused::OutOfRange { .. } => ShareError::OffsetNotAvailable,
    }
}
