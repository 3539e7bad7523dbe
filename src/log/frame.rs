//! Frames: a segment file is a row of them, each with Kafka's own prefix.
//!
//! Magic 2 is a record batch, untouched. Magic -128 is ours, big-endian:
//!
//! | at | field |
//! |---:|---|
//! | 0 | base offset i64: the next Kafka offset |
//! | 8 | length i32: bytes after this field |
//! | 12 | epoch i32: the term |
//! | 16 | magic i8 = -128 |
//! | 17 | crc32c u32 of all that follows |
//! | 21 | base offset again, i64 |
//! | 29 | term again, u64 |
//! | 37 | kind u8: 0 segment header, 1 raft entry |
//! | 38 | index u64 |
//! | 46 | entry type u8 (of a header 0) |
//! | 47 | data |
//!
//! The copies let a flip in the prefix, which the CRC does not cover, be found; a wrong length fails the CRC.

use millstream_core::record::{BATCH_OVERHEAD, BatchError, BatchHeader, MAGIC_AT, crc32c};
use millstream_core::types::{LeaderEpoch, Offset, PartitionId, RaftIndex, RaftTerm, Timestamp, TopicId};
use uuid::Uuid;

use super::entry::Descriptor;

/// Magic of our own frames; Kafka's are 0, 1 and 2.
const OWN_MAGIC: i8 = -128;
/// Bytes of an own frame before its data.
pub(super) const OWN_HEADER_LEN: usize = 47;
const OWN_CRC_AT: usize = 17;
const OWN_CHECKED_FROM: usize = 21;
/// Most bytes of a frame that have to be read to describe it: a batch's header.
pub(super) const HEAD_LEN: usize = 61;

const KIND_HEADER: u8 = 0;
const KIND_ENTRY: u8 = 1;

/// Version of the segment format, in each header frame.
const FORMAT_VERSION: u8 = 1;
const SEGMENT_HEADER_DATA_LEN: usize = 57;
/// Whole size of the header frame at the start of every segment.
pub(super) const SEGMENT_HEADER_LEN: u64 = (OWN_HEADER_LEN + SEGMENT_HEADER_DATA_LEN) as u64;

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("only {0} bytes are left")]
    Short(usize),
    #[error("only zeros are left")]
    Zeros,
    #[error("magic {0} is unknown")]
    Magic(i8),
    #[error("length {0} is out of range")]
    Length(i32),
    #[error("the frame needs {need} bytes, {have} are left")]
    Torn { need: u64, have: u64 },
    #[error("{0}")]
    Batch(#[from] BatchError),
    #[error("batch with offset delta {delta} and epoch {epoch}")]
    BatchFields { delta: i32, epoch: i32 },
    #[error("crc is {stored:08x}, computed {computed:08x}")]
    Crc { stored: u32, computed: u32 },
    #[error("prefix and copy of offset or term differ")]
    Copy,
    #[error("own frame of unknown kind {0}")]
    Kind(u8),
    #[error("segment format {0} is unknown to this version")]
    Format(u8),
    #[error("not a segment header")]
    NoHeader,
    #[error("{field} is {found}, expected {expected}")]
    Continuity { field: &'static str, found: u64, expected: u64 },
    #[error("a compacted segment follows one that is not")]
    OutOfPlace,
    #[error("the segment belongs to partition {0}")]
    Foreign(PartitionId),
}

/// A whole frame whose checksum is right.
#[derive(Clone, Debug)]
pub(super) enum Frame<'a> {
    Batch(BatchHeader),
    Entry { descriptor: Descriptor, data: &'a [u8] },
    Header(SegmentHeader),
}

/// What the first frame of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub partition: PartitionId,
    pub base_offset: Offset,
    /// Index of the first entry; of a compacted segment: of those it stands for.
    pub base_index: RaftIndex,
    pub prev_term: RaftTerm,
    /// How often its bytes went through compaction. What follows is known of compacted segments only; others repeat
    /// the start.
    pub generation: u32,
    pub end_offset: Offset,
    pub end_index: RaftIndex,
    pub last_term: RaftTerm,
    /// Offset up to which keys were known when it was written.
    pub cleaned_end: Offset,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn own_field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], FrameError> {
    field(bytes, at).ok_or(FrameError::Short(bytes.len()))
}

