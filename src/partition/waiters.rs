//! Fetches that wait for more bytes: woken by the commit, never by polling.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use super::handle::Partition;

/// One parked fetch, over any number of partitions.
pub struct FetchWait {
    inner: Arc<Inner>,
    partitions: Vec<Arc<Partition>>,
}

struct Inner {
    /// Bytes that must be committed before it is worth waking; at or below zero: awake.
    missing: AtomicI64,
    awake: Notify,
}

/// The fetches that wait at a partition.
#[derive(Default)]
pub(super) struct Waiters {
    /// Mirrors the list's length, so that a commit nobody waits for takes no lock.
    count: AtomicUsize,
    list: Mutex<Vec<Weak<Inner>>>,
}

impl FetchWait {
    /// Registers at every partition. Look at them once more after this: what was committed before does not wake.
    /// `missing_bytes`: wake when this much was committed.
    pub fn register(partitions: Vec<Arc<Partition>>, missing_bytes: i64) -> Self {
        let inner = Arc::new(Inner { missing: AtomicI64::new(missing_bytes.max(1)), awake: Notify::new() });
        for partition in &partitions {
            partition.waiters.add(&inner);
        }
        Self { inner, partitions }
    }

    /// Ends when enough was committed since the registration or the last `rearm`, or something changed that a reader
    /// must be told.
    pub async fn woken(&self) {
        self.inner.awake.notified().await;
    }

    /// Waits for this many bytes more.
    pub fn rearm(&self, missing_bytes: i64) {
        self.inner.missing.store(missing_bytes.max(1), Ordering::Release);
    }
}

impl Drop for FetchWait {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.waiters.remove(&self.inner);
        }
    }
}

impl Waiters {
    fn add(&self, wait: &Arc<Inner>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Arc::downgrade(wait));
        self.count.store(list.len(), Ordering::SeqCst);
    }

    fn remove(&self, wait: &Arc<Inner>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = list.iter().position(|w| std::ptr::eq(w.as_ptr(), Arc::as_ptr(wait))) {
            list.swap_remove(at);
        }
        self.count.store(list.len(), Ordering::SeqCst);
    }

    /// So many bytes were committed; the watermark is published already.
    pub(super) fn committed(&self, bytes: i64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for wait in self.list.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(wait) = wait.upgrade()
                && wait.missing.fetch_sub(bytes, Ordering::AcqRel) <= bytes
            {
                wait.awake.notify_one();
            }
        }
    }

    /// Leadership or the log start changed.
    pub(super) fn changed(&self) {
        self.committed(i64::MAX / 2);
    }
}
