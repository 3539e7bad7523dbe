//! All members subscribe to the same topics: each gets as many partitions as any other, at most one more
//! (`UniformHomogeneousAssignmentBuilder`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::member::Target;
use super::{MemberSpec, Spec, count_of};
use crate::types::TopicId;

struct Dealer {
    unassigned: Vec<(TopicId, i32)>,
    /// What each member gets at least.
    quota_min: usize,
    /// Members that get one more, and are not found yet.
    extras: usize,
    /// By the member's place: partitions that it may still get.
    unfilled: Vec<(usize, usize)>,
    targets: Vec<Arc<Target>>,
}

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Arc<Target>> {
    let Some(topics) = spec.members.first().map(|member| Arc::clone(&member.topics)) else { return Vec::new() };
    if topics.is_empty() {
        return vec![Arc::default(); spec.members.len()];
    }
    let (unassigned, total) = unassigned(spec, &topics);
    let members = spec.members.len();
    let mut dealer = Dealer {
        unassigned,
        quota_min: total / members,
        extras: total % members,
        unfilled: Vec::new(),
        targets: Vec::with_capacity(members),
    };
    for (index, member) in spec.members.iter().enumerate() {
        dealer.take_back(index, member, members - index, &topics);
    }
    dealer.deal();
    dealer.targets
}

/// The partitions that no member was to have, and how many there are at all.
fn unassigned(spec: &Spec<'_>, topics: &BTreeSet<TopicId>) -> (Vec<(TopicId, i32)>, usize) {
    let mut unassigned = Vec::new();
    let mut total = 0;
    for topic in topics {
        let count = spec.partition_count(*topic);
        let mut is_assigned = vec![false; count_of(count)];
        for partitions in spec.members.iter().filter_map(|member| member.target.get(topic)) {
            for partition in partitions {
                if let Some(slot) = is_assigned.get_mut(count_of(*partition)) {
                    *slot = true;
                }
            }
        }
        unassigned.extend((0..count).zip(&is_assigned).filter(|(_, taken)| !**taken).map(|(p, _)| (*topic, p)));
        total += is_assigned.len();
    }
    (unassigned, total)
}

impl Dealer {
    /// Leaves the member what it had, within its quota. `left`: members from this one on.
    fn take_back(&mut self, index: usize, member: &MemberSpec, left: usize, topics: &BTreeSet<TopicId>) {
        let mut target = Arc::clone(&member.target);
        let mut takes_extra = self.extras > 0;
        let mut quota = self.quota_min + usize::from(takes_extra);
        for (topic, partitions) in member.target.iter() {
            if !topics.contains(topic) {
                Arc::make_mut(&mut target).remove(topic);
                continue;
            }
            let kept = partitions.len().min(quota);
            quota -= kept;
            for partition in partitions.iter().skip(kept) {
                let target = Arc::make_mut(&mut target);
                if let Some(of_topic) = target.get_mut(topic) {
                    of_topic.remove(partition);
                    if of_topic.is_empty() {
                        target.remove(topic);
                    }
                }
                self.unassigned.push((*topic, *partition));
            }
        }
        // Others may have more already. The last ones must take what is left.
        if quota > 0 && takes_extra && left > self.extras {
            quota -= 1;
            takes_extra = false;
        }
        if quota > 0 {
            self.unfilled.push((index, quota));
        }
        self.extras -= usize::from(takes_extra);
        self.targets.push(target);
    }

    fn deal(&mut self) {
        let mut unassigned = self.unassigned.iter();
        for (index, quota) in &self.unfilled {
            for (topic, partition) in unassigned.by_ref().take(*quota) {
                Arc::make_mut(&mut self.targets[*index]).entry(*topic).or_default().insert(*partition);
            }
        }
        assert_eq!(unassigned.len(), 0, "the quotas add up to all partitions");
    }
}
