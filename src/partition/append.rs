//! Appends: what is asked, what becomes of it, and the shard's part.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millstream_core::partition::{Admission, BatchSequence, Guard, ProducerError, TxnEnd};
use millstream_core::record::BatchHeader;
use millstream_core::replica::Membership;
use millstream_core::types::{LeaderEpoch, Offset, PartitionId, PeerId, RaftIndex};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::handle::Leadership;
use super::shard::{Owned, Shard};
use crate::log::{DataDir, LogError};
use crate::raft::Group;

/// Bytes of produced batches of one partition that may wait for their commit. Beyond: they wait to be proposed, which
/// the bytes of all partitions together bound.
pub(super) const UNCOMMITTED_BYTES_MAX: u64 = 16 << 20;

/// When a produce is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    None,
    /// When the leader has appended.
    Leader,
    /// When committed: flushed on a majority.
    All,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub log_start: Offset,
}

/// Why a batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("the partition's log could not be written")]
    Storage,
    #[error(transparent)]
    Producer(#[from] ProducerError),
    #[error("offset is outside of the log")]
    OffsetOutOfRange,
    /// `min.insync.replicas`; nothing was appended.
    #[error("fewer replicas are in sync than min.insync.replicas")]
    NotEnoughReplicas,
    /// It was appended, and may be read.
    #[error("fewer replicas were in sync than min.insync.replicas when the batch was committed")]
    NotEnoughReplicasAfterAppend,
}

pub type AppendOutcome = Result<Appended, AppendError>;

/// One batch of a produce. The batch was validated.
pub struct Append {
    pub id: PartitionId,
    pub header: BatchHeader,
    pub bytes: Bytes,
    pub acks: Acks,
    /// Under which its transaction was verified, where that was needed.
    pub guard: Option<Guard>,
    pub ticket: Arc<Ticket>,
    /// Which place of the ticket.
    pub place: usize,
}

/// A batch that the broker made itself.
pub struct InternalAppend {
    pub id: PartitionId,
    /// Of the leadership that it was decided under.
    pub epoch: LeaderEpoch,
    pub header: BatchHeader,
    pub bytes: Bytes,
    pub kind: InternalKind,
    pub placed: oneshot::Sender<AppendOutcome>,
    pub committed: oneshot::Sender<Result<(), AppendError>>,
}

/// What a batch of the broker's own is.
#[derive(Clone, Copy, Debug)]
pub enum InternalKind {
    /// `last_room`: what is kept free on a full disk is for this one, too.
    Plain { last_room: bool },
    /// Of a transaction, verified under `guard` if it is not under way here.
    Transactional { guard: Option<Guard> },
    /// The marker that ends one.
    End(TxnEnd),
}

/// Who wants a batch appended.
enum Origin {
    Client(Option<Guard>),
    Broker(InternalKind),
}

/// The outcomes of one produce request, one place a partition.
pub struct Ticket {
    outcomes: Mutex<Vec<Option<AppendOutcome>>>,
    missing: AtomicUsize,
    complete: Notify,
    /// Room among what waits for its commit; given back with the last outcome, however late the reply leaves.
    admitted: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Ticket {
    pub fn new(places: usize, admitted: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        Arc::new(Self {
            admitted: Mutex::new(admitted.filter(|_| places > 0)),
            outcomes: Mutex::new(vec![None; places]),
            missing: AtomicUsize::new(places),
            complete: Notify::new(),
        })
    }

    /// Fills a place; each is filled once. Nobody may look any more: a request that timed out has taken what there was.
    pub fn fill(&self, place: usize, outcome: AppendOutcome) {
        if let Some(empty) = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
            *empty = Some(outcome);
        }
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(self.admitted.lock().unwrap_or_else(PoisonError::into_inner).take());
            self.complete.notify_one();
        }
    }

    /// Ends when every place is filled.
    pub async fn completed(&self) {
        if self.missing.load(Ordering::Acquire) > 0 {
            self.complete.notified().await;
        }
    }

    /// The outcomes by place; `None` where none has come yet.
    pub fn take(&self) -> Vec<Option<AppendOutcome>> {
        std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers an ask. The asker may be gone; then there is nothing to do.
pub(super) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    let _gone: Result<(), T> = reply.send(value);
}

