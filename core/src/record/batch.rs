//! A record batch's header as a view on bytes, and the few fields that a broker may patch.

use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Where the fields lie.
pub const BASE_OFFSET_AT: usize = 0;
pub const LENGTH_AT: usize = 8;
pub const LEADER_EPOCH_AT: usize = 12;
pub const MAGIC_AT: usize = 16;
pub const CRC_AT: usize = 17;
pub const ATTRIBUTES_AT: usize = 21;
/// Bytes before the part that the length field counts: base offset and length.
pub const BATCH_OVERHEAD: usize = 12;
/// Bytes before the first record.
pub const BATCH_HEADER_LEN: usize = 61;

/// Why bytes are no whole, sound batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("{have} bytes hold no batch header of {BATCH_HEADER_LEN}")]
    Short { have: usize },
    #[error("batch length {length} is out of range")]
    Length { length: i32 },
    #[error("batch needs {need} bytes, {have} are there")]
    Torn { need: usize, have: usize },
    #[error("magic {0} is not 2")]
    Magic(i8),
    #[error("crc is {stored:08x}, computed {computed:08x}")]
    Crc { stored: u32, computed: u32 },
    #[error("compression codec {0} is unknown")]
    Codec(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub fn from_id(id: u8) -> Option<Self> {
        Some(match id {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }

    pub fn id(self) -> u8 {
        self as u8
    }

    /// Kafka's name (`CompressionType`).
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The header, decoded. Says nothing of the records: see `validate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// The length field: bytes after it.
    pub length: i32,
    pub leader_epoch: LeaderEpoch,
    pub crc: u32,
    pub attributes: i16,
    /// Last offset minus base offset.
    pub last_offset_delta: i32,
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    /// -1: not idempotent.
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: Sequence,
    /// Number of records; compaction may leave fewer than the offsets span.
    pub record_count: i32,
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl BatchHeader {
    /// Decodes the first 61 bytes. Checks the magic and that the length covers a header; no CRC, no records.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < BATCH_HEADER_LEN {
            return Err(BatchError::Short { have: bytes.len() });
        }
        let magic = bytes[MAGIC_AT].cast_signed();
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let length = i32_at(bytes, LENGTH_AT);
        if length < (BATCH_HEADER_LEN - BATCH_OVERHEAD) as i32 {
            return Err(BatchError::Length { length });
        }
        Ok(Self {
            base_offset: Offset(i64_at(bytes, BASE_OFFSET_AT)),
            length,
            leader_epoch: LeaderEpoch(i32_at(bytes, LEADER_EPOCH_AT)),
            crc: i32_at(bytes, CRC_AT).cast_unsigned(),
            attributes: i16_at(bytes, ATTRIBUTES_AT),
            last_offset_delta: i32_at(bytes, 23),
            base_timestamp: Timestamp(i64_at(bytes, 27)),
            max_timestamp: Timestamp(i64_at(bytes, 35)),
            producer_id: ProducerId(i64_at(bytes, 43)),
            producer_epoch: ProducerEpoch(i16_at(bytes, 51)),
            base_sequence: Sequence(i32_at(bytes, 53)),
            record_count: i32_at(bytes, 57),
        })
    }

    /// Decodes the header of the first batch in `bytes` and checks that the batch is whole and its CRC right.
    pub fn parse_checked(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::parse(bytes)?;
        let need = header.size_bytes();
        let batch = bytes.get(..need).ok_or(BatchError::Torn { need, have: bytes.len() })?;
        let computed = super::crc32c(&batch[ATTRIBUTES_AT..]);
        if computed != header.crc {
            return Err(BatchError::Crc { stored: header.crc, computed });
        }
        Ok(header)
    }

    /// Whole size of the batch, the 12 bytes before the counted part included.
    pub fn size_bytes(&self) -> usize {
        // Not negative: `parse` refuses lengths below the header's.
        BATCH_OVERHEAD + self.length as usize
    }

    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(self.last_offset_delta.into()))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    pub fn compression(&self) -> Result<Compression, BatchError> {
        let id = (self.attributes & 0b111) as u8;
        Compression::from_id(id).ok_or(BatchError::Codec(id))
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & 0b1000 == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & 0b1_0000 != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & 0b10_0000 != 0
    }

    /// Compaction set the base timestamp to the delete horizon (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & 0b100_0000 != 0
    }

    pub fn is_idempotent(&self) -> bool {
        self.producer_id.0 >= 0
    }

    pub fn last_sequence(&self) -> Sequence {
        self.base_sequence.plus(self.last_offset_delta)
    }
}
