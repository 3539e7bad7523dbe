//! A raw client: one connection, any request in any version, and bytes that are no request at all.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, VersionRange};

use super::{PATIENCE, text};

/// The version in which the tests speak where the version does not matter.
pub const API_VERSIONS: i16 = 3;

/// What a client speaks over.
pub trait Stream: Read + Write + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

pub struct Wire {
    stream: Box<dyn Stream>,
    next_correlation: i32,
}

impl Wire {
    #[track_caller]
    pub fn connect(address: &str) -> Wire {
        Wire::over(TcpStream::connect(address).expect("connect"))
    }

    /// None where nobody listens, as when the process has just died.
    pub fn try_connect(address: &str) -> Option<Wire> {
        TcpStream::connect(address).ok().map(Wire::over)
    }

    /// Speaks over a connection that the test made.
    pub fn over(stream: impl Stream + 'static) -> Wire {
        stream.tcp().set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.tcp().set_write_timeout(Some(PATIENCE)).expect("timeout");
        stream.tcp().set_nodelay(true).expect("nodelay");
        Wire { stream: Box::new(stream), next_correlation: 1 }
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation = self.send(version, request);
        self.receive::<R>(version, correlation)
    }

    /// Sends a request without waiting; gives its correlation id.
    #[track_caller]
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).expect("the request can be encoded");
        self.send_body(R::KEY, version, R::header_version(version), &body)
    }

    /// Sends a request whose body the test encoded itself.
    #[track_caller]
    pub fn send_body(&mut self, key: i16, version: i16, header_version: i16, body: &[u8]) -> i32 {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(text("compat")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, header_version).expect("header");
        frame.extend_from_slice(body);
        self.send_frame(&frame);
        correlation
    }

    /// The next answer, which must be the one to that request and be decodable to its last byte.
    #[track_caller]
    pub fn receive<R: Request>(&mut self, version: i16, correlation: i32) -> R::Response {
        let mut body = self.receive_body(R::Response::header_version(version), correlation);
        let response = R::Response::decode(&mut body, version).expect("the response can be decoded");
        assert_eq!(body.remaining(), 0, "bytes after the response (key {}, version {version})", R::KEY);
        response
    }

    /// As `call`; None when the connection ends first or nothing comes in `patience`.
    #[track_caller]
    pub fn try_call<R: Request>(&mut self, version: i16, request: &R, patience: Duration) -> Option<R::Response> {
        self.set_patience(patience);
        self.send(version, request);
        let mut frame = Bytes::from(self.read_frame().ok()?);
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).expect("header");
        Some(R::Response::decode(&mut frame, version).expect("the response can be decoded"))
    }

    #[track_caller]
    pub fn receive_body(&mut self, header_version: i16, correlation: i32) -> Bytes {
        let mut frame = Bytes::from(self.read_frame().expect("an answer"));
        let header = ResponseHeader::decode(&mut frame, header_version).expect("header");
        assert_eq!(header.correlation_id, correlation, "answers come in the order of the requests");
        frame
    }

    #[track_caller]
    pub fn send_frame(&mut self, frame: &[u8]) {
        let length = i32::try_from(frame.len()).expect("frame length");
        self.send_raw(&length.to_be_bytes());
        self.send_raw(frame);
    }

    /// Bytes as they are. The broker may have closed the connection already: `is_closed` tells.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        if let Err(e) = self.stream.write_all(bytes) {
            assert!(matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "write: {e}");
        }
    }

    pub fn read_frame(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a length that is not negative");
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Whether the broker closes this connection without a further byte.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(n) => n == 0,
            Err(e) => e.kind() == ErrorKind::ConnectionReset,
        }
    }

    pub fn set_patience(&mut self, patience: Duration) {
        self.stream.tcp().set_read_timeout(Some(patience)).expect("timeout");
    }

    /// The ranges which the broker advertises.
    #[track_caller]
    pub fn advertised(&mut self) -> BTreeMap<i16, VersionRange> {
        let response = self.call(API_VERSIONS, &software());
        assert_eq!(response.error_code, 0);
        let range = |min, max| VersionRange { min, max };
        response.api_keys.iter().map(|k| (k.api_key, range(k.min_version, k.max_version))).collect()
    }

    /// The advertised versions of an API that this client can speak.
    #[track_caller]
    pub fn versions<R: Request>(&mut self) -> std::ops::RangeInclusive<i16> {
        let all = self.advertised();
        let range =
            all.get(&R::KEY).unwrap_or_else(|| panic!("API {} is not advertised", R::KEY)).intersect(&R::VERSIONS);
        assert!(!range.is_empty(), "no common version of API {}", R::KEY);
        range.min..=range.max
    }
}

pub fn software() -> ApiVersionsRequest {
    ApiVersionsRequest::default().with_client_software_name(text("compat")).with_client_software_version(text("1.0"))
}
