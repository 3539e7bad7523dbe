//! Whether this node leads still. What only a leader may answer is not older than the question when a majority has
//! said so since: a node that stood still, or was cut off, may have been replaced without knowing.
//!
//! All who ask while one round to the followers is under way share the next one.

use std::sync::Arc;

use millstream_core::replica::Read;
use millstream_core::types::{PartitionId, RaftIndex, RaftTerm};
use tokio::sync::oneshot;

use super::append::answer;
use super::ask::Ask;
use super::handle::Partition;
use super::shard::{Owned, Shard};
use crate::raft::Group;

type Asker = oneshot::Sender<()>;

/// Who waits for the word of a majority.
#[derive(Default)]
pub(super) struct Confirms {
    /// For the next round.
    asked: Vec<Asker>,
    round: Option<Round>,
    /// It leads; what was committed by then is yet to be applied.
    confirmed: Vec<(RaftIndex, Vec<Asker>)>,
}

/// A question on its way.
struct Round {
    number: u64,
    term: RaftTerm,
    askers: Vec<Asker>,
}

impl Partition {
    async fn ask_whether_leading(&self) -> Option<oneshot::Receiver<()>> {
        let (reply, confirmed) = oneshot::channel();
        self.is_leading().then_some(())?;
        self.shard.send(Ask::Confirm { id: self.id, reply }).await.ok().map(|()| confirmed)
    }
}

/// Ends when each of the partitions that this node leads is known to be led by it still, or is not led any more: then it
/// says so itself. What is read of them after this is not older than the call.
pub async fn confirm_leaderships(partitions: impl IntoIterator<Item = Arc<Partition>>) {
    let mut waiting = Vec::new();
    for partition in partitions {
        waiting.extend(partition.ask_whether_leading().await);
    }
    for confirmed in waiting {
        // An error: it is gone, or leads no more.
        drop(confirmed.await);
    }
}

impl Shard {
    pub(super) fn confirm(&mut self, id: PartitionId, reply: Asker) {
        let Some(owned) = self.owned.get_mut(&id).filter(|owned| owned.shared.is_leading()) else { return };
        let Some(replica) = owned.group.as_ref().map(Group::replica) else { return };
        if replica.membership().is_sole_voter(replica.peer()) {
            return answer(reply, ());
        }
        owned.confirms.asked.push(reply);
        if owned.confirms.round.is_none() {
            self.awake.insert(id);
            self.touch(id);
        }
    }
}

impl Owned {
    /// Begins the next round, if somebody waits for one and none is under way.
    pub(super) fn begin_confirm(&mut self) {
        let Some(group) = &mut self.group else { return };
        // What was asked in another term gets no answer.
        if let Some(round) = self.confirms.round.take_if(|round| round.term != group.term()) {
            self.confirms.asked.extend(round.askers);
        }
        if self.confirms.asked.is_empty() || self.confirms.round.is_some() {
            return;
        }
        let askers = std::mem::take(&mut self.confirms.asked);
        // An error: it does not lead any more, or not yet. They see for themselves.
        if let Ok(number) = group.read_index() {
            self.confirms.round = Some(Round { number, term: group.term(), askers });
        }
    }

    /// A majority has answered.
    pub(super) fn note_confirmed(&mut self, reads: &[Read]) {
        for read in reads {
            if let Some(round) = self.confirms.round.take_if(|round| round.number <= read.number) {
                self.confirms.confirmed.push((read.index, round.askers));
            }
        }
    }

    /// Answers those for whom all is applied. True when others wait for a round.
    pub(super) fn answer_confirmed(&mut self) -> bool {
        let applied = self.applied;
        for (_, askers) in self.confirms.confirmed.extract_if(.., |(index, _)| *index <= applied) {
            askers.into_iter().for_each(|asker| answer(asker, ()));
        }
        !self.confirms.asked.is_empty() && self.confirms.round.is_none()
    }

    pub(super) fn is_asked_whether_leading(&self) -> bool {
        self.confirms.round.is_some() || !self.confirms.asked.is_empty()
    }

    /// It does not lead any more: those who wait see for themselves.
    pub(super) fn end_confirms(&mut self) {
        self.confirms = Confirms::default();
    }
}
