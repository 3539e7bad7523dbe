//! Replies on their way into the socket: small parts gathered into one system call, files by `sendfile`.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::socket::Socket;
use super::tls::TlsStream;
use crate::protocol::{FileRange, Part, Response};

/// From this size a file goes out by `sendfile`; below, reading it and sending it with what surrounds it is cheaper
/// (measured).
const SENDFILE_BYTES_MIN: usize = 32 * 1024;
/// Parts that go out in one system call.
const GATHERED_PARTS_MAX: usize = 32;
/// Bytes that one `sendfile` moves: a worker is not held longer.
const SENDFILE_BYTES_MAX: usize = 1 << 20;
/// Bytes that one connection writes before others get their turn.
const TURN_BYTES: usize = 4 << 20;

/// Bytes that are read and encrypted at once: four records of TLS.
const ENCRYPTED_PIECE_BYTES: usize = 64 * 1024;
/// From so many encrypted bytes on the socket is asked to take them. Small: more system calls; large: more memory for each
/// client that is slow to read.
const ENCRYPTED_AHEAD_BYTES: usize = 128 * 1024;

/// `MSG_MORE`, which nix does not name.
const MORE_FOLLOWS: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_MORE);

/// What has left the reply queue and not yet the process.
#[derive(Default)]
pub(super) struct Outgoing {
    parts: VecDeque<Part>,
    bytes: usize,
    sent: u64,
    /// Parts that are gone from here wait encrypted for the socket.
    is_encrypted: bool,
}

impl Outgoing {
    pub(super) fn push(&mut self, response: Response) {
        self.bytes += response.size_bytes();
        self.parts.extend(response.into_parts());
    }

    /// Bytes that wait for the socket.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && !self.is_encrypted
    }

    /// Bytes that the socket took since the connection began.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Ready when everything is with the kernel. An error ends the connection: a reply may be half sent.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<()>> {
        match socket {
            Socket::Plain(socket) => self.poll_flush_plain(cx, socket),
            Socket::Tls(stream) => self.poll_flush_tls(cx, stream),
        }
    }

    fn poll_flush_tls(&mut self, cx: &mut Context<'_>, stream: &mut TlsStream) -> Poll<io::Result<()>> {
        let mut turn = 0;
        loop {
            ready!(stream.poll_flush(cx))?;
            self.is_encrypted = false;
            if self.parts.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if turn >= TURN_BYTES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            turn += self.encrypt_some(stream)?;
        }
    }

    /// Encrypts the next parts, or as much of them as may wait for the socket; gives how much.
    fn encrypt_some(&mut self, stream: &mut TlsStream) -> io::Result<usize> {
        let mut encrypted = 0;
        while let Some(part) = self.parts.front()
            && encrypted < ENCRYPTED_AHEAD_BYTES
        {
            let piece = match part {
                Part::Bytes(bytes) => bytes.slice(..bytes.len().min(ENCRYPTED_PIECE_BYTES)),
                Part::File(range) => read(&FileRange { len: range.len.min(ENCRYPTED_PIECE_BYTES), ..range.clone() })?,
            };
            stream.encrypt(&piece)?;
            self.is_encrypted = true;
            self.consume(piece.len());
            encrypted += piece.len();
        }
        Ok(encrypted)
    }

    fn poll_flush_plain(&mut self, cx: &mut Context<'_>, socket: &TcpStream) -> Poll<io::Result<()>> {
        let mut turn = 0;
        while !self.parts.is_empty() {
            self.load_small_files()?;
            let written = socket.try_io(Interest::WRITABLE, || match self.parts.front() {
                Some(Part::File(range)) => send_file(socket, range),
                _ => send_gathered(socket, &self.parts),
            });
            match written {
                Ok(written) => {
                    self.consume(written);
                    turn += written;
                    if turn >= TURN_BYTES && !self.parts.is_empty() {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(cx))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Turns small files among the next parts into bytes.
    fn load_small_files(&mut self) -> io::Result<()> {
        for part in self.parts.iter_mut().take(GATHERED_PARTS_MAX) {
            match part {
                Part::File(range) if range.len < SENDFILE_BYTES_MIN => *part = Part::Bytes(read(range)?),
                Part::File(_) => break,
                Part::Bytes(_) => {}
            }
        }
        Ok(())
    }

    fn consume(&mut self, mut written: usize) {
        self.sent += u64::try_from(written).unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(part) = self.parts.front_mut() {
            if part.len() <= written {
                written -= part.len();
                self.parts.pop_front();
                continue;
            }
            match part {
                Part::Bytes(bytes) => bytes.advance(written),
                Part::File(range) => {
                    range.position += u64::try_from(written).unwrap_or_default();
                    range.len -= written;
                }
            }
            break;
        }
    }
}

fn read(range: &FileRange) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed(range.len);
    range.file.read_exact_at(&mut bytes, range.position).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => short_file(),
        _ => e,
    })?;
    Ok(bytes.freeze())
}

