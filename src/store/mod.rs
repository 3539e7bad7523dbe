//! What a node keeps beside its logs, in RocksDB: hard states, checkpoints, segment facts, and the materialised
//! state of metadata and coordinators. One file per kind of key; the first byte of a key names its kind.
//!
//! Writes are `Buffered` (in the write-ahead log, which survives the process but not the machine) unless a rule
//! needs them `Synced`.

mod checkpoint;
mod coordinator;
mod hard_state;
mod held;
mod identity;
mod installing;
mod membership;
mod metadata;
mod segments;
mod synced;
mod synced_end;
mod undecided;

use std::path::{Path, PathBuf};

pub use checkpoint::{Checkpoint, CheckpointError};
use millstream_core::types::PartitionId;
use rocksdb::{
    BlockBasedIndexType, DB, DBRawIteratorWithThreadMode, Options, PrefixRange, ReadOptions, WriteBatch, WriteOptions,
};
use synced::SyncedNumber;
pub use synced_end::SyncedEnd;
pub use undecided::UndecidedRecord;

/// Kinds of keys. Numbers reach the disk: never reused.
mod kind {
    pub const IDENTITY: u8 = 1;
    pub const HARD_STATE: u8 = 2;
    pub const CHECKPOINT: u8 = 3;
    pub const SYNCED_END: u8 = 4;
    pub const SEGMENT: u8 = 5;
    pub const METADATA: u8 = 6;
    pub const COORDINATOR: u8 = 7;
    pub const COORDINATOR_APPLIED: u8 = 8;
    pub const MEMBERSHIP: u8 = 9;
    pub const INSTALLING: u8 = 10;
    pub const HELD: u8 = 11;
    pub const UNDECIDED: u8 = 12;
}

/// Bytes that a scan reads at a time.
const SCAN_READAHEAD: usize = 256 << 10;

/// How long a write must last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives `kill -9`.
    Buffered,
    /// Survives a loss of power.
    Synced,
}

/// RocksDB failed, or holds what we did not write.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. RocksDB takes writes again by itself once there is room: it looks every 5 s, and wants as
    /// much as its write buffer.
    #[error("store: {0}")]
    NoSpace(String),
    #[error("store: {0}")]
    Rocks(rocksdb::Error),
    #[error("store: the value of {0} is damaged")]
    Damaged(&'static str),
    /// Votes may be among what is lost: the disk must not speak for itself any more.
    #[error(
        "store: {path} is damaged: {found} of at least {synced} synced writes are there; empty the data directory and start \
         again, and the node comes back as a new replica where others have its data (docs/OPERATIONS.md)"
    )]
    Lost { path: PathBuf, found: u64, synced: u64 },
    #[error("store: {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

impl From<rocksdb::Error> for StoreError {
    fn from(e: rocksdb::Error) -> Self {
        // RocksDB's own words for this one cause; the crate hands on nothing else of it.
        if e.as_ref().contains("No space left on device") { Self::NoSpace(e.into_string()) } else { Self::Rocks(e) }
    }
}

/// The database of a node.
pub struct Store {
    db: DB,
    synced: SyncedNumber,
    /// Lets every write fail as on a full disk.
    #[cfg(test)]
    pub full: std::sync::atomic::AtomicBool,
}

/// Writes that take effect together or not at all.
#[derive(Default)]
pub struct Batch {
    inner: WriteBatch,
}

impl Clone for Batch {
    fn clone(&self) -> Self {
        Self { inner: WriteBatch::from_data(self.inner.data()) }
    }
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
}

