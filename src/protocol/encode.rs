//! What can be a body on the wire, and why a value cannot.

use bytes::BytesMut;
use kafka_protocol::protocol::Encodable;

use super::shape::Api;
use super::writer::Writer;

/// Why a value is no message. Each is a fault of ours: the connection is closed and the cause logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("api key {0} has no shape")]
    UnknownApi(i16),
    #[error("version {version} of api key {api_key} is unknown")]
    UnsupportedVersion { api_key: i16, version: i16 },
    #[error("{0} bytes or elements do not fit a length of 31 bits")]
    TooLong(usize),
    #[error("a string of {0} bytes is longer than 32767")]
    StringTooLong(usize),
    #[error("{0} cannot be said in this version")]
    Field(&'static str),
    #[error("{0}")]
    Codec(String),
}

/// A request or response body that can be written: every message of `kafka-protocol`, and ours beside it.
pub trait Encode {
    /// Appends the body, without any header. A field that this version lacks is left out if Kafka calls it
    /// ignorable, and is an error otherwise when it is not at its default.
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError>;
}

impl<T: Encodable> Encode for T {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        self.encode(buf, version).map_err(|error| EncodeError::Codec(error.to_string()))
    }
}

/// The version that `kafka-protocol` knows for what Kafka 4.3 calls `version`: the same, but where 4.3 made a new one
/// without a change of the fields.
pub(super) fn codec_version(api_key: i16, version: i16) -> i16 {
    match (api_key, version) {
        // ListOffsets: KIP-1023 gave a meaning to timestamp -6.
        (2, 11) => 10,
        _ => version,
    }
}

/// A writer of a body with the shape of `api`.
pub(super) fn writer<'a>(
    api: Option<&Api>,
    api_key: i16,
    version: i16,
    buf: &'a mut BytesMut,
) -> Result<Writer<'a>, EncodeError> {
    let api = api.ok_or(EncodeError::UnknownApi(api_key))?;
    if !api.versions.contains(version) {
        return Err(EncodeError::UnsupportedVersion { api_key, version });
    }
    Ok(Writer::new(buf, api.is_flexible(version)))
}
