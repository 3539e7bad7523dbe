//! From a request's bytes to a typed request, through the guard.

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Request};

use super::encode::codec_version;
use super::guard;
use super::reader::{Malformed, Reader};
use super::shape::Api;

/// Why a body is no message of the expected kind. The connection is closed, as Kafka does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("api key {0} has no shape")]
    UnknownApi(i16),
    #[error("version {version} of api key {api_key} is unknown")]
    UnsupportedVersion { api_key: i16, version: i16 },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Codec(String),
}

/// A request or response body that can be read: every message of `kafka-protocol`, and ours beside it.
pub trait Decode: Sized {
    /// Whether the decoder itself refuses lengths beyond the body and takes no memory out of proportion; else the guard
    /// must have walked the body before.
    const GUARDED: bool = false;

    /// Reads the body from its start. Bytes after it are ignored, as Kafka does.
    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError>;
}

impl<T: Decodable> Decode for T {
    fn decode_body(version: i16, mut body: Bytes) -> Result<Self, DecodeError> {
        T::decode(&mut body, version).map_err(|error| DecodeError::Codec(error.to_string()))
    }
}

/// A body that belongs to a request.
pub trait RequestBody {
    /// Kafka's API key.
    const KEY: i16;
    /// What a client reads as the answer.
    type Response: Decode;
}

impl<T: Request> RequestBody for T {
    const KEY: i16 = <T as Request>::KEY;
    type Response = <T as Request>::Response;
}

/// Decodes a request body. Whatever the bytes are, no more memory is taken than the guard allows for their number.
pub fn decode<T: RequestBody + Decode>(version: i16, body: Bytes) -> Result<T, DecodeError> {
    let body = if T::GUARDED { body } else { guard::readable_request(T::KEY, version, body)? };
    T::decode_body(codec_version(T::KEY, version), body)
}

/// A reader of a body with the shape of `api`.
pub(super) fn reader<'a>(
    api: Option<&Api>,
    api_key: i16,
    version: i16,
    body: &'a Bytes,
) -> Result<Reader<'a>, DecodeError> {
    let api = api.ok_or(DecodeError::UnknownApi(api_key))?;
    if !api.versions.contains(version) {
        return Err(DecodeError::UnsupportedVersion { api_key, version });
    }
    Ok(Reader::new(body, api.is_flexible(version)))
}
