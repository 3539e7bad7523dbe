//! Lending records to a member.

use std::sync::Arc;

use super::partition::{ShareLimits, SharePartition};
use super::run::{DeliveryState, Lock, Run};
use crate::types::{Offset, Timestamp};

/// What the maximum of records means (Kafka's `ShareAcquireMode`, version 2 of ShareFetch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireMode {
    /// Whole batches: those are given in which the maximum is reached.
    BatchOptimized,
    /// Never more.
    RecordLimit,
}

/// Offsets of a record batch that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedBatch {
    pub base: Offset,
    /// Inclusive.
    pub last: Offset,
}

/// A member wants records.
#[derive(Clone, Debug)]
pub struct Acquire<'a> {
    pub member: &'a Arc<str>,
    pub mode: AcquireMode,
    /// Records, from 1.
    pub max_records: i64,
    /// Records of one [`Acquired`], as near as whole batches come to it; only where batches are optimized for.
    pub batch_size: i64,
    /// Where was read from.
    pub fetch_offset: Offset,
    /// What was read, in order.
    pub batches: &'a [FetchedBatch],
}

/// Records that a member has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    pub first: Offset,
    /// Inclusive.
    pub last: Offset,
    /// This time included.
    pub delivery_count: i16,
}

impl SharePartition {
    /// Gives the member what can be acquired of what was read. Offsets between batches are given with them, and
    /// acknowledged as gaps. Empty: nothing is available.
    pub fn acquire(&mut self, now: Timestamp, limits: &ShareLimits, ask: &Acquire<'_>) -> Vec<Acquired> {
        let (Some(base), Some(last)) = (ask.batches.first(), ask.batches.last()) else { return Vec::new() };
        let base = base.base;
        let Some(read_end) = last.last.0.checked_add(1).map(Offset).filter(|end| *end > self.start) else {
            return Vec::new();
        };
        self.archive_missing(ask.fetch_offset, base);
        let room = limits.in_flight.saturating_sub(self.in_flight());
        // Without room nothing new, only what was given back.
        let (until, mut left) = match room > 0 {
            true => (read_end, ask.max_records.min(room)),
            false => (read_end.min(self.end), ask.max_records.min(self.end.0 - ask.fetch_offset.0)),
        };
        let lock = Lock { member: Arc::clone(ask.member), until: Timestamp(now.0.saturating_add(limits.lock_ms)) };
        let mut acquired = Vec::new();
        let mut at = base.max(self.start);
        while at < until && left > 0 {
            let (piece_end, given_before) = self.piece(at, until);
            let Some(given_before) = given_before else {
                at = piece_end;
                continue;
            };
            let is_suspect = given_before >= suspect_from(limits.delivery_count);
            if is_suspect && !acquired.is_empty() {
                break;
            }
            let limit_end = if is_suspect {
                let few = suspects_at_once(piece_end.0 - at.0, given_before, limits.delivery_count);
                Offset(at.0 + few.min(left))
            } else {
                limit_end(ask, at, left)
            };
            let end = piece_end.min(limit_end);
            let lent = self.lend(at, end, given_before, &lock);
            match ask.mode {
                AcquireMode::BatchOptimized => in_parts(&lent, ask, &mut acquired),
                AcquireMode::RecordLimit => acquired.push(lent),
            }
            left -= end.0 - at.0;
            at = end;
            if is_suspect {
                break;
            }
        }
        acquired
    }

    /// What follows from `at` on and is alike: its end, and how often it was delivered if it can be acquired.
    fn piece(&self, at: Offset, until: Offset) -> (Offset, Option<i16>) {
        let before = self.runs.range(..=at).next_back().filter(|(_, run)| run.end > at);
        match before {
            Some((_, run)) => (run.end.min(until), run.is_acquirable().then_some(run.delivery_count)),
            None => {
                let next = self.runs.range(at..).next().map_or(until, |(first, _)| *first);
                (next.min(until), Some(0))
            }
        }
    }

    fn lend(&mut self, first: Offset, end: Offset, given_before: i16, lock: &Lock) -> Acquired {
        self.split(first);
        self.split(end);
        let delivery_count = given_before.saturating_add(1);
        let state = DeliveryState::Acquired;
        self.runs.insert(first, Run { end, state, delivery_count, lock: Some(lock.clone()), writing: None });
        self.end = self.end.max(end);
        Acquired { first, last: Offset(end.0 - 1), delivery_count }
    }

    /// What a read from `from` on did not find before `base` is gone from the log (compacted).
    fn archive_missing(&mut self, from: Offset, base: Offset) {
        let (mut at, until) = (from.max(self.start), base);
        while at < until {
            let (piece_end, given_before) = self.piece(at, until);
            if let Some(delivery_count) = given_before {
                self.split(at);
                self.split(piece_end);
                let run =
                    Run { end: piece_end, state: DeliveryState::Archived, delivery_count, lock: None, writing: None };
                self.runs.insert(at, run);
                self.end = self.end.max(piece_end);
            }
            at = piece_end;
        }
        self.advance();
    }
}

/// Records that were delivered as often are given alone, so that a bad one spoils no others.
fn suspect_from(delivery_count_limit: i16) -> i16 {
    (delivery_count_limit / 2 + delivery_count_limit % 2).max(2)
}

/// Of `len` suspect records, how many are given at once: half as many with each attempt, at the last one only one.
fn suspects_at_once(len: i64, given_before: i16, delivery_count_limit: i16) -> i64 {
    if delivery_count_limit > 2 && given_before >= delivery_count_limit - 1 {
        return 1;
    }
    let halvings = i32::from(given_before) - i32::from(suspect_from(delivery_count_limit)) + 1;
    u32::try_from(halvings).ok().and_then(|by| len.checked_shr(by)).unwrap_or(0).max(1)
}

/// Cut at the first batch that begins `batch_size` records or more after the last cut (Kafka's `createBatches`).
fn in_parts(lent: &Acquired, ask: &Acquire<'_>, parts: &mut Vec<Acquired>) {
    let mut first = lent.first;
    if lent.last.0 - first.0 >= ask.batch_size {
        for base in ask.batches.iter().map(|batch| batch.base).filter(|base| *base <= lent.last) {
            if base.0 - first.0 >= ask.batch_size.max(1) {
                parts.push(Acquired { first, last: Offset(base.0 - 1), ..*lent });
                first = base;
            }
        }
    }
    parts.push(Acquired { first, ..*lent });
}

/// Exclusive: where the maximum is reached, whatever the records' states.
fn limit_end(ask: &Acquire<'_>, at: Offset, left: i64) -> Offset {
    let last = at.0.saturating_add(left - 1);
    let batch = match ask.mode {
        AcquireMode::BatchOptimized => ask.batches.iter().find(|batch| batch.base.0 <= last && last <= batch.last.0),
        AcquireMode::RecordLimit => None,
    };
    Offset(batch.map_or(last, |batch| batch.last.0).saturating_add(1))
}
