//! AddPartitionsToTxn and AddOffsetsToTxn: partitions become part of a transaction before anything is written to them
//! in its name; and the question of a partition whether it is (KIP-890).

use super::command::{AddPartitions, Producer, VerifyPartitions};
use super::decision::Decision;
use super::reply::{Reply, TransactionError, VerifiedPartition};
use super::shard::Shard;
use super::state::{Transaction, TransactionState, TransactionVersion, TransactionalId};
use crate::types::Timestamp;

impl Shard {
    pub(super) fn add_partitions(&self, now: Timestamp, version: TransactionVersion, add: &AddPartitions) -> Decision {
        let mut decision = Decision::nothing(version);
        let added = self.undecided(&add.id, add.producer).map(|transaction| {
            let is_known = transaction.state == TransactionState::Ongoing
                && add.partitions.iter().all(|partition| transaction.partitions.contains(partition));
            if !is_known {
                let with = transaction.with_partitions(now, &add.partitions, add.client_version);
                decision.changes.push((add.id.clone(), Some(with)));
            }
        });
        decision.replies.push((add.token, Reply::AddPartitions(added)));
        decision
    }

    pub(super) fn verify_partitions(&self, version: TransactionVersion, verify: &VerifyPartitions) -> Decision {
        let verified = self.undecided(&verify.id, verify.producer).map(|transaction| {
            let verified = verify.partitions.iter().map(|partition| VerifiedPartition {
                partition: partition.clone(),
                is_in_transaction: transaction.partitions.contains(partition),
            });
            verified.collect()
        });
        Decision::reply(version, verify.token, Reply::VerifyPartitions(verified))
    }

    /// The transaction of a producer, which may still write to it.
    fn undecided(&self, id: &TransactionalId, producer: Producer) -> Result<&Transaction, TransactionError> {
        let transaction = self.of_producer(id, producer)?;
        if transaction.producer_epoch != producer.epoch {
            Err(TransactionError::ProducerFenced)
        } else if transaction.state.is_prepared() {
            Err(TransactionError::ConcurrentTransactions)
        } else {
            Ok(transaction)
        }
    }
}
