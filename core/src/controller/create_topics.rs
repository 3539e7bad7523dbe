//! CreateTopics: every check of Kafka's `ReplicationControlManager.createTopics`, in its order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    Command, Decision, Image, PARTITIONS_PER_REQUEST_MAX, Partition, PlacementError, Topic, UsableNode, place,
};
use crate::config::describe::{self, ConfigEntry};
use crate::config::{BrokerConfig, CONFIG_VALUE_LEN_MAX, ConfigError, ConfigMap, check_topic};
use crate::types::{InvalidTopicName, NodeId, TopicId, TopicName};

/// A topic as a client wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// -1: `num.partitions`, or as many as are assigned.
    pub partitions: i32,
    /// -1: `default.replication.factor`, or as many as are assigned.
    pub replication_factor: i16,
    /// Partition number and its nodes; empty: we choose.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was created, or could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    pub id: TopicId,
    pub partitions: usize,
    pub replication_factor: usize,
    /// All its settings, without synonyms.
    pub configs: Vec<ConfigEntry>,
}

/// Why nodes named by a client are no replicas of a partition, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    #[error("Found multiple manual partition assignments for partition {0}")]
    Twice(i32),
    #[error("The manual partition assignment includes an empty replica list.")]
    Empty,
    #[error("The manual partition assignment includes broker {0}, but no such broker is registered.")]
    UnknownNode(NodeId),
    #[error("The manual partition assignment includes the broker {0} more than once.")]
    NodeTwice(NodeId),
    #[error(
        "The manual partition assignment includes a partition with {got} replica(s), but this is not consistent with \
         previous partitions, which have {expected} replica(s)."
    )]
    ReplicaCount { got: usize, expected: usize },
    #[error(
        "All brokers specified in the manual partition assignment for partition {0} are fenced or in controlled \
         shutdown."
    )]
    NoneAlive(i32),
    #[error("partitions should be a consecutive 0-based integer sequence")]
    Gap,
}

/// Why a topic is not created, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    #[error("Duplicate topic name.")]
    Duplicate,
    #[error("Creation of internal topic __cluster_metadata is prohibited.")]
    Metadata,
    /// The request as a whole asks for too much; every topic in it gets this.
    #[error("Excessively large number of partitions per request.")]
    TooManyPartitions,
    #[error(transparent)]
    Name(#[from] InvalidTopicName),
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    Collision { name: String, existing: TopicName },
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    #[error("Null value not supported for topic configs: {}", .0.join(","))]
    NullConfigs(Vec<String>),
    #[error("The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.")]
    ConfigTooLong,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("A manual partition assignment was specified, but replication factor was not set to -1.")]
    AssignedAndReplicationFactor,
    #[error("A manual partition assignment was specified, but numPartitions was not set to -1.")]
    AssignedAndPartitions,
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    #[error("Replication factor must be larger than 0, or -1 to use the default value.")]
    ReplicationFactor,
    #[error("Number of partitions was set to an invalid non-positive value.")]
    Partitions,
    #[error("Unable to replicate the partition {replication_factor} time(s): {error}")]
    Placement { replication_factor: usize, error: PlacementError },
}

/// What the creation of topics goes by.
pub struct TopicCreation<'a> {
    pub image: &'a Image,
    /// The settings in force of the node that decides.
    pub broker: &'a BrokerConfig,
    pub nodes: &'a [UsableNode],
    /// A fresh topic id at each call.
    pub next_id: &'a mut dyn FnMut() -> TopicId,
    /// A random number below its argument.
    pub pick: &'a mut dyn FnMut(usize) -> usize,
}

/// One result for each name, in the order of the request.
pub fn create_topics(
    mut by: TopicCreation<'_>,
    topics: &[NewTopic],
    validate_only: bool,
) -> Decision<Vec<(String, Result<CreatedTopic, CreateTopicError>)>> {
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for topic in topics {
        if !seen.insert(topic.name.as_str()) {
            twice.insert(topic.name.as_str());
        }
    }
    let too_many = by.too_many_partitions(topics.iter().filter(|topic| !twice.contains(topic.name.as_str())));
    let mut commands = Vec::new();
    let mut reply = Vec::new();
    for topic in topics {
        let name = topic.name.as_str();
        // The first of several equal names answers for all of them.
        if !seen.remove(name) {
            continue;
        }
        let result = match () {
            () if twice.contains(name) => Err(CreateTopicError::Duplicate),
            () if name == "__cluster_metadata" => Err(CreateTopicError::Metadata),
            () if too_many => Err(CreateTopicError::TooManyPartitions),
            () => by.create(topic),
        };
        reply.push((
            topic.name.clone(),
            result.map(|(command, created)| {
                commands.push(command);
                created
            }),
        ));
    }
    match validate_only {
        true => Decision::only(reply),
        false => Decision { commands, reply },
    }
}

