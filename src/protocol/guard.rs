//! Walks a body by its shape before anything is decoded.
//!
//! `kafka-protocol` reserves room for as many elements as an array announces: thirteen bytes can ask for 600 GB. After
//! the walk every announced count and length is known to be there, nulls stand only where the version allows them, and
//! what decoding will allocate is in proportion to the frame. Knows no message's meaning.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::decode::DecodeError;
use super::reader::{Fault, Malformed, Reader, replace_what_is_no_text};
use super::shape::{self, Api, Field, Kind, Struct, Versions};

/// What an unknown tag costs the decoder: its share of a map's node.
const TAG_DECODED: usize = 96;
/// What the first unknown tag of a structure costs: a whole node.
const TAG_MAP_DECODED: usize = 512;

/// Checks a request's body and gives the bytes it takes; more may follow, which Kafka ignores.
pub fn check_request(api_key: i16, version: i16, body: &Bytes) -> Result<usize, DecodeError> {
    check(shape::request(api_key), api_key, version, body)
}

/// Checks a request's body and gives it as the decoder can read it: strings that are no UTF-8, over which it would fail,
/// are made such in a copy.
pub(super) fn readable_request(api_key: i16, version: i16, body: Bytes) -> Result<Bytes, DecodeError> {
    let walk = walk(shape::request(api_key), api_key, version, &body)?;
    Ok(walk.copy.map_or_else(|| body.clone(), BytesMut::freeze))
}

/// As `check_request`, for a response read by a client.
pub fn check_response(api_key: i16, version: i16, body: &Bytes) -> Result<usize, DecodeError> {
    check(shape::response(api_key), api_key, version, body)
}

fn check(api: Option<&Api>, api_key: i16, version: i16, body: &Bytes) -> Result<usize, DecodeError> {
    walk(api, api_key, version, body).map(|walk| walk.reader.position())
}

fn walk<'a>(api: Option<&Api>, api_key: i16, version: i16, body: &'a Bytes) -> Result<Walk<'a>, DecodeError> {
    let api = api.ok_or(DecodeError::UnknownApi(api_key))?;
    if !api.versions.contains(version) {
        return Err(DecodeError::UnsupportedVersion { api_key, version });
    }
    let mut walk = Walk { body, reader: Reader::new(body, api.is_flexible(version)), version, copy: None };
    walk.structure(&api.body)?;
    Ok(walk)
}

struct Walk<'a> {
    body: &'a Bytes,
    /// The body with its strings made UTF-8, when one is not.
    copy: Option<BytesMut>,
    reader: Reader<'a>,
    version: i16,
}

impl Walk<'_> {
    fn structure(&mut self, shape: &Struct) -> Result<(), Malformed> {
        for field in shape.fields_of(self.version) {
            self.field(field)?;
        }
        if self.reader.is_flexible() {
            self.tags(shape)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<(), Malformed> {
        self.value(&field.kind, field.nullable)
    }

    fn value(&mut self, kind: &Kind, nullable: Versions) -> Result<(), Malformed> {
        let nullable = nullable.contains(self.version);
        let present = match kind {
            Kind::Bool => self.reader.skip(1).map(|_| true)?,
            Kind::Fixed(len) => self.reader.skip(*len).map(|_| true)?,
            Kind::String => self.reader.string_range()?.map(|range| self.text(range)).is_some(),
            Kind::Bytes => self.reader.bytes_range()?.is_some(),
            Kind::Array(element) => match self.reader.nullable_array_len()? {
                Some(len) => self.elements(len, element).map(|()| true)?,
                None => false,
            },
            // Only a structure that may be null says whether it is there.
            Kind::Struct(shape) if nullable => match self.reader.i8()? {
                1 => self.structure(shape).map(|()| true)?,
                -1 => false,
                byte => return self.reader.fail(Fault::Presence(byte)),
            },
            Kind::Struct(shape) => self.structure(shape).map(|()| true)?,
        };
        if present || nullable { Ok(()) } else { self.reader.fail(Fault::Null) }
    }

    fn text(&mut self, range: Range<usize>) {
        if std::str::from_utf8(&self.body[range.clone()]).is_err() {
            let copy = self.copy.get_or_insert_with(|| BytesMut::from(&self.body[..]));
            replace_what_is_no_text(&mut copy[range]);
        }
    }

    fn elements(&mut self, len: usize, element: &Kind) -> Result<(), Malformed> {
        self.reader.charge(len.saturating_mul(element.size_decoded()))?;
        if let Kind::Fixed(size) = element {
            self.reader.skip(len.saturating_mul(*size))?;
            return Ok(());
        }
        for _ in 0..len {
            self.value(element, Versions::NONE)?;
        }
        Ok(())
    }

    fn tags(&mut self, shape: &Struct) -> Result<(), Malformed> {
        let mut price = TAG_MAP_DECODED;
        for _ in 0..self.reader.unsigned_varint()? {
            let tag = self.reader.unsigned_varint()?;
            let size = self.reader.unsigned_varint()? as usize;
            let Some((_, field)) = shape.tagged.iter().find(|(known, _)| *known == tag) else {
                self.reader.skip(size)?;
                self.reader.charge(price)?;
                price = TAG_DECODED;
                continue;
            };
            if !field.versions.contains(self.version) {
                return self.reader.fail(Fault::Tag(tag));
            }
            let from = self.reader.position();
            self.field(field)?;
            if self.reader.position() - from != size {
                return self.reader.fail(Fault::TagSize { tag, size });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
