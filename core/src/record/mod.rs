//! Record batches of Kafka's format, magic 2 (`org.apache.kafka.common.record.DefaultRecordBatch`).

mod batch;
mod build;
mod compression;
mod records;
mod validate;
mod varint;

pub use batch::{
    ATTRIBUTES_AT, BASE_OFFSET_AT, BATCH_HEADER_LEN, BATCH_OVERHEAD, BatchError, BatchHeader, CRC_AT, Compression,
    LEADER_EPOCH_AT, LENGTH_AT, MAGIC_AT, TimestampType,
};
pub use build::{BatchBuilder, Marker, control_batch, marker_of, parse_marker};
pub use compression::{DecompressError, compress, decompress};
pub use records::{BodyError, Headers, Record, RecordError, RecordIter, batch_body};
pub use validate::{
    BatchProblem, Budget, RECORD_PROBLEMS_MAX, RecordProblem, Rules, Validated, validate_produce_batch,
};

/// CRC-32C (Castagnoli), the checksum of batches and of our own frames.
pub fn crc32c(bytes: &[u8]) -> u32 {
    // A CRC-32 in a u64: the value always fits.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The same of bytes that lie in several pieces.
pub fn crc32c_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.into_iter().for_each(|part| digest.update(part));
    digest.finalize() as u32
}
