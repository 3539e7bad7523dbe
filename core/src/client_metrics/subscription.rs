//! Subscriptions: which clients are asked for which metrics, and how often (Kafka `ClientMetricsConfigs`).

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Client;
use crate::config::{ClientMatches, ConfigMap, ConfigValue, client_matches, client_metrics_config};
use crate::record::crc32c;

/// How often a client asks that no subscription means, in milliseconds.
pub const INTERVAL_MS_DEFAULT: i32 = 300_000;
/// Stands for all metrics.
const ALL: &str = "*";
/// One subscription, as it stands in the metadata.
#[derive(Clone, Debug)]
pub struct Subscription {
    metrics: Vec<String>,
    interval_ms: i32,
    matches: ClientMatches,
}

impl Subscription {
    /// Settings that were checked when they were set. `None`: they are not such, and nobody is meant.
    pub fn of(settings: &ConfigMap) -> Option<Self> {
        let value = |name: &str| {
            let def = client_metrics_config(name)?;
            def.parse(settings.get(name).map_or(def.default?, String::as_str)).ok()
        };
        let list = |name: &str| match value(name)? {
            ConfigValue::List(items) => Some(items),
            _ => None,
        };
        let ConfigValue::Int(interval_ms) = value("interval.ms")? else { return None };
        Some(Self { metrics: list("metrics")?, interval_ms, matches: client_matches(&list("match")?).ok()? })
    }
}

/// What a client is asked for: the sum of all subscriptions that mean it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Prefixes of names; `*` alone is everything.
    pub metrics: BTreeSet<String>,
    /// Between two pushes, in milliseconds.
    pub interval_ms: i32,
}

impl Wanted {
    pub(super) fn of(subscriptions: &[Subscription], client: &Client<'_>) -> Self {
        let mut wanted = Self { metrics: BTreeSet::new(), interval_ms: INTERVAL_MS_DEFAULT };
        for subscription in subscriptions.iter().filter(|subscription| client.is_meant(&subscription.matches)) {
            wanted.metrics.extend(subscription.metrics.iter().cloned());
            wanted.interval_ms = wanted.interval_ms.min(subscription.interval_ms);
        }
        if wanted.metrics.contains(ALL) {
            wanted.metrics = BTreeSet::from([ALL.to_owned()]);
        }
        wanted
    }

    /// Whether a metric of this name was asked for.
    pub fn asks_for(&self, name: &str) -> bool {
        self.metrics.iter().any(|prefix| prefix == ALL || name.starts_with(prefix.as_str()))
    }

    /// What tells a client that it is asked for something else than before.
    pub fn id(&self, instance: Uuid) -> i32 {
        let names: Vec<&str> = self.metrics.iter().map(String::as_str).collect();
        let text = format!("[{}]{}", names.join(", "), self.interval_ms);
        (crc32c(text.as_bytes()) ^ hash_of(instance)).cast_signed()
    }
}

/// Kafka's `Uuid.hashCode`.
fn hash_of(id: Uuid) -> u32 {
    let (high, low) = id.as_u64_pair();
    let mixed = high ^ low;
    ((mixed >> 32) ^ (mixed & u64::from(u32::MAX))).try_into().expect("32 bits")
}
