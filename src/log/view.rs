//! Reads.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::types::{LeaderEpoch, Offset, RaftIndex, RaftTerm, Timestamp};

use super::entry::Descriptor;
use super::error::ReadError;

/// Whole batches in a file.
#[derive(Clone, Debug)]
pub struct Slice {
    pub file: Arc<File>,
    pub position: u64,
    /// Bytes; 0 when there is nothing to read.
    pub len: usize,
    /// Of the first batch.
    pub base_offset: Offset,
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTimestamp {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub epoch: LeaderEpoch,
}

/// The log as readers see it; shared, never blocked by the writer.
pub struct LogView {}

impl LogView {
    /// Whole batches from the one that contains `from` (or the next after a hole) on, before `end`, before an own
    /// frame, within one segment, at most `max_bytes` (but the first batch whole with `at_least_one`). Empty only if
    /// there is nothing in `from..end`, or the first batch is larger than `max_bytes`. May wait for the disk.
    pub fn read(
        &self,
        _from: Offset,
        _end: Offset,
        _max_bytes: usize,
        _at_least_one: bool,
    ) -> Result<Slice, ReadError> {
        todo!()
    }

    /// As `read`, but `ReadError::Cold` instead of waiting for the disk.
    pub fn try_read(
        &self,
        _from: Offset,
        _end: Offset,
        _max_bytes: usize,
        _at_least_one: bool,
    ) -> Result<Slice, ReadError> {
        todo!()
    }

    /// The first record in `from..end` with a timestamp of at least `timestamp`.
    pub fn offset_for_timestamp(
        &self,
        _timestamp: Timestamp,
        _from: Offset,
        _end: Offset,
    ) -> Result<Option<FoundTimestamp>, ReadError> {
        todo!()
    }

    /// The first record in `from..end` with the greatest timestamp (ListOffsets -3).
    pub fn max_timestamp(&self, _from: Offset, _end: Offset) -> Result<Option<FoundTimestamp>, ReadError> {
        todo!()
    }

    /// Descriptors of the entries `from..to`, at most `max` of them. May wait for the disk.
    pub fn entries(&self, _from: RaftIndex, _to: RaftIndex, _max: usize) -> Result<Vec<Descriptor>, ReadError> {
        todo!()
    }

    /// One entry: a batch's whole bytes, checked, or an own entry's data. May wait for the disk.
    pub fn payload(&self, _index: RaftIndex) -> Result<(Descriptor, Bytes), ReadError> {
        todo!()
    }

    /// Term of the entry, also of the one before the first.
    pub fn term_at(&self, _index: RaftIndex) -> Option<RaftTerm> {
        todo!()
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        todo!()
    }
}
