//! DescribeTransactions and ListTransactions.

use std::sync::Arc;

use super::command::{DescribeTransactions, ListTransactions, Producer};
use super::decision::Decision;
use super::reply::{DescribedTransaction, ListedTransaction, Reply};
use super::shard::Shard;
use super::state::{Transaction, TransactionVersion};
use crate::types::Timestamp;

impl Shard {
    pub(super) fn describe(&self, version: TransactionVersion, describe: &DescribeTransactions) -> Decision {
        let described = describe.ids.iter().map(|id| (id.clone(), self.transactions.get(id).map(described)));
        Decision::reply(version, describe.token, Reply::DescribeTransactions(described.collect()))
    }

    pub(super) fn list(&self, now: Timestamp, version: TransactionVersion, list: &ListTransactions) -> Decision {
        let is_listed = |transaction: &Transaction| {
            // As in Kafka, one that has not begun has gone on since 1970.
            let started_at = transaction.started_at.unwrap_or(Timestamp::NONE);
            list.producer_ids.as_ref().is_none_or(|ids| ids.contains(&transaction.producer_id))
                && list.states.as_ref().is_none_or(|states| states.contains(&transaction.state))
                && (list.longer_than_ms < 0 || now.0.saturating_sub(started_at.0) > list.longer_than_ms)
        };
        let listed = self.transactions.iter().filter(|(_, transaction)| is_listed(transaction));
        let listed = listed.map(|(id, transaction)| ListedTransaction {
            id: id.clone(),
            producer_id: transaction.producer_id,
            state: transaction.state,
        });
        Decision::reply(version, list.token, Reply::ListTransactions(listed.collect()))
    }
}

fn described(transaction: &Transaction) -> DescribedTransaction {
    DescribedTransaction {
        state: transaction.state,
        producer: Producer { id: transaction.producer_id, epoch: transaction.producer_epoch },
        timeout_ms: transaction.timeout_ms,
        started_at: transaction.started_at,
        partitions: Arc::clone(&transaction.partitions),
    }
}
