//! The end of a transaction is told to all its partitions, wherever they are led, until each has it; then the
//! transaction is complete (Kafka `TransactionMarkerChannelManager`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_core::coordinator::txn::{Command, Markers, Producer, TransactionalId};
use millstream_core::types::{NodeId, TopicPartition};
use tokio::task::JoinSet;

use super::transactions::{End, Outside, Place, Transactions, Written};
use super::turn::Origin;

/// How soon what could not be written is tried again, at first and at most.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(1);

/// Ends when all is written, or is no longer for this coordinator to write.
pub(super) async fn write(transactions: Weak<Transactions>, origin: Origin, markers: Markers) {
    let Some(outside) = outside(&transactions).await else { return };
    let mut left: BTreeSet<TopicPartition> = BTreeSet::clone(&markers.partitions);
    let mut pause = AGAIN_AFTER;
    while !left.is_empty() {
        if !origin.is_current() || !round(&*outside, &origin, &markers, &mut left).await {
            return;
        }
        if !left.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AFTER_MAX);
        }
    }
    let Some(transactions) = transactions.upgrade() else { return };
    let Markers { id, producer, .. } = markers;
    transactions.tell(origin.partition, Command::MarkersWritten { id, producer }).await;
}

/// Gets an id for a producer that is to go on with another one.
pub(super) async fn allocate(
    transactions: Weak<Transactions>,
    origin: Origin,
    id: TransactionalId,
    producer: Producer,
) {
    let Some(outside) = outside(&transactions).await else { return };
    // None: it is asked for again when the transaction is looked at again.
    let Some(fresh) = outside.producer_id().await else { return };
    let Some(transactions) = transactions.upgrade().filter(|_| origin.is_current()) else { return };
    transactions.tell(origin.partition, Command::AbortTimedOut { id, producer, fresh }).await;
}

async fn outside(transactions: &Weak<Transactions>) -> Option<Arc<dyn Outside>> {
    transactions.upgrade()?.config().outside().await
}

/// Tries each partition that is left once. False: this coordinator has no say any more.
async fn round(outside: &dyn Outside, origin: &Origin, markers: &Markers, left: &mut BTreeSet<TopicPartition>) -> bool {
    let at = sorted(outside, left).await;
    left.retain(|partition| !at.gone.contains(partition));
    let mut writes = JoinSet::new();
    for (node, partitions) in at.led {
        let end = End { markers: markers.clone(), epoch: origin.epoch, partitions };
        writes.spawn(outside.write(node, end));
    }
    while let Some(written) = writes.join_next().await {
        for (partition, written) in written.unwrap_or_default() {
            match written {
                Written::Done => _ = left.remove(&partition),
                Written::Overtaken => {
                    tracing::warn!(%partition, transactional_id = %markers.id, "a transaction was over before its marker came");
                    left.remove(&partition);
                }
                Written::Fenced => {
                    tracing::info!(%partition, transactional_id = %markers.id, "another coordinator ends the transaction");
                    return false;
                }
                Written::NotNow => {}
            }
        }
    }
    true
}

/// Partitions by who leads them. Those that nobody leads are in neither.
#[derive(Default)]
struct Sorted {
    led: BTreeMap<NodeId, Vec<TopicPartition>>,
    gone: BTreeSet<TopicPartition>,
}

async fn sorted(outside: &dyn Outside, partitions: &BTreeSet<TopicPartition>) -> Sorted {
    if partitions.iter().any(|partition| outside.place(partition) == Place::Gone) {
        // This node may not have heard of it yet: a partition that is left out without cause is never read to its end.
        outside.caught_up().await;
    }
    let mut sorted = Sorted::default();
    for partition in partitions {
        match outside.place(partition) {
            Place::At(node) => sorted.led.entry(node).or_default().push(partition.clone()),
            Place::Nowhere => {}
            Place::Gone => {
                tracing::info!(%partition, "a partition was deleted before the end of a transaction");
                sorted.gone.insert(partition.clone());
            }
        }
    }
    sorted
}
