//! Raft behind `campaign / tick / step / propose / persisted / fetched / applied -> Effects`.
//!
//! Raft sees descriptors of batches, never their bytes: whoever carries the effects out keeps the bytes by
//! (term, index). One entry is one record batch, or one of raft's own, which takes no offset. No clock and no random
//! numbers but those given: the same calls have the same effects.

mod conf_change;
mod cut;
mod entry;
mod members;
mod membership;
mod message;
mod role;
mod snapshot;
mod state;
mod timeout;

pub use conf_change::{ConfChange, PeerChange};
pub use entry::{
    BatchDescriptor, Entry, EntryDataError, EntryKind, OWN_CONF_CHANGE, OWN_CONF_SETTLED, OWN_EMPTY, OWN_TRIM_PREFIX,
};
pub use members::{ConfChangeError, Progress};
pub use membership::{Membership, MembershipError};
pub use message::{Message, MessageError};
use raft::{Config, RawNode, StateRole};
pub use snapshot::SnapshotMeta;
use state::LogState;
use timeout::Timeout;

use crate::types::{LogMark, PeerId, RaftIndex, RaftTerm};

/// Index and term of the virtual snapshot that every group is born with; its first entry follows.
pub const BIRTH: (RaftIndex, RaftTerm) = (RaftIndex(1), RaftTerm(1));

/// Ticks without a word of the leader after which a follower stands for election, at least; at most twice as many.
/// The design's tick is 100 ms.
pub const ELECTION_TICKS: usize = 6;
/// Ticks between a leader's heartbeats.
const HEARTBEAT_TICKS: usize = 1;
/// Entries in one message.
const MESSAGE_ENTRIES: u64 = 64;
/// Messages with entries on their way to one follower.
const INFLIGHT_MESSAGES: usize = 32;

/// What a replica must never forget. Synced when term or vote change; the commit index may lag, and is never above what is
/// on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: RaftTerm,
    /// Whom this replica voted for in `term`; `PeerId(0)`: nobody.
    pub vote: PeerId,
    pub commit: RaftIndex,
}

/// What a replica starts from: all of it read from disk, and all of it synced.
#[derive(Clone, Debug)]
pub struct Start {
    pub peer: PeerId,
    pub membership: Membership,
    /// Index of the entry that made it; conf changes up to there are not applied again. Beyond `last` where a snapshot
    /// brought it and the entries after that have not come yet.
    pub membership_index: RaftIndex,
    pub hard_state: HardState,
    /// Index and term of the entry before the first in the log.
    pub before_first: (RaftIndex, RaftTerm),
    /// Index and term of the last entry; `before_first` when the log is empty.
    pub last: (RaftIndex, RaftTerm),
    /// Terms of the log and their first indexes, rising. The entries before the first of them are of the term that
    /// `before_first` names.
    pub terms: Vec<(RaftTerm, RaftIndex)>,
    /// Index of the entry up to which nothing needs to be applied.
    pub applied: RaftIndex,
    /// The entries after `applied`, up to `last`.
    pub unapplied: Vec<Entry>,
    /// From this the election timeouts are drawn: the low 32 bits the same for all replicas of a group, another one for
    /// each.
    pub seed: u64,
}

impl Start {
    /// A replica of a newborn group, with an empty log. It need not be one of the voters: then it follows as soon as
    /// it is a member, from the first entry on.
    pub fn newborn(peer: PeerId, voters: Vec<PeerId>, seed: u64) -> Self {
        Self {
            peer,
            membership: Membership::of_voters(voters),
            membership_index: BIRTH.0,
            hard_state: HardState { term: BIRTH.1, vote: PeerId(0), commit: BIRTH.0 },
            before_first: BIRTH,
            last: BIRTH,
            terms: Vec::new(),
            applied: BIRTH.0,
            unapplied: Vec::new(),
            seed,
        }
    }

    /// A replica that joins a group which has gone on without it: it has nothing, and gets a snapshot first.
    pub fn empty(peer: PeerId, seed: u64) -> Self {
        let nothing = (RaftIndex(0), RaftTerm(0));
        Self {
            membership: Membership::default(),
            membership_index: nothing.0,
            hard_state: HardState::default(),
            before_first: nothing,
            last: nothing,
            applied: nothing.0,
            ..Self::newborn(peer, Vec::new(), seed)
        }
    }
}

