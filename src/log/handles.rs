//! Open files and indexes of closed segments: the ones not used of late are closed when there are too many.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::segment::Segment;

/// A clock over the open segments of a data directory: each use sets a flag, a sweep closes those without.
pub(super) struct HandleCache {
    open_max: usize,
    open: Mutex<Vec<Weak<Segment>>>,
}

impl HandleCache {
    pub fn new(open_max: usize) -> Self {
        Self { open_max: open_max.max(1), open: Mutex::new(Vec::new()) }
    }

    /// A closed segment's file was opened, or the active one was closed with its file open.
    pub fn opened(&self, opened: &Arc<Segment>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.was_listed() {
            return;
        }
        open.push(Arc::downgrade(opened));
        if open.len() <= self.open_max {
            return;
        }
        let keep = self.open_max - self.open_max / 4;
        let mut left = open.len();
        // The second pass finds the flags cleared by the first.
        for _ in 0..2 {
            open.retain(|segment| {
                let Some(segment) = segment.upgrade() else {
                    left -= 1;
                    return false;
                };
                // Not the one that is about to be used.
                let stays = left <= keep || Arc::ptr_eq(&segment, opened) || segment.was_used();
                if stays || !segment.try_close() {
                    return true;
                }
                left -= 1;
                false
            });
            if left <= keep {
                return;
            }
        }
    }
}
