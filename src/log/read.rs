//! Which bytes a fetch gets. Knows nothing of watermarks: the caller says where to end.

use std::sync::Arc;

use millstream_core::types::Offset;

use super::error::ReadError;
use super::segment::{Segment, SegmentEnd};
use super::view::{LogView, Slice};
use super::walk::{Head, Patience, Walk};

/// What a reader asked for.
#[derive(Clone, Copy)]
struct Wanted {
    from: Offset,
    end: Offset,
    max_bytes: usize,
    at_least_one: bool,
    patience: Patience,
}

impl LogView {
    /// Whole batches from the one that contains `from` (or the next after a hole) on: before `end`, before an own
    /// frame, within one segment, at most `max_bytes` (but the first batch whole with `at_least_one`). Empty only if
    /// there is nothing in `from..end`, or the first batch is larger than `max_bytes`. May wait for the disk.
    pub fn read(&self, from: Offset, end: Offset, max_bytes: usize, at_least_one: bool) -> Result<Slice, ReadError> {
        let wanted = Wanted { from, end, max_bytes, at_least_one, patience: Patience::Wait };
        self.retry(|| self.read_wanted(wanted))
    }

    /// As `read`, but `ReadError::Cold` instead of waiting for the disk. Whether the slice itself is in memory,
    /// `Slice::is_cached` tells.
    pub fn try_read(
        &self,
        from: Offset,
        end: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slice, ReadError> {
        self.read_wanted(Wanted { from, end, max_bytes, at_least_one, patience: Patience::CacheOnly })
    }

    fn read_wanted(&self, wanted: Wanted) -> Result<Slice, ReadError> {
        let segments = self.segments();
        let first = segments.partition_point(|s| s.base_offset() <= wanted.from).saturating_sub(1);
        for segment in &segments[first..] {
            if segment.base_offset() >= wanted.end {
                break;
            }
            if let Some(slice) = read_segment(segment, wanted)? {
                return Ok(slice);
            }
        }
        // Always there, and always open.
        let active = segments.last().expect("a log has an active segment");
        let (base_offset, next_offset) = (wanted.from, wanted.from);
        Ok(Slice { file: active.file(Patience::Wait)?, position: 0, len: 0, base_offset, next_offset })
    }
}

/// `None`: the segment holds nothing at or after `from`; the next one may.
fn read_segment(segment: &Arc<Segment>, wanted: Wanted) -> Result<Option<Slice>, ReadError> {
    let segment_end = segment.end();
    if wanted.from >= segment_end.offset {
        return Ok(None);
    }
    let file = segment.file(wanted.patience)?;
    let start = match segment.hint(wanted.from) {
        Some(position) => position,
        None => segment.ask_index(wanted.patience, |i| i.floor_of_offset(wanted.from))?.position,
    };
    let mut walk = Walk::new(segment, &file, start, segment_end.position, wanted.patience);
    let first = loop {
        match walk.next()? {
            None => return Ok(None),
            Some(head) if head.frame.own_kind.is_none() && head.frame.next_offset() > wanted.from => break head,
            Some(_) => {}
        }
    };
    let (position, base_offset) = (first.position, first.frame.base_offset);
    let slice = |len, next_offset| Slice { file: file.clone(), position, len, base_offset, next_offset };
    let size = first.frame.size_bytes as usize;
    if first.frame.next_offset() > wanted.end || (size > wanted.max_bytes && !wanted.at_least_one) {
        return Ok(Some(slice(0, base_offset)));
    }
    let stop = if size >= wanted.max_bytes {
        Stop { position: first.end(), offset: first.frame.next_offset() }
    } else {
        last_stop(segment, &mut walk, first, segment_end, wanted)?
    };
    segment.set_hint(stop.offset, stop.position);
    // Within a file that fits into memory's address space.
    Ok(Some(slice((stop.position - first.position) as usize, stop.offset)))
}

/// Where a read ends: a frame boundary, and the offset from which the next one goes on.
#[derive(Clone, Copy)]
struct Stop {
    position: u64,
    offset: Offset,
}

/// The last boundary that is allowed: not beyond the bytes, the wanted end, the next own frame or the segment's end.
/// The first batch lies before it.
fn last_stop(
    segment: &Arc<Segment>,
    walk: &mut Walk<'_>,
    first: Head,
    segment_end: SegmentEnd,
    wanted: Wanted,
) -> Result<Stop, ReadError> {
    let bytes_end = first.position.saturating_add(wanted.max_bytes as u64);
    let own = segment
        .ask_index(wanted.patience, |i| i.covers_position(first.position).then(|| i.own_from(first.position)))?;
    let far = match own {
        Some((position, offset)) if position < segment_end.position => Stop { position, offset },
        _ => Stop { position: segment_end.position, offset: segment_end.offset },
    };
    // All up to there is wanted: no search.
    if far.offset <= wanted.end && far.position <= bytes_end {
        return Ok(far);
    }
    let floor = segment.ask_index(wanted.patience, |i| {
        i.covers_position(first.position).then(|| i.floor_of_both(bytes_end, wanted.end))
    })?;
    if floor.position >= far.position {
        return Ok(far);
    }
    let mut stop = Stop { position: first.end(), offset: first.frame.next_offset() };
    if floor.position > stop.position {
        stop = Stop { position: floor.position, offset: floor.offset };
        walk.jump(floor.position);
    }
    while let Some(head) = walk.next()? {
        let wanted_whole = head.end() <= bytes_end && head.frame.next_offset() <= wanted.end;
        if head.frame.own_kind.is_some() || !wanted_whole {
            break;
        }
        stop = Stop { position: head.end(), offset: head.frame.next_offset() };
    }
    Ok(stop)
}
