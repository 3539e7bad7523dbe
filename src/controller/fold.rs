//! From the log of the metadata to the image: the same on every node.

use millstream_core::controller::{Command, CommandError, Image};
use millstream_core::record::{BatchHeader, RecordIter, batch_body};
use millstream_core::types::Offset;

use crate::partition::{Partition, ReadRefused};
use crate::store::Batch;

/// Bytes read from the log at a time.
const READ_BYTES: usize = 1 << 20;

/// Why commands that are committed cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// It may be possible later.
    #[error("metadata log: {0}")]
    Read(#[from] ReadRefused),
    #[error("{0}")]
    Command(#[from] CommandError),
    #[error("metadata log: a batch at offset {offset} does not decode: {reason}")]
    Batch { offset: Offset, reason: String },
}

/// What some commands led to.
pub(super) struct Step {
    pub image: Image,
    /// The offset of the first command that was not carried out.
    pub next: Offset,
    pub commands: Vec<Command>,
}

/// Carries out the next commands that are committed, about a MiB of them. May wait for the disk.
pub(super) fn fold(partition: &Partition, mut image: Image, from: Offset) -> Result<Step, FoldError> {
    let mut next = from;
    let mut commands = Vec::new();
    let mut scratch = Vec::new();
    let bytes = partition.read_bytes(from, READ_BYTES)?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let damaged = |reason: String| FoldError::Batch { offset: next, reason };
        let header = BatchHeader::parse_checked(rest).map_err(|e| damaged(e.to_string()))?;
        let (whole, after) = rest.split_at(header.size_bytes());
        rest = after;
        let body = batch_body(&header, whole, usize::MAX, &mut scratch).map_err(|e| damaged(e.to_string()))?;
        for record in RecordIter::new(&header, body) {
            let record = record.map_err(|e| damaged(e.to_string()))?;
            if record.offset < from {
                continue;
            }
            let command = Command::decode(record.value.unwrap_or_default())?;
            image.apply(&command);
            commands.push(command);
        }
        next = header.next_offset();
    }
    Ok(Step { image, next, commands })
}

/// Adds what commands changed, as it stands in the image after them.
pub(super) fn put_changes(batch: &mut Batch, after: &Image, commands: &[Command]) {
    for command in commands {
        for (key, value) in after.stored_changes(command) {
            match value {
                Some(value) => batch.put_metadata(&key, &value),
                None => batch.delete_metadata(&key),
            }
        }
    }
}
