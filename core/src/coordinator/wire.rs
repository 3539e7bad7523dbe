//! Kafka's primitive types, as far as the records of coordinators use them.

use bytes::Bytes;

use super::ids::{TEXT_LEN_MAX, TextTooLong};
use crate::types::InvalidTopicName;

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the record ends early")]
    Short,
    #[error("a length is out of range")]
    Length,
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("a field that must be there is null")]
    Null,
    #[error("version {0} of the value is unknown")]
    Version(i16),
    #[error("state {0} is unknown")]
    State(i8),
    #[error(transparent)]
    Topic(#[from] InvalidTopicName),
    #[error(transparent)]
    Text(#[from] TextTooLong),
}

/// A record as it stands in the log, and as an entry of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// Takes values off the front of a record's key or value. Every length is checked against what is left.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<uuid::Uuid, DecodeError> {
        self.array().map(uuid::Uuid::from_bytes)
    }

    /// An unsigned varint of at most five bytes.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Length);
            }
        }
        Err(DecodeError::Length)
    }

    /// A length as the flexible versions write it: plus one, 0 for null.
    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        let len = self.uvarint()?;
        Ok(len.checked_sub(1).map(|len| len as usize))
    }

    fn short_len(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.i16()? {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| DecodeError::Length),
        }
    }

    fn long_len(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.i32()? {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| DecodeError::Length),
        }
    }

    pub fn nullable_str(&mut self, flexible: bool) -> Result<Option<&'a str>, DecodeError> {
        let len = if flexible { self.compact_len()? } else { self.short_len()? };
        let Some(len) = len else { return Ok(None) };
        if len > TEXT_LEN_MAX {
            return Err(DecodeError::Length);
        }
        std::str::from_utf8(self.take(len)?).map(Some).map_err(|_| DecodeError::Utf8)
    }

    pub fn str(&mut self, flexible: bool) -> Result<&'a str, DecodeError> {
        self.nullable_str(flexible)?.ok_or(DecodeError::Null)
    }

    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        let len = if flexible { self.compact_len()? } else { self.long_len()? };
        len.map(|len| self.take(len)).transpose()
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible)?.map(Bytes::copy_from_slice).ok_or(DecodeError::Null)
    }

    /// The count of an array whose elements take at least one byte each: so it is at most what is left.
    pub fn count(&mut self, flexible: bool) -> Result<usize, DecodeError> {
        self.nullable_count(flexible)?.ok_or(DecodeError::Null)
    }

    pub fn nullable_count(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        match if flexible { self.compact_len()? } else { self.long_len()? } {
            Some(count) if count > self.rest.len() => Err(DecodeError::Short),
            count => Ok(count),
        }
    }

    /// Calls `each` with every tagged field's tag and content.
    pub fn tagged_fields(
        &mut self,
        mut each: impl FnMut(u32, &mut Reader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let len = self.uvarint()? as usize;
            each(tag, &mut Reader::new(self.take(len)?))?;
        }
        Ok(())
    }
}

/// Appends values to a record's key or value.
///
/// Texts were checked against `TEXT_LEN_MAX` when they were made, and no request is larger than `i32::MAX` bytes.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn finish(self) -> Bytes {
        self.bytes.into()
    }

    pub fn i8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn uuid(&mut self, value: uuid::Uuid) {
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// The count of an array; compact where the version is flexible.
    pub fn array_len(&mut self, count: usize, flexible: bool) {
        match flexible {
            true => self.uvarint(u32::try_from(count + 1).expect("a request holds less than 2 GiB")),
            false => self.count(count),
        }
    }

    pub fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).expect("a request holds less than 2 GiB"));
    }

    pub fn str(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).expect("texts are at most TEXT_LEN_MAX long"));
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub fn nullable_str(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.str(text),
            None => self.i16(-1),
        }
    }

    pub fn compact_str(&mut self, text: &str) {
        self.uvarint(u32::try_from(text.len() + 1).expect("texts are at most TEXT_LEN_MAX long"));
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    pub fn compact_nullable_str(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.compact_str(text),
            None => self.uvarint(0),
        }
    }

    /// The count of an array, as the flexible versions write it.
    pub fn compact_count(&mut self, count: usize) {
        self.uvarint(u32::try_from(count + 1).expect("a request holds less than 2 GiB"));
    }

    pub fn compact_bytes(&mut self, bytes: &[u8]) {
        self.compact_count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// A tagged field with what `content` writes.
    pub fn tagged(&mut self, tag: u32, content: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        content(&mut inner);
        self.uvarint(tag);
        self.uvarint(u32::try_from(inner.bytes.len()).expect("a request holds less than 2 GiB"));
        self.bytes.extend_from_slice(&inner.bytes);
    }
}
