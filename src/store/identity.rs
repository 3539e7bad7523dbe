//! The data directory's identity, a second copy of what `meta.properties` says.
//! Key: kind. Value: 16 bytes of the directory id.

use uuid::Uuid;

use super::{Batch, Durability, Store, StoreError, kind};

impl Store {
    pub fn directory_id(&self) -> Result<Option<Uuid>, StoreError> {
        let Some(value) = self.get(&[kind::IDENTITY])? else { return Ok(None) };
        Uuid::from_slice(&value).map(Some).map_err(|_| StoreError::Damaged("directory id"))
    }

    /// Written once, at the birth of the directory.
    pub fn set_directory_id(&self, id: Uuid) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.inner.put([kind::IDENTITY], id.as_bytes());
        self.write(batch, Durability::Synced)
    }
}
