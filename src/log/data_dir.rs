//! A data directory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use millstream_core::types::PartitionId;

use super::config::FlushConfig;

/// A file of the log as the flusher sees it.
pub struct SegmentFile {}

/// A data directory (= device): `log/<topic id>/<partition>/`, `trash/`, and the flusher.
pub struct DataDir {}

impl DataDir {
    /// Opens or makes the directory and starts the flusher's threads.
    pub fn open(_path: &Path, _flush: FlushConfig) -> io::Result<Arc<Self>> {
        todo!()
    }

    pub fn path(&self) -> &Path {
        todo!()
    }

    /// Syncs the files; `done` runs on a flusher thread once all that was written to them before this call is on
    /// disk. One flush at a time: while one runs, submissions gather for the next. A failed sync aborts the process.
    pub fn flush(&self, _files: Vec<Arc<SegmentFile>>, _done: Box<dyn FnOnce() + Send>) {
        todo!()
    }

    /// One `syncfs`, at start-up after recovery. A failed sync aborts the process.
    pub fn sync_all_blocking(&self) {
        todo!()
    }

    pub fn list_partitions(&self) -> io::Result<Vec<PartitionId>> {
        todo!()
    }

    pub fn has_partition(&self, _id: PartitionId) -> bool {
        todo!()
    }

    /// Renames the partition's directory into `trash/`. Readers with open files go on.
    pub fn move_to_trash(&self, _id: PartitionId) -> io::Result<()> {
        todo!()
    }

    /// Deletes what `trash/` holds. May take long: not for a loop.
    pub fn empty_trash(&self) -> io::Result<()> {
        todo!()
    }
}
