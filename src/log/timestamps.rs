//! Which record has a timestamp: ListOffsets by time, and the greatest.

use std::sync::Arc;

use millstream_core::record::{BatchHeader, RecordIter, TimestampType, batch_body};
use millstream_core::types::{LeaderEpoch, Offset, Timestamp};

use super::entries::read_frame;
use super::error::{LostPlace, ReadError};
use super::segment::Segment;
use super::view::LogView;
use super::walk::{Head, Patience, Walk};

/// Most bytes a stored batch inflates to. It was bounded when it was produced; this only guards against damage.
pub(super) const INFLATED_MAX: usize = 1 << 30;

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTimestamp {
    pub offset: Offset,
    pub timestamp: Timestamp,
    /// Of the record's batch.
    pub epoch: LeaderEpoch,
}

impl LogView {
    /// The first record in `from..end` with a timestamp of at least `timestamp`, exact inside batches. May wait for the
    /// disk.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        from: Offset,
        end: Offset,
    ) -> Result<Option<FoundTimestamp>, ReadError> {
        self.retry(|| self.find_timestamp(timestamp, from, end))
    }

    fn find_timestamp(
        &self,
        timestamp: Timestamp,
        from: Offset,
        end: Offset,
    ) -> Result<Option<FoundTimestamp>, ReadError> {
        for segment in self.segments_in(from, end) {
            if segment.end().max_timestamp < timestamp {
                continue;
            }
            let by_time = segment.ask_index(Patience::Wait, |i| i.floor_of_timestamp(timestamp))?.position;
            let by_offset = segment.ask_index(Patience::Wait, |i| i.floor_of_offset(from))?.position;
            let mut found = None;
            walk_batches(&segment, by_time.max(by_offset), from, end, |head| {
                if head.frame.max_timestamp >= timestamp {
                    found = first_record(&segment, &head, from, end, timestamp)?;
                }
                Ok(found.is_none())
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record in `from..end` with the greatest timestamp (ListOffsets -3); of a LogAppendTime batch the last
    /// record, as Kafka answers. `None` when no record has a timestamp. May wait for the disk.
    pub fn max_timestamp(&self, from: Offset, end: Offset) -> Result<Option<FoundTimestamp>, ReadError> {
        self.retry(|| self.find_max_timestamp(from, end))
    }

    fn find_max_timestamp(&self, from: Offset, end: Offset) -> Result<Option<FoundTimestamp>, ReadError> {
        let mut best: Option<(Arc<Segment>, Head)> = None;
        for segment in self.segments_in(from, end) {
            let so_far = best.as_ref().map_or(Timestamp::NONE, |(_, head)| head.frame.max_timestamp);
            if segment.end().max_timestamp <= so_far {
                continue;
            }
            if let Some(head) = greatest_batch(&segment, from, end)?
                && head.frame.max_timestamp > so_far
            {
                best = Some((segment, head));
            }
        }
        let Some((segment, head)) = best else { return Ok(None) };
        first_record_or_last(&segment, &head, from, end)
    }

    /// Segments that may hold some of `from..end`.
    fn segments_in(&self, from: Offset, end: Offset) -> Vec<Arc<Segment>> {
        let segments = self.segments();
        let overlaps = |s: &&Arc<Segment>| s.base_offset() < end && s.end().offset > from;
        segments.iter().filter(overlaps).cloned().collect()
    }
}

/// Calls `each` for the batches that overlap `from..end`, beginning at a frame, until it says no.
fn walk_batches(
    segment: &Arc<Segment>,
    position: u64,
    from: Offset,
    end: Offset,
    mut each: impl FnMut(Head) -> Result<bool, ReadError>,
) -> Result<(), ReadError> {
    let file = segment.file(Patience::Wait)?;
    let mut walk = Walk::new(segment, &file, position, segment.end().position, Patience::Wait);
    while let Some(head) = walk.next()? {
        if head.frame.base_offset >= end {
            break;
        }
        let skip = head.frame.own_kind.is_some() || head.frame.next_offset() <= from;
        if !skip && !each(head)? {
            break;
        }
    }
    Ok(())
}

/// The first of the batches in `from..end` with the greatest timestamp of them.
fn greatest_batch(segment: &Arc<Segment>, from: Offset, end: Offset) -> Result<Option<Head>, ReadError> {
    let segment_end = segment.end();
    let whole = from <= segment.base_offset() && end >= segment_end.offset;
    let start = if whole {
        // The index knows where the greatest first comes up.
        segment.ask_index(Patience::Wait, |i| i.floor_of_timestamp(segment_end.max_timestamp))?
    } else {
        segment.ask_index(Patience::Wait, |i| i.floor_of_offset(from))?
    };
    let mut best: Option<Head> = None;
    walk_batches(segment, start.position, from, end, |head| {
        if head.frame.max_timestamp > best.map_or(Timestamp::NONE, |best| best.frame.max_timestamp) {
            best = Some(head);
        }
        Ok(!(whole && best.is_some_and(|best| best.frame.max_timestamp == segment_end.max_timestamp)))
    })?;
    Ok(best)
}

/// Calls `each` for the records of a batch in order until it says no.
fn walk_records(
    segment: &Arc<Segment>,
    head: &Head,
    mut each: impl FnMut(&BatchHeader, Offset, Timestamp) -> bool,
) -> Result<(), ReadError> {
    let bytes = read_frame(segment, head)?;
    let corrupt = |reason: String| ReadError::Corrupt {
        place: LostPlace { path: segment.path(), position: head.position, reason },
    };
    let header = BatchHeader::parse(&bytes).map_err(|e| corrupt(e.to_string()))?;
    let mut scratch = Vec::new();
    let body = batch_body(&header, &bytes, INFLATED_MAX, &mut scratch).map_err(|e| corrupt(e.to_string()))?;
    for record in RecordIter::new(&header, body) {
        let record = record.map_err(|e| corrupt(e.to_string()))?;
        if !each(&header, record.offset, record.timestamp) {
            break;
        }
    }
    Ok(())
}

fn first_record(
    segment: &Arc<Segment>,
    head: &Head,
    from: Offset,
    end: Offset,
    least: Timestamp,
) -> Result<Option<FoundTimestamp>, ReadError> {
    let mut found = None;
    walk_records(segment, head, |header, offset, timestamp| {
        if timestamp >= least && (from..end).contains(&offset) {
            found = Some(FoundTimestamp { offset, timestamp, epoch: header.leader_epoch });
        }
        found.is_none()
    })?;
    Ok(found)
}

fn first_record_or_last(
    segment: &Arc<Segment>,
    head: &Head,
    from: Offset,
    end: Offset,
) -> Result<Option<FoundTimestamp>, ReadError> {
    let mut found: Option<FoundTimestamp> = None;
    walk_records(segment, head, |header, offset, timestamp| {
        let last_counts = header.timestamp_type() == TimestampType::LogAppendTime;
        let better = found.is_none_or(|f| timestamp > f.timestamp || (last_counts && timestamp == f.timestamp));
        if better && (from..end).contains(&offset) {
            found = Some(FoundTimestamp { offset, timestamp, epoch: header.leader_epoch });
        }
        true
    })?;
    Ok(found)
}
