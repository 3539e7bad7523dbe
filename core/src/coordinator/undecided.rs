//! Records of transactions that are not decided yet: they count from the marker on that commits them, and as if they had
//! been written where they stand in the log (Kafka `OffsetMetadataManager`, pending transactional offsets).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Offset, ProducerId};

/// By producer, then by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided<K, V> {
    held: BTreeMap<ProducerId, BTreeMap<K, Held<V>>>,
    /// Whose they are; no key without one.
    producers: BTreeMap<K, BTreeSet<ProducerId>>,
}

/// A record that waits for its marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<V> {
    /// Where it stands in the log.
    pub at: Offset,
    pub value: V,
    /// A later record of the same key counts already: this one never will.
    pub is_superseded: bool,
}

/// Which transaction a record belongs to, and where it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTransaction {
    pub producer: ProducerId,
    pub at: Offset,
    /// A later record of its key counts already.
    pub is_superseded: bool,
}

impl<K, V> Default for Undecided<K, V> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), producers: BTreeMap::new() }
    }
}

impl<K: Clone + Ord, V> Undecided<K, V> {
    /// Takes a record of a producer's transaction; an earlier one of the same key counts no more.
    pub fn hold(&mut self, producer: ProducerId, key: K, held: Held<V>) {
        self.producers.entry(key.clone()).or_default().insert(producer);
        self.held.entry(producer).or_default().insert(key, held);
    }

    /// A record of this key counts now that stands at `at`: those before it never will. Gives the producers of these.
    pub fn supersede(&mut self, key: &K, at: Offset) -> Vec<ProducerId> {
        let mut superseded = Vec::new();
        for producer in self.producers.get(key).into_iter().flatten() {
            let held = self.held.get_mut(producer).and_then(|held| held.get_mut(key));
            if let Some(held) = held.filter(|held| held.at < at && !held.is_superseded) {
                held.is_superseded = true;
                superseded.push(*producer);
            }
        }
        superseded
    }

    /// The key is deleted, and with it what waits. Gives the producers of that.
    pub fn forget(&mut self, key: &K) -> BTreeSet<ProducerId> {
        let producers = self.producers.remove(key).unwrap_or_default();
        for producer in &producers {
            if let Entry::Occupied(mut held) = self.held.entry(*producer) {
                held.get_mut().remove(key);
                if held.get().is_empty() {
                    held.remove();
                }
            }
        }
        producers
    }

    /// The producer's transaction has ended: gives what waited for that, by key.
    pub fn decide(&mut self, producer: ProducerId) -> BTreeMap<K, Held<V>> {
        let held = self.held.remove(&producer).unwrap_or_default();
        for key in held.keys() {
            if let Entry::Occupied(mut producers) = self.producers.entry(key.clone()) {
                producers.get_mut().remove(&producer);
                if producers.get().is_empty() {
                    producers.remove();
                }
            }
        }
        held
    }

    pub fn get(&self, producer: ProducerId, key: &K) -> Option<&Held<V>> {
        self.held.get(&producer)?.get(key)
    }

    /// Whether something of this key waits.
    pub fn contains(&self, key: &K) -> bool {
        self.producers.contains_key(key)
    }

    /// The keys that something waits for, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.producers.keys()
    }

    /// All that waits.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Held<V>)> {
        self.held.values().flatten()
    }

    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Put(u8),
        Delete(u8),
        Hold(i64, u8),
        End(i64, bool),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            2 => (0u8..3).prop_map(Op::Put),
            1 => (0u8..3).prop_map(Op::Delete),
            4 => (0i64..3, 0u8..3).prop_map(|(id, key)| Op::Hold(id, key)),
            2 => (0i64..3, any::<bool>()).prop_map(|(id, commit)| Op::End(id, commit)),
        ];
        prop::collection::vec(op, 0..60)
    }

    proptest! {
        /// Against Kafka's way, which keeps of each value where its record stands.
        #[test]
        fn what_counts_is_the_last_record_that_is_decided(ops in ops()) {
            let mut undecided: Undecided<u8, usize> = Undecided::default();
            let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
            let mut theirs: BTreeMap<u8, usize> = BTreeMap::new();
            let mut pending: BTreeMap<i64, BTreeMap<u8, usize>> = BTreeMap::new();
            for (n, op) in ops.into_iter().enumerate() {
                let at = Offset(n as i64);
                match op {
                    Op::Put(key) => {
                        counts.insert(key, n);
                        undecided.supersede(&key, at);
                        theirs.insert(key, n);
                    }
                    Op::Delete(key) => {
                        counts.remove(&key);
                        undecided.forget(&key);
                        theirs.remove(&key);
                        pending.values_mut().for_each(|pending| pending.retain(|held, _| *held != key));
                    }
                    Op::Hold(id, key) => {
                        undecided.hold(ProducerId(id), key, Held { at, value: n, is_superseded: false });
                        pending.entry(id).or_default().insert(key, n);
                    }
                    Op::End(id, commit) => {
                        for (key, held) in undecided.decide(ProducerId(id)) {
                            if commit && !held.is_superseded {
                                counts.insert(key, held.value);
                                undecided.supersede(&key, held.at);
                            }
                        }
                        for (key, at) in pending.remove(&id).unwrap_or_default() {
                            if commit && theirs.get(&key).is_none_or(|known| *known < at) {
                                theirs.insert(key, at);
                            }
                        }
                    }
                }
                prop_assert_eq!(&counts, &theirs);
                for key in 0..3 {
                    let waits = pending.values().any(|pending| pending.contains_key(&key));
                    prop_assert_eq!(undecided.contains(&key), waits);
                }
                prop_assert_eq!(undecided.iter().count(), pending.values().map(BTreeMap::len).sum::<usize>());
            }
        }
    }
}
