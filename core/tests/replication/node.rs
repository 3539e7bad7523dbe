//! One replica with its disk.

use std::collections::VecDeque;

use millstream_core::partition::Producers;
use millstream_core::replica::{
    BIRTH, Effects, Entry, Fetch, HardState, Membership, Message, Read, Replica, SnapshotMeta, Start,
};
use millstream_core::types::{LogMark, Offset, PeerId, RaftIndex, RaftTerm};

use super::chance::Chance;
use super::log::Log;
use super::writers::sequences;

/// What a crash leaves: the log, and what the store keeps.
#[derive(Clone)]
pub struct Disk {
    pub log: Log,
    pub hard_state: HardState,
    pub applied: RaftIndex,
    pub membership: (RaftIndex, Membership),
    /// Part of the log was lost: it neither votes nor stands before its log has an entry of this term.
    pub held: RaftTerm,
}

/// Written to the log and not yet synced.
struct LogWrite {
    number: u64,
    /// All that was there is replaced: what the snapshot stands for ends at this offset, and knows these producers.
    install: Option<(SnapshotMeta, Offset, Producers)>,
    append: Vec<Entry>,
}

/// Written to the store, which keeps them in this order, and not yet synced.
enum StoreWrite {
    HardState(HardState),
    Commit(RaftIndex),
    Applied(RaftIndex),
    Membership(RaftIndex, Membership),
}

impl Disk {
    fn write(&mut self, write: LogWrite) {
        if let Some((meta, end, producers)) = write.install {
            self.log = Log::after((meta.index, meta.term), end, producers);
            self.applied = meta.index;
            self.membership = (meta.membership_index, meta.membership);
        }
        self.log.append(&write.append);
    }

    fn store(&mut self, write: StoreWrite) {
        match write {
            StoreWrite::HardState(hard_state) => self.hard_state = hard_state,
            StoreWrite::Commit(commit) => self.hard_state.commit = self.hard_state.commit.max(commit),
            // A snapshot may have come first.
            StoreWrite::Applied(applied) => self.applied = self.applied.max(applied),
            StoreWrite::Membership(index, membership) if index >= self.membership.0 => {
                self.membership = (index, membership);
            }
            StoreWrite::Membership(..) => {}
        }
    }
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// What was not synced is lost from some point on, log and store apart.
    Power,
    /// Everything written is there.
    Kill,
    /// The log could be written up to some point only.
    FullDisk,
}

pub struct Node {
    pub peer: PeerId,
    pub disk: Disk,
    pub replica: Option<Replica>,
    /// Its disk was lost, or it was removed and deleted: it never comes back under this peer id.
    pub is_gone: bool,
    /// Grows with each start: what was asked before means nothing afterwards.
    pub boot: u64,
    /// Of one that was deleted and is to come back: it neither votes nor stands before its log reaches there.
    since: LogMark,
    /// What its disk lost, and it had acknowledged.
    lost: Option<Log>,
    /// The log in memory and page cache.
    pub log: Log,
    log_writes: VecDeque<LogWrite>,
    /// With the number of the flight that syncs it, if one must.
    store_writes: VecDeque<(Option<u64>, StoreWrite)>,
    /// May leave once the flight is on disk.
    waiting: VecDeque<(u64, Vec<Message>)>,
    /// The last flight that is on its way.
    flight: u64,
    flushed: u64,
    pub applied: RaftIndex,
    /// Its own: what the disk does must not depend on what others do.
    chance: Chance,
    /// Where what a snapshot stands for ends, by its index, and what it knows of producers: fetched before the message was
    /// stepped.
    pub fetched: Vec<(RaftIndex, Offset, Producers)>,
    /// What decides on batches of idempotent producers.
    pub producers: Producers,
}

