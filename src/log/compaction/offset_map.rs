//! Which offset is the last of a key (Kafka `SkimpyOffsetMap`): keys are known by a hash of 128 bits.

use std::hash::{BuildHasher, RandomState};

use millstream_core::types::Offset;

#[derive(Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    /// -1: free.
    offset: i64,
}

const FREE: Slot = Slot { hash: [0; 2], offset: -1 };
/// Bytes of a slot: what `dedupe_buffer_bytes` is counted in.
const SLOT_BYTES: usize = size_of::<Slot>();
/// Slots at the start; a power of two, as always.
const SLOTS_MIN: usize = 1024;

/// Open addressing; doubles as it fills, up to a bound.
pub(super) struct OffsetMap {
    /// Keyed anew for each map, so that nobody can choose keys that collide.
    hashers: [RandomState; 2],
    slots: Vec<Slot>,
    len: usize,
    len_max: usize,
}

impl OffsetMap {
    /// For as many keys as fit into so many bytes, nine tenths of the slots in use (`log.cleaner.io.buffer.load.factor`).
    pub fn new(bytes: usize) -> Self {
        let len_max = (bytes / SLOT_BYTES / 10 * 9).max(1);
        Self { hashers: [RandomState::new(), RandomState::new()], slots: vec![FREE; SLOTS_MIN], len: 0, len_max }
    }

    pub fn is_full(&self) -> bool {
        self.len >= self.len_max
    }

    pub fn len(&self) -> usize {
        self.len
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    /// The slot of the hash, or the free one where it belongs.
    fn find(slots: &[Slot], hash: [u64; 2]) -> usize {
        let mask = slots.len() - 1;
        let mut at = hash[0] as usize & mask;
        while slots[at].offset >= 0 && slots[at].hash != hash {
            at = (at + 1) & mask;
        }
        at
    }

    /// Sets the key's last offset. Offsets come in rising order.
    pub fn put(&mut self, key: &[u8], offset: Offset) {
        assert!(offset.0 >= 0, "offset {offset}");
        // Never more than three quarters in use: the walk to a free slot stays short.
        if self.len * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let hash = self.hash(key);
        let at = Self::find(&self.slots, hash);
        if self.slots[at].offset < 0 {
            self.len += 1;
        }
        self.slots[at] = Slot { hash, offset: offset.0 };
    }

    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots[Self::find(&self.slots, self.hash(key))];
        (slot.offset >= 0).then_some(Offset(slot.offset))
    }

    fn grow(&mut self) {
        let mut slots = vec![FREE; self.slots.len() * 2];
        for slot in self.slots.iter().filter(|slot| slot.offset >= 0) {
            let at = Self::find(&slots, slot.hash);
            slots[at] = *slot;
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_known() {
        let mut map = OffsetMap::new(1 << 20);
        for offset in 0..10_000i64 {
            map.put(&(offset % 3000).to_be_bytes(), Offset(offset));
        }
        assert_eq!(map.len(), 3000);
        for key in 0..3000i64 {
            let last = Offset(if key < 1000 { key + 9000 } else { key + 6000 });
            assert_eq!(map.get(&key.to_be_bytes()), Some(last));
        }
        assert_eq!(map.get(b"other"), None);
        assert_eq!(map.get(b""), None);
    }

    #[test]
    fn it_is_full_at_nine_tenths_of_its_bytes() {
        let mut map = OffsetMap::new(SLOT_BYTES * 1000);
        for n in 0..900u32 {
            assert!(!map.is_full(), "after {n}");
            map.put(&n.to_be_bytes(), Offset(0));
        }
        assert!(map.is_full());
    }
}
