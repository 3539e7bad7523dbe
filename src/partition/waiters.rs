//! Fetches that wait for more bytes: woken by the commit, never by polling.

use std::collections::HashMap;
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
    /// Bytes committed at all partitions since the registration.
    committed: AtomicI64,
    /// Where they are enough.
    enough: AtomicI64,
    awake: Notify,
}

/// What counts as more bytes than anybody waits for.
const VERY_MANY: i64 = 1 << 40;

/// How much was committed at some moment since the registration.
#[derive(Clone, Copy)]
pub struct Mark(i64);

/// The fetches that wait at a partition.
#[derive(Default)]
pub(super) struct Waiters {
    /// Mirrors the list's length, so that a commit nobody waits for takes no lock.
    count: AtomicUsize,
    /// By the address of the wait, which is its own while it is registered.
    list: Mutex<HashMap<usize, Weak<Inner>>>,
}

impl FetchWait {
    /// Registers at every partition. What was committed before does not wake: look at them after this.
    pub fn register(partitions: Vec<Arc<Partition>>) -> Self {
        let inner = Inner { committed: AtomicI64::new(0), enough: AtomicI64::new(i64::MAX), awake: Notify::new() };
        let inner = Arc::new(inner);
        for partition in &partitions {
            partition.waiters.add(&inner);
        }
        Self { inner, partitions }
    }

    /// To be taken before a look at the partitions, and given to [`Self::woken`] after it: what is committed meanwhile
    /// counts as not seen.
    pub fn mark(&self) -> Mark {
        Mark(self.inner.committed.load(Ordering::SeqCst))
    }

    /// Ends when so many bytes were committed since the mark, or something changed that a reader must be told. It may
    /// end too soon.
    pub async fn woken(&self, since: Mark, missing_bytes: i64) {
        let enough = since.0 + missing_bytes.clamp(1, VERY_MANY);
        self.inner.enough.store(enough, Ordering::SeqCst);
        // A commit looks for whom to wake after it was counted: either it sees this store, or we see it counted.
        if self.inner.committed.load(Ordering::SeqCst) < enough {
            self.inner.awake.notified().await;
        }
        self.inner.enough.store(i64::MAX, Ordering::SeqCst);
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
        list.insert(Arc::as_ptr(wait).addr(), Arc::downgrade(wait));
        self.count.store(list.len(), Ordering::SeqCst);
    }

    fn remove(&self, wait: &Arc<Inner>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.remove(&Arc::as_ptr(wait).addr());
        self.count.store(list.len(), Ordering::SeqCst);
    }

    /// So many bytes were committed; the watermark is published already.
    pub(super) fn committed(&self, bytes: i64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for wait in self.list.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let Some(wait) = wait.upgrade() else { continue };
            if wait.committed.fetch_add(bytes, Ordering::SeqCst) + bytes >= wait.enough.load(Ordering::SeqCst) {
                wait.awake.notify_one();
            }
        }
    }

    /// Leadership or the log start changed.
    pub(super) fn changed(&self) {
        self.committed(VERY_MANY);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_woken(wait: &FetchWait, since: Mark, missing_bytes: i64) -> bool {
        pin!(wait.woken(since, missing_bytes)).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn what_is_committed_between_a_look_and_the_wait_counts() {
        let waiters = Waiters::default();
        let wait = FetchWait::register(Vec::new());
        waiters.add(&wait.inner);
        let first = wait.mark();
        assert!(!is_woken(&wait, first, 100));
        // Seen by the second look or not: 60 of the 100 are there.
        waiters.committed(60);
        assert!(!is_woken(&wait, first, 100));
        waiters.committed(40);
        assert!(is_woken(&wait, first, 100));
        let second = wait.mark();
        assert!(is_woken(&wait, second, 1), "a wake that was not needed any more ends the next wait");
        assert!(!is_woken(&wait, second, 1));
        waiters.changed();
        assert!(is_woken(&wait, second, i64::MAX));
    }

    #[test]
    fn a_wait_stands_once_at_a_partition_however_often_it_is_named() {
        let waiters = Waiters::default();
        let (one, two) = (FetchWait::register(Vec::new()), FetchWait::register(Vec::new()));
        for wait in [&one, &one, &two] {
            waiters.add(&wait.inner);
        }
        let mark = one.mark();
        waiters.committed(60);
        assert!(!is_woken(&one, mark, 100), "counted once");
        waiters.remove(&one.inner);
        assert_eq!(waiters.count.load(Ordering::SeqCst), 1);
        waiters.committed(60);
        assert!(!is_woken(&one, mark, 100), "it is gone");
        assert!(is_woken(&two, Mark(0), 100));
    }
}
