//! What is done again and again, each at its interval, for as long as there are partitions.

use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_core::config::BrokerConfig;
use tokio::time::MissedTickBehavior;

use crate::partition::Partitions;

#[derive(Clone, Copy)]
enum Chore {
    /// Retention by time and size.
    Retention,
    /// Idle producers are forgotten.
    ProducerExpiry,
}

/// Starts the chores as tasks. The first round is at once.
pub(super) fn start(partitions: &Arc<Partitions>, broker: &BrokerConfig) {
    for (chore, interval) in [
        (Chore::Retention, "log.retention.check.interval.ms"),
        (Chore::ProducerExpiry, "producer.id.expiration.check.interval.ms"),
    ] {
        let every = Duration::from_millis(u64::try_from(broker.integer(interval)).unwrap_or(1).max(1));
        tokio::spawn(repeat(Arc::downgrade(partitions), every, chore));
    }
}

async fn repeat(partitions: Weak<Partitions>, every: Duration, chore: Chore) {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(partitions) = partitions.upgrade() else { return };
        match chore {
            Chore::Retention => partitions.retain().await,
            Chore::ProducerExpiry => partitions.expire_producers().await,
        }
    }
}
