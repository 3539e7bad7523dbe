//! One segment, shared by the log that writes it and by its readers.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use millstream_core::types::{Offset, RaftIndex, RaftTerm, Timestamp};
use tracing::warn;

use super::error::{LostPlace, ReadError};
use super::frame::{FrameError, SEGMENT_HEADER_LEN};
use super::handles::{HandleCache, HeldIndex};
use super::index::{Place, SegmentIndex};
use super::index_file::{self, IndexOf};
use super::names::SegmentName;
use super::partition_dir::PartitionDir;
use super::walk::{Patience, Walk};

/// Where a segment ends. Of the active one it moves with each append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentEnd {
    pub position: u64,
    pub offset: Offset,
    pub index: RaftIndex,
    pub last_term: RaftTerm,
    pub max_timestamp: Timestamp,
}

impl SegmentEnd {
    /// As the start of a scan or of a walk.
    pub fn place(&self) -> Place {
        Place {
            position: self.position,
            offset: self.offset,
            index: self.index,
            max_timestamp_before: self.max_timestamp,
        }
    }
}

pub(super) enum IndexState {
    /// Of the active segment: grows in place.
    Growing(SegmentIndex),
    Closed(Option<HeldIndex>),
}

pub(super) struct Live {
    pub end: SegmentEnd,
    pub index: IndexState,
}

const ASK_TRIES: usize = 8;

/// Places where readers stopped, so that the next read need not search: relative offset and position in one word.
const HINTS: usize = 8;
const NO_HINT: u64 = u64::MAX;

/// Of a closed segment the file and the index may be closed at any time: see `HandleCache`.
pub(super) struct Segment {
    pub dir: Arc<PartitionDir>,
    pub name: SegmentName,
    pub base_index: RaftIndex,
    pub prev_term: RaftTerm,
    live: RwLock<Live>,
    file: Mutex<Option<Arc<File>>>,
    handles: Arc<HandleCache>,
    used: AtomicBool,
    /// Known to the cache of handles.
    listed: AtomicBool,
    hints: [AtomicU64; HINTS],
}

/// What identifies a new `Segment`.
pub(super) struct SegmentOf {
    pub dir: Arc<PartitionDir>,
    pub handles: Arc<HandleCache>,
    pub name: SegmentName,
    pub base_index: RaftIndex,
    pub prev_term: RaftTerm,
}

impl Segment {
    pub fn new(of: SegmentOf, end: SegmentEnd, index: IndexState, file: Option<Arc<File>>) -> Arc<Self> {
        Arc::new(Self {
            dir: of.dir,
            name: of.name,
            base_index: of.base_index,
            prev_term: of.prev_term,
            live: RwLock::new(Live { end, index }),
            file: Mutex::new(file),
            handles: of.handles,
            used: AtomicBool::new(true),
            listed: AtomicBool::new(false),
            hints: [const { AtomicU64::new(NO_HINT) }; HINTS],
        })
    }

    pub fn base_offset(&self) -> Offset {
        self.name.base_offset
    }

    /// Holds no raft indexes.
    pub fn is_compacted(&self) -> bool {
        self.name.generation > 0
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join(self.name.log())
    }

    pub fn index_path(&self) -> PathBuf {
        self.dir.path().join(self.name.index())
    }

    pub fn end(&self) -> SegmentEnd {
        self.read_live().end
    }

