//! Settings that must go together, though each of them is allowed by itself.

use super::{BrokerConfig, ConfigError};

/// A group's setting and the broker's settings that bound it. The broker's own value is bounded in the same way.
struct Bounds {
    name: &'static str,
    min: Option<&'static str>,
    max: &'static str,
}

/// Kafka `GroupConfig.validateValues`, in its order.
const OF_GROUPS: &[Bounds] = &[
    bounds(
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    bounds(
        "consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    bounds(
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    bounds(
        "share.heartbeat.interval.ms",
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    bounds("share.session.timeout.ms", "group.share.min.session.timeout.ms", "group.share.max.session.timeout.ms"),
    bounds(
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    bounds(
        "share.delivery.count.limit",
        "group.share.min.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    bounds(
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    bounds(
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    bounds(
        "streams.heartbeat.interval.ms",
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    bounds(
        "streams.session.timeout.ms",
        "group.streams.min.session.timeout.ms",
        "group.streams.max.session.timeout.ms",
    ),
    Bounds { name: "streams.num.standby.replicas", min: None, max: "group.streams.max.standby.replicas" },
    bounds(
        "streams.assignment.interval.ms",
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
];

const fn bounds(name: &'static str, min: &'static str, max: &'static str) -> Bounds {
    Bounds { name, min: Some(min), max }
}

/// Checks a group's settings against the broker's bounds; `value` gives the group's value, or the broker's own.
/// `prefix` stands before the names in the error.
pub(super) fn check_group_bounds(
    prefix: &str,
    value: impl Fn(&str) -> i64,
    broker: &BrokerConfig,
) -> Result<(), ConfigError> {
    let conflict = |name: &str, relation: &str, other: &str| {
        let name = format!("{prefix}{name}");
        Err(ConfigError::OutOfBounds { text: format!("{name} must be {relation} {other}"), name })
    };
    for Bounds { name, min, max } in OF_GROUPS {
        let value = value(name);
        if let Some(min) = min
            && value < broker.integer(min)
        {
            return conflict(name, "greater than or equal to", min);
        }
        if value > broker.integer(max) {
            return conflict(name, "less than or equal to", max);
        }
    }
    for kind in ["consumer", "share", "streams"] {
        let (session, heartbeat) = (format!("{kind}.session.timeout.ms"), format!("{kind}.heartbeat.interval.ms"));
        if value(&session) <= value(&heartbeat) {
            return conflict(&session, "greater than", &format!("{prefix}{heartbeat}"));
        }
    }
    Ok(())
}

/// What must hold among a broker's settings (Kafka `KafkaConfig.validateValues`, as far as it has a meaning here).
pub(super) fn check_broker(config: &BrokerConfig) -> Result<(), ConfigError> {
    let require = |name: &str, holds: bool, text: &str| match holds {
        true => Ok(()),
        false => Err(ConfigError::OutOfBounds { name: name.to_owned(), text: text.to_owned() }),
    };
    if config.is_set("broker.id") {
        let same =
            matches!(config.integer("broker.id"), -1) || config.integer("broker.id") == config.integer("node.id");
        require("broker.id", same, "You must set `node.id` to the same value as `broker.id`.")?;
    }
    for (name, least) in [("log.roll.ms", 1), ("log.roll.jitter.ms", 0)] {
        let holds = config.try_integer(name).is_none_or(|value| value >= least);
        require(name, holds, &format!("{name} must be greater than or equal to {least}"))?;
    }
    // Kafka takes every negative time for -1.
    let retention = ["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
        .into_iter()
        .find_map(|name| Some((name, config.try_integer(name)?)));
    if let Some((name, value)) = retention {
        require(name, value != 0, "log.retention.ms must be unlimited (-1) or, greater than or equal to 1")?;
    }
    let (least, most) = ("log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms");
    let text = format!("{least} must be less than or equal to {most}");
    require(least, config.integer(least) <= config.integer(most), &text)?;
    const PER_IP: &str = "max.connections.per.ip";
    const OVERRIDES: &str = "max.connections.per.ip.overrides";
    let overrides = config.text(OVERRIDES).unwrap_or_default();
    let text = format!("{PER_IP} can be set to zero only if {OVERRIDES} property is set.");
    require(PER_IP, config.integer(PER_IP) > 0 || !overrides.is_empty(), &text)?;
    let entries = overrides.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let invalid: Vec<&str> = entries.filter(|entry| !is_connection_limit(entry)).map(host_of).collect();
    let text = format!("{OVERRIDES} contains invalid addresses : {}", invalid.join(","));
    require(OVERRIDES, invalid.is_empty(), &text)?;
    check_group_bounds("group.", |name| config.integer(&format!("group.{name}")), config)
}

fn host_of(entry: &str) -> &str {
    entry.rsplit_once(':').map_or(entry, |(host, _)| host)
}

/// `HOST:COUNT`.
fn is_connection_limit(entry: &str) -> bool {
    let Some((host, count)) = entry.rsplit_once(':') else { return false };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    !host.is_empty() && host.chars().all(is_host) && count.trim().parse::<u32>().is_ok_and(|n| n <= i32::MAX as u32)
}
