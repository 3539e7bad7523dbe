//! What the partitions of a node have to do with other nodes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::types::{NodeId, PartitionId, PeerId};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::ask::Ask;
use super::leaders::{LeaderInfo, Leaders};
use super::members::Members;
use super::peers::Peers;
use super::quiet::{self, Sleep};
use super::registry::Partitions;
use super::shared::{Identity, Post};
use super::wire::{Incoming, WireError, decode_leaders, decode_raft};

impl Partitions {
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// Who leads which partition of the cluster.
    pub fn leaders(&self) -> &Leaders {
        &self.shared.leaders
    }

    /// The node of each disk there ever was: to be told before a partition with such replicas is opened.
    /// `present`: the one that each node has now.
    pub fn set_peers(&self, peers: HashMap<PeerId, NodeId>, present: impl IntoIterator<Item = (NodeId, PeerId)>) {
        self.shared.peers.store(Arc::new(Peers::new(peers, present)));
    }

    /// The node of a disk.
    pub fn node_of(&self, peer: PeerId) -> Option<NodeId> {
        self.shared.peers.load().get(&peer).copied()
    }

    /// The other nodes of the cluster.
    pub fn nodes(&self) -> HashSet<NodeId> {
        let peers = self.shared.peers.load();
        peers.nodes().filter(|node| *node != self.shared.identity.node).collect()
    }

    /// Which nodes are silent. One that was and is no more is told who leads what.
    pub async fn set_dead(&self, dead: HashSet<NodeId>) {
        let before = self.shared.dead.swap(Arc::new(dead.clone()));
        before.difference(&dead).for_each(|node| self.shared.announcements.tell_everything_to(*node));
        self.wake(before.symmetric_difference(&dead).copied().collect()).await;
    }

    /// Which nodes were not heard of for a moment: the groups of those that were just now must look for themselves.
    pub async fn set_silent(&self, silent: HashSet<NodeId>) {
        let before = self.shared.silent.swap(Arc::new(silent.clone()));
        self.wake(silent.difference(&before).copied().collect()).await;
    }

    async fn wake(&self, nodes: HashSet<NodeId>) {
        if nodes.is_empty() {
            return;
        }
        for shard in self.shards() {
            // An error: the shard has ended.
            drop(shard.send(Ask::Wake(nodes.clone())).await);
        }
    }

    /// Leaders have said that they lead no more: where nobody else is known to, the group must look for itself.
    async fn wake_leaderless(&self, ended: Vec<(PartitionId, LeaderInfo)>) {
        let mut by_shard: Vec<Vec<PartitionId>> = self.shards().iter().map(|_| Vec::new()).collect();
        for (id, info) in ended {
            if self.shared.leaders.get(id) == Some(info) {
                by_shard[self.shard_of(id)].push(id);
            }
        }
        for (shard, ids) in self.shards().iter().zip(by_shard).filter(|(_, ids)| !ids.is_empty()) {
            drop(shard.send(Ask::WakeLeaderless(ids)).await);
        }
    }

    /// A node has started: it knows nothing of who leads what, and leads nothing of what it did.
    pub async fn greet(&self, node: NodeId, boot: Uuid) {
        self.shared.leaders.note_start(node, boot);
        self.shared.announcements.tell_everything_to(node);
        // A leader that starts faster than an election takes would otherwise leave its groups asleep without one.
        self.wake(HashSet::from([node])).await;
    }

    /// A disk that came after the founders' is known from the metadata; a node that joins behind one must be able to answer
    /// it before it has read any.
    fn meet(&self, peer: PeerId, node: NodeId) {
        if self.shared.peers.load().get(&peer).is_none() {
            self.shared.peers.rcu(|peers| peers.with(peer, node));
        }
    }

    /// Takes what another node's partitions say. Waits for room in the shards' mailboxes.
    ///
    /// # Errors
    /// It is not what partitions say: the connection is not to be trusted.
    pub async fn deliver(&self, from: NodeId, post: Post, body: Bytes) -> Result<(), WireError> {
        let incoming = match post {
            Post::Urgent | Post::Raft => decode_raft(body)?,
            Post::Sleep => {
                let mut by_shard: Vec<Vec<Sleep>> = self.shards().iter().map(|_| Vec::new()).collect();
                for sleep in quiet::decode(body)? {
                    by_shard[self.shard_of(sleep.id)].push(sleep);
                }
                for (shard, sleeps) in self.shards().iter().zip(by_shard).filter(|(_, s)| !s.is_empty()) {
                    drop(shard.send(Ask::Sleep(sleeps)).await);
                }
                return Ok(());
            }
            Post::Leaders => {
                let (boot, told) = decode_leaders(body)?;
                let ended: Vec<_> = told.iter().filter(|(_, info)| !info.leads).cloned().collect();
                self.shared.leaders.note(boot, told);
                self.wake_leaderless(ended).await;
                return Ok(());
            }
        };
        // All of it is said by one disk.
        if let Some(said) = incoming.first() {
            self.meet(said.message.from(), from);
        }
        let mut by_shard: Vec<Vec<Incoming>> = self.shards().iter().map(|_| Vec::new()).collect();
        for message in incoming {
            by_shard[self.shard_of(message.id)].push(message);
        }
        for (shard, messages) in self.shards().iter().zip(by_shard).filter(|(_, m)| !m.is_empty()) {
            // An error: the shard has ended, and the node with it.
            drop(shard.send(Ask::Step(messages)).await);
        }
        Ok(())
    }

    /// Who shall belong to a partition's group from now on: its leader sees to it.
    pub async fn set_members(&self, id: PartitionId, members: Members) {
        if let Some(handle) = self.get(id) {
            // An error: the shard has ended.
            drop(handle.shard.send(Ask::SetMembers { id, members }).await);
        }
    }

    /// Hands the leadership of a partition to another node's replica. False: this node does not lead it, or the other
    /// is not in sync; else it is under way.
    pub async fn transfer(&self, id: PartitionId, to: NodeId) -> bool {
        let (reply, done) = oneshot::channel();
        self.shard(id).send(Ask::Transfer { id, to, reply }).await.is_ok() && done.await.unwrap_or(false)
    }

    /// Hands over every leadership that another node can take, before a stop. Ends when that is done.
    pub async fn hand_over(&self) {
        let mut waiting = Vec::new();
        for shard in self.shards() {
            let (reply, done) = oneshot::channel();
            if shard.send(Ask::HandOver { reply }).await.is_ok() {
                waiting.push(done);
            }
        }
        for done in waiting {
            drop(done.await);
        }
    }
}