/// What must be done, in this order: `snapshot` installed in the place of all that the log and the partition's state hold,
/// with its membership stored beside it, and the index as the applied one; `append` to the log (from its first index on what the log holds is void) and
/// `hard_state` to the store, both synced before `persisted(number)` is called. `messages` may leave at once,
/// `persisted_messages` when everything up to `number` is on disk; `membership` is to be stored, and `committed` may
/// be applied at once.
#[derive(Debug, Default)]
pub struct Effects {
    pub number: u64,
    /// What it stands for was fetched before the message that told of it was stepped. `messages` of other replicas may
    /// have brought what it brings in the meantime: then there is none here.
    pub snapshot: Option<SnapshotMeta>,
    pub append: Vec<Entry>,
    /// To be stored; synced when `must_sync_hard_state`.
    pub hard_state: Option<HardState>,
    pub must_sync_hard_state: bool,
    pub messages: Vec<Message>,
    pub persisted_messages: Vec<Message>,
    pub committed: Vec<Entry>,
    /// What the last conf change in `committed` made, and its index. To be stored, together and unsynced, before any
    /// applied index of `committed` is.
    pub membership: Option<(RaftIndex, Membership)>,
    /// Answers to `read_index`: what was asked under `number` or below may be read once `index` is applied.
    pub reads: Vec<Read>,
    /// Entries to be read off the log and given to `fetched`.
    pub fetches: Vec<Fetch>,
}

/// A piece of the log that a follower lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub low: RaftIndex,
    /// Not included. Fewer entries than asked for are enough.
    pub high: RaftIndex,
}

/// How far a reader must wait to see all that was committed when it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    pub number: u64,
    pub index: RaftIndex,
}

/// The proposal was refused: this replica does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the leader of term {term}")]
pub struct NotLeader {
    pub term: RaftTerm,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("the message is for peer {to}")]
    NotOurs { to: PeerId },
    /// The leader knows of entries that this replica has acknowledged and lacks: its disk lost them. It must not go
    /// on under this peer id.
    #[error("the leader's commit index {commit} lies beyond our last entry {last}")]
    Lost { commit: RaftIndex, last: RaftIndex },
    /// A term that Kafka's leader epoch could not show.
    #[error("term {0} is too large")]
    Term(RaftTerm),
}

/// One replica of one raft group.
pub struct Replica {
    node: RawNode<LogState>,
    timeout: Timeout,
    /// It was to stand for election and could not yet.
    wants_to_stand: bool,
    /// Term and membership for which this leader proposed the entry that says they are settled.
    settled: (RaftTerm, RaftIndex),
    /// The last change of the members, if it was since the start.
    changed: Option<RaftIndex>,
    /// A log that ends before this is of long ago, or of one that forgot: its replica neither stands nor votes.
    since: LogMark,
    /// Number of the last `read_index`.
    reads: u64,
    /// Index of a snapshot on its way to the disk.
    installing: Option<RaftIndex>,
    /// Number of the effects whose term or vote is on its way to the disk.
    unsynced: Option<u64>,
}

