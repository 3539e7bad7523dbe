//! Appends: one vectored write a call, a new segment when the old one is full.

use std::fs::File;
use std::io::{self, IoSlice};

use millstream_core::record::{BatchHeader, LENGTH_AT};
use millstream_core::types::{LeaderEpoch, Timestamp};
use tracing::{error, warn};

use super::entry::{Descriptor, Entry, Payload};
use super::error::LogError;
use super::frame::{OWN_HEADER_LEN, batch_prefix, describe_batch, put_entry};
use super::io::{is_no_space, reserve, write_all_at};
use super::segment::{IndexState, SegmentEnd};
use super::writer::{Log, LogEvent, io_error};

/// Room is set aside in steps that double.
const RESERVE_STEP_MIN: u64 = 64 * 1024;
const RESERVE_STEP_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of an index entry by Kafka's count: its time index has the larger ones.
const INDEX_ENTRY_BYTES: u32 = 12;
/// Bytes of a batch that are written from the scratch array.
const PREFIX_LEN: usize = 16;

/// An entry's frame, ready to be counted and written.
struct Planned<'a> {
    entry: &'a Entry,
    frame: Descriptor,
}

/// What the entry will be in the file. It was made by us, or validated: anything else is a fault of ours.
fn plan(entry: &Entry) -> Planned<'_> {
    let frame = match &entry.payload {
        Payload::Batch { base_offset, bytes } => {
            let header = BatchHeader::parse(bytes).expect("only validated batches are appended");
            assert_eq!(header.size_bytes(), bytes.len(), "a batch and its length field differ");
            let header =
                BatchHeader { base_offset: *base_offset, leader_epoch: LeaderEpoch::of_term(entry.term), ..header };
            Descriptor { index: entry.index, ..describe_batch(&header).expect("only validated batches are appended") }
        }
        Payload::Own { entry_type, data } => Descriptor {
            index: entry.index,
            term: entry.term,
            base_offset: entry.next_offset,
            count: 0,
            size_bytes: u32::try_from(OWN_HEADER_LEN + data.len()).expect("own entries are small"),
            crc: 0,
            own_kind: Some(*entry_type),
            max_timestamp: Timestamp::NONE,
        },
    };
    Planned { entry, frame }
}

/// What follows from an entry, if it may stand after `end`.
fn after(end: SegmentEnd, frame: &Descriptor) -> SegmentEnd {
    assert_eq!(frame.index, end.index, "an entry does not follow the last index");
    assert_eq!(frame.base_offset, end.offset, "an entry does not begin at the log end offset");
    let opens_term = frame.own_kind.is_some() && frame.term >= end.last_term;
    assert!(opens_term || frame.term == end.last_term, "term {} follows {}", frame.term, end.last_term);
    SegmentEnd {
        position: end.position + u64::from(frame.size_bytes),
        offset: frame.next_offset(),
        index: frame.index.next(),
        last_term: frame.term,
        max_timestamp: end.max_timestamp.max(frame.max_timestamp),
    }
}

