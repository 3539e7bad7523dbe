//! The log as its owner sees it.

use std::sync::Arc;

use millstream_core::types::{Offset, PartitionId, RaftIndex, RaftTerm, Timestamp};

use super::config::LogConfig;
use super::data_dir::{DataDir, SegmentFile};
use super::entry::{Descriptor, Entry, ScannedFrame};
use super::error::{LogError, OpenError, ReadError};
use super::meta::{Checkpoint, SegmentMeta};
use super::view::LogView;

/// Where a new log begins.
#[derive(Clone, Copy, Debug)]
pub struct LogStart {
    /// Index of the first entry: 2 in a newborn group (1 is the virtual snapshot).
    pub next_index: RaftIndex,
    /// Term of the entry before.
    pub prev_term: RaftTerm,
    pub base_offset: Offset,
}

/// What the store knew of the log.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Of closed segments, in any order.
    pub segments: Vec<SegmentMeta>,
    pub checkpoint: Option<Checkpoint>,
    /// Index after the last entry known to be synced.
    pub synced_end: Option<RaftIndex>,
}

/// What the caller has to write to its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// Put under the base offset's key.
    SegmentClosed(SegmentMeta),
    /// Remove that base offset's key: the segment is gone, or is the active one again.
    SegmentRemoved(Offset),
}

/// A log that was opened, and what the store has to learn of it.
pub struct Opened {
    pub log: Log,
    pub events: Vec<LogEvent>,
}

/// The log of one partition. One owner; readers hold its `LogView`.
pub struct Log {}

impl Log {
    /// Makes the directory and the first segment. Leftovers of a birth that crashed are replaced.
    pub fn create(
        _dir: &Arc<DataDir>,
        _id: PartitionId,
        _config: LogConfig,
        _start: LogStart,
    ) -> Result<Log, LogError> {
        todo!()
    }

    /// Opens, scans from the checkpoint, cuts a torn tail. `on_frame` gets each frame after the checkpoint (without
    /// a checkpoint: each frame of the whole log, compacted segments included).
    pub fn open(
        _dir: &Arc<DataDir>,
        _id: PartitionId,
        _config: LogConfig,
        _known: Known,
        _on_frame: &mut dyn FnMut(&ScannedFrame<'_>),
    ) -> Result<Opened, OpenError> {
        todo!()
    }

    pub fn set_config(&mut self, _config: LogConfig) {
        todo!()
    }

    /// Makes sure that the disk has room for `bytes` after the end of the log: all that is proposed and not yet
    /// appended, in sum. The one place where a full disk is an ordinary answer.
    pub fn reserve(&mut self, _bytes: u64) -> Result<(), LogError> {
        todo!()
    }

    /// Appends, rolling when needed. The indexes follow the last one, and offsets the end. `now`: for `segment.ms`
    /// where records have no timestamps.
    pub fn append(&mut self, _entries: &[Entry], _now: Timestamp) -> Result<Vec<LogEvent>, LogError> {
        todo!()
    }

    /// Files written since the last call: what a flush must sync.
    pub fn dirty_files(&mut self) -> Vec<Arc<SegmentFile>> {
        todo!()
    }

    /// Removes the entry and all after it. A synced end above must have been lowered in the store before.
    pub fn truncate_from(&mut self, _index: RaftIndex) -> Result<Vec<LogEvent>, LogError> {
        todo!()
    }

    /// Index of the first entry still there as raft wrote it; `last_index + 1` when there is none.
    pub fn first_index(&self) -> RaftIndex {
        todo!()
    }

    pub fn last_index(&self) -> RaftIndex {
        todo!()
    }

    pub fn last_term(&self) -> RaftTerm {
        todo!()
    }

    /// Base offset of the first segment.
    pub fn first_offset(&self) -> Offset {
        todo!()
    }

    /// The log end offset.
    pub fn next_offset(&self) -> Offset {
        todo!()
    }

    pub fn entries(&self, _from: RaftIndex, _to: RaftIndex, _max: usize) -> Result<Vec<Descriptor>, ReadError> {
        todo!()
    }

    pub fn term_at(&self, _index: RaftIndex) -> Option<RaftTerm> {
        todo!()
    }

    /// The end of the log, to be stored once it is synced.
    pub fn checkpoint(&self) -> Checkpoint {
        todo!()
    }

    pub fn view(&self) -> Arc<LogView> {
        todo!()
    }

    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Deletes closed segments that lie wholly below `log_start` and hold no entry above `applied` (as the store
    /// durably knows it). An active segment wholly below is closed first.
    pub fn delete_segments_below(
        &mut self,
        _log_start: Offset,
        _applied: RaftIndex,
        _now: Timestamp,
    ) -> Result<Vec<LogEvent>, LogError> {
        todo!()
    }

    /// The log start that `retention.ms` and `retention.bytes` ask for, at most `high_watermark`. `None`: no change.
    pub fn offset_for_retention(&self, _now: Timestamp, _high_watermark: Offset) -> Option<Offset> {
        todo!()
    }
}
