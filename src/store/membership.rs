//! Who belongs to a partition's group, as the entries up to an index made it.
//! Key: kind, partition. Value: index u64, big endian; the membership in its own encoding. Written buffered when the
//! entry is applied, before any applied index from there on; synced with the install of a snapshot.

use millstream_core::replica::Membership;
use millstream_core::types::{PartitionId, RaftIndex};

use super::{Batch, Store, StoreError, kind, partition_key};

impl Batch {
    /// `index`: of the entry that made the membership.
    pub fn put_membership(&mut self, id: PartitionId, membership: &Membership, index: RaftIndex) {
        let value = [&index.0.to_be_bytes()[..], &membership.encode()].concat();
        self.inner.put(partition_key(kind::MEMBERSHIP, id), value);
    }
}

impl Store {
    /// The membership and the index of the entry that made it; `None` where none was applied since the birth.
    pub fn membership(&self, id: PartitionId) -> Result<Option<(Membership, RaftIndex)>, StoreError> {
        let Some(value) = self.get(&partition_key(kind::MEMBERSHIP, id))? else { return Ok(None) };
        let damaged = StoreError::Damaged("membership");
        let Some((index, membership)) = value.split_first_chunk() else { return Err(damaged) };
        let membership = Membership::decode(membership).map_err(|_| damaged)?;
        Ok(Some((membership, RaftIndex(u64::from_be_bytes(*index)))))
    }
}
