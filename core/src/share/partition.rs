//! The state of a partition in a share group, and how writes of it end.

use std::collections::BTreeMap;

use super::run::{DeliveryState, Run};
use crate::types::{Offset, Timestamp};

/// Limits of a group, as they are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareLimits {
    /// `share.delivery.count.limit`: attempts, from 1. A record that fails as often is given up.
    pub delivery_count: i16,
    /// `share.partition.max.record.locks`: records between the first and the last that are in flight.
    pub in_flight: i64,
    /// `share.record.lock.duration.ms`. Shorter than a client's work on a record, and others get it as well.
    pub lock_ms: i64,
    /// `share.renew.acknowledge.enable`.
    pub may_renew: bool,
}

/// Tells the writes of one [`SharePartition`] apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// Consecutive records in one state, as the share coordinator keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateBatch {
    pub first: Offset,
    /// Inclusive.
    pub last: Offset,
    pub state: DeliveryState,
    pub delivery_count: i16,
}

/// To be written by the share coordinator; then [`SharePartition::written`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct StateWrite {
    pub id: WriteId,
    /// All before are done with.
    pub start: Offset,
    /// Records from the start on that are done with, also where that is being written (Kafka's
    /// `deliveryCompleteCount`).
    pub delivery_complete: i32,
    /// In order, disjoint.
    pub batches: Vec<StateBatch>,
}

/// The share coordinator gave what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("state batch {first}..={last} is out of order or out of range")]
pub struct InvalidState {
    pub first: Offset,
    pub last: Offset,
}

/// The state machine. One owner, on the leader of the partition; read anew from the share coordinator by the next.
#[derive(Clone, Debug)]
pub struct SharePartition {
    /// All before are done with (share-partition start offset).
    pub(super) start: Offset,
    /// Nothing from here on was ever acquired.
    pub(super) end: Offset,
    /// Between start and end, disjoint. What is in none was not acquired, or its state is lost: it is acquirable.
    pub(super) runs: BTreeMap<Offset, Run>,
    next_write: u64,
}

impl SharePartition {
    /// As the share coordinator has it.
    pub fn load(start: Offset, batches: &[StateBatch]) -> Result<Self, InvalidState> {
        let mut partition = Self { start, end: start, runs: BTreeMap::new(), next_write: 0 };
        for batch in batches {
            let end = batch.last.0.checked_add(1).map(Offset);
            let end = end.filter(|end| batch.first >= partition.end && *end > batch.first);
            let Some(end) = end else { return Err(InvalidState { first: batch.first, last: batch.last }) };
            let state = match batch.state {
                DeliveryState::Acquired => DeliveryState::Available,
                other => other,
            };
            let run = Run { end, state, delivery_count: batch.delivery_count, lock: None, writing: None };
            partition.runs.insert(batch.first, run);
            partition.end = end;
        }
        partition.advance();
        Ok(partition)
    }

    pub fn start(&self) -> Offset {
        self.start
    }

    pub fn end(&self) -> Offset {
        self.end
    }

    /// Where to fetch next: the first record that can be acquired.
    pub fn next_fetch_offset(&self) -> Offset {
        let mut next = self.start;
        for (first, run) in &self.runs {
            if *first > next || run.is_acquirable() {
                return next;
            }
            next = run.end;
        }
        next
    }

    /// Whether a fetch can acquire anything: what was given back always, new records while there is room (Kafka's
    /// `canAcquireRecords`).
    pub fn can_acquire(&self, limits: &ShareLimits) -> bool {
        self.next_fetch_offset() != self.end || self.in_flight() < limits.in_flight
    }

    /// Records from start to end, those that are done with among them (Kafka's `numInFlightRecords`).
    pub fn in_flight(&self) -> i64 {
        self.end.0 - self.start.0
    }

    fn delivery_complete(&self) -> i32 {
        let done = self.runs.iter().filter(|(_, run)| run.state.is_terminal());
        let count: i64 = done.map(|(first, run)| run.end.0 - first.0).sum();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    /// When the first lock ends. `None`: nothing is acquired.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let acquired = self.runs.values().filter(|run| run.state == DeliveryState::Acquired);
        acquired.filter_map(|run| Some(run.lock.as_ref()?.until)).min()
    }

    /// A write has ended. One that failed leaves everything as it was before, but a lock that has ended meanwhile.
    pub fn written(&mut self, id: WriteId, is_done: bool, now: Timestamp, limits: &ShareLimits) {
        for run in self.runs.values_mut().filter(|run| run.writing == Some(id)) {
            run.writing = None;
            let lock = run.lock.take();
            if is_done {
                continue;
            }
            let lock = lock.filter(|lock| lock.until > now);
            run.state = if lock.is_some() { DeliveryState::Acquired } else { run.released(limits.delivery_count) };
            run.lock = lock;
        }
        self.advance();
    }

    /// Records before `log_start` are gone from the log.
    pub fn trim(&mut self, log_start: Offset) {
        if log_start <= self.start {
            return;
        }
        self.split(log_start);
        self.runs = self.runs.split_off(&log_start);
        self.start = log_start;
        self.end = self.end.max(log_start);
        self.advance();
    }

    /// A run ends at `at`, if one goes over it.
    pub(super) fn split(&mut self, at: Offset) {
        let Some((_, run)) = self.runs.range_mut(..at).next_back() else { return };
        if run.end > at {
            let tail = run.clone();
            run.end = at;
            self.runs.insert(at, tail);
        }
    }

    /// Moves the start over what is done with.
    pub(super) fn advance(&mut self) {
        while let Some(entry) = self.runs.first_entry() {
            if *entry.key() > self.start || !entry.get().is_done() {
                return;
            }
            self.start = entry.remove().end;
        }
    }

    pub(super) fn take_write_id(&mut self) -> WriteId {
        self.next_write += 1;
        WriteId(self.next_write)
    }

    /// The write of these changes. `None`: there are none.
    pub(super) fn write(&self, id: WriteId, changed: impl IntoIterator<Item = Offset>) -> Option<StateWrite> {
        let mut batches: Vec<StateBatch> = Vec::new();
        for first in changed {
            let Some(run) = self.runs.get(&first) else { continue };
            let last = Offset(run.end.0 - 1);
            match batches.last_mut() {
                Some(batch)
                    if batch.last.0 + 1 == first.0
                        && (batch.state, batch.delivery_count) == (run.state, run.delivery_count) =>
                {
                    batch.last = last;
                }
                _ => batches.push(StateBatch { first, last, state: run.state, delivery_count: run.delivery_count }),
            }
        }
        let (start, delivery_complete) = (self.start, self.delivery_complete());
        (!batches.is_empty()).then_some(StateWrite { id, start, delivery_complete, batches })
    }
}
