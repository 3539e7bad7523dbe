//! One partition's bookkeeping: leader epochs, producers and their transactions. Knows nothing of raft, files or requests.

mod aborted;
mod epochs;
mod producers;

pub use aborted::{AbortedTransaction, AbortedTransactions};
pub use epochs::{EpochStart, LeaderEpochs};
pub use producers::{
    Admission, BatchKind, BatchSequence, DecodeError, Guard, LastRecord, PRODUCER_BATCHES_KEPT, ProducerError,
    ProducerSnapshot, Producers, TxnEnd,
};
