//! A state machine from what is stored: the materialised records, then those of the log that came after.

use std::sync::Arc;

use millstream_core::coordinator::group::{DecodeError, GroupConfig, Loader, Shard};
use millstream_core::record::{BatchHeader, RecordIter, batch_body};
use millstream_core::types::Offset;

use crate::partition::{Partition, ReadRefused};
use crate::store::{Batch, Durability, Store, StoreError};

/// Bytes read from the log at a time.
const READ_BYTES: usize = 1 << 20;
/// Most bytes that one of our own batches inflates to.
const INFLATED_BYTES_MAX: usize = 256 << 20;

/// Why a state machine could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("{0}")]
    Read(#[from] ReadRefused),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("a stored record does not decode: {0}")]
    Decode(#[from] DecodeError),
    #[error("a batch of the log at offset {offset} does not decode: {reason}")]
    Batch { offset: Offset, reason: String },
    #[error("loading panicked")]
    Panicked,
}

/// Loads. Blocks for the disk. What the log holds beyond the stored records is stored as well.
pub(super) fn load(partition: &Partition, store: &Store, config: Arc<GroupConfig>) -> Result<Shard, LoadError> {
    let mut next = store.coordinator_applied(partition.id)?;
    let mut loader = Loader::new(config);
    store.coordinator_records(partition.id, |key, value| loader.put(key, value).map_err(LoadError::Decode))?;
    let mut shard = loader.finish();
    let end = partition.high_watermark();
    next = next.max(partition.log_start());
    let mut scratch = Vec::new();
    while next < end {
        let bytes = partition.read_bytes(next, READ_BYTES)?;
        if bytes.is_empty() {
            break;
        }
        let mut batch = Batch::default();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse_checked(rest)
                .map_err(|e| LoadError::Batch { offset: next, reason: e.to_string() })?;
            let (whole, after) = rest.split_at(header.size_bytes());
            rest = after;
            replay(partition, &mut shard, &mut batch, &header, whole, next, &mut scratch)?;
            next = header.next_offset();
        }
        batch.put_coordinator_applied(partition.id, next);
        store.write(batch, Durability::Buffered)?;
    }
    Ok(shard)
}

fn replay(
    partition: &Partition,
    shard: &mut Shard,
    batch: &mut Batch,
    header: &BatchHeader,
    whole: &[u8],
    from: Offset,
    scratch: &mut Vec<u8>,
) -> Result<(), LoadError> {
    if header.is_control() {
        return Ok(());
    }
    let damaged = |reason: String| LoadError::Batch { offset: header.base_offset, reason };
    let body = batch_body(header, whole, INFLATED_BYTES_MAX, scratch).map_err(|e| damaged(e.to_string()))?;
    for record in RecordIter::new(header, body) {
        let record = record.map_err(|e| damaged(e.to_string()))?;
        let Some(key) = record.key.filter(|_| record.offset >= from) else { continue };
        shard.replay_encoded(key, record.value)?;
        batch.apply_coordinator_record(partition.id, key, record.value);
    }
    Ok(())
}
