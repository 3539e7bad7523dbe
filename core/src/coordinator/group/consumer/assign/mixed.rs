//! Members subscribe to different topics: what is free goes to those with the fewest partitions, then partitions move
//! from those with many to those with few, topic by topic, until that gains nothing
//! (`UniformHeterogeneousAssignmentBuilder`).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::member::Target;
use super::{Spec, count_of};
use crate::types::TopicId;

/// Rounds over all topics, at most.
const ROUNDS_MAX: usize = 16;

struct Dealer {
    targets: Vec<Arc<Target>>,
    /// Partitions that each member is to have.
    loads: Vec<usize>,
    topics: BTreeMap<TopicId, Topic>,
}

struct Topic {
    /// Members by their place, in order.
    subscribers: Vec<usize>,
    /// Of each partition.
    owners: Vec<Option<usize>>,
}

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Arc<Target>> {
    let mut dealer = Dealer::new(spec);
    dealer.keep_what_stands(spec);
    dealer.deal_what_is_free();
    dealer.balance();
    dealer.targets
}

impl Dealer {
    fn new(spec: &Spec<'_>) -> Self {
        let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
        for (index, member) in spec.members.iter().enumerate() {
            for id in member.topics.iter() {
                let new = || Topic { subscribers: Vec::new(), owners: vec![None; count_of(spec.partition_count(*id))] };
                topics.entry(*id).or_insert_with(new).subscribers.push(index);
            }
        }
        Self { targets: Vec::with_capacity(spec.members.len()), loads: vec![0; spec.members.len()], topics }
    }

    fn keep_what_stands(&mut self, spec: &Spec<'_>) {
        for (index, member) in spec.members.iter().enumerate() {
            let mut target = Arc::clone(&member.target);
            for (id, partitions) in member.target.iter() {
                let topic = self.topics.get_mut(id).filter(|_| member.topics.contains(id));
                let Some(topic) = topic else {
                    Arc::make_mut(&mut target).remove(id);
                    continue;
                };
                for partition in partitions {
                    if let Some(owner) = topic.owners.get_mut(count_of(*partition)) {
                        *owner = Some(index);
                        self.loads[index] += 1;
                    }
                }
            }
            self.targets.push(target);
        }
    }

    /// Topics with most partitions a subscriber first, then those with fewer subscribers.
    fn sorted(&self, is_wanted: impl Fn(&Topic) -> bool) -> Vec<TopicId> {
        let mut ids: Vec<TopicId> =
            self.topics.iter().filter(|(_, topic)| is_wanted(topic)).map(|(id, _)| *id).collect();
        ids.sort_by(|a, b| self.compare(*a, *b));
        ids
    }

    fn compare(&self, a: TopicId, b: TopicId) -> Ordering {
        let (of_a, of_b) = (&self.topics[&a], &self.topics[&b]);
        let share = |topic: &Topic| topic.owners.len() as f64 / topic.subscribers.len() as f64;
        let signed = |id: TopicId| {
            let (high, low) = id.0.as_u64_pair();
            (high.cast_signed(), low.cast_signed())
        };
        share(of_b)
            .total_cmp(&share(of_a))
            .then(of_a.subscribers.len().cmp(&of_b.subscribers.len()))
            .then(signed(a).cmp(&signed(b)))
    }

    fn deal_what_is_free(&mut self) {
        for id in self.sorted(|topic| topic.owners.contains(&None)) {
            let topic = &self.topics[&id];
            let free: Vec<usize> = (0..topic.owners.len()).filter(|at| topic.owners[*at].is_none()).collect();
            let (mut ranges, _) = Ranges::new(&topic.subscribers, &self.loads);
            for partition in free {
                let to = ranges.next_least_loaded(&self.loads);
                self.give(id, partition, to);
            }
        }
    }

    fn balance(&mut self) {
        let ids = self.sorted(|topic| topic.subscribers.len() >= 2);
        // The last topic that changed: once all others were looked at in vain, it is done.
        let mut last_changed = None;
        for _ in 0..ROUNDS_MAX {
            for (at, id) in ids.iter().enumerate() {
                if last_changed == Some(at) {
                    return;
                }
                if self.balance_topic(*id) > 0 || last_changed.is_none() {
                    last_changed = Some(at);
                }
            }
        }
    }

