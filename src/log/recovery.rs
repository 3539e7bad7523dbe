//! Opening a log: what is known is believed, the rest is scanned, a torn tail is cut.
//!
//! A closed segment is believed without a look into it when its stored meta fits its file and ends at or below the
//! synced end. All else is read frame by frame. The first bad frame at or beyond the synced end is a torn write: the
//! log is cut there. Before it, something that was on disk is gone: the log is lost, and nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::types::{Offset, PartitionId, RaftIndex, RaftTerm, Timestamp};
use tracing::{info, warn};

use super::config::LogConfig;
use super::data_dir::DataDir;
use super::entry::ScannedFrame;
use super::error::{LogError, LostPlace, OpenError, ReadError};
use super::files::{FoundFile, PartitionFiles};
use super::frame::{FrameError, SEGMENT_HEADER_LEN, SegmentHeader};
use super::index::SegmentIndex;
use super::meta::{Checkpoint, SegmentMeta};
use super::names::SegmentName;
use super::partition_dir::PartitionDir;
use super::scan::{Scan, Scanned, read_header};
use super::segment::{IndexState, Segment, SegmentEnd, SegmentOf};
use super::truncate::{first_timestamp, reopen};
use super::writer::{Active, Closed, Log, LogEvent, LogStart};

/// What the store knew of the log.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Of closed segments, in any order.
    pub segments: Vec<SegmentMeta>,
    /// Stored once its place was synced.
    pub checkpoint: Option<Checkpoint>,
    /// Index after the last entry known to be synced.
    pub synced_end: Option<RaftIndex>,
}

/// A log that was opened, and what the store has to learn of it.
#[derive(Debug)]
pub struct Opened {
    pub log: Log,
    pub events: Vec<LogEvent>,
}

impl Log {
    /// Opens, scans from the checkpoint, cuts a torn tail. `on_frame` gets each frame after the checkpoint; without a
    /// checkpoint each frame of the whole log, those of compacted segments (index 0) included. What was kept may be in
    /// the page cache only: sync it (`DataDir::sync_all_blocking`) before anything rests on it.
    pub fn open(
        dir: &Arc<DataDir>,
        id: PartitionId,
        config: LogConfig,
        known: Known,
        on_frame: &mut dyn FnMut(&ScannedFrame<'_>),
    ) -> Result<Opened, OpenError> {
        let partition_dir = Arc::new(dir.partition_dir(id));
        let checkpointed = known.checkpoint.map(|checkpoint| checkpoint.next_index);
        let trusted_end = known.synced_end.max(checkpointed).unwrap_or(RaftIndex(0));
        let files = match PartitionFiles::list(&partition_dir, &known.segments) {
            Ok(files) if files.segments.is_empty() => return Err(none_left(&partition_dir, trusted_end)),
            Ok(files) => files,
            Err(e) => return Err(e),
        };
        let recovery = Recovery {
            data_dir: dir,
            id,
            config,
            dir: partition_dir,
            known: known.segments.iter().map(|meta| (meta.base_offset, *meta)).collect(),
            checkpoint: known.checkpoint,
            trusted_end,
            on_frame,
            closed: Vec::new(),
            tail: None,
            learned: BTreeSet::new(),
        };
        recovery.run(files)
    }
}

fn none_left(dir: &PartitionDir, trusted_end: RaftIndex) -> OpenError {
    if trusted_end == RaftIndex(0) {
        return OpenError::Newborn;
    }
    OpenError::Lost {
        place: LostPlace { path: dir.path().to_owned(), position: 0, reason: "no segment is left".into() },
    }
}

pub(super) fn open_io(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}

impl From<LogError> for OpenError {
    fn from(e: LogError) -> Self {
        match e {
            LogError::Io { path, source } | LogError::Read(ReadError::Io { path, source }) => Self::Io { path, source },
            LogError::Read(ReadError::Corrupt { place }) => Self::Lost { place },
            e => Self::Io { path: PathBuf::new(), source: io::Error::other(e) },
        }
    }
}

/// Where the next segment has to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tail {
    offset: Offset,
    index: RaftIndex,
    term: RaftTerm,
}

impl From<SegmentEnd> for Tail {
    fn from(end: SegmentEnd) -> Self {
        Self { offset: end.offset, index: end.index, term: end.last_term }
    }
}

struct Recovery<'a> {
    data_dir: &'a Arc<DataDir>,
    id: PartitionId,
    config: LogConfig,
    dir: Arc<PartitionDir>,
    known: BTreeMap<Offset, SegmentMeta>,
    checkpoint: Option<Checkpoint>,
    /// Entries below were synced.
    trusted_end: RaftIndex,
    on_frame: &'a mut dyn FnMut(&ScannedFrame<'_>),
    closed: Vec<Closed>,
    tail: Option<Tail>,
    /// Closed segments whose meta the store has to learn.
    learned: BTreeSet<Offset>,
}

