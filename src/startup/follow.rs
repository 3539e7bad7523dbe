//! Settings that may change while the node runs: brought to the parts they tune when a change is committed, so that
//! nobody has to look for them at every request. Those of topics, and the rates of replication, follow with the metadata
//! (`controller`).

use std::sync::Arc;

use millstream_core::client_metrics::Subscription;
use millstream_core::config::{BrokerConfig, ConfigMap};
use millstream_core::controller::ConfigOwner;
use tokio::sync::watch;
use tracing::warn;

use crate::controller::Controller;
use crate::net::{ConnectionLimits, LimitsHandle};
use crate::partition::{CleanerConfig, Partitions};
use crate::telemetry::ClientMetrics;

/// The parts that follow.
pub(super) struct Followers {
    pub controller: Arc<Controller>,
    pub partitions: Arc<Partitions>,
    pub cleaner: watch::Sender<CleanerConfig>,
    pub connections: LimitsHandle,
    pub clients: Arc<ClientMetrics>,
}

impl Followers {
    /// Brings the settings in force to the parts, now and at every change.
    pub(super) fn start(self) {
        tokio::spawn(async move {
            let mut changes = self.controller.changes();
            let mut known: Option<Arc<BrokerConfig>> = None;
            let mut asked = Vec::new();
            loop {
                self.ask_clients(&mut asked);
                let settings = Arc::clone(&self.controller.published().settings);
                if !known.is_some_and(|known| Arc::ptr_eq(&known, &settings)) {
                    self.apply(&settings).await;
                }
                known = Some(settings);
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Clients are asked for what subscriptions say, where these are other ones than were known.
    fn ask_clients(&self, known: &mut Vec<Arc<ConfigMap>>) {
        let now = self.controller.look(|now| {
            let owners = now.image.config_owners().filter(|owner| matches!(owner, ConfigOwner::ClientMetrics(_)));
            owners.map(|owner| now.image.configs(owner)).collect::<Vec<_>>()
        });
        if *known != now {
            self.clients.set_subscriptions(now.iter().filter_map(|settings| Subscription::of(settings)).collect());
            *known = now;
        }
    }

    async fn apply(&self, settings: &Arc<BrokerConfig>) {
        self.partitions.set_producer_id_expiration_ms(settings.integer("producer.id.expiration.ms"));
        self.cleaner.send_replace(CleanerConfig::of(settings));
        if let Some(limits) = connection_limits(settings).await {
            self.connections.set(limits);
        }
    }
}

/// Host names among the limits are looked up, which may take its time. `None`: one of them cannot be.
pub(super) async fn connection_limits(settings: &Arc<BrokerConfig>) -> Option<ConnectionLimits> {
    let settings = Arc::clone(settings);
    let limits = tokio::task::spawn_blocking(move || ConnectionLimits::of(&settings)).await;
    match limits.expect("reading settings does not panic") {
        Ok(limits) => Some(limits),
        Err((setting, allowed)) => {
            warn!(setting, allowed, "limits of connections stay as they were");
            None
        }
    }
}
