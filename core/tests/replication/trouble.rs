//! What goes wrong.

use millstream_core::replica::EntryKind;

use super::cluster::{Cluster, Event, Faults};
use super::node::{Crash, Node};

/// How long everybody tries to win.
const CONTEST_MS: u64 = 150;
/// How often is looked whether another disk may be lost, and how many times.
const WIPE_LOOK_MS: u64 = 150;
const WIPE_LOOKS: usize = 30;
/// After this a replica whose disk is full is opened again.
const FULL_DISK_MS: u64 = 1_000;

impl Cluster {
    pub(super) fn trouble(&mut self) {
        if self.story.faults == Faults::None {
            return;
        }
        let all: Vec<usize> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_gone).collect();
        let node = self.chance.pick(&all).expect("there are nodes");
        let other = self.chance.pick(&all).expect("there are nodes");
        let lasts = 100 + self.chance.below(3_000);
        match self.chance.below(17) {
            0..3 => {
                self.crash(node, Crash::Power);
                self.at(lasts, Event::Restart(node));
            }
            3 => {
                let how = if self.chance.percent(50) { Crash::Kill } else { Crash::FullDisk };
                self.crash(node, how);
                self.at(lasts, Event::Restart(node));
            }
            4 => {
                for node in all {
                    self.crash(node, Crash::Power);
                    let lasts = 50 + self.chance.below(2_000);
                    self.at(lasts, Event::Restart(node));
                }
            }
            5 | 6 => {
                self.mute.insert(node);
                if self.chance.percent(70) {
                    self.deaf.insert(node);
                }
                self.at(lasts, Event::Heal(node));
            }
            7 => {
                self.deaf.insert(node);
                self.at(lasts, Event::Heal(node));
            }
            8 => {
                self.cut.insert((node, other));
                self.at(lasts, Event::Join { from: node, to: other });
            }
            9 => {
                // Into two halves.
                let (one, rest): (Vec<usize>, Vec<usize>) = all.iter().partition(|n| (*n + node).is_multiple_of(2));
                for (from, to) in one.iter().flat_map(|a| rest.iter().flat_map(|b| [(*a, *b), (*b, *a)])) {
                    self.cut.insert((from, to));
                    self.at(lasts, Event::Join { from, to });
                }
            }
            10 => {
                self.slow.insert(node);
                self.at(lasts, Event::Heal(node));
            }
            11 => drop(self.wipe(node)),
            13 | 14 => {
                self.full.insert(node);
                self.at(2 * lasts, Event::Heal(node));
            }
            12 => {
                // It stood still for longer than an election takes.
                if let Some(replica) = self.nodes[node].replica.as_mut().filter(|r| r.is_leader()) {
                    replica.step_down();
                    self.work(node);
                }
            }
            _ => {
                // Who led is away; when nobody believes in it any more, everybody stands.
                if let Some(leader) = self.leader() {
                    self.crash(leader, Crash::Power);
                    self.at(lasts, Event::Restart(leader));
                }
                self.at(700, Event::Contest);
            }
        }
        let next = 200 + self.chance.below(1_500);
        self.at(next, Event::Trouble);
    }

    /// All stand for election at once, on a slow network, and some lose power just after they have voted.
    pub(super) fn contest(&mut self) {
        if self.story.faults == Faults::None {
            return;
        }
        self.contest_until = self.now + CONTEST_MS;
        for node in 0..self.nodes.len() {
            if let Some(replica) = &mut self.nodes[node].replica {
                replica.campaign();
                self.work(node);
                if self.chance.percent(60) {
                    let after = 20 + self.chance.below(CONTEST_MS);
                    self.at(after, Event::Blink(node));
                }
            }
        }
    }

    /// A short loss of power.
    pub(super) fn blink(&mut self, node: usize) {
        if self.story.faults == Faults::All && self.nodes[node].replica.is_some() {
            self.crash(node, Crash::Power);
            let lasts = 1 + self.chance.below(10);
            self.at(lasts, Event::Restart(node));
        }
    }

    /// A disk is lost, with all that it knew; or part of a log is. No more at once than the others can bear, whatever is decided meanwhile.
    fn wipe(&mut self, node: usize) -> bool {
        let Some(leader) = self.leader() else { return false };
        let replica = self.nodes[leader].replica.as_ref().expect("it leads");
        let (membership, since, term) = (replica.membership(), replica.membership_index(), replica.term());
        let peer = self.nodes[node].peer;
        let is_well = |node: &Node| !node.is_gone && !node.is_held();
        let is_whole = membership.peers().all(|peer| is_well(&self.nodes[self.place(peer)]));
        let can_bear = membership.voters.len() >= 3 && membership.peers().any(|member| member == peer);
        let changes = |log: &super::log::Log| {
            log.entries().iter().any(|e| e.index > since && matches!(e.kind, EntryKind::ConfChange(_)))
        };
        let is_quiet = self.nodes.iter().filter(|n| !n.is_gone).all(|n| {
            let knows = n.replica.as_ref().map_or(n.disk.hard_state.term, |r| r.term());
            knows <= term && !changes(&n.log) && !changes(&n.disk.log)
        });
        if !is_whole || !can_bear || !is_quiet || !membership.is_settled {
            return false;
        }
        self.crash(node, Crash::Power);
        if !self.story.changes || self.chance.percent(50) {
            let founders = self.checks.founders.clone();
            self.nodes[node].lose_log(&founders);
            self.hurt += 1;
            let lasts = self.chance.below(2_000);
            self.at(lasts, Event::Restart(node));
        } else {
            self.nodes[node].is_gone = true;
            self.wiped += 1;
        }
        self.at(WIPE_LOOK_MS, Event::Wipe(WIPE_LOOKS));
        true
    }

    /// One disk after the other: each as soon as what the one before it held is there again.
    pub(super) fn wipe_another(&mut self, looks: usize) {
        let all: Vec<usize> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_gone).collect();
        let Some(node) = self.chance.pick(&all).filter(|_| self.story.faults == Faults::All) else { return };
        if !self.wipe(node) && looks > 1 {
            self.at(WIPE_LOOK_MS, Event::Wipe(looks - 1));
        }
    }

    /// What was to be written has no room. The replica is given up, and tries again a second later; a term or a vote waits
    /// in the store for room, with all that waits for it.
    pub(super) fn find_disk_full(&mut self, node: usize, number: u64) {
        self.ran_full += 1;
        if self.nodes[node].writes_log(number) {
            self.crash(node, Crash::FullDisk);
            self.at(FULL_DISK_MS, Event::Restart(node));
        } else {
            let boot = self.nodes[node].boot;
            self.at(FULL_DISK_MS / 10, Event::Flushed { node, boot, number });
        }
    }
}
