//! Settings of the group coordinator.

use super::consumer::ConsumerConfig;
use super::share::ShareConfig;
use super::streams::StreamsConfig;
use crate::config::BrokerConfig;

/// Times in milliseconds. Defaults are Kafka's (`GroupCoordinatorConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`. Lower finds dead members sooner and costs more heartbeats.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`. Higher lets a dead member hold its partitions longer.
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members. 0 rebalances with every
    /// member that comes.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members a group may have.
    pub group_size_max: usize,
    /// `offset.metadata.max.bytes`. Counted in UTF-16 units, as Kafka does.
    pub offset_metadata_len_max: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long the offsets of a group without members live.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub expiry_interval_ms: u64,
    /// `offsets.commit.timeout.ms`: how long whoever asks for a change waits for its commit. Too short turns a slow
    /// disk into errors; too long keeps clients waiting for one that stands still.
    pub commit_timeout_ms: u64,
    /// How long the first join of a member may be parked before it is taken for dead. Not configurable in Kafka.
    pub new_member_join_timeout_ms: i32,
    pub consumer: ConsumerConfig,
    pub share: ShareConfig,
    pub streams: StreamsConfig,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            group_size_max: i32::MAX as usize,
            offset_metadata_len_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            expiry_interval_ms: 600_000,
            commit_timeout_ms: 5_000,
            new_member_join_timeout_ms: 5 * 60 * 1_000,
            consumer: ConsumerConfig::default(),
            share: ShareConfig::default(),
            streams: StreamsConfig::default(),
        }
    }
}

impl GroupConfig {
    /// As a broker is set up.
    pub fn of(broker: &BrokerConfig) -> Self {
        let int = |name: &str| i32::try_from(broker.integer(name)).unwrap_or(i32::MAX);
        let unsigned = |name: &str| u64::try_from(broker.integer(name)).unwrap_or(0);
        let len = |name: &str| usize::try_from(broker.integer(name)).unwrap_or(0);
        Self {
            session_timeout_ms_min: int("group.min.session.timeout.ms"),
            session_timeout_ms_max: int("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms"),
            group_size_max: len("group.max.size"),
            offset_metadata_len_max: len("offset.metadata.max.bytes"),
            offsets_retention_ms: broker.integer("offsets.retention.minutes").saturating_mul(60_000),
            expiry_interval_ms: unsigned("offsets.retention.check.interval.ms"),
            commit_timeout_ms: unsigned("offsets.commit.timeout.ms"),
            consumer: ConsumerConfig::of(broker),
            share: ShareConfig::of(broker),
            streams: StreamsConfig::of(broker),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_without_settings_has_kafkas_defaults() {
        assert_eq!(GroupConfig::of(&BrokerConfig::default()), GroupConfig::default());
    }
}
