//! Transactions that take too long are aborted, and their producers fenced: else consumers would wait behind a producer
//! that died (`TransactionCoordinator.abortTimedOutTransactions`).

use std::ops::Bound;

use super::command::{Command, Producer, TimerKey};
use super::decision::{Decision, Effect};
use super::end::Needed;
use super::shard::Shard;
use super::state::{TransactionState, TransactionVersion, TransactionalId};
use crate::coordinator::timers::TimerChange;
use crate::types::{ProducerId, Timestamp};

/// Transactions after which a pass pauses, so that other commands get their turn.
const PER_PASS: usize = 1_000;

impl Shard {
    pub(super) fn time_out(
        &self,
        now: Timestamp,
        version: TransactionVersion,
        after: Option<&(Timestamp, TransactionalId)>,
    ) -> Decision {
        let mut decision = Decision::nothing(version);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let due = self.deadlines.range((start, Bound::Unbounded)).take_while(|(deadline, _)| *deadline < now);
        let due: Vec<_> = due.take(PER_PASS).collect();
        for (_, id) in &due {
            let Some(transaction) = self.transactions.get(id) else { continue };
            match transaction.fenced(now, version, None) {
                Ok(aborted) => decision.prepare(id, aborted),
                Err(Needed) => {
                    let producer = Producer { id: transaction.producer_id, epoch: transaction.producer_epoch };
                    decision.effects.push(Effect::AllocateProducerId { id: id.clone(), producer });
                }
            }
        }
        match due.last().filter(|_| due.len() == PER_PASS) {
            Some(last) => decision.again = Some(Command::Timeout { after: (*last).clone() }),
            None => {
                let after_ms = self.config.timeout_interval_ms.max(1);
                decision.timers.push(TimerChange::Set { key: TimerKey::Timeouts, after_ms });
            }
        }
        decision
    }

    /// The same for one whose producer's epochs are used up, unless something became of it meanwhile.
    pub(super) fn abort(
        &self,
        now: Timestamp,
        version: TransactionVersion,
        id: &TransactionalId,
        producer: Producer,
        fresh: ProducerId,
    ) -> Decision {
        let mut decision = Decision::nothing(version);
        if let Ok(transaction) = self.of_producer(id, producer)
            && transaction.producer_epoch == producer.epoch
            && transaction.state == TransactionState::Ongoing
            && let Ok(aborted) = transaction.fenced(now, version, Some(fresh))
        {
            decision.prepare(id, aborted);
        }
        decision
    }
}