/// Whole size of the frame whose first bytes these are.
pub(super) fn frame_size(bytes: &[u8]) -> Result<u64, FrameError> {
    let magic = bytes.get(MAGIC_AT).ok_or(FrameError::Short(bytes.len()))?.cast_signed();
    let length = i32::from_be_bytes(own_field(bytes, 8)?);
    let least = match magic {
        2 => HEAD_LEN,
        OWN_MAGIC => OWN_HEADER_LEN,
        0 if bytes.iter().all(|b| *b == 0) => return Err(FrameError::Zeros),
        magic => return Err(FrameError::Magic(magic)),
    };
    let size = u64::try_from(length).map_err(|_| FrameError::Length(length))? + BATCH_OVERHEAD as u64;
    if size < least as u64 {
        return Err(FrameError::Length(length));
    }
    Ok(size)
}

/// Describes a frame by its first bytes (61 of a batch, 47 of our own); its index is not known here but of own
/// frames. No checksum.
pub(super) fn parse_head(bytes: &[u8]) -> Result<Descriptor, FrameError> {
    let size = frame_size(bytes)?;
    if bytes[MAGIC_AT].cast_signed() == 2 {
        return describe_batch(&BatchHeader::parse(bytes)?);
    }
    let kind = own_field::<1>(bytes, 37)?[0];
    let entry_type = own_field::<1>(bytes, 46)?[0];
    if kind != KIND_ENTRY {
        return Err(FrameError::Kind(kind));
    }
    Ok(Descriptor {
        index: RaftIndex(u64::from_be_bytes(own_field(bytes, 38)?)),
        term: RaftTerm(u64::from_be_bytes(own_field(bytes, 29)?)),
        base_offset: Offset(i64::from_be_bytes(own_field(bytes, 0)?)),
        count: 0,
        // A length field is below 2^31.
        size_bytes: size as u32,
        crc: u32::from_be_bytes(own_field(bytes, OWN_CRC_AT)?),
        own_kind: Some(entry_type),
        max_timestamp: Timestamp::NONE,
    })
}

/// A batch without its index.
pub(super) fn describe_batch(header: &BatchHeader) -> Result<Descriptor, FrameError> {
    let fields = || FrameError::BatchFields { delta: header.last_offset_delta, epoch: header.leader_epoch.0 };
    let term = u64::try_from(header.leader_epoch.0).map_err(|_| fields())?;
    if header.last_offset_delta < 0 {
        return Err(fields());
    }
    Ok(Descriptor {
        index: RaftIndex(0),
        term: RaftTerm(term),
        base_offset: header.base_offset,
        count: i64::from(header.last_offset_delta) + 1,
        size_bytes: u32::try_from(header.size_bytes()).map_err(|_| FrameError::Length(header.length))?,
        crc: header.crc,
        own_kind: None,
        max_timestamp: header.max_timestamp,
    })
}

/// Parses a whole frame and checks its checksum. `bytes` is exactly the frame.
pub(super) fn parse_frame(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let need = frame_size(bytes)?;
    if need != bytes.len() as u64 {
        return Err(FrameError::Torn { need, have: bytes.len() as u64 });
    }
    if bytes[MAGIC_AT].cast_signed() == 2 {
        return Ok(Frame::Batch(BatchHeader::parse_checked(bytes)?));
    }
    let stored = u32::from_be_bytes(own_field(bytes, OWN_CRC_AT)?);
    let computed = crc32c(&bytes[OWN_CHECKED_FROM..]);
    if stored != computed {
        return Err(FrameError::Crc { stored, computed });
    }
    let epoch = i32::from_be_bytes(own_field(bytes, 12)?);
    let term = u64::from_be_bytes(own_field(bytes, 29)?);
    if field::<8>(bytes, 0) != field::<8>(bytes, 21) || u64::try_from(epoch) != Ok(term) {
        return Err(FrameError::Copy);
    }
    match bytes[37] {
        KIND_HEADER => Ok(Frame::Header(SegmentHeader::parse(bytes)?)),
        _ => Ok(Frame::Entry { descriptor: parse_head(bytes)?, data: &bytes[OWN_HEADER_LEN..] }),
    }
}

