//! What is known of records, out of what was known and what is new (Kafka's `PersisterStateBatchCombiner`).

use std::collections::BinaryHeap;

use crate::share::StateBatch;
use crate::types::Offset;

/// The batches as one list, in order and disjoint, neighbours that say the same made one. Of a record that several speak
/// of counts the one with more deliveries, then the one with the higher number of the state: answers of a leader may
/// come twice and late. Nothing before `start` is kept.
pub(super) fn merge(before: &[StateBatch], new: &[StateBatch], start: Option<Offset>) -> Vec<StateBatch> {
    let clipped = |batch: &StateBatch| {
        let first = start.map_or(batch.first, |start| batch.first.max(start));
        (first <= batch.last).then_some(StateBatch { first, ..*batch })
    };
    let mut all: Vec<StateBatch> = before.iter().chain(new).filter_map(clipped).collect();
    all.sort_by_key(|batch| batch.first);
    let mut merged = Merged::default();
    let mut open: BinaryHeap<Open> = BinaryHeap::new();
    let mut rest = all.into_iter().peekable();
    let mut at = i64::MIN;
    loop {
        if open.is_empty() {
            let Some(next) = rest.peek() else { break };
            at = at.max(next.first.0);
        }
        while let Some(next) = rest.next_if(|next| next.first.0 <= at) {
            open.push(Open(next));
        }
        let Some(best) = open.peek().map(|open| open.0) else { continue };
        if best.last.0 < at {
            open.pop();
            continue;
        }
        let end = rest.peek().map_or(best.last.0, |next| best.last.0.min(next.first.0 - 1));
        merged.push(StateBatch { first: Offset(at), last: Offset(end), ..best });
        let Some(next) = end.checked_add(1) else { break };
        at = next;
    }
    merged.0
}

/// A batch that the sweep is in; the greatest is the one that counts.
struct Open(StateBatch);

impl Open {
    fn rank(&self) -> (i16, i8, Offset) {
        (self.0.delivery_count, self.0.state.number(), self.0.last)
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Open {}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

#[derive(Default)]
struct Merged(Vec<StateBatch>);

impl Merged {
    /// Behind the others.
    fn push(&mut self, next: StateBatch) {
        match self.0.last_mut() {
            Some(last)
                if last.last.0 + 1 == next.first.0
                    && (last.state, last.delivery_count) == (next.state, next.delivery_count) =>
            {
                last.last = next.last;
            }
            _ => self.0.push(next),
        }
    }
}
