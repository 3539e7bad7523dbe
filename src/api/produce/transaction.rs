//! The transactional batches of a produce request: their coordinator is asked before the first of a transaction is
//! appended to a partition.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::types::{ProducerEpoch, ProducerId, TopicPartition};

use super::check::{Batch, Checked, Slot, refused};
use crate::api::verification::{Named, TransactionSupport, verify};
use crate::api::{Context, errors};
use crate::protocol::produce::ProducePartitionResponse;

/// Why a batch is refused.
type Refusal = (ResponseError, String);

impl Checked {
    /// Whether there is anything to verify.
    pub(super) fn is_transactional(&self) -> bool {
        self.batches.iter().any(|batch| batch.header.is_transactional())
    }

    /// Refuses what does not belong to a transaction that is known to its coordinator, and gives the rest the guards under
    /// which it may be appended.
    pub(super) async fn verify(&mut self, context: &Arc<Context>, transactional_id: &str, version: i16) {
        let support = TransactionSupport::of_produce(version);
        let transactional = || self.batches.iter().filter(|batch| batch.header.is_transactional());
        let Some((producer_id, producer_epoch)) = transactional().map(producer).next() else { return };
        if transactional().any(|batch| producer(batch) != (producer_id, producer_epoch)) {
            let places: Vec<usize> = self.places(|batch| batch.header.is_transactional());
            let words = "Transactional records contained more than one producer ID".to_owned();
            return self
                .refuse(places.into_iter().map(|p| (p, (ResponseError::InvalidProducerIdMapping, words.clone()))));
        }
        let mut to_verify: HashMap<TopicPartition, usize> = HashMap::new();
        let mut refusals: Vec<(usize, Refusal)> = Vec::new();
        for place in self.places(|batch| batch.header.is_transactional()) {
            let batch = &mut self.batches[place];
            let begun = match context.partitions.get(batch.id) {
                Some(partition) => {
                    let of = (producer_id, producer_epoch, batch.header.base_sequence);
                    partition.begin_verification(of, support.bumps_epoch()).await.map(|guard| (guard, partition))
                }
                None => Err(crate::partition::AppendError::NotLeader),
            };
            match begun {
                Ok((None, _)) => {}
                Ok((guard, partition)) => {
                    batch.guard = guard;
                    to_verify.insert(partition.name.clone(), place);
                }
                Err(e) => refusals.push((place, (errors::of_append(&e), e.to_string()))),
            }
        }
        if !to_verify.is_empty() {
            let partitions: Vec<TopicPartition> = to_verify.keys().cloned().collect();
            let of = Named { transactional_id, producer_id, producer_epoch, support };
            for (partition, error) in verify(context, &of, &partitions).await {
                if let Some(place) = to_verify.get(&partition) {
                    refusals.push((*place, to_client(error, support)));
                }
            }
        }
        self.refuse(refusals);
    }

    fn places(&self, is_meant: impl Fn(&Batch) -> bool) -> Vec<usize> {
        self.batches.iter().enumerate().filter(|(_, batch)| is_meant(batch)).map(|(place, _)| place).collect()
    }

    /// The batches stay in their places; they are not appended.
    fn refuse(&mut self, refusals: impl IntoIterator<Item = (usize, Refusal)>) {
        let mut refusals: HashMap<usize, Refusal> = refusals.into_iter().collect();
        if refusals.is_empty() {
            return;
        }
        for slot in self.topics.iter_mut().flat_map(|(_, slots)| slots) {
            let Slot::Pending { place, index, .. } = slot else { continue };
            let Some((error, words)) = refusals.remove(place) else { continue };
            if let Some(batch) = self.batches.get_mut(*place) {
                batch.is_refused = true;
            }
            let response: ProducePartitionResponse = refused(*index, error, Some(words));
            *slot = Slot::Refused(response);
        }
    }
}

fn producer(batch: &Batch) -> (ProducerId, ProducerEpoch) {
    (batch.header.producer_id, batch.header.producer_epoch)
}

/// Clients that produce do not try again after every error of a coordinator. NOT_ENOUGH_REPLICAS they do, and without a
/// look for other leaders (`ReplicaManager.handleProduceAppend`).
fn to_client(error: ResponseError, support: TransactionSupport) -> Refusal {
    let is_passing = match error {
        ResponseError::NetworkException
        | ResponseError::CoordinatorLoadInProgress
        | ResponseError::CoordinatorNotAvailable
        | ResponseError::NotCoordinator => true,
        ResponseError::ConcurrentTransactions => !support.bumps_epoch(),
        _ => false,
    };
    match error {
        _ if is_passing => {
            let words = "Unable to verify the partition has been added to the transaction. Underlying error:";
            (ResponseError::NotEnoughReplicas, format!("{words} {error:?}"))
        }
        ResponseError::InvalidTxnState => (error, "Partition was not added to the transaction".to_owned()),
        other => (other, errors::words(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_as_what_clients_try_again() {
        for error in [ResponseError::NetworkException, ResponseError::NotCoordinator] {
            assert_eq!(to_client(error, TransactionSupport::AddsImplicitly).0, ResponseError::NotEnoughReplicas);
        }
        let busy = ResponseError::ConcurrentTransactions;
        assert_eq!(to_client(busy, TransactionSupport::Old).0, ResponseError::NotEnoughReplicas);
        assert_eq!(to_client(busy, TransactionSupport::AddsImplicitly).0, busy);
        assert_eq!(
            to_client(ResponseError::InvalidTxnState, TransactionSupport::Old).0,
            ResponseError::InvalidTxnState
        );
    }
}
