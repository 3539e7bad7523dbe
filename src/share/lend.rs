//! Reading for a fetch, and lending what was read. Other fetches may have been faster: who reads more than it gets has
//! looked at headers, no more.

use std::sync::Arc;

use millstream_core::partition::AbortedTransaction;
use millstream_core::share::{Acquire, AcquireMode, Acquired, FetchedBatch, SessionKey};
use millstream_core::types::Offset;

use super::ShareError;
use super::cell::{Cell, Phase, Plan};
use super::fetch::Given;
use super::load::of_read;
use super::scan::{self, Scanned};
use super::shares::Shares;
use crate::log::Slice;
use crate::partition::{Isolation, ReadAsk, ReadRefused};

/// What was read of one share-partition.
pub(super) struct Reading {
    pub cell: Arc<Cell>,
    plan: Plan,
    pub found: Found,
}

pub(super) enum Found {
    /// The bytes are not in memory.
    Cold,
    Nothing,
    Batches(Batches),
    /// What was to be read is gone from the log, which begins here.
    Gone {
        log_start: Offset,
    },
    Failed(ShareError),
}

pub(super) struct Batches {
    slice: Slice,
    aborted: Vec<AbortedTransaction>,
}

/// Who asks for how much.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub key: &'a SessionKey,
    pub mode: AcquireMode,
    pub max_records: i64,
    pub batch_size: i64,
}

impl Reading {
    pub(super) fn new(cell: Arc<Cell>, plan: Plan) -> Self {
        Self { cell, plan, found: Found::Nothing }
    }

    pub(super) fn read(&mut self, max_bytes: usize, at_least_one: bool, isolation: Isolation, may_block: bool) {
        let ask = ReadAsk {
            from: self.plan.from,
            max_bytes,
            at_least_one,
            current_epoch: None,
            last_fetched_epoch: None,
            may_block,
            from_follower: false,
            isolation,
        };
        self.found = match self.cell.partition.read(&ask) {
            Ok(read) => match read.slice {
                Some(slice) => Found::Batches(Batches { slice, aborted: read.aborted.unwrap_or_default() }),
                None => Found::Nothing,
            },
            Err(ReadRefused::Cold) => Found::Cold,
            // What is beyond the end comes back with time.
            Err(ReadRefused::OutOfRange { log_start, .. }) if self.plan.from < log_start => Found::Gone { log_start },
            Err(ReadRefused::OutOfRange { .. }) => Found::Nothing,
            Err(refused) => Found::Failed(of_read(&refused)),
        };
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.found {
            Found::Batches(batches) => batches.slice.len,
            Found::Cold | Found::Nothing | Found::Gone { .. } | Found::Failed(_) => 0,
        }
    }

    /// Something to be told without waiting for more.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(self.found, Found::Gone { .. } | Found::Failed(_))
    }
}

impl Shares {
    /// Lends what was read, as far as it can be had. Looks at the headers: the bytes are in memory, as far as is known.
    pub(super) fn lend(&self, reading: &Reading, wanted: &Wanted<'_>) -> Result<Given, ShareError> {
        let cell = &reading.cell;
        let batches = match &reading.found {
            Found::Batches(batches) if wanted.max_records > 0 => batches,
            Found::Gone { log_start } => {
                cell.trim(*log_start);
                return Ok(Given::default());
            }
            Found::Failed(error) => {
                if error.ends_it() {
                    self.end(cell, error.clone());
                }
                return Err(error.clone());
            }
            Found::Batches(_) | Found::Cold | Found::Nothing => return Ok(Given::default()),
        };
        let scanned = scan::scan(&batches.slice, reading.plan.enough, &batches.aborted).map_err(|error| {
            tracing::error!(partition = %cell.partition.name, %error, "batches could not be looked at");
            ShareError::Storage
        })?;
        if !cell.is_current() {
            self.end(cell, ShareError::NotLeader);
            return Err(ShareError::NotLeader);
        }
        let acquired = self.acquire(reading, &scanned, wanted)?;
        Ok(Given { records: scan::cut(&batches.slice, &scanned, &acquired), acquired })
    }

    fn acquire(
        &self,
        reading: &Reading,
        scanned: &[Scanned],
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Acquired>, ShareError> {
        let all: Vec<FetchedBatch> = scanned.iter().map(|found| found.batch).collect();
        let aborted: Vec<_> = scanned.iter().filter(|found| found.is_aborted).map(|found| found.batch).collect();
        let limits = self.settings(&wanted.key.group).limits;
        let ask = Acquire {
            member: &wanted.key.member,
            mode: wanted.mode,
            max_records: wanted.max_records,
            batch_size: wanted.batch_size,
            fetch_offset: reading.plan.from,
            batches: &all,
        };
        let mut inner = reading.cell.lock();
        let acquired = match &mut inner.phase {
            Phase::Active { share, .. } => {
                let acquired = share.acquire(self.now(), &limits, &ask);
                share.leave_out(acquired, &aborted)
            }
            Phase::Ended(error) => return Err(error.clone()),
            Phase::Loading => Vec::new(),
        };
        self.timers.arm(&reading.cell, &mut inner);
        Ok(acquired)
    }
}