impl Store {
    /// Opens or creates the database in `path`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        // The node idles under 64 MiB: small buffers, and few of them.
        options.set_write_buffer_size(8 << 20);
        options.set_max_write_buffer_number(3);
        options.set_db_write_buffer_size(16 << 20);
        options.set_max_total_wal_size(64 << 20);
        options.set_keep_log_file_num(2);
        options.set_max_open_files(256);
        options.set_max_background_jobs(2);
        // A flush round of the log must never wait for a burst of RocksDB's own bytes.
        options.set_bytes_per_sync(8 << 20);
        options.set_wal_bytes_per_sync(8 << 20);
        // A torn end of the write-ahead log is an ordinary crash, also one with holes; damage before it is not, see below.
        options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::PointInTime);
        let mut table = rocksdb::BlockBasedOptions::default();
        table.set_block_cache(&rocksdb::Cache::new_lru_cache(8 << 20));
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        // In small parts, of which the cache holds those in use: whole ones of large files would push each other out, and
        // be read again for every key.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(16 << 10);
        table.set_block_size(16 << 10);
        table.set_pin_top_level_index_and_filter(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        options.set_block_based_table_factory(&table);
        options.set_compression_type(rocksdb::DBCompressionType::None);
        let db = DB::open(&options, path)?;
        let synced = SyncedNumber::open(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        let found = db.latest_sequence_number();
        if found < synced.get() {
            return Err(StoreError::Lost { path: path.to_owned(), found, synced: synced.get() });
        }
        Ok(Self {
            db,
            synced,
            #[cfg(test)]
            full: Default::default(),
        })
    }

    /// Writes a batch. `Synced` blocks for the disk: call it where blocking is allowed.
    pub fn write(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.full.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(StoreError::NoSpace("a test's full disk".into()));
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        // What was written before goes with it; beside it, others may write what is not synced yet.
        let reaches = self.db.latest_sequence_number() + batch.inner.len() as u64;
        self.db.write_opt(batch.inner, &options)?;
        if durability == Durability::Synced {
            self.synced.raise(reaches);
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key)?)
    }

    /// Calls `each` with (rest of key, value) for every key that begins with `prefix`, in key order.
    fn scan<E: From<StoreError>>(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut options = ReadOptions::default();
        // Each is read once, at a start: the cache is for others.
        options.fill_cache(false);
        options.set_readahead_size(SCAN_READAHEAD);
        options.set_iterate_range(PrefixRange(prefix));
        let mut it: DBRawIteratorWithThreadMode<'_, DB> = self.db.raw_iterator_opt(options);
        it.seek(prefix);
        while let Some((key, value)) = it.item() {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            each(rest, value)?;
            it.next();
        }
        it.status().map_err(|e| E::from(StoreError::from(e)))
    }

    /// Deletes every key that begins with `prefix`.
    fn delete_prefix(&self, batch: &mut Batch, prefix: &[u8]) -> Result<(), StoreError> {
        self.scan::<StoreError>(prefix, |rest, _| {
            batch.inner.delete([prefix, rest].concat());
            Ok(())
        })
    }

    /// Adds to `batch` the deletion of all that is kept about a partition, but for that which a replica without its log
    /// must not forget (`held`).
    pub fn forget_partition(&self, batch: &mut Batch, id: PartitionId) -> Result<(), StoreError> {
        for kind in [kind::HARD_STATE, kind::MEMBERSHIP, kind::COORDINATOR_APPLIED] {
            batch.inner.delete(partition_key(kind, id));
        }
        self.delete_prefix(batch, &partition_key(kind::COORDINATOR, id))?;
        self.delete_prefix(batch, &partition_key(kind::UNDECIDED, id))?;
        self.forget_log(batch, id)
    }

    /// Adds to `batch` the deletion of all that is kept about a partition's log. Who the members are stays: it was committed.
    pub fn forget_log(&self, batch: &mut Batch, id: PartitionId) -> Result<(), StoreError> {
        for kind in [kind::CHECKPOINT, kind::SYNCED_END, kind::INSTALLING] {
            batch.inner.delete(partition_key(kind, id));
        }
        self.delete_prefix(batch, &partition_key(kind::SEGMENT, id))
    }
}

/// kind u8, topic id 16 bytes, partition i32: 21 bytes.
fn partition_key(kind: u8, id: PartitionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(40);
    key.push(kind);
    key.extend_from_slice(id.topic.0.as_bytes());
    key.extend_from_slice(&id.partition.to_be_bytes());
    key
}

#[cfg(test)]
mod tests;
