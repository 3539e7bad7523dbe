//! Settings of streams groups: the broker's (`group.streams.*`), and what single groups have of their own.

use super::super::consumer::within;
use crate::config::BrokerConfig;

/// Times in milliseconds. Defaults are Kafka's (`GroupCoordinatorConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsConfig {
    /// The broker offers the protocol: `group.coordinator.rebalance.protocols`.
    pub is_enabled: bool,
    /// `group.streams.session.timeout.ms`. Lower finds dead members sooner and forgives fewer late heartbeats.
    pub session_timeout_ms: i32,
    pub session_timeout_ms_min: i32,
    pub session_timeout_ms_max: i32,
    /// `group.streams.heartbeat.interval.ms`. Lower moves tasks faster and costs more requests.
    pub heartbeat_interval_ms: i32,
    pub heartbeat_interval_ms_min: i32,
    pub heartbeat_interval_ms_max: i32,
    /// `group.streams.assignment.interval.ms`: members that come one after the other are assigned to together. 0 assigns
    /// with every change.
    pub assignment_interval_ms: i32,
    pub assignment_interval_ms_min: i32,
    pub assignment_interval_ms_max: i32,
    /// `group.streams.initial.rebalance.delay.ms`: how long a group without members waits for more than one. 0 assigns
    /// at once, and moves tasks again with every member that comes.
    pub initial_rebalance_delay_ms: i32,
    /// `group.streams.max.size`: members a group may have.
    pub group_size_max: usize,
    /// `group.streams.num.standby.replicas`: copies of the state of each task. More cost disks and traffic, and a task
    /// whose member dies goes on sooner.
    pub num_standby_replicas: i32,
    pub num_standby_replicas_max: i32,
}

/// What a group has of its own (`streams.*` of a GROUP resource).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamsSettings {
    pub session_timeout_ms: Option<i32>,
    pub heartbeat_interval_ms: Option<i32>,
    pub assignment_interval_ms: Option<i32>,
    pub initial_rebalance_delay_ms: Option<i32>,
    pub num_standby_replicas: Option<i32>,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            is_enabled: true,
            session_timeout_ms: 45_000,
            session_timeout_ms_min: 45_000,
            session_timeout_ms_max: 60_000,
            heartbeat_interval_ms: 5_000,
            heartbeat_interval_ms_min: 5_000,
            heartbeat_interval_ms_max: 15_000,
            assignment_interval_ms: 1_000,
            assignment_interval_ms_min: 0,
            assignment_interval_ms_max: 15_000,
            initial_rebalance_delay_ms: 3_000,
            group_size_max: i32::MAX as usize,
            num_standby_replicas: 0,
            num_standby_replicas_max: 2,
        }
    }
}

impl StreamsConfig {
    /// As a broker is set up.
    pub fn of(broker: &BrokerConfig) -> Self {
        let int = |name: &str| i32::try_from(broker.integer(&format!("group.streams.{name}"))).unwrap_or(i32::MAX);
        Self {
            is_enabled: broker.list("group.coordinator.rebalance.protocols").iter().any(|name| name == "streams"),
            session_timeout_ms: int("session.timeout.ms"),
            session_timeout_ms_min: int("min.session.timeout.ms"),
            session_timeout_ms_max: int("max.session.timeout.ms"),
            heartbeat_interval_ms: int("heartbeat.interval.ms"),
            heartbeat_interval_ms_min: int("min.heartbeat.interval.ms"),
            heartbeat_interval_ms_max: int("max.heartbeat.interval.ms"),
            assignment_interval_ms: int("assignment.interval.ms"),
            assignment_interval_ms_min: int("min.assignment.interval.ms"),
            assignment_interval_ms_max: int("max.assignment.interval.ms"),
            initial_rebalance_delay_ms: int("initial.rebalance.delay.ms"),
            group_size_max: usize::try_from(int("max.size")).unwrap_or(0),
            num_standby_replicas: int("num.standby.replicas"),
            num_standby_replicas_max: int("max.standby.replicas"),
        }
    }

    pub fn session_timeout_ms(&self, of: StreamsSettings) -> i32 {
        let (min, max) = (self.session_timeout_ms_min, self.session_timeout_ms_max);
        of.session_timeout_ms.map_or(self.session_timeout_ms, |ms| within(ms, min, max))
    }

    pub fn heartbeat_interval_ms(&self, of: StreamsSettings) -> i32 {
        let (min, max) = (self.heartbeat_interval_ms_min, self.heartbeat_interval_ms_max);
        of.heartbeat_interval_ms.map_or(self.heartbeat_interval_ms, |ms| within(ms, min, max))
    }

    pub fn assignment_interval_ms(&self, of: StreamsSettings) -> i32 {
        let (min, max) = (self.assignment_interval_ms_min, self.assignment_interval_ms_max);
        of.assignment_interval_ms.map_or(self.assignment_interval_ms, |ms| within(ms, min, max))
    }

    pub fn initial_rebalance_delay_ms(&self, of: StreamsSettings) -> i32 {
        of.initial_rebalance_delay_ms.unwrap_or(self.initial_rebalance_delay_ms)
    }

    pub fn num_standby_replicas(&self, of: StreamsSettings) -> i32 {
        let max = self.num_standby_replicas_max;
        of.num_standby_replicas.map_or(self.num_standby_replicas, |count| within(count, 0, max))
    }
}
