//! Tasks that a node cannot be without.

use std::future::Future;

use tokio::task::JoinHandle;

/// Starts a task that owns state which others wait for. One that panics found something that must not be, and all who
/// wait for it would wait for ever: the process stops, and what is on disk is looked at again when it starts.
pub fn spawn_essential(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let task = tokio::spawn(task);
    tokio::spawn(async move {
        if let Err(e) = task.await
            && e.is_panic()
        {
            tracing::error!(task = name, error = %e, "a task panicked that the node cannot be without, the process stops");
            std::process::abort();
        }
    })
}
