//! Moves of replicas to other nodes (Kafka `ReplicationControlManager.alterPartitionReassignments`).
//!
//! A move is decided, then the group's leader changes its members, and when it has said so the move is over. Until then
//! every node that may have a vote keeps its replica, also when the move was cancelled meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use super::create_topics::check_assignment;
use super::{AssignmentError, Command, Decision, Image, Move, Partition, UsableNode};
use crate::types::{LogMark, NodeId, PartitionId, PeerId};

/// Where a client wants the replicas of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    pub topic: String,
    pub partition: i32,
    /// The preferred leader first; `None`: back to where they were.
    pub replicas: Option<Vec<NodeId>>,
}

/// Why replicas do not move, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    #[error("Unable to find a topic named {0}.")]
    UnknownTopic(String),
    #[error("Unable to find partition {0}:{1}.")]
    UnknownPartition(String, i32),
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    #[error("No partition reassignment is in progress.")]
    NotInProgress,
    /// The client forbids it (KIP-860).
    #[error("The replication factor is changed from {0} to {1}")]
    ReplicationFactor(usize, usize),
}

/// A move as clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ongoing {
    /// All, those that leave at the end.
    pub replicas: Vec<NodeId>,
    /// By id.
    pub adding: Vec<NodeId>,
    /// By id.
    pub removing: Vec<NodeId>,
}

/// What the leader of a group says of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledGroup {
    pub id: PartitionId,
    /// The change of the replicas that the leader knows of (`Partition::moves`).
    pub moves: u64,
    /// Sorted.
    pub voters: Vec<PeerId>,
    /// The entry of the group's log that settled them, and the term of the leader that says so.
    pub at: LogMark,
}

impl Partition {
    /// The move that clients are told of: one that was cancelled is over for them.
    pub fn ongoing(&self) -> Option<Ongoing> {
        let Move { from, leaving } = self.moving.as_ref()?;
        let from = from.as_ref()?;
        let adding: BTreeSet<NodeId> = self.replicas.iter().copied().filter(|node| !from.contains(node)).collect();
        let replicas = self.replicas.iter().chain(leaving).copied().collect();
        Some(Ongoing { replicas, adding: adding.into_iter().collect(), removing: leaving.clone() })
    }

    /// The replicas that clients are told of.
    pub fn told_replicas(&self) -> Vec<NodeId> {
        self.ongoing().map_or_else(|| self.replicas.clone(), |ongoing| ongoing.replicas)
    }

    /// Replicas in another order, or on other nodes; `from`: where a cancel goes back to.
    fn moved(&self, id: PartitionId, replicas: Vec<NodeId>, from: Option<Vec<NodeId>>) -> Command {
        let held = self.moving.iter().flat_map(|moving| &moving.leaving).chain(&self.replicas);
        let leaving: BTreeSet<NodeId> = held.copied().filter(|node| !replicas.contains(node)).collect();
        let comes = replicas.iter().any(|node| !self.replicas.contains(node));
        let is_over = self.moving.is_none() && leaving.is_empty() && !comes;
        let moving = Move { from, leaving: leaving.into_iter().collect() };
        Command::MoveReplicas { id, replicas, moving: (!is_over).then_some(moving), since: self.since }
    }
}

/// One result for each partition, in the order of the request. `keep_count`: the number of replicas must stay as it is.
pub fn reassign(image: &Image, wanted: &[Reassignment], keep_count: bool) -> Decision<Vec<Result<(), MoveError>>> {
    // Nodes that do not live may be named: the move waits for them.
    let nodes = image.nodes().map(|node| UsableNode { id: node.id, rack: None, alive: true });
    let nodes: Vec<UsableNode> = nodes.collect();
    let mut commands = Vec::new();
    let reply = wanted.iter().map(|wanted| {
        commands.extend(reassign_one(image, &nodes, wanted, keep_count)?);
        Ok(())
    });
    let reply = reply.collect();
    Decision { commands, reply }
}

fn reassign_one(
    image: &Image,
    nodes: &[UsableNode],
    wanted: &Reassignment,
    keep_count: bool,
) -> Result<Option<Command>, MoveError> {
    let Reassignment { topic: name, partition: number, replicas } = wanted;
    let topic = image.topic_by_name(name).ok_or_else(|| MoveError::UnknownTopic(name.clone()))?;
    let id = PartitionId { topic: topic.id, partition: *number };
    let unknown = || MoveError::UnknownPartition(name.clone(), *number);
    let partition = image.partition(id).ok_or_else(unknown)?;
    let from = partition.moving.as_ref().and_then(|moving| moving.from.clone());
    let Some(replicas) = replicas else {
        let from = from.ok_or(MoveError::NotInProgress)?;
        return Ok(Some(partition.moved(id, from, None)));
    };
    if keep_count && replicas.len() != partition.replicas.len() {
        return Err(MoveError::ReplicationFactor(partition.replicas.len(), replicas.len()));
    }
    check_assignment(replicas, *number, None, nodes)?;
    if *replicas == partition.replicas {
        return Ok(None);
    }
    let from = from.unwrap_or_else(|| partition.replicas.clone());
    Ok(Some(partition.moved(id, replicas.clone(), Some(from))))
}

/// Ends the moves of those groups that have become what they were to be.
pub fn complete_moves(image: &Image, groups: &[SettledGroup]) -> Decision<()> {
    let peers = image.peers_by_node();
    let commands = groups.iter().filter_map(|group| complete(image, &peers, group)).collect();
    Decision { commands, reply: () }
}

fn complete(image: &Image, peers: &BTreeMap<NodeId, PeerId>, group: &SettledGroup) -> Option<Command> {
    let partition = image.partition(group.id)?;
    partition.moving.as_ref()?;
    let mut wanted = partition.members(peers).voters;
    wanted.sort();
    let is_reached =
        group.moves == partition.moves && wanted == group.voters && wanted.len() == partition.replicas.len();
    is_reached.then(|| Command::MoveReplicas {
        id: group.id,
        replicas: partition.replicas.clone(),
        moving: None,
        since: group.at.max(partition.since),
    })
}
