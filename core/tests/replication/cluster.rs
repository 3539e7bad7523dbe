//! Nodes, a network and a clock.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::replica::{Fetch, Membership, Message, StepError};
use millstream_core::types::{Offset, PeerId, RaftIndex, RaftTerm};

use super::chance::Chance;
use super::checks::Checks;
use super::node::{Crash, Done, Node};
use super::writers::{Write, Writers};

const TICK_MS: u64 = 100;
/// After this a snapshot that was sent and is not installed is given up.
const SNAPSHOT_MS: u64 = 1_500;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    None,
    All,
}

/// What may happen to a cluster by itself.
#[derive(Clone, Copy)]
pub struct Story {
    pub voters: u64,
    pub learners: u64,
    pub faults: Faults,
    /// Members come and go, disks are lost and replaced, leaderships are handed over.
    pub changes: bool,
    /// Logs lose their beginnings.
    pub compacts: bool,
}

#[derive(Debug)]
pub(super) enum Event {
    Tick(usize),
    Deliver(Vec<u8>),
    /// What a snapshot stands for has arrived; its message may be stepped.
    Snapshot {
        node: usize,
        boot: u64,
        bytes: Vec<u8>,
    },
    GiveUp {
        node: usize,
        boot: u64,
        to: PeerId,
    },
    Flushed {
        node: usize,
        boot: u64,
        number: u64,
    },
    Fetched {
        node: usize,
        boot: u64,
        fetch: Fetch,
    },
    Propose,
    Read,
    Trouble,
    Contest,
    /// As soon as the others can bear it a disk is lost again, if they can at one of so many looks.
    Wipe(usize),
    Blink(usize),
    Change,
    Restart(usize),
    Heal(usize),
    Join {
        from: usize,
        to: usize,
    },
}

pub struct Cluster {
    pub(super) seed: u64,
    /// By peer id, which counts from 1.
    pub(super) nodes: Vec<Node>,
    pub(super) chance: Chance,
    pub(super) story: Story,
    pub(super) now: u64,
    /// By time, then in the order of their making.
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
    /// Nodes that nobody hears, or that hear nobody; and single ways.
    pub(super) mute: BTreeSet<usize>,
    pub(super) deaf: BTreeSet<usize>,
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// Until then messages are slow.
    pub(super) contest_until: u64,
    /// Slow disks, and full ones.
    pub(super) slow: BTreeSet<usize>,
    pub(super) full: BTreeSet<usize>,
    /// Where the voters shall be.
    pub(super) wanted: Option<Vec<PeerId>>,
    /// Members that are to go; deleted when the change is settled.
    pub(super) leaving: BTreeSet<PeerId>,
    /// Proposals not yet acknowledged, by node, index and term.
    pub(super) proposed: BTreeMap<(usize, RaftIndex, RaftTerm), u32>,
    pub(super) writers: Writers,
    /// Writes that wait for the commit of their last offset, by node and boot.
    pub(super) parked: BTreeMap<(usize, u64), Vec<(Offset, Write)>>,
    /// What was acknowledged when a read was asked, by node, boot and number.
    pub(super) reads: BTreeMap<(usize, u64, u64), RaftIndex>,
    fetches: usize,
    pub(super) snapshots: usize,
    pub(super) changes: usize,
    pub(super) wiped: usize,
    pub(super) returned: usize,
    pub(super) hurt: usize,
    /// Moves that came to their end.
    pub moved: usize,
    /// Writes that found a full disk.
    pub ran_full: usize,
    /// A sum over all that happened.
    trace: u64,
    pub checks: Checks,
}

