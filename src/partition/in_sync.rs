//! Which followers are in sync (`replica.lag.time.max.ms`), as clients see it in Metadata.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use millstream_core::replica::Progress;
use millstream_core::types::{NodeId, PeerId, RaftIndex};
use tokio::time::Instant;

use super::peers::Peers;

/// Longer than between two looks of a group that is awake.
const SLEPT_FROM: Duration = Duration::from_secs(1);

/// A learner is as far as the leader when it has in so short a time what was the leader's end (a round in Ongaro's
/// dissertation on Raft, 4.2.1).
const ROUND_MAX: Duration = Duration::from_secs(1);

/// A leader's view of its followers. In sync is whose node is alive and who has had, within the allowed time, all that
/// was the leader's end, and said so; who is always a little behind is, as with Apache Kafka. While the group sleeps
/// nobody has to.
#[derive(Default)]
pub(super) struct InSync {
    followers: HashMap<PeerId, Follower>,
    learners: HashMap<PeerId, Round>,
    /// The leader's last entry at the look before; `None`: there was none.
    end: Option<RaftIndex>,
    /// By id; empty before the first look.
    nodes: Vec<NodeId>,
    looked_at: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Follower {
    /// It had all that was the leader's end at a time, and chases what was the end later.
    CaughtUp {
        at: Instant,
        goal: Goal,
    },
    /// It was dead, or no voter: it counts again when it has all that was there when it came.
    Comes(RaftIndex),
    Dead,
}

/// The leader's last entry at a time.
#[derive(Clone, Copy)]
struct Goal {
    end: RaftIndex,
    at: Instant,
}

/// What a learner chases, and whether it had the goal before in a short time.
struct Round {
    goal: Goal,
    was_short: bool,
}

impl Round {
    fn look(&mut self, matched: RaftIndex, present: Goal) {
        let took = present.at.duration_since(self.goal.at);
        if matched >= self.goal.end {
            *self = Self { goal: present, was_short: took <= ROUND_MAX };
        } else if took > ROUND_MAX {
            self.was_short = false;
        }
    }
}

impl Follower {
    /// It has so much, and says so.
    fn has(self, matched: RaftIndex, before: RaftIndex, present: Goal) -> Self {
        let caught_up = |at| Self::CaughtUp { at, goal: present };
        match self {
            Self::CaughtUp { .. } if matched >= before => caught_up(present.at),
            Self::CaughtUp { at, goal } if matched >= goal.end => caught_up(at.max(goal.at)),
            Self::Comes(needed) if matched >= needed => caught_up(present.at),
            Self::Dead if matched >= present.end => caught_up(present.at),
            as_before => as_before,
        }
    }
}

impl InSync {
    /// Begins anew: a new leader takes all voters for caught up, until the time has passed. Who becomes one later has to
    /// show it.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The leader's last entry at the look before.
    pub fn end(&self) -> Option<RaftIndex> {
        self.end
    }

    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Whether this learner is hardly behind the leader.
    pub fn is_close(&self, learner: PeerId) -> bool {
        self.learners.get(&learner).is_some_and(|round| round.was_short)
    }

