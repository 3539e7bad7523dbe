//! How far the store is known to be on disk: so that damage to what was synced is told from a torn end.
//!
//! After a loss of power the write-ahead log may have holes behind its synced part: blocks reach the disk in any order.
//! RocksDB is told to stop at the first. That damage lies before the synced end it cannot know: so the number of the last
//! write that is synced is kept in the file `SYNCED` beside its own: number u64, crc32c u32, big endian. The file itself is
//! not synced: it says too little then, never too much.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use millstream_core::record::crc32c;

const NAME: &str = "SYNCED";

/// The file. Its lock guards the number in it.
pub(super) struct SyncedNumber {
    file: File,
    number: Mutex<u64>,
}

impl SyncedNumber {
    /// `path`: the directory of the database.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join(NAME))?;
        let mut bytes = [0; 12];
        let is_whole = file.read_exact_at(&mut bytes, 0).is_ok();
        let number = if is_whole { decode(&bytes) } else { None };
        Ok(Self { file, number: Mutex::new(number.unwrap_or(0)) })
    }

    /// The last write that is known to be synced; 0: none is.
    pub fn get(&self) -> u64 {
        *self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All up to this write is synced. Where it cannot be noted (a full disk), less is known, and no harm done.
    pub fn raise(&self, to: u64) {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        if to <= *number {
            return;
        }
        match self.file.write_all_at(&encode(to), 0) {
            Ok(()) => *number = to,
            Err(error) => tracing::debug!(%error, "the synced number of the store is not noted"),
        }
    }
}

fn encode(number: u64) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&number.to_be_bytes());
    out[8..].copy_from_slice(&crc32c(&number.to_be_bytes()).to_be_bytes());
    out
}

fn decode(bytes: &[u8; 12]) -> Option<u64> {
    let (number, crc) = bytes.split_first_chunk::<8>()?;
    (crc == crc32c(number).to_be_bytes()).then_some(u64::from_be_bytes(*number))
}
