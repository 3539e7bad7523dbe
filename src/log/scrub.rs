//! Reads closed segments again, for damage that nobody has run into yet.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_core::types::{Offset, RaftIndex, RaftTerm, Timestamp};

use super::error::LostPlace;
use super::frame::SEGMENT_HEADER_LEN;
use super::index::SegmentIndex;
use super::scan::{Scan, read_header};
use super::segment::{Segment, SegmentEnd};
use super::throttle::Throttle;
use super::view::LogView;

/// A closed segment as it was when the scrub came to its partition. No handle of it: what is deleted meanwhile must
/// give its room back at once.
#[derive(PartialEq, Eq)]
pub struct ClosedSegment {
    path: PathBuf,
    base_offset: Offset,
    base_index: RaftIndex,
    prev_term: RaftTerm,
    is_compacted: bool,
    len: u64,
}

/// One pass over the closed segments of all partitions.
pub struct Scrub {
    throttle: Throttle,
}

impl LogView {
    /// What there is to scrub.
    pub fn closed_segments(&self) -> Vec<ClosedSegment> {
        let segments = self.segments();
        let closed = segments.split_last().map_or(&[][..], |(_, closed)| closed);
        let of = |segment: &Arc<Segment>| ClosedSegment {
            path: segment.path(),
            base_offset: segment.base_offset(),
            base_index: segment.base_index,
            prev_term: segment.prev_term,
            is_compacted: segment.is_compacted(),
            len: segment.end().position,
        };
        closed.iter().map(of).collect()
    }
}

impl Scrub {
    /// `bytes_per_second_max`: of all that it will check.
    pub fn new(bytes_per_second_max: f64) -> Self {
        Self { throttle: Throttle::new(bytes_per_second_max, Default::default()) }
    }

    /// Checks every frame: length, checksum, and that it follows from the one before. Takes as long as the limit wants.
    /// `on_read` gets the bytes as they are checked. The first damaged place; a segment that retention or compaction
    /// took away meanwhile has none.
    pub fn check(&self, segment: &ClosedSegment, on_read: &mut dyn FnMut(u64)) -> Option<LostPlace> {
        check(segment, &self.throttle, on_read)
    }
}

fn check(segment: &ClosedSegment, throttle: &Throttle, on_read: &mut dyn FnMut(u64)) -> Option<LostPlace> {
    let ClosedSegment { path, base_offset, base_index, prev_term, is_compacted, len } = segment;
    let (base_offset, base_index, len) = (*base_offset, *base_index, *len);
    let place = |position, reason| Some(LostPlace { path: path.clone(), position, reason });
    // A handle of its own: what is read once should not push out what readers have open.
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => return place(0, e.to_string()),
    };
    match read_header(&file, len) {
        Ok(Ok(_)) => {}
        Ok(Err(bad)) => return place(0, bad.to_string()),
        Err(e) => return place(0, e.to_string()),
    }
    let scan = Scan {
        file: &file,
        len,
        base_offset,
        compacted: *is_compacted,
        start: SegmentEnd {
            position: SEGMENT_HEADER_LEN,
            offset: base_offset,
            index: base_index,
            last_term: *prev_term,
            max_timestamp: Timestamp::NONE,
        },
        index_interval_bytes: u32::MAX,
    };
    let mut index = SegmentIndex::new(base_offset, base_index);
    let mut at = SEGMENT_HEADER_LEN;
    let scanned = scan.run(&mut index, &mut |frame, position| {
        let size_bytes = frame.descriptor.size_bytes;
        at = position + u64::from(size_bytes);
        on_read(u64::from(size_bytes));
        throttle.pass(size_bytes as usize);
    });
    match scanned {
        Ok(scanned) => scanned.bad.and_then(|bad| place(scanned.end.position, bad.to_string())),
        Err(e) => place(at, e.to_string()),
    }
}
