//! Frames: length u32 (of what follows it), crc32c u32 (of what follows that), kind u8, version u8, body. Big endian.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::record::{crc32c, crc32c_of};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of the length.
const PREFIX_BYTES: usize = 4;
/// Bytes before the body, the length included.
pub(super) const HEAD_BYTES: usize = 10;
/// What the length counts beside the body.
const COUNTED_BYTES: usize = HEAD_BYTES - PREFIX_BYTES;
/// Read at once while it is not known what comes.
const READ_BYTES: usize = 64 * 1024;

/// A frame that arrived whole.
#[derive(Debug)]
pub(super) struct Frame {
    pub kind: u8,
    pub version: u8,
    pub body: Bytes,
}

/// Why nothing more comes from a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("closed by the other node")]
    End,
    #[error("closed by the other node inside a frame")]
    Cut,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a frame of {0} bytes was announced")]
    Length(u32),
    #[error("a frame's checksum does not match")]
    Crc,
}

/// Takes frames off a stream.
pub(super) struct FrameReader {
    buffer: BytesMut,
    /// Body and all. A longer one ends the connection: before a hello this is all the memory that a stranger gets.
    frame_bytes_max: usize,
}

impl FrameReader {
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max }
    }

    pub fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.frame_bytes_max = bytes;
    }

    /// The next frame. May be dropped while it waits: nothing that was read is lost.
    pub async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, FrameError> {
        loop {
            let wanted = self.frame_bytes()?;
            if let Some(wanted) = wanted.filter(|wanted| self.buffer.len() >= *wanted) {
                return decode(self.buffer.split_to(wanted).freeze());
            }
            self.reserve(wanted);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(if self.buffer.is_empty() { FrameError::End } else { FrameError::Cut });
            }
        }
    }

    /// Length of the frame that the buffer begins with, once it is known.
    fn frame_bytes(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*prefix);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length < COUNTED_BYTES || length > self.frame_bytes_max {
            return Err(FrameError::Length(announced));
        }
        Ok(Some(PREFIX_BYTES + length))
    }

    /// Room for the rest of a frame in one piece, or for what may come.
    fn reserve(&mut self, wanted: Option<usize>) {
        let wanted = wanted.unwrap_or(0).max(PREFIX_BYTES);
        if self.buffer.capacity() >= wanted && self.buffer.capacity() > self.buffer.len() {
            return;
        }
        let mut larger = BytesMut::with_capacity(wanted.max(READ_BYTES.min(self.frame_bytes_max + PREFIX_BYTES)));
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }
}

fn decode(mut bytes: Bytes) -> Result<Frame, FrameError> {
    assert!(bytes.len() >= HEAD_BYTES, "a frame of {} bytes came through", bytes.len());
    bytes.advance(PREFIX_BYTES);
    let crc = bytes.get_u32();
    if crc != crc32c(&bytes) {
        return Err(FrameError::Crc);
    }
    Ok(Frame { kind: bytes.get_u8(), version: bytes.get_u8(), body: bytes })
}

/// A frame on its way out. The parts of its body are sent as they lie.
pub(super) struct OutFrame {
    pub kind: u8,
    pub version: u8,
    pub parts: Vec<Bytes>,
    /// Held until the frame is handed to the socket.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl OutFrame {
    pub fn new(kind: u8, parts: Vec<Bytes>) -> Self {
        Self { kind, version: super::kind::VERSION, parts, permit: None }
    }

    /// On the wire.
    pub fn size_bytes(&self) -> usize {
        HEAD_BYTES + self.parts.iter().map(Bytes::len).sum::<usize>()
    }

    /// Appends what goes before the body.
    pub fn put_head(&self, out: &mut impl BufMut) {
        let counted =
            u32::try_from(self.size_bytes() - PREFIX_BYTES).expect("frames are bounded where they are queued");
        let head = [self.kind, self.version];
        out.put_u32(counted);
        out.put_u32(crc32c_of(std::iter::once(&head[..]).chain(self.parts.iter().map(|part| &part[..]))));
        out.put_slice(&head);
    }

    /// All of it in one piece, for frames that are small.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size_bytes());
        self.put_head(&mut out);
        self.parts.iter().for_each(|part| out.put_slice(part));
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn error_of(mut bytes: &[u8]) -> String {
        let read = run(async { FrameReader::new(1 << 20).next(&mut bytes).await });
        read.map_or_else(|e| e.to_string(), |frame| format!("{frame:?}"))
    }

    #[test]
    fn what_is_no_frame_is_told_apart() {
        assert_eq!(error_of(b""), "closed by the other node");
        assert_eq!(error_of(&[0, 0]), "closed by the other node inside a frame");
        assert_eq!(error_of(&[0, 0, 0, 5, 1, 2, 3]), "a frame of 5 bytes was announced");
        assert_eq!(error_of(&[255; 40]), "a frame of 4294967295 bytes was announced");
        let mut frame = OutFrame::new(3, vec![Bytes::from_static(b"ab")]).to_bytes().to_vec();
        assert_eq!(error_of(&frame), r#"Frame { kind: 3, version: 1, body: b"ab" }"#);
        for place in 4..frame.len() {
            frame[place] ^= 4;
            assert_eq!(error_of(&frame), "a frame's checksum does not match");
            frame[place] ^= 4;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// However a body is cut into parts and the bytes into pieces, what comes out is what went in.
        #[test]
        fn frames_come_out_as_sent(
            bodies in proptest::collection::vec(proptest::collection::vec(0..40_000_usize, 0..4), 1..8),
            piece in 1..90_000_usize,
        ) {
            let frames: Vec<OutFrame> = bodies.iter().zip(0_u8..).map(|(parts, kind)| {
                OutFrame::new(kind, parts.iter().map(|len| Bytes::from(vec![kind; *len])).collect())
            }).collect();
            let wire: Vec<u8> = frames.iter().flat_map(OutFrame::to_bytes).collect();
            run(async {
                let (mut near, mut far) = tokio::io::duplex(piece);
                let sent = async {
                    tokio::io::AsyncWriteExt::write_all(&mut near, &wire).await.unwrap();
                    drop(near);
                };
                let read = async {
                    let mut reader = FrameReader::new(1 << 20);
                    for frame in &frames {
                        let read = reader.next(&mut far).await.unwrap();
                        assert_eq!((read.kind, read.version), (frame.kind, 1));
                        assert_eq!(read.body, frame.parts.concat());
                    }
                    assert!(matches!(reader.next(&mut far).await, Err(FrameError::End)));
                };
                tokio::join!(sent, read);
            });
        }
    }
}
