//! The log as its readers see it.

use std::fs::File;
use std::sync::Arc;

use arc_swap::ArcSwap;
use millstream_core::types::{Offset, RaftIndex, RaftTerm};

use super::error::ReadError;
use super::frame::SEGMENT_HEADER_LEN;
use super::probe;
use super::segment::Segment;
use super::walk::Patience;

/// Whole batches in a file.
#[derive(Clone, Debug)]
pub struct Slice {
    pub file: Arc<File>,
    pub position: u64,
    /// Bytes; 0 when there is nothing to read.
    pub len: usize,
    /// Of the first batch.
    pub base_offset: Offset,
    /// Where the next read goes on.
    pub next_offset: Offset,
}

impl Slice {
    /// The bytes are in the page cache, as far as samples tell: sending them will not wait for the disk.
    pub fn is_cached(&self) -> bool {
        probe::is_cached(&self.file, self.position, self.len as u64)
    }
}

/// Deletions that a reader may run into in a row before it is told.
const GONE_TRIES: usize = 4;

/// Shared by all readers of a partition. The list of segments is swapped when it changes, the active segment grows in
/// place: a reader waits for the writer at most for a push into an index.
pub struct LogView {
    segments: ArcSwap<Vec<Arc<Segment>>>,
}

impl LogView {
    /// By base offset; the last is the active one.
    pub(super) fn new(segments: Vec<Arc<Segment>>) -> Self {
        assert!(!segments.is_empty(), "a log without an active segment");
        Self { segments: ArcSwap::from_pointee(segments) }
    }

    pub(super) fn replace(&self, segments: Vec<Arc<Segment>>) {
        assert!(!segments.is_empty(), "a log without an active segment");
        self.segments.store(Arc::new(segments));
    }

    /// Asks again when a segment went away under the reader: what replaced it, or the new first one, is in the list then.
    pub(super) fn retry<T>(&self, ask: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        for _ in 1..GONE_TRIES {
            match ask() {
                Err(ReadError::Gone { .. }) => {}
                answer => return answer,
            }
        }
        ask()
    }

    pub(super) fn segments(&self) -> arc_swap::Guard<Arc<Vec<Arc<Segment>>>> {
        self.segments.load()
    }

    /// Base offset of the first segment.
    pub fn first_offset(&self) -> Offset {
        self.segments().first().map_or(Offset::ZERO, |first| first.base_offset())
    }

    /// The log end offset.
    pub fn next_offset(&self) -> Offset {
        self.segments().last().map_or(Offset::ZERO, |last| last.end().offset)
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.end().position).sum()
    }

    /// Bytes of the segments that hold records, without their headers: what a log without records holds is raft's.
    pub fn record_size_bytes(&self) -> u64 {
        let segments = self.segments();
        let with_records = segments.iter().filter(|segment| segment.end().offset > segment.base_offset());
        with_records.map(|segment| segment.end().position.saturating_sub(SEGMENT_HEADER_LEN)).sum()
    }

    pub fn segment_count(&self) -> usize {
        self.segments().len()
    }

    /// Term of the entry; also of the one before the first that is still there. `None`: not in the log. Reads an index
    /// from disk when the entry lies in a closed segment whose index is not loaded.
    pub fn term_at(&self, index: RaftIndex) -> Option<RaftTerm> {
        let segments = self.segments();
        let raft = &segments[segments.partition_point(|segment| segment.is_compacted())..];
        let first = raft.first()?;
        if index.next() == first.base_index {
            return Some(first.prev_term);
        }
        let segment = raft.get(raft.partition_point(|s| s.base_index <= index).checked_sub(1)?)?;
        let end = segment.end();
        if index >= end.index {
            return None;
        }
        if index.next() == end.index {
            return Some(end.last_term);
        }
        let in_segment = segment.ask_index(Patience::Wait, |i| i.covers_index(index).then(|| i.term_at(index))).ok()?;
        Some(in_segment.unwrap_or(segment.prev_term))
    }
}
