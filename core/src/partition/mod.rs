//! One partition's bookkeeping: leader epochs, producers. Knows nothing of raft, files or requests.

mod epochs;
mod producers;

pub use epochs::{EpochStart, LeaderEpochs};
pub use producers::{
    Admission, BatchSequence, DecodeError, PRODUCER_BATCHES_KEPT, ProducerError, ProducerSnapshot, Producers,
};
