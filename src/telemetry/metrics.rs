//! The numbers behind `/metrics`, in Prometheus' text format. Every name of ours begins with `millstream_`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_core::types::Timestamp;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::clients::{ClientMetrics, Numbers};
use super::process;

/// Prefix of every metric of ours.
const PREFIX: &str = "millstream";

/// Upper bounds of request latencies, in seconds: from a cached answer to a long poll.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// All metrics of a node. Cheap to update: counters are looked up once, when their owner is made.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_latency: HistogramVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    /// Open client connections, by listener.
    pub connections: IntGaugeVec,
    /// Accepted client connections, by listener.
    pub connections_accepted: IntCounterVec,
    /// Closed or refused client connections, by reason.
    pub connections_closed: IntCounterVec,
    /// Logins, by listener, mechanism and result (`ok`, `failed`).
    pub logins: IntCounterVec,
    pub denials: IntCounterVec,
    /// Bytes of requests read and not yet answered.
    pub inflight_request_bytes: IntGauge,
    /// What clients tell of themselves.
    pub clients: Arc<ClientMetrics>,
}

/// The metrics of one API, looked up once.
#[derive(Clone)]
pub struct ApiMetrics {
    /// Requests answered (with acks=0: carried out).
    pub requests: IntCounter,
    /// Seconds from the request's last byte to the moment its answer is handed to the kernel.
    pub latency: Histogram,
    pub request_bytes: IntCounter,
    pub response_bytes: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let by_api = &["api"];
        let latency = HistogramOpts::new("request_latency_seconds", "Time from a request's last byte to its answer.")
            .namespace(PREFIX)
            .buckets(LATENCY_BUCKETS.to_vec());
        let metrics = Self {
            requests: counters(&registry, "requests_total", "Requests answered.", by_api),
            request_latency: register(&registry, HistogramVec::new(latency, by_api)),
            request_bytes: counters(&registry, "request_bytes_total", "Bytes of requests.", by_api),
            response_bytes: counters(&registry, "response_bytes_total", "Bytes of responses.", by_api),
            denials: counters(
                &registry,
                "denials_total",
                "What clients asked for and may not do.",
                &["resource", "operation"],
            ),
            logins: counters(&registry, "logins_total", "Logins by SASL.", &["listener", "mechanism", "result"]),
            connections: register(
                &registry,
                IntGaugeVec::new(opts("connections", "Open client connections."), &["listener"]),
            ),
            connections_accepted: counters(
                &registry,
                "connections_accepted_total",
                "Client connections accepted.",
                &["listener"],
            ),
            connections_closed: counters(
                &registry,
                "connections_closed_total",
                "Client connections closed or refused, by reason.",
                &["reason"],
            ),
            inflight_request_bytes: register(
                &registry,
                IntGauge::with_opts(opts("inflight_request_bytes", "Bytes of requests read and not yet answered.")),
            ),
            clients: ClientMetrics::new(client_numbers(&registry)),
            registry,
        };
        let build = register(
            &metrics.registry,
            IntGaugeVec::new(opts("build_info", "The version that runs; always 1."), &["version"]),
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics
    }

    /// Where other parts register what they measure. Names begin with `millstream_`.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The metrics of one API, for its owner to keep.
    pub fn of_api(&self, name: &str) -> ApiMetrics {
        ApiMetrics {
            requests: self.requests.with_label_values(&[name]),
            latency: self.request_latency.with_label_values(&[name]),
            request_bytes: self.request_bytes.with_label_values(&[name]),
            response_bytes: self.response_bytes.with_label_values(&[name]),
        }
    }

    /// Everything as Prometheus' text, with the process's own numbers.
    pub fn render(&self) -> String {
        let now = now();
        self.clients.measure(now);
        let mut text = Vec::with_capacity(16 * 1024);
        let families = self.registry.gather();
        if let Err(e) = TextEncoder::new().encode(&families, &mut text) {
            tracing::warn!(error = %e, "metrics could not be encoded");
        }
        let mut text = String::from_utf8_lossy(&text).into_owned();
        process::render(&mut text);
        self.clients.render(now, &mut text);
        text
    }
}

fn client_numbers(registry: &Registry) -> Numbers {
    let gauge = |name, help| register(registry, IntGauge::with_opts(opts(name, help)));
    Numbers {
        instances: gauge("telemetry_instances", "Clients that asked lately which metrics they shall push."),
        series: gauge("telemetry_series", "Series that are shown of clients."),
        pushes: counters(registry, "telemetry_pushes_total", "Pushes of metrics, by what became of them.", &["result"]),
        dropped: counters(
            registry,
            "telemetry_points_dropped_total",
            "Points of metrics of clients that are not shown, by reason.",
            &["reason"],
        ),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(opts(name, help), labels))
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("names and labels are constants");
    registry.register(Box::new(metric.clone())).expect("every name is registered once");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered_with_the_prefix() {
        let metrics = Metrics::new();
        let produce = metrics.of_api("Produce");
        produce.requests.inc();
        produce.latency.observe(0.002);
        let text = metrics.render();
        assert!(text.contains("millstream_requests_total{api=\"Produce\"} 1\n"), "{text}");
        assert!(text.contains("millstream_request_latency_seconds_bucket{api=\"Produce\",le=\"0.0025\"} 1\n"));
        assert!(text.contains("process_resident_memory_bytes "));
    }
}