    /// Looks at the followers. True when others are in sync than before.
    pub fn look(
        &mut self,
        progress: impl Iterator<Item = (PeerId, Progress)>,
        end: RaftIndex,
        seen: &Seen<'_>,
        now: Instant,
    ) -> bool {
        let mut nodes = Vec::with_capacity(self.nodes.len());
        let has_slept = self.looked_at.replace(now).is_none_or(|at| now.duration_since(at) > SLEPT_FROM);
        let present = Goal { end, at: now };
        for (peer, Progress { matched, is_voter, is_learner, is_recently_active, .. }) in progress {
            if is_learner {
                let round = self.learners.entry(peer).or_insert(Round { goal: present, was_short: false });
                round.look(matched, present);
            } else {
                self.learners.remove(&peer);
            }
            // A leader has its own log, whichever disk it is on.
            let counts = |node: &NodeId| is_voter && (*node == seen.own || seen.peers.is_present(peer));
            let Some(node) = seen.peers.get(&peer).filter(|node| counts(node)) else { continue };
            let is_first_look = self.end.is_none();
            let follower = self.followers.entry(peer).or_insert(match is_first_look {
                true => Follower::CaughtUp { at: now, goal: present },
                false => Follower::Dead,
            });
            if *node == seen.own {
                nodes.push(*node);
                continue;
            }
            if seen.dead.contains(node) {
                *follower = Follower::Dead;
            } else if is_recently_active || has_slept {
                *follower = follower.has(matched, self.end.unwrap_or(end), present);
            }
            if let Follower::Dead = follower
                && !seen.dead.contains(node)
            {
                *follower = Follower::Comes(end);
            }
            if matches!(*follower, Follower::CaughtUp { at, .. } if now.duration_since(at) <= seen.lag_max) {
                nodes.push(*node);
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        self.end = Some(end);
        let is_other = nodes != self.nodes;
        self.nodes = nodes;
        is_other
    }
}

/// What a node sees of the others.
pub(super) struct Seen<'a> {
    pub own: NodeId,
    pub peers: &'a Peers,
    /// Silent nodes.
    pub dead: &'a HashSet<NodeId>,
    pub lag_max: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Disks and their nodes; of two the later in the row is the one that the node has now.
    fn disks(disks: &[(u64, i32)]) -> Peers {
        let disks = disks.iter().map(|(peer, node)| (PeerId(*peer), NodeId(*node)));
        Peers::new(disks.clone().collect(), disks.map(|(peer, node)| (node, peer)))
    }

    /// A voter that has as much.
    fn at_end(matched: u64) -> Progress {
        Progress {
            matched: RaftIndex(matched),
            next: RaftIndex(matched + 1),
            committed: RaftIndex(matched),
            is_voter: true,
            is_learner: false,
            is_recently_active: true,
            is_snapshot_pending: false,
            is_paused: false,
        }
    }

    #[test]
    fn who_lags_for_too_long_or_is_dead_is_not_in_sync() {
        let peers = disks(&[(1, 10), (2, 20), (3, 30)]);
        let (none, third) = (HashSet::new(), HashSet::from([NodeId(30)]));
        let seen = |dead| Seen { own: NodeId(10), peers: &peers, dead, lag_max: Duration::from_secs(30) };
        let progress = |matched: [u64; 3]| (1..).map(PeerId).zip(matched.map(at_end));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut in_sync = InSync::default();
        assert!(in_sync.look(progress([9, 0, 0]), RaftIndex(9), &seen(&none), at(0)));
        assert_eq!(in_sync.nodes(), [NodeId(10), NodeId(20), NodeId(30)], "a new leader trusts all");
        assert!(!in_sync.look(progress([20, 9, 3]), RaftIndex(20), &seen(&none), at(20)));
        assert!(in_sync.look(progress([30, 20, 8]), RaftIndex(30), &seen(&none), at(31)));
        assert_eq!(in_sync.nodes(), [NodeId(10), NodeId(20)]);
        // It need not have everything: what was the end at the look before is enough.
        assert!(in_sync.look(progress([40, 35, 30]), RaftIndex(40), &seen(&none), at(32)));
        assert_eq!(in_sync.nodes().len(), 3);
        assert!(in_sync.look(progress([40, 40, 40]), RaftIndex(40), &seen(&third), at(33)));
        assert_eq!(in_sync.nodes(), [NodeId(10), NodeId(20)]);
        assert!(
            !in_sync.look(progress([50, 50, 39]), RaftIndex(50), &seen(&none), at(33)),
            "it lacks what came meanwhile"
        );
        assert!(in_sync.look(progress([50, 50, 50]), RaftIndex(50), &seen(&none), at(33)));
        assert!(in_sync.look(progress([50, 50, 50]), RaftIndex(50), &seen(&third), at(33)));
        // The second node has another disk by now.
        let peers = disks(&[(1, 10), (2, 20), (3, 30), (4, 20)]);
        let seen = Seen { peers: &peers, ..seen(&none) };
        assert!(in_sync.look(progress([50, 50, 50]), RaftIndex(50), &seen, at(33)));
        assert_eq!(in_sync.nodes(), [NodeId(10), NodeId(30)]);
        // And its old one again. The leader has its own, whatever the metadata says of it as yet.
        let peers = disks(&[(1, 10), (4, 20), (3, 30), (2, 20), (5, 10)]);
        let seen = Seen { peers: &peers, ..seen };
        assert!(in_sync.look(progress([50, 50, 50]), RaftIndex(50), &seen, at(33)));
        assert_eq!(in_sync.nodes(), [NodeId(10), NodeId(20), NodeId(30)]);
    }

    #[test]
    fn who_does_not_answer_is_not_in_sync_for_long_but_nobody_has_to_while_the_group_sleeps() {
        let peers = disks(&[(1, 1), (2, 2)]);
        let seen = Seen { own: NodeId(1), peers: &peers, dead: &HashSet::new(), lag_max: Duration::from_secs(30) };
        let progress = |is_active| {
            let follower = Progress { is_recently_active: is_active, ..at_end(9) };
            [(PeerId(1), at_end(9)), (PeerId(2), follower)].into_iter()
        };
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let mut in_sync = InSync::default();
        assert!(in_sync.look(progress(true), RaftIndex(9), &seen, start));
        assert!(!in_sync.look(progress(false), RaftIndex(9), &seen, at(10_000)), "it slept");
        let gone = (10_001..11_000).find(|t| in_sync.look(progress(false), RaftIndex(9), &seen, at(*t)));
        assert_eq!((gone, in_sync.nodes()), (Some(10_301), [NodeId(1)].as_slice()));
        assert!(in_sync.look(progress(true), RaftIndex(9), &seen, at(10_302)));
        assert_eq!(in_sync.nodes(), [NodeId(1), NodeId(2)]);
    }

    /// More than between two looks, and far less than what is allowed.
    #[test]
    fn who_is_always_a_little_behind_is_in_sync_and_a_learner_like_that_may_vote() {
        let peers = disks(&[(1, 1), (2, 2), (3, 3)]);
        let seen = Seen { own: NodeId(1), peers: &peers, dead: &HashSet::new(), lag_max: Duration::from_secs(30) };
        let start = Instant::now();
        let mut in_sync = InSync::default();
        // A look every 100 ms, 100 entries between two: by so many entries they are behind.
        let mut look = |tenth: u64, behind: u64| {
            let end = 10_000 + 100 * tenth;
            let learner = Progress { is_voter: false, is_learner: true, ..at_end(end - behind) };
            let progress = [(PeerId(1), at_end(end)), (PeerId(2), at_end(end - behind)), (PeerId(3), learner)];
            in_sync.look(progress.into_iter(), RaftIndex(end), &seen, start + Duration::from_millis(100 * tenth));
            (in_sync.nodes().len(), in_sync.is_close(PeerId(3)))
        };
        assert!((0..1_000).all(|tenth| look(tenth, 250).0 == 2));
        assert_eq!(look(1_000, 250), (2, true));
        // By 5 s: in sync, but too far away for a vote.
        assert!((1_001..2_000).all(|tenth| look(tenth, 5_000).0 == 2));
        assert_eq!(look(2_000, 5_000), (2, false));
        // By 40 s.
        assert!((2_001..3_000).map(|tenth| look(tenth, 40_000.min(9_000 + 100 * tenth))).last() == Some((1, false)));
        assert_eq!(look(3_000, 0).0, 2);
    }

    #[test]
    fn who_becomes_a_voter_later_is_in_sync_when_it_has_caught_up() {
        let peers = disks(&[(1, 1), (2, 2)]);
        let seen = Seen { own: NodeId(1), peers: &peers, dead: &HashSet::new(), lag_max: Duration::from_secs(30) };
        let progress = |peer, matched, is_voter| (PeerId(peer), Progress { is_voter, ..at_end(matched) });
        let now = Instant::now();
        let mut in_sync = InSync::default();
        assert!(in_sync.look([progress(1, 9, true), progress(2, 0, false)].into_iter(), RaftIndex(9), &seen, now));
        assert_eq!(in_sync.nodes(), [NodeId(1)]);
        assert!(!in_sync.look([progress(1, 9, true), progress(2, 8, true)].into_iter(), RaftIndex(9), &seen, now));
        assert!(in_sync.look([progress(1, 9, true), progress(2, 9, true)].into_iter(), RaftIndex(9), &seen, now));
        assert_eq!(in_sync.nodes(), [NodeId(1), NodeId(2)]);
    }
}
