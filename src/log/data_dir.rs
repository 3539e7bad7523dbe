//! A data directory (= device): `log/<topic id>/<partition>/`, `incoming/` for logs that are fetched from other
//! nodes, `damaged/` for logs that were replaced, `trash/`, its flusher and its open files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_core::types::{PartitionId, TopicId};
use tracing::{error, warn};
use uuid::Uuid;

use super::ballast::Ballast;
use super::config::{FlushConfig, FlushMethod};
use super::fd_limit::fd_share;
use super::flusher::{Dirty, FlushStats, Flusher};
use super::handles::HandleCache;
use super::partition_dir::{PartitionDir, sync_dir};

const LOG: &str = "log";
const TRASH: &str = "trash";
const INCOMING: &str = "incoming";
const DAMAGED: &str = "damaged";
/// The first kernel whose `syncfs` reports write-back errors.
const SYNCFS_KERNEL: (u32, u32) = (5, 8);

/// One for each data directory of the process.
pub struct DataDir {
    path: PathBuf,
    /// Kept open: `syncfs` reports the write-back errors since the opening of its descriptor.
    root: Arc<File>,
    flusher: Flusher,
    pub(super) handles: Arc<HandleCache>,
    ballast: Ballast,
    trashed: AtomicU64,
}

impl DataDir {
    /// Opens or makes the directory and starts the flusher. Fails when `flush.method=filesystem` is asked of a kernel
    /// before 5.8.
    pub fn open(path: &Path, flush: FlushConfig) -> io::Result<Arc<Self>> {
        let is_newborn = !path.join(LOG).exists();
        fs::create_dir_all(path.join(LOG))?;
        fs::create_dir_all(path.join(TRASH))?;
        fs::create_dir_all(path.join(INCOMING))?;
        fs::create_dir_all(path.join(DAMAGED))?;
        let root = Arc::new(File::open(path)?);
        root.sync_all()?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let syncfs_tells_errors = kernel_version(&release).is_some_and(|version| version >= SYNCFS_KERNEL);
        if flush.method == FlushMethod::Filesystem && !syncfs_tells_errors {
            let text = format!("flush.method=filesystem needs Linux 5.8 or newer, this is {release}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let handles = Arc::new(HandleCache::new(flush.open_files_max.min(fd_share()), flush.index_bytes_max));
        let ballast = Ballast::new(path, flush.ballast_bytes, is_newborn)?;
        let flusher = Flusher::start(root.clone(), flush, syncfs_tells_errors)?;
        Ok(Arc::new(Self { path: path.to_owned(), root, flusher, handles, ballast, trashed: AtomicU64::new(0) }))
    }

    /// Something found no room: the ballast is given up for what frees room again. Until it is back, nobody else
    /// should write.
    pub fn ran_full(&self) {
        self.ballast.give_up();
    }

    /// No room was found, and there is not enough of it again.
    pub fn is_full(&self) -> bool {
        self.ballast.is_spent()
    }

    /// Whether there is room for so many bytes and the ballast twice beside them.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        !self.is_full() && self.ballast.has_room_beside(bytes)
    }

    /// Looks whether a full disk has room again. To be called now and then; it may block for a moment.
    pub fn look_for_room(&self) {
        if self.is_full() {
            self.ballast.make_again();
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the files; `done` runs on a flusher thread once all that was written to them before this call, and the
    /// directory entries of new ones, are on disk. One flush at a time: while it runs, submissions gather for the
    /// next. A failed sync aborts the process. `done` must not block: other flushes wait for it.
    pub fn flush(&self, dirty: Dirty, done: Box<dyn FnOnce() + Send>) {
        self.flusher.submit(dirty, done);
    }

    pub fn flush_stats(&self) -> FlushStats {
        self.flusher.stats()
    }

    /// One `syncfs`, at start-up after recovery. A failed sync aborts the process.
    pub fn sync_all_blocking(&self) {
        if let Err(e) = nix::unistd::syncfs(&*self.root) {
            error!(error = %e, "syncfs failed, the process stops");
            std::process::abort();
        }
    }

    fn partition_path(&self, id: PartitionId) -> PathBuf {
        self.path.join(LOG).join(id.topic.to_string()).join(id.partition.to_string())
    }

    pub(super) fn partition_dir(&self, id: PartitionId) -> PartitionDir {
        PartitionDir::new(self.partition_path(id))
    }

    /// Makes the directory of a partition.
    pub(super) fn create_partition_dir(&self, id: PartitionId) -> io::Result<PartitionDir> {
        let dir = self.partition_dir(id);
        dir.create(&self.path)?;
        Ok(dir)
    }

    /// Every partition that has a directory here.
    pub fn list_partitions(&self) -> io::Result<Vec<PartitionId>> {
        let mut found = Vec::new();
        for topic in fs::read_dir(self.path.join(LOG))? {
            let topic = topic?;
            let name = topic.file_name();
            let Some(id) = name.to_str().and_then(|name| Uuid::try_parse(name).ok()) else {
                warn!(path = %topic.path().display(), "not a topic's directory, left alone");
                continue;
            };
            for partition in fs::read_dir(topic.path())? {
                let partition = partition?;
                let name = partition.file_name();
                match name.to_str().and_then(|name| name.parse().ok()).filter(|number| *number >= 0) {
                    Some(number) => found.push(PartitionId { topic: TopicId(id), partition: number }),
                    None => warn!(path = %partition.path().display(), "not a partition's directory, left alone"),
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Where the log of a partition is put together before it takes its place.
    pub(super) fn incoming_path(&self, id: PartitionId) -> PathBuf {
        self.path.join(INCOMING).join(format!("{}-{}", id.topic, id.partition))
    }

    /// Deletes what was fetched of a partition's log.
    pub fn discard_incoming(&self, id: PartitionId) -> io::Result<()> {
        match fs::remove_dir_all(self.incoming_path(id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// First step of an install: the old log goes, if a fetched one waits to take its place.
    pub fn make_way(&self, id: PartitionId) -> io::Result<()> {
        if self.incoming_path(id).is_dir() && self.has_partition(id) {
            self.move_to_trash(id)?;
        }
        Ok(())
    }

    /// Second step: a fetched log takes its place, if it has not yet, durably.
    pub fn move_in(&self, id: PartitionId) -> io::Result<()> {
        let (from, to) = (self.incoming_path(id), self.partition_path(id));
        let topic = self.path.join(LOG).join(id.topic.to_string());
        if from.is_dir() {
            fs::create_dir_all(&topic)?;
            fs::rename(&from, &to)?;
        }
        let dirs = [topic, self.path.join(LOG), self.path.join(TRASH), self.path.join(INCOMING)];
        dirs.iter().try_for_each(|dir| sync_dir(dir))
    }

    pub fn has_partition(&self, id: PartitionId) -> bool {
        self.partition_path(id).is_dir()
    }

    /// Renames the partition's directory into `trash/`. Readers with open files go on. A crash may undo it: the
    /// start finds a partition that nobody names, and moves it again.
    pub fn move_to_trash(&self, id: PartitionId) -> io::Result<()> {
        let from = self.partition_path(id);
        loop {
            let n = self.trashed.fetch_add(1, Ordering::Relaxed);
            let to = self.path.join(TRASH).join(format!("{}-{}-{n}", id.topic, id.partition));
            if to.exists() {
                continue;
            }
            fs::rename(&from, to)?;
            break;
        }
        // The topic's directory goes with its last partition.
        if let Some(topic) = from.parent()
            && let Err(e) = fs::remove_dir(topic)
            && e.kind() != io::ErrorKind::DirectoryNotEmpty
        {
            warn!(path = %topic.display(), error = %e, "empty directory stays");
        }
        Ok(())
    }

    fn damaged_path(&self, id: PartitionId) -> PathBuf {
        self.path.join(DAMAGED).join(format!("{}-{}", id.topic, id.partition))
    }

    /// Puts a damaged log aside, for nobody else may have what it holds; of two the first, which had more.
    pub fn set_aside(&self, id: PartitionId) -> io::Result<()> {
        if !self.has_partition(id) {
            return Ok(());
        }
        if self.has_damaged(id) {
            return self.move_to_trash(id);
        }
        fs::rename(self.partition_path(id), self.damaged_path(id))?;
        let topic = self.path.join(LOG).join(id.topic.to_string());
        [topic, self.path.join(DAMAGED)].iter().try_for_each(|dir| sync_dir(dir))
    }

    /// Whether a damaged log of the partition lies aside.
    pub fn has_damaged(&self, id: PartitionId) -> bool {
        self.damaged_path(id).is_dir()
    }

    /// Deletes the damaged log that lies aside. May take long: not for a loop.
    pub fn discard_damaged(&self, id: PartitionId) -> io::Result<()> {
        match fs::remove_dir_all(self.damaged_path(id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Deletes what `trash/` holds. May take long: not for a loop.
    pub fn empty_trash(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.path.join(TRASH))? {
            match fs::remove_dir_all(entry?.path()) {
                // Another one empties it, too.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }
}

/// Major and minor of a release such as `6.1.0-18-amd64`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_understood() {
        assert_eq!(kernel_version("5.8.0-1-generic"), Some((5, 8)));
        assert_eq!(kernel_version("6.18.44-x"), Some((6, 18)));
        assert_eq!(kernel_version("unknown"), None);
    }

    #[test]
    fn partitions_are_listed_and_trashed() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
        let id = |partition| PartitionId { topic: TopicId(Uuid::from_u128(1)), partition };
        for n in [3, 0] {
            dir.create_partition_dir(id(n)).unwrap();
        }
        fs::create_dir_all(root.path().join("log/strange")).unwrap();
        assert_eq!(dir.list_partitions().unwrap(), [id(0), id(3)]);
        dir.move_to_trash(id(0)).unwrap();
        dir.create_partition_dir(id(0)).unwrap();
        dir.move_to_trash(id(0)).unwrap();
        assert!(!dir.has_partition(id(0)) && dir.has_partition(id(3)));
        assert_eq!(fs::read_dir(root.path().join(TRASH)).unwrap().count(), 2);
        dir.empty_trash().unwrap();
        assert_eq!(fs::read_dir(root.path().join(TRASH)).unwrap().count(), 0);
        dir.move_to_trash(id(3)).unwrap();
        assert_eq!(dir.list_partitions().unwrap(), []);
    }
}
