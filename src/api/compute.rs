//! Where the work on a request is done: at once when it is little, else on a thread where it holds up nobody.

use tokio::sync::Semaphore;

/// From this size on work is moved to another thread: a million topic names take a second.
pub(super) const LARGE_BYTES: usize = 64 << 10;
/// Large works at one time. More wait: each may take many times its request's size in memory.
static LARGE_AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Does `work` on about `size_bytes` of a request or a response.
pub(super) async fn compute<R: Send + 'static>(size_bytes: usize, work: impl FnOnce() -> R + Send + 'static) -> R {
    if size_bytes < LARGE_BYTES {
        return work();
    }
    let permit = LARGE_AT_ONCE.acquire().await.expect("never closed");
    let moved = move || {
        // Held until the work is done, also when the connection is closed before.
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(moved).await.expect("the work does not panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_work_is_moved_away_and_little_is_not() {
        let here = std::thread::current().id();
        assert_eq!(compute(LARGE_BYTES - 1, || std::thread::current().id()).await, here);
        assert_ne!(compute(LARGE_BYTES, || std::thread::current().id()).await, here);
    }
}
