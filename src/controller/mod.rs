//! The metadata of the cluster. Every node reads the committed log of `__cluster_metadata` into its image, publishes it,
//! and makes true on itself what it says. The node that leads the log decides changes, too, on the newest image, and
//! appends them.

mod ask;
mod balance;
mod deleted;
mod drain;
mod envelope;
mod fold;
mod load;
mod moves;
mod producer_ids;
mod raise;
mod reconcile;
mod runtime;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use millstream_core::config::BrokerConfig;
use millstream_core::controller::{Command, Decision, Image, Peer};
use millstream_core::types::{NodeId, PartitionId, TopicId};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use self::deleted::Deleted;
use crate::config::FirstUsers;
use crate::partition::Partitions;
use crate::rpc::Rpc;

pub use ask::Forwarded;
pub use envelope::{Answer, Envelope, EnvelopeError, TRANSFERS_MAX};
pub use fold::FoldError;
pub use load::LoadError;
pub use producer_ids::{ProducerIdError, encode_block};
pub use runtime::{Start, start};

/// The partition that holds the metadata: Kafka's own id of `__cluster_metadata` (`Uuid.METADATA_TOPIC_ID`).
pub const METADATA_PARTITION: PartitionId = PartitionId { topic: TopicId(Uuid::from_u128(1)), partition: 0 };
/// Its name. No client sees it as a topic.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// Changes that wait to be decided. Full: those who ask wait.
const ASKS_MAX: usize = 256;

/// How the cluster came, or comes, into being: the same on all of its nodes.
#[derive(Clone, Debug)]
pub struct Founding {
    /// What it is called by its first command, which the first leader writes.
    pub cluster_id: String,
    /// The voters that the log of the metadata is born with.
    pub founders: Vec<Peer>,
    /// Users that there are from the beginning: those of the node that writes the first command.
    pub users: FirstUsers,
}

/// What is committed, and what follows for this node.
pub struct Published {
    pub image: Image,
    /// This broker's settings in force: as started, and as changed since.
    pub settings: Arc<BrokerConfig>,
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// Another node decides; nothing was done.
    #[error("{}", who_leads(*.leader))]
    NotController { leader: Option<NodeId> },
    /// It may still come true when the log failed, or another leader took over, after the append.
    #[error("the metadata log cannot be written")]
    NotAvailable,
}

fn who_leads(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => {
            format!("this node does not lead the metadata log, the last leader it heard of is node {leader}")
        }
        None => {
            "no leader of the metadata is known: no majority of its voters is reachable, or none is elected yet".into()
        }
    }
}

/// The handle to the controller; cheap to share.
pub struct Controller {
    partitions: Arc<Partitions>,
    /// The way to other nodes, if there are any.
    rpc: Option<Arc<Rpc>>,
    asks: mpsc::Sender<Ask>,
    published: Arc<ArcSwap<Published>>,
    changes: watch::Receiver<()>,
    producer_ids: producer_ids::Block,
    deleted: Arc<Deleted>,
}

type Finish = Box<dyn FnOnce(Result<(), ControllerError>) + Send>;
/// Decides on the newest image; or is told that it cannot, and then has nothing more to say.
type Job = Box<dyn FnOnce(Result<&Image, ControllerError>) -> Option<(Vec<Command>, Finish)> + Send>;

/// What the task is asked.
enum Ask {
    Change(Job),
    /// The image is as new as the newest was at some moment since the start.
    CaughtUp,
}

impl Controller {
    /// What is committed now, as far as this node knows.
    pub fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// Looks at what is committed without a reference count: for the hot path.
    pub fn look<R>(&self, look: impl FnOnce(&Published) -> R) -> R {
        look(&self.published.load())
    }

    /// The node that decides changes, as far as it is known here.
    pub fn leader(&self) -> Option<NodeId> {
        leader(&self.partitions)
    }

    /// Decides on the newest image, appends, and returns when the change is committed and true on this node, which must
    /// lead the log. No commands: nothing changes, and the answer comes when what it was read from is committed.
    pub async fn change<R: Send + 'static>(
        &self,
        decide: impl FnOnce(&Image) -> Decision<R> + Send + 'static,
    ) -> Result<R, ControllerError> {
        let (reply, done) = oneshot::channel();
        // The asker may be gone; then there is nobody to tell, and the change stands.
        let job: Job = Box::new(move |image| {
            let image = match image {
                Ok(image) => image,
                Err(refused) => {
                    let _gone: Result<(), _> = reply.send(Err(refused));
                    return None;
                }
            };
            let Decision { commands, reply: outcome } = decide(image);
            let finish: Finish = Box::new(move |committed: Result<(), ControllerError>| {
                let _gone: Result<(), _> = reply.send(committed.map(|()| outcome));
            });
            Some((commands, finish))
        });
        self.asks.send(Ask::Change(job)).await.map_err(|_| ControllerError::NotAvailable)?;
        done.await.map_err(|_| ControllerError::NotAvailable)?
    }

    /// Whether a topic of this name was deleted a moment ago: then nobody wants it to come into being by itself.
    pub fn was_deleted(&self, name: &str) -> bool {
        self.deleted.has(name)
    }

    /// Ends at every change of what is published.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// Waits until so many commands are carried out on this node, but not longer than this. Says whether they are.
    pub async fn reach(&self, version: u64, patience: Duration) -> bool {
        let mut changes = self.changes.clone();
        let reached = async {
            while self.look(|now| now.image.version() < version) {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(patience, reached).await.unwrap_or(false)
    }
}

/// Who leads the log of the metadata.
fn leader(partitions: &Partitions) -> Option<NodeId> {
    let own = partitions.identity().node;
    if partitions.get(METADATA_PARTITION).is_some_and(|partition| partition.is_leading()) {
        return Some(own);
    }
    // That this node led it is old news.
    let told = partitions.leaders().get(METADATA_PARTITION).filter(|told| told.leads && told.node != own);
    told.map(|told| told.node)
}

#[cfg(test)]
mod tests;
