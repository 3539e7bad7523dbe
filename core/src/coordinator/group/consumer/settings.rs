//! Settings of consumer groups: the broker's (`group.consumer.*`), and what single groups have of their own.

use super::super::share::ShareTimes;
use super::super::streams::StreamsSettings;
use super::assign::Assignor;
use crate::config::{BrokerConfig, ConfigMap, ConfigValue, group_config};

/// Times in milliseconds. Defaults are Kafka's (`GroupCoordinatorConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// Whether the protocol is offered: `consumer` in `group.coordinator.rebalance.protocols`.
    pub is_enabled: bool,
    /// `group.consumer.session.timeout.ms`. Lower finds dead members sooner and forgives fewer late heartbeats.
    pub session_timeout_ms: i32,
    pub session_timeout_ms_min: i32,
    pub session_timeout_ms_max: i32,
    /// `group.consumer.heartbeat.interval.ms`. Lower makes rebalances faster and costs more requests.
    pub heartbeat_interval_ms: i32,
    pub heartbeat_interval_ms_min: i32,
    pub heartbeat_interval_ms_max: i32,
    /// `group.consumer.assignment.interval.ms`: members that come one after the other are assigned to together. 0
    /// assigns with every change.
    pub assignment_interval_ms: i32,
    pub assignment_interval_ms_min: i32,
    pub assignment_interval_ms_max: i32,
    /// `group.consumer.max.size`: members a group may have.
    pub group_size_max: usize,
    /// `group.consumer.assignors`; the first is the one for members that do not care.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`.
    pub migration: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`: how often patterns are compared with the topics without a cause.
    pub pattern_refresh_ms: i64,
}

/// Whether groups may go from one protocol to the other while they have members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationPolicy {
    pub upgrade: bool,
    pub downgrade: bool,
}

impl MigrationPolicy {
    pub fn is_disabled(self) -> bool {
        !self.upgrade && !self.downgrade
    }

    fn of(name: &str) -> Self {
        let name = name.trim().to_ascii_lowercase();
        let both = name == "bidirectional";
        Self { upgrade: both || name == "upgrade", downgrade: both || name == "downgrade" }
    }
}

/// What a group has of its own (`consumer.*`, `share.*` and `streams.*` of a GROUP resource).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSettings {
    pub session_timeout_ms: Option<i32>,
    pub heartbeat_interval_ms: Option<i32>,
    pub assignment_interval_ms: Option<i32>,
    pub share: ShareTimes,
    pub streams: StreamsSettings,
}

impl GroupSettings {
    pub fn of(configs: &ConfigMap) -> Self {
        let int = |name: &str| match group_config(name)?.parse(configs.get(name)?) {
            Ok(ConfigValue::Int(value)) => Some(value),
            _ => None,
        };
        Self {
            session_timeout_ms: int("consumer.session.timeout.ms"),
            heartbeat_interval_ms: int("consumer.heartbeat.interval.ms"),
            assignment_interval_ms: int("consumer.assignment.interval.ms"),
            share: ShareTimes {
                session_timeout_ms: int("share.session.timeout.ms"),
                heartbeat_interval_ms: int("share.heartbeat.interval.ms"),
                assignment_interval_ms: int("share.assignment.interval.ms"),
            },
            streams: StreamsSettings {
                session_timeout_ms: int("streams.session.timeout.ms"),
                heartbeat_interval_ms: int("streams.heartbeat.interval.ms"),
                assignment_interval_ms: int("streams.assignment.interval.ms"),
                initial_rebalance_delay_ms: int("streams.initial.rebalance.delay.ms"),
                num_standby_replicas: int("streams.num.standby.replicas"),
            },
        }
    }
}

impl Default for ConsumerConfig {
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
            group_size_max: i32::MAX as usize,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: MigrationPolicy { upgrade: true, downgrade: true },
            pattern_refresh_ms: 600_000,
        }
    }
}

impl ConsumerConfig {
    /// As a broker is set up.
    pub fn of(broker: &BrokerConfig) -> Self {
        let int = |name: &str| i32::try_from(broker.integer(&format!("group.consumer.{name}"))).unwrap_or(i32::MAX);
        let assignors = broker.list("group.consumer.assignors");
        Self {
            is_enabled: broker.list("group.coordinator.rebalance.protocols").iter().any(|name| name == "consumer"),
            session_timeout_ms: int("session.timeout.ms"),
            session_timeout_ms_min: int("min.session.timeout.ms"),
            session_timeout_ms_max: int("max.session.timeout.ms"),
            heartbeat_interval_ms: int("heartbeat.interval.ms"),
            heartbeat_interval_ms_min: int("min.heartbeat.interval.ms"),
            heartbeat_interval_ms_max: int("max.heartbeat.interval.ms"),
            assignment_interval_ms: int("assignment.interval.ms"),
            assignment_interval_ms_min: int("min.assignment.interval.ms"),
            assignment_interval_ms_max: int("max.assignment.interval.ms"),
            group_size_max: usize::try_from(int("max.size")).unwrap_or(0),
            assignors: assignors.iter().filter_map(|name| Assignor::of(name)).collect(),
            migration: MigrationPolicy::of(broker.text("group.consumer.migration.policy").unwrap_or_default()),
            pattern_refresh_ms: broker.integer("group.consumer.regex.refresh.interval.ms"),
        }
    }

    /// The assignor of groups whose members do not care.
    pub fn default_assignor(&self) -> Assignor {
        self.assignors.first().copied().unwrap_or(Assignor::Uniform)
    }

    pub fn session_timeout_ms(&self, of: GroupSettings) -> i32 {
        let own = of.session_timeout_ms;
        own.map_or(self.session_timeout_ms, |ms| within(ms, self.session_timeout_ms_min, self.session_timeout_ms_max))
    }

    pub fn heartbeat_interval_ms(&self, of: GroupSettings) -> i32 {
        let (min, max) = (self.heartbeat_interval_ms_min, self.heartbeat_interval_ms_max);
        of.heartbeat_interval_ms.map_or(self.heartbeat_interval_ms, |ms| within(ms, min, max))
    }

    pub fn assignment_interval_ms(&self, of: GroupSettings) -> i32 {
        let (min, max) = (self.assignment_interval_ms_min, self.assignment_interval_ms_max);
        of.assignment_interval_ms.map_or(self.assignment_interval_ms, |ms| within(ms, min, max))
    }
}

/// What was set may lie outside of limits that changed since.
pub(in super::super) fn within(value: i32, min: i32, max: i32) -> i32 {
    value.min(max).max(min)
}
