//! Disks that are small.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;

/// A small file system in memory; unmounted when dropped.
pub struct SmallDisk(pub PathBuf, Option<tempfile::TempDir>);

impl SmallDisk {
    /// None where this process may not mount.
    pub fn mount(megabytes: u32) -> Option<SmallDisk> {
        let directory = tempfile::TempDir::new().expect("temporary directory");
        let path = directory.path().to_owned();
        let options = format!("size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "millstream-test"]).arg(&path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIP: a file system cannot be mounted here");
            return None;
        }
        Some(SmallDisk(path, Some(directory)))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "umount");
        drop(self.1.take());
    }
}

/// Fills a file system but for some megabytes.
pub fn fill(disk: &Path, but_megabytes: u64) -> PathBuf {
    let file = disk.join("filler");
    let filler = std::fs::File::create(&file).expect("filler");
    loop {
        let status = nix::sys::statvfs::statvfs(disk).expect("statvfs");
        let free = status.blocks_available() * status.fragment_size();
        let size = free.saturating_sub(but_megabytes << 20);
        match nix::fcntl::posix_fallocate(&filler, 0, i64::try_from(size).expect("size")) {
            Ok(()) => return file,
            // A broker that runs has taken some of it meanwhile.
            Err(Errno::ENOSPC) => filler.set_len(0).expect("room again"),
            Err(e) => panic!("fallocate: {e}"),
        }
    }
}
