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
    pub fn opened(&self, segment: &Arc<Segment>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::downgrade(segment));
        if open.len() <= self.open_max {
            return;
        }
        let keep = self.open_max - self.open_max / 4;
        // The second pass finds the flags cleared by the first.
        for _ in 0..2 {
            let mut left = open.len();
            open.retain(|segment| {
                let Some(segment) = segment.upgrade() else {
                    left -= 1;
                    return false;
                };
                if left <= keep || segment.was_used() || !segment.try_close() {
                    return true;
                }
                left -= 1;
                false
            });
            if open.len() <= keep {
                return;
            }
        }
    }
}
