//! Frames that wait for a connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use super::frame::{HEAD_BYTES, OutFrame};

/// Bytes that are taken from the queue at a time, about.
const ROUND_BYTES: usize = 1 << 20;
/// Pieces in one system call.
const SLICES_MAX: usize = 128;

/// What waits for one connection. Takes nothing while it is not connected.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Notify,
    /// Bytes that may wait; beyond, frames are refused. One frame may be larger, when nothing else waits.
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    is_open: bool,
    frames: VecDeque<OutFrame>,
    bytes: usize,
}

/// Closes a queue, and forgets what waits in it, when the connection is gone.
pub(super) struct Open<'a>(&'a Queue);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self.0.lock() = State::default();
    }
}

impl Queue {
    pub fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), filled: Notify::new(), bytes_max }
    }

    /// A connection is there.
    pub fn open(&self) -> Open<'_> {
        *self.lock() = State { is_open: true, ..State::default() };
        Open(self)
    }

    pub fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// False: dropped, there is no connection or too much waits for it.
    pub fn push(&self, frame: OutFrame) -> bool {
        let size = frame.size_bytes();
        let mut state = self.lock();
        if !state.is_open || state.bytes > 0 && state.bytes.saturating_add(size) > self.bytes_max {
            return false;
        }
        state.bytes += size;
        state.frames.push_back(frame);
        drop(state);
        self.filled.notify_one();
        true
    }

    /// The next frames, once there are any.
    async fn take(&self) -> Vec<OutFrame> {
        loop {
            let taken = self.take_some();
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    fn take_some(&self) -> Vec<OutFrame> {
        let mut state = self.lock();
        let mut bytes = 0;
        let mut taken = Vec::new();
        while bytes < ROUND_BYTES {
            let Some(frame) = state.frames.pop_front() else { break };
            bytes += frame.size_bytes();
            taken.push(frame);
        }
        state.bytes -= bytes;
        taken
    }

    /// Writes whatever comes until the stream fails.
    pub async fn write_to(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Error {
        loop {
            let frames = self.take().await;
            if let Err(e) = write_round(frames, stream).await {
                return e;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All frames in as few system calls as the socket allows, without a copy of what they carry.
async fn write_round(frames: Vec<OutFrame>, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut heads = BytesMut::with_capacity(HEAD_BYTES * frames.len());
    let mut pieces = VecDeque::with_capacity(2 * frames.len());
    for frame in &frames {
        frame.put_head(&mut heads);
        pieces.push_back(heads.split().freeze());
        pieces.extend(frame.parts.iter().filter(|part| !part.is_empty()).cloned());
    }
    while !pieces.is_empty() {
        let written = std::future::poll_fn(|cx| {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = slices.iter_mut().zip(&pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
            Pin::new(&mut *stream).poll_write_vectored(cx, slices.get(..filled).unwrap_or_default())
        });
        match written.await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => consume(&mut pieces, written),
        }
    }
    Ok(())
}

fn consume(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(piece) = pieces.front_mut() {
        if piece.len() > written {
            piece.advance(written);
            return;
        }
        written -= piece.len();
        pieces.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize) -> OutFrame {
        OutFrame::new(10, vec![Bytes::from(vec![1; len])])
    }

    #[test]
    fn what_waits_is_bounded() {
        let queue = Queue::new(1_000);
        assert!(!queue.push(frame(1)), "not connected");
        let open = queue.open();
        assert!(queue.push(frame(400)) && queue.push(frame(400)));
        assert!(!queue.push(frame(400)));
        assert_eq!(queue.take_some().len(), 2);
        assert!(queue.push(frame(5_000)), "alone, whatever its size");
        assert!(!queue.push(frame(0)));
        drop(open);
        assert!(!queue.push(frame(1)));
        let _open = queue.open();
        assert!(queue.take_some().is_empty(), "of a connection that is gone");
        assert!(queue.push(frame(400)));
    }
}
