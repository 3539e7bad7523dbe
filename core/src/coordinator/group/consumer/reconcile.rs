//! A member on its way from what it has to what it shall have (`CurrentAssignmentBuilder`).
//!
//! First it gives up what is not its own any more; while it has not said that it did, it stays in its epoch. Then it
//! goes to the target's epoch and gets what others have released; for the rest it waits.

use std::collections::BTreeSet;

use super::member::{Assigned, Current, MemberState, Target};
use crate::types::TopicId;

/// What the way depends on.
pub(super) struct Way<'a> {
    pub target_epoch: i32,
    pub target: &'a Target,
    /// Topics that the member subscribes to now.
    pub subscribed: &'a BTreeSet<TopicId>,
    pub subscription_changed: bool,
    /// What the member says that it has, if it says.
    pub owned: Option<&'a Target>,
}

/// A member of an unknown state has something: it must give up all and join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MustRejoin;

impl Way<'_> {
    /// The next step. `is_held`: whether anybody holds a partition, this member included.
    pub fn next(&self, current: &Current, is_held: impl Fn(TopicId, i32) -> bool) -> Result<Current, MustRejoin> {
        Ok(match current.state {
            MemberState::Stable if current.epoch != self.target_epoch => self.towards_target(current, is_held),
            MemberState::Stable if self.subscription_changed => self.drop_unsubscribed(current),
            MemberState::Stable => current.clone(),
            MemberState::UnrevokedPartitions if self.still_owns(&current.revoking) => {
                if self.subscription_changed {
                    self.drop_unsubscribed(current)
                } else {
                    current.clone()
                }
            }
            MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
                self.towards_target(current, is_held)
            }
            MemberState::Unknown if self.owned.is_none_or(|owned| !owned.is_empty()) => return Err(MustRejoin),
            MemberState::Unknown => self.towards_target(current, is_held),
        })
    }

    /// Whether the member has not said that it gave these up.
    fn still_owns(&self, revoking: &Assigned) -> bool {
        let Some(owned) = self.owned else { return true };
        revoking.iter().any(|(topic, partitions)| {
            owned.get(topic).is_some_and(|owned| partitions.keys().any(|partition| owned.contains(partition)))
        })
    }

    /// Takes topics away that the member does not subscribe to any more; much cheaper than a step to the target.
    fn drop_unsubscribed(&self, current: &Current) -> Current {
        let (assigned, dropped): (Assigned, Assigned) =
            current.assigned.clone().into_iter().partition(|(topic, _)| self.subscribed.contains(topic));
        if dropped.is_empty() {
            return current.clone();
        }
        let mut revoking = current.revoking.clone();
        for (topic, partitions) in dropped {
            revoking.entry(topic).or_default().extend(partitions);
        }
        let (epoch, previous_epoch) = (current.epoch, current.epoch);
        if !revoking.is_empty() && self.still_owns(&revoking) {
            return Current { epoch, previous_epoch, state: MemberState::UnrevokedPartitions, assigned, revoking };
        }
        Current { previous_epoch, assigned, ..current.clone() }
    }

    fn towards_target(&self, current: &Current, is_held: impl Fn(TopicId, i32) -> bool) -> Current {
        let mut step = Step::default();
        let topics: BTreeSet<TopicId> = self.target.keys().chain(current.assigned.keys()).copied().collect();
        for topic in topics {
            self.look_at(topic, current, &is_held, &mut step);
        }
        if !step.revoking.is_empty() && self.still_owns(&step.revoking) {
            return Current {
                epoch: current.epoch,
                previous_epoch: current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned: step.assigned,
                revoking: step.revoking,
            };
        }
        for (topic, partition) in step.free {
            step.assigned.entry(topic).or_default().insert(partition, self.target_epoch);
        }
        Current {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state: if step.waits { MemberState::UnreleasedPartitions } else { MemberState::Stable },
            assigned: step.assigned,
            revoking: Assigned::new(),
        }
    }

    fn look_at(&self, topic: TopicId, current: &Current, is_held: impl Fn(TopicId, i32) -> bool, step: &mut Step) {
        let target = self.target.get(&topic).filter(|_| self.subscribed.contains(&topic));
        let has = current.assigned.get(&topic);
        for (partition, epoch) in has.into_iter().flatten() {
            let is_kept = target.is_some_and(|target| target.contains(partition));
            let goes_to = if is_kept { &mut step.assigned } else { &mut step.revoking };
            goes_to.entry(topic).or_default().insert(*partition, *epoch);
        }
        // What it is giving up itself is not in the way: only one member holds a partition at a time.
        let gives_up = current.revoking.get(&topic);
        for partition in target.into_iter().flatten() {
            if has.is_some_and(|has| has.contains_key(partition)) {
                continue;
            }
            if is_held(topic, *partition) && !gives_up.is_some_and(|revoking| revoking.contains_key(partition)) {
                step.waits = true;
            } else {
                step.free.push((topic, *partition));
            }
        }
    }
}

#[derive(Default)]
struct Step {
    assigned: Assigned,
    revoking: Assigned,
    /// Of the target, held by nobody.
    free: Vec<(TopicId, i32)>,
    /// Others hold some of the target.
    waits: bool,
}
