//! Records that a coordinator writes as part of a producer's transaction, and the end of that.

use millstream_core::coordinator::ids::ReplyToken;
use millstream_core::partition::{Guard, TxnEnd};
use millstream_core::record::{BatchBuilder, BatchHeader};
use millstream_core::types::{ProducerEpoch, ProducerId, Sequence};
use tokio::sync::oneshot;

use super::CoordinatorError;
use super::machine::{Applied, Machine};
use super::turn::{DECISION_BYTES_MAX, Gathered, Lost, ReplyTo, Serving, answer, now, within};
use crate::partition::AppendError;

/// Whose transaction a command's records belong to.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    pub producer: ProducerId,
    pub epoch: ProducerEpoch,
    /// Under which it was verified, unless it was under way in the partition already.
    pub guard: Option<Guard>,
}

/// What a marker changes once it is committed.
pub(super) struct Ended {
    pub producer: ProducerId,
    pub commit: bool,
    /// Told when it is done; dropped when that is not known.
    pub done: oneshot::Sender<Result<(), CoordinatorError>>,
}

impl<M: Machine> Serving<M> {
    /// Decides, appends as a batch of the transaction, applies. A refusal of the partition leaves everything as it was.
    pub(super) async fn carry_out_in(
        &mut self,
        of: Transaction,
        command: impl FnOnce(ReplyToken) -> M::Command,
        reply: ReplyTo<M::Reply>,
    ) -> Result<(), Lost> {
        let token = self.wait(reply);
        let decision = self.shard.decide(now(), &command(token));
        let Some(records) = within(DECISION_BYTES_MAX, M::records(&decision)) else {
            self.refuse(token, CoordinatorError::TooLarge);
            return Ok(());
        };
        if records.is_empty() {
            let applied = self.shard.apply(decision);
            self.take_up(applied);
            return Ok(());
        }
        self.append_gathered().await?;
        let mut builder = BatchBuilder::new().producer(of.producer, of.epoch, Sequence(0)).transactional(true);
        for record in &records {
            builder.push(now(), Some(&record.key), record.value.as_deref(), &[]);
        }
        let bytes = builder.finish();
        let header = BatchHeader::parse(&bytes).expect("it was built here");
        match self.partition.append_transactional(self.epoch, header, bytes, of.guard).await {
            Ok((appended, committed)) => {
                let Applied { replies, timers, effects, again } =
                    self.shard.apply_in_transaction(decision, of.producer, appended.base_offset);
                self.set_timers(timers);
                self.unfinished.extend(again);
                let content =
                    Gathered { records, replies, effects, producer: Some(of.producer), ..Gathered::default() };
                self.appended(appended, committed, content);
                Ok(())
            }
            Err(AppendError::Producer(e)) => {
                self.refuse(token, CoordinatorError::Producer(e));
                Ok(())
            }
            Err(e) => Err(Lost(e)),
        }
    }

    /// Writes the marker that ends a transaction. What it decides counts in memory from the append on, as all else.
    pub(super) async fn end_transaction(
        &mut self,
        end: TxnEnd,
        done: oneshot::Sender<Result<(), CoordinatorError>>,
    ) -> Result<(), Lost> {
        self.append_gathered().await?;
        match self.partition.append_marker(self.epoch, end).await {
            Ok((appended, committed)) => {
                self.shard.end_transaction(end.producer_id, end.commit);
                let ended = Ended { producer: end.producer_id, commit: end.commit, done };
                self.appended(appended, committed, Gathered { ended: Some(ended), ..Gathered::default() });
                Ok(())
            }
            Err(AppendError::Producer(e)) => {
                answer(done, Err(CoordinatorError::Producer(e)));
                Ok(())
            }
            Err(e) => Err(Lost(e)),
        }
    }
}
