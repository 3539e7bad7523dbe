//! What group coordinators need of the share coordinators: the state of a share group's partitions is made, looked at and
//! deleted with the group.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use millstream_core::coordinator::group::GroupId;
use millstream_core::coordinator::group::consumer::Target;
use millstream_core::coordinator::group::share::{InitializeShares, ShareCommand};
use millstream_core::types::{Offset, PartitionId, TopicId};

/// What came of each partition: 0, or Kafka's code as the share coordinator gave it.
pub type KeptPartitions = Vec<(TopicId, Vec<(i32, i16)>)>;

/// An answer that is waited for. Who cannot be reached is an error of each of its partitions.
pub type Kept<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The way to the share coordinators, on whatever node they are.
pub trait ShareKeeping: Send + Sync {
    fn initialize(&self, asked: InitializeShares) -> Kept<KeptPartitions>;

    fn delete(&self, group: GroupId, topics: Target) -> Kept<KeptPartitions>;

    fn summaries(&self, group: GroupId, topics: Target) -> Kept<ShareSummaries>;
}

/// Where share-partitions stand, as far as anything is known of them.
pub type ShareSummaries = BTreeMap<PartitionId, ShareSummary>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareSummary {
    /// `None`: nobody has read there yet.
    pub start: Option<Offset>,
    pub leader_epoch: i32,
    /// How many records from the start on are done with, if that is known.
    pub delivery_complete: Option<i32>,
}

impl ShareSummary {
    /// So many records of the partition are done with; those before the start count, too.
    pub fn done_with(&self) -> Option<i64> {
        Some(self.start?.0 + i64::from(self.delivery_complete?))
    }
}

/// The way, from when it is there.
#[derive(Default)]
pub struct ShareKeepers(OnceLock<Arc<dyn ShareKeeping>>);

/// Partitions that the share coordinators were asked to begin with.
pub struct InitializedShares {
    group: GroupId,
    asked: Target,
    /// `None`: nobody could be asked.
    pub results: Option<KeptPartitions>,
}

impl ShareKeepers {
    pub fn connect(&self, way: Arc<dyn ShareKeeping>) {
        assert!(self.0.set(way).is_ok(), "connected once");
    }

    pub async fn initialize(&self, asked: InitializeShares) -> InitializedShares {
        let group = asked.group.clone();
        let plain = asked.topics.iter().map(|(id, of)| (*id, of.keys().copied().collect())).collect();
        let results = match self.0.get() {
            Some(way) => Some(way.initialize(asked).await),
            None => None,
        };
        InitializedShares { group, asked: plain, results }
    }

    /// `None`: nobody could be asked.
    pub async fn delete(&self, group: GroupId, topics: Target) -> Option<KeptPartitions> {
        match self.0.get() {
            Some(way) => Some(way.delete(group, topics).await),
            None => None,
        }
    }

    /// Nothing, where nobody could be asked.
    pub async fn summaries(&self, group: GroupId, topics: Target) -> ShareSummaries {
        match self.0.get() {
            Some(way) => way.summaries(group, topics).await,
            None => ShareSummaries::new(),
        }
    }
}

impl InitializedShares {
    /// The first error of any partition.
    pub fn failed(&self) -> bool {
        let failed = |results: &KeptPartitions| results.iter().flat_map(|(_, of)| of).any(|(_, code)| *code != 0);
        self.results.as_ref().is_none_or(failed)
    }

    /// What the group's coordinator is told: all is well, or nothing is.
    pub fn told(self) -> ShareCommand {
        let failed = self.failed();
        let Self { group, asked: topics, .. } = self;
        match failed {
            true => ShareCommand::NotInitialized { group, topics },
            false => ShareCommand::Initialized { group, topics },
        }
    }
}