/// What a call made a node do.
#[derive(Default)]
pub struct Done {
    pub send: Vec<Message>,
    pub committed: Vec<Entry>,
    pub installed: Option<SnapshotMeta>,
    /// From this offset on the log was cut, before anything was committed.
    pub cut: Option<Offset>,
    /// Of whom the group consists, since which entry.
    pub memberships: Vec<(RaftIndex, Membership)>,
    pub reads: Vec<Read>,
    pub fetches: Vec<Fetch>,
    /// Number of the last write, which is to be flushed.
    pub flush: Option<u64>,
}

impl Node {
    /// The disk of a founder's replica.
    pub fn founder(peer: PeerId, voters: &[PeerId], learners: &[PeerId]) -> Self {
        let hard_state = HardState { term: BIRTH.1, vote: PeerId(0), commit: BIRTH.0 };
        let members = Membership { learners: learners.to_vec(), ..Membership::of_voters(voters.iter().copied()) };
        let log = Log::after(BIRTH, Offset::ZERO, Producers::default());
        Self::new(peer, Disk { log, hard_state, applied: BIRTH.0, membership: (BIRTH.0, members), held: RaftTerm(0) })
    }

    /// Of one that joins later, with nothing.
    pub fn empty(peer: PeerId) -> Self {
        let start = Start::empty(peer, 0);
        let log = Log::after(start.before_first, Offset::ZERO, Producers::default());
        let (hard_state, applied) = (start.hard_state, start.applied);
        let membership = (start.membership_index, start.membership);
        Self::new(peer, Disk { log, hard_state, applied, membership, held: RaftTerm(0) })
    }

    /// The replica was removed and is deleted. The disk is there, and may get one again: as the group was born.
    pub fn delete(&mut self, founders: &Membership, since: LogMark) {
        let mut anew = Self::founder(self.peer, &founders.voters, &founders.learners);
        // Nobody hears any more what the one before said of its log.
        anew.disk.hard_state.term = RaftTerm(self.disk.hard_state.term.0 + 1);
        *self = Self { boot: self.boot, since, ..anew };
    }

    /// The disk lost the end of the log, or all of it; the votes are there, and who the members are, if it ever knew.
    pub fn lose_log(&mut self, founders: &Membership) {
        assert!(self.replica.is_none(), "it does not run");
        let disk = &mut self.disk;
        self.lost = Some(disk.log.clone());
        let term = RaftTerm(disk.hard_state.term.0 + 1);
        disk.held = term;
        disk.hard_state = HardState { term, vote: PeerId(0), commit: BIRTH.0 };
        if self.chance.percent(50) {
            let room = disk.log.last().0.0 - disk.applied.0;
            disk.log.cut(RaftIndex(disk.applied.0 + self.chance.below(room + 1)));
        } else {
            disk.log = Log::after(BIRTH, Offset::ZERO, Producers::default());
            disk.applied = BIRTH.0;
            if disk.membership.0 < BIRTH.0 {
                disk.membership = (BIRTH.0, founders.clone());
            }
            // Whoever begins with an empty log enters a term of its own.
            disk.hard_state.term = RaftTerm(term.0 + 1);
        }
    }

    /// Whether it may not vote for that, or will not when it starts.
    pub fn is_held(&self) -> bool {
        self.disk.log.last().1 < self.disk.held || self.replica.as_ref().is_some_and(|r| r.is_held())
    }

    /// The term that it leads in, once its vote is on disk: before that it leads for itself alone.
    pub fn leads(&self) -> Option<RaftTerm> {
        let leads = |r: &&Replica| r.is_leader() && r.term() == self.disk.hard_state.term;
        self.replica.as_ref().filter(leads).map(Replica::term)
    }

    /// Whether the entry is on its disk, or was when it said so.
    pub fn had(&self, entry: &Entry) -> bool {
        self.disk.log.holds(entry) || self.lost.as_ref().is_some_and(|lost| lost.holds(entry))
    }

