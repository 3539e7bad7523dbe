//! Frames from a socket. The announced length is believed only as far as bytes have arrived.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::memory::{FREE_BYTES, Lease, RequestMemory};
use super::socket::Socket;
use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length prefix.
const PREFIX_BYTES: usize = 4;
/// The buffer that a connection reads into before it knows what is coming. An idle connection holds none.
const FIRST_BUFFER_BYTES: usize = FREE_BYTES;
/// Less free space than this in a buffer is not worth a read.
const SPARE_BYTES_MIN: usize = 1024;
/// Bytes that a client which holds memory has to send within the time that it may stand still;
const STEP_BYTES_MIN: usize = 64 * 1024;
/// or this part of the frame, if that is more: a large frame keeps others waiting, and must come to its end.
const STEPS_OF_FRAME: usize = 8;
/// A frame's buffer is at most so many times what has arrived of it: three steps from 8 KiB to any size, with few
/// bytes moved, and a client that only announces gets nothing.
const GROWTH: usize = 16;

/// A whole request.
pub(super) struct Frame {
    /// Without the length prefix.
    pub bytes: Bytes,
    pub lease: Lease,
}

/// How far a client is with a frame that holds memory.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    /// Bytes that arrived since the connection began.
    pub received: u64,
    /// Bytes after which the client has moved on.
    pub step: u64,
}

/// Why nothing more comes from a socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("closed by the client")]
    End,
    #[error("closed by the client inside a request")]
    Cut,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a request of {0} bytes was announced")]
    Length(i32),
    #[error("HTTP on a Kafka port")]
    Http,
    #[error("TLS on a plaintext port")]
    Tls,
}

/// Reads frames off one socket.
pub(super) struct FrameReader {
    buffer: BytesMut,
    /// Length of the frame whose prefix has been read.
    announced: Option<usize>,
    lease: Lease,
    memory: Arc<RequestMemory>,
    frame_bytes_max: usize,
    /// Bytes that arrived since the connection began.
    received: u64,
}

impl FrameReader {
    /// `frame_bytes_max`: `socket.request.max.bytes`.
    pub(super) fn new(memory: Arc<RequestMemory>, frame_bytes_max: usize) -> Self {
        let lease = memory.lease();
        Self { buffer: BytesMut::new(), announced: None, lease, memory, frame_bytes_max, received: 0 }
    }

