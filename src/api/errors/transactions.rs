//! Those of transactions.

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::txn::TransactionError;

/// `knows_fenced`: PRODUCER_FENCED came later than transactions; before, clients know INVALID_PRODUCER_EPOCH.
pub fn of_transaction(error: TransactionError, knows_fenced: bool) -> ResponseError {
    match error {
        TransactionError::InvalidProducerIdMapping => ResponseError::InvalidProducerIdMapping,
        TransactionError::ProducerFenced if knows_fenced => ResponseError::ProducerFenced,
        TransactionError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        TransactionError::ConcurrentTransactions => ResponseError::ConcurrentTransactions,
        TransactionError::InvalidState => ResponseError::InvalidTxnState,
    }
}
