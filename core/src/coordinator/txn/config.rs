//! Settings of the transaction coordinator.

use crate::config::BrokerConfig;

/// Times in milliseconds. Defaults are Kafka's (`TransactionStateManagerConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: how often transactions are looked for that take
    /// too long. Longer holds up consumers behind a producer that died.
    pub timeout_interval_ms: u64,
    /// `transactional.id.expiration.ms`: a transactional id that was not used for so long is forgotten. Shorter than a
    /// producer's longest pause, and it comes back as a stranger.
    pub expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiry_interval_ms: u64,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self { timeout_interval_ms: 10_000, expiration_ms: 7 * 24 * 60 * 60 * 1_000, expiry_interval_ms: 3_600_000 }
    }
}

impl TransactionConfig {
    /// As a broker is set up.
    pub fn of(broker: &BrokerConfig) -> Self {
        let unsigned = |name: &str| u64::try_from(broker.integer(name)).unwrap_or(0);
        Self {
            timeout_interval_ms: unsigned("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
            expiration_ms: broker.integer("transactional.id.expiration.ms"),
            expiry_interval_ms: unsigned("transaction.remove.expired.transaction.cleanup.interval.ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_without_settings_has_kafkas_defaults() {
        assert_eq!(TransactionConfig::of(&BrokerConfig::default()), TransactionConfig::default());
    }
}
