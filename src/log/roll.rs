//! Closing the active segment and opening the next.

use std::mem;
use std::sync::Arc;

use millstream_core::types::Timestamp;
use tracing::debug;

use super::error::LogError;
use super::io::reserve;
use super::meta::SegmentMeta;
use super::segment::{IndexState, Segment};
use super::writer::{Active, Closed, Log, LogStart};

impl Log {
    /// Closes the active segment, which holds a batch, and opens the next.
    pub(super) fn roll(&mut self) -> Result<SegmentMeta, LogError> {
        let end = self.end();
        let start = LogStart { next_index: end.index, prev_term: end.last_term, base_offset: end.offset };
        let spare = self.give_back(end.position);
        let next = Active::create(self.id, &self.dir, &self.handles, start)?;
        let mut old = mem::replace(&mut self.active, next);
        // What is proposed still finds room. If someone else took it in between, the write tells.
        let from = self.end().position;
        if reserve(&self.active.file.file, from, from + spare).is_ok() {
            self.active.reserved_end = from + spare;
        }
        let meta = close(&old.segment, old.first_timestamp);
        if mem::take(&mut old.dirty) {
            self.dirty.files.push(old.file.clone());
        }
        self.handles.opened(&old.segment);
        self.closed.push(Closed { meta, segment: old.segment });
        self.publish();
        Ok(meta)
    }

    /// Gives back what is set aside in the active file, first of all: on a full disk the new file takes it. How much
    /// that was.
    fn give_back(&mut self, end: u64) -> u64 {
        let spare = self.active.reserved_end.saturating_sub(end);
        if spare > 0
            && let Err(e) = self.active.file.file.set_len(end)
        {
            debug!(error = %e, "what was reserved beyond a closed segment stays");
        }
        self.active.reserved_end = end;
        spare
    }
}

/// Writes the index and makes the segment one whose file and index may be dropped.
fn close(segment: &Arc<Segment>, first_timestamp: Option<Timestamp>) -> SegmentMeta {
    let mut live = segment.write_live();
    let end = live.end;
    if let IndexState::Growing(index) = mem::replace(&mut live.index, IndexState::Closed(None))
        && index.is_complete()
    {
        segment.write_index(end.position, &index);
        live.index = IndexState::Closed(Some(segment.hold(index)));
    }
    // An index that reaches back to a checkpoint only is rebuilt when someone needs it, off the loop.
    SegmentMeta {
        base_offset: segment.base_offset(),
        generation: 0,
        end_offset: end.offset,
        base_index: segment.base_index,
        end_index: end.index,
        prev_term: segment.prev_term,
        last_term: end.last_term,
        length: end.position,
        max_timestamp: end.max_timestamp,
        first_timestamp: first_timestamp.unwrap_or(Timestamp::NONE),
        cleaned_end: segment.base_offset(),
    }
}
