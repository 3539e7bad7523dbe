//! GetTelemetrySubscriptions (71) and PushTelemetry (72): clients tell of themselves what they are asked for (KIP-714).
//! The receiver is `/metrics`; there is always one, so both are always served.

use std::net::SocketAddr;
use std::sync::Arc;

use kafka_protocol::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, PushTelemetryRequest, PushTelemetryResponse,
};
use millstream_core::client_metrics::Client;
use millstream_core::record::Compression;
use uuid::Uuid;

use super::compute::compute;
use super::{BoxFuture, Context, Outcome, Request, Session, errors};
use crate::config::base64;
use crate::protocol::StrBytes;
use crate::telemetry::Pushed;

/// What a client may compress with, the best first.
const CODECS: [Compression; 4] = [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];
/// What Kafka takes a client for that has not said what it is.
const UNKNOWN: &str = "unknown";

pub fn handle_get<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: GetTelemetrySubscriptionsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let clients = &context.metrics.clients;
        let id = match asked.client_instance_id.is_nil() {
            true => fresh_id(|id| clients.is_free(id)),
            false => asked.client_instance_id,
        };
        let known = Known::of(context, session, &request, id);
        let body = GetTelemetrySubscriptionsResponse::default();
        let body = match clients.get(super::now(), id, &known.client()) {
            Ok(wanted) => body
                .with_client_instance_id(id)
                .with_subscription_id(wanted.id(id))
                .with_accepted_compression_types(CODECS.iter().map(|codec| codec.id().cast_signed()).collect())
                .with_push_interval_ms(wanted.interval_ms)
                .with_telemetry_max_bytes(bytes_max(context))
                .with_delta_temporality(true)
                .with_requested_metrics(wanted.metrics.iter().cloned().map(StrBytes::from_string).collect()),
            Err(early) => body.with_error_code(errors::of_telemetry_question(early).code()),
        };
        Outcome::reply(&request.header, &body)
    })
}

pub fn handle_push<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: PushTelemetryRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let id = asked.client_instance_id;
        let known = Known::of(context, session, &request, id);
        let codec = u8::try_from(asked.compression_type).ok().and_then(Compression::from_id);
        let len_max = usize::try_from(bytes_max(context)).unwrap_or(0);
        // Little that comes may be much when it is inflated.
        let work_bytes = match codec {
            Some(Compression::None) | None => asked.metrics.len(),
            Some(_) => len_max,
        };
        let clients = Arc::clone(&context.metrics.clients);
        let push = move || {
            let (subscription_id, is_last) = (asked.subscription_id, asked.terminating);
            let pushed = Pushed { subscription_id, is_last, codec, metrics: &asked.metrics };
            clients.push(super::now(), id, &known.client(), &pushed, len_max)
        };
        let refused = compute(work_bytes, push).await;
        let error = refused.err().map_or(0, |refused| errors::of_push(refused).code());
        Outcome::reply(&request.header, &PushTelemetryResponse::default().with_error_code(error))
    })
}

/// `telemetry.max.bytes`.
fn bytes_max(context: &Context) -> i32 {
    i32::try_from(context.config.broker.integer("telemetry.max.bytes")).unwrap_or(i32::MAX)
}

/// An id that does not begin with a dash, which command lines would take for an option (Kafka `Uuid.randomUuid`).
fn fresh_id(is_free: impl Fn(Uuid) -> bool) -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if !base64(id).starts_with('-') && is_free(id) {
            return id;
        }
    }
}

/// What is known of the client that asks.
struct Known {
    connection: u64,
    instance_id: String,
    id: Option<StrBytes>,
    software_name: String,
    software_version: String,
    address: String,
    port: String,
}

impl Known {
    /// From here on the client is forgotten when its connection closes.
    fn of(context: &Context, session: &mut Session, request: &Request, id: Uuid) -> Self {
        let number = session.connection_id;
        session.telemetry.get_or_insert_with(|| context.metrics.clients.connection(number));
        let software = session.software.as_ref();
        let peer = SocketAddr::new(session.peer.ip().to_canonical(), session.peer.port());
        Self {
            connection: number,
            instance_id: base64(id),
            id: request.header.client_id.clone(),
            software_name: software.map_or(UNKNOWN, |software| &software.name).to_owned(),
            software_version: software.map_or(UNKNOWN, |software| &software.version).to_owned(),
            address: peer.ip().to_string(),
            port: peer.port().to_string(),
        }
    }

    fn client(&self) -> Client<'_> {
        Client {
            connection: self.connection,
            instance_id: &self.instance_id,
            id: self.id.as_deref(),
            software_name: &self.software_name,
            software_version: &self.software_version,
            address: &self.address,
            port: &self.port,
        }
    }
}
