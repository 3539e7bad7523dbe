//! One connection to a broker: opens, agrees on versions, and exchanges one request at a time.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Message, StrBytes, VersionRange};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::errors::ClientError;
use super::login::Security;
use super::spoken::Spoken;
use crate::protocol::client::{decode_response, encode_request};
use crate::protocol::{Key, RequestBody};

/// Largest response frame read, in bytes. A fetch asks for far less; a larger length is another protocol's greeting.
const RESPONSE_SIZE_BYTES_MAX: usize = 256 << 20;
const CLIENT_ID: &str = "millstream-cli";
const UNSUPPORTED_VERSION: i16 = 35;

/// How long to wait for the network.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection to be made.
    pub connect: Duration,
    /// For an answer, beyond the time which the request itself lets the broker wait.
    pub request: Duration,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Not reusable after a failed or abandoned call: the late answer would be taken for the next one's.
pub struct Connection {
    address: String,
    stream: Box<dyn Stream>,
    correlation_id: i32,
    /// What the broker said of itself when the connection was made.
    api_versions: ApiVersionsResponse,
    versions: HashMap<i16, VersionRange>,
    /// Then the broker closes it.
    ends_at: Option<Instant>,
}

/// The name of an API, for messages.
pub fn api_name<R: Spoken>() -> String {
    format!("{:?}", Key(R::KEY))
}

impl Connection {
    /// Connects to `host:port`, asks for the versions of its APIs, and logs in.
    pub async fn open(address: &str, timeouts: Timeouts, security: &Security) -> Result<Self, ClientError> {
        let refused =
            |error: std::io::Error| ClientError::Connect { address: address.to_owned(), error: error.to_string() };
        let stream = timeout(timeouts.connect, connect(address, security)).await.unwrap_or_else(|_| {
            let text = format!("no connection within {} s", timeouts.connect.as_secs_f32());
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
        });
        let stream = stream.map_err(refused)?;
        let mut connection = Self {
            address: address.to_owned(),
            stream,
            correlation_id: 0,
            api_versions: ApiVersionsResponse::default(),
            versions: HashMap::new(),
            ends_at: None,
        };
        match connection.begin(timeouts.request, security).await {
            Err(ClientError::Io { address, error }) => {
                let error = format!("{error} (does the listener want TLS (--ca) or a login (--user)?)");
                Err(ClientError::Connect { address, error })
            }
            Err(error) => Err(error),
            Ok(()) => Ok(connection),
        }
    }

    async fn begin(&mut self, wait: Duration, security: &Security) -> Result<(), ClientError> {
        self.negotiate(wait).await?;
        if let Some(login) = &security.login {
            self.ends_at = login.log_in(self, wait).await?;
        }
        Ok(())
    }

    /// Whether a request may be begun on it that takes so long.
    pub fn lasts(&self, wait: Duration) -> bool {
        self.ends_at.is_none_or(|end| Instant::now() + wait < end)
    }

    pub fn api_versions(&self) -> &ApiVersionsResponse {
        &self.api_versions
    }

    /// The newest version that both sides know.
    pub fn version<R: Spoken>(&self) -> Result<i16, ClientError> {
        let ours = R::VERSIONS;
        let broker = self.versions.get(&R::KEY);
        match broker.map(|range| range.intersect(&ours)) {
            Some(common) if !common.is_empty() => Ok(common.max),
            _ => Err(ClientError::Unsupported {
                address: self.address.clone(),
                api: api_name::<R>(),
                broker: broker.map_or_else(|| "not at all".to_owned(), ToString::to_string),
                ours: ours.to_string(),
            }),
        }
    }

