//! What handlers reach: the rooms below, as `startup` built them.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{Config, Listener};
use crate::telemetry::Metrics;

/// Shared by all handlers. A part is added here when its first API needs it.
pub struct Context {
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    /// The listeners with the ports that were bound.
    pub listeners: Vec<Arc<Listener>>,
    /// Turns true when the node stops: whoever waits for something that may take long answers with what it has.
    pub stopping: watch::Receiver<bool>,
}
