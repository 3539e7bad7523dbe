//! CreatePartitions: more partitions for topics (Kafka `ReplicationControlManager.createPartitions`).

use std::collections::BTreeSet;

use super::create_topics::check_assignment;
use super::{
    AssignmentError, Command, Decision, Image, PARTITIONS_PER_REQUEST_MAX, Partition, PlacementError, UsableNode, place,
};
use crate::types::NodeId;

/// The topic that group coordinators live on.
const GROUPS_TOPIC: &str = "__consumer_offsets";

/// How many partitions a topic shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MorePartitions {
    pub topic: String,
    /// In all.
    pub count: i32,
    /// Nodes of each new partition; `None`: we choose.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// Why a topic gets no more partitions, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreatePartitionsError {
    #[error("Duplicate topic name.")]
    Duplicate,
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    #[error("Topic already has {0} partition(s).")]
    Already(usize),
    #[error("The topic {topic} currently has {current} partition(s); {wanted} would not be an increase.")]
    NoIncrease { topic: String, current: usize, wanted: i32 },
    /// Kafka grows it, and finds other partitions for its groups from the next start on: their offsets are lost.
    #[error("The partitions of {0} cannot be added to: each group's offsets are in the one that its name hashes to.")]
    GroupsTopic(String),
    /// Kafka fails on this with UNKNOWN_SERVER_ERROR.
    #[error("Excessively large number of partitions per request.")]
    TooManyPartitions,
    #[error("Attempted to add {additional} additional partition(s), but only {assigned} assignment(s) were specified.")]
    AssignmentCount { additional: usize, assigned: usize },
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

/// One result for each name, in the order of the request.
pub fn create_partitions(
    image: &Image,
    nodes: &[UsableNode],
    pick: &mut dyn FnMut(usize) -> usize,
    topics: &[MorePartitions],
    validate_only: bool,
) -> Decision<Vec<(String, Result<(), CreatePartitionsError>)>> {
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for wanted in topics {
        if !seen.insert(wanted.topic.as_str()) {
            twice.insert(wanted.topic.as_str());
        }
    }
    let mut room = PARTITIONS_PER_REQUEST_MAX;
    let mut commands = Vec::new();
    let mut reply = Vec::new();
    for wanted in topics {
        if !seen.remove(wanted.topic.as_str()) {
            continue;
        }
        let result = match twice.contains(wanted.topic.as_str()) {
            true => Err(CreatePartitionsError::Duplicate),
            false => add(image, nodes, pick, wanted, &mut room),
        };
        reply.push((wanted.topic.clone(), result.map(|command| commands.push(command))));
    }
    match validate_only {
        true => Decision::only(reply),
        false => Decision { commands, reply },
    }
}

fn add(
    image: &Image,
    nodes: &[UsableNode],
    pick: &mut dyn FnMut(usize) -> usize,
    wanted: &MorePartitions,
    room: &mut usize,
) -> Result<Command, CreatePartitionsError> {
    let topic = image.topic_by_name(&wanted.topic).ok_or(CreatePartitionsError::UnknownTopic)?;
    let current = topic.partitions.len();
    let additional = match usize::try_from(wanted.count) {
        Ok(count) if count == current => return Err(CreatePartitionsError::Already(current)),
        Ok(count) if count > current => count - current,
        _ => {
            let topic = wanted.topic.clone();
            return Err(CreatePartitionsError::NoIncrease { topic, current, wanted: wanted.count });
        }
    };
    if topic.name.as_str() == GROUPS_TOPIC {
        return Err(CreatePartitionsError::GroupsTopic(wanted.topic.clone()));
    }
    if let Some(assigned) = wanted.assignments.as_ref().map(Vec::len).filter(|count| *count != additional) {
        return Err(CreatePartitionsError::AssignmentCount { additional, assigned });
    }
    *room = room.checked_sub(additional).ok_or(CreatePartitionsError::TooManyPartitions)?;
    let replica_count = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
    // Counts were requested as 32 bits.
    let first = i32::try_from(current).map_err(|_| CreatePartitionsError::TooManyPartitions)?;
    let placed = match &wanted.assignments {
        Some(assigned) => {
            for (replicas, number) in assigned.iter().zip(first..) {
                check_assignment(replicas, number, Some(replica_count), nodes)?;
            }
            assigned.clone()
        }
        None => place(nodes, additional, replica_count, pick)?,
    };
    let partitions = placed.into_iter().map(|replicas| Partition::born(replicas, image)).collect();
    Ok(Command::AddPartitions { id: topic.id, first, partitions })
}
