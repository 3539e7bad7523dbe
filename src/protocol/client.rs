//! The other side of the wire: requests out, responses in. For the command line and for tests.

use bytes::{BufMut, Bytes, BytesMut};

use super::decode::{Decode, DecodeError, RequestBody};
use super::encode::{Encode, EncodeError, codec_version};
use super::guard;
use super::reader::Reader;
use super::shape;
use super::writer::Writer;

/// Key of ApiVersions, which a broker answers in version 0 when it does not know the version asked for (KIP-511).
const API_VERSIONS: i16 = 18;
/// Kafka's UNSUPPORTED_VERSION as it stands at the start of that answer.
const UNSUPPORTED_VERSION: [u8; 2] = 35_i16.to_be_bytes();

/// Encodes a whole frame: length prefix, request header (v2 where the version is flexible, else v1), `body`.
pub fn encode_request<T: RequestBody + Encode>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body: &T,
) -> Result<Bytes, EncodeError> {
    let api = shape::request(T::KEY).ok_or(EncodeError::UnknownApi(T::KEY))?;
    let mut buf = BytesMut::with_capacity(256);
    buf.put_i32(0);
    // The client id has a fixed length in either header.
    let mut header = Writer::new(&mut buf, false);
    header.i16(T::KEY);
    header.i16(version);
    header.i32(correlation_id);
    header.nullable_string(client_id)?;
    Writer::new(&mut buf, api.is_flexible(version)).no_tags();
    body.encode_body(codec_version(T::KEY, version), &mut buf)?;
    let length = buf.len() - 4;
    let prefix = i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?;
    buf[..4].copy_from_slice(&prefix.to_be_bytes());
    Ok(buf.freeze())
}

/// Decodes a frame (without its length prefix) that answers a `T` of this version: the correlation id and the body.
///
/// An ApiVersions response with UNSUPPORTED_VERSION is read as version 0, which it is.
pub fn decode_response<T: RequestBody>(version: i16, frame: &Bytes) -> Result<(i32, T::Response), DecodeError> {
    let api = shape::response(T::KEY).ok_or(DecodeError::UnknownApi(T::KEY))?;
    let mut header = Reader::new(frame, shape::has_flexible_response_header(api, version));
    let correlation_id = header.i32()?;
    header.skip_tags()?;
    let body = header.rest();
    let refused = T::KEY == API_VERSIONS && body.starts_with(&UNSUPPORTED_VERSION);
    let version = if refused { 0 } else { version };
    if !T::Response::GUARDED {
        guard::check_response(T::KEY, version, &body)?;
    }
    Ok((correlation_id, T::Response::decode_body(codec_version(T::KEY, version), body)?))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, ListOffsetsRequest, MetadataRequest};
    use kafka_protocol::messages::{ListOffsetsResponse, MetadataResponse};
    use kafka_protocol::protocol::Message;

    use super::super::response::{Part, Response};
    use super::super::{decode, decode_request_header, encode_response};
    use super::*;

    /// What arrives at the client, without the length prefix.
    fn frame_of(response: Response) -> Bytes {
        match &response.into_parts()[..] {
            [Part::Bytes(bytes)] => bytes.slice(4..),
            parts => panic!("{parts:?}"),
        }
    }

    #[test]
    fn a_request_arrives_and_its_response_comes_back() {
        for version in MetadataRequest::VERSIONS.min..=MetadataRequest::VERSIONS.max {
            let request = MetadataRequest::default();
            let frame = encode_request(version, 5, Some("me"), &request).expect("encodes");
            assert_eq!(i32::from_be_bytes(frame[..4].try_into().expect("four")) as usize, frame.len() - 4);
            let (header, body) = decode_request_header(&frame.slice(4..)).expect("a header");
            assert_eq!((header.api_key, header.version, header.correlation_id), (3, version, 5));
            assert_eq!(header.client_id.as_deref(), Some("me"));
            assert_eq!(decode::<MetadataRequest>(version, body).expect("decodes"), request);

            let response = MetadataResponse::default();
            let frame = frame_of(encode_response(3, version, 5, &response).expect("encodes"));
            let back = decode_response::<MetadataRequest>(version, &frame).expect("decodes");
            assert_eq!(back, (5, response));
        }
    }

    #[test]
    fn list_offsets_11_is_spoken_on_both_sides() {
        let request = ListOffsetsRequest::default().with_timeout_ms(7);
        let frame = encode_request(11, 1, None, &request).expect("encodes");
        let (header, body) = decode_request_header(&frame.slice(4..)).expect("a header");
        assert_eq!(header.version, 11);
        assert_eq!(decode::<ListOffsetsRequest>(11, body).expect("decodes"), request);
        let response = ListOffsetsResponse::default();
        let frame = frame_of(encode_response(2, 11, 1, &response).expect("encodes"));
        assert_eq!(decode_response::<ListOffsetsRequest>(11, &frame).expect("decodes"), (1, response));
    }

    #[test]
    fn a_refused_api_versions_is_read_as_version_0() {
        let response = ApiVersionsResponse::default().with_error_code(35);
        let frame = frame_of(encode_response(18, 0, 9, &response).expect("encodes"));
        assert_eq!(decode_response::<ApiVersionsRequest>(4, &frame).expect("decodes"), (9, response));
    }

    #[test]
    fn a_response_with_an_absurd_count_is_refused() {
        let frame = Bytes::from_static(&[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]);
        assert!(matches!(decode_response::<MetadataRequest>(0, &frame), Err(DecodeError::Malformed(_))));
    }
}
