//! Which batches are in what was read: their headers alone are looked at.

use std::os::unix::fs::FileExt;

use millstream_core::partition::AbortedTransaction;
use millstream_core::record::{BATCH_HEADER_LEN, BatchHeader};
use millstream_core::share::{Acquired, FetchedBatch};
use millstream_core::types::Offset;

use crate::log::Slice;
use crate::protocol::FileRange;

/// Bytes that are read at once: the headers of many small batches.
const READ_LEN: usize = 4096;

/// A batch in a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanned {
    /// Bytes from the slice's start.
    at: usize,
    len: usize,
    pub batch: FetchedBatch,
    /// Its transaction was aborted.
    pub is_aborted: bool,
}

/// The batches of `slice` that begin before `enough`. An error: they cannot be read, or are none.
pub(super) fn scan(slice: &Slice, enough: Offset, aborted: &[AbortedTransaction]) -> std::io::Result<Vec<Scanned>> {
    let mut found = Vec::new();
    let (mut at, mut window, mut window_at) = (0, Vec::new(), 0);
    while at < slice.len {
        let inside = at - window_at;
        if window.len() < inside + BATCH_HEADER_LEN {
            window.resize(READ_LEN.min(slice.len - at), 0);
            slice.file.read_exact_at(&mut window, slice.position + at as u64)?;
            window_at = at;
        }
        let header = BatchHeader::parse(&window[at - window_at..]).map_err(std::io::Error::other)?;
        if header.base_offset >= enough {
            break;
        }
        let is_in = |aborted: &AbortedTransaction| {
            aborted.producer_id == header.producer_id
                && (aborted.first_offset..=aborted.last_offset).contains(&header.base_offset)
        };
        let is_aborted = header.is_transactional() && !header.is_control() && aborted.iter().any(is_in);
        let batch = FetchedBatch { base: header.base_offset, last: header.last_offset() };
        found.push(Scanned { at, len: header.size_bytes(), batch, is_aborted });
        at += header.size_bytes();
    }
    Ok(found)
}

/// The bytes of the batches from the first acquired record to the last (Kafka `maybeSliceFetchRecords`).
pub(super) fn cut(slice: &Slice, scanned: &[Scanned], acquired: &[Acquired]) -> Option<FileRange> {
    let (first, last) = (acquired.first()?.first, acquired.last()?.last);
    let mut needed = scanned.iter().filter(|found| found.batch.last >= first && found.batch.base <= last);
    let from = needed.next()?;
    let to = needed.next_back().unwrap_or(from);
    Some(FileRange {
        file: slice.file.clone(),
        position: slice.position + from.at as u64,
        len: to.at + to.len - from.at,
    })
}
