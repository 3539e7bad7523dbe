//! Nodes, a network, a clock and what goes wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::replica::{BatchDescriptor, EntryKind, Fetch, Message, StepError};
use millstream_core::types::{PeerId, RaftIndex, RaftTerm};

use super::chance::Chance;
use super::checks::{Checks, log_end};
use super::node::{Done, Node};

const TICK_MS: u64 = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    None,
    All,
}

enum Event {
    Tick(usize),
    Deliver(Vec<u8>),
    Flushed { node: usize, boot: u64, number: u64 },
    Fetched { node: usize, boot: u64, fetch: Fetch },
    Propose,
    Trouble,
    Restart(usize),
    Heal(usize),
}

pub struct Cluster {
    nodes: Vec<Node>,
    voters: Vec<PeerId>,
    learners: Vec<PeerId>,
    chance: Chance,
    faults: Faults,
    now: u64,
    /// By time, then in the order of their making.
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
    /// Nodes that nobody hears, or that hear nobody.
    mute: BTreeSet<usize>,
    deaf: BTreeSet<usize>,
    /// Slow disks.
    slow: BTreeSet<usize>,
    /// Proposals not yet acknowledged, by node, index and term.
    proposed: BTreeMap<(usize, RaftIndex, RaftTerm), u32>,
    batches: u32,
    fetches: usize,
    pub checks: Checks,
}

impl Cluster {
    pub fn new(seed: u64, voters: u64, learners: u64, faults: Faults) -> Self {
        let mut cluster = Self {
            nodes: (1..=voters + learners).map(|peer| Node::new(PeerId(peer))).collect(),
            voters: (1..=voters).map(PeerId).collect(),
            learners: (voters + 1..=voters + learners).map(PeerId).collect(),
            chance: Chance::new(seed),
            faults,
            now: 0,
            events: BTreeMap::new(),
            made: 0,
            mute: BTreeSet::new(),
            deaf: BTreeSet::new(),
            slow: BTreeSet::new(),
            proposed: BTreeMap::new(),
            batches: 0,
            fetches: 0,
            checks: Checks::default(),
        };
        for node in 0..cluster.nodes.len() {
            let first_tick = cluster.chance.below(TICK_MS);
            cluster.at(first_tick, Event::Tick(node));
            cluster.start(node);
        }
        cluster.at(0, Event::Propose);
        if faults == Faults::All {
            cluster.at(500, Event::Trouble);
        }
        cluster
    }

    fn at(&mut self, after_ms: u64, event: Event) {
        self.made += 1;
        self.events.insert((self.now + after_ms, self.made), event);
    }

    fn start(&mut self, node: usize) {
        self.nodes[node].start(&self.voters, &self.learners);
        self.work(node);
    }

    pub fn crash(&mut self, node: usize) {
        let unsynced = self.nodes[node].unsynced() as u64;
        let reached = self.chance.below(unsynced + 1) as usize;
        self.nodes[node].crash(reached);
    }

    pub fn leader(&self) -> Option<usize> {
        let leads = |n: &&Node| n.replica.as_ref().is_some_and(|r| r.is_leader());
        // One that was deposed may not know it yet.
        let newest = self.nodes.iter().filter(leads).max_by_key(|n| n.replica.as_ref().map(|r| r.term()));
        newest.map(|n| n.peer.0 as usize - 1)
    }

    /// A voter that does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.leader().expect("there is a leader");
        (0..self.voters.len()).find(|n| *n != leader).expect("more than one voter")
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

    pub fn run_ms(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(entry) = self.events.first_entry().filter(|e| e.key().0 <= until) {
            self.now = entry.key().0;
            let event = entry.remove();
            self.carry_out(event);
        }
        self.now = until;
    }

