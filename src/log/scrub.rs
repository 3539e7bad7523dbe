//! Reads closed segments again, for damage that nobody has run into yet.

use std::fs::File;
use std::io;
use std::sync::Arc;

use millstream_core::types::Timestamp;

use super::error::LostPlace;
use super::frame::SEGMENT_HEADER_LEN;
use super::index::SegmentIndex;
use super::scan::{Scan, read_header};
use super::segment::{Segment, SegmentEnd};
use super::throttle::Throttle;
use super::view::LogView;

impl LogView {
    /// Checks every frame of the closed segments: length, checksum, and that it follows from the one before. Takes as
    /// long as the limit wants. `on_read` gets the bytes as they are checked. Of each damaged segment the first place;
    /// what retention and compaction take away meanwhile is passed over.
    pub fn scrub(&self, bytes_per_second_max: f64, on_read: &mut dyn FnMut(u64)) -> Vec<LostPlace> {
        let segments = self.segments().clone();
        let throttle = Throttle::new(bytes_per_second_max, Default::default());
        let closed = segments.split_last().map_or(&[][..], |(_, closed)| closed);
        closed.iter().filter_map(|segment| check(segment, &throttle, on_read)).collect()
    }
}

fn check(segment: &Arc<Segment>, throttle: &Throttle, on_read: &mut dyn FnMut(u64)) -> Option<LostPlace> {
    let path = segment.path();
    let place = |position, reason| Some(LostPlace { path: path.clone(), position, reason });
    // A handle of its own: what is read once should not push out what readers have open.
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => return place(0, e.to_string()),
    };
    let len = segment.end().position;
    match read_header(&file, len) {
        Ok(Ok(_)) => {}
        Ok(Err(bad)) => return place(0, bad.to_string()),
        Err(e) => return place(0, e.to_string()),
    }
    let scan = Scan {
        file: &file,
        len,
        base_offset: segment.base_offset(),
        compacted: segment.is_compacted(),
        start: SegmentEnd {
            position: SEGMENT_HEADER_LEN,
            offset: segment.base_offset(),
            index: segment.base_index,
            last_term: segment.prev_term,
            max_timestamp: Timestamp::NONE,
        },
        index_interval_bytes: u32::MAX,
    };
    let mut index = SegmentIndex::new(segment.base_offset(), segment.base_index);
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
