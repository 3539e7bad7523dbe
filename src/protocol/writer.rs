//! Writing of the wire's primitive types, in both encodings. Knows no message.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::encode::EncodeError;

/// Writes fields as one version wants them.
pub(super) struct Writer<'a> {
    buf: &'a mut BytesMut,
    flexible: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(buf: &'a mut BytesMut, flexible: bool) -> Self {
        Self { buf, flexible }
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.buf.put_u8(u8::from(value));
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.buf.put_i8(value);
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.buf.put_i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.buf.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.buf.put_i64(value);
    }

    pub(super) fn uuid(&mut self, value: Uuid) {
        self.buf.put_slice(value.as_bytes());
    }

    pub(super) fn unsigned_varint(&mut self, value: u32) {
        put_unsigned_varint(self.buf, value);
    }

    /// The length before bytes or elements; `None` is null.
    pub(super) fn nullable_len(&mut self, len: Option<usize>) -> Result<(), EncodeError> {
        let len = match len {
            None => -1,
            // One is added in the compact form.
            Some(len) => i32::try_from(len).ok().filter(|len| *len < i32::MAX).ok_or(EncodeError::TooLong(len))?,
        };
        if self.flexible {
            self.unsigned_varint((len + 1).cast_unsigned());
        } else {
            self.i32(len);
        }
        Ok(())
    }

    pub(super) fn len(&mut self, len: usize) -> Result<(), EncodeError> {
        self.nullable_len(Some(len))
    }

    /// An array of structures or values, each written by `element`.
    pub(super) fn array<T>(
        &mut self,
        elements: &[T],
        mut element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.len(elements.len())?;
        for each in elements {
            element(self, each)?;
        }
        Ok(())
    }

    /// Before a structure that may be null: whether it is there.
    pub(super) fn presence(&mut self, is_there: bool) {
        self.i8(if is_there { 1 } else { -1 });
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) -> Result<(), EncodeError> {
        let len = value.map_or(0, str::len);
        let fixed = i16::try_from(len).map_err(|_| EncodeError::StringTooLong(len))?;
        if self.flexible {
            self.nullable_len(value.map(str::len))?;
        } else {
            self.i16(if value.is_some() { fixed } else { -1 });
        }
        self.buf.put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    pub(super) fn string(&mut self, value: &str) -> Result<(), EncodeError> {
        self.nullable_string(Some(value))
    }

    /// Ends a structure: an empty tag section where the version has one.
    pub(super) fn no_tags(&mut self) {
        if self.flexible {
            self.unsigned_varint(0);
        }
    }

    /// Ends a structure with these tagged fields, ascending; nothing where the version has no tags.
    pub(super) fn tags(&mut self, tags: &[(u32, BytesMut)]) -> Result<(), EncodeError> {
        if !self.flexible {
            return Ok(());
        }
        self.unsigned_varint(len_u32(tags.len())?);
        for (tag, value) in tags {
            self.unsigned_varint(*tag);
            self.unsigned_varint(len_u32(value.len())?);
            self.buf.put_slice(value);
        }
        Ok(())
    }
}

fn len_u32(len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::TooLong(len))
}

/// Seven bits a byte, the lowest first.
pub(super) fn put_unsigned_varint(buf: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

/// The value of a tagged field, written on its own because its size comes before it.
pub(super) fn tag_value(
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<BytesMut, EncodeError> {
    let mut buf = BytesMut::new();
    write(&mut Writer::new(&mut buf, true))?;
    Ok(buf)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reader::Reader;
    use super::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u32) {
            let mut buf = BytesMut::new();
            put_unsigned_varint(&mut buf, value);
            let body = buf.freeze();
            let mut reader = Reader::new(&body, true);
            prop_assert_eq!(reader.unsigned_varint(), Ok(value));
            prop_assert_eq!(reader.left(), 0);
        }

        #[test]
        fn strings_come_back(value in proptest::option::of(".{0,300}"), flexible: bool) {
            let mut buf = BytesMut::new();
            Writer::new(&mut buf, flexible).nullable_string(value.as_deref()).expect("short enough");
            let body = buf.freeze();
            let read = Reader::new(&body, flexible).nullable_string().expect("well formed");
            prop_assert_eq!(read.as_deref(), value.as_deref());
        }
    }
}
