//! Which segments are too old or too many, and their deletion.

use std::sync::Arc;
use std::time::UNIX_EPOCH;
use std::{fs, io, thread};

use millstream_core::types::{Offset, RaftIndex, Timestamp};
use tracing::{error, warn};

use super::error::LogError;
use super::partition_dir::sync_dir;
use super::segment::Segment;
use super::walk::Patience;
use super::writer::{Log, LogEvent};

/// Bytes of deleted segments up to which the loop itself waits until they are free.
const FREED_AT_ONCE_MAX: u64 = 16 << 20;

impl Log {
    /// The log start that `retention.ms` and `retention.bytes` ask for: at most `high_watermark`, always between two
    /// segments, or the log end when even the active segment is too old. `None`: nothing to delete, or no `delete` in
    /// `cleanup.policy` (Kafka `UnifiedLog.deleteOldSegments`).
    pub fn offset_for_retention(&self, now: Timestamp, high_watermark: Offset) -> Option<Offset> {
        if !self.config.delete {
            return None;
        }
        let segments = self.view.segments();
        let mut excess = self.config.retention_bytes.and_then(|most| self.size_bytes().checked_sub(most));
        let mut start = None;
        for segment in segments.iter() {
            let end = segment.end();
            // A segment without records has nothing to delete; one beyond the high watermark is not committed.
            if end.offset > high_watermark || end.offset == segment.base_offset() {
                break;
            }
            let too_many = excess.is_some_and(|excess| excess >= end.position);
            let age_ms = || now.0.saturating_sub(written_at(segment, now).0);
            let too_old = self.config.retention_ms.is_some_and(|most| age_ms() > most);
            if !too_many && !too_old {
                break;
            }
            excess = excess.map(|excess| excess.saturating_sub(end.position));
            start = Some(end.offset);
        }
        start
    }

    /// Whether a segment ends at or below `log_start`, so that there is something to delete.
    pub fn ends_segments_below(&self, log_start: Offset) -> bool {
        self.closed.first().is_some_and(|first| first.meta.end_offset <= log_start) || self.active_ends_below(log_start)
    }

    fn active_ends_below(&self, log_start: Offset) -> bool {
        let end = self.end();
        end.offset > self.active.segment.base_offset() && end.offset <= log_start
    }

    /// Deletes segments that lie wholly below `log_start` and hold no entry above `applied`, which is what the store
    /// durably knows as applied and checkpointed. The closed ones first, which makes room for closing the active one
    /// if it lies below, too. Blocks for the disk when no older segment stays; a failed sync aborts the process.
    pub fn delete_segments_below(&mut self, log_start: Offset, applied: RaftIndex) -> Result<Vec<LogEvent>, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let mut events = self.delete_closed_below(log_start, applied);
        if self.active_ends_below(log_start) && self.end().index <= applied.next() {
            match self.roll() {
                Ok(meta) => events.push(LogEvent::SegmentClosed(meta)),
                // Nothing has changed: there may be room the next time.
                Err(LogError::NoSpace) => warn!(partition = %self.id, "no room to close the active segment"),
                Err(e) => {
                    self.failed = true;
                    return Err(e);
                }
            }
            events.extend(self.delete_closed_below(log_start, applied));
        }
        Ok(events)
    }

    fn delete_closed_below(&mut self, log_start: Offset, applied: RaftIndex) -> Vec<LogEvent> {
        let goes = |closed: &&super::writer::Closed| {
            closed.meta.end_offset <= log_start && closed.meta.end_index <= applied.next()
        };
        let count = self.closed.iter().take_while(goes).count();
        if count == 0 {
            return Vec::new();
        }
        if count == self.closed.len()
            && let Err(e) = self.sync_active()
        {
            error!(error = %e, "a sync failed, the process stops");
            std::process::abort();
        }
        let gone: Vec<_> = self.closed.drain(..count).map(|closed| closed.segment).collect();
        self.publish();
        let events = gone.iter().map(|segment| LogEvent::SegmentRemoved(segment.base_offset())).collect();
        // Synced or not: what was written to a deleted file needs no flush, and does no harm in one.
        delete(gone);
        events
    }

    /// Brings the active segment to the disk: where all others go, the log is what this one holds, and it may be so new
    /// that no flush has seen it.
    fn sync_active(&self) -> io::Result<()> {
        self.active.file.file.sync_all()?;
        self.dir.take_unsynced().iter().try_for_each(|dir| sync_dir(dir))
    }
}

/// The greatest timestamp, or, where no record has one, the file's last change (`LogSegment.largestTimestamp`).
pub(super) fn written_at(segment: &Segment, now: Timestamp) -> Timestamp {
    let greatest = segment.end().max_timestamp;
    if greatest.0 >= 0 { greatest } else { last_change(segment).unwrap_or(now) }
}

fn last_change(segment: &Segment) -> Option<Timestamp> {
    let changed = fs::metadata(segment.path()).and_then(|meta| meta.modified()).ok()?;
    let ms = changed.duration_since(UNIX_EPOCH).ok()?.as_millis();
    Some(Timestamp(i64::try_from(ms).ok()?))
}

/// Deletes segments, the oldest first. Freeing a large file's blocks takes long, and happens when its last handle goes:
/// on a thread of its own.
pub(super) fn delete(segments: Vec<Arc<Segment>>) {
    let bytes: u64 = segments.iter().map(|segment| segment.end().position).sum();
    let open: Vec<_> = segments.iter().map(|segment| segment.file(Patience::Wait).ok()).collect();
    segments.iter().for_each(|segment| remove_files(segment));
    if bytes >= FREED_AT_ONCE_MAX {
        let free = thread::Builder::new().name("free-segments".into());
        if let Err(e) = free.spawn(move || drop((segments, open))) {
            warn!(error = %e, "no thread to free segments, the loop does it");
        }
    }
}

/// Unlinks a segment and its index. Who has them open reads on.
pub(super) fn remove_files(segment: &Segment) {
    for path in [segment.path(), segment.index_path()] {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                warn!(path = %path.display(), error = %e, "file of a deleted segment stays");
            }
            _ => {}
        }
    }
}
