//! What clients tell of themselves (KIP-714): which of them are asked for which metrics, when they may push, and what is
//! shown of what they pushed.
//!
//! Times are passed in. Nobody who pushes is trusted: what is kept of clients and of their metrics has an end.

mod instances;
mod labels;
mod otlp;
mod series;
mod subscription;
#[cfg(test)]
mod tests;

pub use instances::{Client, INSTANCES_MAX, Instances, Push, PushRefused, TooEarly};
pub use otlp::Malformed;
pub use series::{SERIES_MAX, SERIES_PER_CLIENT_MAX, Series, Taken, WhoPushed};
pub use subscription::{INTERVAL_MS_DEFAULT, Subscription, Wanted};

/// A client that is heard of no more is forgotten after this, or after three of its intervals (Kafka
/// `DEFAULT_CACHE_EXPIRY_MS`).
const EXPIRY_MS: i64 = 60_000;
/// Between two looks for what has expired.
const SWEEP_EVERY_MS: i64 = 10_000;

/// For how long nothing need be heard of a client that pushes at this interval.
fn expiry_ms(interval_ms: i32) -> i64 {
    EXPIRY_MS.max(i64::from(interval_ms) * 3)
}
