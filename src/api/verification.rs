//! Before the first batch of a transaction is appended to a partition, its coordinator is asked whether it knows of that,
//! or told (KIP-890, Kafka `AddPartitionsToTxnManager`). Where an append would do harm it is refused.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use millstream_core::types::{ProducerEpoch, ProducerId, TopicPartition};
use tokio::time::Instant;

use super::Context;

/// What the version of a request says about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransactionSupport {
    /// It knows few of the errors.
    Old,
    /// TRANSACTION_ABORTABLE is among those that it knows.
    Abortable,
    /// Transactions of version 2: what it writes to becomes part of its transaction, and its epoch rises with each.
    AddsImplicitly,
}

impl TransactionSupport {
    pub fn of_produce(version: i16) -> Self {
        match version {
            ..=10 => Self::Old,
            11 => Self::Abortable,
            12.. => Self::AddsImplicitly,
        }
    }

    pub fn of_offset_commit(version: i16) -> Self {
        match version {
            ..=3 => Self::Old,
            4 => Self::Abortable,
            5.. => Self::AddsImplicitly,
        }
    }

    pub fn bumps_epoch(self) -> bool {
        self == Self::AddsImplicitly
    }
}

/// A transaction, as a request names it.
pub(super) struct Named<'a> {
    pub transactional_id: &'a str,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub support: TransactionSupport,
}

/// Longest that the coordinator is waited for.
const WITHIN: Duration = Duration::from_secs(30);

/// Asks the coordinator. Gives an error for each partition that must not be written to; no error: all may.
pub(super) async fn verify(
    context: &Arc<Context>,
    of: &Named<'_>,
    partitions: &[TopicPartition],
) -> Vec<(TopicPartition, ResponseError)> {
    let setting = |name| context.config.broker.integer(name);
    let pause = Duration::from_millis(u64::try_from(setting("add.partitions.to.txn.retry.backoff.ms")).unwrap_or(0));
    let again_for = u64::try_from(setting("add.partitions.to.txn.retry.backoff.max.ms")).unwrap_or(0);
    let until = Instant::now() + Duration::from_millis(again_for);
    let verify_only = !of.support.bumps_epoch();
    if verify_only && !context.controller.look(|now| now.settings.boolean("transaction.partition.verification.enable"))
    {
        return Vec::new();
    }
    loop {
        let asked = context.add_partitions(
            of.transactional_id,
            of.producer_id,
            of.producer_epoch,
            partitions.to_vec(),
            verify_only,
        );
        let all = |error| partitions.iter().map(|partition| (partition.clone(), error)).collect();
        let answered = tokio::time::timeout(WITHIN, asked).await;
        let answered = answered.unwrap_or_else(|_| all(ResponseError::NetworkException));
        let is_busy = answered.iter().any(|(_, error)| *error == ResponseError::ConcurrentTransactions);
        // The transaction before is being completed, which takes a moment; the client would wait far longer.
        if is_busy && of.support.bumps_epoch() && Instant::now() + pause < until {
            tokio::time::sleep(pause).await;
            continue;
        }
        return answered
            .into_iter()
            .map(|(partition, error)| (partition, known_to_client(error, of.support)))
            .collect();
    }
}

/// What producers expect to hear where the coordinator says something else.
fn known_to_client(error: ResponseError, support: TransactionSupport) -> ResponseError {
    match error {
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        ResponseError::TransactionAbortable if support == TransactionSupport::Old => ResponseError::InvalidTxnState,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_are_told_what_they_know() {
        let told = |error| known_to_client(error, TransactionSupport::of_produce(10));
        assert_eq!(told(ResponseError::TransactionAbortable), ResponseError::InvalidTxnState);
        assert_eq!(told(ResponseError::ProducerFenced), ResponseError::InvalidProducerEpoch);
        let told = |error| known_to_client(error, TransactionSupport::of_offset_commit(4));
        assert_eq!(told(ResponseError::TransactionAbortable), ResponseError::TransactionAbortable);
        assert!(TransactionSupport::of_produce(12).bumps_epoch() && !TransactionSupport::of_produce(11).bumps_epoch());
    }
}
