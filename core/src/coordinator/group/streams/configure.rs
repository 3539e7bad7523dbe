//! A topology with the topics that there are: how many tasks each subtopology has, and which topics of the application's
//! own are still to be created (`InternalTopicManager`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::consumer::Topics;
use super::command::{InternalTopic, StreamsStatus, StreamsStatusKind};
use super::partitions::decide_partition_counts;
use super::topology::{Subtopology, TopicInfo, Topology};

/// Topics that a status names.
const NAMES_TOLD: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Configured {
    pub topology_epoch: i32,
    /// `None`: it cannot be said, because topics are missing or do not fit.
    pub parts: Option<BTreeMap<Arc<str>, ConfiguredPart>>,
    /// Topics to be created.
    pub missing: Vec<InternalTopic>,
    /// Why nothing can be assigned.
    pub problem: Option<StreamsStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ConfiguredPart {
    pub task_count: i32,
    pub repartition_sources: BTreeMap<Arc<str>, InternalTopic>,
    pub changelogs: BTreeMap<Arc<str>, InternalTopic>,
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotConfigured {
    /// Topics are missing or do not fit: that may change.
    Topics(StreamsStatus),
    /// The topology cannot be.
    Topology(String),
}

impl Configured {
    pub fn is_ready(&self) -> bool {
        self.problem.is_none()
    }

    pub fn task_count(&self, subtopology: &str) -> Option<i32> {
        self.parts.as_ref()?.get(subtopology).map(|part| part.task_count)
    }
}

impl ConfiguredPart {
    pub fn is_stateful(&self) -> bool {
        !self.changelogs.is_empty()
    }
}

/// Fails for a topology that cannot be, and says why.
pub(super) fn configure(topology: &Topology, topics: &Topics) -> Result<Configured, String> {
    let topology_epoch = topology.epoch;
    match configure_parts(topology, topics) {
        Ok((parts, missing)) => {
            let problem = (!missing.is_empty()).then(|| {
                let names = summary(missing.iter().map(|topic| &topic.name));
                let detail = format!("Internal topics are missing: {names}");
                StreamsStatus { kind: StreamsStatusKind::MissingInternalTopics, detail }
            });
            Ok(Configured { topology_epoch, parts: Some(parts), missing, problem })
        }
        Err(NotConfigured::Topics(status)) => {
            Ok(Configured { topology_epoch, parts: None, missing: Vec::new(), problem: Some(status) })
        }
        Err(NotConfigured::Topology(why)) => Err(why),
    }
}

type Parts = BTreeMap<Arc<str>, ConfiguredPart>;

fn configure_parts(topology: &Topology, topics: &Topics) -> Result<(Parts, Vec<InternalTopic>), NotConfigured> {
    let sources = topology.subtopologies.values().flat_map(|part| &part.source_topics);
    let missing: BTreeSet<&Arc<str>> = sources.filter(|name| topics.by_name(name).is_none()).collect();
    if !missing.is_empty() {
        let detail = format!("Source topics {} are missing.", summary(missing));
        return Err(NotConfigured::Topics(StreamsStatus { kind: StreamsStatusKind::MissingSourceTopics, detail }));
    }
    let counts = decide_partition_counts(topology, topics)?;
    let count_of = |name: &Arc<str>| match topics.by_name(name) {
        Some(topic) => Some(topic.partition_count),
        None => counts.get(name).copied(),
    };
    let mut parts = Parts::new();
    for (id, part) in &topology.subtopologies {
        let task_count = part.sources().filter_map(count_of).max();
        let task_count = task_count.ok_or_else(|| no_sources(id))?;
        let own = |of: &[TopicInfo]| of.iter().map(|topic| internal_topic(topic, &counts)).collect::<Result<_, _>>();
        let (repartition_sources, changelogs) = (own(&part.repartition_sources)?, own(&part.changelogs)?);
        parts.insert(Arc::clone(id), ConfiguredPart { task_count, repartition_sources, changelogs });
    }
    let missing = missing_topics(&parts, topics)?;
    Ok((parts, missing))
}

pub(super) fn no_sources(subtopology: &str) -> NotConfigured {
    NotConfigured::Topology(format!("No source topics found for subtopology {subtopology}"))
}

pub(super) fn incorrectly_partitioned(detail: String) -> NotConfigured {
    NotConfigured::Topics(StreamsStatus { kind: StreamsStatusKind::IncorrectlyPartitionedTopics, detail })
}

fn internal_topic(
    topic: &TopicInfo,
    counts: &BTreeMap<Arc<str>, i32>,
) -> Result<(Arc<str>, InternalTopic), NotConfigured> {
    let decided = || counts.get(&topic.name).copied();
    let partition_count = if topic.partitions == 0 { decided() } else { Some(topic.partitions) };
    let partition_count = partition_count
        .ok_or_else(|| NotConfigured::Topology(format!("Number of partitions must be set for topic {}", topic.name)))?;
    let replication_factor = (topic.replication_factor != 0).then_some(topic.replication_factor);
    let configs = topic.configs.iter().cloned().collect();
    let name = Arc::clone(&topic.name);
    Ok((Arc::clone(&name), InternalTopic { name, partition_count, replication_factor, configs }))
}

/// Those which are there must have as many partitions as they are to have.
fn missing_topics(parts: &Parts, topics: &Topics) -> Result<Vec<InternalTopic>, NotConfigured> {
    let of = |part: &'_ ConfiguredPart| part.repartition_sources.clone().into_iter().chain(part.changelogs.clone());
    let expected: BTreeMap<Arc<str>, InternalTopic> = parts.values().flat_map(of).collect();
    let mut missing = Vec::new();
    for (name, topic) in expected {
        match topics.by_name(&name) {
            None => missing.push(topic),
            Some(known) if known.partition_count != topic.partition_count => {
                return Err(incorrectly_partitioned(format!(
                    "Existing topic {name} has different number of partitions: expected {}, found {}",
                    topic.partition_count, known.partition_count
                )));
            }
            Some(_) => {}
        }
    }
    Ok(missing)
}

fn summary<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> String {
    let mut names = names.into_iter();
    let told: Vec<&str> = names.by_ref().take(NAMES_TOLD).map(|name| &**name).collect();
    let told = told.join(", ");
    match names.count() {
        0 => told,
        more => format!("{told} and {more} additional topics"),
    }
}

/// What can be said of a topology without topics. Kafka finds most of it by exceptions that it does not expect.
pub(super) fn check(topology: &Topology) -> Result<(), String> {
    if topology.epoch < 0 {
        return Err("Topology epoch must be non-negative.".to_owned());
    }
    for (id, part) in &topology.subtopologies {
        for topic in part.changelogs.iter().chain(&part.repartition_sources) {
            check_topic(topic)?;
        }
        check_places(part).map_err(|()| format!("A copartition group of subtopology {id} names no topic of it."))?;
    }
    Ok(())
}

fn check_topic(topic: &TopicInfo) -> Result<(), String> {
    let name = &topic.name;
    if let Err(e) = crate::types::TopicName::new(name) {
        return Err(format!("{name} is no name of a topic: {e}."));
    }
    // -1 is the broker's default: what Streams sends where its `replication.factor` is not set.
    if topic.partitions < 0 || topic.replication_factor < -1 {
        return Err(format!("Topic {name} has a negative number of partitions or replicas."));
    }
    Ok(())
}

fn check_places(part: &Subtopology) -> Result<(), ()> {
    let within = |places: &[i16], len: usize| {
        let is_place = |place: &i16| usize::try_from(*place).is_ok_and(|place| place < len);
        if places.iter().all(is_place) { Ok(()) } else { Err(()) }
    };
    for group in &part.copartition_groups {
        within(&group.source_topics, part.source_topics.len())?;
        within(&group.source_patterns, part.source_patterns.len())?;
        within(&group.repartition_sources, part.repartition_sources.len())?;
    }
    Ok(())
}
