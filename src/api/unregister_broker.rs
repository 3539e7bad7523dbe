//! UnregisterBroker (64): a broker that is gone for good is forgotten (Kafka `ControllerApis.handleUnregisterBroker`).
//! Replicas that it still has stay named in their partitions, as with Kafka.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use millstream_core::controller::remove_node;
use millstream_core::security::Operation;
use millstream_core::types::NodeId;

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: UnregisterBrokerRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if let Err(error) = request.access.check(Operation::Alter, Resource::Cluster) {
            let body = UnregisterBrokerResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(errors::message(&error)));
            return Outcome::reply(&request.header, &body);
        }
        let node = NodeId(asked.broker_id.0);
        let body = UnregisterBrokerResponse::default().with_error_message(None);
        let refused = match context.controller.change(move |image| remove_node(image, node)).await {
            Ok(Ok(())) => {
                request.changed("node unregistered", &node.to_string());
                None
            }
            Ok(Err(unknown)) => Some((ResponseError::BrokerIdNotRegistered, errors::message(&unknown))),
            Err(error) => Some((errors::of_controller(&error), errors::message(&error))),
        };
        let body = match refused {
            Some((error, message)) => body.with_error_code(error.code()).with_error_message(Some(message)),
            None => body,
        };
        Outcome::reply(&request.header, &body)
    })
}
