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
    let (from, len) = (from, to.saturating_sub(from));
    let from = i64::try_from(from).map_err(io::Error::other)?;
    let len = i64::try_from(len).map_err(io::Error::other)?;
    if len == 0 {
        return Ok(());
    }
    #[cfg(test)]
    faults::reserve()?;
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

/// A disk of this thread that runs full.
#[cfg(test)]
pub(super) mod faults {
    use std::cell::Cell;
    use std::fs::File;
    use std::io::{self, IoSlice};

    use nix::errno::Errno;
    use nix::sys::uio::pwritev;

    thread_local! {
        static ROOM: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// From now on this thread may write so many bytes and reserve nothing; `None`: no limit.
    pub fn set_room(bytes: Option<usize>) {
        ROOM.set(bytes);
    }

    /// Writes what fits, as a disk does, and fails when that is not all.
    pub fn write(file: &File, buffers: &[IoSlice<'_>], at: i64) -> io::Result<()> {
        let Some(room) = ROOM.get() else { return Ok(()) };
        let all = buffers.iter().flat_map(|b| b.iter().copied()).collect::<Vec<u8>>();
        if all.len() <= room {
            ROOM.set(Some(room - all.len()));
            return Ok(());
        }
        ROOM.set(Some(0));
        pwritev(file, &[IoSlice::new(&all[..room])], at)?;
        Err(Errno::ENOSPC.into())
    }

    pub fn reserve() -> io::Result<()> {
        if ROOM.get().is_some() { Err(Errno::ENOSPC.into()) } else { Ok(()) }
    }
}
