//! The request header (Kafka `RequestHeader`, v1 and v2). What follows it is left as bytes.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

use super::reader::{Malformed, Reader};
use super::shape;

/// Who asks for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// One that has a shape; whether it is served is the listener's to say.
    pub api_key: i16,
    /// As sent: may be one that nobody serves.
    pub version: i16,
    /// Goes back in the response header unchanged.
    pub correlation_id: i32,
    /// `None` when null was sent. Kafka takes null for the empty string. Bytes that are no UTF-8 are replaced.
    pub client_id: Option<StrBytes>,
}

/// Why a frame begins with no request header. The connection is closed without an answer, as Kafka does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("api key {0} is unknown")]
    UnknownApi(i16),
    #[error("request header: {0}")]
    Malformed(#[from] Malformed),
}

/// Splits a frame (without its length prefix) into the header and the request body, without a copy.
///
/// The header is v2 from the API's first flexible version on, also for versions that are too new: so that
/// ApiVersions can be answered whatever its version (KIP-511).
pub fn decode_request_header(frame: &Bytes) -> Result<(RequestHeader, Bytes), HeaderError> {
    // The client id has a fixed length even in the flexible header.
    let mut fixed = Reader::new(frame, false);
    let api_key = fixed.i16()?;
    let version = fixed.i16()?;
    let api = shape::request(api_key).ok_or(HeaderError::UnknownApi(api_key))?;
    let correlation_id = fixed.i32()?;
    let client_id = fixed.string_range()?.map(|range| {
        StrBytes::from_utf8(frame.slice(range.clone()))
            .unwrap_or_else(|_| StrBytes::from_string(String::from_utf8_lossy(&frame[range]).into_owned()))
    });
    let rest = fixed.rest();
    let mut tags = Reader::new(&rest, api.is_flexible(version));
    tags.skip_tags()?;
    Ok((RequestHeader { api_key, version, correlation_id, client_id }, tags.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<(RequestHeader, Bytes), HeaderError> {
        decode_request_header(&Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn an_old_header_ends_after_the_client_id() {
        let (header, body) = decode(&[0, 3, 0, 1, 0, 0, 0, 9, 0, 2, b'm', b'e', 7, 8]).expect("well formed");
        assert_eq!((header.api_key, header.version, header.correlation_id), (3, 1, 9));
        assert_eq!(header.client_id.as_deref(), Some("me"));
        assert_eq!(body, [7, 8][..]);
    }

    #[test]
    fn a_flexible_header_has_tags_which_are_skipped() {
        let (header, body) = decode(&[0, 3, 0, 12, 0, 0, 0, 9, 0, 0, 1, 5, 2, 1, 1, 7]).expect("well formed");
        assert_eq!(header.client_id.as_deref(), Some(""));
        assert_eq!(body, [7][..]);
    }

    #[test]
    fn a_null_client_id_is_no_client_id() {
        let (header, body) = decode(&[0, 18, 0, 3, 0, 0, 0, 9, 0xff, 0xff, 0]).expect("well formed");
        assert_eq!(header.client_id, None);
        assert!(body.is_empty());
    }

    #[test]
    fn a_version_that_is_too_new_is_read_as_the_newest_header() {
        let (header, body) = decode(&[0, 18, 0x7f, 0xff, 0, 0, 0, 9, 0, 0, 0, 1]).expect("well formed");
        assert_eq!(header.version, i16::MAX);
        assert_eq!(body, [1][..]);
    }

    #[test]
    fn a_client_id_that_is_no_utf8_is_replaced() {
        let (header, _) = decode(&[0, 3, 0, 1, 0, 0, 0, 9, 0, 2, 0xff, b'a']).expect("well formed");
        assert_eq!(header.client_id.as_deref(), Some("\u{fffd}a"));
    }

    #[test]
    fn every_cut_header_is_refused() {
        let whole = [0, 3, 0, 12, 0, 0, 0, 9, 0, 2, b'm', b'e', 1, 5, 2, 1, 1];
        assert!(decode(&whole).is_ok());
        for len in 0..whole.len() {
            assert!(matches!(decode(&whole[..len]), Err(HeaderError::Malformed(_))), "{len} bytes");
        }
    }

    #[test]
    fn keys_without_a_shape_are_refused() {
        // LeaderAndIsr went with ZooKeeper; Vote is spoken among Kafka's own brokers.
        for key in [-1_i16, 4, 52, 93, i16::MAX] {
            let frame = [&key.to_be_bytes()[..], &[0, 0, 0, 0, 0, 9, 0, 0]].concat();
            assert_eq!(decode(&frame), Err(HeaderError::UnknownApi(key)));
        }
    }
}
