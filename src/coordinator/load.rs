//! A state machine from what is stored: the materialised records, then those of the log that came after.

use std::ops::Range;
use std::sync::Arc;

use millstream_core::coordinator::DecodeError;
use millstream_core::coordinator::undecided::InTransaction;
use millstream_core::record::{BatchHeader, Marker, RecordIter, batch_body, marker_of};
use millstream_core::types::{Offset, ProducerId};

use super::machine::Machine;
use super::materialise::Materialised;
use crate::partition::{Partition, ReadRefused};
use crate::store::{Batch, Durability, Store, StoreError, UndecidedRecord};

/// Bytes read from the log at a time.
const READ_BYTES: usize = 1 << 20;
/// Most bytes that one of our own batches inflates to.
const INFLATED_BYTES_MAX: usize = 256 << 20;

/// Why a state machine could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("{0}")]
    Read(#[from] ReadRefused),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("a stored record does not decode: {0}")]
    Decode(#[from] DecodeError),
    #[error("a batch of the log at offset {offset} does not decode: {reason}")]
    Batch { offset: Offset, reason: String },
    #[error("the log was replaced by a snapshot meanwhile")]
    Replaced,
    #[error("loading panicked")]
    Panicked,
}

/// What a replay comes to in the log.
enum Replayed<'a> {
    Record { key: &'a [u8], value: Option<&'a [u8]> },
    InTransaction { of: InTransaction, key: &'a [u8], value: Option<&'a [u8]> },
    End { producer: ProducerId, commit: bool },
}

/// Loads. Blocks for the disk. What the log holds beyond the stored records is stored as well.
pub(super) fn load<M: Machine>(
    partition: &Partition,
    store: &Store,
    config: &Arc<M::Config>,
) -> Result<(M, Materialised), LoadError> {
    let replacements = partition.replacements();
    let mut next = store.coordinator_applied(partition.id)?;
    let mut shard = M::load(config, |put| {
        store.coordinator_records(partition.id, |key, value| put(key, value).map_err(LoadError::Decode))
    })?;
    store.undecided_records(partition.id, |record| {
        let UndecidedRecord { producer, at, is_superseded, key, value } = record;
        let of = InTransaction { producer, at, is_superseded };
        shard.replay_in_transaction(of, key, Some(value)).map_err(LoadError::Decode)
    })?;
    let mut materialised = Materialised::load(store, partition.id)?;
    let end = partition.high_watermark();
    while next < end {
        next = step(partition, store, replacements, (next..end, &mut materialised), |replayed| {
            match replayed {
                Replayed::Record { key, value } => shard.replay_encoded(key, value)?,
                Replayed::InTransaction { of, key, value } => shard.replay_in_transaction(of, key, value)?,
                Replayed::End { producer, commit } => shard.end_transaction(producer, commit),
            }
            Ok(())
        })?;
    }
    Ok((shard, materialised))
}

/// Stores what is committed beyond the stored records, about a MiB of it, and gives where to go on. Blocks for the disk.
pub(super) fn materialise(partition: &Partition, store: &Store) -> Result<Offset, LoadError> {
    let replacements = partition.replacements();
    let next = store.coordinator_applied(partition.id)?;
    let end = partition.high_watermark();
    if next >= end {
        return Ok(next);
    }
    let mut materialised = Materialised::load(store, partition.id)?;
    step(partition, store, replacements, (next..end, &mut materialised), |_| Ok(()))
}

/// Replays about a MiB of the log, and stores it, unless the log was replaced since.
fn step(
    partition: &Partition,
    store: &Store,
    replacements: u64,
    (range, materialised): (Range<Offset>, &mut Materialised),
    mut replay: impl FnMut(Replayed<'_>) -> Result<(), LoadError>,
) -> Result<Offset, LoadError> {
    let mut next = range.start.max(partition.log_start());
    let bytes = partition.read_bytes(next, READ_BYTES)?;
    if bytes.is_empty() {
        return Ok(range.end);
    }
    let mut batch = Batch::default();
    let mut scratch = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let damaged = |reason: String| LoadError::Batch { offset: next, reason };
        let header = BatchHeader::parse_checked(rest).map_err(|e| damaged(e.to_string()))?;
        let (whole, after) = rest.split_at(header.size_bytes());
        rest = after;
        if header.is_control() {
            if let Some((marker, _)) = marker_of(&header, whole) {
                let (producer, commit) = (header.producer_id, marker == Marker::Commit);
                replay(Replayed::End { producer, commit })?;
                materialised.end(&mut batch, producer, commit);
            }
            next = header.next_offset();
            continue;
        }
        let damaged = |reason: String| LoadError::Batch { offset: header.base_offset, reason };
        let body = batch_body(&header, whole, INFLATED_BYTES_MAX, &mut scratch).map_err(|e| damaged(e.to_string()))?;
        for record in RecordIter::new(&header, body) {
            let record = record.map_err(|e| damaged(e.to_string()))?;
            let Some(key) = record.key.filter(|_| record.offset >= next) else { continue };
            let (value, producer, at) = (record.value, header.producer_id, record.offset);
            if header.is_transactional() {
                let of = InTransaction { producer, at, is_superseded: false };
                replay(Replayed::InTransaction { of, key, value })?;
                materialised.record_in_transaction(&mut batch, producer, at, (key, value));
            } else {
                replay(Replayed::Record { key, value })?;
                materialised.record(&mut batch, key, value);
            }
        }
        next = header.next_offset();
    }
    batch.put_coordinator_applied(partition.id, next);
    let written = partition.unless_replaced(replacements, || store.write(batch, Durability::Buffered));
    written.ok_or(LoadError::Replaced)??;
    Ok(next)
}
