//! Every segment that is read is an open file.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_fd_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// How many of the process's descriptors one part of it may take for itself: an eighth.
pub(super) fn fd_share() -> usize {
    // Where the system does not tell: an eighth of its usual 1,024.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(128, |(soft, _)| usize::try_from(soft / 8).unwrap_or(usize::MAX))
}
