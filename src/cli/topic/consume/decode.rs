//! From fetched bytes to records: checks batches, inflates them, leaves out what is not to be shown.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use millstream_core::record::{
    BATCH_HEADER_LEN, BatchError, BatchHeader, BodyError, Compression, LENGTH_AT, Marker, RecordError, RecordIter,
    batch_body, parse_marker,
};

use crate::cli::record_format::ConsumedRecord;

/// A batch inflates to no more: larger ones are attacks, or nothing to print.
const INFLATED_BYTES_MAX: usize = 1 << 30;

pub struct Decoded {
    pub records: Vec<ConsumedRecord>,
    /// The offset to fetch next.
    pub next: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The records from `next` to before `end`. Control batches are left out, and so are the batches of the `aborted`
/// transactions (first offset, producer id): none are named to those who read uncommitted records.
pub fn decode_batches(
    bytes: &Bytes,
    next: i64,
    end: Option<i64>,
    mut aborted: Vec<(i64, i64)>,
) -> Result<Decoded, Problem> {
    aborted.sort_unstable();
    let mut transactions = Aborted { coming: aborted.into(), open: BTreeSet::new() };
    let mut decoded = Decoded { records: Vec::new(), next };
    let mut rest = bytes.clone();
    while let Some(size) = whole_batch(&rest) {
        if end.is_some_and(|end| decoded.next >= end) {
            break;
        }
        let batch = rest.split_to(size);
        let header = BatchHeader::parse_checked(&batch)?;
        // A fetch begins with the batch that holds the offset asked for, or after it in a compacted log.
        if header.next_offset().0 <= decoded.next {
            continue;
        }
        let body = body(&header, &batch)?;
        if transactions.shows(&header, &body)? {
            take_records(&header, &body, end, &mut decoded)?;
        }
        decoded.next = decoded.next.max(header.next_offset().0);
    }
    Ok(decoded)
}

/// The size of the first batch if it is there whole. An answer may end in the middle of one.
fn whole_batch(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(LENGTH_AT..LENGTH_AT + 4)?;
    let length = usize::try_from(i32::from_be_bytes(length.try_into().ok()?)).ok()?;
    Some(length.checked_add(LENGTH_AT + 4)?.max(BATCH_HEADER_LEN)).filter(|size| *size <= bytes.len())
}

fn body(header: &BatchHeader, batch: &Bytes) -> Result<Bytes, Problem> {
    if header.compression()? == Compression::None {
        return Ok(batch.slice(BATCH_HEADER_LEN..));
    }
    let mut scratch = Vec::new();
    batch_body(header, batch, INFLATED_BYTES_MAX, &mut scratch)?;
    Ok(scratch.into())
}

fn take_records(header: &BatchHeader, body: &Bytes, end: Option<i64>, decoded: &mut Decoded) -> Result<(), Problem> {
    for record in RecordIter::new(header, body) {
        let record = record?;
        let offset = record.offset.0;
        if offset < decoded.next || end.is_some_and(|end| offset >= end) {
            continue;
        }
        let bytes = |field: Option<&[u8]>| field.map(|field| body.slice_ref(field));
        decoded.records.push(ConsumedRecord {
            offset,
            timestamp: record.timestamp.0,
            timestamp_type: header.timestamp_type(),
            key: bytes(record.key),
            value: bytes(record.value),
            headers: record.headers.iter().map(|(name, value)| (body.slice_ref(name), bytes(value))).collect(),
        });
    }
    Ok(())
}

/// Which transactions do not count (the Java client's `CompletedFetch` does it alike).
struct Aborted {
    /// By first offset.
    coming: VecDeque<(i64, i64)>,
    /// Producers inside of an aborted transaction.
    open: BTreeSet<i64>,
}

impl Aborted {
    /// True for a batch of records to show.
    fn shows(&mut self, header: &BatchHeader, body: &Bytes) -> Result<bool, Problem> {
        while let Some((first, producer)) = self.coming.front().copied() {
            if first > header.last_offset().0 {
                break;
            }
            self.open.insert(producer);
            self.coming.pop_front();
        }
        if !header.is_control() {
            return Ok(!(header.is_transactional() && self.open.contains(&header.producer_id.0)));
        }
        if let Some(record) = RecordIter::new(header, body).next().transpose()?
            && matches!(parse_marker(&record), Some((Marker::Abort, _)))
        {
            self.open.remove(&header.producer_id.0);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use millstream_core::record::{BatchBuilder, control_batch};
    use millstream_core::types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

    use super::*;

    fn batch(base: i64, values: &[&str], producer: Option<i64>, codec: Compression) -> Bytes {
        let mut builder = BatchBuilder::new().base_offset(Offset(base)).compression(codec, None);
        if let Some(producer) = producer {
            builder = builder.producer(ProducerId(producer), ProducerEpoch(0), Sequence(0)).transactional(true);
        }
        for value in values {
            builder.push(Timestamp(7), None, Some(value.as_bytes()), &[(b"h", None)]);
        }
        builder.finish()
    }

    fn marker(at: i64, producer: i64, marker: Marker) -> Bytes {
        let mut bytes =
            BytesMut::from(&control_batch(marker, ProducerId(producer), ProducerEpoch(0), 0, Timestamp(7))[..]);
        // The base offset is not under the checksum.
        bytes[..8].copy_from_slice(&at.to_be_bytes());
        bytes.freeze()
    }

    fn join(batches: &[Bytes]) -> Bytes {
        batches.concat().into()
    }

    fn values(decoded: &Decoded) -> Vec<String> {
        let value =
            |record: &ConsumedRecord| String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into();
        decoded.records.iter().map(value).collect()
    }

    #[test]
    fn reading_begins_and_ends_within_batches() {
        for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let bytes = join(&[batch(10, &["a", "b", "c"], None, codec), batch(13, &["d", "e"], None, codec)]);
            let decoded = decode_batches(&bytes, 11, Some(14), Vec::new()).expect("sound");
            assert_eq!(values(&decoded), ["b", "c", "d"], "{codec:?}");
            assert!(decoded.next >= 14);
            assert_eq!(decoded.records[0].headers, [(Bytes::from_static(b"h"), None)]);
        }
    }

    #[test]
    fn a_batch_cut_by_the_answer_is_fetched_again() {
        let whole = join(&[batch(0, &["a"], None, Compression::None), batch(1, &["b"], None, Compression::None)]);
        let decoded = decode_batches(&whole.slice(..whole.len() - 1), 0, None, Vec::new()).expect("sound");
        assert_eq!((values(&decoded), decoded.next), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn aborted_transactions_are_left_out_between_their_bounds() {
        let plain = Compression::None;
        let bytes = join(&[
            batch(0, &["open"], Some(1), plain),
            batch(1, &["other"], Some(2), plain),
            marker(2, 1, Marker::Abort),
            batch(3, &["again"], Some(1), plain),
            marker(4, 1, Marker::Commit),
            marker(5, 2, Marker::Commit),
        ]);
        let committed = decode_batches(&bytes, 0, None, vec![(0, 1)]).expect("sound");
        assert_eq!(values(&committed), ["other", "again"]);
        assert_eq!(committed.next, 6);
        let all = decode_batches(&bytes, 0, None, Vec::new()).expect("sound");
        assert_eq!(values(&all), ["open", "other", "again"]);
    }

    #[test]
    fn damage_is_reported() {
        let mut bytes = BytesMut::from(&batch(0, &["value"], None, Compression::None)[..]);
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        let problem = decode_batches(&bytes.freeze(), 0, None, Vec::new()).err();
        assert!(matches!(problem, Some(Problem::Batch(BatchError::Crc { .. }))));
    }
}