/// A reply that waits for a commit.
pub(super) struct Parked {
    pub last_offset: Offset,
    /// Of its entry, or of a later one.
    pub index: RaftIndex,
    pub reply: Reply,
}

pub(super) enum Reply {
    Produce { ticket: Arc<Ticket>, place: usize, appended: Appended },
    Internal(oneshot::Sender<Result<(), AppendError>>),
    Trim { reply: oneshot::Sender<Result<Offset, AppendError>> },
}

impl Reply {
    /// Answers: done, or why not.
    pub(super) fn finish(self, outcome: Result<(), AppendError>, log_start: Offset) {
        match self {
            Self::Produce { ticket, place, appended } => ticket.fill(place, outcome.map(|()| appended)),
            Self::Internal(reply) => answer(reply, outcome),
            Self::Trim { reply } => answer(reply, outcome.map(|()| log_start)),
        }
    }
}

impl Shard {
    /// Appends, or lets the batch wait behind what is not yet committed.
    pub(super) fn append(&mut self, append: Append) {
        match self.owned.get_mut(&append.id) {
            Some(owned) if !owned.waiting.is_empty() || !owned.may_propose(append.bytes.len()) => {
                owned.waiting.push_back(append);
            }
            _ => self.append_now(append),
        }
    }

    /// Appends what waited, as far as there is room now.
    pub(super) fn append_waiting(&mut self, id: PartitionId) {
        while let Some(owned) = self.owned.get_mut(&id)
            && owned.waiting.front().is_some_and(|next| owned.may_propose(next.bytes.len()))
            && let Some(next) = owned.waiting.pop_front()
        {
            self.append_now(next);
        }
    }

    fn append_now(&mut self, append: Append) {
        let Append { id, header, bytes, acks, guard, ticket, place } = append;
        let Some(owned) = self.owned.get_mut(&id) else {
            return ticket.fill(place, Err(AppendError::NotLeader));
        };
        if acks == Acks::All && !owned.has_enough_in_sync() {
            return ticket.fill(place, Err(AppendError::NotEnoughReplicas));
        }
        let (appended, is_new) = match owned.admit(&header, bytes, &self.shared.dir, Origin::Client(guard)) {
            Ok(placed) => placed,
            Err(refused) => {
                ticket.fill(place, Err(refused));
                return self.settle(id);
            }
        };
        let reply = Reply::Produce { ticket, place, appended };
        match acks {
            // Of one replica the leader's is the majority: with `write.caching` that it has the batch is enough.
            Acks::All if is_new && owned.is_alone_and_caches() => owned.on_write.push(reply),
            // A batch that came again may be committed by now, and the answer due.
            Acks::All => owned.park(appended.last_offset, reply),
            // Answered when the turn has written.
            Acks::Leader if is_new => owned.on_write.push(reply),
            _ => reply.finish(Ok(()), appended.log_start),
        }
        match is_new {
            true => self.touch(id),
            false => owned.answer_committed(),
        }
    }

    pub(super) fn append_internal(&mut self, append: InternalAppend) {
        let InternalAppend { id, epoch, header, bytes, kind, placed, committed } = append;
        let outcome = match self.owned.get_mut(&id) {
            Some(owned) if owned.shared.is_leading() && owned.shared.leader_epoch() != epoch => {
                Err(AppendError::NotLeader)
            }
            Some(owned) => {
                let placed = owned.admit(&header, bytes, &self.shared.dir, Origin::Broker(kind));
                placed.map(|(appended, _)| {
                    owned.park(appended.last_offset, Reply::Internal(committed));
                    appended
                })
            }
            None => Err(AppendError::NotLeader),
        };
        answer(placed, outcome);
        self.touch(id);
    }

