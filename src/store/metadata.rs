//! The metadata image, one key an entity, and the offset up to which it is applied.
//! Keys: kind, then the entity's own key; the empty entity key holds the applied offset, i64.

use millstream_core::types::Offset;

use super::{Batch, Store, StoreError, kind};

impl Batch {
    /// # Panics
    /// On an empty `key`: it is the applied offset's.
    pub fn put_metadata(&mut self, key: &[u8], value: &[u8]) {
        assert!(!key.is_empty(), "an entity has a key");
        self.inner.put([&[kind::METADATA], key].concat(), value);
    }

    pub fn delete_metadata(&mut self, key: &[u8]) {
        assert!(!key.is_empty(), "an entity has a key");
        self.inner.delete([&[kind::METADATA], key].concat());
    }

    /// `next`: the offset after the last applied record.
    pub fn put_metadata_applied(&mut self, next: Offset) {
        self.inner.put([kind::METADATA], next.0.to_be_bytes());
    }
}

impl Store {
    /// Every entity's key and value, and the offset after the last applied record (0 when there is none).
    #[allow(clippy::type_complexity, reason = "read once, by one caller")]
    pub fn metadata(&self) -> Result<(Offset, Vec<(Vec<u8>, Vec<u8>)>), StoreError> {
        let (mut applied, mut entities) = (Offset::ZERO, Vec::new());
        self.scan::<StoreError>(&[kind::METADATA], |key, value| {
            if key.is_empty() {
                let value = value.try_into().map_err(|_| StoreError::Damaged("applied metadata offset"))?;
                applied = Offset(i64::from_be_bytes(value));
            } else {
                entities.push((key.to_vec(), value.to_vec()));
            }
            Ok(())
        })?;
        Ok((applied, entities))
    }
}
