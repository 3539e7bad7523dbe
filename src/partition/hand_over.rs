//! Leaderships go to other nodes: to the preferred one, and before a stop.

use std::time::Duration;

use millstream_core::types::{NodeId, PartitionId, PeerId};
use tokio::time::Instant;

use super::append::answer;
use super::shard::{Owned, Shard};
use super::shared::Shared;

/// Shorter: where all disks are full, leaderships go round and round. Longer: records are refused though others have room.
const GIVE_WAY_EVERY: Duration = Duration::from_secs(5);

impl Shard {
    /// Begins to hand a leadership over. False: this replica does not lead, or the other cannot take it now.
    pub(super) fn transfer(&mut self, id: PartitionId, to: NodeId) -> bool {
        let shared = self.shared.clone();
        let Some(owned) = self.owned.get_mut(&id) else { return false };
        let heir = owned.heirs(&shared).into_iter().find(|(_, node)| *node == to);
        let Some((peer, _)) = heir else { return false };
        owned.give_to(peer);
        self.awake.insert(id);
        self.touch(id);
        true
    }

    /// The disk is full, and takes no records: whoever has room leads. Now and then again, for what nobody could take, and what
    /// came back by an election while others were away or full as well.
    pub(super) fn give_way(&mut self, now: Instant) {
        if self.gave_way_at.is_some_and(|at| now.duration_since(at) < GIVE_WAY_EVERY) {
            return;
        }
        self.gave_way_at = Some(now);
        let shared = self.shared.clone();
        let given: Vec<_> =
            self.owned.iter_mut().filter_map(|(id, owned)| owned.give_away(&shared).then_some(*id)).collect();
        if !given.is_empty() {
            tracing::warn!(partitions = given.len(), "leaderships go to nodes that have room");
        }
        for id in given {
            self.awake.insert(id);
            self.touch(id);
        }
    }

    /// Part of a stop: hands over what it can, at each turn until nothing is left.
    pub(super) fn hand_over(&mut self) {
        if self.handing_over.is_none() {
            return;
        }
        let shared = self.shared.clone();
        let mut is_left = false;
        let mut given = Vec::new();
        for (id, owned) in &mut self.owned {
            let Some(group) = owned.group.as_ref().filter(|g| g.is_leader() && g.has_others()) else { continue };
            if group.replica().leader_transferee().is_some() {
                is_left = true;
            } else if let Some((peer, _)) = owned.heirs(&shared).into_iter().next() {
                owned.give_to(peer);
                given.push(*id);
                is_left = true;
            }
        }
        for id in given {
            self.awake.insert(id);
            self.touch(id);
        }
        while !self.touched.is_empty() {
            self.turn();
        }
        if !is_left && let Some(reply) = self.handing_over.take() {
            answer(reply, ());
        }
    }
}

impl Owned {
    /// Begins to hand the leadership to whoever can take it. False: nobody can now.
    pub(super) fn give_away(&mut self, shared: &Shared) -> bool {
        let Some((peer, _)) = self.heirs(shared).into_iter().next() else { return false };
        self.give_to(peer);
        true
    }

    /// Who could lead in this replica's place, the one with the longest log first.
    fn heirs(&self, shared: &Shared) -> Vec<(PeerId, NodeId)> {
        let Some(group) = self.group.as_ref().filter(|g| g.is_leader()) else { return Vec::new() };
        let (peers, dead) = (shared.peers.load(), shared.dead.load());
        let mut heirs: Vec<_> = group
            .replica()
            .progress()
            .filter(|(peer, p)| p.is_voter && *peer != shared.identity.peer && peers.is_present(*peer))
            .filter_map(|(peer, p)| Some((p.matched, peer, *peers.get(&peer)?)))
            .filter(|(_, _, node)| !dead.contains(node) && self.in_sync.nodes().contains(node))
            .collect();
        heirs.sort_by_key(|(matched, peer, _)| (std::cmp::Reverse(*matched), *peer));
        heirs.into_iter().map(|(_, peer, node)| (peer, node)).collect()
    }

    fn give_to(&mut self, peer: PeerId) {
        if let Some(group) = &mut self.group {
            tracing::debug!(partition = %self.shared.name, %peer, "leadership is handed over");
            group.transfer_leader(peer);
        }
    }
}
