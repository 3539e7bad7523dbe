//! Checked reading of the wire's primitive types, in both encodings: fixed lengths before an API's first flexible version,
//! varints from it on. Knows no message.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// Longest string that is read (Kafka `Short.MAX_VALUE`, in both encodings).
const STRING_LEN_MAX: usize = i16::MAX as usize;

/// Bytes that are no message of the expected shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {at}: {fault}")]
pub struct Malformed {
    /// Where in the body, from 0.
    pub at: usize,
    pub fault: Fault,
}

/// What is wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{need} bytes are needed, {have} are left")]
    Short { need: usize, have: usize },
    #[error("length {0} is negative")]
    Negative(i32),
    #[error("null where the version allows none")]
    Null,
    #[error("a string of {0} bytes")]
    StringTooLong(usize),
    #[error("a string that is no utf-8")]
    Utf8,
    #[error("a varint of more than 32 bits")]
    Varint,
    #[error("byte {0} says neither present nor null")]
    Presence(i8),
    #[error("tag {0} is not valid in this version")]
    Tag(u32),
    #[error("tag {tag} has another size than the {size} bytes it names")]
    TagSize { tag: u32, size: usize },
    #[error("decoding would take {0} bytes, out of proportion to the frame")]
    Outsized(usize),
}

/// What decoding may take, in bytes, whatever the size of the body: small frames are never refused for their price.
pub(super) const DECODED_FREE: usize = 16 << 20;
/// What decoding may take beyond that, per byte of the body. An empty string takes 1 or 2 bytes on the wire and 32
/// decoded; a real message less than ten times its size.
pub(super) const DECODED_PER_BYTE: usize = 16;

/// Reads a body from its start. Never reads past the end, and refuses what would take memory out of proportion.
pub(super) struct Reader<'a> {
    body: &'a Bytes,
    at: usize,
    flexible: bool,
    /// Bytes that decoding what was read allocates.
    decoded: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a Bytes, flexible: bool) -> Self {
        Self { body, at: 0, flexible, decoded: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.body.len() - self.at
    }

    pub(super) fn is_flexible(&self) -> bool {
        self.flexible
    }

    pub(super) fn fail<T>(&self, fault: Fault) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, fault })
    }

    /// Counts what decoding allocates; refused above what the body's size justifies.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.decoded = self.decoded.saturating_add(bytes);
        let decoded_max = self.body.len().saturating_mul(DECODED_PER_BYTE).saturating_add(DECODED_FREE);
        if self.decoded > decoded_max { self.fail(Fault::Outsized(self.decoded)) } else { Ok(()) }
    }

    /// Steps over `len` bytes and gives where they were.
    pub(super) fn skip(&mut self, len: usize) -> Result<std::ops::Range<usize>, Malformed> {
        if len > self.left() {
            return self.fail(Fault::Short { need: len, have: self.left() });
        }
        let from = self.at;
        self.at += len;
        Ok(from..self.at)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let range = self.skip(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.body[range]);
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array_of()?))
    }

    pub(super) fn i8(&mut self) -> Result<i8, Malformed> {
        Ok(i8::from_be_bytes(self.array_of()?))
    }

    /// As Kafka: anything but 0 is true.
    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.u8()? != 0)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array_of()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array_of()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array_of()?))
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, Malformed> {
        Ok(Uuid::from_bytes(self.array_of()?))
    }

    pub(super) fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                return self.fail(Fault::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// A length of a compact type: 0 is null, n means n - 1.
    fn compact_len(&mut self) -> Result<Option<usize>, Malformed> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|len| len as usize))
    }

    fn fixed_len(&self, len: i32) -> Result<Option<usize>, Malformed> {
        match usize::try_from(len) {
            Ok(len) => Ok(Some(len)),
            Err(_) if len == -1 => Ok(None),
            Err(_) => self.fail(Fault::Negative(len)),
        }
    }

    /// The place of a string (not yet known to be UTF-8); `None` is null.
    pub(super) fn string_range(&mut self) -> Result<Option<std::ops::Range<usize>>, Malformed> {
        let len = if self.flexible {
            self.compact_len()?
        } else {
            let len = self.i16()?;
            self.fixed_len(i32::from(len))?
        };
        match len {
            None => Ok(None),
            Some(len) if len > STRING_LEN_MAX => self.fail(Fault::StringTooLong(len)),
            Some(len) => Ok(Some(self.skip(len)?)),
        }
    }

    /// The place of bytes; `None` is null.
    pub(super) fn bytes_range(&mut self) -> Result<Option<std::ops::Range<usize>>, Malformed> {
        let len = if self.flexible {
            self.compact_len()?
        } else {
            let len = self.i32()?;
            self.fixed_len(len)?
        };
        len.map(|len| self.skip(len)).transpose()
    }

    /// The number of elements of an array, at most the bytes left (as Kafka); `None` is null.
    pub(super) fn nullable_array_len(&mut self) -> Result<Option<usize>, Malformed> {
        let len = if self.flexible {
            self.compact_len()?
        } else {
            let len = self.i32()?;
            self.fixed_len(len)?
        };
        match len {
            Some(len) if len > self.left() => self.fail(Fault::Short { need: len, have: self.left() }),
            len => Ok(len),
        }
    }

    /// Reads an array, `element` one of its elements; `None` is null.
    pub(super) fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(len) = self.nullable_array_len()? else { return Ok(None) };
        self.charge(len.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(len);
        for _ in 0..len {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// As `nullable_array`, null refused.
    pub(super) fn array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        match self.nullable_array(element)? {
            Some(elements) => Ok(elements),
            None => self.fail(Fault::Null),
        }
    }

    /// Reads a structure that may be null: only such a one says whether it is there.
    pub(super) fn nullable_structure<T>(
        &mut self,
        structure: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.i8()? {
            1 => structure(self).map(Some),
            -1 => Ok(None),
            byte => self.fail(Fault::Presence(byte)),
        }
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<StrBytes>, Malformed> {
        let Some(range) = self.string_range()? else { return Ok(None) };
        if let Ok(string) = StrBytes::from_utf8(self.body.slice(range.clone())) {
            return Ok(Some(string));
        }
        let mut text = self.body[range].to_vec();
        replace_what_is_no_text(&mut text);
        StrBytes::from_utf8(text.into()).map(Some).or_else(|_| self.fail(Fault::Utf8))
    }

    pub(super) fn string(&mut self) -> Result<StrBytes, Malformed> {
        match self.nullable_string()? {
            Some(string) => Ok(string),
            None => self.fail(Fault::Null),
        }
    }

    /// A slice of the body, not a copy.
    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        Ok(self.bytes_range()?.map(|range| self.body.slice(range)))
    }

    /// The tag section that ends a structure of a flexible version; nothing before that. All of it is skipped.
    pub(super) fn skip_tags(&mut self) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            self.skip(size as usize)?;
        }
        Ok(())
    }

    /// Everything after what was read.
    pub(super) fn rest(&self) -> Bytes {
        self.body.slice(self.at..)
    }
}

