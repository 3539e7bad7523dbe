//! What can go wrong, one enum an operation.

use std::io;
use std::path::PathBuf;

use millstream_core::types::{Offset, RaftIndex};

/// Why the log could not be written. After anything but `NoSpace` of `reserve` this log takes no more
/// appends: the caller halts the replica and opens it again from disk.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("no space left on the device")]
    NoSpace,
    #[error("an earlier write failed: the log must be opened again")]
    Failed,
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a range could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// `try_…` only: the answer lies on disk and not in memory. Ask again from a thread that may wait.
    #[error("not in memory")]
    Cold,
    /// The segment was deleted while its reader held an older view: look at the log start and ask again.
    #[error("segment {base_offset} is gone")]
    Gone { base_offset: Offset },
    /// The index is not in the log (any more): compacted, deleted or not yet written.
    #[error("raft index {index} is not in the log")]
    NoEntry { index: RaftIndex },
    /// Bytes that were sound when written are not. Never retried: the replica is halted.
    #[error("{place}")]
    Corrupt { place: LostPlace },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// A place in a file where something else stands than what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostPlace {
    pub path: PathBuf,
    /// Byte in that file.
    pub position: u64,
    pub reason: String,
}

impl std::fmt::Display for LostPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.path.display(), self.position, self.reason)
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is missing or holds no whole segment header, and nothing was ever known to be synced:
    /// a partition that crashed at its birth. `Log::create` may be called.
    #[error("no segment was ever written")]
    Newborn,
    /// Something below the synced end is missing or damaged.
    #[error("lost: {place}")]
    Lost { place: LostPlace },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}
