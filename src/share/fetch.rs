//! A fetch of a share group's member: reads what can be acquired, and waits while that is too little (Kafka
//! `DelayedShareFetch`).

use std::sync::Arc;
use std::time::Duration;

use millstream_core::share::{AcquireMode, Acquired, SessionKey};
use millstream_core::types::PartitionId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ShareError;
use super::cell::Cell;
use super::lend::{Found, Reading, Wanted};
use super::shares::Shares;
use super::waiting::ShareWait;
use crate::partition::{FetchWait, Isolation, Partition};
use crate::protocol::FileRange;

/// Looks in a row that found bytes and got nothing, because others were faster.
const TRIES: usize = 4;

/// What a member wants.
#[derive(Clone)]
pub struct FetchAsk {
    pub key: SessionKey,
    /// In the order in which they are read.
    pub partitions: Vec<Arc<Partition>>,
    /// Of all partitions, but for one batch.
    pub max_bytes: usize,
    pub min_bytes: usize,
    /// From 1.
    pub max_records: i64,
    pub batch_size: i64,
    pub mode: AcquireMode,
    pub max_wait: Duration,
}

/// What was found at a partition. Those where nothing can be acquired are not told of.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub id: PartitionId,
    pub given: Result<Given, ShareError>,
}

/// What a member is given of one partition.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Whole batches, from that of the first acquired record to that of the last.
    pub records: Option<FileRange>,
    pub acquired: Vec<Acquired>,
}

impl Shares {
    /// Ends when `min_bytes` can be read, when something must be told, or when the time is over.
    pub async fn fetch(self: Arc<Self>, ask: FetchAsk, stopping: &mut watch::Receiver<bool>) -> Vec<Fetched> {
        let deadline = Instant::now() + ask.max_wait;
        let mut fetch = Fetch { shares: self, ask, cells: Vec::new(), failed: Vec::new() };
        fetch.find();
        if fetch.cells.is_empty() {
            return fetch.failed;
        }
        let partitions = fetch.cells.iter().map(|cell| Arc::clone(&cell.partition)).collect();
        let (more, changed) = (FetchWait::register(partitions), ShareWait::register(&fetch.cells));
        let (mut is_over, mut tries) = (false, TRIES);
        loop {
            // What comes meanwhile counts as not seen.
            let mark = more.mark();
            let plans = fetch.plan();
            if fetch.cells.is_empty() {
                return fetch.failed;
            }
            let readings = fetch.read(plans).await;
            let bytes: usize = readings.iter().map(Reading::bytes).sum();
            let is_urgent = readings.iter().any(Reading::is_urgent);
            if is_over || is_urgent || !readings.is_empty() && bytes >= fetch.ask.min_bytes {
                let given = fetch.lend(&readings);
                tries -= 1;
                let has_some = given.iter().any(|found| found.given.as_ref().is_ok_and(|g| !g.acquired.is_empty()));
                if is_over || is_urgent || has_some || bytes == 0 || tries == 0 {
                    fetch.failed.extend(given);
                    return fetch.failed;
                }
                continue;
            }
            let missing = i64::try_from(fetch.ask.min_bytes.saturating_sub(bytes)).unwrap_or(i64::MAX);
            tokio::select! {
                () = more.woken(mark, missing) => {}
                () = changed.changed() => {}
                () = tokio::time::sleep_until(deadline) => is_over = true,
                _ = stopping.wait_for(|stop| *stop) => is_over = true,
            }
        }
    }
}

struct Fetch {
    shares: Arc<Shares>,
    ask: FetchAsk,
    cells: Vec<Arc<Cell>>,
    failed: Vec<Fetched>,
}

impl Fetch {
    fn find(&mut self) {
        for partition in &self.ask.partitions {
            match self.shares.get(&self.ask.key.group, partition) {
                Ok(cell) => self.cells.push(cell),
                Err(error) => self.failed.push(Fetched { id: partition.id, given: Err(error) }),
            }
        }
    }

    /// Where to read. Share-partitions that have ended are told of, and left out from now on.
    fn plan(&mut self) -> Vec<Reading> {
        let limits = self.shares.settings(&self.ask.key.group).limits;
        let mut readings = Vec::new();
        for cell in std::mem::take(&mut self.cells) {
            match cell.plan(&limits, self.ask.max_records) {
                Ok(plan) => {
                    readings.extend(plan.map(|plan| Reading::new(Arc::clone(&cell), plan)));
                    self.cells.push(cell);
                }
                Err(error) => self.failed.push(Fetched { id: cell.key.id, given: Err(error) }),
            }
        }
        readings
    }

    async fn read(&self, mut readings: Vec<Reading>) -> Vec<Reading> {
        let read_committed = self.shares.settings(&self.ask.key.group).read_committed;
        let isolation = if read_committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
        let max_bytes = self.ask.max_bytes;
        read_all(&mut readings, max_bytes, isolation, false);
        if !readings.iter().any(|reading| matches!(reading.found, Found::Cold)) {
            return readings;
        }
        let read = tokio::task::spawn_blocking(move || {
            read_all(&mut readings, max_bytes, isolation, true);
            readings
        });
        read.await.expect("a read does not panic")
    }

    fn lend(&self, readings: &[Reading]) -> Vec<Fetched> {
        let FetchAsk { key, mode, batch_size, .. } = &self.ask;
        let mut left = self.ask.max_records;
        let mut lend = |reading: &Reading| {
            let wanted = Wanted { key, mode: *mode, max_records: left, batch_size: *batch_size };
            let given = self.shares.lend(reading, &wanted);
            let count = |given: &Given| given.acquired.iter().map(|a| a.last.0 - a.first.0 + 1).sum();
            left -= given.as_ref().map_or(0, count);
            Fetched { id: reading.cell.key.id, given }
        };
        readings.iter().map(&mut lend).collect()
    }
}

/// Each partition may have as many bytes as any other (Kafka `PartitionMaxBytesStrategy`, `UNIFORM`), the first what
/// is left over.
fn read_all(readings: &mut [Reading], max_bytes: usize, isolation: Isolation, may_block: bool) {
    let count = readings.len().max(1);
    let (each, mut over) = (max_bytes / count, max_bytes % count);
    let mut at_least_one = true;
    for reading in readings {
        // Fewer bytes than partitions: one for each of the first.
        let more = if each == 0 { over.min(1) } else { over };
        over -= more;
        reading.read(each + more, at_least_one, isolation, may_block);
        at_least_one &= reading.bytes() == 0;
    }
}
