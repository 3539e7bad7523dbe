//! A partition's directory, and its files as the flusher sees them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// `log/<topic id>/<partition>/`.
pub(super) struct PartitionDir {
    path: PathBuf,
    /// Directories in which an entry was made that no sync has covered yet.
    unsynced: Mutex<Vec<PathBuf>>,
}

impl PartitionDir {
    pub fn new(path: PathBuf) -> Self {
        Self { path, unsynced: Mutex::new(Vec::new()) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory and those above it up to `root`, which exists.
    pub fn create(&self, root: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = self.path.ancestors().take_while(|path| *path != root && !path.exists()).collect();
        fs::create_dir_all(&self.path)?;
        let mut unsynced = self.lock();
        unsynced.extend(missing.iter().filter_map(|path| path.parent()).map(Path::to_path_buf));
        Ok(())
    }

    /// A file was made in the directory: the next flush syncs the directory too.
    pub fn file_was_made(&self) {
        let mut unsynced = self.lock();
        if !unsynced.contains(&self.path) {
            unsynced.push(self.path.clone());
        }
    }

    /// Directories to sync; they count as synced from now on.
    pub fn take_unsynced(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.lock())
    }

    /// Syncs the directory now, whatever the flusher does: a removal in it has to be durable before the next step.
    pub fn sync_now(&self) -> io::Result<()> {
        sync_dir(&self.path)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Syncs a directory. One that went away needs no sync.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|dir| dir.sync_all()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// A file of the log as the flusher sees it.
pub struct SegmentFile {
    pub(super) file: Arc<File>,
    pub(super) dir: Arc<PartitionDir>,
}

impl std::fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentFile").field("dir", &self.dir.path()).finish_non_exhaustive()
    }
}
