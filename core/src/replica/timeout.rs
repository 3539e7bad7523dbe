//! The election timeout, drawn from a seed: raft draws its own from the thread's generator, which no simulation could
//! repeat.
//!
//! Each voter has a slot of its own between the least timeout and twice as much, so that two seldom stand at the same time:
//! who stands later finds a leader, where votes would be split else. Which voter has the first slot differs from group to
//! group: when a node dies, others share what it led. Who stood and found no majority has no slot until there is a leader:
//! two that share one, because they know other members or there are more members than slots, would stand together for ever.

use raft::{Raft, StateRole, Storage};

/// The timeout of one replica, in ticks.
pub(super) struct Timeout {
    /// The same for all replicas of a group.
    group: u64,
    state: u64,
    ticks: usize,
    least: usize,
    /// Term, role and leader at the last draw: when one changes raft has drawn anew, too.
    drawn_in: (u64, StateRole, u64),
    /// Since there was a leader.
    has_stood: bool,
}

impl Timeout {
    /// `least`: ticks; the timeout lies between this and twice as much.
    pub fn new(seed: u64, least: usize) -> Self {
        let group = seed & u64::from(u32::MAX);
        Self { group, state: seed, ticks: least, least, drawn_in: (u64::MAX, StateRole::Follower, 0), has_stood: false }
    }

    /// To be called after each call that may have reset raft's timeout.
    pub fn hold<T: Storage>(&mut self, raft: &mut Raft<T>) {
        let now = (raft.term, raft.state, raft.leader_id);
        if self.drawn_in != now {
            self.drawn_in = now;
            let stands = raft.state == StateRole::Candidate;
            self.has_stood = (self.has_stood || stands) && raft.leader_id == raft::INVALID_ID;
            let mut voters: Vec<u64> = raft.prs().conf().voters().ids().iter().collect();
            voters.sort_unstable();
            self.draw(&voters, raft.id);
        }
        raft.set_randomized_election_timeout(self.ticks);
    }

    fn draw(&mut self, voters: &[u64], own: u64) {
        let random = usize::try_from(self.next() >> 32).expect("32 bits");
        if self.has_stood {
            self.ticks = self.least + random % self.least;
            return;
        }
        let count = voters.len().max(1);
        let first = usize::try_from(self.group % count as u64).expect("less than the voters");
        let place = voters.iter().position(|voter| *voter == own).unwrap_or(random);
        let slot = (place + count - first % count) % count;
        let width = (self.least / count).max(1);
        self.ticks = self.least + (slot * width).min(self.least - width) + random % width;
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_voter_has_a_slot_of_its_own() {
        for voters in [vec![7, 8, 9], vec![1, 2, 3, 4, 5], vec![4, 6]] {
            for group in 0..20_u64 {
                let draw = |own: u64| {
                    let mut timeout = Timeout::new(group | own << 48, 6);
                    timeout.draw(&voters, own);
                    timeout.ticks
                };
                let mut ticks: Vec<usize> = voters.iter().map(|own| draw(*own)).collect();
                ticks.sort_unstable();
                assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{voters:?}: {ticks:?}");
                assert!(ticks[0] >= 6 && ticks[voters.len() - 1] < 12, "{voters:?}: {ticks:?}");
            }
        }
        let mut loser = Timeout { has_stood: true, ..Timeout::new(1, 6) };
        let drawn: std::collections::BTreeSet<usize> = std::iter::repeat_with(|| {
            loser.draw(&[1, 2, 3, 4], 1);
            loser.ticks
        })
        .take(100)
        .collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [6, 7, 8, 9, 10, 11], "any of them");
        let mut lone = Timeout::new(1, 6);
        lone.draw(&[], 1);
        assert!((6..12).contains(&lone.ticks));
    }
}