impl Replica {
    /// # Panics
    /// When `start` contradicts itself: that is a bug of recovery, and no replica may run on it.
    pub fn new(start: Start) -> Self {
        let config = Config {
            id: start.peer.0,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: start.applied.0,
            pre_vote: true,
            check_quorum: true,
            batch_append: true,
            // Bytes are limited by who holds them; raft counts descriptors only.
            max_uncommitted_size: raft::NO_LIMIT,
            max_size_per_msg: MESSAGE_ENTRIES * entry::DESCRIPTOR_LEN as u64,
            max_inflight_msgs: INFLIGHT_MESSAGES,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let timeout = Timeout::new(start.seed, ELECTION_TICKS);
        let node = RawNode::new(&config, LogState::new(start), &logger).expect("the state given is consistent");
        let settled = (RaftTerm(0), RaftIndex(0));
        let mut replica = Self {
            node,
            timeout,
            wants_to_stand: false,
            settled,
            changed: None,
            since: LogMark::default(),
            reads: 0,
            installing: None,
            unsynced: None,
        };
        replica.timeout.hold(&mut replica.node.raft);
        replica
    }

    /// Stands for election, or does so as soon as all is applied and on disk that must be. A sole voter has won then;
    /// its effects say so. Without a vote nothing happens.
    pub fn campaign(&mut self) {
        self.wants_to_stand = true;
        self.stand();
    }

    /// The disk lost part of the log. Or: the group once went away from this peer, whose replica was deleted, and comes back:
    /// with the replica its votes are forgotten, and what it acknowledged, and the birth's membership is one of long ago. Those whom it gave its word
    /// then must not get it again: it takes no leader of an earlier term than `since`, and neither votes nor stands until
    /// its log reaches there. To be said before anything else is done.
    pub fn hold_until(&mut self, since: LogMark) {
        self.since = since;
        if self.term() < since.term {
            self.node.raft.become_follower(since.term.0, raft::INVALID_ID);
            self.timeout.hold(&mut self.node.raft);
        }
    }

    /// Whether it may not stand for that.
    pub fn is_held(&self) -> bool {
        !self.is_leader() && (self.lacks_since() || self.membership_index() < self.since.index)
    }

    fn lacks_since(&self) -> bool {
        let log = &self.node.raft.raft_log;
        LogMark { term: RaftTerm(log.last_term()), index: RaftIndex(log.last_index()) } < self.since
    }

    fn stand(&mut self) {
        // Raft asks nobody's leave for this: who has no vote would lead without being a member.
        self.wants_to_stand &= self.node.raft.promotable();
        if !self.wants_to_stand || !self.may_stand() {
            return;
        }
        self.node.campaign().expect("a local message is never refused");
        self.timeout.hold(&mut self.node.raft);
        // Raft refuses while a conf change is committed and not yet applied.
        self.wants_to_stand = self.node.raft.state == StateRole::Follower;
    }

    /// Where nobody else may lead this replica does, as soon as it may: it may have no ticks.
    fn stand_alone(&mut self) {
        self.wants_to_stand |= !self.is_leader() && self.membership().is_sole_voter(self.peer());
    }

    /// A sole voter wins as soon as it stands: only with all that it has on disk. And raft looks for what it has not
    /// applied, which is nowhere while a snapshot is on its way to the disk.
    fn may_stand(&self) -> bool {
        let raft = &self.node.raft;
        if self.installing.is_some() || self.is_held() {
            return false;
        }
        let is_sole = self.membership().is_sole_voter(self.peer());
        raft.state == StateRole::Leader || !is_sole || raft.raft_log.persisted == raft.raft_log.last_index()
    }

    /// A tenth of a second has passed. A sole voter that leads needs no ticks, unless its membership is not settled.
    pub fn tick(&mut self) {
        if self.may_stand() {
            self.node.tick();
            self.timeout.hold(&mut self.node.raft);
        } else if self.is_held() && self.leader().is_none() {
            self.speak_up();
        }
        self.settle();
    }

    /// One that is held waits for a leader of its term or a later one: those who think that all is well are told the term.
    /// A leader of an earlier one steps down, as it must before it can count on this replica again.
    fn speak_up(&mut self) {
        let (own, term) = (self.peer(), self.node.raft.term);
        let others: Vec<PeerId> = self.membership().peers().filter(|peer| *peer != own).collect();
        self.node.raft.msgs.extend(others.into_iter().map(|peer| Message::presence(own, peer, term).0));
    }

    /// Takes what another replica says.
    ///
    /// # Errors
    /// Nothing has changed. Messages of those who are no members, and stale ones, are taken and without effect.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        let raft = &self.node.raft;
        if message.to().0 != raft.id {
            return Err(StepError::NotOurs { to: message.to() });
        }
        if message.term().0 > i32::MAX as u64 - 1 {
            return Err(StepError::Term(message.term()));
        }
        let last = self.last_index();
        // Of a heartbeat only: an append brings what it commits, and raft checks it.
        if message.is_heartbeat() && message.term() >= self.term() && message.commit() > last {
            return Err(StepError::Lost { commit: message.commit(), last });
        }
        if (message.is_timeout_now() && !self.may_stand()) || (message.asks_for_vote() && self.lacks_since()) {
            return Ok(());
        }
        // What raft refuses here is of a peer that it does not know.
        drop(self.node.step(message.0));
        self.timeout.hold(&mut self.node.raft);
        self.wants_to_stand &= self.leader().is_none();
        self.stand_alone();
        self.stand();
        Ok(())
    }

    pub fn peer(&self) -> PeerId {
        PeerId(self.node.raft.id)
    }

    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Who leads, as far as this replica knows.
    pub fn leader(&self) -> Option<PeerId> {
        Some(PeerId(self.node.raft.leader_id)).filter(|leader| leader.0 != 0)
    }

    pub fn term(&self) -> RaftTerm {
        RaftTerm(self.node.raft.term)
    }

    pub fn last_index(&self) -> RaftIndex {
        RaftIndex(self.node.raft.raft_log.last_index())
    }

    pub fn commit_index(&self) -> RaftIndex {
        RaftIndex(self.node.raft.raft_log.committed)
    }

    /// Appends to the leader's log; the entry shows in the next effects.
    pub fn propose(&mut self, kind: EntryKind) -> Result<(RaftTerm, RaftIndex), NotLeader> {
        if !self.is_leader() {
            return Err(NotLeader { term: self.term() });
        }
        self.node.propose(Vec::new(), kind.encode()).map_err(|_| NotLeader { term: self.term() })?;
        Ok((self.term(), self.last_index()))
    }

    /// Hands the leadership to another voter once it has all entries. Refuses proposals until then, or until an
    /// election timeout has passed.
    pub fn transfer_leader(&mut self, to: PeerId) {
        self.node.transfer_leader(to.0);
    }

