//! Of each topic a range of partitions to each of its subscribers, in their order (`RangeAssignor`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::member::Target;
use super::{MemberSpec, Spec};
use crate::types::TopicId;

/// What is left of a topic.
struct Left {
    count: i32,
    next: i32,
    quota: i32,
    /// Subscribers that get one more.
    extras: i32,
}

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Arc<Target>> {
    let mut subscribers: BTreeMap<TopicId, i32> = BTreeMap::new();
    for topic in spec.members.iter().flat_map(|member| member.topics.iter()) {
        *subscribers.entry(*topic).or_default() += 1;
    }
    let left = |(topic, members): (TopicId, i32)| {
        let count = spec.partition_count(topic);
        (topic, Left { count, next: 0, quota: count / members, extras: count % members })
    };
    let mut left: BTreeMap<TopicId, Left> = subscribers.into_iter().map(left).collect();
    let mut order: Vec<usize> = (0..spec.members.len()).collect();
    order.sort_by(|a, b| compare(&spec.members[*a], &spec.members[*b]));
    let mut targets = vec![Arc::default(); spec.members.len()];
    for index in order {
        let mut target = Target::new();
        for topic in spec.members[index].topics.iter() {
            let range = left.get_mut(topic).map(Left::take).unwrap_or_default();
            if !range.is_empty() {
                target.insert(*topic, range);
            }
        }
        targets[index] = Arc::new(target);
    }
    targets
}

/// Static members first, by the names that they keep.
fn compare(a: &MemberSpec, b: &MemberSpec) -> Ordering {
    match (&a.instance, &b.instance) {
        (Some(of_a), Some(of_b)) => of_a.cmp(of_b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.id.cmp(&b.id),
    }
}

impl Left {
    fn take(&mut self) -> BTreeSet<i32> {
        let extra = i32::from(self.extras > 0);
        self.extras -= extra;
        let start = self.next;
        self.next = (start + self.quota + extra).min(self.count);
        (start..self.next).collect()
    }
}
