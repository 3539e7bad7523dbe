//! Open files and indexes of closed segments: the ones not used of late are closed when there are too many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::index::SegmentIndex;
use super::segment::Segment;

/// A clock over the open segments of a data directory: each use sets a flag, a sweep closes those without.
pub(super) struct HandleCache {
    open_max: usize,
    index_bytes_max: usize,
    open: Mutex<Vec<Weak<Segment>>>,
    /// Of all `HeldIndex`.
    index_bytes: Arc<AtomicUsize>,
}

/// An index in memory, counted until it is dropped.
pub(super) struct HeldIndex {
    pub index: SegmentIndex,
    bytes: usize,
    all_bytes: Arc<AtomicUsize>,
}

impl Drop for HeldIndex {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl HandleCache {
    pub fn new(open_max: usize, index_bytes_max: usize) -> Self {
        let (open, index_bytes) = Default::default();
        Self { open_max: open_max.max(1), index_bytes_max, open, index_bytes }
    }

    /// Bytes of indexes in memory.
    pub fn index_bytes(&self) -> usize {
        self.index_bytes.load(Ordering::Relaxed)
    }

    pub fn hold(&self, index: SegmentIndex) -> HeldIndex {
        let bytes = index.size_bytes();
        self.index_bytes.fetch_add(bytes, Ordering::Relaxed);
        HeldIndex { index, bytes, all_bytes: self.index_bytes.clone() }
    }

    /// A closed segment's file or index was opened, or the active one was closed with both open.
    pub fn opened(&self, opened: &Arc<Segment>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !opened.was_listed() {
            open.push(Arc::downgrade(opened));
        }
        if open.len() <= self.open_max && self.index_bytes() <= self.index_bytes_max {
            return;
        }
        let keep = self.open_max - self.open_max / 4;
        let keep_bytes = self.index_bytes_max - self.index_bytes_max / 4;
        let mut left = open.len();
        // The second pass finds the flags cleared by the first.
        for _ in 0..2 {
            open.retain(|segment| {
                let Some(segment) = segment.upgrade() else {
                    left -= 1;
                    return false;
                };
                let is_enough = left <= keep && self.index_bytes() <= keep_bytes;
                // Not the one that is about to be used.
                let stays = is_enough || Arc::ptr_eq(&segment, opened) || segment.was_used();
                if stays || !segment.try_close() {
                    return true;
                }
                left -= 1;
                false
            });
            if left <= keep && self.index_bytes() <= keep_bytes {
                return;
            }
        }
    }
}
