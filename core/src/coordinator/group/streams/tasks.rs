//! Tasks: a task is one partition of a subtopology. Somebody works on it (active), others may keep a copy of its state
//! (standby) or make one (warmup).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions by subtopology.
pub type TaskSet = BTreeMap<Arc<str>, BTreeSet<i32>>;
/// The same, each with the member's epoch at which it got it.
pub type TasksSince = BTreeMap<Arc<str>, BTreeMap<i32, i32>>;

/// Tasks that a member shall have, or says that it has (`TasksTuple`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    pub active: TaskSet,
    pub standby: TaskSet,
    pub warmup: TaskSet,
}

/// Tasks that a member has (`TasksTupleWithEpochs`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldTasks {
    pub active: TasksSince,
    pub standby: TaskSet,
    pub warmup: TaskSet,
}

impl Tasks {
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// Whether some of `held` are among these.
    pub fn contains_any(&self, held: &HeldTasks) -> bool {
        let has = |set: &TaskSet, subtopology: &Arc<str>, partition: &i32| {
            set.get(subtopology).is_some_and(|partitions| partitions.contains(partition))
        };
        let any = |set: &TaskSet, of: &TaskSet| each(of).any(|(id, partition)| has(set, id, &partition));
        each_since(&held.active).any(|(id, partition)| has(&self.active, id, &partition))
            || any(&self.standby, &held.standby)
            || any(&self.warmup, &held.warmup)
    }

    /// Whether all of these are among `held`.
    pub fn are_within(&self, held: &HeldTasks) -> bool {
        let all = |of: &TaskSet, set: &TaskSet| {
            each(of).all(|(id, partition)| set.get(id).is_some_and(|partitions| partitions.contains(&partition)))
        };
        let is_active = |(id, partition): (&Arc<str>, i32)| {
            held.active.get(id).is_some_and(|partitions| partitions.contains_key(&partition))
        };
        each(&self.active).all(is_active) && all(&self.standby, &held.standby) && all(&self.warmup, &held.warmup)
    }
}

impl HeldTasks {
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// Without the epochs.
    pub fn plain(&self) -> Tasks {
        let plain =
            |(id, partitions): (&Arc<str>, &BTreeMap<i32, i32>)| (Arc::clone(id), partitions.keys().copied().collect());
        Tasks {
            active: self.active.iter().map(plain).collect(),
            standby: self.standby.clone(),
            warmup: self.warmup.clone(),
        }
    }
}

pub(super) fn each(tasks: &TaskSet) -> impl Iterator<Item = (&Arc<str>, i32)> {
    tasks.iter().flat_map(|(id, partitions)| partitions.iter().map(move |partition| (id, *partition)))
}

pub(super) fn each_since(tasks: &TasksSince) -> impl Iterator<Item = (&Arc<str>, i32)> {
    tasks.iter().flat_map(|(id, partitions)| partitions.keys().map(move |partition| (id, *partition)))
}
