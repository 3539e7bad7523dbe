//! Steps from frame to frame by their headers: for places that an index only comes near to.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::entry::Descriptor;
use super::error::ReadError;
use super::frame::{FrameError, HEAD_LEN, parse_head};
use super::probe::read_cached;
use super::segment::Segment;

/// May a read wait for the disk?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Wait,
    /// `ReadError::Cold` instead.
    CacheOnly,
}

/// A frame's header and place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub position: u64,
    /// Of a batch: without index.
    pub frame: Descriptor,
}

impl Head {
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.frame.size_bytes)
    }
}

/// Bytes read at a time: an index interval.
const BUFFER_LEN: usize = 4096;

/// Walks the frames of `position..end`, both of which lie between frames.
pub(super) struct Walk<'a> {
    segment: &'a Segment,
    file: &'a File,
    position: u64,
    end: u64,
    patience: Patience,
    buffer: [u8; BUFFER_LEN],
    buffer_at: u64,
    buffer_len: usize,
}

impl<'a> Walk<'a> {
    pub fn new(segment: &'a Segment, file: &'a File, position: u64, end: u64, patience: Patience) -> Self {
        let buffer = [0; BUFFER_LEN];
        Self { segment, file, position, end, patience, buffer, buffer_at: position, buffer_len: 0 }
    }

    /// Goes on at another frame, further on.
    pub fn jump(&mut self, position: u64) {
        assert!(position >= self.position, "a walk goes on, from {} not to {position}", self.position);
        self.position = position;
    }

    /// The next frame, `None` at the end.
    pub fn next(&mut self) -> Result<Option<Head>, ReadError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let need = HEAD_LEN.min(usize::try_from(self.end - self.position).unwrap_or(HEAD_LEN));
        let at = usize::try_from(self.position - self.buffer_at).unwrap_or(usize::MAX);
        if at.saturating_add(need) > self.buffer_len {
            self.fill(need)?;
        }
        let at = usize::try_from(self.position - self.buffer_at).unwrap_or(usize::MAX);
        let bytes = self.buffer.get(at..self.buffer_len).unwrap_or_default();
        let frame = parse_head(bytes).map_err(|e| self.segment.corrupt(self.position, &e))?;
        let head = Head { position: self.position, frame };
        if head.end() > self.end {
            let (need, have) = (u64::from(frame.size_bytes), self.end - self.position);
            return Err(self.segment.corrupt(self.position, &FrameError::Torn { need, have }));
        }
        self.position = head.end();
        Ok(Some(head))
    }

    fn fill(&mut self, need: usize) -> Result<(), ReadError> {
        let want = usize::try_from(self.end - self.position).unwrap_or(BUFFER_LEN).min(BUFFER_LEN);
        let buffer = &mut self.buffer[..want];
        let mut len = 0;
        while len < need {
            let at = self.position + len as u64;
            let read = match self.patience {
                Patience::Wait => self.file.read_at(&mut buffer[len..], at),
                Patience::CacheOnly => match read_cached(self.file, &mut buffer[len..], at) {
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Err(ReadError::Cold),
                    // A short read ends at a page that is not cached; the next try tells.
                    read => read,
                },
            };
            match read {
                Ok(0) => {
                    let have = self.end - self.position;
                    return Err(self.segment.corrupt(self.position, &FrameError::Torn { need: need as u64, have }));
                }
                Ok(read) => len += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.segment.io_error(e)),
            }
        }
        self.buffer_at = self.position;
        self.buffer_len = len;
        Ok(())
    }
}
