//! What is stored of a coordinator's log: the last decided record of each key, and those that wait for the end of their
//! transaction.

use bytes::Bytes;
use millstream_core::coordinator::undecided::{Held, Undecided};
use millstream_core::types::{Offset, PartitionId, ProducerId};

use crate::store::{Batch, Store, StoreError, UndecidedRecord};

/// What a replay comes after.
const NEWEST: Offset = Offset(i64::MAX);

/// Takes the committed records of a log in order and says what they change in the store. When that is not written the
/// state is of no use any more.
pub(super) struct Materialised {
    id: PartitionId,
    undecided: Undecided<Bytes, Bytes>,
}

impl Materialised {
    /// As the store has it.
    pub fn load(store: &Store, id: PartitionId) -> Result<Self, StoreError> {
        let mut undecided = Undecided::default();
        store.undecided_records::<StoreError>(id, |record| {
            let UndecidedRecord { producer, at, is_superseded, key, value } = record;
            let held = Held { at, value: Bytes::copy_from_slice(value), is_superseded };
            undecided.hold(producer, Bytes::copy_from_slice(key), held);
            Ok(())
        })?;
        Ok(Self { id, undecided })
    }

    /// A record that is part of no transaction.
    pub fn record(&mut self, batch: &mut Batch, key: &[u8], value: Option<&[u8]>) {
        batch.apply_coordinator_record(self.id, key, value);
        if self.undecided.is_empty() {
            return;
        }
        let key = Bytes::copy_from_slice(key);
        match value {
            Some(_) => self.supersede(batch, &key, NEWEST),
            None => {
                for producer in self.undecided.forget(&key) {
                    batch.delete_undecided(self.id, producer, &key);
                }
            }
        }
    }

    /// A record of a transaction, at its place in the log.
    pub fn record_in_transaction(
        &mut self,
        batch: &mut Batch,
        producer: ProducerId,
        at: Offset,
        (key, value): (&[u8], Option<&[u8]>),
    ) {
        // Nothing is deleted within a transaction.
        let Some(value) = value else { return };
        batch.put_undecided(self.id, &UndecidedRecord { producer, at, is_superseded: false, key, value });
        let held = Held { at, value: Bytes::copy_from_slice(value), is_superseded: false };
        self.undecided.hold(producer, Bytes::copy_from_slice(key), held);
    }

    /// A marker.
    pub fn end(&mut self, batch: &mut Batch, producer: ProducerId, commit: bool) {
        for (key, held) in self.undecided.decide(producer) {
            batch.delete_undecided(self.id, producer, &key);
            if commit && !held.is_superseded {
                batch.apply_coordinator_record(self.id, &key, Some(&held.value));
                self.supersede(batch, &key, held.at);
            }
        }
    }

    fn supersede(&mut self, batch: &mut Batch, key: &Bytes, at: Offset) {
        for producer in self.undecided.supersede(key, at) {
            if let Some(held) = self.undecided.get(producer, key) {
                let (at, value) = (held.at, &held.value);
                batch.put_undecided(self.id, &UndecidedRecord { producer, at, is_superseded: true, key, value });
            }
        }
    }
}
