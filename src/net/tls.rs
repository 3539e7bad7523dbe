//! TLS over a socket that does not block.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Plain bytes that may wait, encrypted, for the socket. Small: more system calls; large: more memory for each client
/// that is slow to read.
const ENCRYPTED_BYTES_MAX: usize = 128 * 1024;
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
        tls.set_buffer_limit(Some(ENCRYPTED_BYTES_MAX));
        Ok(Self { socket, tls, arrived: BytesMut::new(), has_begun: false })
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
        }
    }

    /// As a read of the socket beneath, of what was decrypted.
    pub(super) fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            taken += self.take(buffer)?;
            if taken > 0 && (self.arrived.is_empty() || buffer.len() == buffer.capacity()) {
                return Ok(taken);
            }
            if self.arrived.is_empty() && self.receive()? == 0 {
                return Ok(0);
            }
            let decrypted = self.decrypt();
            // Answers of the protocol itself. What does not fit now goes with the next reply.
            self.try_flush()?;
            match decrypted {
                Ok(true) => {}
                // What was sent before is still to be read.
                Ok(false) => return Ok(taken + self.take(buffer)?),
                Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e)),
            }
        }
    }

    /// Encrypts as much as may wait for the socket; 0: no more may.
    pub(super) fn encrypt(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.tls.writer().write(plain)
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

    /// Has rustls see what has arrived, as far as what it decrypts is wanted now. `false`: the client said that this
    /// was all.
    fn decrypt(&mut self) -> Result<bool, rustls::Error> {
        while !self.arrived.is_empty() {
            let mut rest = &self.arrived[..];
            // Fails when what is decrypted has to be taken first.
            let Ok(taken @ 1..) = self.tls.read_tls(&mut rest) else { break };
            self.arrived.advance(taken);
            if self.tls.process_new_packets()?.peer_has_closed() {
                return Ok(false);
            }
        }
        Ok(true)
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
