//! Idempotent producers: each writes to whoever it takes for the leader, and what is not answered comes again, to others,
//! before what is new. Each of their records must be in the log once, in order.

use std::collections::VecDeque;

use millstream_core::partition::{BatchKind, BatchSequence};
use millstream_core::record::BatchHeader;
use millstream_core::replica::{BatchDescriptor, Entry, EntryKind};
use millstream_core::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::chance::Chance;
use super::items::Item;

const WRITERS: usize = 3;
/// As many as an idempotent client may have.
const IN_FLIGHT_MAX: usize = 5;
/// Below this bit a batch's number says its first sequence, above it says its writer.
const WRITER_SHIFT: u32 = 24;

/// A batch of a writer: its first sequence and its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    pub writer: usize,
    pub sequence: i32,
    pub count: i32,
}

#[derive(Default)]
struct Writer {
    next: i32,
    unanswered: VecDeque<Write>,
    /// Behind the last record that is committed.
    committed: i32,
}

pub struct Writers([Writer; WRITERS]);

impl Writers {
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| Writer::default()))
    }

    /// What one of them sends now: all that is not answered, and something new.
    pub fn send(&mut self, chance: &mut Chance) -> Vec<Write> {
        let writer = chance.below(WRITERS as u64) as usize;
        let own = &mut self.0[writer];
        for _ in 0..=chance.below(3) {
            if own.unanswered.len() < IN_FLIGHT_MAX {
                let count = 1 + chance.below(5) as i32;
                own.unanswered.push_back(Write { writer, sequence: own.next, count });
                own.next += count;
            }
        }
        own.unanswered.iter().copied().collect()
    }

    /// It is acknowledged: it is committed.
    pub fn answer(&mut self, write: Write) {
        let own = &mut self.0[write.writer];
        own.unanswered.retain(|unanswered| *unanswered != write);
        assert!(write.sequence + write.count <= own.committed, "{write:?} of {} that are committed", own.committed);
    }

    /// The next entry that is committed: what is committed holds what each of them wrote once, in order, without a hole.
    pub fn commits(&mut self, entry: &Entry) {
        let Some(descriptor) = descriptor(entry) else { return };
        let write = Write::of(descriptor);
        // Others write as well.
        let Some(own) = self.0.get_mut(write.writer) else { return };
        assert_eq!(write.sequence, own.committed, "writer {}, at {}", write.writer, descriptor.base_offset);
        own.committed += write.count;
    }
}

impl Write {
    pub fn descriptor(self, base_offset: Offset) -> BatchDescriptor {
        let crc = (self.writer as u32) << WRITER_SHIFT | self.sequence as u32;
        BatchDescriptor { base_offset, count: self.count, size_bytes: 100, crc }
    }

    fn of(descriptor: &BatchDescriptor) -> Self {
        let sequence = descriptor.crc & ((1 << WRITER_SHIFT) - 1);
        let writer = (descriptor.crc >> WRITER_SHIFT) as usize;
        Self { writer, sequence: sequence as i32, count: descriptor.count }
    }

    pub fn header(self) -> BatchHeader {
        BatchHeader {
            base_offset: Offset::ZERO,
            length: 100,
            leader_epoch: LeaderEpoch(0),
            crc: 0,
            attributes: 0,
            last_offset_delta: self.count - 1,
            base_timestamp: Timestamp(0),
            max_timestamp: Timestamp(0),
            producer_id: ProducerId(self.writer as i64),
            producer_epoch: ProducerEpoch(0),
            base_sequence: Sequence(self.sequence),
            record_count: self.count,
        }
    }
}

pub fn descriptor(entry: &Entry) -> Option<&BatchDescriptor> {
    if let EntryKind::Batch(descriptor) = &entry.kind { Some(descriptor) } else { None }
}

/// What a log knows of the batches among its entries that have a producer.
pub fn sequences(entries: &[Entry]) -> impl Iterator<Item = BatchSequence> {
    entries.iter().filter_map(descriptor).filter_map(sequence_of)
}

fn sequence_of(descriptor: &BatchDescriptor) -> Option<BatchSequence> {
    if let Some(item) = Item::of(descriptor.crc) {
        return item.sequence(descriptor);
    }
    let write = Write::of(descriptor);
    Some(BatchSequence {
        producer_id: ProducerId(write.writer as i64),
        epoch: ProducerEpoch(0),
        first_sequence: Sequence(write.sequence),
        last_sequence: Sequence(write.sequence + write.count - 1),
        first_offset: descriptor.base_offset,
        last_offset: descriptor.base_offset.plus(i64::from(write.count) - 1),
        timestamp: Timestamp(0),
        kind: BatchKind::Plain,
    })
}
