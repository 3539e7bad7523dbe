//! A member on its way from the tasks that it has to those that it shall have (`CurrentAssignmentBuilder`).
//!
//! First it gives up what is not its own any more; while it has not said that it did, it stays where it is. Then it goes
//! to the target's epoch and gets what is free: a task that nobody else has active, and of which its process has no
//! copy. For the rest it waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::ids::MemberId;
use super::member::{StreamsCurrent, StreamsMemberState};
use super::state::StreamsGroup;
use super::tasks::{HeldTasks, TaskSet, Tasks, TasksSince};

/// What the way depends on.
pub(super) struct Way<'a> {
    pub target_epoch: i32,
    pub target: &'a Tasks,
    pub process: &'a Arc<str>,
    /// What the member says that it has, if it says.
    pub owned: Option<&'a Tasks>,
    /// Who has which task, this member included.
    pub group: &'a StreamsGroup,
}

/// A member of an unknown state has something: it must give up all and join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MustRejoin;

impl Way<'_> {
    pub fn next(&self, current: &StreamsCurrent) -> Result<StreamsCurrent, MustRejoin> {
        Ok(match current.state {
            StreamsMemberState::Stable if current.epoch == self.target_epoch => current.clone(),
            StreamsMemberState::Stable | StreamsMemberState::UnreleasedTasks => {
                self.towards_target(current, current.epoch)
            }
            StreamsMemberState::UnrevokedTasks if self.still_owns(&current.revoking) => current.clone(),
            // It gave up what it was to: that is worth an epoch, though there may be more to give up.
            StreamsMemberState::UnrevokedTasks => self.towards_target(current, current.epoch.saturating_add(1)),
            StreamsMemberState::Unknown if self.owned.is_none_or(|owned| !owned.is_empty()) => return Err(MustRejoin),
            StreamsMemberState::Unknown => self.towards_target(current, self.target_epoch),
        })
    }

    /// Whether the member has not said that it gave these up.
    fn still_owns(&self, revoking: &HeldTasks) -> bool {
        self.owned.is_none_or(|owned| owned.contains_any(revoking))
    }

    fn towards_target(&self, current: &StreamsCurrent, epoch: i32) -> StreamsCurrent {
        let active = self.split_active(&current.assigned.active);
        let standby = self.split_copies(&current.assigned.standby, &self.target.standby);
        let warmup = self.split_copies(&current.assigned.warmup, &self.target.warmup);
        let kept = HeldTasks { active: active.kept, standby: standby.kept, warmup: warmup.kept };
        let revoking = HeldTasks { active: active.revoking, standby: standby.revoking, warmup: warmup.revoking };
        if !revoking.is_empty() && self.still_owns(&revoking) {
            return StreamsCurrent {
                epoch,
                previous_epoch: current.epoch,
                state: StreamsMemberState::UnrevokedTasks,
                assigned: kept,
                revoking,
            };
        }
        let waits = active.waits || standby.waits || warmup.waits;
        let free = Tasks { active: active.free, standby: standby.free, warmup: warmup.free };
        StreamsCurrent {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state: if waits { StreamsMemberState::UnreleasedTasks } else { StreamsMemberState::Stable },
            assigned: merged(kept, free, self.target_epoch),
            revoking: HeldTasks::default(),
        }
    }

    fn split_active(&self, has: &TasksSince) -> Split<TasksSince> {
        let mut split = Split::<TasksSince>::default();
        for (id, partitions) in has {
            let target = self.target.active.get(id);
            for (partition, epoch) in partitions {
                let is_kept = target.is_some_and(|target| target.contains(partition));
                let goes_to = if is_kept { &mut split.kept } else { &mut split.revoking };
                goes_to.entry(Arc::clone(id)).or_default().insert(*partition, *epoch);
            }
        }
        for (id, partitions) in &self.target.active {
            let has = has.get(id);
            let is_new = |partition: &i32| !has.is_some_and(|has| has.contains_key(partition));
            let is_taken = |partition: &i32| {
                self.group.holders.active(id, *partition).next().is_some() || self.process_has_copy(id, *partition)
            };
            let (taken, free): (Vec<i32>, Vec<i32>) = partitions.iter().copied().filter(is_new).partition(is_taken);
            split.waits |= !taken.is_empty();
            put(&mut split.free, id, free.into_iter());
        }
        split
    }

    fn split_copies(&self, has: &TaskSet, target: &TaskSet) -> Split<TaskSet> {
        let mut split = Split::<TaskSet>::default();
        let nothing = BTreeSet::new();
        for (id, has) in has {
            let target = target.get(id).unwrap_or(&nothing);
            put(&mut split.kept, id, has.intersection(target).copied());
            put(&mut split.revoking, id, has.difference(target).copied());
        }
        for (id, target) in target {
            let has = has.get(id).unwrap_or(&nothing);
            let is_taken = |partition: &i32| self.process_has(id, *partition);
            let (taken, free): (Vec<i32>, Vec<i32>) = target.difference(has).copied().partition(is_taken);
            split.waits |= !taken.is_empty();
            put(&mut split.free, id, free.into_iter());
        }
        split
    }

    fn is_of_process(&self, member: &MemberId) -> bool {
        self.group.process_of(member) == Some(self.process)
    }

    fn process_has_copy(&self, id: &str, partition: i32) -> bool {
        self.group.holders.copies(id, partition).any(|member| self.is_of_process(member))
    }

    fn process_has(&self, id: &str, partition: i32) -> bool {
        self.process_has_copy(id, partition)
            || self.group.holders.active(id, partition).any(|member| self.is_of_process(member))
    }
}

/// Tasks of one kind: those that it has and keeps, has and must give up, and gets.
#[derive(Default)]
struct Split<T> {
    kept: T,
    revoking: T,
    free: TaskSet,
    /// Some of the target is not free.
    waits: bool,
}

fn put(tasks: &mut TaskSet, id: &Arc<str>, mut partitions: impl Iterator<Item = i32>) {
    if let Some(first) = partitions.next() {
        tasks.insert(Arc::clone(id), std::iter::once(first).chain(partitions).collect());
    }
}

fn merged(mut kept: HeldTasks, free: Tasks, epoch: i32) -> HeldTasks {
    for (id, partitions) in free.active {
        kept.active.entry(id).or_default().extend(partitions.into_iter().map(|partition| (partition, epoch)));
    }
    for (has, more) in [(&mut kept.standby, free.standby), (&mut kept.warmup, free.warmup)] {
        for (id, partitions) in more {
            has.entry(id).or_default().extend(partitions);
        }
    }
    kept
}
