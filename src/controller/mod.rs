//! The metadata of the cluster: decides changes on the newest image, appends them to the log of
//! `__cluster_metadata`, and publishes the image when they are committed. What the image says is then made true on
//! this node.

mod load;
mod producer_ids;
mod reconcile;
mod runtime;

use std::sync::Arc;

use arc_swap::ArcSwap;
use millstream_core::config::BrokerConfig;
use millstream_core::controller::{Command, Decision, Image};
use millstream_core::types::{PartitionId, TopicId};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

pub use load::LoadError;
pub use producer_ids::ProducerIdError;
pub use runtime::{Start, start};

/// The partition that holds the metadata: Kafka's own id of `__cluster_metadata` (`Uuid.METADATA_TOPIC_ID`).
pub const METADATA_PARTITION: PartitionId = PartitionId { topic: TopicId(Uuid::from_u128(1)), partition: 0 };
/// Its name. No client sees it as a topic.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// Changes that wait to be decided. Full: those who ask wait.
const JOBS_MAX: usize = 256;

/// What is committed, and what follows for this node.
pub struct Published {
    pub image: Image,
    /// This broker's settings in force: as started, and as changed since.
    pub settings: Arc<BrokerConfig>,
}

/// Why a change was not made. It may still come true when the log failed after the append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    #[error("the metadata log cannot be written")]
    NotAvailable,
}

/// The handle to the controller; cheap to share.
pub struct Controller {
    jobs: mpsc::Sender<Job>,
    published: Arc<ArcSwap<Published>>,
    changes: watch::Receiver<()>,
    producer_ids: producer_ids::Block,
}

type Finish = Box<dyn FnOnce(Result<(), ControllerError>) + Send>;
type Job = Box<dyn FnOnce(&Image) -> (Vec<Command>, Finish) + Send>;

impl Controller {
    /// What is committed now.
    pub fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// Looks at what is committed without a reference count: for the hot path.
    pub fn look<R>(&self, look: impl FnOnce(&Published) -> R) -> R {
        look(&self.published.load())
    }

    /// Decides on the newest image, appends, and returns when the change is committed and true on this node. No
    /// commands: nothing changes, and the answer comes when what it was read from is committed.
    pub async fn change<R: Send + 'static>(
        &self,
        decide: impl FnOnce(&Image) -> Decision<R> + Send + 'static,
    ) -> Result<R, ControllerError> {
        let (reply, done) = oneshot::channel();
        let job: Job = Box::new(move |image| {
            let Decision { commands, reply: outcome } = decide(image);
            let finish: Finish = Box::new(move |committed: Result<(), ControllerError>| {
                // The asker may be gone; the change stands.
                let _gone: Result<(), _> = reply.send(committed.map(|()| outcome));
            });
            (commands, finish)
        });
        self.jobs.send(job).await.map_err(|_| ControllerError::NotAvailable)?;
        done.await.map_err(|_| ControllerError::NotAvailable)?
    }

    /// Ends at every change of what is published.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }
}

#[cfg(test)]
mod tests;
