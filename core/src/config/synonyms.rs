//! Which settings stand for one another.
//!
//! A topic's setting falls back on a broker's (Kafka `ServerTopicConfigSynonyms`); some of a broker's settings come
//! in several units, of which the finest that is set counts (`DynamicBrokerConfig.brokerConfigSynonyms`).

/// A broker's setting that a topic's falls back on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    /// What the broker's value is multiplied by: hours and minutes to milliseconds.
    pub factor: i64,
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

macro_rules! synonyms {
    ($($name:literal $(* $factor:expr)?),+) => {
        &[$(Synonym { name: $name, factor: 1 $(* $factor)? }),+]
    };
}

/// The broker's settings behind a topic's, the one that counts first; empty when there is none.
pub fn topic_synonyms(topic_config: &str) -> &'static [Synonym] {
    match topic_config {
        "segment.bytes" => synonyms!["log.segment.bytes"],
        "segment.ms" => synonyms!["log.roll.ms", "log.roll.hours" * HOUR_MS],
        "segment.jitter.ms" => synonyms!["log.roll.jitter.ms", "log.roll.jitter.hours" * HOUR_MS],
        "segment.index.bytes" => synonyms!["log.index.size.max.bytes"],
        "flush.messages" => synonyms!["log.flush.interval.messages"],
        "flush.ms" => synonyms!["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        "retention.bytes" => synonyms!["log.retention.bytes"],
        "retention.ms" => {
            synonyms!["log.retention.ms", "log.retention.minutes" * MINUTE_MS, "log.retention.hours" * HOUR_MS]
        }
        "max.message.bytes" => synonyms!["message.max.bytes"],
        "index.interval.bytes" => synonyms!["log.index.interval.bytes"],
        "delete.retention.ms" => synonyms!["log.cleaner.delete.retention.ms"],
        "min.compaction.lag.ms" => synonyms!["log.cleaner.min.compaction.lag.ms"],
        "max.compaction.lag.ms" => synonyms!["log.cleaner.max.compaction.lag.ms"],
        "file.delete.delay.ms" => synonyms!["log.segment.delete.delay.ms"],
        "min.cleanable.dirty.ratio" => synonyms!["log.cleaner.min.cleanable.ratio"],
        "cleanup.policy" => synonyms!["log.cleanup.policy"],
        "unclean.leader.election.enable" => synonyms!["unclean.leader.election.enable"],
        "min.insync.replicas" => synonyms!["min.insync.replicas"],
        "compression.type" => synonyms!["compression.type"],
        "compression.gzip.level" => synonyms!["compression.gzip.level"],
        "compression.lz4.level" => synonyms!["compression.lz4.level"],
        "compression.zstd.level" => synonyms!["compression.zstd.level"],
        "preallocate" => synonyms!["log.preallocate"],
        "message.timestamp.type" => synonyms!["log.message.timestamp.type"],
        "message.timestamp.before.max.ms" => synonyms!["log.message.timestamp.before.max.ms"],
        "message.timestamp.after.max.ms" => synonyms!["log.message.timestamp.after.max.ms"],
        "local.retention.ms" => synonyms!["log.local.retention.ms"],
        "local.retention.bytes" => synonyms!["log.local.retention.bytes"],
        _ => &[],
    }
}

/// The broker's setting behind a group's: that of the same name after `group.`, but for those without one
/// (Kafka `GroupConfig.brokerSynonym`).
pub fn group_synonym(group_config: &str) -> Option<String> {
    let without =
        matches!(group_config, "share.auto.offset.reset" | "share.isolation.level" | "share.renew.acknowledge.enable");
    (!without).then(|| format!("group.{group_config}"))
}

const ROLL: &[&str] = &["log.roll.ms", "log.roll.hours"];
const ROLL_JITTER: &[&str] = &["log.roll.jitter.ms", "log.roll.jitter.hours"];
const RETENTION: &[&str] = &["log.retention.ms", "log.retention.minutes", "log.retention.hours"];
const FLUSH: &[&str] = &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"];

/// Settings that go with a SASL mechanism: `listener.name.<listener>.<mechanism>.<setting>`.
const OF_A_MECHANISM: &[&str] = &[
    "sasl.jaas.config",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.server.callback.handler.class",
    "connections.max.reauth.ms",
];

/// All names that a broker's setting may be given by, the one that counts first. A setting of one listener falls
/// back on that of all of them.
pub fn broker_synonyms(name: &str) -> Vec<&str> {
    for family in [ROLL, ROLL_JITTER, RETENTION] {
        if family.contains(&name) {
            return family.to_vec();
        }
    }
    if name == FLUSH[0] {
        return FLUSH.to_vec();
    }
    match of_one_listener(name) {
        Some(base) => vec![name, base],
        None => vec![name],
    }
}

/// `ssl.keystore.location` of `listener.name.<listener>.ssl.keystore.location`.
pub(super) fn of_one_listener(name: &str) -> Option<&str> {
    let (_, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
    Some(OF_A_MECHANISM.iter().find(|setting| base.ends_with(**setting)).copied().unwrap_or(base))
}
