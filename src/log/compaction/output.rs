//! A compacted segment on its way to the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use millstream_core::types::{Offset, RaftIndex, Timestamp};
use tracing::warn;

use super::super::entry::Descriptor;
use super::super::frame::SegmentHeader;
use super::super::index::SegmentIndex;
use super::super::io::write_all_at;
use super::super::meta::SegmentMeta;
use super::super::names::SegmentName;
use super::super::retention::remove_files;
use super::super::segment::{IndexState, Segment, SegmentEnd, SegmentOf};
use super::CompactionJob;

/// Bytes gathered for a write.
const WRITE_LEN: usize = 1 << 20;
/// Bytes after which what was written is brought to the disk, so that no flush of others has to wait for all of it.
const SYNC_EVERY: u64 = 8 << 20;

/// An unfinished output.
pub(super) struct Output {
    name: SegmentName,
    path: PathBuf,
    file: File,
    header: SegmentHeader,
    index: SegmentIndex,
    index_interval_bytes: u32,
    buffer: Vec<u8>,
    /// Where the buffer will go.
    written: u64,
    synced: u64,
    max_timestamp: Timestamp,
    first_timestamp: Option<Timestamp>,
}

impl Output {
    pub fn create(job: &CompactionJob, header: SegmentHeader) -> io::Result<Self> {
        let name = SegmentName { base_offset: header.base_offset, generation: header.generation };
        let path = job.dir.path().join(name.unfinished());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let mut buffer = Vec::new();
        header.put(&mut buffer);
        Ok(Self {
            name,
            path,
            file,
            index: SegmentIndex::new(header.base_offset, header.base_index),
            header,
            index_interval_bytes: job.config.index_interval_bytes,
            buffer,
            written: 0,
            synced: 0,
            max_timestamp: Timestamp::NONE,
            first_timestamp: None,
        })
    }

    /// Adds a whole batch as it is.
    pub fn push(&mut self, frame: &Descriptor, batch: &[u8]) -> io::Result<()> {
        let position = self.written + self.buffer.len() as u64;
        let frame = Descriptor { index: RaftIndex(0), ..*frame };
        self.index.note(position, &frame, self.max_timestamp, self.index_interval_bytes);
        self.max_timestamp = self.max_timestamp.max(frame.max_timestamp);
        self.first_timestamp.get_or_insert(frame.max_timestamp);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_LEN {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        write_all_at(&self.file, &mut [IoSlice::new(&self.buffer)], self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.synced >= SYNC_EVERY {
            self.file.sync_data()?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Brings all to the disk, then gives the segment its name. `modified`: when its sources were last written, which
    /// is what retention goes by where records have no timestamps.
    pub fn finish(mut self, job: &CompactionJob, modified: Option<SystemTime>) -> io::Result<Finished> {
        let finished = self.bring_to_disk(modified).and_then(|()| {
            let segment = self.segment(job);
            fs::rename(&self.path, segment.path())?;
            Ok(Finished { meta: self.meta(), segment, keep: false })
        });
        match finished {
            Ok(finished) => job.dir.sync_now().map(|()| finished),
            Err(e) => {
                self.discard();
                Err(e)
            }
        }
    }

    fn bring_to_disk(&mut self, modified: Option<SystemTime>) -> io::Result<()> {
        self.write()?;
        if let Some(modified) = modified {
            self.file.set_modified(modified)?;
        }
        self.file.sync_all()
    }

    fn segment(&self, job: &CompactionJob) -> Arc<Segment> {
        let of = SegmentOf {
            dir: job.dir.clone(),
            handles: job.handles.clone(),
            name: self.name,
            base_index: self.header.base_index,
            prev_term: self.header.prev_term,
        };
        let end = SegmentEnd {
            position: self.written,
            offset: self.header.end_offset,
            index: self.header.end_index,
            last_term: self.header.last_term,
            max_timestamp: self.max_timestamp,
        };
        // The index may be missing or bad after a crash; it is rebuilt then.
        let segment = Segment::new(of, end, IndexState::Closed(None), None);
        segment.write_index(end.position, &self.index);
        segment
    }

    fn meta(&self) -> SegmentMeta {
        SegmentMeta {
            base_offset: self.header.base_offset,
            generation: self.header.generation,
            end_offset: self.header.end_offset,
            base_index: self.header.base_index,
            end_index: self.header.end_index,
            prev_term: self.header.prev_term,
            last_term: self.header.last_term,
            length: self.written,
            max_timestamp: self.max_timestamp,
            first_timestamp: self.first_timestamp.unwrap_or(Timestamp::NONE),
            cleaned_end: self.header.cleaned_end,
        }
    }

    /// Deletes what was written.
    pub fn discard(self) {
        remove_unfinished(&self.path);
    }
}

fn remove_unfinished(path: &Path) {
    if let Err(e) = fs::remove_file(path) {
        warn!(path = %path.display(), error = %e, "unfinished segment stays until the next start");
    }
}

/// A finished output, not yet part of the log in memory. Dropped without being installed it is deleted: the log in
/// memory still stands on its sources.
pub(in super::super) struct Finished {
    pub meta: SegmentMeta,
    pub segment: Arc<Segment>,
    keep: bool,
}

impl Finished {
    pub fn install(mut self) -> (SegmentMeta, Arc<Segment>) {
        self.keep = true;
        (self.meta, self.segment.clone())
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        if !self.keep {
            remove_files(&self.segment);
        }
    }
}

/// The result of a compaction, to be installed.
pub struct Compacted {
    /// Oldest first.
    pub(in super::super) outputs: Vec<Finished>,
    /// Bytes of the sources.
    pub bytes_before: u64,
    /// Bytes of what takes their place.
    pub bytes_after: u64,
    /// Different keys in the part that was dirty.
    pub dirty_keys: usize,
    /// Offset up to which the log is clean now.
    pub cleaned_end: Offset,
    /// Markers of aborted transactions that nothing else is left of, in rising order: no reader need be told of these.
    pub gone: Vec<Offset>,
}

impl Drop for Compacted {
    fn drop(&mut self) {
        // The newest first, so that compacted segments stay the first of the log at any moment.
        while self.outputs.pop().is_some() {}
    }
}

impl std::fmt::Debug for Compacted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compacted")
            .field("bytes_before", &self.bytes_before)
            .field("bytes_after", &self.bytes_after)
            .field("cleaned_end", &self.cleaned_end)
            .finish_non_exhaustive()
    }
}
