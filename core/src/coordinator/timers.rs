//! Timers as data: which key is due when. The caller owns the clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;

/// A change to the timers that a decision asks for. Times are relative: the caller owns the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerChange<K> {
    /// Setting a key again replaces its deadline.
    Set {
        key: K,
        after_ms: u64,
    },
    Cancel(K),
}

/// Deadlines by key, at most one a key. Setting a key again replaces its deadline.
///
/// One heap of (deadline, generation, key): an entry whose generation is not its key's latest is skipped, so that
/// setting and cancelling cost no search. Times are milliseconds of one monotonic clock.
#[derive(Debug)]
pub struct Timers<K> {
    heap: BinaryHeap<Reverse<(u64, u64, K)>>,
    /// The generation that counts, for every key that is set.
    current: HashMap<K, u64>,
    next_generation: u64,
}

impl<K> Default for Timers<K>
where
    K: Ord,
{
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), current: HashMap::new(), next_generation: 0 }
    }
}

impl<K: Clone + Eq + Hash + Ord> Timers<K> {
    pub fn set(&mut self, key: K, deadline_ms: u64) {
        let generation = self.next_generation;
        self.next_generation += 1;
        self.current.insert(key.clone(), generation);
        self.heap.push(Reverse((deadline_ms, generation, key)));
        self.compact();
    }

    pub fn cancel(&mut self, key: &K) {
        self.current.remove(key);
        self.compact();
    }

    /// The next key whose deadline is at or before `now_ms`, in the order of deadlines, then of setting.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<K> {
        self.drop_stale();
        match self.heap.peek() {
            Some(Reverse((deadline, _, _))) if *deadline <= now_ms => {}
            _ => return None,
        }
        let Reverse((_, _, key)) = self.heap.pop()?;
        self.current.remove(&key);
        Some(key)
    }

    /// When `pop_due` will have something.
    pub fn next_deadline_ms(&mut self) -> Option<u64> {
        self.drop_stale();
        self.heap.peek().map(|Reverse((deadline, _, _))| *deadline)
    }

    /// Keys that are set.
    pub fn len(&self) -> usize {
        self.current.len()
    }

    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    fn drop_stale(&mut self) {
        while let Some(Reverse((_, generation, key))) = self.heap.peek() {
            if self.current.get(key) == Some(generation) {
                return;
            }
            self.heap.pop();
        }
    }

    /// Heartbeats set the same keys again and again: once most entries are stale, the heap is built anew.
    fn compact(&mut self) {
        if self.heap.len() > 64 && self.heap.len() > 4 * self.current.len() {
            let current = &self.current;
            self.heap.retain(|Reverse((_, generation, key))| current.get(key) == Some(generation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_again_fires_once_at_its_latest_deadline() {
        let mut timers = Timers::default();
        timers.set("a", 10);
        timers.set("b", 12);
        timers.set("a", 20);
        assert_eq!(timers.next_deadline_ms(), Some(12));
        assert_eq!(timers.pop_due(11), None);
        assert_eq!(timers.pop_due(25), Some("b"));
        assert_eq!(timers.pop_due(25), Some("a"));
        assert_eq!(timers.pop_due(25), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_cancelled_key_never_fires() {
        let mut timers = Timers::default();
        timers.set("a", 10);
        timers.cancel(&"a");
        assert_eq!(timers.next_deadline_ms(), None);
        assert_eq!(timers.pop_due(100), None);
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_of_setting() {
        let mut timers = Timers::default();
        timers.set("b", 10);
        timers.set("a", 10);
        assert_eq!(timers.pop_due(10), Some("b"));
        assert_eq!(timers.pop_due(10), Some("a"));
    }

    #[test]
    fn stale_entries_do_not_pile_up() {
        let mut timers = Timers::default();
        for deadline in 0..10_000 {
            timers.set("a", deadline);
        }
        assert!(timers.heap.len() <= 65, "{} entries for one key", timers.heap.len());
        assert_eq!(timers.pop_due(9_998), None);
        assert_eq!(timers.pop_due(9_999), Some("a"));
    }
}
