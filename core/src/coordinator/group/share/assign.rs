//! The `simple` assignor (`SimpleAssignor`, 4.3): every partition goes to as many members as every other, and every member
//! gets as many partitions as every other, as nearly as that goes; who has a partition keeps it if it can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::consumer::Target;
use crate::types::TopicId;

/// A member to assign to.
pub(super) struct MemberSpec {
    pub topics: Arc<BTreeSet<TopicId>>,
    /// What it had.
    pub target: Arc<Target>,
}

type Partition = (TopicId, i32);

/// What each of the members gets, in their order. `alike`: all subscribe to the same topics.
pub(super) fn assign(members: &[MemberSpec], alike: bool, assignable: &Target) -> Vec<Target> {
    let subscribed: BTreeSet<TopicId> = members.iter().flat_map(|member| member.topics.iter().copied()).collect();
    let partitions_of = |topic: &TopicId| -> Vec<Partition> {
        assignable.get(topic).into_iter().flatten().map(|index| (*topic, *index)).collect()
    };
    let everybody: Vec<usize> = (0..members.len()).collect();
    let mut targets = vec![Target::new(); members.len()];
    if alike {
        let all: Vec<Partition> = subscribed.iter().flat_map(partitions_of).collect();
        balance(members, &everybody, &all, &mut targets);
    } else {
        for topic in &subscribed {
            let subscribers: Vec<usize> = everybody
                .iter()
                .copied()
                .filter(|at| members.get(*at).is_some_and(|m| m.topics.contains(topic)))
                .collect();
            balance(members, &subscribers, &partitions_of(topic), &mut targets);
        }
    }
    targets
}

/// Spreads `partitions` over the members at `who`.
fn balance(members: &[MemberSpec], who: &[usize], partitions: &[Partition], targets: &mut [Target]) {
    if partitions.is_empty() || who.is_empty() {
        return;
    }
    let sharing = who.len().div_ceil(partitions.len());
    let total = sharing * partitions.len();
    // The total in parts that differ by one at most.
    let wanted = |at: usize| (total * (at + 1)).div_ceil(who.len()) - (total * at).div_ceil(who.len());
    let mut sharers: BTreeMap<Partition, BTreeSet<usize>> =
        partitions.iter().map(|partition| (*partition, BTreeSet::new())).collect();
    let mut sizes = vec![0; who.len()];
    for (at, member) in who.iter().enumerate().filter_map(|(at, index)| Some((at, members.get(*index)?))) {
        let had = member.target.iter().flat_map(|(topic, of)| of.iter().map(|index| (*topic, *index)));
        let kept: Vec<Partition> = had.filter(|partition| sharers.contains_key(partition)).collect();
        // Of more than its part it keeps the last.
        let surplus = kept.len().saturating_sub(wanted(at));
        for partition in kept.into_iter().skip(surplus) {
            sharers.entry(partition).or_default().insert(at);
            sizes[at] += 1;
        }
    }
    for of in sharers.values_mut() {
        while of.len() > sharing
            && let Some(at) = of.pop_first()
        {
            sizes[at] -= 1;
        }
    }
    fill(&mut sharers, &mut sizes, sharing, wanted);
    for ((topic, index), of) in sharers {
        for target in of.into_iter().filter_map(|at| who.get(at)).copied() {
            if let Some(target) = targets.get_mut(target) {
                target.entry(topic).or_default().insert(index);
            }
        }
    }
}

/// Gives what is left to those who have less than their part, one after the other.
fn fill(
    sharers: &mut BTreeMap<Partition, BTreeSet<usize>>,
    sizes: &mut [usize],
    sharing: usize,
    wanted: impl Fn(usize) -> usize,
) {
    let mut unfilled: BTreeSet<usize> = (0..sizes.len()).filter(|at| sizes[*at] < wanted(*at)).collect();
    let mut next = 0;
    for of in sharers.values_mut() {
        while of.len() < sharing {
            let fits = |at: &&usize| !of.contains(*at);
            let Some(at) = unfilled.range(next..).find(fits).or_else(|| unfilled.range(..next).find(fits)).copied()
            else {
                break;
            };
            of.insert(at);
            sizes[at] += 1;
            next = at + 1;
            if sizes[at] >= wanted(at) {
                unfilled.remove(&at);
            }
        }
    }
}
