//! SaslHandshake (17) and SaslAuthenticate (36): a client says who it is, and shows it (KIP-43, KIP-152, KIP-368).
//!
//! Who fails learns only that it failed, after `connection.failed.authentication.delay.ms`, and the connection ends.

mod check;
mod login;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use tokio::sync::Semaphore;

use self::check::Step;
use super::{BoxFuture, Context, Outcome, Request, Session, audit};
use crate::config::{Mechanism, SaslListener, SaslListeners};
use crate::protocol::{Response, StrBytes};
use crate::telemetry::Metrics;

pub use self::login::{Exchange, LoggedIn, Login};

/// Passwords that are hashed at a time: who guesses many keeps others waiting, not the processor.
const HASHED_AT_ONCE: usize = 2;
/// A client may log in again no sooner (Kafka `KafkaChannel.MIN_REAUTH_INTERVAL_ONE_SECOND_NANOS`).
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What became of a login, as it is counted.
const OK: &str = "ok";
const FAILED: &str = "failed";
/// The first version of SaslHandshake after which messages come in requests of their own.
const REQUESTS_FROM: i16 = 1;

/// What logins of all listeners share.
pub struct Logins {
    listeners: SaslListeners,
    failure_delay: Duration,
    hashing: Semaphore,
}

impl Logins {
    /// `failure_delay`: `connection.failed.authentication.delay.ms`.
    pub fn new(listeners: SaslListeners, failure_delay: Duration, metrics: &Metrics) -> Self {
        // What is counted from nothing on can be alerted on.
        for (name, listener) in &listeners {
            for (mechanism, result) in listener.mechanisms.keys().flat_map(|m| [(m, OK), (m, FAILED)]) {
                metrics.logins.with_label_values(&[name, mechanism.name(), result]).inc_by(0);
            }
        }
        Self { listeners, failure_delay, hashing: Semaphore::new(HASHED_AT_ONCE) }
    }
}

pub fn handle_handshake<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(shake_hands(context, session, &request)))
}

fn shake_hands(context: &Context, session: &mut Session, request: &Request) -> Outcome {
    let asked: SaslHandshakeRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    let body = SaslHandshakeResponse::default();
    let now = Instant::now();
    let before = match &session.login {
        Login::Awaited => None,
        Login::Done(before) if before.until.is_some() && now - before.since >= AGAIN_AFTER => Some(*before),
        Login::Done(_) | Login::NotAsked | Login::Begun(_) => {
            return Outcome::reply(&request.header, &body.with_error_code(ResponseError::IllegalSaslState.code()));
        }
    };
    let Some(listener) = context.logins.listeners.get(&session.listener.name) else {
        return Outcome::Close("the listener takes no logins".to_owned());
    };
    let names = listener.mechanisms.keys().map(|mechanism| StrBytes::from_static_str(mechanism.name())).collect();
    let body = body.with_mechanisms(names);
    let mechanism = Mechanism::of_name(&asked.mechanism).filter(|m| listener.mechanisms.contains_key(m));
    let Some(mechanism) = mechanism else {
        let body = body.with_error_code(ResponseError::UnsupportedSaslMechanism.code());
        return last(Outcome::reply(&request.header, &body), "asked for a mechanism that is not enabled");
    };
    let is_bare = request.header.version < REQUESTS_FROM;
    session.login = Login::Begun(Box::new(Exchange { mechanism, is_bare, asked: None, before }));
    Outcome::reply(&request.header, &body)
}

pub fn handle_authenticate<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: SaslAuthenticateRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let body = SaslAuthenticateResponse::default();
        if !matches!(session.login, Login::Begun(_)) {
            let message =
                StrBytes::from_static_str("SaslAuthenticate request received after successful authentication");
            let body = body.with_error_code(ResponseError::IllegalSaslState.code()).with_error_message(Some(message));
            return Outcome::reply(&request.header, &body);
        }
        match proceed(context, session, &asked.auth_bytes).await {
            Ok(said) => {
                let lifetime_ms = i64::try_from(said.lifetime.as_millis()).unwrap_or(i64::MAX);
                let body = body.with_auth_bytes(said.message).with_session_lifetime_ms(lifetime_ms);
                Outcome::reply(&request.header, &body)
            }
            Err(Failed { message, reason }) => {
                let body = body
                    .with_error_code(ResponseError::SaslAuthenticationFailed.code())
                    .with_error_message(Some(StrBytes::from_string(message)));
                last(Outcome::reply(&request.header, &body), reason)
            }
        }
    })
}