    /// A longer frame than this is refused from now on.
    pub(super) fn limit(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Bytes that arrived since the connection began.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Whether a frame has begun and not ended.
    pub(super) fn is_inside(&self) -> bool {
        self.announced.is_some() || !self.buffer.is_empty()
    }

    /// Set while a frame that the client has not finished holds memory that others may wait for.
    pub(super) fn progress(&self) -> Option<Progress> {
        let announced = self.announced.filter(|_| self.lease.is_held() && !self.lease.is_waiting())?;
        let step = STEP_BYTES_MIN.max(announced / STEPS_OF_FRAME);
        Some(Progress { received: self.received, step: u64::try_from(step).unwrap_or(u64::MAX) })
    }

    /// The next whole frame. Keeps what it has when it must wait. `free_bytes`: a frame up to this size needs no
    /// memory of the common store.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        free_bytes: usize,
    ) -> Poll<Result<Frame, FrameError>> {
        loop {
            if let Some(len) = self.arrived_frame()? {
                ready!(self.lease.poll_grow(cx, len, free_bytes));
                return Poll::Ready(Ok(self.take_frame(len)));
            }
            ready!(self.poll_reserve(cx));
            match socket.try_read(&mut self.buffer) {
                Ok(0) => return Poll::Ready(Err(if self.is_inside() { FrameError::Cut } else { FrameError::End })),
                Ok(read) => self.received += u64::try_from(read).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.is_inside() {
                        self.buffer = BytesMut::new();
                    }
                    ready!(socket.poll_read_ready(cx))?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// The length of the next frame once it is there.
    fn arrived_frame(&mut self) -> Result<Option<usize>, FrameError> {
        let announced = match self.announced {
            Some(announced) => announced,
            None => {
                let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
                let announced = self.check_prefix(*prefix)?;
                self.buffer.advance(PREFIX_BYTES);
                self.announced = Some(announced);
                announced
            }
        };
        Ok((self.buffer.len() >= announced).then_some(announced))
    }

    /// Splits a frame off what has arrived, without a copy.
    fn take_frame(&mut self, len: usize) -> Frame {
        self.announced = None;
        let bytes = self.buffer.split_to(len).freeze();
        let lease = std::mem::replace(&mut self.lease, self.memory.lease());
        Frame { bytes, lease }
    }

    fn check_prefix(&self, prefix: [u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
        let announced = i32::from_be_bytes(prefix);
        match usize::try_from(announced) {
            Ok(length) if length <= self.frame_bytes_max => Ok(length),
            _ if is_http(prefix) => Err(FrameError::Http),
            _ if is_tls(prefix) => Err(FrameError::Tls),
            _ => Err(FrameError::Length(announced)),
        }
    }

    /// Makes room for at least one byte more, of the memory that what has arrived pays for.
    fn poll_reserve(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let arrived = self.buffer.len();
        let spare = self.buffer.capacity() - arrived;
        let capacity = match self.announced {
            // The rest of the frame fits, or enough of it to read on.
            Some(announced) if arrived + spare >= announced || spare >= SPARE_BYTES_MIN => return Poll::Ready(()),
            Some(announced) => announced.min((arrived * GROWTH).max(FIRST_BUFFER_BYTES)),
            None if spare >= SPARE_BYTES_MIN => return Poll::Ready(()),
            None => FIRST_BUFFER_BYTES,
        };
        ready!(self.lease.poll_grow(cx, capacity, FREE_BYTES));
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.extend_from_slice(&self.buffer);
        self.buffer = buffer;
        Poll::Ready(())
    }
}

/// The first letters of a request line, read as a length.
fn is_http(prefix: [u8; PREFIX_BYTES]) -> bool {
    const METHODS: [&[u8; PREFIX_BYTES]; 10] =
        [b"GET ", b"PUT ", b"POST", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI "];
    METHODS.contains(&&prefix)
}

/// A handshake record (22) of any version: 3.0 to 3.4.
fn is_tls(prefix: [u8; PREFIX_BYTES]) -> bool {
    matches!(prefix, [22, 3, 0..=4, _])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const MAX: usize = 1 << 20;

    fn reader() -> FrameReader {
        let gauge = prometheus::IntGauge::new("g", "g").unwrap();
        FrameReader::new(RequestMemory::new(1 << 30, gauge), MAX)
    }

    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, Socket::Plain(listener.accept().await.unwrap().0))
    }

    async fn next(reader: &mut FrameReader, socket: &mut Socket) -> Result<Frame, FrameError> {
        std::future::poll_fn(|cx| reader.poll_frame(cx, socket, FREE_BYTES)).await
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
    }

    async fn error_for(bytes: &[u8]) -> String {
        let (mut client, mut server) = pair().await;
        client.write_all(bytes).await.unwrap();
        drop(client);
        match next(&mut reader(), &mut server).await {
            Ok(_) => "a frame".to_owned(),
            Err(e) => e.to_string(),
        }
    }

    #[tokio::test]
    async fn what_is_no_kafka_is_told_apart() {
        assert_eq!(error_for(b"GET / HTTP/1.1\r\n").await, "HTTP on a Kafka port");
        assert_eq!(error_for(&[22, 3, 1, 2, 0, 1]).await, "TLS on a plaintext port");
        assert_eq!(error_for(&[0xff, 0xff, 0xff, 0xff]).await, "a request of -1 bytes was announced");
        let over = u32::try_from(MAX + 1).unwrap().to_be_bytes();
        assert_eq!(error_for(&over).await, format!("a request of {} bytes was announced", MAX + 1));
        assert_eq!(error_for(&[]).await, "closed by the client");
        assert_eq!(error_for(&[0, 0]).await, "closed by the client inside a request");
        assert_eq!(error_for(&[0, 0, 0, 9, 1]).await, "closed by the client inside a request");
    }

    #[tokio::test]
    async fn memory_follows_what_arrived() {
        let (mut client, mut server) = pair().await;
        let mut reader = reader();
        let mut sent = 0;
        client.write_all(&u32::try_from(MAX).unwrap().to_be_bytes()).await.unwrap();
        for chunk in [4_usize, 100, 5_000, 20_000, 200_000] {
            client.write_all(&vec![7; chunk]).await.unwrap();
            sent += chunk;
            while reader.received() < u64::try_from(sent + PREFIX_BYTES).unwrap() {
                server.tcp().readable().await.unwrap();
                let polled =
                    std::future::poll_fn(|cx| Poll::Ready(reader.poll_frame(cx, &mut server, FREE_BYTES).is_ready()))
                        .await;
                assert!(!polled);
            }
            let capacity = reader.buffer.capacity();
            assert!(capacity <= FIRST_BUFFER_BYTES.max(sent * GROWTH), "{capacity} for {sent}");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (mut client, mut server) = pair().await;
        let mut reader = reader();
        client.write_all(&framed(b"hello")).await.unwrap();
        assert_eq!(next(&mut reader, &mut server).await.unwrap().bytes, b"hello"[..]);
        let pending =
            std::future::poll_fn(|cx| Poll::Ready(reader.poll_frame(cx, &mut server, FREE_BYTES).is_pending())).await;
        assert!(pending);
        assert_eq!(reader.buffer.capacity(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// However the bytes are cut on their way, the frames are what was sent.
        #[test]
        fn frames_come_out_as_sent(
            sizes in proptest::collection::vec(prop_oneof![0..100_usize, 8_000..9_000_usize, 60_000..200_000_usize], 1..8),
            cut in 1..70_000_usize,
        ) {
            let bodies: Vec<Vec<u8>> = sizes.iter().zip(0..).map(|(size, fill)| vec![fill; *size]).collect();
            let wire: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut client, mut server) = pair().await;
                let sender = tokio::spawn(async move {
                    for piece in wire.chunks(cut) {
                        client.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    client
                });
                let mut reader = reader();
                for body in &bodies {
                    assert_eq!(next(&mut reader, &mut server).await.unwrap().bytes, *body);
                }
                drop(sender.await.unwrap());
                assert!(matches!(next(&mut reader, &mut server).await, Err(FrameError::End)));
            });
        }
    }
}
