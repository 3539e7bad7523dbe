//! A response on its way to the socket: a row of parts, some of which are still on disk.
//!
//! The length prefix and the response header are made here; what a body means is none of its business.

use std::fs::File;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::encode::{Encode, EncodeError, codec_version};
use super::shape;
use super::writer::Writer;

/// Bytes of the length prefix.
const LENGTH_PREFIX_LEN: usize = 4;
/// First guess at a response; most are smaller.
const CAPACITY: usize = 512;

/// Bytes of a file that go to the socket unseen (`sendfile`).
#[derive(Clone, Debug)]
pub struct FileRange {
    /// Kept open by whoever holds it; never truncated below `position + len`.
    pub file: Arc<File>,
    /// First byte.
    pub position: u64,
    /// Bytes to send; a file that gives fewer must end the connection, for the prefix has promised them.
    pub len: usize,
}

/// A stretch of a response.
#[derive(Clone, Debug)]
pub enum Part {
    Bytes(Bytes),
    File(FileRange),
}

impl Part {
    /// Bytes that the part sends.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(range) => range.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A whole response frame. Its first part begins with the length prefix and the response header.
#[derive(Clone, Debug)]
pub struct Response {
    parts: Vec<Part>,
    size_bytes: usize,
}

impl Response {
    /// A frame that another node made, its length prefix included.
    pub fn whole(frame: Bytes) -> Self {
        Self { size_bytes: frame.len(), parts: vec![Part::Bytes(frame)] }
    }

    /// Bytes on the wire, the length prefix included.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// What to send, in this order. No part is empty.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub fn into_parts(self) -> Vec<Part> {
        self.parts
    }
}

/// Encodes length prefix, response header (v1 where the version is flexible; ApiVersions always v0) and `body`.
pub fn encode_response<T: Encode>(
    api_key: i16,
    version: i16,
    correlation_id: i32,
    body: &T,
) -> Result<Response, EncodeError> {
    let mut response = ResponseWriter::new(api_key, version, correlation_id)?;
    body.encode_body(codec_version(api_key, version), &mut response.buf)?;
    response.finish()
}

/// Writes a response, remembering where parts that are not to be copied go.
pub(super) struct ResponseWriter {
    buf: BytesMut,
    /// Where in `buf` each part goes, ascending.
    inserts: Vec<(usize, Part)>,
    inserted_bytes: usize,
    flexible: bool,
}

impl ResponseWriter {
    pub(super) fn new(api_key: i16, version: i16, correlation_id: i32) -> Result<Self, EncodeError> {
        let api = shape::response(api_key).ok_or(EncodeError::UnknownApi(api_key))?;
        if !api.versions.contains(version) {
            return Err(EncodeError::UnsupportedVersion { api_key, version });
        }
        let flexible = api.is_flexible(version);
        let mut buf = BytesMut::with_capacity(CAPACITY);
        buf.put_i32(0);
        buf.put_i32(correlation_id);
        if shape::has_flexible_response_header(api, version) {
            buf.put_u8(0);
        }
        Ok(Self { buf, inserts: Vec::new(), inserted_bytes: 0, flexible })
    }

    /// Writes fields as the version wants them.
    pub(super) fn fields(&mut self) -> Writer<'_> {
        Writer::new(&mut self.buf, self.flexible)
    }

    /// Puts `part` after what has been written so far.
    pub(super) fn insert(&mut self, part: Part) {
        if !part.is_empty() {
            self.inserted_bytes += part.len();
            self.inserts.push((self.buf.len(), part));
        }
    }

    pub(super) fn finish(mut self) -> Result<Response, EncodeError> {
        let size_bytes = self.buf.len() + self.inserted_bytes;
        let length = size_bytes - LENGTH_PREFIX_LEN;
        let prefix = i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?;
        self.buf[..LENGTH_PREFIX_LEN].copy_from_slice(&prefix.to_be_bytes());
        let written = self.buf.freeze();
        let mut parts = Vec::with_capacity(2 * self.inserts.len() + 1);
        let mut from = 0;
        for (at, part) in self.inserts {
            if at > from {
                parts.push(Part::Bytes(written.slice(from..at)));
                from = at;
            }
            parts.push(part);
        }
        if from < written.len() {
            parts.push(Part::Bytes(written.slice(from..)));
        }
        Ok(Response { parts, size_bytes })
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiVersionsResponse, HeartbeatResponse};

    use super::*;

    fn bytes_of(response: &Response) -> Vec<u8> {
        let mut all = Vec::new();
        for part in response.parts() {
            match part {
                Part::Bytes(bytes) => all.extend_from_slice(bytes),
                Part::File(_) => panic!("no file was given"),
            }
        }
        assert_eq!(all.len(), response.size_bytes());
        all
    }

    #[test]
    fn the_header_has_tags_only_where_the_version_is_flexible() {
        let body = HeartbeatResponse::default();
        let old = bytes_of(&encode_response(12, 3, 7, &body).expect("encodes"));
        assert_eq!(old, [0, 0, 0, 10, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0]);
        let new = bytes_of(&encode_response(12, 4, 7, &body).expect("encodes"));
        assert_eq!(new, [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn api_versions_is_answered_with_the_oldest_header() {
        let body = ApiVersionsResponse::default();
        let bytes = bytes_of(&encode_response(18, 3, 7, &body).expect("encodes"));
        // Length, correlation id, error, no rows, throttle time, no tags.
        assert_eq!(bytes, [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_inserted_is_not_copied_and_is_counted() {
        let records = Bytes::from(vec![9; 100]);
        let mut writer = ResponseWriter::new(12, 3, 1).expect("known");
        writer.insert(Part::Bytes(records.clone()));
        writer.insert(Part::Bytes(Bytes::new()));
        writer.fields().i32(5);
        let response = writer.finish().expect("short enough");
        assert_eq!(response.size_bytes(), 112);
        assert_eq!(response.parts().len(), 3);
        match &response.parts()[1] {
            Part::Bytes(bytes) => assert_eq!(bytes.as_ptr(), records.as_ptr()),
            Part::File(_) => panic!("bytes were given"),
        }
        assert_eq!(bytes_of(&response)[..4], [0, 0, 0, 108]);
    }

    #[test]
    fn a_version_without_a_shape_is_refused() {
        let body = HeartbeatResponse::default();
        assert_eq!(
            encode_response(12, 9, 7, &body).err(),
            Some(EncodeError::UnsupportedVersion { api_key: 12, version: 9 })
        );
        assert_eq!(encode_response(99, 0, 7, &body).err(), Some(EncodeError::UnknownApi(99)));
    }
}
