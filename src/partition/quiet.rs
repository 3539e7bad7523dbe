//! Groups that have nothing to do sleep: no ticks, no heartbeats. The nodes' own heartbeats stand for theirs.
//!
//! A leader that finds every member as far as itself, for a while, tells them so and sleeps; a follower that is so far
//! sleeps too. A group wakes with any message or proposal, when the node of a member falls silent or has started anew, and
//! when its leader says that it leads no more. What is told may be lost: then a follower stands for election, its pre-vote
//! wakes the leader, and nothing else happens.

use std::collections::{HashMap, HashSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::replica::ELECTION_TICKS;
use millstream_core::types::{NodeId, PartitionId, PeerId, RaftIndex, RaftTerm};

use super::shard::{Owned, Shard};
use super::shared::{Post, Shared};
use super::wire::{WireError, put_id, take_id};

/// Ticks that a group is calm before it sleeps.
const CALM_TICKS: i8 = 5;
/// And when the node of a member has fallen silent or started anew: by then raft has forgotten who was heard of before.
const CALM_TICKS_AFTER_CHANGE: i8 = ELECTION_TICKS as i8 + 2;

/// What a leader tells when it goes to sleep: it was calm in this term, with everything up to this entry committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sleep {
    pub id: PartitionId,
    pub term: RaftTerm,
    pub index: RaftIndex,
}

/// Layout, big endian: for each topic id 16 bytes, partition i32, term u64, index u64.
fn encode(sleeps: &[Sleep]) -> Bytes {
    let mut out = BytesMut::with_capacity(sleeps.len() * 36);
    for Sleep { id, term, index } in sleeps {
        put_id(&mut out, *id);
        out.put_u64(term.0);
        out.put_u64(index.0);
    }
    out.freeze()
}

pub(super) fn decode(mut from: Bytes) -> Result<Vec<Sleep>, WireError> {
    let mut sleeps = Vec::new();
    while !from.is_empty() {
        let id = take_id(&mut from)?;
        let mut word = || from.try_get_u64().map_err(|_| WireError::Length);
        sleeps.push(Sleep { id, term: RaftTerm(word()?), index: RaftIndex(word()?) });
    }
    Ok(sleeps)
}

impl Shard {
    /// Lets those sleep that are calm, and tells their followers.
    pub(super) fn sleep(&mut self, calm: &[PartitionId]) {
        let Some(outlet) = self.shared.outlet.clone() else { return };
        let mut by_node: HashMap<NodeId, Vec<Sleep>> = HashMap::new();
        for id in calm {
            let Some(owned) = self.owned.get(id) else { continue };
            let Some(sleep) = owned.sleep() else { continue };
            for node in owned.other_nodes(&self.shared).filter(|node| !owned.is_missed(*node, &self.shared)) {
                by_node.entry(node).or_default().push(sleep);
            }
            self.awake.remove(id);
        }
        for (node, sleeps) in by_node {
            // Lost: see above.
            let _is_sent: bool = outlet(node, Post::Sleep, vec![encode(&sleeps)]);
        }
    }

    /// A leader sleeps: so do its followers, if they are as far.
    pub(super) fn fall_asleep(&mut self, sleeps: Vec<Sleep>) {
        for sleep in sleeps {
            if self.owned.get(&sleep.id).is_some_and(|owned| owned.may_follow_asleep(&sleep, &self.shared)) {
                self.awake.remove(&sleep.id);
            }
        }
    }

    /// Nobody leads these, though the nodes of all members may live: a replica that was halted says nothing more.
    pub(super) fn wake_leaderless(&mut self, partitions: Vec<PartitionId>) {
        self.awake.extend(partitions.into_iter().filter(|id| self.owned.contains_key(id)));
    }

    /// Nodes have fallen silent, or started anew: groups with members there must look for themselves.
    pub(super) fn wake(&mut self, nodes: &HashSet<NodeId>) {
        for (id, owned) in &mut self.owned {
            if owned.other_nodes(&self.shared).any(|node| nodes.contains(&node)) {
                owned.calm_ticks = CALM_TICKS - CALM_TICKS_AFTER_CHANGE;
                self.awake.insert(*id);
            }
        }
    }
}

