//! A log that is fetched from another replica, put together beside the one whose place it will take: its compacted
//! segments as they are there, and a fresh active one after them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::types::{PartitionId, Timestamp};

use super::data_dir::DataDir;
use super::error::ReadError;
use super::frame::{SEGMENT_HEADER_LEN, SegmentHeader};
use super::index::SegmentIndex;
use super::meta::{Checkpoint, SegmentMeta};
use super::names::SegmentName;
use super::partition_dir::{PartitionDir, sync_dir};
use super::scan::{Scan, read_header};
use super::segment::{Segment, SegmentEnd};
use super::walk::Patience;
use super::writer::{Active, LogStart};

/// Written out so often that no flush has to wait for it.
const SYNC_EVERY_BYTES: u64 = 8 << 20;
/// Of the index that a check makes and nobody uses.
const CHECK_INTERVAL_BYTES: u32 = 1 << 20;

/// A compacted segment of a log, to be given to others.
pub struct CompactedSegment {
    pub meta: SegmentMeta,
    pub(super) segment: Arc<Segment>,
}

impl std::fmt::Debug for CompactedSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactedSegment").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl CompactedSegment {
    /// So many bytes of the file from a place on; `None`: it has none there. Blocks for the disk.
    ///
    /// # Errors
    /// `Gone`, when the segment was deleted or compacted again.
    pub fn read(&self, position: u64, len: usize) -> Result<Option<Bytes>, ReadError> {
        if position.checked_add(len as u64).is_none_or(|end| end > self.meta.length) {
            return Ok(None);
        }
        let file = self.segment.file(Patience::Wait)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, position).map_err(|e| self.segment.io_error(e))?;
        Ok(Some(bytes.into()))
    }
}

/// The place where a log is put together. It stays until the log is moved in or discarded.
#[derive(Clone)]
pub struct Incoming {
    dir: Arc<DataDir>,
    id: PartitionId,
    path: PathBuf,
}

/// A segment on its way in.
pub struct IncomingSegment {
    file: File,
    len: u64,
    unsynced: u64,
}

fn name_of(meta: &SegmentMeta) -> String {
    SegmentName { base_offset: meta.base_offset, generation: meta.generation }.log()
}

fn unsound(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

impl Incoming {
    /// Makes the place. `keeps`: what is there is of the same log, and fetching goes on behind it. Blocks for the disk,
    /// as all of these do.
    pub fn begin(dir: &Arc<DataDir>, id: PartitionId, keeps: bool) -> io::Result<Self> {
        if !keeps {
            dir.discard_incoming(id)?;
        }
        let incoming = Self::of(dir, id);
        fs::create_dir_all(&incoming.path)?;
        Ok(incoming)
    }

    /// The place where a partition's log was put together.
    pub fn of(dir: &Arc<DataDir>, id: PartitionId) -> Self {
        Self { dir: dir.clone(), id, path: dir.incoming_path(id) }
    }

    /// Opens a segment's file: writing goes on where it ended.
    pub fn segment(&self, meta: &SegmentMeta) -> io::Result<IncomingSegment> {
        let path = self.path.join(name_of(meta));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut len = file.metadata()?.len();
        if len > meta.length {
            file.set_len(0)?;
            len = 0;
        }
        Ok(IncomingSegment { file, len, unsynced: 0 })
    }

    /// Brings a segment that is all there to the disk, and checks every frame of it. One that is not sound is deleted.
    ///
    /// # Errors
    /// `InvalidData`: it is not what its facts say.
    pub fn close(&self, segment: IncomingSegment, meta: &SegmentMeta) -> io::Result<()> {
        segment.file.sync_all()?;
        let checked = self.check(&segment, meta);
        if checked.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::InvalidData) {
            fs::remove_file(self.path.join(name_of(meta)))?;
        }
        checked
    }

    fn check(&self, segment: &IncomingSegment, meta: &SegmentMeta) -> io::Result<()> {
        let IncomingSegment { file, len, .. } = segment;
        let header = read_header(file, *len)?.map_err(unsound)?;
        let said = SegmentHeader {
            generation: meta.generation,
            end_offset: meta.end_offset,
            end_index: meta.end_index,
            last_term: meta.last_term,
            cleaned_end: meta.cleaned_end,
            ..SegmentHeader::new(self.id, meta.base_offset, meta.base_index, meta.prev_term)
        };
        if header != said || *len != meta.length {
            return Err(unsound("a fetched segment is another than was told"));
        }
        let start = SegmentEnd {
            position: SEGMENT_HEADER_LEN,
            offset: meta.base_offset,
            index: meta.base_index,
            last_term: meta.prev_term,
            max_timestamp: Timestamp::NONE,
        };
        let scan = Scan {
            file,
            len: *len,
            base_offset: meta.base_offset,
            compacted: true,
            start,
            index_interval_bytes: CHECK_INTERVAL_BYTES,
        };
        let mut index = SegmentIndex::new(meta.base_offset, meta.base_index);
        let scanned = scan.run(&mut index, &mut |_, _| {})?;
        match scanned.bad {
            Some(bad) => Err(unsound(bad)),
            None if scanned.end.offset > meta.end_offset => Err(unsound("a fetched segment ends too late")),
            None => Ok(()),
        }
    }

    /// Adds the active segment and brings all to the disk: from now on it is whole. The segments were closed.
    pub fn finish(&self, segments: &[SegmentMeta], start: LogStart) -> io::Result<()> {
        let names: Vec<String> = segments.iter().map(name_of).collect();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if !names.iter().any(|name| entry.file_name() == name.as_str()) {
                fs::remove_file(entry.path())?;
            }
        }
        let dir = Arc::new(PartitionDir::new(self.path.clone()));
        let active = Active::create(self.id, &dir, &self.dir.handles, start).map_err(io::Error::other)?;
        active.file.file.sync_all()?;
        sync_dir(&self.path)?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }

    /// Whether just these segments and the active one lie there, each of its length.
    pub fn is_whole(&self, segments: &[SegmentMeta], start: LogStart) -> bool {
        let active = SegmentName { base_offset: start.base_offset, generation: 0 }.log();
        let wanted = segments.iter().map(|meta| (name_of(meta), meta.length)).chain([(active, SEGMENT_HEADER_LEN)]);
        let has = |(name, len): (String, u64)| fs::metadata(self.path.join(name)).is_ok_and(|found| found.len() == len);
        let count = fs::read_dir(&self.path).map_or(0, Iterator::count);
        count == segments.len() + 1 && wanted.into_iter().all(has)
    }
}

impl IncomingSegment {
    /// Bytes that are there.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is there yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_EVERY_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

impl LogStart {
    /// The position after the header of the segment that begins there.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            base_offset: self.base_offset,
            position: SEGMENT_HEADER_LEN,
            next_index: self.next_index,
            next_offset: self.base_offset,
            last_term: self.prev_term,
            max_timestamp: Timestamp::NONE,
        }
    }
}
