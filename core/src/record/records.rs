//! The records of a batch, as slices of its uncompressed body (Kafka `DefaultRecord`).

use super::batch::{BATCH_HEADER_LEN, BatchError, BatchHeader, Compression, TimestampType};
use super::compression::{DecompressError, decompress};
use super::varint::{take_varint, take_varlong};
use crate::types::{Offset, Timestamp};

/// Why a batch's body is no row of records. Kafka answers INVALID_RECORD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record ends before its fields do")]
    Truncated,
    #[error("a number is longer than its type")]
    Varint,
    #[error("record size {size} does not fit into the {left} bytes that are left")]
    Size { size: i32, left: usize },
    #[error("record size does not match its fields: {left} bytes left over")]
    Surplus { left: usize },
    #[error("invalid number of record headers {0}")]
    HeaderCount(i32),
    #[error("invalid negative header key size {0}")]
    HeaderKey(i32),
    #[error("{left} bytes follow the last record")]
    Trailing { left: usize },
}

/// One record. Its key, value and headers lie in the batch's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Difference to the batch's base offset, as written.
    pub offset_delta: i32,
    pub offset: Offset,
    /// With LogAppendTime: the batch's.
    pub timestamp: Timestamp,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// A record's headers, checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    count: i32,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    pub const NONE: Self = Headers { count: 0, bytes: &[] };

    pub fn len(&self) -> usize {
        // Not negative: checked when read.
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// As encoded, without their number.
    pub(super) fn encoded(&self) -> &'a [u8] {
        self.bytes
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut bytes = self.bytes;
        (0..self.count).map_while(move |_| take_header(&mut bytes).ok())
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], RecordError> {
    let (head, rest) = bytes.split_at_checked(len).ok_or(RecordError::Truncated)?;
    *bytes = rest;
    Ok(head)
}

/// A field with its size before it; any negative size is null (`Utils.readBytes`).
fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    match usize::try_from(take_varint(bytes)?) {
        Ok(len) => take(bytes, len).map(Some),
        Err(_) => Ok(None),
    }
}

fn take_header<'a>(bytes: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), RecordError> {
    let key_size = take_varint(bytes)?;
    let key_len = usize::try_from(key_size).map_err(|_| RecordError::HeaderKey(key_size))?;
    let key = take(bytes, key_len)?;
    Ok((key, take_nullable(bytes)?))
}

/// Walks the records of one batch; nothing is allocated. Ends with an error if the count in the header and the bytes
/// disagree, and after any error.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    left: i32,
    base_offset: Offset,
    base_timestamp: Timestamp,
    log_append_time: Option<Timestamp>,
}

impl<'a> RecordIter<'a> {
    /// `body` is what follows the header, uncompressed: see `batch_body`.
    pub fn new(header: &BatchHeader, body: &'a [u8]) -> Self {
        let log_append = header.timestamp_type() == TimestampType::LogAppendTime;
        Self {
            rest: body,
            left: header.record_count.max(0),
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            log_append_time: log_append.then_some(header.max_timestamp),
        }
    }

    fn read(&mut self) -> Result<Record<'a>, RecordError> {
        let size = take_varint(&mut self.rest)?;
        let left = self.rest.len();
        let len = usize::try_from(size).ok().filter(|len| *len <= left).ok_or(RecordError::Size { size, left })?;
        let mut body = take(&mut self.rest, len)?;
        // Attributes: no bit of them is in use.
        take(&mut body, 1)?;
        let timestamp_delta = take_varlong(&mut body)?;
        let offset_delta = take_varint(&mut body)?;
        let key = take_nullable(&mut body)?;
        let value = take_nullable(&mut body)?;
        let headers = read_headers(&mut body)?;
        if !body.is_empty() {
            return Err(RecordError::Surplus { left: body.len() });
        }
        let timestamp = Timestamp(self.base_timestamp.0.wrapping_add(timestamp_delta));
        Ok(Record {
            offset_delta,
            offset: Offset(self.base_offset.0.wrapping_add(i64::from(offset_delta))),
            timestamp: self.log_append_time.unwrap_or(timestamp),
            key,
            value,
            headers,
        })
    }
}

fn read_headers<'a>(body: &mut &'a [u8]) -> Result<Headers<'a>, RecordError> {
    let count = take_varint(body)?;
    // Each header takes two bytes at least; Kafka compares with one.
    if usize::try_from(count).is_ok_and(|count| count <= body.len()) {
        let bytes = *body;
        for _ in 0..count {
            take_header(body)?;
        }
        Ok(Headers { count, bytes: &bytes[..bytes.len() - body.len()] })
    } else {
        Err(RecordError::HeaderCount(count))
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let left = std::mem::take(&mut self.rest).len();
            return (left > 0).then_some(Err(RecordError::Trailing { left }));
        }
        self.left -= 1;
        let record = self.read();
        if record.is_err() {
            self.left = 0;
            self.rest = &[];
        }
        Some(record)
    }
}

/// Why a batch has no body to walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
}

/// The uncompressed body of a whole batch: a slice of `batch`, or, decompressed, of `scratch` (whose content is
/// replaced). At most `limit` bytes are inflated.
pub fn batch_body<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
    limit: usize,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], BodyError> {
    let need = header.size_bytes();
    let body = batch.get(BATCH_HEADER_LEN..need).ok_or(BatchError::Torn { need, have: batch.len() })?;
    match header.compression()? {
        Compression::None => Ok(body),
        codec => {
            decompress(codec, body, limit, scratch)?;
            Ok(scratch)
        }
    }
}
