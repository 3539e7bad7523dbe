//! Where recovery of a partition begins: a position in its log and the state folded up to there.
//!
//! Key: kind, partition. Value, big endian: version u8, log position (length u32, the log's own encoding), log start
//! offset i64, applied index u64, epochs (count u32; each term u64, start index u64, start offset i64), aborted
//! transactions (their own encoding), producers (to the end, their own encoding). Version 1, of before there were
//! transactions, has none that were aborted.

use std::borrow::Cow;

use millstream_core::partition::{AbortedTransactions, EpochStart, LeaderEpochs, Producers};
use millstream_core::types::{Offset, PartitionId, RaftIndex, RaftTerm};

use super::{Batch, Store, StoreError, kind, partition_key};

const VERSION: u8 = 2;
/// The oldest that is still read.
const VERSION_MIN: u8 = 1;

/// Everything up to `log` is synced, committed and folded in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint<'a> {
    /// The log's own encoding of the position.
    pub log: Vec<u8>,
    pub log_start: Offset,
    pub applied: RaftIndex,
    pub epochs: LeaderEpochs,
    pub producers: Cow<'a, Producers>,
    /// Whose markers are in the log.
    pub aborted: Cow<'a, AbortedTransactions>,
}

/// The stored bytes are no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checkpoint is damaged")]
pub struct CheckpointError;

impl Checkpoint<'_> {
    /// The layout above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        // A position is some 50 bytes, the table as long as there were leaders.
        out.extend_from_slice(&(self.log.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.log);
        out.extend_from_slice(&self.log_start.0.to_be_bytes());
        out.extend_from_slice(&self.applied.0.to_be_bytes());
        out.extend_from_slice(&(self.epochs.starts().len() as u32).to_be_bytes());
        for e in self.epochs.starts() {
            out.extend_from_slice(&e.term.0.to_be_bytes());
            out.extend_from_slice(&e.start_index.0.to_be_bytes());
            out.extend_from_slice(&e.start_offset.0.to_be_bytes());
        }
        self.aborted.encode(&mut out);
        self.producers.encode(&mut out);
        out
    }

    /// Reads what `encode` wrote.
    pub fn decode(mut input: &[u8]) -> Result<Checkpoint<'static>, CheckpointError> {
        let [version] = take(&mut input)?;
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Err(CheckpointError);
        }
        let len = u32::from_be_bytes(take(&mut input)?) as usize;
        let (log, rest) = input.split_at_checked(len).ok_or(CheckpointError)?;
        input = rest;
        let log_start = Offset(i64::from_be_bytes(take(&mut input)?));
        let applied = RaftIndex(u64::from_be_bytes(take(&mut input)?));
        let mut epochs = LeaderEpochs::default();
        let mut previous = EpochStart { term: RaftTerm(0), start_index: RaftIndex(0), start_offset: Offset(0) };
        for _ in 0..u32::from_be_bytes(take(&mut input)?) {
            let start = EpochStart {
                term: RaftTerm(u64::from_be_bytes(take(&mut input)?)),
                start_index: RaftIndex(u64::from_be_bytes(take(&mut input)?)),
                start_offset: Offset(i64::from_be_bytes(take(&mut input)?)),
            };
            if start.term <= previous.term || start.start_index <= previous.start_index {
                return Err(CheckpointError);
            }
            epochs.note(start.term, start.start_index, start.start_offset);
            previous = start;
        }
        let aborted = match version {
            1 => AbortedTransactions::default(),
            _ => AbortedTransactions::decode(&mut input).map_err(|_| CheckpointError)?,
        };
        let producers = Producers::decode_version(version, input).map_err(|_| CheckpointError)?;
        let (log, producers, aborted) = (log.to_vec(), Cow::Owned(producers), Cow::Owned(aborted));
        Ok(Checkpoint { log, log_start, applied, epochs, producers, aborted })
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], CheckpointError> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or(CheckpointError)?;
    *input = rest;
    Ok(*head)
}

impl Batch {
    pub fn put_checkpoint(&mut self, id: PartitionId, checkpoint: &Checkpoint<'_>) {
        self.inner.put(partition_key(kind::CHECKPOINT, id), checkpoint.encode());
    }
}

impl Store {
    pub fn checkpoint(&self, id: PartitionId) -> Result<Option<Checkpoint<'static>>, StoreError> {
        let Some(value) = self.get(&partition_key(kind::CHECKPOINT, id))? else { return Ok(None) };
        Checkpoint::decode(&value).map(Some).map_err(|_| StoreError::Damaged("checkpoint"))
    }
}