impl Cluster {
    pub fn new(seed: u64, story: Story) -> Self {
        let voters: Vec<PeerId> = (1..=story.voters).map(PeerId).collect();
        let learners: Vec<PeerId> = (story.voters + 1..=story.voters + story.learners).map(PeerId).collect();
        let peers = voters.iter().chain(&learners);
        let mut cluster = Self {
            seed,
            nodes: peers.map(|peer| Node::founder(*peer, &voters, &learners)).collect(),
            chance: Chance::new(seed),
            story,
            now: 0,
            events: BTreeMap::new(),
            made: 0,
            mute: BTreeSet::new(),
            deaf: BTreeSet::new(),
            cut: BTreeSet::new(),
            contest_until: 0,
            slow: BTreeSet::new(),
            full: BTreeSet::new(),
            wanted: None,
            leaving: BTreeSet::new(),
            proposed: BTreeMap::new(),
            writers: Writers::new(),
            parked: BTreeMap::new(),
            reads: BTreeMap::new(),
            fetches: 0,
            snapshots: 0,
            changes: 0,
            wiped: 0,
            returned: 0,
            hurt: 0,
            moved: 0,
            ran_full: 0,
            trace: 0,
            checks: Checks::default(),
        };
        cluster.checks.founders = cluster.nodes[0].disk.membership.1.clone();
        for node in 0..cluster.nodes.len() {
            cluster.begin(node);
        }
        cluster.at(0, Event::Propose);
        cluster.at(300, Event::Read);
        if story.faults == Faults::All {
            cluster.at(500, Event::Trouble);
        }
        if story.changes {
            cluster.at(700, Event::Change);
        }
        cluster
    }

    /// Starts a node that was never started.
    pub(super) fn begin(&mut self, node: usize) {
        let first_tick = self.chance.below(TICK_MS);
        self.at(first_tick, Event::Tick(node));
        self.start(node);
    }

    pub(super) fn at(&mut self, after_ms: u64, event: Event) {
        self.made += 1;
        self.events.insert((self.now + after_ms, self.made), event);
    }

    pub(super) fn start(&mut self, node: usize) {
        self.nodes[node].start(self.seed);
        if let Some(replica) = self.nodes[node].replica.as_mut().filter(|r| !r.has_others()) {
            replica.campaign();
        }
        self.work(node);
    }

    pub fn crash(&mut self, node: usize, how: Crash) {
        self.nodes[node].crash(how);
    }

    pub fn leader(&self) -> Option<usize> {
        let leads = |n: &&Node| n.replica.as_ref().is_some_and(|r| r.is_leader());
        // One that was deposed may not know it yet.
        let newest = self.nodes.iter().filter(leads).max_by_key(|n| n.replica.as_ref().map(|r| r.term()));
        newest.map(|n| self.place(n.peer))
    }

    pub(super) fn place(&self, peer: PeerId) -> usize {
        peer.0 as usize - 1
    }

