//! What a batch of a transaction is, told by the number that stands for its bytes.

use millstream_core::partition::{BatchKind, BatchSequence};
use millstream_core::record::BatchHeader;
use millstream_core::replica::BatchDescriptor;
use millstream_core::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

const IS_ITEM: u32 = 1 << 31;
const KIND_SHIFT: u32 = 29;
const PRODUCER_SHIFT: u32 = 25;
const EPOCH_SHIFT: u32 = 15;
const NUMBER_MASK: u32 = (1 << EPOCH_SHIFT) - 1;
const RECORD_MASK: u32 = (1 << KIND_SHIFT) - 1;
const IS_TRANSACTIONAL: i16 = 0x10;

/// A batch of a transaction in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Data {
    pub producer: i64,
    pub epoch: i16,
    pub sequence: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    Data(Data),
    End {
        producer: i64,
        epoch: i16,
        commit: bool,
        coordinator_epoch: i32,
    },
    /// A record of the transaction coordinator, by its place among all that were written.
    Record(usize),
}

impl Item {
    pub fn crc(self) -> u32 {
        let tell = |kind: u32, producer: i64, epoch: i16, number: i32| {
            let (producer, epoch, number) = (producer as u32, epoch as u32, number as u32);
            assert!(producer < 1 << 4 && epoch < 1 << 10 && number <= NUMBER_MASK, "more than there is room for");
            IS_ITEM | kind << KIND_SHIFT | producer << PRODUCER_SHIFT | epoch << EPOCH_SHIFT | number
        };
        match self {
            Self::Data(Data { producer, epoch, sequence }) => tell(0, producer, epoch, sequence),
            Self::End { producer, epoch, commit, coordinator_epoch } => {
                tell(1 + u32::from(commit), producer, epoch, coordinator_epoch)
            }
            Self::Record(place) => IS_ITEM | 3 << KIND_SHIFT | place as u32,
        }
    }

    /// `None`: it is of an idempotent producer.
    pub fn of(crc: u32) -> Option<Self> {
        if crc & IS_ITEM == 0 {
            return None;
        }
        let producer = i64::from(crc >> PRODUCER_SHIFT & 0xf);
        let epoch = (crc >> EPOCH_SHIFT & 0x3ff) as i16;
        let number = (crc & NUMBER_MASK) as i32;
        Some(match crc >> KIND_SHIFT & 3 {
            0 => Self::Data(Data { producer, epoch, sequence: number }),
            3 => Self::Record((crc & RECORD_MASK) as usize),
            kind => Self::End { producer, epoch, commit: kind == 2, coordinator_epoch: number },
        })
    }

    /// What a log knows of it. `None`: it has no producer.
    pub fn sequence(self, batch: &BatchDescriptor) -> Option<BatchSequence> {
        let (producer, epoch, first, last, kind) = match self {
            Self::Record(_) => return None,
            Self::Data(Data { producer, epoch, sequence }) => {
                (producer, epoch, sequence, sequence + batch.count - 1, BatchKind::Transactional)
            }
            Self::End { producer, epoch, commit, coordinator_epoch } => {
                (producer, epoch, -1, -1, BatchKind::End { commit, coordinator_epoch })
            }
        };
        Some(BatchSequence {
            producer_id: ProducerId(producer),
            epoch: ProducerEpoch(epoch),
            first_sequence: Sequence(first),
            last_sequence: Sequence(last),
            first_offset: batch.base_offset,
            last_offset: batch.base_offset.plus(i64::from(batch.count) - 1),
            timestamp: Timestamp(0),
            kind,
        })
    }
}

impl Data {
    pub fn header(self, count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: Offset::ZERO,
            length: 100,
            leader_epoch: LeaderEpoch(0),
            crc: 0,
            attributes: IS_TRANSACTIONAL,
            last_offset_delta: count - 1,
            base_timestamp: Timestamp(0),
            max_timestamp: Timestamp(0),
            producer_id: ProducerId(self.producer),
            producer_epoch: ProducerEpoch(self.epoch),
            base_sequence: Sequence(self.sequence),
            record_count: count,
        }
    }
}
