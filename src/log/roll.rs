//! Closing the active segment and opening the next.

use std::fs::File;
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
        let next = Active::create(self.id, &self.dir, &self.handles, start)?;
        let mut old = mem::replace(&mut self.active, next);
        let spare = old.reserved_end.saturating_sub(end.position);
        if spare > 0 {
            self.hand_over(&old.file.file, end.position, spare);
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

    /// What was set aside in the old file is set aside in the new one, so that what is proposed still finds room. If
    /// someone else takes it in between, the write tells.
    fn hand_over(&mut self, old: &File, end: u64, spare: u64) {
        let from = self.end().position;
        let new = self.active.file.file.clone();
        let at_once = reserve(&new, from, from + spare).is_ok();
        if let Err(e) = old.set_len(end) {
            debug!(error = %e, "what was reserved beyond a closed segment stays");
        }
        if at_once || reserve(&new, from, from + spare).is_ok() {
            self.active.reserved_end = from + spare;
        }
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
        live.index = IndexState::Closed(Some(Arc::new(index)));
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
