//! A map that is cheap to copy and to change after: copies share all of it but the small part that is changed.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::types::{TopicId, TopicName};

/// A change copies one of them. With 10,000 entries that is some 150.
const SHARDS: usize = 64;

/// Picks a key's shard; the same for a key and what it is borrowed as.
pub(super) trait ShardKey: Ord {
    fn shard(&self) -> usize;
}

impl ShardKey for str {
    fn shard(&self) -> usize {
        self.bytes().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte))) % SHARDS
    }
}

impl ShardKey for String {
    fn shard(&self) -> usize {
        self.as_str().shard()
    }
}

impl ShardKey for TopicName {
    fn shard(&self) -> usize {
        self.as_str().shard()
    }
}

impl ShardKey for TopicId {
    fn shard(&self) -> usize {
        let Self(id): &Self = self;
        usize::from(Uuid::as_bytes(id)[15]) % SHARDS
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shards<K, V> {
    shards: Arc<Vec<Arc<BTreeMap<K, V>>>>,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self { shards: Arc::new((0..SHARDS).map(|_| Arc::default()).collect()), len: 0 }
    }
}

impl<K: ShardKey + Clone, V: Clone> Shards<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get<Q: ShardKey + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[key.shard()].get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let shard = &mut Arc::make_mut(&mut self.shards)[key.shard()];
        if Arc::make_mut(shard).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove<Q: ShardKey + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let shard = &mut Arc::make_mut(&mut self.shards)[key.shard()];
        let removed = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// In no order that means anything, but always the same one.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}