/// What became of one file.
enum Taken {
    Closed,
    /// The log ends in this segment.
    Active(Box<Active>),
    /// The file holds nothing of the log: it ends before.
    Nothing,
}

impl Recovery<'_> {
    fn run(mut self, files: PartitionFiles) -> Result<Opened, OpenError> {
        let segments = files.segments;
        let mut active = None;
        for (at, file) in segments.iter().enumerate() {
            match self.take(file, segments.get(at + 1))? {
                Taken::Closed => {}
                Taken::Active(found) => active = Some((at + 1, *found)),
                Taken::Nothing if at == 0 => return Err(OpenError::Newborn),
                Taken::Nothing => {
                    let at_end = self.last_closed_again()?;
                    active = Some((at, at_end));
                }
            }
            if active.is_some() {
                break;
            }
        }
        let (used, active) = match active {
            Some(active) => active,
            // A compaction ended, and the crash took the segment that was active then, which held nothing synced.
            None => (segments.len(), self.new_active()?),
        };
        let end = active.segment.end();
        if end.index < self.trusted_end {
            let reason =
                format!("the log ends before index {}, synced were all before {}", end.index, self.trusted_end);
            let place = LostPlace { path: active.segment.path(), position: end.position, reason };
            return Err(OpenError::Lost { place });
        }
        // Only now, when nothing is lost, is anything changed. The last first: a crash leaves no gap. A torn file may
        // have become the active one: made again under its own name.
        for file in segments[used..].iter().rev().filter(|file| file.name != active.segment.name) {
            self.remove(file.name)?;
        }
        let path = active.segment.path();
        // Cuts what is torn and gives back what was reserved.
        active.file.file.set_len(end.position).map_err(|e| open_io(&path, e))?;
        files.leftovers.iter().for_each(|path| remove_leftover(path));
        let events = self.events(&active);
        let log = Log::assemble(self.data_dir, self.id, self.config, self.dir, self.closed, active);
        Ok(Opened { log, events })
    }

    /// What the store has to forget and to learn.
    fn events(&self, active: &Active) -> Vec<LogEvent> {
        let kept: BTreeMap<Offset, SegmentMeta> =
            self.closed.iter().map(|closed| (closed.meta.base_offset, closed.meta)).collect();
        let active = active.segment.base_offset();
        let gone = self.known.keys().filter(|base| !kept.contains_key(base) || **base == active);
        let removed = gone.map(|base| LogEvent::SegmentRemoved(*base));
        let learned = self.learned.iter().filter_map(|base| kept.get(base)).map(|meta| LogEvent::SegmentClosed(*meta));
        removed.chain(learned).collect()
    }

    /// Takes the next file in. `next`: the one after it.
    fn take(&mut self, file: &FoundFile, next: Option<&FoundFile>) -> Result<Taken, OpenError> {
        if next.is_some()
            && let Some(meta) = self.believed(file)
        {
            self.push_closed(file, meta, IndexState::Closed(None));
            return Ok(Taken::Closed);
        }
        let path = self.dir.path().join(file.name.log());
        let open = || OpenOptions::new().read(true).write(true).open(&path);
        let handle = Arc::new(open().map_err(|e| open_io(&path, e))?);
        let header = read_header(&handle, file.len).map_err(|e| open_io(&path, e))?;
        let header = match header.and_then(|header| self.check_header(file, &header).map(|()| header)) {
            Ok(header) => header,
            Err(e) => return self.bad_header(&path, file, e),
        };
        if header.generation > 0 && self.closed.last().is_some_and(|closed| !closed.meta.is_compacted()) {
            return Err(lost(&path, 0, &FrameError::OutOfPlace));
        }
        let (index, scanned) = self.scan(file, &header, &handle)?;
        if let Some(bad) = &scanned.bad
            && !self.goes_on_in(next, scanned.end)
        {
            self.must_be_torn(&path, scanned.end.position, scanned.end.index, bad)?;
            if header.generation > 0 {
                return Err(lost(&path, scanned.end.position, bad));
            }
            return self.make_active(file, &header, scanned.end, index, handle);
        }
        if next.is_none() && header.generation == 0 {
            return self.make_active(file, &header, scanned.end, index, handle);
        }
        self.close_scanned(file, &header, scanned, index)?;
        Ok(Taken::Closed)
    }

    /// The stored meta of a segment that need not be looked into.
    fn believed(&self, file: &FoundFile) -> Option<SegmentMeta> {
        let checkpoint = self.checkpoint?;
        let meta = *self.known.get(&file.name.base_offset)?;
        let fits = meta.generation == file.name.generation && meta.length == file.len;
        // The caller wants the frames after the checkpoint.
        let settled = meta.end_index <= self.trusted_end && meta.end_index <= checkpoint.next_index;
        let start = Tail { offset: meta.base_offset, index: meta.base_index, term: meta.prev_term };
        let follows = self.tail.is_none_or(|tail| tail == start);
        (fits && settled && follows).then_some(meta)
    }

    fn check_header(&self, file: &FoundFile, header: &SegmentHeader) -> Result<(), FrameError> {
        let unexpected = |field, found: u64, expected: u64| Err(FrameError::Continuity { field, found, expected });
        if header.partition != self.id {
            return Err(FrameError::Foreign(header.partition));
        }
        let (offset, named) = (header.base_offset.0.cast_unsigned(), file.name.base_offset.0.cast_unsigned());
        if offset != named || header.generation != file.name.generation {
            return unexpected("base offset", offset, named);
        }
        match self.tail {
            Some(tail) if tail.offset != header.base_offset => {
                unexpected("base offset", offset, tail.offset.0.cast_unsigned())
            }
            Some(tail) if tail.index != header.base_index => {
                unexpected("base index", header.base_index.0, tail.index.0)
            }
            Some(tail) if tail.term != header.prev_term => unexpected("previous term", header.prev_term.0, tail.term.0),
            _ => Ok(()),
        }
    }

    /// The file does not begin as the next segment must.
    fn bad_header(&self, path: &Path, file: &FoundFile, bad: FrameError) -> Result<Taken, OpenError> {
        let next = self.tail.map_or(RaftIndex(0), |tail| tail.index);
        // Compacted segments are whole before they get their name.
        if file.name.generation > 0 {
            return Err(lost(path, 0, &bad));
        }
        self.must_be_torn(path, 0, next, &bad)?;
        Ok(Taken::Nothing)
    }

    /// Bad bytes where the entry `next` should be: fine at or beyond the synced end only. A file that a newer version
    /// wrote is never cut.
    fn must_be_torn(&self, path: &Path, position: u64, next: RaftIndex, bad: &FrameError) -> Result<(), OpenError> {
        if next < self.trusted_end || matches!(bad, FrameError::Format(_) | FrameError::Foreign(_)) {
            return Err(lost(path, position, bad));
        }
        info!(path = %path.display(), position, %next, reason = %bad, "torn tail is cut");
        Ok(())
    }

    fn scan(
        &mut self,
        file: &FoundFile,
        header: &SegmentHeader,
        handle: &File,
    ) -> Result<(SegmentIndex, Scanned), OpenError> {
        let compacted = header.generation > 0;
        let begin = SegmentEnd {
            position: SEGMENT_HEADER_LEN,
            offset: header.base_offset,
            index: header.base_index,
            last_term: header.prev_term,
            max_timestamp: Timestamp::NONE,
        };
        let (start, index) = match self.checkpoint_in(file, header) {
            Some(start) => (start, SegmentIndex::starting_at(header.base_offset, header.base_index, start.place())),
            None => (begin, SegmentIndex::new(header.base_offset, header.base_index)),
        };
        let mut index = index;
        let wanted_from = self.checkpoint.map(|checkpoint| checkpoint.next_index);
        let on_frame = &mut *self.on_frame;
        let mut each = |frame: &ScannedFrame<'_>, _: u64| {
            if wanted_from.is_none_or(|from| !compacted && frame.descriptor.index >= from) {
                on_frame(frame);
            }
        };
        let scan = Scan {
            file: handle,
            len: file.len,
            base_offset: header.base_offset,
            compacted,
            start,
            index_interval_bytes: self.config.index_interval_bytes,
        };
        let scanned = scan.run(&mut index, &mut each);
        let scanned = scanned.map_err(|e| open_io(&self.dir.path().join(file.name.log()), e))?;
        Ok((index, scanned))
    }

    /// The checkpoint, if it lies in this segment as it is now.
    fn checkpoint_in(&self, file: &FoundFile, header: &SegmentHeader) -> Option<SegmentEnd> {
        let checkpoint = self.checkpoint?;
        let inside = checkpoint.base_offset == header.base_offset
            && header.generation == 0
            && (SEGMENT_HEADER_LEN..=file.len).contains(&checkpoint.position)
            && checkpoint.next_index >= header.base_index
            && checkpoint.next_offset >= header.base_offset;
        inside.then_some(SegmentEnd {
            position: checkpoint.position,
            offset: checkpoint.next_offset,
            index: checkpoint.next_index,
            last_term: checkpoint.last_term,
            max_timestamp: checkpoint.max_timestamp,
        })
    }

    /// The next file begins just where the sound frames of this one end: what is between them is no part of the log.
    fn goes_on_in(&self, next: Option<&FoundFile>, end: SegmentEnd) -> bool {
        let Some(next) = next else { return false };
        let path = self.dir.path().join(next.name.log());
        let header = File::open(path).and_then(|file| read_header(&file, next.len));
        matches!(header, Ok(Ok(header)) if header.partition == self.id
            && header.base_offset == next.name.base_offset
            && Tail { offset: header.base_offset, index: header.base_index, term: header.prev_term } == end.into())
    }

    fn segment_of(&self, name: SegmentName, base_index: RaftIndex, prev_term: RaftTerm) -> SegmentOf {
        SegmentOf { dir: self.dir.clone(), handles: self.data_dir.handles.clone(), name, base_index, prev_term }
    }

    fn make_active(
        &mut self,
        file: &FoundFile,
        header: &SegmentHeader,
        end: SegmentEnd,
        index: SegmentIndex,
        handle: Arc<File>,
    ) -> Result<Taken, OpenError> {
        let of = self.segment_of(file.name, header.base_index, header.prev_term);
        let segment = Segment::new(of, end, IndexState::Growing(index), Some(handle.clone()));
        let mut active = Active::new(segment, handle);
        active.first_timestamp = first_timestamp(&active.segment)?;
        Ok(Taken::Active(Box::new(active)))
    }

    /// A closed segment that was read to its end.
    fn close_scanned(
        &mut self,
        file: &FoundFile,
        header: &SegmentHeader,
        scanned: Scanned,
        index: SegmentIndex,
    ) -> Result<(), OpenError> {
        let end = scanned.end;
        let compacted = header.generation > 0;
        let mut meta = SegmentMeta {
            base_offset: header.base_offset,
            generation: header.generation,
            end_offset: if compacted { header.end_offset } else { end.offset },
            base_index: header.base_index,
            end_index: if compacted { header.end_index } else { end.index },
            prev_term: header.prev_term,
            last_term: if compacted { header.last_term } else { end.last_term },
            length: end.position,
            max_timestamp: end.max_timestamp,
            first_timestamp: Timestamp::NONE,
            cleaned_end: header.cleaned_end,
        };
        let path = self.dir.path().join(file.name.log());
        if compacted && end.offset > meta.end_offset {
            let bad = FrameError::Continuity {
                field: "end offset",
                found: end.offset.0.cast_unsigned(),
                expected: meta.end_offset.0.cast_unsigned(),
            };
            return Err(lost(&path, end.position, &bad));
        }
        if scanned.bad.is_some() {
            warn!(path = %path.display(), position = end.position, "bytes after the last frame are cut");
            let cut = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(end.position));
            cut.map_err(|e| open_io(&path, e))?;
        }
        let fresh = self.push_closed(file, meta, IndexState::Closed(None));
        meta.first_timestamp = first_timestamp(&fresh)?.unwrap_or(Timestamp::NONE);
        if let Some(closed) = self.closed.last_mut() {
            closed.meta = meta;
        }
        if self.known.get(&meta.base_offset) != Some(&meta) {
            self.learned.insert(meta.base_offset);
        }
        if index.is_complete() && !fresh.index_path().exists() {
            fresh.write_index(meta.length, &index);
        }
        Ok(())
    }

    fn push_closed(&mut self, file: &FoundFile, meta: SegmentMeta, index: IndexState) -> Arc<Segment> {
        let of = self.segment_of(file.name, meta.base_index, meta.prev_term);
        let end = SegmentEnd {
            position: meta.length,
            offset: meta.end_offset,
            index: meta.end_index,
            last_term: meta.last_term,
            max_timestamp: meta.max_timestamp,
        };
        let segment = Segment::new(of, end, index, None);
        self.tail = Some(end.into());
        self.closed.push(Closed { meta, segment: segment.clone() });
        segment
    }

    /// The log ends where the last closed segment does.
    fn last_closed_again(&mut self) -> Result<Active, OpenError> {
        match self.closed.pop_if(|closed| !closed.meta.is_compacted()) {
            Some(closed) => Ok(reopen(&closed.segment)?),
            None => self.new_active(),
        }
    }

    /// An empty active segment after the closed ones.
    fn new_active(&self) -> Result<Active, OpenError> {
        let tail = self.tail.expect("some closed segment was taken in");
        let start = LogStart { next_index: tail.index, prev_term: tail.term, base_offset: tail.offset };
        Ok(Active::create(self.id, &self.dir, &self.data_dir.handles, start)?)
    }

    fn remove(&self, name: SegmentName) -> Result<(), OpenError> {
        for name in [name.log(), name.index()] {
            let path = self.dir.path().join(name);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(open_io(&path, e)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn lost(path: &Path, position: u64, bad: &FrameError) -> OpenError {
    OpenError::Lost { place: LostPlace { path: path.to_owned(), position, reason: bad.to_string() } }
}

fn remove_leftover(path: &Path) {
    if let Err(e) = fs::remove_file(path) {
        warn!(path = %path.display(), error = %e, "leftover stays");
    }
}
