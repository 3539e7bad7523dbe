//! Where the work on a request is done: at once when it is little, else on a thread where it holds up nobody.

use std::pin::pin;
use std::sync::LazyLock;
use std::task::ready;

use tokio::sync::Semaphore;

/// From this size on work is moved to another thread: a million topic names take a second.
pub(super) const LARGE_BYTES: usize = 64 << 10;
/// Large works at one time. More wait: each may take many times its request's size in memory.
static LARGE_AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(at_once()));
/// Large requests whose handlers run at one time. Not the same: a handler may wait for `compute`, and a place is needed
/// to see what came of it.
static ASIDE_AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(at_once()));

fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2).max(2)
}

/// Runs the handler of a large request. The worker's other connections go to another thread meanwhile. Who waits for
/// something holds no place.
pub(super) async fn aside<R>(handler: impl Future<Output = R>) -> R {
    let mut handler = pin!(handler);
    let mut turn = None;
    std::future::poll_fn(|cx| {
        let place = ready!(turn.get_or_insert_with(|| Box::pin(ASIDE_AT_ONCE.acquire())).as_mut().poll(cx));
        turn = None;
        let _place = place.expect("never closed");
        tokio::task::block_in_place(|| handler.as_mut().poll(cx))
    })
    .await
}

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

    #[test]
    fn who_works_aside_holds_up_nobody_and_who_waits_holds_no_place() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (go_on, wait) = std::sync::mpsc::channel();
            let blocked = tokio::spawn(aside(async move { wait.recv().unwrap() }));
            // The one worker of the runtime is free for this.
            tokio::spawn(async move { go_on.send(7).unwrap() }).await.unwrap();
            assert_eq!(blocked.await.unwrap(), 7);
            let waiting: Vec<_> = (0..100).map(|_| tokio::spawn(aside(std::future::pending::<()>()))).collect();
            assert_eq!(tokio::spawn(aside(async { compute(LARGE_BYTES, || 8).await })).await.unwrap(), 8);
            waiting.iter().for_each(|w| w.abort());
        });
    }
}
