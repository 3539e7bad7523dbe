//! Which followers are in sync (`replica.lag.time.max.ms`), as clients see it in Metadata.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use millstream_core::replica::Progress;
use millstream_core::types::{NodeId, PeerId, RaftIndex};
use tokio::time::Instant;

use super::peers::Peers;

/// A leader's view of its followers. In sync is whose node is alive and who has had, within the allowed time, all that
/// was the leader's end.
#[derive(Default)]
pub(super) struct InSync {
    /// `None`: not since it was dead.
    caught_up_at: HashMap<PeerId, Option<Instant>>,
    /// The leader's last entry at the look before.
    end: RaftIndex,
    /// By id; empty before the first look.
    nodes: Vec<NodeId>,
}

impl InSync {
    /// Begins anew: a new leader takes everybody for caught up, until the time has passed.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
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
        for (peer, Progress { matched, is_voter, .. }) in progress {
            let Some(node) = seen.peers.get(&peer).filter(|_| is_voter && seen.peers.is_latest(peer)) else {
                continue;
            };
            let caught_up_at = self.caught_up_at.entry(peer).or_insert(Some(now));
            if matched >= self.end {
                *caught_up_at = Some(now);
            }
            if *node == seen.own {
                nodes.push(*node);
            } else if seen.dead.contains(node) {
                // When it comes back it has to catch up first.
                self.caught_up_at.insert(peer, None);
            } else if caught_up_at.is_some_and(|at| now.duration_since(at) <= seen.lag_max) {
                nodes.push(*node);
            }
        }
        nodes.sort_unstable();
        self.end = end;
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

    #[test]
    fn who_lags_for_too_long_or_is_dead_is_not_in_sync() {
        let peers = (1..=3).map(|n| (PeerId(n), NodeId(n as i32 * 10))).collect::<HashMap<_, _>>().into();
        let (none, third) = (HashSet::new(), HashSet::from([NodeId(30)]));
        let seen = |dead| Seen { own: NodeId(10), peers: &peers, dead, lag_max: Duration::from_secs(30) };
        let progress = |matched: [u64; 3]| {
            let progress = |m| Progress {
                matched: RaftIndex(m),
                next: RaftIndex(m + 1),
                committed: RaftIndex(m),
                is_voter: true,
                is_learner: false,
                is_recently_active: true,
                is_snapshot_pending: false,
                is_paused: false,
            };
            (1..).map(PeerId).zip(matched.map(progress))
        };
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
        let peers = (1..=3).map(|n| (n, n as i32 * 10)).chain([(4, 20)]);
        let peers = peers.map(|(peer, node)| (PeerId(peer), NodeId(node))).collect::<HashMap<_, _>>().into();
        let seen = Seen { peers: &peers, ..seen(&none) };
        assert!(in_sync.look(progress([50, 50, 50]), RaftIndex(50), &seen, at(33)));
        assert_eq!(in_sync.nodes(), [NodeId(10), NodeId(30)]);
    }
}