impl Owned {
    fn other_nodes<'a>(&'a self, shared: &'a Shared) -> impl Iterator<Item = NodeId> + 'a {
        let peers = shared.peers.load();
        let members = self.group.iter().flat_map(|group| group.replica().membership().peers());
        members.filter(|peer| *peer != shared.identity.peer).filter_map(move |peer| peers.get(&peer).copied())
    }

    fn sleep(&self) -> Option<Sleep> {
        let group = self.group.as_ref().filter(|g| g.is_leader())?;
        Some(Sleep { id: self.shared.id, term: group.term(), index: group.commit_index() })
    }

    /// Counts calm ticks of a leader. True when it may sleep.
    pub(super) fn is_calm(&mut self, shared: &Shared) -> bool {
        let is_calm = self.is_calm_now(shared);
        self.calm_ticks = if is_calm { self.calm_ticks.saturating_add(1) } else { self.calm_ticks.min(0) };
        self.calm_ticks >= CALM_TICKS && self.do_members_answer(shared)
    }

    /// Whether those who count as in sync, and whose nodes live, have answered of late. A replica that is offline does not.
    fn do_members_answer(&self, shared: &Shared) -> bool {
        let Some(group) = &self.group else { return false };
        let (peers, silent) = (shared.peers.load(), shared.silent.load());
        group.replica().progress().all(|(peer, p)| {
            p.is_recently_active
                || !peers.get(&peer).is_some_and(|node| !silent.contains(node) && self.is_in_sync(*node))
        })
    }

    /// A voter that counts as offline. If it is not, it has to show it: asleep it never would.
    fn is_missed(&self, node: NodeId, shared: &Shared) -> bool {
        let peers = shared.peers.load();
        let voters = self.group.iter().flat_map(|group| &group.replica().membership().voters);
        voters.filter_map(|peer| peers.get(peer)).any(|voter| *voter == node) && !self.is_in_sync(node)
    }

    fn is_in_sync(&self, node: NodeId) -> bool {
        self.in_sync.nodes().contains(&node)
    }

    fn is_calm_now(&self, shared: &Shared) -> bool {
        let Some(group) = self.group.as_ref().filter(|g| g.is_leader() && self.shared.is_leading()) else {
            return false;
        };
        let replica = group.replica();
        let (last, membership) = (replica.last_index(), replica.membership());
        if self.applied != last || !membership.is_settled || replica.leader_transferee().is_some() {
            return false;
        }
        if self.members_are_due && self.wanted.is_some() || !self.waiting.is_empty() || self.is_asked_whether_leading()
        {
            return false;
        }
        // A leader that may be alone must find that out.
        let (peers, silent) = (shared.peers.load(), shared.silent.load());
        let is_heard = |peer: &&_| peers.get(peer).is_some_and(|node| !silent.contains(node));
        let heard = membership.voters.iter().filter(is_heard).count();
        // One that is offline, and known to be, asks for what it lacks when it is back.
        let is_offline =
            |peer: PeerId, is_active: bool| !is_active && peers.get(&peer).is_none_or(|node| !self.is_in_sync(*node));
        heard > membership.voters.len() / 2
            && replica.progress().all(|(peer, p)| {
                peer == replica.peer()
                    || p.matched == last && p.committed == last
                    || !is_heard(&&peer)
                    || is_offline(peer, p.is_recently_active)
            })
    }

    fn may_follow_asleep(&self, sleep: &Sleep, shared: &Shared) -> bool {
        let Some(group) = self.group.as_ref().filter(|g| !g.is_leader() && g.term() == sleep.term) else {
            return false;
        };
        let (peers, silent) = (shared.peers.load(), shared.silent.load());
        let leader = group.leader().and_then(|leader| peers.get(&leader));
        leader.is_some_and(|node| !silent.contains(node))
            && group.replica().last_index() == sleep.index
            && group.commit_index() == sleep.index
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::types::TopicId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_told_of_sleep_comes_back_and_a_cut_frame_is_refused() {
        let id = |partition| PartitionId { topic: TopicId(Uuid::from_u128(7)), partition };
        let sleep = |partition| Sleep { id: id(partition), term: RaftTerm(3), index: RaftIndex(99) };
        let bytes = encode(&[sleep(1), sleep(2)]);
        assert_eq!(decode(bytes.clone()).unwrap(), [sleep(1), sleep(2)]);
        for len in (1..bytes.len()).filter(|len| *len != bytes.len() / 2) {
            assert_eq!(decode(bytes.slice(..len)), Err(WireError::Length));
        }
    }
}
