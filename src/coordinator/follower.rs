//! What a replica does whose partition another node leads: it stores what is committed, so that it need not read the
//! whole log when it comes to lead.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::types::Offset;
use tokio::task::JoinHandle;

use super::load::{LoadError, materialise};
use crate::partition::{FetchWait, Partition};
use crate::store::Store;

/// How long commits gather before they are stored, and how soon a failure is tried again.
const GATHER_FOR: Duration = Duration::from_secs(1);

/// Stores the records of one partition in the background.
pub(super) struct Follower {
    partition: Arc<Partition>,
    store: Arc<Store>,
    /// The step under way. It writes in the end, whoever waits for it: nobody else may write before.
    step: Option<JoinHandle<Result<Offset, LoadError>>>,
}

impl Follower {
    pub fn new(partition: Arc<Partition>, store: Arc<Store>) -> Self {
        Self { partition, store, step: None }
    }

    /// Never ends by itself; may be dropped at any time.
    pub async fn follow(&mut self) {
        let wait = FetchWait::register(vec![self.partition.clone()]);
        loop {
            let mark = wait.mark();
            match self.step().await {
                Ok(next) if next < self.partition.high_watermark() => continue,
                Ok(_) => wait.woken(mark, 1).await,
                Err(e) => {
                    tracing::warn!(partition = %self.partition.name, error = %e, "committed records could not be stored");
                }
            }
            tokio::time::sleep(GATHER_FOR).await;
        }
    }

    /// To be called before anybody else stores records.
    pub async fn end(&mut self) {
        if let Some(step) = self.step.take() {
            // What it did not store is stored by whoever comes after.
            drop(step.await);
        }
    }

    async fn step(&mut self) -> Result<Offset, LoadError> {
        let (partition, store) = (self.partition.clone(), self.store.clone());
        let step =
            self.step.get_or_insert_with(|| tokio::task::spawn_blocking(move || materialise(&partition, &store)));
        let done = step.await.unwrap_or(Err(LoadError::Panicked));
        self.step = None;
        done
    }
}