    fn new(peer: PeerId, disk: Disk) -> Self {
        Self {
            peer,
            log: disk.log.clone(),
            applied: disk.applied,
            disk,
            replica: None,
            is_gone: false,
            boot: 0,
            since: LogMark::default(),
            lost: None,
            log_writes: VecDeque::new(),
            store_writes: VecDeque::new(),
            waiting: VecDeque::new(),
            flight: 0,
            flushed: 0,
            chance: Chance::new(peer.0),
            fetched: Vec::new(),
            producers: Producers::default(),
        }
    }

    pub fn start(&mut self, seed: u64) {
        assert!(!self.is_gone, "{} never comes back", self.peer);
        self.boot += 1;
        self.chance = Chance::new(seed ^ self.peer.0 << 32 ^ self.boot << 48);
        let last = self.disk.log.last().1;
        if self.disk.hard_state.term < last {
            // Only the log shows it, and it may be lost one day.
            self.disk.hard_state = HardState { term: last, vote: PeerId(0), ..self.disk.hard_state };
        }
        let Disk { log, hard_state, applied, membership, held } = self.disk.clone();
        let (membership_index, membership) = membership;
        let mut replica = Replica::new(Start {
            peer: self.peer,
            membership,
            membership_index,
            hard_state,
            before_first: log.before_first,
            last: log.last(),
            terms: log.terms(),
            applied,
            unapplied: log.entries().iter().filter(|e| e.index > applied).cloned().collect(),
            // The lower half is the group's.
            seed: self.chance.next() >> 32 << 32 | seed & u64::from(u32::MAX),
        });
        replica.hold_until(LogMark { term: held.max(self.since.term), ..self.since });
        self.replica = Some(replica);
        (self.flight, self.flushed) = (0, 0);
        self.applied = applied;
        self.producers = log.producers(applied);
        self.log = log;
    }

    pub fn crash(&mut self, how: Crash) {
        self.replica = None;
        let lucky = |chance: &mut Chance, end: usize| chance.below(end as u64 + 1) as usize;
        let (log_end, store_end) = (self.log_writes.len(), self.store_writes.len());
        let logged = if how == Crash::Kill { log_end } else { lucky(&mut self.chance, log_end) };
        let stored = if how == Crash::Power { lucky(&mut self.chance, store_end) } else { store_end };
        for write in self.log_writes.drain(..logged) {
            self.disk.write(write);
        }
        // Of the next write some entries may be there: the rest is cut off when the log is opened.
        if how != Crash::Kill
            && let Some(mut torn) = self.log_writes.pop_front().filter(|write| write.install.is_none())
        {
            torn.append.truncate(lucky(&mut self.chance, torn.append.len()));
            if !torn.append.is_empty() {
                self.disk.write(torn);
            }
        }
        for (_, write) in self.store_writes.drain(..stored) {
            self.disk.store(write);
        }
        self.log_writes.clear();
        self.store_writes.clear();
        self.waiting.clear();
        self.fetched.clear();
    }

    /// Carries out what the replica wants.
    pub fn work(&mut self) -> Done {
        let mut done = Done::default();
        while let Some(effects) = self.replica.as_mut().and_then(|r| r.effects()) {
            self.carry_out(effects, &mut done);
        }
        done
    }

