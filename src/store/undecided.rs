//! Records of a coordinator's partition that wait for the end of their transaction.
//! Key: kind, partition, producer id i64, then the record's own key; value: where it stands in the log, i64, whether it is
//! superseded, u8, then the record's value.

use millstream_core::types::{Offset, PartitionId, ProducerId};

use super::{Batch, Store, StoreError, kind, partition_key};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndecidedRecord<'a> {
    pub producer: ProducerId,
    pub at: Offset,
    pub is_superseded: bool,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

fn key(id: PartitionId, producer: ProducerId, record_key: &[u8]) -> Vec<u8> {
    let mut key = partition_key(kind::UNDECIDED, id);
    key.extend_from_slice(&producer.0.to_be_bytes());
    key.extend_from_slice(record_key);
    key
}

impl Batch {
    pub fn put_undecided(&mut self, id: PartitionId, record: &UndecidedRecord<'_>) {
        let mut value = Vec::with_capacity(9 + record.value.len());
        value.extend_from_slice(&record.at.0.to_be_bytes());
        value.push(u8::from(record.is_superseded));
        value.extend_from_slice(record.value);
        self.inner.put(key(id, record.producer, record.key), value);
    }

    pub fn delete_undecided(&mut self, id: PartitionId, producer: ProducerId, record_key: &[u8]) {
        self.inner.delete(key(id, producer, record_key));
    }
}

impl Store {
    /// Calls `each` with every record that waits, until it fails.
    pub fn undecided_records<E: From<StoreError>>(
        &self,
        id: PartitionId,
        mut each: impl FnMut(UndecidedRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.scan(&partition_key(kind::UNDECIDED, id), |rest, value| {
            let damaged = || E::from(StoreError::Damaged("undecided record"));
            let (producer, key) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
            let (at, value) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
            let (superseded, value) = value.split_first().ok_or_else(damaged)?;
            each(UndecidedRecord {
                producer: ProducerId(i64::from_be_bytes(*producer)),
                at: Offset(i64::from_be_bytes(*at)),
                is_superseded: *superseded != 0,
                key,
                value,
            })
        })
    }
}
