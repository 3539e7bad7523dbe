//! Leaving out what transactions took back: `share.isolation.level=read_committed`.

use super::acquire::{Acquired, FetchedBatch};
use super::partition::SharePartition;
use super::run::DeliveryState;
use crate::types::Offset;

impl SharePartition {
    /// Archives batches of aborted transactions, in order, out of what was acquired just now, and gives the rest: nobody
    /// is to see their records. Not written: who takes over finds out again.
    pub fn leave_out(&mut self, acquired: Vec<Acquired>, aborted: &[FetchedBatch]) -> Vec<Acquired> {
        if aborted.is_empty() {
            return acquired;
        }
        for batch in aborted {
            let end = Offset(batch.last.0.saturating_add(1));
            self.split(batch.base);
            self.split(end);
            for (_, run) in self.runs.range_mut(batch.base..end) {
                if run.state == DeliveryState::Acquired && run.writing.is_none() {
                    run.state = DeliveryState::Archived;
                    run.lock = None;
                }
            }
        }
        self.advance();
        let mut left = Vec::with_capacity(acquired.len());
        for part in acquired {
            cut(part, aborted, &mut left);
        }
        left
    }
}

fn cut(part: Acquired, out: &[FetchedBatch], left: &mut Vec<Acquired>) {
    let mut first = part.first;
    for batch in out.iter().filter(|batch| batch.last >= part.first && batch.base <= part.last) {
        if batch.base > first {
            left.push(Acquired { first, last: Offset(batch.base.0 - 1), ..part });
        }
        first = first.max(Offset(batch.last.0.saturating_add(1)));
    }
    if first <= part.last {
        left.push(Acquired { first, ..part });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(parts: &[Acquired]) -> Vec<(i64, i64)> {
        parts.iter().map(|part| (part.first.0, part.last.0)).collect()
    }

    #[test]
    fn what_was_aborted_is_cut_out() {
        let part = |first, last| Acquired { first: Offset(first), last: Offset(last), delivery_count: 1 };
        let batch = |base, last| FetchedBatch { base: Offset(base), last: Offset(last) };
        let out = [batch(0, 4), batch(7, 8), batch(12, 20)];
        let mut left = Vec::new();
        for part in [part(2, 9), part(10, 12), part(13, 15), part(18, 30)] {
            cut(part, &out, &mut left);
        }
        assert_eq!(ranges(&left), [(5, 6), (9, 9), (10, 11), (21, 30)]);
    }
}
