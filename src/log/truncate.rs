//! Cutting off the end: what a deposed leader wrote and nobody else has.

use std::fs::{self, OpenOptions};
use std::sync::Arc;

use millstream_core::types::{RaftIndex, Timestamp};

use super::entries::walk_entries;
use super::error::LogError;
use super::segment::{IndexState, Segment, SegmentEnd};
use super::walk::{Head, Patience, Walk};
use super::writer::{Active, Log, LogEvent, io_error};

impl Log {
    /// Removes the entry and all after it; beyond the end: nothing. Never below the commit index, so that no reader
    /// sees what goes. A synced end or checkpoint beyond the entry must have been lowered in the store, durably, before.
    pub fn truncate_from(&mut self, index: RaftIndex) -> Result<Vec<LogEvent>, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if index > self.last_index() {
            return Ok(Vec::new());
        }
        assert!(index >= self.first_index(), "truncation to {index}, the log begins at {}", self.first_index());
        let result = self.truncate_segments(index);
        self.failed = result.is_err();
        result
    }

    fn truncate_segments(&mut self, index: RaftIndex) -> Result<Vec<LogEvent>, LogError> {
        let mut events = Vec::new();
        while self.active.segment.base_index > index {
            self.reopen_last_closed()?;
            events.push(LogEvent::SegmentRemoved(self.active.segment.base_offset()));
        }
        let segment = self.active.segment.clone();
        let end = end_before(&segment, index)?;
        let path = segment.path();
        self.active.file.file.set_len(end.position).map_err(|e| io_error(&path, e))?;
        self.active.reserved_end = end.position;
        self.active.dirty = true;
        let mut live = segment.write_live();
        if let IndexState::Growing(index) = &mut live.index {
            index.truncate(end.position);
        }
        live.end = end;
        drop(live);
        segment.clear_hints();
        Ok(events)
    }

    /// Deletes the active segment and makes the one before it active again.
    fn reopen_last_closed(&mut self) -> Result<(), LogError> {
        let closed = self.closed.pop().expect("the index is in the log, so some segment holds it");
        let gone = self.active.segment.path();
        fs::remove_file(&gone).map_err(|e| io_error(&gone, e))?;
        // Else a crash could bring it back behind a shorter segment.
        self.dir.sync_now().map_err(|e| io_error(self.dir.path(), e))?;
        self.active = reopen(&closed.segment)?;
        // It may be there twice: as closed and dirty, and as active.
        self.publish();
        Ok(())
    }
}

/// Opens a closed segment for writing. Its index goes back into memory.
pub(super) fn reopen(segment: &Arc<Segment>) -> Result<Active, LogError> {
    let path = segment.path();
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| io_error(&path, e))?;
    let file = Arc::new(file);
    segment.set_file(file.clone());
    let index = segment.ask_index(Patience::Wait, |index| Some(index.clone()))?;
    segment.write_live().index = IndexState::Growing(index);
    // Stale once the segment grows; it is told by the length in it, and written anew at the next roll.
    let mut active = Active::new(segment.clone(), file);
    active.first_timestamp = first_timestamp(segment)?;
    Ok(active)
}

/// The greatest timestamp of the first batch.
pub(super) fn first_timestamp(segment: &Arc<Segment>) -> Result<Option<Timestamp>, LogError> {
    let file = segment.file(Patience::Wait)?;
    let start = super::frame::SEGMENT_HEADER_LEN;
    let mut walk = Walk::new(segment, &file, start, segment.end().position, Patience::Wait);
    while let Some(head) = walk.next()? {
        if head.frame.own_kind.is_none() {
            return Ok(Some(head.frame.max_timestamp));
        }
    }
    Ok(None)
}

/// The end of the segment as it was before the entry, which it holds.
fn end_before(segment: &Arc<Segment>, index: RaftIndex) -> Result<SegmentEnd, LogError> {
    let start = segment.ask_index(Patience::Wait, |i| i.floor_of_index(index))?;
    let mut max_timestamp = start.max_timestamp_before;
    let mut cut: Option<Head> = None;
    walk_entries(segment, start.index, |head| {
        if head.frame.index == index {
            cut = Some(head);
            return false;
        }
        max_timestamp = max_timestamp.max(head.frame.max_timestamp);
        true
    })?;
    let cut = cut.ok_or(super::error::ReadError::NoEntry { index })?;
    let before = RaftIndex(index.0 - 1);
    let last_term = segment.ask_index(Patience::Wait, |i| i.covers_index(before).then(|| i.term_at(before)))?;
    Ok(SegmentEnd {
        position: cut.position,
        offset: cut.frame.base_offset,
        index,
        last_term: last_term.unwrap_or(segment.prev_term),
        max_timestamp,
    })
}
