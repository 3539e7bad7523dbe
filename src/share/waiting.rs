//! Fetches that wait for records to be given back, or for a share-partition to be loaded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::cell::Cell;

/// The fetches that wait at a share-partition, by the address of what wakes them.
#[derive(Default)]
pub(super) struct Waiters(Mutex<HashMap<usize, Arc<Notify>>>);

impl Waiters {
    /// Something can be had that could not, or never will be.
    pub(super) fn wake(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|wait| wait.notify_one());
    }
}

/// One fetch that waits, at any number of share-partitions.
pub(super) struct ShareWait {
    awake: Arc<Notify>,
    cells: Vec<Arc<Cell>>,
}

impl ShareWait {
    /// What changed before does not wake: look after this.
    pub(super) fn register(cells: &[Arc<Cell>]) -> Self {
        let awake = Arc::new(Notify::new());
        for cell in cells {
            let mut waiting = cell.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.insert(Arc::as_ptr(&awake).addr(), Arc::clone(&awake));
        }
        Self { awake, cells: cells.to_vec() }
    }

    /// Ends when something has changed since the last time. It may end too soon.
    pub(super) async fn changed(&self) {
        self.awake.notified().await;
    }
}

impl Drop for ShareWait {
    fn drop(&mut self) {
        for cell in &self.cells {
            let mut waiting = cell.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.remove(&Arc::as_ptr(&self.awake).addr());
        }
    }
}