/// The fields of an own frame before its data.
struct Own {
    kind: u8,
    base_offset: Offset,
    term: RaftTerm,
    index: RaftIndex,
    entry_type: u8,
}

impl Own {
    fn put(&self, data: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let length = i32::try_from(OWN_HEADER_LEN - BATCH_OVERHEAD + data.len()).expect("own frames are small");
        out.extend_from_slice(&self.base_offset.0.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&LeaderEpoch::of_term(self.term).0.to_be_bytes());
        out.push(OWN_MAGIC.cast_unsigned());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.base_offset.0.to_be_bytes());
        out.extend_from_slice(&self.term.0.to_be_bytes());
        out.push(self.kind);
        out.extend_from_slice(&self.index.0.to_be_bytes());
        out.push(self.entry_type);
        out.extend_from_slice(data);
        let crc = crc32c(&out[start + OWN_CHECKED_FROM..]);
        out[start + OWN_CRC_AT..start + OWN_CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Writes one of raft's own entries as a frame.
pub(super) fn put_entry(
    index: RaftIndex,
    term: RaftTerm,
    next_offset: Offset,
    entry_type: u8,
    data: &[u8],
    out: &mut Vec<u8>,
) {
    Own { kind: KIND_ENTRY, base_offset: next_offset, term, index, entry_type }.put(data, out);
}

/// The first 16 bytes of a batch in the log: base offset, length, epoch.
pub(super) fn batch_prefix(base_offset: Offset, length: i32, term: RaftTerm) -> [u8; 16] {
    let mut prefix = [0; 16];
    prefix[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    prefix[8..12].copy_from_slice(&length.to_be_bytes());
    prefix[12..].copy_from_slice(&LeaderEpoch::of_term(term).0.to_be_bytes());
    prefix
}

impl SegmentHeader {
    /// Of a segment as raft writes it.
    pub fn new(partition: PartitionId, base_offset: Offset, base_index: RaftIndex, prev_term: RaftTerm) -> Self {
        Self {
            partition,
            base_offset,
            base_index,
            prev_term,
            generation: 0,
            end_offset: base_offset,
            end_index: base_index,
            last_term: prev_term,
            cleaned_end: base_offset,
        }
    }

    /// The header frame. Its data: format version u8 = 1, generation u32, topic id 16 bytes, partition i32, end
    /// offset i64, end index u64, last term u64, cleaned end i64.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mut data = Vec::with_capacity(SEGMENT_HEADER_DATA_LEN);
        data.push(FORMAT_VERSION);
        data.extend_from_slice(&self.generation.to_be_bytes());
        data.extend_from_slice(self.partition.topic.0.as_bytes());
        data.extend_from_slice(&self.partition.partition.to_be_bytes());
        data.extend_from_slice(&self.end_offset.0.to_be_bytes());
        data.extend_from_slice(&self.end_index.0.to_be_bytes());
        data.extend_from_slice(&self.last_term.0.to_be_bytes());
        data.extend_from_slice(&self.cleaned_end.0.to_be_bytes());
        let own = Own {
            kind: KIND_HEADER,
            base_offset: self.base_offset,
            term: self.prev_term,
            index: self.base_index,
            entry_type: 0,
        };
        own.put(&data, out);
    }

    /// Indexes begin at 1, and neither they nor offsets nor terms come near the ends of their types: what is computed
    /// from them does not overflow, whatever stands in a file.
    fn is_possible(&self) -> bool {
        let index = 1..=u64::MAX / 2;
        let offset = 0..=i64::MAX / 2;
        let term = 0..i32::MAX as u64;
        index.contains(&self.base_index.0)
            && (self.base_index.0..=u64::MAX / 2).contains(&self.end_index.0)
            && offset.contains(&self.base_offset.0)
            && (self.base_offset.0..=i64::MAX / 2).contains(&self.end_offset.0)
            && term.contains(&self.prev_term.0)
            && term.contains(&self.last_term.0)
    }

    /// `bytes`: a whole own frame of kind header whose checksum is right.
    fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let data = &bytes[OWN_HEADER_LEN..];
        let version = own_field::<1>(data, 0)?[0];
        if version != FORMAT_VERSION {
            return Err(FrameError::Format(version));
        }
        if data.len() != SEGMENT_HEADER_DATA_LEN {
            return Err(FrameError::NoHeader);
        }
        let header = Self {
            partition: PartitionId {
                topic: TopicId(Uuid::from_bytes(own_field(data, 5)?)),
                partition: i32::from_be_bytes(own_field(data, 21)?),
            },
            base_offset: Offset(i64::from_be_bytes(own_field(bytes, 0)?)),
            base_index: RaftIndex(u64::from_be_bytes(own_field(bytes, 38)?)),
            prev_term: RaftTerm(u64::from_be_bytes(own_field(bytes, 29)?)),
            generation: u32::from_be_bytes(own_field(data, 1)?),
            end_offset: Offset(i64::from_be_bytes(own_field(data, 25)?)),
            end_index: RaftIndex(u64::from_be_bytes(own_field(data, 33)?)),
            last_term: RaftTerm(u64::from_be_bytes(own_field(data, 41)?)),
            cleaned_end: Offset(i64::from_be_bytes(own_field(data, 49)?)),
        };
        header.is_possible().then_some(header).ok_or(FrameError::NoHeader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> PartitionId {
        PartitionId { topic: TopicId(Uuid::from_u128(7)), partition: 3 }
    }

    #[test]
    fn own_frames_read_back_and_every_flip_is_found() {
        let mut header = Vec::new();
        let written = SegmentHeader {
            generation: 4,
            end_offset: Offset(99),
            end_index: RaftIndex(50),
            last_term: RaftTerm(9),
            cleaned_end: Offset(98),
            ..SegmentHeader::new(partition(), Offset(5), RaftIndex(6), RaftTerm(7))
        };
        written.put(&mut header);
        assert_eq!(header.len() as u64, SEGMENT_HEADER_LEN);
        assert!(matches!(parse_frame(&header), Ok(Frame::Header(read)) if read == written));

        let mut entry = Vec::new();
        put_entry(RaftIndex(8), RaftTerm(2), Offset(77), 1, b"conf", &mut entry);
        match parse_frame(&entry) {
            Ok(Frame::Entry { descriptor, data }) => {
                assert_eq!((descriptor.index, descriptor.term), (RaftIndex(8), RaftTerm(2)));
                assert_eq!((descriptor.base_offset, descriptor.count), (Offset(77), 0));
                assert_eq!((descriptor.own_kind, data), (Some(1), b"conf".as_slice()));
            }
            other => panic!("{other:?}"),
        }
        for frame in [header, entry] {
            for at in 0..frame.len() {
                for bit in 0..8 {
                    let mut bad = frame.clone();
                    bad[at] ^= 1 << bit;
                    assert!(parse_frame(&bad).is_err(), "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn zeros_are_told_from_garbage() {
        assert_eq!(frame_size(&[0; 64]), Err(FrameError::Zeros));
        assert_eq!(frame_size(&[0; 9]), Err(FrameError::Short(9)));
        let mut bytes = [0; 64];
        bytes[3] = 1;
        assert_eq!(frame_size(&bytes), Err(FrameError::Magic(0)));
    }
}
