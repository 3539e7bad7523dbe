//! The HTTP port for operators: metrics and health. Bound to this machine unless `admin.listener` says otherwise.

mod limits;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::limits::Limited;
use crate::config::HostPort;
use crate::telemetry::Metrics;

/// What the pages are made of.
pub struct Admin {
    pub metrics: Arc<Metrics>,
    /// True from the moment clients are served until the stop begins.
    pub ready: AtomicBool,
    /// False when no leader of the metadata has been known for some seconds.
    pub led: AtomicBool,
}

impl Admin {
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { metrics, ready: AtomicBool::new(false), led: AtomicBool::new(true) })
    }
}

/// An admin port that is ours.
pub struct BoundAdmin {
    listener: TcpListener,
    pub address: SocketAddr,
    connections_max: usize,
    life: Duration,
}

/// Connections at one time; the next wait. Scrapers and probes of a cluster are a handful.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take, with all of its requests, and with nothing on it. Scrapers connect again.
const LIFE: Duration = Duration::from_secs(60);
const NOT_LED: &str = "not ready: no leader of the metadata is known here: no majority of its voters is reachable\n";

/// Takes the port. A host name is looked up.
pub async fn bind(address: &HostPort) -> std::io::Result<BoundAdmin> {
    let listener = match address.host.as_str() {
        "" => TcpListener::bind(("0.0.0.0", address.port)).await?,
        host => TcpListener::bind((host, address.port)).await?,
    };
    let address = listener.local_addr()?;
    Ok(BoundAdmin { listener, address, connections_max: CONNECTIONS_MAX, life: LIFE })
}

impl BoundAdmin {
    /// Serves until the node stops.
    pub async fn serve(self, admin: Arc<Admin>, mut stop: watch::Receiver<bool>) {
        let stopped = async move {
            // An error means that whoever could stop us is gone: that is a stop, too.
            drop(stop.wait_for(|stopping| *stopping).await);
        };
        let listener = Limited::new(self.listener, self.connections_max, self.life);
        let served = axum::serve(listener, router(admin)).with_graceful_shutdown(stopped).await;
        if let Err(e) = served {
            tracing::error!(error = %e, "admin port failed");
        }
    }
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(ready))
        .with_state(admin)
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render())
}

async fn ready(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    match (admin.ready.load(Ordering::Relaxed), admin.led.load(Ordering::Relaxed)) {
        (true, true) => (StatusCode::OK, "ready\n"),
        (true, false) => (StatusCode::SERVICE_UNAVAILABLE, NOT_LED),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn health_and_metrics_are_told_until_the_stop() {
        let bound = bind(&HostPort { host: "127.0.0.1".to_owned(), port: 0 }).await.unwrap();
        let address = bound.address;
        let admin = Admin::new(Arc::new(Metrics::new()));
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(bound.serve(Arc::clone(&admin), stopping));
        assert!(get(address, "/health/live").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/health/ready").await.starts_with("HTTP/1.1 503"));
        admin.ready.store(true, Ordering::Relaxed);
        assert!(get(address, "/health/ready").await.starts_with("HTTP/1.1 200"));
        admin.led.store(false, Ordering::Relaxed);
        let answer = get(address, "/health/ready").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with(NOT_LED), "{answer}");
        assert!(get(address, "/metrics").await.contains("millstream_build_info{version="));
        assert!(get(address, "/nowhere").await.starts_with("HTTP/1.1 404"));
        stop.send_replace(true);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn who_holds_a_connection_loses_it_and_the_next_is_served() {
        let bound = bind(&HostPort { host: "127.0.0.1".to_owned(), port: 0 }).await.unwrap();
        let bound = BoundAdmin { connections_max: 1, life: Duration::from_millis(300), ..bound };
        let address = bound.address;
        let admin = Admin::new(Arc::new(Metrics::new()));
        let (_stop, stopping) = watch::channel(false);
        let _serving = tokio::spawn(bound.serve(admin, stopping));
        for sent in ["", "GET /metrics HTTP/1.1\r\nHost:", "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut held = TcpStream::connect(address).await.unwrap();
            held.write_all(sent.as_bytes()).await.unwrap();
            assert!(get(address, "/health/live").await.starts_with("HTTP/1.1 200"));
            // There is one place, so this one was closed before.
            let mut rest = Vec::new();
            held.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest.starts_with(b"HTTP/1.1 200"), sent.ends_with("\r\n\r\n"));
        }
    }
}
