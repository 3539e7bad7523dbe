//! All listeners of a node and their connections, from start to stop.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::accept::Acceptor;
use super::bind::Bound;
use super::config::NetConfig;
use super::connection::Shared;
use super::limits::{Counts, LimitsHandle};
use super::memory::{ReplyMemory, RequestMemory};
use super::notices::Notices;
use crate::api::Service;
use crate::telemetry::Metrics;
use crate::tls::TlsListeners;

/// The running front end.
pub struct Server {
    counts: Arc<Counts>,
    /// Ends when the last acceptor and the last connection are gone.
    alive: mpsc::Receiver<()>,
}

impl Server {
    /// Serves the bound listeners on the current runtime, until `stopping` turns true: then the listeners are closed,
    /// what has been read is answered, and connections end as they run empty. So do those that are open at a change of
    /// `dismissals`, while new ones are taken.
    pub fn start(
        bound: Vec<Bound>,
        service: Arc<dyn Service>,
        config: &NetConfig,
        metrics: &Arc<Metrics>,
        stopping: watch::Receiver<bool>,
        dismissals: watch::Receiver<()>,
        tls: &TlsListeners,
    ) -> Self {
        let (alive_sender, alive) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            service,
            memory: RequestMemory::new(config.request_memory_bytes, metrics.inflight_request_bytes.clone()),
            reply_memory: Arc::new(ReplyMemory::new(config.request_memory_bytes)),
            frame_bytes_max: config.frame_bytes_max,
            idle_max: config.idle_max,
            stall_max: config.stall_max,
            login_frame_bytes_max: config.login_frame_bytes_max,
            login_max: config.login_max,
            local_send_buffer_bytes: config.local_send_buffer_bytes,
        });
        let counts = Counts::new(config.limits.clone(), config.ceiling);
        let notices = Arc::new(Notices::default());
        let next_id = Arc::new(AtomicU64::new(1));
        for bound in bound {
            let acceptor = Acceptor {
                tls: tls.get(&bound.listener.name),
                bound,
                shared: Arc::clone(&shared),
                counts: Arc::clone(&counts),
                notices: Arc::clone(&notices),
                metrics: Arc::clone(metrics),
                next_id: Arc::clone(&next_id),
                stop: stopping.clone(),
                dismissals: dismissals.clone(),
                alive: alive_sender.clone(),
            };
            tokio::spawn(acceptor.run());
        }
        Self { counts, alive }
    }

    /// The way to other limits of connections while the node runs.
    pub fn limits(&self) -> LimitsHandle {
        LimitsHandle(Arc::clone(&self.counts))
    }

    /// Waits for the last connection after a stop. Returns whether all of them were done within `patience`; those that
    /// were not end with the runtime.
    pub async fn stopped(mut self, patience: Duration) -> bool {
        // Nobody sends: the channel says only that the last holder is gone.
        tokio::time::timeout(patience, self.alive.recv()).await.is_ok()
    }
}
