//! From a frame to its handler: header, version, metrics. Carries out nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use super::audit::Who;
use super::compute::{LARGE_BYTES, aside};
use super::forward::forward;
use super::{Api, BoxFuture, Context, Handler, Outcome, Request, Session, sasl, versions};
use crate::protocol::{HeaderError, Key, decode_request_header};
use crate::telemetry::ApiMetrics;

/// What the connections of a node hand their frames to.
pub trait Service: Send + Sync + 'static {
    /// Finds the handler of a frame (without its length prefix) and makes its future; nothing runs before the first
    /// poll.
    fn call<'a>(&'a self, session: &'a mut Session, frame: Bytes) -> Result<Call<'a>, Refused>;
}

/// A request that is about to be carried out.
pub struct Call<'a> {
    pub api: Key,
    pub metrics: Arc<ApiMetrics>,
    pub outcome: BoxFuture<'a, Outcome>,
}

/// A frame that is answered by closing the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("api key {0} is not served")]
    UnknownApi(i16),
    #[error("{api:?} version {version} is not served")]
    UnsupportedVersion { api: Key, version: i16 },
    #[error("{0:?} is not forwarded")]
    NotForwarded(Key),
    #[error("{0:?} without a login that holds")]
    NotLoggedIn(Key),
}

/// The service of a node: a list of APIs over one context.
pub struct Dispatcher {
    context: Arc<Context>,
    apis: BTreeMap<i16, (Api, Arc<ApiMetrics>)>,
}

impl Dispatcher {
    pub fn new(context: Arc<Context>, apis: &[Api]) -> Self {
        let with_metrics = |api: &Api| (api.key.0, (*api, Arc::new(context.metrics.of_api(&format!("{:?}", api.key)))));
        let apis = apis.iter().map(with_metrics).collect();
        Self { context, apis }
    }

    /// A frame that is no request: the client's next word of its login.
    fn bare_login<'a>(&'a self, session: &'a mut Session, message: Bytes) -> Result<Call<'a>, Refused> {
        let key = Key::of(ApiKey::SaslAuthenticate);
        let (api, metrics) = self.apis.get(&key.0).ok_or(Refused::UnknownApi(key.0))?;
        let outcome = sasl::handle_bare(&self.context, session, message);
        Ok(Call { api: api.key, metrics: Arc::clone(metrics), outcome })
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl Service for Dispatcher {
    fn call<'a>(&'a self, session: &'a mut Session, frame: Bytes) -> Result<Call<'a>, Refused> {
        if session.login.is_bare() {
            return self.bare_login(session, frame);
        }
        let (header, body) = decode_request_header(&frame)?;
        let (api, metrics) = self.apis.get(&header.api_key).ok_or(Refused::UnknownApi(header.api_key))?;
        if !session.login.admits(api.key, Instant::now()) {
            return Err(Refused::NotLoggedIn(api.key));
        }
        let client_id = header.client_id.as_deref().unwrap_or_default();
        if session.client_id != client_id {
            client_id.clone_into(&mut session.client_id);
        }
        tracing::debug!(
            connection = session.connection_id,
            api = ?api.key,
            version = header.version,
            correlation_id = header.correlation_id,
            bytes = frame.len(),
            "request"
        );
        let handler = match api.serves(header.version) {
            true => api.handler,
            // A client asks with its newest version first and learns from the answer what there is (KIP-511).
            false if api.key == ApiKey::ApiVersions => versions::handle_unsupported,
            false => return Err(Refused::UnsupportedVersion { api: api.key, version: header.version }),
        };
        if session.is_forwarded() && api.forwarded.is_none() {
            return Err(Refused::NotForwarded(api.key));
        }
        let is_large = body.len() >= LARGE_BYTES && api.key != ApiKey::Produce;
        let who = Who::of(session, api.key);
        let access = self.context.access(session, &who);
        let request = Request { header, body, access, who };
        let outcome: BoxFuture<'a, Outcome> = match is_large {
            _ if api.forwarded.is_some() && !session.is_forwarded() => {
                let here = Here { handler, is_large, is_for_controller: api.forwarded };
                Box::pin(forward(here, &self.context, session, frame, request))
            }
            true => Box::pin(run_aside(handler, &self.context, session, request)),
            // Produce is nearly all records, and looks after them itself.
            false => handler(&self.context, session, request),
        };
        Ok(Call { api: api.key, metrics: Arc::clone(metrics), outcome })
    }
}

/// How a request that may have to be carried out elsewhere is carried out here.
pub(super) struct Here {
    handler: Handler,
    is_large: bool,
    is_for_controller: Option<fn(&Request) -> bool>,
}

impl Here {
    pub(super) fn is_for_controller(&self, request: &Request) -> bool {
        self.is_for_controller.is_some_and(|is_for_controller| is_for_controller(request))
    }

    pub(super) async fn run(self, context: &Arc<Context>, session: &mut Session, request: Request) -> Outcome {
        match self.is_large {
            true => run_aside(self.handler, context, session, request).await,
            false => (self.handler)(context, session, request).await,
        }
    }
}

/// A large request costs time to decode and to answer, whatever it asks for.
async fn run_aside(handler: Handler, context: &Arc<Context>, session: &mut Session, request: Request) -> Outcome {
    match aside(async move { handler(context, session, request).await }).await {
        Outcome::Later(rest) => Outcome::Later(Box::pin(aside(rest))),
        outcome => outcome,
    }
}
