//! Reads by raft index: for a leader that sends what it no longer has in memory.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::types::RaftIndex;

use super::entry::Descriptor;
use super::error::ReadError;
use super::frame::{Frame, OWN_HEADER_LEN, parse_frame};
use super::segment::Segment;
use super::view::LogView;
use super::walk::{Head, Patience, Walk};

impl LogView {
    /// Descriptors of the entries `from..to`, at most `max` of them. May wait for the disk.
    pub fn entries(&self, from: RaftIndex, to: RaftIndex, max: usize) -> Result<Vec<Descriptor>, ReadError> {
        let mut found = Vec::new();
        let mut next = from;
        while next < to && found.len() < max {
            let segment = self.segment_of(next)?;
            walk_entries(&segment, next, |head| {
                found.push(head.frame);
                next = head.frame.index.next();
                next < to && found.len() < max
            })?;
        }
        Ok(found)
    }

    /// One entry: a batch's whole bytes, their CRC checked, or an own entry's data. May wait for the disk.
    pub fn payload(&self, index: RaftIndex) -> Result<(Descriptor, Bytes), ReadError> {
        let segment = self.segment_of(index)?;
        let mut found = None;
        walk_entries(&segment, index, |head| {
            found = Some(head);
            false
        })?;
        let head = found.ok_or(ReadError::NoEntry { index })?;
        let bytes = read_frame(&segment, &head)?;
        let payload = match head.frame.own_kind {
            Some(_) => bytes.slice(OWN_HEADER_LEN..),
            None => bytes,
        };
        Ok((head.frame, payload))
    }

    fn segment_of(&self, index: RaftIndex) -> Result<Arc<Segment>, ReadError> {
        let segments = self.segments();
        let raft = &segments[segments.partition_point(|segment| segment.is_compacted())..];
        let at = raft.partition_point(|segment| segment.base_index <= index).checked_sub(1);
        at.and_then(|at| raft.get(at))
            .filter(|segment| index < segment.end().index)
            .cloned()
            .ok_or(ReadError::NoEntry { index })
    }
}

/// Calls `each` for the entries of the segment from `from` on until it says no.
pub(super) fn walk_entries(
    segment: &Arc<Segment>,
    from: RaftIndex,
    mut each: impl FnMut(Head) -> bool,
) -> Result<(), ReadError> {
    let end = segment.end();
    let file = segment.file(Patience::Wait)?;
    let start = segment.ask_index(Patience::Wait, |i| i.floor_of_index(from))?;
    let mut walk = Walk::new(segment, &file, start.position, end.position, Patience::Wait);
    let mut index = start.index;
    while let Some(mut head) = walk.next()? {
        head.frame.index = index;
        if index >= from && !each(head) {
            break;
        }
        index = index.next();
    }
    Ok(())
}

/// The whole frame, its checksum checked.
pub(super) fn read_frame(segment: &Arc<Segment>, head: &Head) -> Result<Bytes, ReadError> {
    let mut bytes = vec![0; head.frame.size_bytes as usize];
    let file = segment.file(Patience::Wait)?;
    file.read_exact_at(&mut bytes, head.position).map_err(|e| segment.io_error(e))?;
    match parse_frame(&bytes) {
        Ok(Frame::Batch(_) | Frame::Entry { .. }) => Ok(bytes.into()),
        Ok(Frame::Header(_)) => Err(segment.corrupt(head.position, &super::frame::FrameError::Kind(0))),
        Err(e) => Err(segment.corrupt(head.position, &e)),
    }
}