    /// A voter that does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.leader().expect("there is a leader");
        (0..self.story.voters as usize).find(|n| *n != leader).expect("more than one voter")
    }

    pub fn transfer_leader_to(&mut self, node: usize) {
        let leader = self.leader().expect("there is a leader");
        let to = self.nodes[node].peer;
        self.nodes[leader].replica.as_mut().expect("it leads").transfer_leader(to);
        self.work(leader);
    }

    /// Entries that were read off a log for a follower.
    pub fn fetches(&self) -> usize {
        self.fetches
    }

    /// Snapshots that were installed.
    pub fn snapshots(&self) -> usize {
        self.snapshots
    }

    /// Changes of the members that were proposed, and disks that were lost.
    pub fn changes(&self) -> (usize, usize) {
        (self.changes, self.wiped)
    }

    /// Logs that were lost, wholly or in part.
    pub fn hurt(&self) -> usize {
        self.hurt
    }

    /// Replicas that were removed and deleted, and whose disks may get one again.
    pub fn returned(&self) -> usize {
        self.returned
    }

    /// A sum over every event, with its time and every byte of a message.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    pub fn run_ms(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(entry) = self.events.first_entry().filter(|e| e.key().0 <= until) {
            self.now = entry.key().0;
            let event = entry.remove();
            self.note(&event);
            self.carry_out(event);
        }
        self.now = until;
    }

    fn note(&mut self, event: &Event) {
        self.note_word(self.now);
        match event {
            Event::Deliver(bytes) => self.note_bytes(1, bytes),
            Event::Snapshot { node, bytes, .. } => self.note_bytes(2 | (*node as u64) << 8, bytes),
            Event::Flushed { node, number, .. } => self.note_word(3 | (*node as u64) << 8 | number << 16),
            Event::Tick(node) => self.note_word(4 | (*node as u64) << 8),
            other => self.note_bytes(5, format!("{other:?}").as_bytes()),
        }
    }

    fn note_bytes(&mut self, kind: u64, bytes: &[u8]) {
        self.note_word(kind);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.note_word(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.note_word(u64::from(*byte)));
    }

    fn note_word(&mut self, word: u64) {
        self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    }

    /// Ends all trouble; then everybody agrees on all that was acknowledged, and every change has come to its end.
    pub fn heal_and_settle(&mut self) {
        self.heal();
        self.run_ms(6_000);
        self.settle();
    }

    /// Ends all trouble.
    pub fn heal(&mut self) {
        self.story.faults = Faults::None;
        self.story.changes = false;
        (self.mute, self.deaf, self.cut, self.slow, self.full) = Default::default();
        for node in 0..self.nodes.len() {
            if self.nodes[node].replica.is_none() && !self.nodes[node].is_gone {
                self.start(node);
            }
        }
    }

    /// Some time after the trouble: what is on its way arrives, and everybody agrees.
    pub fn settle(&mut self) {
        let leader = self.leader().expect("a leader is found once the network works");
        // Nothing more is proposed; what is on its way arrives.
        self.events.retain(|_, e| !matches!(e, Event::Propose));
        self.run_ms(3_000);
        let log = self.nodes[leader].log.clone();
        self.checks.assert_holds_all(&log);
        let membership = self.membership(leader).clone();
        assert!(membership.is_settled, "{membership:?} is settled in the end");
        for node in membership.peers().map(|peer| &self.nodes[self.place(peer)]).filter(|n| !n.is_gone) {
            assert_eq!(node.log.last(), log.last(), "{} has the leader's log", node.peer);
            assert_eq!(node.log.end(), log.end(), "{} ends where the leader ends", node.peer);
            assert_eq!(node.applied, log.last().0, "{} has applied all", node.peer);
            let differs = node.log.entries().iter().find(|e| !log.holds(e));
            assert_eq!(differs, None, "of {} differs from the leader's log", node.peer);
            assert_eq!(*node.replica.as_ref().expect("it runs").membership(), membership, "of {}", node.peer);
        }
    }

    pub(super) fn membership(&self, node: usize) -> &Membership {
        self.nodes[node].replica.as_ref().expect("it runs").membership()
    }

    /// A node that has not been started again since it was asked.
    fn is_same(&self, node: usize, boot: u64) -> bool {
        self.nodes[node].boot == boot && self.nodes[node].replica.is_some()
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::Tick(node) => {
                if self.nodes[node].is_gone {
                    return;
                }
                // Who is alone needs none.
                if let Some(replica) = self.nodes[node].replica.as_mut().filter(|r| r.has_others()) {
                    replica.tick();
                }
                self.at(TICK_MS, Event::Tick(node));
                self.work(node);
            }
            Event::Deliver(bytes) => self.deliver(bytes),
            Event::Snapshot { node, boot, bytes } => {
                if self.is_same(node, boot) {
                    self.step(node, Message::decode(&bytes).expect("what was encoded is read"));
                }
            }
            Event::GiveUp { node, boot, to } => {
                if let (true, Some(replica)) = (self.is_same(node, boot), &mut self.nodes[node].replica)
                    && replica.progress().any(|(peer, progress)| peer == to && progress.is_snapshot_pending)
                {
                    replica.report_snapshot(to, false);
                    self.work(node);
                }
            }
            Event::Flushed { node, boot, number } => {
                if self.is_same(node, boot) && self.full.contains(&node) {
                    self.find_disk_full(node, number);
                } else if self.is_same(node, boot) {
                    let send = self.nodes[node].flushed(number);
                    if self.story.compacts && self.chance.percent(1) {
                        self.nodes[node].compact();
                    }
                    self.send(node, send);
                    self.work(node);
                }
            }
            Event::Fetched { node, boot, fetch } => {
                if self.is_same(node, boot) {
                    let is_read = self.story.faults == Faults::None || self.chance.percent(90);
                    self.nodes[node].fetch(fetch, is_read);
                    self.work(node);
                }
            }
            Event::Propose => self.propose(),
            Event::Read => self.read(),
            Event::Trouble => self.trouble(),
            Event::Contest => self.contest(),
            Event::Wipe(looks) => self.wipe_another(looks),
            Event::Blink(node) => self.blink(node),
            Event::Change => self.change(),
            Event::Restart(node) => {
                if self.nodes[node].replica.is_none() && !self.nodes[node].is_gone {
                    self.start(node);
                }
            }
            Event::Heal(node) => {
                self.mute.remove(&node);
                self.deaf.remove(&node);
                self.slow.remove(&node);
                self.full.remove(&node);
            }
            Event::Join { from, to } => {
                self.cut.remove(&(from, to));
            }
        }
    }

    fn deliver(&mut self, bytes: Vec<u8>) {
        let message = Message::decode(&bytes).expect("what was encoded is read");
        let node = self.place(message.to());
        if self.nodes[node].replica.is_none() {
            return;
        }
        let Some(meta) = message.snapshot() else { return self.step(node, message) };
        // What it stands for is fetched first.
        let (end, producers) = self.checks.installs(&meta);
        self.nodes[node].fetched.push((meta.index, end, producers));
        let boot = self.nodes[node].boot;
        let takes = 10 + self.chance.below(500);
        self.at(takes, Event::Snapshot { node, boot, bytes });
    }

    fn step(&mut self, node: usize, message: Message) {
        let Some(replica) = &mut self.nodes[node].replica else { return };
        match replica.step(message) {
            Ok(()) => self.work(node),
            Err(e @ (StepError::Lost { .. } | StepError::NotOurs { .. } | StepError::Term(_))) => {
                panic!("no disk lost anything here, but: {e}")
            }
        }
    }

    pub(super) fn work(&mut self, node: usize) {
        let Done { send, committed, installed, cut, memberships, reads, fetches, flush } = self.nodes[node].work();
        let boot = self.nodes[node].boot;
        if let Some(term) = self.nodes[node].leads() {
            self.checks.leads(term, self.nodes[node].peer);
        }
        self.snapshots += usize::from(installed.is_some());
        let has_changed = !memberships.is_empty();
        for (index, membership) in memberships {
            self.checks.changes(index, membership);
        }
        for entry in committed {
            let nodes = &self.nodes;
            let has = |peer: &PeerId| nodes[peer.0 as usize - 1].had(&entry);
            let decide = |peers: &[PeerId]| peers.iter().filter(|peer| has(peer)).count() * 2 > peers.len();
            let has_majority = |m: &Membership| decide(&m.voters) && (!m.is_joint() || decide(&m.voters_outgoing));
            if self.checks.commits(&entry, has_majority) {
                self.writers.commits(&entry);
            }
            if let Some(number) = self.proposed.remove(&(node, entry.index, entry.term)) {
                self.checks.acknowledge(entry.index, number);
            }
        }
        self.answer(node, boot, installed.is_some(), cut);
        for read in reads {
            if let Some(acknowledged) = self.reads.remove(&(node, boot, read.number)) {
                self.checks.reads(read.index, acknowledged);
            }
        }
        if let Some(number) = flush {
            let slow = self.slow.contains(&node);
            let takes = 1 + self.chance.below(if slow { 1_500 } else { 15 });
            self.at(takes, Event::Flushed { node, boot, number });
        }
        for fetch in fetches {
            self.fetches += 1;
            let takes = self.chance.below(20);
            self.at(takes, Event::Fetched { node, boot, fetch });
        }
        self.send(node, send);
        if self.story.changes && has_changed && self.leader() == Some(node) {
            self.delete_who_left(node);
        }
    }

    fn send(&mut self, node: usize, messages: Vec<Message>) {
        let bad = self.story.faults == Faults::All;
        for message in messages {
            assert_eq!(message.from(), self.nodes[node].peer);
            let to = self.place(message.to());
            if message.snapshot().is_some() {
                let boot = self.nodes[node].boot;
                self.at(SNAPSHOT_MS, Event::GiveUp { node, boot, to: message.to() });
            }
            let is_cut = self.mute.contains(&node) || self.deaf.contains(&to) || self.cut.contains(&(node, to));
            if is_cut || (bad && self.chance.percent(3)) {
                continue;
            }
            let copies = if bad && self.chance.percent(2) { 2 } else { 1 };
            // Appends with many bytes travel in parts.
            let bytes_max = if bad && self.chance.percent(20) { 250 } else { u64::MAX };
            let parts = message.cut(bytes_max).expect("entries are ours");
            for message in parts.iter().flat_map(|part| std::iter::repeat_n(part, copies)) {
                let late = bad && self.chance.percent(2);
                let usual = if self.now < self.contest_until { 150 } else { 10 };
                let takes = 1 + self.chance.below(if late { 800 } else { usual });
                let bytes = message.encode().expect("what raft sends can be sent");
                self.at(takes, Event::Deliver(bytes));
            }
        }
    }
}
