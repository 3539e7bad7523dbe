//! Reads that do not wait for the disk: `preadv2(RWF_NOWAIT)`, which neither std nor nix offers.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Reads what the page cache holds at `position`. `WouldBlock`: the disk would have to be asked. Fewer bytes than the
/// buffer takes: the end of the file, or of what is cached. Where the file system cannot tell, it just reads.
#[allow(unsafe_code)] // No safe wrapper of preadv2 with flags exists.
pub(super) fn read_cached(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let at = i64::try_from(position).map_err(io::Error::other)?;
    let iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: `iov` is one buffer that lives, writable and unaliased, until the call returns; the kernel writes at
    // most `iov_len` bytes into it. The descriptor is open as long as `file` is borrowed.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const iov, 1, at, libc::RWF_NOWAIT) };
    match usize::try_from(read) {
        Ok(read) => Ok(read),
        Err(_) => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                std::os::unix::fs::FileExt::read_at(file, buffer, position)
            }
            e => Err(e),
        },
    }
}

/// Distance of the bytes that `is_cached` looks at: pages come and go in larger runs.
const PROBE_STEP: u64 = 256 * 1024;

/// The range is in the page cache, as far as samples tell.
pub(super) fn is_cached(file: &File, position: u64, len: u64) -> bool {
    let Some(last) = (position + len).checked_sub(1) else { return true };
    let cached = |at| read_cached(file, &mut [0], at).is_ok();
    let mut at = position;
    while at < last {
        if !cached(at) {
            return false;
        }
        at += PROBE_STEP;
    }
    len == 0 || cached(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_was_just_written_is_cached() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 1000], 0).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(read_cached(&file, &mut buffer, 950).unwrap(), 50);
        assert_eq!(buffer[..50], [7; 50]);
        assert!(is_cached(&file, 0, 1000));
    }
}