    /// A refusal may have left a broken log behind.
    fn settle(&mut self, id: PartitionId) {
        if self.owned.get(&id).is_some_and(|o| o.broken) {
            self.halt(id);
        }
    }
}

impl Owned {
    /// Whether so many bytes more may be on their way: one batch always may, but none while the leadership is being
    /// handed over.
    fn may_propose(&self, bytes: usize) -> bool {
        let is_handed_over = |group: &Group| group.replica().leader_transferee().is_some();
        if self.group.as_ref().is_some_and(is_handed_over) {
            return false;
        }
        self.uncommitted_bytes == 0 || self.uncommitted_bytes + bytes as u64 <= UNCOMMITTED_BYTES_MAX
    }

    /// Lets a reply wait for the commit of an offset that is in the log.
    fn park(&mut self, last_offset: Offset, reply: Reply) {
        let index = self.group.as_ref().map_or(RaftIndex(0), |g| g.replica().last_index());
        self.parked.push_back(Parked { last_offset, index, reply });
    }

    /// Answers what is committed, and on as many disks as `min.insync.replicas` wants.
    pub(super) fn answer_committed(&mut self) {
        let high_watermark = self.shared.high_watermark();
        if self.parked.front().is_none_or(|p| p.last_offset >= high_watermark) {
            return;
        }
        let (acked, log_start) = (self.acked_index(), self.shared.log_start());
        let has_enough = acked.is_some() && self.has_enough_in_sync();
        let acked = acked.unwrap_or(RaftIndex(0));
        while let Some(parked) =
            self.parked.pop_front_if(|p| p.last_offset < high_watermark && (p.index <= acked || !has_enough))
        {
            let outcome = if parked.index <= acked { Ok(()) } else { Err(AppendError::NotEnoughReplicasAfterAppend) };
            parked.reply.finish(outcome, log_start);
        }
    }

    /// The last entry that so many voters have on disk as `min.insync.replicas` wants. A commit says so of a majority; of
    /// more only the leader knows. None: this replica does not.
    fn acked_index(&self) -> Option<RaftIndex> {
        let all = Some(RaftIndex(u64::MAX));
        let Some(group) = self.group.as_ref().filter(|g| g.has_others()) else { return all };
        let voters = group.replica().membership().voters.len();
        let wanted = self.shared.config().min_insync_replicas.min(voters);
        if wanted <= voters / 2 + 1 {
            return all;
        }
        if !group.is_leader() {
            return None;
        }
        let replica = group.replica();
        had_by(wanted, replica.membership(), replica.progress().map(|(peer, p)| (peer, p.matched)))
    }

    fn is_alone_and_caches(&self) -> bool {
        self.shared.config().write_caching && self.group.as_ref().is_some_and(|group| !group.has_others())
    }

    /// Whether as many replicas are in sync as `min.insync.replicas` wants. It never wants more than there are (Kafka
    /// `Partition.effectiveMinIsr`). A replica that does not lead has its own answer.
    pub(super) fn has_enough_in_sync(&self) -> bool {
        let Some(group) = self.group.as_ref().filter(|g| self.shared.is_leading() && g.has_others()) else {
            return true;
        };
        let voters = group.replica().membership().voters.len();
        self.in_sync.nodes().len() >= self.shared.config().min_insync_replicas.min(voters)
    }

