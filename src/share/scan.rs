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

/// The first batch of `slice`, and those that begin before `enough`. An error: they cannot be read, or are none.
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
        // The first counts wherever it is: what is missing before it is gone.
        if header.base_offset >= enough && !found.is_empty() {
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use millstream_core::record::BatchBuilder;
    use millstream_core::types::{ProducerEpoch, ProducerId, Sequence, Timestamp};

    use super::*;

    /// Batches at these offsets, of these producers' transactions, of a record each of so many bytes.
    fn slice(batches: &[(i64, i64, usize)]) -> Slice {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"before").expect("written");
        let mut len = 0;
        for (base, producer, size) in batches {
            let mut builder = BatchBuilder::new()
                .base_offset(Offset(*base))
                .producer(ProducerId(*producer), ProducerEpoch(0), Sequence(0))
                .transactional(true);
            builder.push(Timestamp(1), None, Some(&vec![7; *size]), &[]);
            builder.push(Timestamp(1), None, Some(b"second"), &[]);
            let bytes = builder.finish();
            file.write_all(&bytes).expect("written");
            len += bytes.len();
        }
        let (base_offset, next_offset) = (Offset(batches[0].0), Offset(batches[batches.len() - 1].0 + 2));
        Slice { file: Arc::new(file), position: 6, len, base_offset, next_offset }
    }

    fn bases(scanned: &[Scanned]) -> Vec<(i64, i64)> {
        scanned.iter().map(|found| (found.batch.base.0, found.batch.last.0)).collect()
    }

    #[test]
    fn batches_are_found_until_there_are_enough() {
        let batches: Vec<_> = (0..100).map(|n| (n * 2, 1, if n % 7 == 0 { 6_000 } else { 10 })).collect();
        let all = slice(&batches);
        let found = scan(&all, Offset(1_000), &[]).expect("sound");
        assert_eq!(bases(&found), batches.iter().map(|b| (b.0, b.0 + 1)).collect::<Vec<_>>());
        assert_eq!(bases(&scan(&all, Offset(3), &[]).expect("sound")), [(0, 1), (2, 3)]);
        assert_eq!(bases(&scan(&slice(&[(500, 1, 1)]), Offset(3), &[]).expect("sound")), [(500, 501)], "after a hole");
        let torn = Slice { len: 30, ..slice(&[(0, 1, 1)]) };
        assert!(scan(&torn, Offset(3), &[]).is_err());
        let acquired = |first, last| Acquired { first: Offset(first), last: Offset(last), delivery_count: 1 };
        let range = cut(&all, &found, &[acquired(3, 3), acquired(6, 6)]).expect("three batches");
        let mut bytes = vec![0; range.len];
        range.file.read_exact_at(&mut bytes, range.position).expect("in the file");
        assert_eq!(BatchHeader::parse_checked(&bytes).expect("whole").base_offset, Offset(2));
        assert_eq!(range.len, found[1].len + found[2].len + found[3].len);
        assert!(cut(&all, &found, &[]).is_none());
    }

    #[test]
    fn batches_of_aborted_transactions_are_told() {
        let all = slice(&[(0, 1, 1), (2, 2, 1), (4, 1, 1), (6, 1, 1)]);
        let aborted = AbortedTransaction {
            producer_id: ProducerId(1),
            first_offset: Offset(2),
            last_offset: Offset(5),
            last_stable: Offset(8),
        };
        let found = scan(&all, Offset(100), &[aborted]).expect("sound");
        assert_eq!(found.iter().map(|found| found.is_aborted).collect::<Vec<_>>(), [false, false, true, false]);
    }
}
