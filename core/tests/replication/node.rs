//! One replica with its disk.

use std::collections::VecDeque;

use millstream_core::replica::{BIRTH, Effects, Entry, Fetch, HardState, Membership, Message, Replica, Start};
use millstream_core::types::{PeerId, RaftIndex, RaftTerm};

/// What a crash leaves.
#[derive(Clone)]
pub struct Disk {
    hard_state: HardState,
    entries: Vec<Entry>,
    /// Written now and then, never above the last entry here.
    applied: RaftIndex,
}

impl Disk {
    fn write(&mut self, write: Write) {
        if let Some(first) = write.append.first() {
            self.entries.truncate(first.index.0 as usize - 2);
            self.entries.extend(write.append);
        }
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
    }

    pub fn holds(&self, entry: &Entry) -> bool {
        self.entries.get(entry.index.0 as usize - 2) == Some(entry)
    }

    fn last(&self) -> RaftIndex {
        RaftIndex(self.entries.len() as u64 + 1)
    }
}

/// Written and not yet synced.
struct Write {
    number: u64,
    append: Vec<Entry>,
    hard_state: Option<HardState>,
    /// May leave once this write is on disk.
    then: Vec<Message>,
}

pub struct Node {
    pub peer: PeerId,
    pub disk: Disk,
    pub replica: Option<Replica>,
    /// Grows with each start: what was asked before means nothing afterwards.
    pub boot: u64,
    /// The log in memory and page cache.
    pub log: Vec<Entry>,
    writes: VecDeque<Write>,
    pub applied: RaftIndex,
}

/// What a call made a node do.
#[derive(Default)]
pub struct Done {
    pub send: Vec<Message>,
    pub committed: Vec<Entry>,
    pub fetches: Vec<Fetch>,
    /// Number of the last write, which is to be flushed.
    pub flush: Option<u64>,
}

impl Node {
    pub fn new(peer: PeerId) -> Self {
        let hard_state = HardState { term: BIRTH.1, vote: PeerId(0), commit: BIRTH.0 };
        let disk = Disk { hard_state, entries: Vec::new(), applied: BIRTH.0 };
        Self { peer, disk, replica: None, boot: 0, log: Vec::new(), writes: VecDeque::new(), applied: BIRTH.0 }
    }

    pub fn start(&mut self, voters: &[PeerId], learners: &[PeerId]) {
        let Disk { hard_state, entries, applied } = self.disk.clone();
        self.boot += 1;
        let mut terms: Vec<(RaftTerm, RaftIndex)> = entries.iter().map(|e| (e.term, e.index)).collect();
        terms.dedup_by_key(|(term, _)| *term);
        self.replica = Some(Replica::new(Start {
            peer: self.peer,
            membership: Membership { learners: learners.to_vec(), ..Membership::of_voters(voters.iter().copied()) },
            membership_index: BIRTH.0,
            hard_state,
            before_first: BIRTH,
            last: entries.last().map_or(BIRTH, |e| (e.index, e.term)),
            terms,
            applied,
            unapplied: entries.iter().filter(|e| e.index > applied).cloned().collect(),
            seed: self.peer.0 << 32 | self.boot,
        }));
        self.applied = applied;
        self.log = entries;
    }

    /// `reached`: how many of the unsynced writes had reached the disk by themselves.
    pub fn crash(&mut self, reached: usize) {
        self.replica = None;
        let kept = reached.min(self.writes.len());
        for write in self.writes.drain(..kept) {
            self.disk.write(write);
        }
        self.writes.clear();
        self.log.clear();
    }

    pub fn unsynced(&self) -> usize {
        self.writes.len()
    }

    /// Carries out what the replica wants.
    pub fn work(&mut self) -> Done {
        let mut done = Done::default();
        let Some(replica) = &mut self.replica else { return done };
        while let Some(effects) = replica.effects() {
            let Effects { number, append, hard_state, must_sync_hard_state, messages, persisted_messages, .. } =
                effects;
            done.send.extend(messages);
            if let Some(first) = append.first() {
                assert!(first.index > self.applied, "what is applied stays");
                self.log.truncate(first.index.0 as usize - 2);
                self.log.extend_from_slice(&append);
            }
            if !append.is_empty() || must_sync_hard_state {
                done.flush = Some(number);
                self.writes.push_back(Write { number, append, hard_state, then: persisted_messages });
            } else if let Some(last) = self.writes.back_mut() {
                last.hard_state = hard_state.or(last.hard_state);
                last.then.extend(persisted_messages);
            } else {
                done.send.extend(persisted_messages);
            }
            for entry in &effects.committed {
                assert_eq!(self.log.get(entry.index.0 as usize - 2), Some(entry), "committed is what the log holds");
                self.applied = entry.index;
            }
            if let Some(last) = effects.committed.last() {
                replica.applied(last.index);
            }
            done.committed.extend(effects.committed);
            done.fetches.extend(effects.fetches);
        }
        done
    }

    /// Everything up to the write `number` is on disk; what waited for it may leave.
    pub fn flushed(&mut self, number: u64) -> Vec<Message> {
        let mut send = Vec::new();
        while let Some(mut write) = self.writes.pop_front_if(|w| w.number <= number) {
            send.append(&mut write.then);
            self.disk.write(write);
        }
        self.disk.applied = self.applied.min(self.disk.last());
        if let Some(replica) = &mut self.replica {
            replica.persisted(number);
        }
        send
    }

    /// Reads the log for a follower.
    pub fn fetch(&mut self, fetch: Fetch) {
        let (low, high) = (fetch.low.0 as usize - 2, fetch.high.0 as usize - 2);
        let entries: Vec<Entry> = self.log.get(low..high.min(self.log.len())).unwrap_or_default().to_vec();
        if let Some(replica) = &mut self.replica {
            replica.fetched(fetch.low, &entries);
        }
    }
}
