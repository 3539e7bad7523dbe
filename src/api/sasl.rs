//! SaslHandshake (17) and SaslAuthenticate (36). No listener asks who its clients are: as on Kafka's, a client that
//! wants to say so is told that this is not the time.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

use super::{BoxFuture, Context, Outcome, Request, Session};
use crate::protocol::StrBytes;

pub fn handle_handshake<'a>(
    _context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    let outcome = match request.decode::<SaslHandshakeRequest>() {
        Ok(_) => {
            let body = SaslHandshakeResponse::default().with_error_code(ResponseError::IllegalSaslState.code());
            Outcome::reply(&request.header, &body)
        }
        Err(close) => close,
    };
    Box::pin(std::future::ready(outcome))
}

pub fn handle_authenticate<'a>(
    _context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    let outcome = match request.decode::<SaslAuthenticateRequest>() {
        Ok(_) => {
            let message = StrBytes::from_static_str("this listener knows no authentication");
            let body = SaslAuthenticateResponse::default()
                .with_error_code(ResponseError::IllegalSaslState.code())
                .with_error_message(Some(message));
            Outcome::reply(&request.header, &body)
        }
        Err(close) => close,
    };
    Box::pin(std::future::ready(outcome))
}
