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
/// Slots at the start.
const SLOTS_MIN: usize = 1024;
/// From this share of all slots on the map grows to all of them at once: while it does, old and new are there together.
const LAST_GROWTH_FROM: usize = 8;

/// Open addressing; grows as it fills, up to a bound.
pub(super) struct OffsetMap {
    /// Keyed anew for each map, so that nobody can choose keys that collide.
    hashers: [RandomState; 2],
    slots: Vec<Slot>,
    len: usize,
    slots_max: usize,
}

impl OffsetMap {
    /// For as many keys as fit into so many bytes, nine tenths of the slots in use (`log.cleaner.io.buffer.load.factor`).
    pub fn new(bytes: usize) -> Self {
        // Two at least: a walk ends at a free one.
        let slots_max = (bytes / SLOT_BYTES).max(2);
        let slots = vec![FREE; SLOTS_MIN.min(slots_max)];
        Self { hashers: [RandomState::new(), RandomState::new()], slots, len: 0, slots_max }
    }

    pub fn is_full(&self) -> bool {
        self.len >= (self.slots_max / 10 * 9).max(1)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    /// The slot of the hash, or the free one where it belongs.
    fn find(slots: &[Slot], hash: [u64; 2]) -> usize {
        // The hash as a share of 2^64, of the slots: below their number.
        let mut at = ((u128::from(hash[0]) * slots.len() as u128) >> 64) as usize;
        while slots[at].offset >= 0 && slots[at].hash != hash {
            at = if at + 1 == slots.len() { 0 } else { at + 1 };
        }
        at
    }

    /// Sets the key's last offset. Offsets come in rising order.
    pub fn put(&mut self, key: &[u8], offset: Offset) {
        assert!(offset.0 >= 0, "offset {offset}");
        // Up to three quarters in use, and nine tenths at last: the walk to a free slot stays short.
        let (len, slots) = (self.len, self.slots.len());
        // Beyond the bound only for a batch that has more keys than there was room for when it began.
        if (len * 4 >= slots * 3 && slots < self.slots_max) || (len + 1) * 20 > slots * 19 {
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
        let len = self.slots.len();
        let is_last = (self.slots_max / LAST_GROWTH_FROM..self.slots_max).contains(&len);
        let mut slots = vec![FREE; if is_last { self.slots_max } else { 2 * len }];
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

    #[test]
    fn a_batch_with_more_keys_than_there_is_room_for_is_taken_whole() {
        let mut map = OffsetMap::new(SLOT_BYTES * 10);
        for n in 0..1000u32 {
            map.put(&n.to_be_bytes(), Offset(i64::from(n)));
        }
        assert!((0..1000u32).all(|n| map.get(&n.to_be_bytes()) == Some(Offset(i64::from(n)))));
    }

    #[test]
    fn it_never_takes_more_than_its_bytes() {
        let bytes = 5 << 20;
        let mut map = OffsetMap::new(bytes);
        let mut n = 0u64;
        while !map.is_full() {
            let before = map.slots.capacity();
            map.put(&n.to_be_bytes(), Offset(n.cast_signed()));
            n += 1;
            let now = map.slots.capacity();
            assert!(now * SLOT_BYTES <= bytes);
            assert!(
                now == before || (before + now) * SLOT_BYTES <= bytes + bytes / 4 + SLOT_BYTES,
                "{before} and {now}"
            );
        }
        assert!((0..n).all(|n| map.get(&n.to_be_bytes()) == Some(Offset(n.cast_signed()))));
        assert_eq!(map.get(b"other"), None);
    }
}
