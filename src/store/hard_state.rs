//! Raft's hard state of a partition.
//! Key: kind, partition. Value, big endian: term u64, vote u64, commit u64.

use millstream_core::replica::HardState;
use millstream_core::types::{PartitionId, PeerId, RaftIndex, RaftTerm, TopicId};
use uuid::Uuid;

use super::{Batch, Store, StoreError, kind, partition_key};

impl Batch {
    pub fn put_hard_state(&mut self, id: PartitionId, state: &HardState) {
        let mut value = [0u8; 24];
        value[..8].copy_from_slice(&state.term.0.to_be_bytes());
        value[8..16].copy_from_slice(&state.vote.0.to_be_bytes());
        value[16..].copy_from_slice(&state.commit.0.to_be_bytes());
        self.inner.put(partition_key(kind::HARD_STATE, id), value);
    }
}

impl Store {
    /// Those with a hard state: partitions of this node, and some that it had.
    pub fn hard_state_partitions(&self) -> Result<Vec<PartitionId>, StoreError> {
        let mut found = Vec::new();
        self.scan::<StoreError>(&[kind::HARD_STATE], |key, _| {
            let damaged = || StoreError::Damaged("the key of a hard state");
            let (topic, partition) = key.split_first_chunk::<16>().ok_or_else(damaged)?;
            let partition = i32::from_be_bytes(partition.try_into().map_err(|_| damaged())?);
            found.push(PartitionId { topic: TopicId(Uuid::from_bytes(*topic)), partition });
            Ok(())
        })?;
        Ok(found)
    }

    pub fn hard_state(&self, id: PartitionId) -> Result<Option<HardState>, StoreError> {
        let Some(value) = self.get(&partition_key(kind::HARD_STATE, id))? else { return Ok(None) };
        let ([term, vote, commit], []) = value.as_chunks::<8>() else {
            return Err(StoreError::Damaged("hard state"));
        };
        Ok(Some(HardState {
            term: RaftTerm(u64::from_be_bytes(*term)),
            vote: PeerId(u64::from_be_bytes(*vote)),
            commit: RaftIndex(u64::from_be_bytes(*commit)),
        }))
    }
}
