//! The few system calls of the write path, and, in tests, a disk that can be full.

use std::fs::File;
use std::io::{self, IoSlice};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::pwritev;

/// Most buffers the kernel takes at once (`IOV_MAX`).
const IOV_MAX: usize = 1024;

/// Writes all buffers one after the other from `position` on: one call, unless there are very many or the kernel
/// takes less.
pub(super) fn write_all_at(file: &File, mut buffers: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
    while buffers.first().is_some_and(|first| first.is_empty()) {
        buffers = &mut buffers[1..];
    }
    while !buffers.is_empty() {
        let batch = &buffers[..buffers.len().min(IOV_MAX)];
        let at = i64::try_from(position).map_err(io::Error::other)?;
        #[cfg(test)]
        faults::write(file, batch, at)?;
        let written = match pwritev(file, batch, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e.into()),
        };
        position += written as u64;
        IoSlice::advance_slices(&mut buffers, written);
    }
    Ok(())
}

/// Reserves blocks for `from..to` without changing the file's size. `Ok` also where the file system cannot.
pub(super) fn reserve(file: &File, from: u64, to: u64) -> io::Result<()> {
    #[cfg(test)]
    faults::reserve(file, from, to)?;
    let len = i64::try_from(to.saturating_sub(from)).map_err(io::Error::other)?;
    let from = i64::try_from(from).map_err(io::Error::other)?;
    if len == 0 {
        return Ok(());
    }
    loop {
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, len) {
            Err(Errno::EINTR) => {}
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// The disk, or the quota on it, is used up.
pub(super) fn is_no_space(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Disks that misbehave.
#[cfg(test)]
pub mod faults {
    use std::fs::{self, File};
    use std::io::{self, IoSlice};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    use nix::errno::Errno;
    use nix::sys::uio::pwritev;

    /// What is wrong with the disk of a directory.
    #[derive(Clone, Copy)]
    pub enum Fault {
        /// So many bytes can be written, and nothing reserved.
        Room(usize),
        /// Its files may take so many bytes of the disk.
        Quota(u64),
        /// Nothing can be written; what is reserved is there.
        Write(Errno),
    }

    /// By directory, for a log is written by many threads, and each test has a directory of its own.
    static FAULTS: Mutex<Vec<(PathBuf, Fault)>> = Mutex::new(Vec::new());

    /// The disk is well again when this is dropped.
    pub struct Faulty(PathBuf);

    /// What lies below the directory meets the fault from now on.
    pub fn set(dir: &Path, fault: Fault) -> Faulty {
        let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|(path, _)| path != dir);
        faults.push((dir.to_owned(), fault));
        Faulty(dir.to_owned())
    }

    impl Drop for Faulty {
        fn drop(&mut self) {
            FAULTS.lock().unwrap_or_else(PoisonError::into_inner).retain(|(path, _)| *path != self.0);
        }
    }

    fn with<T>(file: &File, look: impl FnOnce(&Path, &mut Fault) -> io::Result<T>) -> Option<io::Result<T>> {
        let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.is_empty() {
            return None;
        }
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let (dir, fault) = faults.iter_mut().find(|(dir, _)| path.starts_with(dir))?;
        Some(look(dir, fault))
    }

    fn used(dir: &Path) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            bytes += if meta.is_dir() { used(&entry.path())? } else { meta.blocks() * 512 };
        }
        Ok(bytes)
    }

    /// Writes what fits, as a disk does, and fails when that is not all.
    pub fn write(file: &File, buffers: &[IoSlice<'_>], at: i64) -> io::Result<()> {
        let all = buffers.iter().flat_map(|b| b.iter().copied()).collect::<Vec<u8>>();
        let looked = with(file, |dir, fault| match fault {
            Fault::Room(room) if all.len() <= *room => {
                *room -= all.len();
                Ok(())
            }
            Fault::Room(room) => {
                pwritev(file, &[IoSlice::new(&all[..std::mem::take(room)])], at)?;
                Err(Errno::ENOSPC.into())
            }
            Fault::Quota(most) => {
                let meta = file.metadata()?;
                let need = at.cast_unsigned() + all.len() as u64;
                let more = need.saturating_sub(meta.blocks() * 512);
                if used(dir)? + more <= *most { Ok(()) } else { Err(Errno::ENOSPC.into()) }
            }
            Fault::Write(errno) => Err((*errno).into()),
        });
        looked.unwrap_or(Ok(()))
    }

    pub fn reserve(file: &File, from: u64, to: u64) -> io::Result<()> {
        let looked = with(file, |dir, fault| match fault {
            Fault::Room(_) => Err(Errno::ENOSPC.into()),
            Fault::Quota(most) if used(dir)? + to.saturating_sub(from) > *most => Err(Errno::ENOSPC.into()),
            Fault::Quota(_) | Fault::Write(_) => Ok(()),
        });
        looked.unwrap_or(Ok(()))
    }
}
