//! Compaction: of each key only the last record stays (Kafka `LogCleaner`, KIP-534 for tombstones).
//!
//! `Log::compaction_plan` picks closed segments, on the partition's loop. `CompactionJob::run` does the work on a
//! thread that may wait, on the files alone. `Log::install_compacted` swaps the result in, on the loop again.
//!
//! A crash at any step leaves a log that opens: an unfinished output has a name that is deleted at the start. A
//! finished one is synced before it gets its own name, and its header says which offsets it stands for: from then on
//! it wins over the segments with those offsets, which are deleted, whether the install came to it or not. Outputs
//! are finished from the oldest to the newest, so compacted segments always come first in a log.
//!
//! A compaction never goes beyond the last stable offset, so every transaction that it meets is decided. Records of aborted
//! ones go, and their keys count for nothing. A marker stays until no batch of its transaction is left, and
//! `delete.retention.ms` longer.

mod filter;
mod install;
mod offset_map;
mod output;
mod run;
mod transactions;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use millstream_core::types::{Offset, PartitionId, RaftIndex, Timestamp};

use super::config::LogConfig;
use super::handles::HandleCache;
use super::meta::SegmentMeta;
use super::partition_dir::PartitionDir;
use super::retention::written_at;
use super::segment::Segment;
use super::writer::{Closed, Log};

pub use output::Compacted;
pub use transactions::KnownProducers;

/// How far and how a compaction may go.
#[derive(Clone, Copy, Debug)]
pub struct CompactionLimits {
    /// The last stable offset: never beyond the high watermark.
    pub end: Offset,
    /// The last entry that the store durably knows as applied and checkpointed: entries up to it lose their indexes.
    pub applied: RaftIndex,
    pub now: Timestamp,
    /// `log.cleaner.dedupe.buffer.size` for this job, bytes. Small: a long dirty part takes several jobs.
    pub dedupe_buffer_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`, read and written together.
    pub bytes_per_second_max: f64,
}

/// What a compaction will do.
pub struct CompactionJob {
    id: PartitionId,
    dir: Arc<PartitionDir>,
    handles: Arc<HandleCache>,
    config: LogConfig,
    limits: CompactionLimits,
    /// Oldest first, from the first of the log on.
    pub(super) sources: Vec<Source>,
    /// Keys before are known to be compacted against each other.
    first_dirty: Offset,
    clean_bytes: u64,
    dirty_bytes: u64,
    cancelled: Arc<AtomicBool>,
}

pub(super) struct Source {
    pub(super) meta: SegmentMeta,
    segment: Arc<Segment>,
}

impl std::fmt::Debug for CompactionJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bases: Vec<Offset> = self.sources.iter().map(|source| source.meta.base_offset).collect();
        f.debug_struct("CompactionJob").field("id", &self.id).field("sources", &bases).finish_non_exhaustive()
    }
}

impl CompactionJob {
    /// Share of the bytes that were never compacted, 0 to 1: the dirtiest log goes first.
    pub fn dirty_ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes).max(1) as f64
    }

    /// Set, it lets `run` end early.
    pub fn cancelled(&self) -> Arc<AtomicBool> {
        self.cancelled.clone()
    }

    /// Bytes that will be read at least.
    pub fn size_bytes(&self) -> u64 {
        self.clean_bytes + self.dirty_bytes
    }
}

impl Log {
    /// The compaction that is due, if `cleanup.policy` has `compact` and either the dirty ratio or
    /// `max.compaction.lag.ms` asks for it (`LogCleanerManager`). One at a time for a log.
    pub fn compaction_plan(&self, limits: CompactionLimits) -> Option<CompactionJob> {
        if !self.config.compact || self.failed {
            return None;
        }
        let first_dirty = self.first_dirty();
        let count = self.closed.iter().take_while(|closed| self.is_cleanable(closed, first_dirty, limits)).count();
        let sources = &self.closed[..count];
        let is_dirty = |closed: &&Closed| closed.meta.end_offset > first_dirty;
        let bytes = |closed: &Closed| closed.meta.length;
        let dirty_bytes: u64 = sources.iter().filter(is_dirty).map(bytes).sum();
        let clean_bytes: u64 = sources.iter().filter(|closed| !is_dirty(closed)).map(bytes).sum();
        if dirty_bytes == 0 {
            return None;
        }
        let job = CompactionJob {
            id: self.id,
            dir: self.dir.clone(),
            handles: self.handles.clone(),
            config: self.config.clone(),
            limits,
            sources: sources.iter().map(|c| Source { meta: c.meta, segment: c.segment.clone() }).collect(),
            first_dirty,
            clean_bytes,
            dirty_bytes,
            cancelled: Arc::default(),
        };
        let overdue = sources.iter().filter(is_dirty).any(|closed| self.is_overdue(&closed.meta, limits.now));
        (overdue || job.dirty_ratio() > self.config.min_cleanable_dirty_ratio.share()).then_some(job)
    }

    fn first_dirty(&self) -> Offset {
        let compacted = self.closed.iter().rev().find(|closed| closed.meta.is_compacted());
        compacted.map_or(self.first_offset(), |closed| closed.meta.cleaned_end)
    }

    fn is_cleanable(&self, closed: &Closed, first_dirty: Offset, limits: CompactionLimits) -> bool {
        let meta = &closed.meta;
        let settled = meta.end_offset <= limits.end && meta.end_index <= limits.applied.next();
        let lag_ms = self.config.min_compaction_lag_ms;
        let age_ms = || limits.now.0.saturating_sub(written_at(&closed.segment, limits.now).0);
        settled && (lag_ms <= 0 || meta.end_offset <= first_dirty || age_ms() >= lag_ms)
    }

    /// `max.compaction.lag.ms` by the first batch's time.
    fn is_overdue(&self, meta: &SegmentMeta, now: Timestamp) -> bool {
        let first = meta.first_timestamp;
        first.0 > 0 && now.0.saturating_sub(first.0) > self.config.max_compaction_lag_ms
    }
}
