//! Writes of a share-partition on their way to the share coordinator: one after the other, since a record's later state
//! must not come before an earlier one, and what waits meanwhile together.

use std::collections::{BTreeMap, VecDeque};

use super::partition::{StateWrite, WriteId};
use crate::types::Offset;

/// Writes in the order in which they were decided. At most as long as records are in flight: each changes one or more,
/// and a record that is being written does not change.
#[derive(Debug, Default)]
pub struct WriteQueue {
    waiting: VecDeque<StateWrite>,
}

impl WriteQueue {
    pub fn push(&mut self, write: StateWrite) {
        self.waiting.push_back(write);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// As many of the first writes as say nothing twice of a record, made one, and which they are.
    pub fn take(&mut self) -> Option<(StateWrite, Vec<WriteId>)> {
        let first = self.waiting.pop_front()?;
        let mut ids = vec![first.id];
        let StateWrite { id, mut start, mut delivery_complete, batches } = first;
        let mut all: BTreeMap<Offset, _> = batches.into_iter().map(|batch| (batch.first, batch)).collect();
        while let Some(next) = self.waiting.front() {
            let overlaps = next
                .batches
                .iter()
                .any(|batch| all.range(..=batch.last).next_back().is_some_and(|(_, taken)| taken.last >= batch.first));
            if overlaps {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            ids.push(next.id);
            start = start.max(next.start);
            delivery_complete = next.delivery_complete;
            all.extend(next.batches.into_iter().map(|batch| (batch.first, batch)));
        }
        let batches = all.into_values().collect();
        Some((StateWrite { id, start, delivery_complete, batches }, ids))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DeliveryState, StateBatch};
    use super::*;

    fn write(id: u64, start: i64, ranges: &[(i64, i64)]) -> StateWrite {
        let batch = |(first, last): &(i64, i64)| StateBatch {
            first: Offset(*first),
            last: Offset(*last),
            state: DeliveryState::Acknowledged,
            delivery_count: 1,
        };
        let batches = ranges.iter().map(batch).collect();
        StateWrite { id: WriteId(id), start: Offset(start), delivery_complete: id as i32, batches }
    }

    #[test]
    fn writes_go_together_until_one_says_something_of_the_same_record() {
        let mut queue = WriteQueue::default();
        for next in
            [write(1, 0, &[(5, 9)]), write(2, 3, &[(0, 2), (10, 10)]), write(3, 3, &[(9, 9)]), write(4, 3, &[(20, 21)])]
        {
            queue.push(next);
        }
        let (one, ids) = queue.take().expect("a write");
        assert_eq!((one.start, one.delivery_complete, ids), (Offset(3), 2, vec![WriteId(1), WriteId(2)]));
        let ranges: Vec<_> = one.batches.iter().map(|batch| (batch.first.0, batch.last.0)).collect();
        assert_eq!(ranges, [(0, 2), (5, 9), (10, 10)]);
        let (_, ids) = queue.take().expect("a write");
        assert_eq!(ids, [WriteId(3), WriteId(4)]);
        assert!(queue.take().is_none() && queue.is_empty());
    }
}