impl TopicCreation<'_> {
    fn default_partitions(&self) -> i64 {
        self.broker.integer("num.partitions")
    }

    fn too_many_partitions<'t>(&self, topics: impl Iterator<Item = &'t NewTopic>) -> bool {
        let count = |topic: &NewTopic| match topic.partitions {
            _ if !topic.assignments.is_empty() => topic.assignments.len() as u64,
            -1 => self.default_partitions().unsigned_abs(),
            count => u64::try_from(count).unwrap_or(0),
        };
        topics.map(count).sum::<u64>() > PARTITIONS_PER_REQUEST_MAX as u64
    }

    fn create(&mut self, wanted: &NewTopic) -> Result<(Command, CreatedTopic), CreateTopicError> {
        let name = self.free_name(&wanted.name)?;
        let configs = self.configs(&wanted.configs)?;
        let partitions = self.partitions(wanted)?;
        let created = CreatedTopic {
            id: (self.next_id)(),
            partitions: partitions.len(),
            replication_factor: partitions.first().map_or(0, |partition| partition.replicas.len()),
            configs: describe::created_topic(&configs, self.broker),
        };
        let topic = Topic { id: created.id, name, partitions, configs: Arc::new(configs) };
        Ok((Command::CreateTopic(topic), created))
    }

    fn free_name(&self, name: &str) -> Result<TopicName, CreateTopicError> {
        if self.image.topic_by_name(name).is_some() {
            return Err(CreateTopicError::Exists(name.to_owned()));
        }
        let valid = TopicName::new(name)?;
        match self.image.topic_alike(name) {
            Some(existing) => Err(CreateTopicError::Collision { name: name.to_owned(), existing: existing.clone() }),
            None => Ok(valid),
        }
    }

    fn configs(&self, wanted: &[(String, Option<String>)]) -> Result<ConfigMap, CreateTopicError> {
        let nulls: Vec<String> =
            wanted.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.clone()).collect();
        if !nulls.is_empty() {
            return Err(CreateTopicError::NullConfigs(nulls));
        }
        let configs: ConfigMap =
            wanted.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
        if configs.values().any(|value| value.len() > CONFIG_VALUE_LEN_MAX) {
            return Err(CreateTopicError::ConfigTooLong);
        }
        // A topic without settings is not checked: those of the broker are not its fault.
        if !configs.is_empty() {
            check_topic(&configs, self.broker)?;
        }
        Ok(configs)
    }

    fn partitions(&mut self, wanted: &NewTopic) -> Result<Vec<Partition>, CreateTopicError> {
        if !wanted.assignments.is_empty() {
            return self.assigned_partitions(wanted);
        }
        let replication_factor = match wanted.replication_factor {
            -1 => self.broker.integer("default.replication.factor"),
            count => i64::from(count),
        };
        let replication_factor = usize::try_from(replication_factor)
            .ok()
            .filter(|count| *count > 0)
            .ok_or(CreateTopicError::ReplicationFactor)?;
        let partitions = match wanted.partitions {
            -1 => self.default_partitions(),
            count => i64::from(count),
        };
        let partitions =
            usize::try_from(partitions).ok().filter(|count| *count > 0).ok_or(CreateTopicError::Partitions)?;
        let placed = place(self.nodes, partitions, replication_factor, self.pick)
            .map_err(|error| CreateTopicError::Placement { replication_factor, error })?;
        Ok(placed.into_iter().map(|replicas| Partition::born(replicas, self.image)).collect())
    }

    fn assigned_partitions(&self, wanted: &NewTopic) -> Result<Vec<Partition>, CreateTopicError> {
        if wanted.replication_factor != -1 {
            return Err(CreateTopicError::AssignedAndReplicationFactor);
        }
        if wanted.partitions != -1 {
            return Err(CreateTopicError::AssignedAndPartitions);
        }
        let mut partitions: BTreeMap<i32, Partition> = BTreeMap::new();
        let mut replica_count = None;
        for (number, replicas) in &wanted.assignments {
            if partitions.contains_key(number) {
                return Err(AssignmentError::Twice(*number).into());
            }
            check_assignment(replicas, *number, replica_count, self.nodes)?;
            replica_count = Some(replicas.len());
            partitions.insert(*number, Partition::born(replicas.clone(), self.image));
        }
        match partitions.keys().zip(0..).all(|(number, expected)| *number == expected) {
            true => Ok(partitions.into_values().collect()),
            false => Err(AssignmentError::Gap.into()),
        }
    }
}

/// Checks nodes that a client wants as the replicas of partition `number`.
pub(super) fn check_assignment(
    replicas: &[NodeId],
    number: i32,
    replica_count: Option<usize>,
    nodes: &[UsableNode],
) -> Result<(), AssignmentError> {
    if replicas.is_empty() {
        return Err(AssignmentError::Empty);
    }
    let mut sorted = replicas.to_vec();
    sorted.sort();
    let mut before = None;
    for node in sorted {
        if !nodes.iter().any(|known| known.id == node) {
            return Err(AssignmentError::UnknownNode(node));
        }
        if before == Some(node) {
            return Err(AssignmentError::NodeTwice(node));
        }
        before = Some(node);
    }
    if let Some(expected) = replica_count.filter(|expected| *expected != replicas.len()) {
        return Err(AssignmentError::ReplicaCount { got: replicas.len(), expected });
    }
    let is_alive = |node: &NodeId| nodes.iter().any(|known| known.id == *node && known.alive);
    if replicas.iter().any(is_alive) { Ok(()) } else { Err(AssignmentError::NoneAlive(number)) }
}