    /// To whom the leadership is being handed.
    pub fn leader_transferee(&self) -> Option<PeerId> {
        self.node.raft.lead_transferee.map(PeerId)
    }

    /// Asks the others whether this replica still leads; `reads` of some effects has the answer. What was asked before
    /// a change of term gets none.
    ///
    /// # Errors
    /// Also of a leader that has not committed anything in its term: it cannot know yet what is committed.
    pub fn read_index(&mut self) -> Result<u64, NotLeader> {
        if !self.is_leader() || !self.node.raft.commit_to_current_term() {
            return Err(NotLeader { term: self.term() });
        }
        self.reads += 1;
        self.node.read_index(self.reads.to_be_bytes().to_vec());
        Ok(self.reads)
    }

    /// Whether there is something to be done for the log or for others.
    pub fn has_effects(&self) -> bool {
        self.node.has_ready()
    }

    /// What is to be done now, if anything.
    pub fn effects(&mut self) -> Option<Effects> {
        if !self.node.has_ready() {
            let fetches = if self.node.store().has_fetches() { self.node.store().fetches() } else { Vec::new() };
            return (!fetches.is_empty()).then(|| Effects { fetches, ..Effects::default() });
        }
        let mut ready = self.node.ready();
        let decode = |e: raft::eraftpb::Entry| Entry::from_raft(&e).expect("raft gives back what was proposed");
        let append: Vec<Entry> = ready.take_entries().into_iter().map(decode).collect();
        let committed: Vec<Entry> = ready.take_committed_entries().into_iter().map(decode).collect();
        let hard_state = ready.hs().map(|hs| HardState {
            term: RaftTerm(hs.term),
            vote: PeerId(hs.vote),
            // Of what is on disk: what lies there beyond may be void already.
            commit: RaftIndex(hs.commit.min(self.node.raft.raft_log.persisted)),
        });
        let number_of = |asked: &raft::ReadState| asked.request_ctx.as_slice().try_into().map(u64::from_be_bytes);
        let read = |asked: &raft::ReadState| Read {
            number: number_of(asked).expect("asked here, by number"),
            index: RaftIndex(asked.index),
        };
        // Raft's own `must_sync` says yes whenever there are entries: those lie in the log.
        let must_sync_hard_state = ready.hs().is_some_and(|hs| self.node.store().votes_otherwise(hs));
        if must_sync_hard_state {
            self.unsynced = Some(ready.number());
        }
        let own = |messages: Vec<raft::eraftpb::Message>| messages.into_iter().map(Message).collect::<Vec<_>>();
        let (mut messages, mut persisted_messages) = (own(ready.take_messages()), own(ready.take_persisted_messages()));
        if self.unsynced.is_some() {
            // A sole voter leads at once, by a vote that a loss of power takes back: it would lead in the same term again,
            // with other entries. Learners must not hear of it before. Raft lets a leader speak at any time.
            persisted_messages.append(&mut messages);
        }
        let mut effects = Effects {
            number: ready.number(),
            snapshot: self.install(ready.snapshot()),
            must_sync_hard_state,
            hard_state,
            messages,
            persisted_messages,
            reads: ready.read_states().iter().map(read).collect(),
            committed,
            append,
            membership: None,
            fetches: self.node.store().fetches(),
        };
        self.node.mut_store().append(&effects.append);
        if let Some(hs) = ready.hs() {
            self.node.mut_store().set_hard_state(hs.clone());
        }
        self.node.advance_append_async(ready);
        effects.membership = self.change_membership(&effects.committed);
        Some(effects)
    }

    /// Everything of the effects up to `number` is on disk.
    pub fn persisted(&mut self, number: u64) {
        self.unsynced = self.unsynced.filter(|unsynced| *unsynced > number);
        self.node.on_persist_ready(number);
        self.apply_installed();
        self.stand();
    }

    /// The entries from `low` on that effects asked for; some of them are enough. None: they could not be read, and are
    /// asked for again when the follower is heard of; or they are no more, and it gets a snapshot.
    pub fn fetched(&mut self, low: RaftIndex, entries: &[Entry]) {
        for context in self.node.store().fetched(low, entries) {
            self.node.on_entries_fetched(context);
        }
        self.node.store().forget_fetched();
    }

    /// Everything up to `index` is applied: the descriptors up to there are dropped.
    pub fn applied(&mut self, index: RaftIndex) {
        // Installed and applied by now: a snapshot that reaches further.
        if index.0 >= self.node.raft.raft_log.applied {
            self.node.advance_apply_to(index.0);
            self.node.mut_store().applied(index);
        }
        self.stand();
        self.settle();
    }
}

#[cfg(test)]
mod tests;