    pub fn read_live(&self) -> std::sync::RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the log's owner only.
    pub fn write_live(&self) -> std::sync::RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_file(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file.
    pub fn file(self: &Arc<Self>, patience: Patience) -> Result<Arc<File>, ReadError> {
        self.used.store(true, Ordering::Relaxed);
        let mut slot = self.lock_file();
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        if patience == Patience::CacheOnly {
            return Err(ReadError::Cold);
        }
        let file = Arc::new(File::open(self.path()).map_err(|e| self.open_error(e))?);
        *slot = Some(file.clone());
        drop(slot);
        self.handles.opened(self);
        Ok(file)
    }

    fn open_error(&self, e: io::Error) -> ReadError {
        if e.kind() == io::ErrorKind::NotFound {
            ReadError::Gone { base_offset: self.base_offset() }
        } else {
            self.io_error(e)
        }
    }

    /// Makes a file that was opened elsewhere the segment's.
    pub fn set_file(&self, file: Arc<File>) {
        *self.lock_file() = Some(file);
    }

    /// Used since the last sweep?
    pub fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Sets the mark that the cache of handles lists the segment; was it set before?
    pub fn was_listed(&self) -> bool {
        self.listed.swap(true, Ordering::Relaxed)
    }

    /// Closes file and index of a closed segment, unless someone is at it just now. It is then no longer listed.
    pub fn try_close(&self) -> bool {
        let (Ok(mut slot), Ok(mut live)) = (self.file.try_lock(), self.live.try_write()) else {
            return false;
        };
        if let IndexState::Closed(index) = &mut live.index {
            *index = None;
            *slot = None;
        }
        // An active segment's file stays open: no sweep is its business.
        self.listed.store(false, Ordering::Relaxed);
        true
    }

    /// Asks the index, which is loaded or rebuilt if need be. `None` of `ask`: the index does not reach back so far.
    pub fn ask_index<T>(
        self: &Arc<Self>,
        patience: Patience,
        ask: impl Fn(&SegmentIndex) -> Option<T>,
    ) -> Result<T, ReadError> {
        // A sweep may close an index as soon as it was loaded: hardly twice, and never without end.
        for _ in 0..ASK_TRIES {
            let live = self.read_live();
            let answer = match &live.index {
                IndexState::Growing(index) => ask(index),
                IndexState::Closed(Some(held)) => ask(&held.index),
                IndexState::Closed(None) => None,
            };
            drop(live);
            match answer {
                Some(answer) => return Ok(answer),
                None if patience == Patience::CacheOnly => return Err(ReadError::Cold),
                None => self.load_index()?,
            }
        }
        Err(self.corrupt(0, &FrameError::NoHeader))
    }

    /// Loads the index of a closed segment, or completes that of an active one opened from a checkpoint.
    fn load_index(self: &Arc<Self>) -> Result<(), ReadError> {
        let (end, start) = {
            let live = self.read_live();
            match &live.index {
                IndexState::Growing(index) => (live.end, Some(index.start())),
                IndexState::Closed(_) => (live.end, None),
            }
        };
        if let Some(start) = start {
            let head = self.index_by_walk(start.position)?;
            let mut live = self.write_live();
            // Another reader, or a truncation, may have been quicker.
            if let IndexState::Growing(index) = &mut live.index
                && !index.is_complete()
                && index.start() == start
            {
                index.complete(head);
            }
            return Ok(());
        }
        let of = self.index_of(end.position);
        let loaded = fs::read(self.index_path()).ok().and_then(|bytes| index_file::decode(of, &bytes));
        let index = match loaded {
            Some(index) => index,
            None => {
                let index = self.index_by_walk(end.position)?;
                self.write_index(end.position, &index);
                index
            }
        };
        let mut live = self.write_live();
        if let IndexState::Closed(slot) = &mut live.index {
            *slot = Some(self.hold(index));
        }
        drop(live);
        // Counted with the open file, so that a sweep comes by.
        self.file(Patience::Wait)?;
        self.handles.opened(self);
        Ok(())
    }

    /// The index of a closed segment, counted among those in memory.
    pub fn hold(&self, mut index: SegmentIndex) -> HeldIndex {
        index.shrink();
        self.handles.hold(index)
    }

    fn index_of(&self, length: u64) -> IndexOf {
        IndexOf { name: self.name, base_index: self.base_index, length }
    }

    /// Entries of the active segment's index.
    pub fn index_points(&self) -> usize {
        match &self.read_live().index {
            IndexState::Growing(index) => index.points.len(),
            IndexState::Closed(_) => 0,
        }
    }

    /// Writes the `.index`. It is not synced and may fail: it is checked when read, and can be rebuilt.
    pub fn write_index(&self, length: u64, index: &SegmentIndex) {
        let path = self.index_path();
        if let Err(e) = fs::write(&path, index_file::encode(self.index_of(length), index)) {
            warn!(path = %path.display(), error = %e, "index not written, it will be rebuilt when needed");
        }
    }

    /// The index of all frames before `end`, by their headers.
    fn index_by_walk(self: &Arc<Self>, end: u64) -> Result<SegmentIndex, ReadError> {
        let file = self.file(Patience::Wait)?;
        let mut index = SegmentIndex::new(self.base_offset(), self.base_index);
        let mut walk = Walk::new(self, &file, SEGMENT_HEADER_LEN, end, Patience::Wait);
        let (mut next_index, mut max_timestamp) = (self.base_index, Timestamp::NONE);
        while let Some(mut head) = walk.next()? {
            head.frame.index = next_index;
            index.note(head.position, &head.frame, max_timestamp, REBUILT_INTERVAL_BYTES);
            max_timestamp = max_timestamp.max(head.frame.max_timestamp);
            if !self.is_compacted() {
                next_index = next_index.next();
            }
        }
        Ok(index)
    }

    fn hint_slot(&self, relative: u32) -> &AtomicU64 {
        // Spread neighbouring offsets; any slot will do.
        let at = (relative.wrapping_mul(0x9e37_79b1) >> 16) as usize % HINTS;
        &self.hints[at]
    }

    fn relative(&self, offset: Offset) -> Option<u32> {
        u32::try_from(offset.0.checked_sub(self.base_offset().0)?).ok()
    }

    /// Where a reader that stopped before `offset` goes on.
    pub fn hint(&self, offset: Offset) -> Option<u64> {
        let relative = self.relative(offset)?;
        let hint = self.hint_slot(relative).load(Ordering::Relaxed);
        (hint >> 32 == u64::from(relative) && hint != NO_HINT).then_some(hint & u64::from(u32::MAX))
    }

    /// Remembers that the frames before `position` end below `offset`, and the rest begin there or later.
    pub fn set_hint(&self, offset: Offset, position: u64) {
        if let (Some(relative), Ok(position)) = (self.relative(offset), u32::try_from(position)) {
            let hint = u64::from(relative) << 32 | u64::from(position);
            self.hint_slot(relative).store(hint, Ordering::Relaxed);
        }
    }

    pub fn clear_hints(&self) {
        for hint in &self.hints {
            hint.store(NO_HINT, Ordering::Relaxed);
        }
    }

    pub fn corrupt(&self, position: u64, why: &FrameError) -> ReadError {
        ReadError::Corrupt { place: LostPlace { path: self.path(), position, reason: why.to_string() } }
    }

    pub fn io_error(&self, source: io::Error) -> ReadError {
        ReadError::Io { path: self.path(), source }
    }
}

/// Interval of an index that is rebuilt without the topic's config at hand: Kafka's default.
const REBUILT_INTERVAL_BYTES: u32 = 4096;