    /// Sends a request and waits for its answer, at most `wait`.
    pub async fn call<R: Spoken>(
        &mut self,
        request: &R,
        version: i16,
        wait: Duration,
    ) -> Result<R::Response, ClientError> {
        let frame = self.frame(request, version)?;
        let answer = match timeout(wait, self.round_trip(&frame)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.timed_out::<R>(wait)),
        };
        let (correlation_id, response) =
            decode_response::<R>(version, &answer).map_err(|error| self.unreadable::<R>(&error))?;
        if correlation_id != self.correlation_id {
            return Err(self.not_kafka(format!("correlation id {correlation_id}")));
        }
        Ok(response)
    }

    /// Sends a request that has no answer (Produce with acks=0).
    pub async fn send<R: Spoken>(&mut self, request: &R, version: i16, wait: Duration) -> Result<(), ClientError> {
        let frame = self.frame(request, version)?;
        let written = timeout(wait, self.stream.write_all(&frame)).await;
        written.map_err(|_| self.timed_out::<R>(wait))?.map_err(|error| self.io(error))
    }

    /// An unknown version of ApiVersions is answered in version 0, with the range to choose from (KIP-511).
    async fn negotiate(&mut self, wait: Duration) -> Result<(), ClientError> {
        let mut version = <ApiVersionsRequest as Message>::VERSIONS.max;
        loop {
            let request = match version {
                0..=2 => ApiVersionsRequest::default(),
                _ => ApiVersionsRequest::default()
                    .with_client_software_name(StrBytes::from_static_str("millstream"))
                    .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION"))),
            };
            let answer = self.call(&request, version, wait).await?;
            if answer.error_code != UNSUPPORTED_VERSION {
                return self.agree(answer);
            }
            let row = answer.api_keys.iter().find(|row| row.api_key == ApiVersionsRequest::KEY);
            let offered = row.map_or(0, |row| row.max_version).clamp(0, version);
            if offered == version {
                return Err(self.not_kafka("no common version of ApiVersions".to_owned()));
            }
            version = offered;
        }
    }

    fn agree(&mut self, answer: ApiVersionsResponse) -> Result<(), ClientError> {
        if let Some(error) = ClientError::of_code(answer.error_code, None) {
            return Err(error);
        }
        let range = |row: &kafka_protocol::messages::api_versions_response::ApiVersion| {
            (row.api_key, VersionRange { min: row.min_version, max: row.max_version })
        };
        self.versions = answer.api_keys.iter().map(range).collect();
        self.api_versions = answer;
        Ok(())
    }

    fn frame<R: Spoken>(&mut self, request: &R, version: i16) -> Result<Bytes, ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        encode_request(version, self.correlation_id, Some(CLIENT_ID), request).map_err(|error| ClientError::Encode {
            api: api_name::<R>(),
            version,
            detail: error.to_string(),
        })
    }

    async fn round_trip(&mut self, frame: &[u8]) -> Result<Bytes, ClientError> {
        self.stream.write_all(frame).await.map_err(|error| self.io(error))?;
        let announced = self.stream.read_i32().await.map_err(|error| self.io(error))?;
        let length = usize::try_from(announced).ok().filter(|length| (4..=RESPONSE_SIZE_BYTES_MAX).contains(length));
        let Some(length) = length else {
            return Err(self.not_kafka(format!("frame length {announced}")));
        };
        // Grows with what arrives: the length is only a claim.
        let mut body = BytesMut::with_capacity(length.min(1 << 20));
        while body.len() < length {
            let missing = u64::try_from(length - body.len()).unwrap_or(u64::MAX);
            let read = (&mut self.stream).take(missing).read_buf(&mut body).await.map_err(|error| self.io(error))?;
            if read == 0 {
                return Err(self.io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(body.freeze())
    }

    fn io(&self, error: std::io::Error) -> ClientError {
        let error = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "the broker closed the connection".to_owned(),
            _ => error.to_string(),
        };
        ClientError::Io { address: self.address.clone(), error }
    }

    pub(super) fn no_login(&self, detail: String) -> ClientError {
        ClientError::Login { address: self.address.clone(), detail }
    }

    fn timed_out<R: Spoken>(&self, after: Duration) -> ClientError {
        ClientError::Timeout { address: self.address.clone(), api: api_name::<R>(), after }
    }

    fn not_kafka(&self, detail: String) -> ClientError {
        ClientError::NotKafka { address: self.address.clone(), detail }
    }

    fn unreadable<R: Spoken>(&self, error: &impl ToString) -> ClientError {
        ClientError::Decode { address: self.address.clone(), api: api_name::<R>(), detail: error.to_string() }
    }
}

async fn connect(address: &str, security: &Security) -> std::io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &security.tls else { return Ok(Box::new(stream)) };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    let stream = TlsConnector::from(tls.config()).connect(name, stream).await;
    let stream = stream.map_err(|error| std::io::Error::other(format!("TLS: {error}")))?;
    Ok(Box::new(stream))
}
