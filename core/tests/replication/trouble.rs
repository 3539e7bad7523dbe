//! What goes wrong.

use millstream_core::replica::EntryKind;

use super::cluster::{Cluster, Event, Faults};
use super::node::Crash;

impl Cluster {
    pub(super) fn trouble(&mut self) {
        if self.story.faults == Faults::None {
            return;
        }
        let all: Vec<usize> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_gone).collect();
        let node = self.chance.pick(&all).expect("there are nodes");
        let other = self.chance.pick(&all).expect("there are nodes");
        let lasts = 100 + self.chance.below(3_000);
        match self.chance.below(12) {
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
                let (one, rest): (Vec<usize>, Vec<usize>) = all.iter().partition(|n| (*n + node) % 2 == 0);
                for (from, to) in one.iter().flat_map(|a| rest.iter().flat_map(|b| [(*a, *b), (*b, *a)])) {
                    self.cut.insert((from, to));
                    self.at(lasts, Event::Join { from, to });
                }
            }
            10 => {
                self.slow.insert(node);
                self.at(lasts, Event::Heal(node));
            }
            _ => self.wipe(node),
        }
        let next = 200 + self.chance.below(1_500);
        self.at(next, Event::Trouble);
    }

    /// A disk is lost, with all that it knew. No more at once than the others can bear, whatever is decided meanwhile.
    fn wipe(&mut self, node: usize) {
        let Some(leader) = self.leader().filter(|_| self.story.changes) else { return };
        let replica = self.nodes[leader].replica.as_ref().expect("it leads");
        let (membership, since, term) = (replica.membership(), replica.membership_index(), replica.term());
        let peer = self.nodes[node].peer;
        let is_whole = membership.peers().all(|peer| !self.nodes[self.place(peer)].is_gone);
        let can_bear = membership.voters.len() >= 3 && membership.peers().any(|member| member == peer);
        let changes = |log: &super::log::Log| {
            log.entries().iter().any(|e| e.index > since && matches!(e.kind, EntryKind::ConfChange(_)))
        };
        let is_quiet = self.nodes.iter().filter(|n| !n.is_gone).all(|n| {
            let knows = n.replica.as_ref().map_or(n.disk.hard_state.term, |r| r.term());
            knows <= term && !changes(&n.log) && !changes(&n.disk.log)
        });
        if is_whole && can_bear && is_quiet && membership.is_settled {
            self.crash(node, Crash::Power);
            self.nodes[node].is_gone = true;
            self.wiped += 1;
        }
    }
}
