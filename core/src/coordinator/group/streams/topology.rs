//! What an application computes, as its members say it: which topics each part reads and writes.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A topology (`StreamsTopology`). A group keeps the one that its first member brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub epoch: i32,
    /// By its id.
    pub subtopologies: BTreeMap<Arc<str>, Subtopology>,
}

/// A part of a topology whose tasks do not share anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtopology {
    pub source_topics: Vec<Arc<str>>,
    /// Patterns of topics; refused before they come here, and kept as records may have them.
    pub source_patterns: Vec<Arc<str>>,
    /// Topics that keep its state.
    pub changelogs: Vec<TopicInfo>,
    /// Names of topics that it writes and another subtopology reads.
    pub repartition_sinks: Vec<Arc<str>>,
    /// Topics that another subtopology writes and this one reads.
    pub repartition_sources: Vec<TopicInfo>,
    pub copartition_groups: Vec<CopartitionGroup>,
}

/// A topic of the application's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: Arc<str>,
    /// 0: as many as come of the topics that are read.
    pub partitions: i32,
    /// 0 or -1: the broker's default.
    pub replication_factor: i16,
    pub configs: Vec<(Arc<str>, Arc<str>)>,
}

/// Source topics which must have the same number of partitions: places in the lists of the subtopology.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopartitionGroup {
    pub source_topics: Vec<i16>,
    pub source_patterns: Vec<i16>,
    pub repartition_sources: Vec<i16>,
}

impl Topology {
    /// All topics that must be there, with the subtopology that reads each.
    pub fn topics(&self) -> BTreeMap<Arc<str>, Option<Arc<str>>> {
        let mut topics = BTreeMap::new();
        for part in self.subtopologies.values() {
            topics.extend(part.changelogs.iter().map(|topic| (Arc::clone(&topic.name), None)));
        }
        for (id, part) in &self.subtopologies {
            topics.extend(part.sources().map(|name| (Arc::clone(name), Some(Arc::clone(id)))));
        }
        topics
    }
}

impl Subtopology {
    /// All topics that it reads.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<str>> {
        self.source_topics.iter().chain(self.repartition_sources.iter().map(|topic| &topic.name))
    }
}
