//! Reads a segment frame by frame and checks all of it: length, checksum, and that each frame follows from the last.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use millstream_core::types::{Offset, RaftIndex};

use super::entry::{Descriptor, ScannedFrame};
use super::frame::{
    Frame, FrameError, HEAD_LEN, SEGMENT_HEADER_LEN, SegmentHeader, describe_batch, frame_size, parse_frame,
};
use super::index::SegmentIndex;
use super::segment::SegmentEnd;

/// Bytes read at a time; more when a frame is larger.
const READ_LEN: usize = 512 * 1024;

/// What a scan found.
#[derive(Debug)]
pub(super) struct Scanned {
    /// After the last sound frame.
    pub end: SegmentEnd,
    /// Why what follows is no frame; `None`: the file ends there.
    pub bad: Option<FrameError>,
}

/// Reads ahead in one file.
pub(super) struct FrameReader<'a> {
    file: &'a File,
    len: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'a> FrameReader<'a> {
    pub fn new(file: &'a File, len: u64) -> Self {
        Self { file, len, buffer: Vec::new(), buffer_at: 0 }
    }

    /// `need` bytes at `position`, fewer at the end of the file.
    fn bytes(&mut self, position: u64, need: usize) -> io::Result<&[u8]> {
        let have = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let need = need.min(have);
        let at = position.checked_sub(self.buffer_at).and_then(|at| usize::try_from(at).ok());
        let at = match at.filter(|at| at.checked_add(need).is_some_and(|end| end <= self.buffer.len())) {
            Some(at) => at,
            None => {
                self.buffer.resize(need.max(READ_LEN).min(have), 0);
                self.file.read_exact_at(&mut self.buffer, position)?;
                self.buffer_at = position;
                0
            }
        };
        Ok(&self.buffer[at..at + need])
    }

    /// The whole frame at `position`, checked.
    pub fn frame(&mut self, position: u64) -> io::Result<Result<&[u8], FrameError>> {
        let size = match frame_size(self.bytes(position, HEAD_LEN)?) {
            Ok(size) => size,
            Err(e) => return Ok(Err(e)),
        };
        let have = self.len - position;
        if size > have {
            return Ok(Err(FrameError::Torn { need: size, have }));
        }
        // At most 2 GiB, and no more than the file really has.
        self.bytes(position, size as usize).map(Ok)
    }
}

/// The header frame of a segment.
pub(super) fn read_header(file: &File, len: u64) -> io::Result<Result<SegmentHeader, FrameError>> {
    let mut reader = FrameReader::new(file, len.min(SEGMENT_HEADER_LEN));
    let bytes = match reader.frame(0)? {
        Ok(bytes) => bytes,
        Err(e) => return Ok(Err(e)),
    };
    Ok(parse_frame(bytes).and_then(|frame| match frame {
        Frame::Header(header) => Ok(header),
        _ => Err(FrameError::NoHeader),
    }))
}

/// What is scanned.
pub(super) struct Scan<'a> {
    pub file: &'a File,
    pub len: u64,
    pub base_offset: Offset,
    /// Checked for checksums and rising offsets only; holds no own frames.
    pub compacted: bool,
    /// Where to begin: between two frames.
    pub start: SegmentEnd,
    pub index_interval_bytes: u32,
}

impl Scan<'_> {
    /// Goes to the end, or to the first place that is not sound. Notes each frame in `index`.
    pub fn run(&self, index: &mut SegmentIndex, each: &mut dyn FnMut(&ScannedFrame<'_>, u64)) -> io::Result<Scanned> {
        let mut reader = FrameReader::new(self.file, self.len);
        let mut end = self.start;
        while end.position < self.len {
            let bytes = match reader.frame(end.position)? {
                Ok(bytes) => bytes,
                Err(e) => return Ok(Scanned { end, bad: Some(e) }),
            };
            let frame = match self.check(bytes, &end) {
                Ok(frame) => frame,
                Err(e) => return Ok(Scanned { end, bad: Some(e) }),
            };
            let descriptor = frame.descriptor;
            index.note(end.position, &descriptor, end.max_timestamp, self.index_interval_bytes);
            each(&frame, end.position);
            end = SegmentEnd {
                position: end.position + u64::from(descriptor.size_bytes),
                offset: descriptor.next_offset(),
                index: if self.compacted { end.index } else { descriptor.index.next() },
                last_term: descriptor.term,
                max_timestamp: end.max_timestamp.max(descriptor.max_timestamp),
            };
        }
        Ok(Scanned { end, bad: None })
    }

    fn check<'b>(&self, bytes: &'b [u8], end: &SegmentEnd) -> Result<ScannedFrame<'b>, FrameError> {
        let frame = match parse_frame(bytes)? {
            Frame::Header(_) => return Err(FrameError::Kind(0)),
            Frame::Batch(header) => {
                let index = if self.compacted { RaftIndex(0) } else { end.index };
                let descriptor = Descriptor { index, ..describe_batch(&header)? };
                ScannedFrame { descriptor, header: Some(header), bytes }
            }
            Frame::Entry { descriptor, data } => ScannedFrame { descriptor, header: None, bytes: data },
        };
        self.check_follows(&frame.descriptor, end)?;
        Ok(frame)
    }

    fn check_follows(&self, frame: &Descriptor, end: &SegmentEnd) -> Result<(), FrameError> {
        let (offset, expected) = (frame.base_offset.0, end.offset.0);
        let span = frame.next_offset().0.saturating_sub(self.base_offset.0);
        let rising = offset >= expected && (self.compacted || offset == expected) && u32::try_from(span).is_ok();
        let unexpected = |field, found: u64, expected: u64| Err(FrameError::Continuity { field, found, expected });
        if !rising {
            return unexpected("base offset", offset.cast_unsigned(), expected.cast_unsigned());
        }
        match (self.compacted, frame.own_kind) {
            (true, None) => Ok(()),
            (true, Some(_)) => Err(FrameError::Kind(1)),
            (false, _) if frame.index != end.index => unexpected("index", frame.index.0, end.index.0),
            // A new term begins with an entry of raft's own.
            (false, None) if frame.term != end.last_term => unexpected("epoch", frame.term.0, end.last_term.0),
            (false, Some(_)) if frame.term < end.last_term => unexpected("term", frame.term.0, end.last_term.0),
            (false, _) => Ok(()),
        }
    }
}
