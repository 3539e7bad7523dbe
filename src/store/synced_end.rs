//! How far a partition's log is known to be on disk: damage before it is no torn write.
//! Key: kind, partition. Value, big endian: index u64, offset i64. Written buffered after a flush, so it survives
//! `kill -9` and is never above the truth.

use millstream_core::types::{Offset, PartitionId, RaftIndex};

use super::{Batch, Store, StoreError, kind, partition_key};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncedEnd {
    /// Index of the last synced entry.
    pub last_index: RaftIndex,
    /// The offset after the last synced record.
    pub next_offset: Offset,
}

impl Batch {
    pub fn put_synced_end(&mut self, id: PartitionId, end: SyncedEnd) {
        let mut value = [0u8; 16];
        value[..8].copy_from_slice(&end.last_index.0.to_be_bytes());
        value[8..].copy_from_slice(&end.next_offset.0.to_be_bytes());
        self.inner.put(partition_key(kind::SYNCED_END, id), value);
    }
}

impl Store {
    pub fn synced_end(&self, id: PartitionId) -> Result<Option<SyncedEnd>, StoreError> {
        let Some(value) = self.get(&partition_key(kind::SYNCED_END, id))? else { return Ok(None) };
        let ([index, offset], []) = value.as_chunks::<8>() else {
            return Err(StoreError::Damaged("synced end"));
        };
        Ok(Some(SyncedEnd {
            last_index: RaftIndex(u64::from_be_bytes(*index)),
            next_offset: Offset(i64::from_be_bytes(*offset)),
        }))
    }
}