    /// Ends all trouble; then everybody agrees on all that was acknowledged.
    pub fn heal_and_settle(&mut self) {
        self.faults = Faults::None;
        (self.mute, self.deaf, self.slow) = Default::default();
        for node in 0..self.nodes.len() {
            if self.nodes[node].replica.is_none() {
                self.start(node);
            }
        }
        self.run_ms(8_000);
        let leader = self.leader().expect("a leader is found once the network works");
        // Nothing more is proposed; what is on its way arrives.
        self.events.retain(|_, e| !matches!(e, Event::Propose));
        self.run_ms(3_000);
        let log = self.nodes[leader].log.clone();
        self.checks.assert_holds_all(&log);
        for node in &self.nodes {
            assert!(node.log == log, "{} differs from the leader's log", node.peer);
            assert_eq!(node.applied, RaftIndex(log.len() as u64 + 1), "{} has applied all", node.peer);
        }
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::Tick(node) => {
                if let Some(replica) = &mut self.nodes[node].replica {
                    replica.tick();
                }
                self.at(TICK_MS, Event::Tick(node));
                self.work(node);
            }
            Event::Deliver(bytes) => self.deliver(&bytes),
            Event::Flushed { node, boot, number } => {
                if self.nodes[node].boot == boot && self.nodes[node].replica.is_some() {
                    let send = self.nodes[node].flushed(number);
                    self.send(node, send);
                    self.work(node);
                }
            }
            Event::Fetched { node, boot, fetch } => {
                if self.nodes[node].boot == boot {
                    self.nodes[node].fetch(fetch);
                    self.work(node);
                }
            }
            Event::Propose => self.propose(),
            Event::Trouble => self.trouble(),
            Event::Restart(node) => {
                if self.nodes[node].replica.is_none() {
                    self.start(node);
                }
            }
            Event::Heal(node) => {
                self.mute.remove(&node);
                self.deaf.remove(&node);
                self.slow.remove(&node);
            }
        }
    }

    fn deliver(&mut self, bytes: &[u8]) {
        let message = Message::decode(bytes).expect("what was encoded is read");
        let node = message.to().0 as usize - 1;
        let Some(replica) = &mut self.nodes[node].replica else { return };
        match replica.step(message) {
            Ok(()) => self.work(node),
            Err(e @ (StepError::Lost { .. } | StepError::NotOurs { .. } | StepError::Term(_))) => {
                panic!("no disk lost anything here, but: {e}")
            }
        }
    }

    fn work(&mut self, node: usize) {
        let Done { send, committed, fetches, flush } = self.nodes[node].work();
        let boot = self.nodes[node].boot;
        if let Some(replica) = self.nodes[node].replica.as_ref().filter(|r| r.is_leader()) {
            self.checks.leads(replica.term(), self.nodes[node].peer);
        }
        for entry in committed {
            let voters = self.voters.len();
            let on_disk = self.nodes[..voters].iter().filter(|n| n.disk.holds(&entry)).count();
            self.checks.commits(entry.clone(), on_disk, voters);
            if let Some(number) = self.proposed.remove(&(node, entry.index, entry.term)) {
                self.checks.acknowledge(entry.index, number);
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
    }

    fn send(&mut self, node: usize, messages: Vec<Message>) {
        let bad = self.faults == Faults::All;
        for message in messages {
            assert_eq!(message.from(), self.nodes[node].peer);
            let to = message.to().0 as usize - 1;
            if self.mute.contains(&node) || self.deaf.contains(&to) || (bad && self.chance.percent(3)) {
                continue;
            }
            let copies = if bad && self.chance.percent(2) { 2 } else { 1 };
            for _ in 0..copies {
                let late = bad && self.chance.percent(2);
                let takes = 1 + self.chance.below(if late { 800 } else { 10 });
                let bytes = message.encode().expect("what raft sends can be sent");
                self.at(takes, Event::Deliver(bytes));
            }
        }
    }

    fn propose(&mut self) {
        let leads = |n: &Node| n.replica.as_ref().is_some_and(|r| r.is_leader());
        let leaders: Vec<usize> = (0..self.nodes.len()).filter(|n| leads(&self.nodes[*n])).collect();
        if let Some(node) = self.chance.pick(&leaders) {
            for _ in 0..1 + self.chance.below(3) {
                self.batches += 1;
                let base_offset = log_end(&self.nodes[node].log);
                let count = 1 + self.chance.below(5) as i32;
                let batch = BatchDescriptor { base_offset, count, size_bytes: 100, crc: self.batches };
                let replica = self.nodes[node].replica.as_mut().expect("it leads");
                if let Ok((term, index)) = replica.propose(EntryKind::Batch(batch)) {
                    self.proposed.insert((node, index, term), self.batches);
                    self.work(node);
                }
            }
        }
        let next = 5 + self.chance.below(60);
        self.at(next, Event::Propose);
    }

    fn trouble(&mut self) {
        if self.faults == Faults::None {
            return;
        }
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let node = self.chance.pick(&all).expect("there are nodes");
        let lasts = 100 + self.chance.below(3_000);
        match self.chance.below(8) {
            0..3 => {
                self.crash(node);
                self.at(lasts, Event::Restart(node));
            }
            3 => {
                for node in all {
                    self.crash(node);
                    let lasts = 50 + self.chance.below(2_000);
                    self.at(lasts, Event::Restart(node));
                }
            }
            4 | 5 => {
                self.mute.insert(node);
                if self.chance.percent(70) {
                    self.deaf.insert(node);
                }
                self.at(lasts, Event::Heal(node));
            }
            6 => {
                self.deaf.insert(node);
                self.at(lasts, Event::Heal(node));
            }
            _ => {
                self.slow.insert(node);
                self.at(lasts, Event::Heal(node));
            }
        }
        let next = 200 + self.chance.below(1_500);
        self.at(next, Event::Trouble);
    }
}
