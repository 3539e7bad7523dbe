//! Builds batches: what coordinators write, what conversion and compaction rewrite, control markers.

use bytes::Bytes;

use super::batch::{
    ATTRIBUTES_AT, BATCH_HEADER_LEN, BATCH_OVERHEAD, BatchHeader, CRC_AT, Compression, LEADER_EPOCH_AT, LENGTH_AT,
    MAGIC_AT, TimestampType,
};
use super::compression::compress;
use super::crc32c;
use super::records::{Record, RecordIter};
use super::varint::{put_varint, put_varlong};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

const TRANSACTIONAL: i16 = 0b1_0000;
const CONTROL: i16 = 0b10_0000;
const DELETE_HORIZON: i16 = 0b100_0000;
const LOG_APPEND_TIME: i16 = 0b1000;

/// Builds one batch from records in rising offset order.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    compression: Compression,
    level: Option<i32>,
    /// `Some`: every record has this time (LogAppendTime).
    log_append_time: Option<Timestamp>,
    delete_horizon: Option<Timestamp>,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: Sequence,
    flags: i16,
    /// Kept from a batch whose last records went away; else that of the last record.
    last_offset_delta: Option<i32>,
    base_timestamp: Option<Timestamp>,
    max_timestamp: Timestamp,
    last_pushed_delta: i32,
    count: i32,
    body: Vec<u8>,
}

impl BatchBuilder {
    /// An uncompressed batch with CreateTime, base offset 0 and no producer.
    pub fn new() -> Self {
        Self {
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch(-1),
            compression: Compression::None,
            level: None,
            log_append_time: None,
            delete_horizon: None,
            producer_id: ProducerId(-1),
            producer_epoch: ProducerEpoch(-1),
            base_sequence: Sequence(-1),
            flags: 0,
            last_offset_delta: None,
            base_timestamp: None,
            max_timestamp: Timestamp::NONE,
            last_pushed_delta: -1,
            count: 0,
            body: Vec::new(),
        }
    }

    /// Takes over what identifies `header`'s batch: offsets, epoch, producer, flags, times, codec. Records are pushed
    /// anew; the offsets it spans stay, even if the last records go.
    pub fn like(header: &BatchHeader, codec: Compression) -> Self {
        Self {
            base_offset: header.base_offset,
            leader_epoch: header.leader_epoch,
            compression: codec,
            log_append_time: (header.timestamp_type() == TimestampType::LogAppendTime).then_some(header.max_timestamp),
            delete_horizon: header.has_delete_horizon().then_some(header.base_timestamp),
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            flags: header.attributes & (TRANSACTIONAL | CONTROL),
            last_offset_delta: Some(header.last_offset_delta),
            ..Self::new()
        }
    }

    pub fn base_offset(mut self, offset: Offset) -> Self {
        self.base_offset = offset;
        self
    }

    /// `level`: of gzip and zstd, `None` the default.
    pub fn compression(mut self, codec: Compression, level: Option<i32>) -> Self {
        self.compression = codec;
        self.level = level;
        self
    }

    /// Makes this a LogAppendTime batch of that time.
    pub fn log_append_time(mut self, time: Timestamp) -> Self {
        self.log_append_time = Some(time);
        self
    }

    /// Sets the time from which on tombstones and markers in the batch may go (KIP-534).
    pub fn delete_horizon(mut self, horizon: Option<Timestamp>) -> Self {
        self.delete_horizon = horizon;
        self
    }

    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    pub fn transactional(mut self, yes: bool) -> Self {
        self.flags = if yes { self.flags | TRANSACTIONAL } else { self.flags & !TRANSACTIONAL };
        self
    }

    fn control(mut self) -> Self {
        self.flags |= CONTROL;
        self
    }

