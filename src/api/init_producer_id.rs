//! InitProducerId (22): identities for idempotent producers, and for transactional ones, which fence those before them.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use millstream_core::coordinator::txn::{Command, InitProducerId, Producer, Reply, TransactionalId};
use millstream_core::security::Operation;
use millstream_core::types::ProducerEpoch;

use super::transactions::{producer, transactional_id};
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};

/// "None" on the wire, for the id and the epoch.
const NONE: i16 = -1;
/// From this version on clients know PRODUCER_FENCED.
const KNOWS_FENCED_FROM: i16 = 4;

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: InitProducerIdRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let begun = match may(&request.access, &asked) {
            Ok(()) => begin(context, &asked, request.header.version).await,
            Err(error) => Err(error),
        };
        let body = match begun {
            Ok(Producer { id, epoch }) => {
                InitProducerIdResponse::default().with_producer_id(ProducerId(id.0)).with_producer_epoch(epoch.0)
            }
            Err(error) => InitProducerIdResponse::default()
                .with_error_code(error.code())
                .with_producer_id(ProducerId(i64::from(NONE)))
                .with_producer_epoch(NONE),
        };
        Outcome::reply(&request.header, &body)
    })
}

/// Who has no transactional id may be idempotent if it may write anywhere (KIP-679).
fn may(access: &Access, asked: &InitProducerIdRequest) -> Result<(), ResponseError> {
    match &asked.transactional_id {
        Some(id) => access.check(Operation::Write, Resource::TransactionalId(id)),
        None if access.may_quietly(Operation::IdempotentWrite, Resource::Cluster) => Ok(()),
        None if access.may_write_somewhere() => Ok(()),
        None => access.check(Operation::IdempotentWrite, Resource::Cluster),
    }
}

async fn begin(context: &Context, asked: &InitProducerIdRequest, version: i16) -> Result<Producer, ResponseError> {
    let timeout_max = context.controller.look(|now| now.settings.integer("transaction.max.timeout.ms"));
    let Some(id) = check(asked, timeout_max)? else {
        let id = context.controller.next_producer_id().await.map_err(|e| errors::of_producer_id(&e))?;
        return Ok(Producer { id, epoch: ProducerEpoch(0) });
    };
    let expected = Some(producer(asked.producer_id, asked.producer_epoch)).filter(|_| asked.producer_epoch != NONE);
    let timeout_ms = asked.transaction_timeout_ms;
    let name = id.clone();
    let command = move |token, fresh| {
        let id = id.clone();
        Command::InitProducerId(InitProducerId { token, id, timeout_ms, expected, fresh })
    };
    match context.transaction_reply_with_id(&name, command).await? {
        Reply::InitProducerId(begun) => begun.map_err(|e| errors::of_transaction(e, version >= KNOWS_FENCED_FROM)),
        other => unreachable!("a producer's begin was answered with {other:?}"),
    }
}

/// What Kafka checks, in its order (`TransactionCoordinator.handleInitProducerId`). `None`: there is no transactional id.
/// An idempotent producer that brings its old identity gets a new one like any other.
fn check(
    asked: &InitProducerIdRequest,
    transaction_timeout_max_ms: i64,
) -> Result<Option<TransactionalId>, ResponseError> {
    if (asked.producer_id.0 == i64::from(NONE)) != (asked.producer_epoch == NONE) {
        return Err(ResponseError::InvalidRequest);
    }
    let Some(id) = &asked.transactional_id else { return Ok(None) };
    let id = transactional_id(id).ok_or(ResponseError::InvalidRequest)?;
    let timeout_ms = i64::from(asked.transaction_timeout_ms);
    if timeout_ms <= 0 || timeout_ms > transaction_timeout_max_ms {
        return Err(ResponseError::InvalidTransactionTimeout);
    }
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;

    use super::*;
    use crate::protocol::StrBytes;

    fn ask(
        id: Option<&'static str>,
        timeout_ms: i32,
        identity: (i64, i16),
    ) -> Result<Option<TransactionalId>, ResponseError> {
        let asked = InitProducerIdRequest::default()
            .with_transactional_id(id.map(|id| messages::TransactionalId(StrBytes::from_static_str(id))))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(identity.0))
            .with_producer_epoch(identity.1);
        check(&asked, 900_000)
    }

    #[test]
    fn an_idempotent_producer_needs_no_timeout_and_may_bring_an_identity() {
        assert_eq!(ask(None, 0, (-1, -1)), Ok(None));
        assert_eq!(ask(None, i32::MAX, (5, 3)), Ok(None));
        assert_eq!(ask(None, 0, (5, -1)), Err(ResponseError::InvalidRequest));
        assert_eq!(ask(None, 0, (-1, 0)), Err(ResponseError::InvalidRequest));
    }

    #[test]
    fn a_transactional_id_is_refused_for_what_is_wrong_first() {
        assert_eq!(ask(Some(""), 0, (-1, -1)), Err(ResponseError::InvalidRequest));
        for timeout_ms in [0, -1, i32::MIN, 900_001] {
            assert_eq!(ask(Some("t"), timeout_ms, (-1, -1)), Err(ResponseError::InvalidTransactionTimeout));
        }
        assert_eq!(ask(Some("t"), 900_000, (-1, -1)), Ok(TransactionalId::new("t").ok()));
        assert_eq!(ask(Some("t"), 1, (5, 3)), Ok(TransactionalId::new("t").ok()));
    }
}
