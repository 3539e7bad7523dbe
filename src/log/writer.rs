//! The log as its owner sees it: one owner writes, readers hold its `LogView`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use millstream_core::types::{Offset, PartitionId, RaftIndex, RaftTerm, Timestamp};
use tracing::warn;

use super::config::LogConfig;
use super::data_dir::DataDir;
use super::entry::Descriptor;
use super::error::{LogError, ReadError};
use super::flusher::Dirty;
use super::frame::{SEGMENT_HEADER_LEN, SegmentHeader};
use super::handles::HandleCache;
use super::incoming::CompactedSegment;
use super::index::SegmentIndex;
use super::io::{is_no_space, write_all_at};
use super::meta::{Checkpoint, SegmentMeta};
use super::names::SegmentName;
use super::partition_dir::{PartitionDir, SegmentFile};
use super::segment::{IndexState, Segment, SegmentEnd, SegmentOf};
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

/// What the caller has to write to its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// Put under the base offset's key.
    SegmentClosed(SegmentMeta),
    /// Remove that base offset's key: the segment is gone, or is the active one again.
    SegmentRemoved(Offset),
}

pub(super) struct Closed {
    pub meta: SegmentMeta,
    pub segment: Arc<Segment>,
}

/// The segment that is written.
pub(super) struct Active {
    pub segment: Arc<Segment>,
    pub file: Arc<SegmentFile>,
    /// Bytes up to which the disk has room set aside.
    pub reserved_end: u64,
    pub reserve_step: u64,
    /// Timestamp of the first batch, and the time of the first append since the segment was opened: from these
    /// `segment.ms` is counted.
    pub first_timestamp: Option<Timestamp>,
    pub opened_at: Option<Timestamp>,
    /// Written since `take_dirty`.
    pub dirty: bool,
}

/// The log of one partition.
pub struct Log {
    pub(super) id: PartitionId,
    pub(super) config: LogConfig,
    pub(super) dir: Arc<PartitionDir>,
    pub(super) handles: Arc<HandleCache>,
    pub(super) closed: Vec<Closed>,
    pub(super) active: Active,
    /// Closed segments written, and bytes written in all, since `take_dirty`.
    pub(super) dirty: Dirty,
    pub(super) view: Arc<LogView>,
    /// A write failed: what the file holds is not sure.
    pub(super) failed: bool,
    /// Prefixes and own frames of the append under way.
    pub(super) scratch: Vec<u8>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("id", &self.id).field("end", &self.end()).finish_non_exhaustive()
    }
}

/// An I/O error with its path; a full disk by its own name.
pub(super) fn io_error(path: &Path, source: io::Error) -> LogError {
    if is_no_space(&source) { LogError::NoSpace } else { LogError::Io { path: path.to_owned(), source } }
}

impl Active {
    pub fn new(segment: Arc<Segment>, file: Arc<File>) -> Self {
        let file = Arc::new(SegmentFile { file, dir: segment.dir.clone() });
        Self {
            reserved_end: segment.end().position,
            segment,
            file,
            reserve_step: 0,
            first_timestamp: None,
            opened_at: None,
            dirty: true,
        }
    }

    /// Makes the file of a new segment and writes its header.
    pub fn create(
        id: PartitionId,
        dir: &Arc<PartitionDir>,
        handles: &Arc<HandleCache>,
        start: LogStart,
    ) -> Result<Self, LogError> {
        let name = SegmentName { base_offset: start.base_offset, generation: 0 };
        let path = dir.path().join(name.log());
        let make = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
            let mut header = Vec::new();
            SegmentHeader::new(id, start.base_offset, start.next_index, start.prev_term).put(&mut header);
            write_all_at(&file, &mut [IoSlice::new(&header)], 0)?;
            Ok(file)
        };
        let file = make().map_err(|e| {
            // Half a segment would only confuse the next start.
            if let Err(e) = fs::remove_file(&path) {
                warn!(path = %path.display(), error = %e, "file of a failed roll stays");
            }
            io_error(&path, e)
        })?;
        dir.file_was_made();
        let of = SegmentOf {
            dir: dir.clone(),
            handles: handles.clone(),
            name,
            base_index: start.next_index,
            prev_term: start.prev_term,
        };
        let end = SegmentEnd {
            position: SEGMENT_HEADER_LEN,
            offset: start.base_offset,
            index: start.next_index,
            last_term: start.prev_term,
            max_timestamp: Timestamp::NONE,
        };
        let index = SegmentIndex::new(start.base_offset, start.next_index);
        let file = Arc::new(file);
        let segment = Segment::new(of, end, IndexState::Growing(index), Some(file.clone()));
        Ok(Self::new(segment, file))
    }
}

