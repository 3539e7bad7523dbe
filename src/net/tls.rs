//! TLS over a socket that does not block.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What one read takes from the socket: four records at their largest.
const READ_BYTES: usize = 64 * 1024;
/// Content type of a handshake record, the first byte of every client that speaks TLS.
const HANDSHAKE: u8 = 22;

/// A connection whose client speaks TLS, or will.
pub(super) struct TlsStream {
    socket: TcpStream,
    tls: ServerConnection,
    /// Encrypted bytes that were read and not decrypted yet. Empty and without memory while nothing comes.
    arrived: BytesMut,
    /// Whether anything has arrived ever.
    has_begun: bool,
    /// The client said that it sends no more. Whatever comes after that is not read.
    has_ended: bool,
}

/// Why a client did not get in.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("plaintext on a TLS port")]
    Plaintext,
    #[error("closed by the client inside the TLS handshake")]
    Cut,
    #[error("TLS handshake: {0}")]
    Tls(rustls::Error),
    #[error("no rule of ssl.principal.mapping.rules applies to the subject {0}")]
    NoRule(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut tls = ServerConnection::new(config)?;
        // Who writes flushes what waits before it writes more.
        tls.set_buffer_limit(None);
        Ok(Self { socket, tls, arrived: BytesMut::new(), has_begun: false, has_ended: false })
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.socket
    }

    /// The client's certificate, once the handshake is done; `None`: it showed none.
    pub(super) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates()?.first()
    }

    /// Ready when the handshake is over.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        loop {
            ready!(self.poll_flush(cx))?;
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            match self.receive() {
                Ok(0) => return Poll::Ready(Err(HandshakeError::Cut)),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_read_ready(cx))?;
                    continue;
                }
                Err(e) => return Poll::Ready(Err(e.into())),
            }
            if !self.has_begun {
                self.has_begun = true;
                if self.arrived.first().is_some_and(|first| *first != HANDSHAKE) {
                    return Poll::Ready(Err(HandshakeError::Plaintext));
                }
            }
            if let Err(e) = self.decrypt() {
                // The alert that says why, as far as the client still listens.
                let _unheard: io::Result<bool> = self.try_flush();
                return Poll::Ready(Err(HandshakeError::Tls(e)));
            }
            // Bytes that are left belong to the client's first request, or would only pile up.
            if self.tls.is_handshaking() && !self.arrived.is_empty() {
                return Poll::Ready(Err(HandshakeError::Cut));
            }
        }
    }

    /// As a read of the socket beneath, of what was decrypted.
    pub(super) fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut taken = self.take(buffer)?;
        loop {
            let is_full = buffer.len() == buffer.capacity();
            if self.has_ended || taken > 0 && (self.arrived.is_empty() || is_full) {
                return Ok(taken);
            }
            if self.arrived.is_empty() && self.receive()? == 0 {
                return Ok(0);
            }
            let before = self.arrived.len();
            let decrypted = self.decrypt();
            // Answers of the protocol itself. What does not fit now goes with the next reply.
            self.try_flush()?;
            decrypted.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let decrypted = self.take(buffer)?;
            taken += decrypted;
            if self.arrived.len() == before && decrypted == 0 && !self.has_ended {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "TLS that leads nowhere"));
            }
        }
    }

    /// Encrypts all of it. It waits in memory for `poll_flush`.
    pub(super) fn encrypt(&mut self, plain: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(plain)
    }

    /// Ready when everything that was encrypted is with the kernel.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.try_flush()? {
            ready!(self.socket.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether everything that was encrypted is with the kernel now.
    fn try_flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            let Self { socket, tls, .. } = self;
            match socket.try_io(Interest::WRITABLE, || tls.write_tls(&mut Direct(socket))) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Moves decrypted bytes to where `buffer` has room.
    fn take(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let before = buffer.len();
        let mut reader = self.tls.reader();
        while buffer.len() < buffer.capacity() {
            let chunk = match reader.fill_buf() {
                Ok([]) => break,
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            };
            let fits = chunk.len().min(buffer.capacity() - buffer.len());
            buffer.extend_from_slice(&chunk[..fits]);
            reader.consume(fits);
        }
        Ok(buffer.len() - before)
    }

    /// More of what the client sent. 0: nothing more will come.
    fn receive(&mut self) -> io::Result<usize> {
        self.arrived.reserve(READ_BYTES);
        loop {
            match self.socket.try_read_buf(&mut self.arrived) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    if self.arrived.is_empty() {
                        self.arrived = BytesMut::new();
                    }
                    return result;
                }
            }
        }
    }

    /// Has rustls see what has arrived, as far as what it decrypts is wanted now.
    fn decrypt(&mut self) -> Result<(), rustls::Error> {
        while !self.arrived.is_empty() {
            let mut rest = &self.arrived[..];
            // Fails when what is decrypted has to be taken first.
            let Ok(taken @ 1..) = self.tls.read_tls(&mut rest) else { break };
            self.arrived.advance(taken);
            if self.tls.process_new_packets()?.peer_has_closed() {
                self.has_ended = true;
                self.arrived = BytesMut::new();
            }
        }
        Ok(())
    }
}

/// Writes to a socket without waiting.
struct Direct<'a>(&'a TcpStream);

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
