//! That a fetched log is to take the place of a partition's own: whoever opens the partition does that first.
//! Key: kind, partition. Value: empty. Written synced, together with all that is stored about the new log; deleted
//! synced, before another log is fetched.

use millstream_core::types::PartitionId;

use super::{Batch, Store, StoreError, kind, partition_key};

impl Batch {
    pub fn put_installing(&mut self, id: PartitionId) {
        self.inner.put(partition_key(kind::INSTALLING, id), []);
    }

    pub fn delete_installing(&mut self, id: PartitionId) {
        self.inner.delete(partition_key(kind::INSTALLING, id));
    }
}

impl Store {
    /// Whether a fetched log is to take the place of the partition's own.
    pub fn is_installing(&self, id: PartitionId) -> Result<bool, StoreError> {
        Ok(self.get(&partition_key(kind::INSTALLING, id))?.is_some())
    }
}
