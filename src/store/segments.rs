//! What is known of closed segments, so that a start opens none of them.
//! Key: kind, partition, base offset i64. Value: the log's own encoding.

use millstream_core::types::{Offset, PartitionId};

use super::{Batch, Store, StoreError, kind, partition_key};

fn key(id: PartitionId, base_offset: Offset) -> Vec<u8> {
    let mut key = partition_key(kind::SEGMENT, id);
    key.extend_from_slice(&base_offset.0.to_be_bytes());
    key
}

impl Batch {
    pub fn put_segment(&mut self, id: PartitionId, base_offset: Offset, meta: &[u8]) {
        self.inner.put(key(id, base_offset), meta);
    }

    pub fn delete_segment(&mut self, id: PartitionId, base_offset: Offset) {
        self.inner.delete(key(id, base_offset));
    }
}

impl Store {
    /// The encoded facts of a partition's closed segments, by rising base offset.
    pub fn segments(&self, id: PartitionId) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut found = Vec::new();
        self.scan::<StoreError>(&partition_key(kind::SEGMENT, id), |_, value| {
            found.push(value.to_vec());
            Ok(())
        })?;
        Ok(found)
    }
}