    /// How many partitions it has moved.
    fn balance_topic(&mut self, id: TopicId) -> usize {
        let topic = &self.topics[&id];
        let (mut ranges, imbalance) = Ranges::new(&topic.subscribers, &self.loads);
        if imbalance <= 1 {
            return 0;
        }
        // What each owner had at first, of which it gives the last.
        let mut of_owner: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in topic.owners.iter().enumerate() {
            if let Some(owner) = owner {
                of_owner.entry(*owner).or_default().push(partition);
            }
        }
        let mut moved = 0;
        while !ranges.is_balanced() {
            let giver = loop {
                let Some(giver) = ranges.next_most_loaded(&self.loads) else { return moved };
                match of_owner.get(&giver) {
                    Some(partitions) if !partitions.is_empty() => break giver,
                    _ => ranges.exclude_most_loaded(),
                }
            };
            let Some(partition) = of_owner.get_mut(&giver).and_then(Vec::pop) else { return moved };
            let taker = ranges.next_least_loaded(&self.loads);
            if ranges.is_balanced() {
                return moved;
            }
            self.give(id, partition, taker);
            moved += 1;
        }
        moved
    }

    fn give(&mut self, id: TopicId, partition: usize, to: usize) {
        let Some(owner) = self.topics.get_mut(&id).and_then(|topic| topic.owners.get_mut(partition)) else { return };
        let index = i32::try_from(partition).unwrap_or(i32::MAX);
        if let Some(from) = owner.replace(to) {
            let target = Arc::make_mut(&mut self.targets[from]);
            if let Some(of_topic) = target.get_mut(&id) {
                of_topic.remove(&index);
                if of_topic.is_empty() {
                    target.remove(&id);
                }
            }
            self.loads[from] -= 1;
        }
        Arc::make_mut(&mut self.targets[to]).entry(id).or_default().insert(index);
        self.loads[to] += 1;
    }
}

/// Subscribers in the order of their loads. A range of the least loaded grows to the right as they are given to, one
/// of the most loaded to the left as they are taken from.
struct Ranges {
    sorted: Vec<usize>,
    least_end: usize,
    least_load: i64,
    next_least: usize,
    most_start: usize,
    most_end: usize,
    most_load: i64,
    /// One more than the place of the next; the range is used up when it is at its start.
    next_most: usize,
}

impl Ranges {
    /// Also how far the loads lie apart. There is a subscriber at least.
    fn new(subscribers: &[usize], loads: &[usize]) -> (Self, usize) {
        let mut sorted = subscribers.to_vec();
        sorted.sort_by_key(|member| (loads[*member], *member));
        let load_of = |member: Option<&usize>| member.map_or(0, |member| loads[*member]);
        let (least, most) = (load_of(sorted.first()), load_of(sorted.last()));
        let len = sorted.len();
        let ranges = Self {
            sorted,
            least_end: 0,
            least_load: least as i64 - 1,
            next_least: 0,
            most_start: len,
            most_end: len,
            most_load: most as i64 + 1,
            next_most: len,
        };
        (ranges, most - least)
    }

    fn load(&self, at: usize, loads: &[usize]) -> i64 {
        loads[self.sorted[at]] as i64
    }

    fn next_least_loaded(&mut self, loads: &[usize]) -> usize {
        if self.next_least >= self.least_end {
            self.least_load += 1;
            while self.least_end < self.sorted.len() && self.load(self.least_end, loads) == self.least_load {
                self.least_end += 1;
            }
            self.next_least = 0;
        }
        let member = self.sorted[self.next_least];
        self.next_least += 1;
        member
    }

    /// `None`: nobody has anything to give.
    fn next_most_loaded(&mut self, loads: &[usize]) -> Option<usize> {
        if self.next_most <= self.most_start {
            if self.most_end <= self.most_start && self.most_start > 0 {
                // All of the range were excluded.
                self.most_load = self.load(self.most_start - 1, loads);
            } else {
                self.most_load -= 1;
            }
            while self.most_start > 0 && self.load(self.most_start - 1, loads) == self.most_load {
                self.most_start -= 1;
            }
            self.next_most = self.most_end;
        }
        let at = self.next_most.checked_sub(1)?;
        self.next_most = at;
        Some(self.sorted[at])
    }

    /// The one that was given last has nothing to give: it goes behind the range.
    fn exclude_most_loaded(&mut self) {
        self.most_end -= 1;
        self.sorted.swap(self.next_most, self.most_end);
    }

    fn is_balanced(&self) -> bool {
        self.most_load - self.least_load <= 1
    }
}
