//! Who has which task, also one that it is to give up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::ids::MemberId;
use super::member::StreamsCurrent;
use super::tasks::{each, each_since};

/// By subtopology and partition.
type Held = BTreeMap<Arc<str>, BTreeMap<i32, BTreeSet<MemberId>>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Holders {
    active: Held,
    standby: Held,
    warmup: Held,
}

impl Holders {
    pub fn add(&mut self, id: &MemberId, current: &StreamsCurrent) {
        for held in [&current.assigned, &current.revoking] {
            each_since(&held.active).for_each(|task| put(&mut self.active, task, id));
            each(&held.standby).for_each(|task| put(&mut self.standby, task, id));
            each(&held.warmup).for_each(|task| put(&mut self.warmup, task, id));
        }
    }

    pub fn remove(&mut self, id: &MemberId, current: &StreamsCurrent) {
        for held in [&current.assigned, &current.revoking] {
            each_since(&held.active).for_each(|task| take(&mut self.active, task, id));
            each(&held.standby).for_each(|task| take(&mut self.standby, task, id));
            each(&held.warmup).for_each(|task| take(&mut self.warmup, task, id));
        }
    }

    /// Those with whom the task is active: one, but for records that were not made here.
    pub fn active(&self, subtopology: &str, partition: i32) -> impl Iterator<Item = &MemberId> {
        of(&self.active, subtopology, partition)
    }

    /// Those who keep a copy of the task's state, or make one.
    pub fn copies(&self, subtopology: &str, partition: i32) -> impl Iterator<Item = &MemberId> {
        of(&self.standby, subtopology, partition).chain(of(&self.warmup, subtopology, partition))
    }

    /// Tasks that are active with more than one member.
    #[cfg(test)]
    pub fn doubles(&self) -> Vec<(Arc<str>, i32)> {
        let all = self.active.iter().flat_map(|(id, of)| of.iter().map(move |(partition, by)| (id, partition, by)));
        all.filter(|(.., by)| by.len() > 1).map(|(id, partition, _)| (Arc::clone(id), *partition)).collect()
    }
}

fn of<'a>(held: &'a Held, subtopology: &str, partition: i32) -> impl Iterator<Item = &'a MemberId> {
    held.get(subtopology).and_then(|partitions| partitions.get(&partition)).into_iter().flatten()
}

fn put(held: &mut Held, (subtopology, partition): (&Arc<str>, i32), id: &MemberId) {
    held.entry(Arc::clone(subtopology)).or_default().entry(partition).or_default().insert(id.clone());
}

fn take(held: &mut Held, (subtopology, partition): (&Arc<str>, i32), id: &MemberId) {
    let Some(partitions) = held.get_mut(subtopology) else { return };
    if let Some(by) = partitions.get_mut(&partition) {
        by.remove(id);
        if by.is_empty() {
            partitions.remove(&partition);
        }
    }
    if partitions.is_empty() {
        held.remove(subtopology);
    }
}
