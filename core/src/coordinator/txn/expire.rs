//! Transactional ids that nobody uses any more are forgotten (`transactional.id.expiration.ms`).

use std::ops::Bound;

use super::command::{Command, TimerKey};
use super::decision::Decision;
use super::shard::Shard;
use super::state::{Transaction, TransactionState, TransactionVersion, TransactionalId};
use crate::coordinator::timers::TimerChange;
use crate::types::Timestamp;

/// Tombstones after which a pass over all ids pauses, so that other commands get their turn.
const RECORDS_PER_PASS: usize = 10_000;
/// Ids after which it pauses.
const IDS_PER_PASS: usize = 100_000;

impl Shard {
    pub(super) fn expire(
        &self,
        now: Timestamp,
        version: TransactionVersion,
        after: Option<&TransactionalId>,
    ) -> Decision {
        let mut decision = Decision::nothing(version);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.transactions.range::<TransactionalId, _>((start, Bound::Unbounded));
        for (visited, (id, transaction)) in ids.enumerate() {
            if self.is_over(now, transaction) {
                decision.changes.push((id.clone(), None));
            }
            if decision.changes.len() == RECORDS_PER_PASS || visited + 1 == IDS_PER_PASS {
                decision.again = Some(Command::Expire { after: id.clone() });
                return decision;
            }
        }
        let after_ms = self.config.expiry_interval_ms.max(1);
        decision.timers.push(TimerChange::Set { key: TimerKey::Expiry, after_ms });
        decision
    }

    fn is_over(&self, now: Timestamp, transaction: &Transaction) -> bool {
        let is_idle = match transaction.state {
            TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort => true,
            TransactionState::Ongoing | TransactionState::PrepareCommit | TransactionState::PrepareAbort => false,
        };
        is_idle && now.0.saturating_sub(transaction.updated_at.0) >= self.config.expiration_ms
    }
}
