//! Settings of the group coordinator.

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
    /// How long the first join of a member may be parked before it is taken for dead. Not configurable in Kafka.
    pub new_member_join_timeout_ms: i32,
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
            new_member_join_timeout_ms: 5 * 60 * 1_000,
        }
    }
}