    /// Gives a batch its place. The flag says whether it is new to the log.
    fn admit(
        &mut self,
        header: &BatchHeader,
        bytes: Bytes,
        dir: &DataDir,
        origin: Origin,
    ) -> Result<(Appended, bool), AppendError> {
        let leading = self.shared.leadership();
        let group = match (&mut self.group, leading) {
            (Some(group), Leadership::Leading) => group,
            (_, Leadership::Offline) | (None, _) => return Err(AppendError::Storage),
            (Some(_), Leadership::Starting | Leadership::Following) => return Err(AppendError::NotLeader),
        };
        let log_start = self.shared.log_start();
        let mut last_room = false;
        match origin {
            Origin::Client(guard) => {
                if header.is_idempotent()
                    && let Admission::Duplicate { first_offset, last_offset } = self.producers.check(header, guard)?
                {
                    return Ok((Appended { base_offset: first_offset, last_offset, log_start }, false));
                }
            }
            Origin::Broker(InternalKind::Plain { last_room: may }) => last_room = may,
            Origin::Broker(InternalKind::Transactional { guard }) => {
                self.producers.check_coordinators(header, guard)?;
            }
            Origin::Broker(InternalKind::End(end)) => self.producers.check_end(&end)?,
        }
        if dir.is_full() && !last_room {
            return Err(AppendError::Storage);
        }
        let size_bytes = bytes.len() as u64;
        match group.reserve(size_bytes) {
            Ok(()) => {}
            Err(LogError::NoSpace) => {
                dir.ran_full();
                return Err(AppendError::Storage);
            }
            Err(e) => {
                tracing::error!(partition = %self.shared.name, error = %e, "log failed");
                self.broken = true;
                return Err(AppendError::Storage);
            }
        }
        let batch = BatchSequence::of(header, &bytes, group.end_offset());
        let proposed = group.propose_batch(header, bytes).map_err(|_| AppendError::NotLeader)?;
        self.uncommitted_bytes += size_bytes;
        if let Some(batch) = batch {
            self.producers.admit(batch);
        }
        let last_offset = proposed.base_offset.plus(i64::from(header.last_offset_delta));
        Ok((Appended { base_offset: proposed.base_offset, last_offset, log_start }, true))
    }
}

/// The last entry that so many of the voters have. Of those who only voted before a change of the members none counts: they
/// are about to go.
fn had_by(
    wanted: usize,
    members: &Membership,
    matched: impl Iterator<Item = (PeerId, RaftIndex)>,
) -> Option<RaftIndex> {
    let stays = matched.filter(|(peer, _)| members.voters.contains(peer));
    let mut matched: Vec<RaftIndex> = stays.map(|(_, matched)| matched).collect();
    matched.sort_unstable_by(|a, b| b.cmp(a));
    matched.get(wanted - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_about_to_go_does_not_count_as_one_who_has_it() {
        let peers = |ids: &[u64]| ids.iter().copied().map(PeerId).collect::<Vec<_>>();
        let matched = [(1, 90), (2, 80), (3, 70), (4, 10)].map(|(peer, index)| (PeerId(peer), RaftIndex(index)));
        let settled = Membership::of_voters(peers(&[1, 2, 3]));
        assert_eq!(had_by(3, &settled, matched.into_iter().take(3)), Some(RaftIndex(70)));
        let joint = Membership { voters_outgoing: peers(&[1, 2, 3]), ..Membership::of_voters(peers(&[1, 2, 4])) };
        assert_eq!(had_by(3, &joint, matched.into_iter()), Some(RaftIndex(10)));
        let half = Membership { voters_outgoing: peers(&[1, 2, 3]), ..Membership::of_voters(peers(&[3, 4])) };
        assert_eq!(had_by(2, &half, matched.into_iter()), Some(RaftIndex(10)));
    }

    #[test]
    fn an_outcome_that_comes_after_the_time_is_over_is_passed_over() {
        let room = Arc::new(tokio::sync::Semaphore::new(1));
        let ticket = Ticket::new(2, room.clone().try_acquire_owned().ok());
        ticket.fill(0, Err(AppendError::Storage));
        assert_eq!(ticket.take(), [Some(Err(AppendError::Storage)), None]);
        ticket.fill(1, Err(AppendError::NotLeader));
        assert_eq!(room.available_permits(), 1, "its room is free again");
    }
}