impl Log {
    /// Makes the directory and the first segment. Leftovers of a birth that crashed are replaced.
    pub fn create(dir: &Arc<DataDir>, id: PartitionId, config: LogConfig, start: LogStart) -> Result<Log, LogError> {
        let root = dir.path();
        let partition_dir = dir.create_partition_dir(id).map_err(|e| io_error(root, e))?;
        let path = partition_dir.path();
        let clear = || fs::read_dir(path)?.try_for_each(|entry| fs::remove_file(entry?.path()));
        clear().map_err(|e| io_error(path, e))?;
        let partition_dir = Arc::new(partition_dir);
        let active = Active::create(id, &partition_dir, &dir.handles, start)?;
        Ok(Self::assemble(dir, id, config, partition_dir, Vec::new(), active))
    }

    pub(super) fn assemble(
        dir: &Arc<DataDir>,
        id: PartitionId,
        config: LogConfig,
        partition_dir: Arc<PartitionDir>,
        closed: Vec<Closed>,
        active: Active,
    ) -> Self {
        let segments = closed.iter().map(|closed| closed.segment.clone()).chain([active.segment.clone()]).collect();
        Self {
            id,
            config,
            dir: partition_dir,
            handles: dir.handles.clone(),
            closed,
            active,
            dirty: Dirty::default(),
            view: Arc::new(LogView::new(segments)),
            failed: false,
            scratch: Vec::new(),
        }
    }

    /// Shows readers the segments as they are now.
    pub(super) fn publish(&self) {
        let closed = self.closed.iter().map(|closed| closed.segment.clone());
        self.view.replace(closed.chain([self.active.segment.clone()]).collect());
    }

    pub(super) fn end(&self) -> SegmentEnd {
        self.active.segment.end()
    }

    /// Takes effect with the next append, retention or compaction.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// What was written since the last call and a flush must sync.
    pub fn take_dirty(&mut self) -> Dirty {
        let mut dirty = std::mem::take(&mut self.dirty);
        if std::mem::take(&mut self.active.dirty) {
            dirty.files.push(self.active.file.clone());
        }
        dirty
    }

    fn first_raft(&self) -> &Arc<Segment> {
        let raft = self.closed.iter().find(|closed| !closed.meta.is_compacted());
        raft.map_or(&self.active.segment, |closed| &closed.segment)
    }

    /// Index of the first entry still there as raft wrote it; `last_index + 1` when there is none.
    pub fn first_index(&self) -> RaftIndex {
        self.first_raft().base_index
    }

    /// Index and term of the entry before the first that is still there as raft wrote it.
    pub fn before_first(&self) -> (RaftIndex, RaftTerm) {
        let first = self.first_raft();
        // Indexes begin at 1.
        (RaftIndex(first.base_index.0 - 1), first.prev_term)
    }

    /// The offset after all that was compacted: that of the entry at `first_index`.
    pub fn first_raft_offset(&self) -> Offset {
        self.first_raft().base_offset()
    }

    /// The compacted segments, oldest first: they begin the log.
    pub fn compacted_segments(&self) -> Vec<CompactedSegment> {
        let compacted = self.closed.iter().take_while(|closed| closed.meta.is_compacted());
        compacted.map(|closed| CompactedSegment { meta: closed.meta, segment: closed.segment.clone() }).collect()
    }

    /// Index of the last entry; `first_index - 1` when there is none.
    pub fn last_index(&self) -> RaftIndex {
        RaftIndex(self.end().index.0 - 1)
    }

    pub fn last_term(&self) -> RaftTerm {
        self.end().last_term
    }

    /// Base offset of the first segment.
    pub fn first_offset(&self) -> Offset {
        self.closed.first().map_or(self.active.segment.base_offset(), |closed| closed.meta.base_offset)
    }

    /// The log end offset.
    pub fn next_offset(&self) -> Offset {
        self.end().offset
    }

    /// As `LogView::entries`.
    pub fn entries(&self, from: RaftIndex, to: RaftIndex, max: usize) -> Result<Vec<Descriptor>, ReadError> {
        self.view.entries(from, to, max)
    }

    /// As `LogView::term_at`.
    pub fn term_at(&self, index: RaftIndex) -> Option<RaftTerm> {
        self.view.term_at(index)
    }

    /// The end of the log, to be stored once it is synced.
    pub fn checkpoint(&self) -> Checkpoint {
        let end = self.end();
        Checkpoint {
            base_offset: self.active.segment.base_offset(),
            position: end.position,
            next_index: end.index,
            next_offset: end.offset,
            last_term: end.last_term,
            max_timestamp: end.max_timestamp,
        }
    }

    pub fn view(&self) -> Arc<LogView> {
        self.view.clone()
    }

    pub fn size_bytes(&self) -> u64 {
        self.closed.iter().map(|closed| closed.meta.length).sum::<u64>() + self.end().position
    }

    /// Closed segments, oldest first.
    pub fn closed_segments(&self) -> impl Iterator<Item = &SegmentMeta> {
        self.closed.iter().map(|closed| &closed.meta)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Gives back what was reserved. If that fails, the next start does it. A file of another length is in the
        // hands of a log that was opened since.
        let end = self.end().position;
        let file = &self.active.file.file;
        let ours = file.metadata().is_ok_and(|meta| meta.len() == end);
        if self.active.reserved_end > end && !self.failed && ours {
            drop(file.set_len(end));
        }
    }
}