/// The parts up to the next file in one call; the kernel is told to wait for the file before it sends the rest.
fn send_gathered(socket: &TcpStream, parts: &VecDeque<Part>) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); GATHERED_PARTS_MAX];
    let mut count = 0;
    let mut flags = MsgFlags::MSG_NOSIGNAL;
    for part in parts {
        match (part, slices.get_mut(count)) {
            (Part::Bytes(bytes), Some(slice)) => *slice = IoSlice::new(bytes),
            (Part::File(_), _) | (_, None) => {
                flags |= MORE_FOLLOWS;
                break;
            }
        }
        count += 1;
    }
    Ok(sendmsg::<()>(socket.as_raw_fd(), slices.get(..count).unwrap_or_default(), &[], flags, None)?)
}

fn send_file(socket: &TcpStream, range: &FileRange) -> io::Result<usize> {
    let mut position = i64::try_from(range.position).map_err(io::Error::other)?;
    match sendfile64(socket, &range.file, Some(&mut position), range.len.min(SENDFILE_BYTES_MAX))? {
        0 => Err(short_file()),
        sent => Ok(sent),
    }
}

/// The length prefix promised bytes that are not there: nothing that could follow would be understood.
fn short_file() -> io::Error {
    io::Error::other("a file ended inside a reply")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    fn file(content: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Arc::new(file)
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    /// Sends the parts to a client that reads slowly, and gives what it read.
    async fn send(parts: Vec<Part>) -> (io::Result<()>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Socket::Plain(listener.accept().await.unwrap().0);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            let mut chunk = vec![0; 50_000];
            while let Ok(n @ 1..) = client.read(&mut chunk).await {
                all.extend_from_slice(&chunk[..n]);
            }
            all
        });
        let mut outgoing =
            Outgoing { bytes: parts.iter().map(Part::len).sum(), parts: parts.into(), ..Outgoing::default() };
        let expected = outgoing.bytes;
        let result = std::future::poll_fn(|cx| outgoing.poll_flush(cx, &mut server)).await;
        if result.is_ok() {
            assert_eq!((outgoing.bytes(), outgoing.sent()), (0, u64::try_from(expected).unwrap()));
        }
        drop(server);
        (result, reader.await.unwrap())
    }

    #[tokio::test]
    async fn bytes_and_files_arrive_in_order() {
        let content = pattern(12_000_000);
        let file = file(&content);
        let range = |position: usize, len| {
            Part::File(FileRange { file: Arc::clone(&file), position: u64::try_from(position).unwrap(), len })
        };
        let parts = vec![
            Part::Bytes(Bytes::from_static(b"head")),
            range(10, 100),
            Part::Bytes(Bytes::from_static(b"-")),
            range(1_000, 5_000_000),
            range(7, 40_000),
            Part::Bytes(Bytes::from(pattern(300_000))),
            range(11_000_000, 1_000_000),
            range(0, 5),
        ];
        let expected: Vec<u8> = [
            b"head",
            &content[10..110],
            b"-",
            &content[1_000..5_001_000],
            &content[7..40_007],
            &pattern(300_000),
            &content[11_000_000..],
            &content[..5],
        ]
        .concat();
        let (result, received) = send(parts).await;
        result.unwrap();
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    }

    #[tokio::test]
    async fn many_small_parts_arrive_in_order() {
        let parts = (0..1_000_usize).map(|i| Part::Bytes(Bytes::from(i.to_string()))).collect();
        let (result, received) = send(parts).await;
        result.unwrap();
        assert_eq!(received, (0..1_000_usize).map(|i| i.to_string()).collect::<String>().into_bytes());
    }

    #[tokio::test]
    async fn a_file_that_ends_early_ends_the_connection() {
        for len in [2_000, 100_000] {
            let part = Part::File(FileRange { file: file(&pattern(1_500)), position: 0, len });
            let (result, _) = send(vec![part]).await;
            assert_eq!(result.unwrap_err().to_string(), "a file ended inside a reply");
        }
    }
}
