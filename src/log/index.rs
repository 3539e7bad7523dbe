//! The sparse index of one segment: some frames' places, and all of raft's own.

use millstream_core::types::{Offset, RaftIndex, RaftTerm, Timestamp};

use super::entry::Descriptor;
use super::frame::SEGMENT_HEADER_LEN;

/// A frame's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Base offset and index, relative to the segment's.
    pub offset: u32,
    pub index: u32,
    pub position: u32,
    /// Greatest timestamp of all frames of the segment before this one.
    pub max_timestamp_before: Timestamp,
}

/// One of raft's own frames: reads end before it, and only here the term may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnMark {
    pub offset: u32,
    pub index: u32,
    pub position: u32,
    pub term: u32,
}

/// Where to begin a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub position: u64,
    pub offset: Offset,
    pub index: RaftIndex,
    pub max_timestamp_before: Timestamp,
}

/// Grows with the active segment; of a closed one loaded from its `.index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentIndex {
    base_offset: Offset,
    base_index: RaftIndex,
    /// Frames before this place are not covered: the segment was opened from a checkpoint.
    start: Place,
    pub(super) points: Vec<Point>,
    pub(super) own: Vec<OwnMark>,
}

/// Relative numbers fit: a segment is closed before they would not.
fn relative(n: u64) -> u32 {
    u32::try_from(n).expect("a segment spans less than 2^32 offsets, indexes and bytes")
}

impl SegmentIndex {
    pub fn new(base_offset: Offset, base_index: RaftIndex) -> Self {
        let start = Place {
            position: SEGMENT_HEADER_LEN,
            offset: base_offset,
            index: base_index,
            max_timestamp_before: Timestamp::NONE,
        };
        Self { base_offset, base_index, start, points: Vec::new(), own: Vec::new() }
    }

    /// Covers what comes from `start` on.
    pub fn starting_at(base_offset: Offset, base_index: RaftIndex, start: Place) -> Self {
        Self { start, ..Self::new(base_offset, base_index) }
    }

    /// It will not grow any more.
    pub fn shrink(&mut self) {
        self.points.shrink_to_fit();
        self.own.shrink_to_fit();
    }

    /// Bytes on the heap.
    pub fn size_bytes(&self) -> usize {
        self.points.capacity() * size_of::<Point>() + self.own.capacity() * size_of::<OwnMark>()
    }

    pub fn is_complete(&self) -> bool {
        self.start.position <= SEGMENT_HEADER_LEN
    }

    pub fn start(&self) -> Place {
        self.start
    }

    fn relative_offset(&self, offset: Offset) -> u32 {
        relative((offset.0 - self.base_offset.0).cast_unsigned())
    }

    fn relative_index(&self, index: RaftIndex) -> u32 {
        relative(index.0.saturating_sub(self.base_index.0))
    }

    /// Takes up the next frame. `index`: 0 in compacted segments.
    pub fn note(&mut self, position: u64, frame: &Descriptor, max_timestamp_before: Timestamp, interval_bytes: u32) {
        let (offset, index) = (self.relative_offset(frame.base_offset), self.relative_index(frame.index));
        let position = relative(position);
        if self.points.last().is_none_or(|last| position - last.position >= interval_bytes) {
            self.points.push(Point { offset, index, position, max_timestamp_before });
        }
        if frame.own_kind.is_some() {
            self.own.push(OwnMark { offset, index, position, term: relative(frame.term.0) });
        }
    }

    fn place(&self, point: Option<&Point>) -> Place {
        point.map_or(self.start, |point| Place {
            position: u64::from(point.position),
            offset: self.base_offset.plus(i64::from(point.offset)),
            index: RaftIndex(self.base_index.0 + u64::from(point.index)),
            max_timestamp_before: point.max_timestamp_before,
        })
    }

    fn last_point(&self, is_before: impl Fn(&Point) -> bool) -> Place {
        let after = self.points.partition_point(is_before);
        self.place(after.checked_sub(1).and_then(|at| self.points.get(at)))
    }

    /// At or before the batch that contains the offset, or is the next after it. `None`: not covered.
    pub fn floor_of_offset(&self, offset: Offset) -> Option<Place> {
        if offset < self.start.offset && !self.is_complete() {
            return None;
        }
        Some(self.last_point(|p| self.base_offset.plus(i64::from(p.offset)) <= offset))
    }

    /// At or before the entry. `None`: not covered.
    pub fn floor_of_index(&self, index: RaftIndex) -> Option<Place> {
        if index < self.start.index {
            return None;
        }
        Some(self.last_point(|p| self.base_index.0 + u64::from(p.index) <= index.0))
    }

    /// At or before the first batch with a timestamp of at least `timestamp`. `None`: not covered.
    pub fn floor_of_timestamp(&self, timestamp: Timestamp) -> Option<Place> {
        if timestamp <= self.start.max_timestamp_before && !self.is_complete() {
            return None;
        }
        Some(self.last_point(|p| p.max_timestamp_before < timestamp))
    }

    pub fn covers_index(&self, index: RaftIndex) -> bool {
        self.is_complete() || index >= self.start.index
    }

    pub fn covers_position(&self, position: u64) -> bool {
        position >= self.start.position
    }

    /// The last point that is neither beyond the position nor beyond the offset.
    pub fn floor_of_both(&self, position: u64, offset: Offset) -> Place {
        self.last_point(|p| u64::from(p.position) <= position && self.base_offset.plus(i64::from(p.offset)) <= offset)
    }

    /// The first of raft's own frames at or after the position: where it lies, and its offset.
    pub fn own_from(&self, position: u64) -> Option<(u64, Offset)> {
        let at = self.own.partition_point(|own| u64::from(own.position) < position);
        let own = self.own.get(at)?;
        Some((u64::from(own.position), self.base_offset.plus(i64::from(own.offset))))
    }

    /// The last term that began at or before the entry in this segment.
    pub fn term_at(&self, index: RaftIndex) -> Option<RaftTerm> {
        let index = index.0.checked_sub(self.base_index.0)?;
        let after = self.own.partition_point(|own| u64::from(own.index) <= index);
        Some(RaftTerm(u64::from(self.own.get(after.checked_sub(1)?)?.term)))
    }

    /// Forgets all from the position on.
    pub fn truncate(&mut self, position: u64) {
        self.points.truncate(self.points.partition_point(|p| u64::from(p.position) < position));
        self.own.truncate(self.own.partition_point(|p| u64::from(p.position) < position));
    }

    /// Puts what a walk of the uncovered part found before the rest.
    pub fn complete(&mut self, head: Self) {
        assert!(head.is_complete(), "the head starts at {:?}", head.start);
        self.start = head.start;
        self.points.splice(..0, head.points);
        self.own.splice(..0, head.own);
    }
}
