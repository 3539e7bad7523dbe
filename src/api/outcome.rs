//! What becomes of a request, and the two steps every handler begins and ends with.

use super::{BoxFuture, Request};
use crate::protocol::{Decode, Encode, RequestBody, RequestHeader, Response, decode, encode_response};

/// What a handler returns. Replies leave in request order whatever stands here.
pub enum Outcome {
    /// The reply is there.
    Reply(Response),
    /// The request has its place in line and waits for something (a commit, more bytes, a deadline) without holding
    /// up the next ones. Only Produce, Fetch and those of share groups do so. Polled from when every earlier reply of the connection is
    /// done; dropped when the connection closes. It may end in anything but another `Later`.
    Later(BoxFuture<'static, Outcome>),
    /// Carried out, and the client expects no reply (acks=0).
    NoReply,
    /// The reply, and then the end of the connection; the reason goes to the log.
    Last(Response, String),
    /// The connection is closed after what was answered before; the reason goes to the log.
    Close(String),
}

impl Outcome {
    /// A reply in the request's version. A body that cannot be said in that version is a fault of ours: it closes the
    /// connection.
    pub fn reply<T: Encode>(header: &RequestHeader, body: &T) -> Self {
        match encode_response(header.api_key, header.version, header.correlation_id, body) {
            Ok(response) => Self::Reply(response),
            Err(e) => Self::Close(format!("response cannot be encoded: {e}")),
        }
    }
}

impl Request {
    /// The typed body, through the guard; a body that is none closes the connection, as Kafka does.
    pub fn decode<T: RequestBody + Decode>(&self) -> Result<T, Outcome> {
        decode(self.header.version, self.body.clone()).map_err(|e| Outcome::Close(format!("request: {e}")))
    }
}
