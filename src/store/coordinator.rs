//! The materialised records of a coordinator's partition, and the offset up to which they are applied.
//! Keys: kind, partition, then the record's own key; value: the record's value. A tombstone deletes.
//! Applied: kind, partition; value: the offset after the last applied record, i64.

use millstream_core::types::{Offset, PartitionId};

use super::{Batch, Store, StoreError, kind, partition_key};

fn key(id: PartitionId, record_key: &[u8]) -> Vec<u8> {
    let mut key = partition_key(kind::COORDINATOR, id);
    key.extend_from_slice(record_key);
    key
}

impl Batch {
    /// Applies one record: its value, or its end when there is none.
    pub fn apply_coordinator_record(&mut self, id: PartitionId, record_key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.inner.put(key(id, record_key), value),
            None => self.inner.delete(key(id, record_key)),
        }
    }

    /// `next`: the offset after the last applied record.
    pub fn put_coordinator_applied(&mut self, id: PartitionId, next: Offset) {
        self.inner.put(partition_key(kind::COORDINATOR_APPLIED, id), next.0.to_be_bytes());
    }
}

impl Store {
    /// The offset after the last applied record, 0 when there is none.
    pub fn coordinator_applied(&self, id: PartitionId) -> Result<Offset, StoreError> {
        let Some(value) = self.get(&partition_key(kind::COORDINATOR_APPLIED, id))? else { return Ok(Offset::ZERO) };
        let value = value.as_slice().try_into().map_err(|_| StoreError::Damaged("applied coordinator offset"))?;
        Ok(Offset(i64::from_be_bytes(value)))
    }

    /// Calls `each` with the key and value of every record kept for a coordinator's partition, until it fails.
    pub fn coordinator_records<E: From<StoreError>>(
        &self,
        id: PartitionId,
        each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.scan(&partition_key(kind::COORDINATOR, id), each)
    }
}