impl Log {
    /// Makes sure that the disk has room for `bytes` after the end of the log: all that is proposed and not yet
    /// appended, in sum. `NoSpace` here is an ordinary answer: nothing has changed.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        let active = &mut self.active;
        let end = active.segment.end().position;
        let need = end.saturating_add(bytes);
        if need <= active.reserved_end {
            return Ok(());
        }
        let step = (active.reserve_step * 2).clamp(RESERVE_STEP_MIN, RESERVE_STEP_MAX);
        let from = active.reserved_end.max(end);
        for to in [need.max(from + step), need] {
            match reserve(&active.file.file, from, to) {
                Ok(()) => {
                    active.reserved_end = to;
                    active.reserve_step = step;
                    return Ok(());
                }
                // A smaller step may still fit.
                Err(e) if is_no_space(&e) => {}
                Err(e) => return Err(io_error(&active.segment.path(), e)),
            }
        }
        Err(LogError::NoSpace)
    }

    /// Appends, closing segments as they fill up. Indexes follow the last one, offsets the end, and a new term begins
    /// with an own entry. `now`: for `segment.ms` where records have no timestamps. After an error the log takes no
    /// more: the file is cut back to whole frames and has to be opened again.
    pub fn append(&mut self, entries: &[Entry], now: Timestamp) -> Result<Vec<LogEvent>, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let result = self.append_all(entries, now);
        self.failed = result.is_err();
        result
    }

    fn append_all(&mut self, entries: &[Entry], now: Timestamp) -> Result<Vec<LogEvent>, LogError> {
        let mut events = Vec::new();
        let mut group: Vec<Planned<'_>> = Vec::with_capacity(entries.len());
        let mut end = self.end();
        // Each of the group may become one more.
        let mut points = self.active.segment.index_points();
        for entry in entries {
            let planned = plan(entry);
            if self.must_roll(&end, &planned.frame, points + group.len(), now) {
                self.write(&group)?;
                group.clear();
                events.push(LogEvent::SegmentClosed(self.roll()?));
                end = self.end();
                points = 0;
            }
            end = after(end, &planned.frame);
            if self.active.first_timestamp.is_none() && planned.frame.own_kind.is_none() {
                self.active.first_timestamp = Some(planned.frame.max_timestamp);
            }
            self.active.opened_at.get_or_insert(now);
            group.push(planned);
        }
        self.write(&group)?;
        Ok(events)
    }

    /// Must the segment that ends at `end` be closed before this frame (Kafka `LogSegment.shouldRoll`)? Never without
    /// a batch in it: the next segment's file would have the same name.
    fn must_roll(&self, end: &SegmentEnd, frame: &Descriptor, points: usize, now: Timestamp) -> bool {
        let base_offset = self.active.segment.base_offset();
        if end.offset == base_offset {
            return false;
        }
        let size = end.position + u64::from(frame.size_bytes);
        let span = frame.next_offset().0 - base_offset.0;
        let points_max = (self.config.segment_index_bytes / INDEX_ENTRY_BYTES).max(1) as usize;
        size > u64::from(self.config.segment_bytes)
            || span > i64::from(i32::MAX)
            || points >= points_max
            || (frame.own_kind.is_none() && self.is_old(frame.max_timestamp, now))
    }

    /// `LogSegment.timeWaitedForRoll`: by the records' own time where they have one.
    fn is_old(&self, timestamp: Timestamp, now: Timestamp) -> bool {
        let waited = match (self.active.first_timestamp, self.active.opened_at) {
            (Some(first), _) if first.0 >= 0 => timestamp.0.saturating_sub(first.0),
            (_, Some(opened_at)) => now.0.saturating_sub(opened_at.0),
            _ => return false,
        };
        waited > self.config.roll_ms().saturating_sub(self.jitter_ms())
    }

    /// Less than `segment.jitter.ms`, fixed for the segment, and different for each.
    pub(super) fn jitter_ms(&self) -> i64 {
        let seed = self.id.topic.0.as_u64_pair().1
            ^ u64::from(self.id.partition.cast_unsigned())
            ^ self.active.segment.base_offset().0.cast_unsigned().rotate_left(32);
        let spread = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
        spread.cast_signed().checked_rem(self.config.segment_jitter_ms).unwrap_or(0)
    }

    /// Writes the frames to the active segment: all, or none and the file cut back.
    fn write(&mut self, group: &[Planned<'_>]) -> Result<(), LogError> {
        if group.is_empty() {
            return Ok(());
        }
        let start = self.end();
        self.active.dirty = true;
        self.scratch.clear();
        let file = self.active.file.file.clone();
        if let Err(e) = write_frames(&file, group, &mut self.scratch, start.position) {
            let path = self.active.segment.path();
            error!(path = %path.display(), error = %e, "write failed, the file is cut back");
            if let Err(e) = file.set_len(start.position) {
                warn!(path = %path.display(), error = %e, "the file could not be cut, the next start does it");
            }
            return Err(io_error(&path, e));
        }
        let mut live = self.active.segment.write_live();
        let live = &mut *live;
        for Planned { frame, .. } in group {
            if let IndexState::Growing(index) = &mut live.index {
                index.note(live.end.position, frame, live.end.max_timestamp, self.config.index_interval_bytes);
            }
            live.end = after(live.end, frame);
        }
        self.dirty.bytes += live.end.position - start.position;
        Ok(())
    }
}

/// One `pwritev` of all frames: what is ours from `scratch`, the batches' bytes from where they are.
fn write_frames(file: &File, group: &[Planned<'_>], scratch: &mut Vec<u8>, position: u64) -> io::Result<()> {
    let mut ends = Vec::with_capacity(group.len());
    for Planned { entry, frame } in group {
        match &entry.payload {
            Payload::Batch { bytes, .. } => {
                let length = bytes[LENGTH_AT..].first_chunk().map_or(0, |length| i32::from_be_bytes(*length));
                scratch.extend_from_slice(&batch_prefix(frame.base_offset, length, frame.term));
            }
            Payload::Own { entry_type, data } => {
                put_entry(frame.index, frame.term, frame.base_offset, *entry_type, data, scratch);
            }
        }
        ends.push(scratch.len());
    }
    let mut buffers = Vec::with_capacity(2 * group.len());
    let mut start = 0;
    for (Planned { entry, .. }, end) in group.iter().zip(ends) {
        buffers.push(IoSlice::new(&scratch[start..end]));
        if let Payload::Batch { bytes, .. } = &entry.payload {
            buffers.push(IoSlice::new(&bytes[PREFIX_LEN..]));
        }
        start = end;
    }
    write_all_at(file, &mut buffers, position)
}
