//! The election timeout, drawn from a seed: raft draws its own from the thread's generator, which no simulation could
//! repeat.

use raft::{Raft, StateRole, Storage};

/// The timeout of one replica, in ticks.
pub(super) struct Timeout {
    state: u64,
    ticks: usize,
    least: usize,
    /// Term, role and leader at the last draw: when one changes raft has drawn anew, too.
    drawn_in: (u64, StateRole, u64),
}

impl Timeout {
    /// `least`: ticks; the timeout lies between this and twice as much.
    pub fn new(seed: u64, least: usize) -> Self {
        let mut timeout = Self { state: seed, ticks: least, least, drawn_in: (0, StateRole::Follower, 0) };
        timeout.draw();
        timeout
    }

    /// To be called after each call that may have reset raft's timeout.
    pub fn hold<T: Storage>(&mut self, raft: &mut Raft<T>) {
        let now = (raft.term, raft.state, raft.leader_id);
        if self.drawn_in != now {
            self.drawn_in = now;
            self.draw();
        }
        raft.set_randomized_election_timeout(self.ticks);
    }

    /// SplitMix64.
    fn draw(&mut self) {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        self.ticks = self.least + (z % self.least as u64) as usize;
    }
}