/// Makes UTF-8 of any bytes, without a change of their number: each that is none becomes a `?`. (Kafka, too, reads on:
/// its replacement character is longer.)
pub(super) fn replace_what_is_no_text(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Err(e) = std::str::from_utf8(rest) {
        let bad = e.error_len().unwrap_or(rest.len() - e.valid_up_to());
        let (head, tail) = rest.split_at_mut(e.valid_up_to() + bad);
        head[e.valid_up_to()..].fill(b'?');
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::*;

    fn fault<T: std::fmt::Debug>(
        bytes: &[u8],
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
        flexible: bool,
    ) -> Fault {
        let body = Bytes::copy_from_slice(bytes);
        read(&mut Reader::new(&body, flexible)).expect_err("malformed").fault
    }

    #[test]
    fn lengths_beyond_the_body_are_refused() {
        assert_eq!(fault(&[0, 5, 1], |r| r.string(), false), Fault::Short { need: 5, have: 1 });
        assert_eq!(fault(&[6, 1], |r| r.string(), true), Fault::Short { need: 5, have: 1 });
        assert_eq!(
            fault(&[0x7f, 0xff, 0xff, 0xff], |r| r.nullable_array_len(), false),
            Fault::Short { need: 0x7fff_ffff, have: 0 }
        );
        assert_eq!(fault(&[0x80, 0x80, 0x80, 0x80, 0x10], |r| r.unsigned_varint(), true), Fault::Varint);
        assert_eq!(fault(&[0, 0, 0, 3, 0, 0, 0], |r| r.array(|r| r.i16()), false), Fault::Short { need: 2, have: 1 });
    }

    #[test]
    fn an_array_out_of_proportion_is_refused() {
        let mut body = BytesMut::new();
        body.put_i32(1 << 20);
        body.put_bytes(0, 1 << 20);
        assert_eq!(fault(&body, |r| r.array(|r| Ok([r.bool()?; 40])), false), Fault::Outsized(40 << 20));
    }

    #[test]
    fn null_and_negative_lengths_differ() {
        assert_eq!(fault(&[0xff, 0xfe], |r| r.nullable_string(), false), Fault::Negative(-2));
        assert_eq!(fault(&[0xff, 0xff], |r| r.string(), false), Fault::Null);
        assert_eq!(fault(&[0], |r| r.string(), true), Fault::Null);
        let long = [&[0x81, 0x80, 0x02][..], &[b'a'; 0x8000][..]].concat();
        assert_eq!(fault(&long, |r| r.string(), true), Fault::StringTooLong(0x8000));
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        for (bytes, text) in [
            (&b"a\xffb"[..], "a?b"),
            (b"\xc3\x28", "?("),
            (b"\xe2\x82", "??"),
            (b"\xe2\x82\xac\xf0\x9f\x98", "\u{20ac}???"),
            (b"\xff\xfe", "??"),
            (b"", ""),
        ] {
            let body: Bytes = [&[u8::try_from(bytes.len() + 1).unwrap()][..], bytes].concat().into();
            assert_eq!(Reader::new(&body, true).string().as_deref(), Ok(text));
        }
    }
}
