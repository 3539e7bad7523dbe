//! The bytes that requests may hold between their arrival and their answer, over all connections.
//!
//! A frame pays for the memory it takes as it takes it, that is, for what has arrived and not for what was announced.
//! Small frames pay nothing as long as few of them wait on their connection, so that heartbeats pass while large
//! requests wait. Frames that have begun and wait for each other's memory would wait for ever: one of them at a time
//! may go beyond the limit, and is cut off when it stops moving.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Frames up to this size are free;
pub(super) const FREE_BYTES: usize = 8 * 1024;
/// as long as those of a connection that are not answered yet are together no more than this.
pub(super) const FREE_BYTES_OF_CONNECTION: usize = 64 * 1024;

/// The memory of all requests of a node.
pub(super) struct RequestMemory {
    free: Arc<Semaphore>,
    beyond: Arc<Semaphore>,
    inflight: IntGauge,
}

/// Bytes that finished replies hold while they wait behind others, over all connections. Files count nothing, nor does
/// the one reply of each connection that is on its way to the socket.
pub(super) struct ReplyMemory {
    limit_bytes: usize,
    held: AtomicUsize,
}

impl ReplyMemory {
    /// `limit_bytes`: of all connections together. Beyond it no connection is read that holds more than a little.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, held: AtomicUsize::new(0) }
    }

    pub(super) fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.limit_bytes
    }
}

/// Memory that one request holds. Given back when dropped.
pub(super) struct Lease {
    memory: Arc<RequestMemory>,
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
    /// Held by the one request that may go beyond the limit.
    beyond: Option<OwnedSemaphorePermit>,
    waiting: Option<Pin<Box<dyn Future<Output = Granted> + Send>>>,
}

enum Granted {
    Within(OwnedSemaphorePermit),
    Beyond(OwnedSemaphorePermit),
}

impl RequestMemory {
    /// `limit_bytes`: of all requests together. Too small: large produce requests come in one by one. Too large: the
    /// system's memory is the limit.
    pub(super) fn new(limit_bytes: usize, inflight: IntGauge) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(limit_bytes.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { free, beyond: Arc::new(Semaphore::new(1)), inflight })
    }

    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        Lease { memory: Arc::clone(self), bytes: 0, permit: None, beyond: None, waiting: None }
    }
}

impl Lease {
    /// Waits until the request may hold `bytes` in all, of which none is to be paid for up to `free_bytes`.
    pub(super) fn poll_grow(&mut self, cx: &mut Context<'_>, bytes: usize, free_bytes: usize) -> Poll<()> {
        if bytes <= self.bytes.max(free_bytes) {
            // It may have waited until now, when more became free: a place in line would keep others waiting.
            self.waiting = None;
            return Poll::Ready(());
        }
        if self.beyond.is_some() {
            self.count(bytes);
            return Poll::Ready(());
        }
        let more = u32::try_from(bytes - self.bytes).unwrap_or(u32::MAX);
        if self.waiting.is_none() {
            if let Ok(permit) = Arc::clone(&self.memory.free).try_acquire_many_owned(more) {
                self.take(Granted::Within(permit));
                self.count(bytes);
                return Poll::Ready(());
            }
            self.waiting = Some(Box::pin(wait(Arc::clone(&self.memory), more)));
        }
        let Some(waiting) = self.waiting.as_mut() else { return Poll::Pending };
        match waiting.as_mut().poll(cx) {
            Poll::Ready(granted) => {
                self.waiting = None;
                self.take(granted);
                self.count(bytes);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether it holds memory that others may wait for.
    pub(super) fn is_held(&self) -> bool {
        self.bytes > 0
    }

    /// Whether it waits for others to give memory back.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    fn take(&mut self, granted: Granted) {
        match granted {
            Granted::Beyond(permit) => self.beyond = Some(permit),
            Granted::Within(permit) => match &mut self.permit {
                Some(held) => held.merge(permit),
                None => self.permit = Some(permit),
            },
        }
    }

    fn count(&mut self, bytes: usize) {
        self.memory.inflight.add(signed(bytes - self.bytes));
        self.bytes = bytes;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.inflight.sub(signed(self.bytes));
        }
    }
}

async fn wait(memory: Arc<RequestMemory>, bytes: u32) -> Granted {
    let within = Arc::clone(&memory.free).acquire_many_owned(bytes);
    let beyond = Arc::clone(&memory.beyond).acquire_owned();
    tokio::select! {
        biased;
        permit = within => Granted::Within(permit.expect("the semaphore is never closed")),
        permit = beyond => Granted::Beyond(permit.expect("the semaphore is never closed")),
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn memory(limit: usize) -> (Arc<RequestMemory>, IntGauge) {
        let gauge = IntGauge::new("g", "g").unwrap();
        (RequestMemory::new(limit, gauge.clone()), gauge)
    }

    fn grow(lease: &mut Lease, bytes: usize) -> bool {
        lease.poll_grow(&mut Context::from_waker(Waker::noop()), bytes, FREE_BYTES).is_ready()
    }

    #[test]
    fn memory_is_given_back() {
        let (memory, gauge) = memory(100_000);
        let mut one = memory.lease();
        assert!(grow(&mut one, 60_000) && grow(&mut one, 90_000));
        assert_eq!(gauge.get(), 90_000);
        drop(one);
        assert_eq!(gauge.get(), 0);
        assert!(grow(&mut memory.lease(), 100_000));
    }

    #[test]
    fn small_frames_never_wait() {
        let (memory, gauge) = memory(10_000);
        let mut large = memory.lease();
        let mut beyond = memory.lease();
        assert!(grow(&mut large, 10_000) && grow(&mut beyond, 20_000));
        assert!(grow(&mut memory.lease(), FREE_BYTES));
        assert_eq!(gauge.get(), 30_000);
    }

    #[test]
    fn who_need_not_wait_any_more_leaves_the_line() {
        let (memory, _) = memory(10_000);
        let (mut large, mut beyond, mut small) = (memory.lease(), memory.lease(), memory.lease());
        assert!(grow(&mut large, 10_000) && grow(&mut beyond, 20_000));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(small.poll_grow(cx, 5_000, 0).is_pending(), "many wait on its connection");
        assert!(small.poll_grow(cx, 5_000, FREE_BYTES).is_ready() && !small.is_waiting() && !small.is_held());
        drop(large);
        assert!(grow(&mut memory.lease(), 10_000), "all of it is there for the next");
    }

    #[test]
    fn one_request_at_a_time_goes_beyond_the_limit() {
        let (memory, _) = memory(100_000);
        let (mut a, mut b, mut c) = (memory.lease(), memory.lease(), memory.lease());
        assert!(grow(&mut a, 50_000) && grow(&mut b, 50_000));
        assert!(grow(&mut a, 90_000), "the first to want more goes beyond");
        assert!(!grow(&mut b, 90_000) && !grow(&mut c, 10_000), "the others wait");
        assert!(grow(&mut a, 1_000_000), "who is beyond is never stopped");
        drop(a);
        assert!(grow(&mut b, 90_000) && grow(&mut c, 10_000));
    }
}