    fn carry_out(&mut self, effects: Effects, done: &mut Done) {
        let number = effects.number;
        done.send.extend(effects.messages);
        let mut must_flush = effects.must_sync_hard_state;
        if effects.snapshot.is_some() || !effects.append.is_empty() {
            must_flush = true;
            let install = effects.snapshot.map(|meta| {
                let fetched = self.fetched.iter().find(|(index, ..)| *index == meta.index);
                let (_, end, producers) = fetched.expect("it was fetched before it was installed").clone();
                assert!(meta.index > self.applied, "what is applied stays");
                self.log = Log::after((meta.index, meta.term), end, producers.clone());
                self.producers = producers.clone();
                self.applied = meta.index;
                done.installed = Some(meta.clone());
                (meta, end, producers)
            });
            let first = effects.append.first();
            assert!(first.is_none_or(|first| first.index > self.applied), "what is applied stays");
            if let Some(first) = first
                && first.index <= self.log.last().0
            {
                let end = self.log.end_at(RaftIndex(first.index.0 - 1)).expect("the entry before it is there");
                self.producers.truncate_from(end);
                done.cut = Some(done.cut.map_or(end, |before| before.min(end)));
            }
            self.log.append(&effects.append);
            sequences(&effects.append).for_each(|batch| self.producers.admit(batch));
            self.log_writes.push_back(LogWrite { number, install, append: effects.append });
        }
        if let Some(hard_state) = effects.hard_state {
            if effects.must_sync_hard_state {
                self.store_writes.push_back((Some(number), StoreWrite::HardState(hard_state)));
            } else if self.chance.percent(20) {
                self.store_writes.push_back((None, StoreWrite::Commit(hard_state.commit)));
            }
        }
        if must_flush {
            self.flight = number;
            done.flush = Some(number);
        }
        if self.flight > self.flushed {
            self.waiting.push_back((self.flight, effects.persisted_messages));
        } else {
            done.send.extend(effects.persisted_messages);
        }
        if let Some((index, membership)) = effects.membership {
            self.store_writes.push_back((None, StoreWrite::Membership(index, membership.clone())));
            done.memberships.push((index, membership));
        }
        for entry in &effects.committed {
            assert_eq!(entry.index, self.applied.next(), "entries are applied in order");
            assert_eq!(self.log.get(entry.index), Some(entry), "committed is what the log holds");
            self.applied = entry.index;
            self.producers.commit_to(self.log.end_at(entry.index).expect("it is in the log"));
        }
        if let (Some(last), Some(replica)) = (effects.committed.last(), &mut self.replica) {
            replica.applied(last.index);
            if self.chance.percent(30) {
                self.store_writes.push_back((None, StoreWrite::Applied(last.index)));
            }
        }
        done.committed.extend(effects.committed);
        done.reads.extend(effects.reads);
        done.fetches.extend(effects.fetches);
    }

    /// Everything up to the flight `number` is on disk; what waited for it may leave.
    pub fn flushed(&mut self, number: u64) -> Vec<Message> {
        self.flushed = self.flushed.max(number);
        while let Some(write) = self.log_writes.pop_front_if(|w| w.number <= number) {
            self.disk.write(write);
        }
        let synced = self.store_writes.iter().rposition(|(flight, _)| flight.is_some_and(|flight| flight <= number));
        for (_, write) in self.store_writes.drain(..synced.map_or(0, |place| place + 1)) {
            self.disk.store(write);
        }
        let mut send = Vec::new();
        while let Some((_, mut messages)) = self.waiting.pop_front_if(|(flight, _)| *flight <= number) {
            send.append(&mut messages);
        }
        if let Some(replica) = &mut self.replica {
            replica.persisted(number);
        }
        send
    }

    /// Whether a flight that is on its way has something for the log.
    pub fn writes_log(&self, number: u64) -> bool {
        self.log_writes.front().is_some_and(|write| write.number <= number)
    }

    /// Drops some of the log that is applied, by what the store surely knows.
    pub fn compact(&mut self) {
        let (first, applied) = (self.disk.log.before_first.0, self.disk.applied);
        let Some(room) = applied.0.checked_sub(first.0 + 1) else { return };
        let to = RaftIndex(first.0 + 1 + self.chance.below(room + 1));
        let Some(replica) = &mut self.replica else { return };
        if self.disk.log.get(to).is_none() || self.log.get(to).is_none() {
            // A snapshot on its way to the disk has more.
            return;
        }
        self.disk.log.compact(to);
        self.log.compact(to);
        replica.compacted(self.log.before_first);
    }

    /// Reads the log for a follower, if it can be read.
    pub fn fetch(&mut self, fetch: Fetch, is_read: bool) {
        let entries = if is_read { self.log.range(fetch.low, fetch.high) } else { Vec::new() };
        if let Some(replica) = &mut self.replica {
            replica.fetched(fetch.low, &entries);
        }
    }
}