    /// Adds a record at the next offset.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        let mut encoded = Vec::new();
        for (key, value) in headers {
            put_bytes(&mut encoded, Some(key));
            put_bytes(&mut encoded, *value);
        }
        self.push_encoded(self.last_pushed_delta + 1, timestamp, key, value, (headers.len(), &encoded));
    }

    /// Adds a record of another batch with a given distance from the base offset, above the last one's.
    pub fn push_record(&mut self, offset_delta: i32, record: &Record<'_>) {
        let headers = (record.headers.len(), record.headers.encoded());
        self.push_encoded(offset_delta, record.timestamp, record.key, record.value, headers);
    }

    fn push_encoded(
        &mut self,
        offset_delta: i32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        (header_count, headers): (usize, &[u8]),
    ) {
        assert!(offset_delta > self.last_pushed_delta, "delta {offset_delta} follows {}", self.last_pushed_delta);
        let base = *self.base_timestamp.get_or_insert_with(|| self.delete_horizon.unwrap_or(timestamp));
        let mut record =
            Vec::with_capacity(headers.len() + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + 32);
        record.push(0);
        put_varlong(&mut record, timestamp.0.wrapping_sub(base.0));
        put_varint(&mut record, offset_delta);
        put_bytes(&mut record, key);
        put_bytes(&mut record, value);
        put_varint(&mut record, len_i32(header_count));
        record.extend_from_slice(headers);
        put_varint(&mut self.body, len_i32(record.len()));
        self.body.extend_from_slice(&record);
        self.last_pushed_delta = offset_delta;
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// Bytes of the batch so far, before compression.
    pub fn size_bytes(&self) -> usize {
        BATCH_HEADER_LEN + self.body.len()
    }

    /// The batch. One without records (compaction keeps a producer's last so) takes `empty_max_timestamp`.
    pub fn finish_with(self, empty_max_timestamp: Timestamp) -> Bytes {
        // Kafka writes empty batches without codec and base timestamp.
        let empty = self.count == 0;
        let codec = if empty { Compression::None } else { self.compression };
        let base_timestamp = if empty { Timestamp::NONE } else { self.base_timestamp.unwrap_or(Timestamp::NONE) };
        let horizon = if empty { None } else { self.delete_horizon };
        let max_timestamp = match self.log_append_time {
            Some(time) => time,
            None if empty => empty_max_timestamp,
            None => self.max_timestamp,
        };
        let mut attributes = self.flags | i16::from(codec.id());
        if self.log_append_time.is_some() {
            attributes |= LOG_APPEND_TIME;
        }
        if horizon.is_some() {
            attributes |= DELETE_HORIZON;
        }
        let mut out = vec![0; BATCH_HEADER_LEN];
        compress(codec, self.level, &self.body, &mut out);
        let header = BatchHeader {
            base_offset: self.base_offset,
            length: len_i32(out.len() - BATCH_OVERHEAD),
            leader_epoch: self.leader_epoch,
            crc: 0,
            attributes,
            last_offset_delta: self.last_offset_delta.unwrap_or(self.last_pushed_delta.max(0)),
            base_timestamp,
            max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        };
        write_header(&header, &mut out);
        out.into()
    }

    pub fn finish(self) -> Bytes {
        self.finish_with(Timestamp::NONE)
    }
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn len_i32(len: usize) -> i32 {
    i32::try_from(len).expect("a batch below 2 GiB")
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, len_i32(bytes.len()));
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

/// Writes the header's fields over the first 61 bytes of a whole batch and computes the CRC, which it returns.
pub(super) fn write_header(header: &BatchHeader, batch: &mut [u8]) -> u32 {
    let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &header.base_offset.0.to_be_bytes());
    put(LENGTH_AT, &header.length.to_be_bytes());
    put(LEADER_EPOCH_AT, &header.leader_epoch.0.to_be_bytes());
    put(MAGIC_AT, &[2]);
    put(ATTRIBUTES_AT, &header.attributes.to_be_bytes());
    put(23, &header.last_offset_delta.to_be_bytes());
    put(27, &header.base_timestamp.0.to_be_bytes());
    put(35, &header.max_timestamp.0.to_be_bytes());
    put(43, &header.producer_id.0.to_be_bytes());
    put(51, &header.producer_epoch.0.to_be_bytes());
    put(53, &header.base_sequence.0.to_be_bytes());
    put(57, &header.record_count.to_be_bytes());
    let crc = crc32c(&batch[ATTRIBUTES_AT..header.size_bytes()]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    crc
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    Abort,
    Commit,
}

/// A control batch that ends a producer's transaction in a partition (`EndTransactionMarker`, version 0).
pub fn control_batch(
    marker: Marker,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    coordinator_epoch: i32,
    now: Timestamp,
) -> Bytes {
    let mut builder =
        BatchBuilder::new().producer(producer_id, producer_epoch, Sequence(-1)).transactional(true).control();
    let kind: u8 = match marker {
        Marker::Abort => 0,
        Marker::Commit => 1,
    };
    let mut value = vec![0, 0];
    value.extend_from_slice(&coordinator_epoch.to_be_bytes());
    builder.push(now, Some(&[0, 0, 0, kind]), Some(&value), &[]);
    builder.finish()
}

/// Reads the key and value of a control record: which marker, and its coordinator's epoch. `None`: of another kind,
/// which readers skip.
pub fn parse_marker(record: &Record<'_>) -> Option<(Marker, i32)> {
    let marker = match *record.key?.get(..4)? {
        [_, _, 0, 0] => Marker::Abort,
        [_, _, 0, 1] => Marker::Commit,
        _ => return None,
    };
    let epoch = record.value?.get(2..6)?;
    Some((marker, i32::from_be_bytes(epoch.try_into().ok()?)))
}

/// The marker in a control batch, `batch` being all of it. `None`: it holds none that ends a transaction.
pub fn marker_of(header: &BatchHeader, batch: &[u8]) -> Option<(Marker, i32)> {
    let body = batch.get(BATCH_HEADER_LEN..header.size_bytes())?;
    // Control batches are never compressed.
    let record = RecordIter::new(header, body).next()?.ok()?;
    parse_marker(&record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::batch_body;

    #[test]
    fn a_built_batch_reads_back() {
        for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let mut builder = BatchBuilder::new().compression(codec, None).base_offset(Offset(7));
            builder.push(Timestamp(100), Some(b"k"), Some(b"v"), &[(b"h", Some(b"x")), (b"n", None)]);
            builder.push(Timestamp(90), None, None, &[]);
            let batch = builder.finish();
            let header = BatchHeader::parse_checked(&batch).unwrap();
            assert_eq!(header.size_bytes(), batch.len());
            assert_eq!((header.last_offset(), header.record_count), (Offset(8), 2));
            assert_eq!((header.base_timestamp, header.max_timestamp), (Timestamp(100), Timestamp(100)));
            let mut scratch = Vec::new();
            let body = batch_body(&header, &batch, 1000, &mut scratch).unwrap();
            let records: Vec<_> = RecordIter::new(&header, body).map(Result::unwrap).collect();
            assert_eq!(records[0].offset, Offset(7));
            assert_eq!(records[0].key, Some(b"k".as_slice()));
            let headers: Vec<_> = records[0].headers.iter().collect();
            assert_eq!(headers, [(b"h".as_slice(), Some(b"x".as_slice())), (b"n".as_slice(), None)]);
            assert_eq!((records[1].timestamp, records[1].key, records[1].value), (Timestamp(90), None, None));
        }
    }

    #[test]
    fn a_marker_reads_back() {
        let batch = control_batch(Marker::Commit, ProducerId(9), ProducerEpoch(3), 12, Timestamp(5));
        let header = BatchHeader::parse_checked(&batch).unwrap();
        assert!(header.is_control() && header.is_transactional());
        assert_eq!((header.producer_id, header.base_sequence), (ProducerId(9), Sequence(-1)));
        let record = RecordIter::new(&header, &batch[BATCH_HEADER_LEN..]).next().unwrap().unwrap();
        assert_eq!(parse_marker(&record), Some((Marker::Commit, 12)));
        assert_eq!(marker_of(&header, &batch), Some((Marker::Commit, 12)));
        assert_eq!(marker_of(&header, &batch[..70]), None);
    }
}
