//! Room that is given up when the disk is full, for what frees room again: RocksDB takes no write without some, and
//! retention waits for one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::statvfs::statvfs;
use tracing::{error, info, warn};

use super::io::{is_no_space, reserve};

const NAME: &str = "ballast";

/// A file of nothing in the data directory.
pub(super) struct Ballast {
    path: PathBuf,
    size_bytes: u64,
    /// It was given up, and is not back yet.
    is_spent: AtomicBool,
    /// Held while it is given up or made again.
    changing: Mutex<()>,
}

impl Ballast {
    /// Made at once; where there is no room for it the disk counts as full, and where it had been given up, there must
    /// be as much beside it.
    pub fn new(dir: &Path, size_bytes: u64, is_newborn: bool) -> io::Result<Self> {
        let ballast =
            Self { path: dir.join(NAME), size_bytes, is_spent: AtomicBool::new(false), changing: Mutex::new(()) };
        if !is_newborn && !ballast.path.exists() && !ballast.has_room() {
            ballast.give_up();
            return Ok(ballast);
        }
        match ballast.make() {
            Err(e) if is_no_space(&e) => ballast.give_up(),
            made => made?,
        }
        Ok(ballast)
    }

    fn make(&self) -> io::Result<()> {
        let file = File::create(&self.path)?;
        reserve(&file, 0, self.size_bytes)
    }

    pub fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }

    /// Something found the disk full.
    pub fn give_up(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_spent.swap(true, Ordering::Relaxed) {
            return;
        }
        error!(path = %self.path.display(), "no space left on the device: nothing is taken until there is");
        if let Err(e) = fs::remove_file(&self.path)
            && e.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %self.path.display(), error = %e, "ballast could not be given up");
        }
    }

    /// Makes it again once there is room for it and as much beside it: with less, the next records would fill the disk.
    pub fn make_again(&self) {
        let Ok(_changing) = self.changing.try_lock() else { return };
        if !self.is_spent() || !self.has_room() {
            return;
        }
        match self.make() {
            Ok(()) => {
                self.is_spent.store(false, Ordering::Relaxed);
                info!("there is space on the device again");
            }
            Err(e) => {
                warn!(path = %self.path.display(), error = %e, "ballast could not be made");
                // What was reserved of it is others' to use; an error tells nothing new.
                drop(fs::remove_file(&self.path));
            }
        }
    }

    fn has_room(&self) -> bool {
        self.has_room_beside(0)
    }

    pub fn has_room_beside(&self, bytes: u64) -> bool {
        let dir = self.path.parent().unwrap_or(&self.path);
        let free =
            |status: nix::sys::statvfs::Statvfs| status.blocks_available().saturating_mul(status.fragment_size());
        match statvfs(dir) {
            Ok(status) => free(status) >= bytes.saturating_add(2 * self.size_bytes),
            Err(e) => {
                warn!(path = %dir.display(), error = %e, "free space is not known");
                false
            }
        }
    }
}

/// Gives up the ballast of a data directory that is not open. False when there is none.
///
/// # Errors
/// It could not be removed.
pub fn give_up_ballast(dir: &Path) -> io::Result<bool> {
    match fs::remove_file(dir.join(NAME)) {
        Ok(()) => {
            error!(path = %dir.display(), "no space left on the device: the ballast is given up");
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::io::faults::{Fault, set};
    use super::*;

    const SIZE: u64 = 1 << 20;

    #[test]
    fn it_is_given_up_on_a_full_disk_and_made_again_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let taken = || fs::metadata(dir.path().join(NAME)).map_or(0, |meta| meta.blocks() * 512);
        let ballast = Ballast::new(dir.path(), SIZE, true).unwrap();
        assert_eq!((taken(), ballast.is_spent()), (SIZE, false));
        ballast.give_up();
        assert_eq!((taken(), ballast.is_spent()), (0, true));
        {
            let _full = set(dir.path(), Fault::Room(0));
            ballast.make_again();
            assert!(ballast.is_spent());
        }
        ballast.make_again();
        assert_eq!((taken(), ballast.is_spent()), (SIZE, false));
    }

    #[test]
    fn a_disk_that_is_full_at_the_start_counts_as_full() {
        let dir = tempfile::tempdir().unwrap();
        let full = set(dir.path(), Fault::Room(0));
        let ballast = Ballast::new(dir.path(), SIZE, true).unwrap();
        assert!(ballast.is_spent());
        drop(full);
        ballast.make_again();
        assert!(!ballast.is_spent());
    }
}
