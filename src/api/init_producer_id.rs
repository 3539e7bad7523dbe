//! InitProducerId (22): identities for idempotent producers. Transactions are not served: a transactional id is refused.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{BoxFuture, Context, Outcome, Request, Session, errors};

/// "None" on the wire, for the id and the epoch.
const NONE: i16 = -1;

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: InitProducerIdRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let timeout_max = context.controller.look(|now| now.settings.integer("transaction.max.timeout.ms"));
        let given = match check(&asked, timeout_max) {
            Ok(()) => context.controller.next_producer_id().await.map_err(|e| errors::of_producer_id(&e)),
            Err(error) => Err(error),
        };
        let body = match given {
            Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id.0)).with_producer_epoch(0),
            Err(error) => InitProducerIdResponse::default()
                .with_error_code(error.code())
                .with_producer_id(ProducerId(i64::from(NONE)))
                .with_producer_epoch(NONE),
        };
        Outcome::reply(&request.header, &body)
    })
}

/// What Kafka checks, in its order (`TransactionCoordinator.handleInitProducerId`). An idempotent producer that brings
/// its old identity gets a new one like any other.
fn check(asked: &InitProducerIdRequest, transaction_timeout_max_ms: i64) -> Result<(), ResponseError> {
    if (asked.producer_id.0 == i64::from(NONE)) != (asked.producer_epoch == NONE) {
        return Err(ResponseError::InvalidRequest);
    }
    let Some(transactional_id) = &asked.transactional_id else { return Ok(()) };
    let timeout_ms = i64::from(asked.transaction_timeout_ms);
    if transactional_id.is_empty() {
        Err(ResponseError::InvalidRequest)
    } else if timeout_ms <= 0 || timeout_ms > transaction_timeout_max_ms {
        Err(ResponseError::InvalidTransactionTimeout)
    } else {
        // Of all codes the one at which Java's client and librdkafka both give up at once, rather than try again until
        // their time is over.
        Err(ResponseError::TransactionalIdAuthorizationFailed)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TransactionalId;

    use super::*;
    use crate::protocol::StrBytes;

    fn ask(id: Option<&'static str>, timeout_ms: i32, identity: (i64, i16)) -> Result<(), ResponseError> {
        let asked = InitProducerIdRequest::default()
            .with_transactional_id(id.map(|id| TransactionalId(StrBytes::from_static_str(id))))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(identity.0))
            .with_producer_epoch(identity.1);
        check(&asked, 900_000)
    }

    #[test]
    fn an_idempotent_producer_needs_no_timeout_and_may_bring_an_identity() {
        assert_eq!(ask(None, 0, (-1, -1)), Ok(()));
        assert_eq!(ask(None, i32::MAX, (5, 3)), Ok(()));
        assert_eq!(ask(None, 0, (5, -1)), Err(ResponseError::InvalidRequest));
        assert_eq!(ask(None, 0, (-1, 0)), Err(ResponseError::InvalidRequest));
    }

    #[test]
    fn a_transactional_id_is_refused_for_what_is_wrong_first() {
        assert_eq!(ask(Some(""), 0, (-1, -1)), Err(ResponseError::InvalidRequest));
        for timeout_ms in [0, -1, i32::MIN, 900_001] {
            assert_eq!(ask(Some("t"), timeout_ms, (-1, -1)), Err(ResponseError::InvalidTransactionTimeout));
        }
        assert_eq!(ask(Some("t"), 900_000, (-1, -1)), Err(ResponseError::TransactionalIdAuthorizationFailed));
    }
}
