//! What handlers reach: the rooms below, as `startup` built them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream_core::fetch::{ReplicaSelector, SessionCache};
use millstream_core::types::NodeId;
use tokio::sync::watch;

use super::sasl::Logins;
use super::streams_groups::InternalTopics;
use super::topic_creation::OnDemand;
use crate::config::{Config, Listener};
use crate::controller::Controller;
use crate::coordinator::{Groups, ShareKeepers, ShareStateCoordinators, Transactions};
use crate::partition::Partitions;
use crate::share::Shares;
use crate::telemetry::{LogLevels, Metrics};

/// Shared by all handlers. A part is added here when its first API needs it.
pub struct Context {
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub log_levels: LogLevels,
    pub controller: Arc<Controller>,
    pub logins: Logins,
    pub partitions: Arc<Partitions>,
    pub groups: Arc<Groups>,
    pub transactions: Arc<Transactions>,
    pub share_states: Arc<ShareStateCoordinators>,
    pub share_keepers: Arc<ShareKeepers>,
    pub shares: Arc<Shares>,
    /// Whether a node was heard of lately; this one always.
    pub alive: Arc<dyn Fn(NodeId) -> bool + Send + Sync>,
    /// For how long another node has not been heard of; `None`: it never was, since this one started.
    pub silent_for: Arc<dyn Fn(NodeId) -> Option<Duration> + Send + Sync>,
    pub started: Instant,
    pub on_demand: OnDemand,
    /// Topics of Streams applications that are being created.
    pub internal_topics: InternalTopics,
    pub fetch_sessions: Mutex<SessionCache>,
    /// `fetch.max.bytes`: most bytes of a fetch response, but for one batch.
    pub fetch_bytes_max: usize,
    /// `replica.selector.class`.
    pub replica_selector: ReplicaSelector,
    /// The listeners with the ports that were bound.
    pub listeners: Vec<Arc<Listener>>,
    /// Turns true when the node stops: whoever waits for something that may take long answers with what it has.
    pub stopping: watch::Receiver<bool>,
}
