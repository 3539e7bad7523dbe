//! That a replica has lost part of its log: what it acknowledged in terms before this one it may lack. So it neither votes
//! nor stands for election before its log has an entry of this term or a later one.
//! Key: kind, partition. Value: term u64, big endian. Written synced, before the replica says anything more; it outlives
//! the install of a snapshot, and means nothing once the log has gone on.

use millstream_core::types::{PartitionId, RaftTerm};

use super::{Batch, Store, StoreError, kind, partition_key};

impl Batch {
    pub fn put_held(&mut self, id: PartitionId, term: RaftTerm) {
        self.inner.put(partition_key(kind::HELD, id), term.0.to_be_bytes());
    }

    pub fn delete_held(&mut self, id: PartitionId) {
        self.inner.delete(partition_key(kind::HELD, id));
    }
}

impl Store {
    pub fn held(&self, id: PartitionId) -> Result<Option<RaftTerm>, StoreError> {
        let Some(value) = self.get(&partition_key(kind::HELD, id))? else { return Ok(None) };
        let term = value.try_into().map_err(|_| StoreError::Damaged("held term"))?;
        Ok(Some(RaftTerm(u64::from_be_bytes(term))))
    }
}
