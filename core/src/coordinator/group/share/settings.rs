//! Settings of share groups: the broker's (`group.share.*`), and what single groups have of their own.

use super::super::consumer::within;
use crate::config::BrokerConfig;

/// Times in milliseconds. Defaults are Kafka's (`ShareGroupConfig`, `GroupCoordinatorConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// `group.share.session.timeout.ms`. Lower finds dead members sooner and forgives fewer late heartbeats.
    pub session_timeout_ms: i32,
    pub session_timeout_ms_min: i32,
    pub session_timeout_ms_max: i32,
    /// `group.share.heartbeat.interval.ms`. Lower makes new members wait less and costs more requests.
    pub heartbeat_interval_ms: i32,
    pub heartbeat_interval_ms_min: i32,
    pub heartbeat_interval_ms_max: i32,
    /// `group.share.assignment.interval.ms`: members that come one after the other are assigned to together. 0 assigns
    /// with every change.
    pub assignment_interval_ms: i32,
    pub assignment_interval_ms_min: i32,
    pub assignment_interval_ms_max: i32,
    /// `group.share.max.size`: members a group may have.
    pub group_size_max: usize,
    /// `group.share.initialize.retry.interval.ms`: how long a share coordinator has to answer before it is asked again.
    pub initialize_retry_ms: i64,
}

/// What a group has of its own (`share.*` of a GROUP resource), as far as members are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareTimes {
    pub session_timeout_ms: Option<i32>,
    pub heartbeat_interval_ms: Option<i32>,
    pub assignment_interval_ms: Option<i32>,
}

impl Default for ShareConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            session_timeout_ms_min: 45_000,
            session_timeout_ms_max: 60_000,
            heartbeat_interval_ms: 5_000,
            heartbeat_interval_ms_min: 5_000,
            heartbeat_interval_ms_max: 15_000,
            assignment_interval_ms: 1_000,
            assignment_interval_ms_min: 0,
            assignment_interval_ms_max: 15_000,
            group_size_max: 200,
            initialize_retry_ms: 30_000,
        }
    }
}

impl ShareConfig {
    /// As a broker is set up.
    pub fn of(broker: &BrokerConfig) -> Self {
        let int = |name: &str| i32::try_from(broker.integer(&format!("group.share.{name}"))).unwrap_or(i32::MAX);
        Self {
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
            initialize_retry_ms: broker.integer("group.share.initialize.retry.interval.ms"),
        }
    }

    pub fn session_timeout_ms(&self, of: ShareTimes) -> i32 {
        let (min, max) = (self.session_timeout_ms_min, self.session_timeout_ms_max);
        of.session_timeout_ms.map_or(self.session_timeout_ms, |ms| within(ms, min, max))
    }

    pub fn heartbeat_interval_ms(&self, of: ShareTimes) -> i32 {
        let (min, max) = (self.heartbeat_interval_ms_min, self.heartbeat_interval_ms_max);
        of.heartbeat_interval_ms.map_or(self.heartbeat_interval_ms, |ms| within(ms, min, max))
    }

    pub fn assignment_interval_ms(&self, of: ShareTimes) -> i32 {
        let (min, max) = (self.assignment_interval_ms_min, self.assignment_interval_ms_max);
        of.assignment_interval_ms.map_or(self.assignment_interval_ms, |ms| within(ms, min, max))
    }
}