/// The same for a client that sends bare messages: a frame is a message, and so is the answer.
pub(super) fn handle_bare<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
    message: Bytes,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        match proceed(context, session, &message).await {
            Ok(said) => {
                let length = u32::try_from(said.message.len()).unwrap_or_default();
                let frame = [&length.to_be_bytes()[..], &said.message].concat();
                Outcome::Reply(Response::whole(frame.into()))
            }
            Err(Failed { reason, .. }) => Outcome::Close(reason.to_owned()),
        }
    })
}

/// What the client is told next.
struct Said {
    message: Bytes,
    /// Until when its login holds, from now; zero: for ever, or not done yet.
    lifetime: Duration,
}

struct Failed {
    /// For the client.
    message: String,
    /// For the log.
    reason: &'static str,
}

/// The next step of a login that has begun.
async fn proceed(context: &Context, session: &mut Session, message: &[u8]) -> Result<Said, Failed> {
    let login = std::mem::replace(&mut session.login, Login::Awaited);
    let Login::Begun(mut exchange) = login else {
        return Err(Failed { message: String::new(), reason: "no login has begun" });
    };
    let logins = &context.logins;
    let listener = logins.listeners.get(&session.listener.name).map(Arc::as_ref);
    let step = match listener {
        Some(listener) => check::step(context, listener, &mut exchange, message).await,
        None => Err(()),
    };
    let mechanism = exchange.mechanism;
    let counted = |result: &str| {
        let labels = [session.listener.name.as_str(), mechanism.name(), result];
        context.metrics.logins.with_label_values(&labels).inc();
    };
    let (user, message) = match step {
        Ok(Step::Asked(message)) => {
            session.login = Login::Begun(exchange);
            return Ok(Said { message, lifetime: Duration::ZERO });
        }
        Ok(Step::Done { user, message }) => (user, message),
        Err(()) => {
            counted(FAILED);
            audit::login_failed(session, mechanism.name());
            tokio::time::sleep(logins.failure_delay).await;
            return Err(Failed { message: invalid(mechanism, exchange.before.is_some()), reason: "failed to log in" });
        }
    };
    let principal = format!("User:{user}");
    if let Some(before) = &exchange.before
        && (before.mechanism != mechanism || *session.principal != *principal)
    {
        counted(FAILED);
        audit::login_failed(session, mechanism.name());
        tokio::time::sleep(logins.failure_delay).await;
        let message = "Cannot change principals or mechanisms during re-authentication".to_owned();
        return Err(Failed { message, reason: "logged in again as somebody else" });
    }
    counted(OK);
    let lifetime = listener.and_then(|listener| listener.mechanisms.get(&mechanism)).copied().unwrap_or_default();
    let since = Instant::now();
    session.principal = principal.into();
    audit::logged_in(session, mechanism.name());
    session.login = Login::Done(LoggedIn { mechanism, since, until: (!lifetime.is_zero()).then(|| since + lifetime) });
    Ok(Said { message, lifetime })
}

/// The same words whatever was wrong.
fn invalid(mechanism: Mechanism, is_again: bool) -> String {
    let when = if is_again { "re-authentication" } else { "authentication" };
    format!("Authentication failed during {when} due to invalid credentials with SASL mechanism {}", mechanism.name())
}

/// A reply after which the connection ends.
fn last(reply: Outcome, reason: &str) -> Outcome {
    match reply {
        Outcome::Reply(response) => Outcome::Last(response, reason.to_owned()),
        other => other,
    }
}
