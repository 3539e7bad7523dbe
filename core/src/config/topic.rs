//! The settings of a topic that the broker works by, in their types.

use super::{
    BrokerConfig, ConfigDef, ConfigMap, ConfigType, ConfigValue, ThrottledReplicas, topic_config, topic_synonyms,
};
use crate::record::{Compression, TimestampType};

/// What becomes of old records. Both: compacted, and deleted by age and size. Neither: kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub compact: bool,
    pub delete: bool,
}

/// What `compression.type` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionTarget {
    /// Whatever the producer chose.
    Producer,
    /// This codec at this level; the level means nothing to `None` and `Snappy`.
    Codec { codec: Compression, level: i32 },
}

/// A topic's settings in force. Defaults are Kafka's.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// Up to this much is taken off `segment_ms`, by chance.
    pub segment_jitter_ms: i64,
    /// `None`: for ever.
    pub retention_ms: Option<i64>,
    /// Of one partition. `None`: without limit.
    pub retention_bytes: Option<u64>,
    pub cleanup: CleanupPolicy,
    pub delete_retention_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    /// From 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// Largest record batch, its header included.
    pub max_message_bytes: usize,
    pub min_insync_replicas: usize,
    pub compression: CompressionTarget,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub index_interval_bytes: usize,
    pub segment_index_bytes: usize,
    /// Whose leader gives replicas that catch up only `leader.replication.throttled.rate`.
    pub leader_throttled: ThrottledReplicas,
    /// Who takes only `follower.replication.throttled.rate` while it catches up.
    pub follower_throttled: ThrottledReplicas,
    /// Acknowledge what a majority has appended, before it is on disk.
    pub write_caching: bool,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::resolve(&ConfigMap::new(), &BrokerConfig::default())
    }
}

impl TopicConfig {
    /// What is in force for a topic with these settings of its own, under this broker's. A value that is not allowed
    /// (any more) counts as not set; `check_topic` refuses it beforehand.
    pub fn resolve(own: &ConfigMap, broker: &BrokerConfig) -> Self {
        let of = Resolver { own, broker };
        let words = |name| match of.value(name) {
            ConfigValue::List(items) => items,
            other => panic!("{name} is no list: {other:?}"),
        };
        let cleanup = words("cleanup.policy");
        let has = |policy: &str| cleanup.iter().any(|item| item == policy);
        Self {
            segment_bytes: of.segment_bytes(),
            segment_ms: of.integer("segment.ms"),
            segment_jitter_ms: of.integer("segment.jitter.ms"),
            retention_ms: Some(of.integer("retention.ms")).filter(|ms| *ms >= 0),
            retention_bytes: u64::try_from(of.integer("retention.bytes")).ok(),
            cleanup: CleanupPolicy { compact: has("compact"), delete: has("delete") },
            delete_retention_ms: of.integer("delete.retention.ms"),
            min_compaction_lag_ms: of.integer("min.compaction.lag.ms"),
            max_compaction_lag_ms: of.integer("max.compaction.lag.ms"),
            min_cleanable_dirty_ratio: match of.value("min.cleanable.dirty.ratio") {
                ConfigValue::Double(ratio) => ratio,
                other => panic!("min.cleanable.dirty.ratio is no number: {other:?}"),
            },
            max_message_bytes: of.size("max.message.bytes"),
            min_insync_replicas: of.size("min.insync.replicas"),
            compression: of.compression(),
            timestamp_type: match of.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: of.integer("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: of.integer("message.timestamp.after.max.ms"),
            index_interval_bytes: of.size("index.interval.bytes"),
            segment_index_bytes: of.size("segment.index.bytes"),
            leader_throttled: ThrottledReplicas::of(&words("leader.replication.throttled.replicas")),
            follower_throttled: ThrottledReplicas::of(&words("follower.replication.throttled.replicas")),
            write_caching: of.value("write.caching") == ConfigValue::Boolean(true),
        }
    }
}

struct Resolver<'a> {
    own: &'a ConfigMap,
    broker: &'a BrokerConfig,
}

impl Resolver<'_> {
    fn value(&self, name: &str) -> ConfigValue {
        effective(known(name), self.own, self.broker).unwrap_or_else(|| panic!("{name} has no default"))
    }

    fn integer(&self, name: &str) -> i64 {
        as_integer(&self.value(name)).unwrap_or_else(|| panic!("{name} is no whole number"))
    }

    /// Of settings that are never negative.
    fn size(&self, name: &str) -> usize {
        usize::try_from(self.integer(name)).unwrap_or_else(|_| panic!("{name} is negative"))
    }

    fn text(&self, name: &str) -> String {
        match self.value(name) {
            ConfigValue::Text(text) => text,
            other => panic!("{name} is no text: {other:?}"),
        }
    }

    /// Kafka's tests set sizes below 1 MiB by a setting of their own.
    fn segment_bytes(&self) -> u64 {
        let internal = effective(known("internal.segment.bytes"), self.own, self.broker);
        let bytes = internal.as_ref().and_then(as_integer).unwrap_or_else(|| self.integer("segment.bytes"));
        u64::try_from(bytes).unwrap_or(0).max(1)
    }

    fn compression(&self) -> CompressionTarget {
        let level = |name| i32::try_from(self.integer(name)).expect("levels are ints");
        let (codec, level) = match self.text("compression.type").as_str() {
            "uncompressed" => (Compression::None, 0),
            "gzip" => (Compression::Gzip, level("compression.gzip.level")),
            "snappy" => (Compression::Snappy, 0),
            "lz4" => (Compression::Lz4, level("compression.lz4.level")),
            "zstd" => (Compression::Zstd, level("compression.zstd.level")),
            _ => return CompressionTarget::Producer,
        };
        CompressionTarget::Codec { codec, level }
    }
}

fn known(name: &str) -> &'static ConfigDef {
    topic_config(name).unwrap_or_else(|| panic!("no topic has a setting {name}"))
}

fn as_integer(value: &ConfigValue) -> Option<i64> {
    match value {
        ConfigValue::Int(value) => Some(i64::from(*value)),
        ConfigValue::Short(value) => Some(i64::from(*value)),
        ConfigValue::Long(value) => Some(*value),
        _ => None,
    }
}

/// A topic's own value, or what follows from the broker's settings, or the default.
pub(super) fn effective(def: &ConfigDef, own: &ConfigMap, broker: &BrokerConfig) -> Option<ConfigValue> {
    let own = own.get(def.name).and_then(|text| def.parse(text).ok());
    own.or_else(|| of_broker(def, broker)).or_else(|| def.default_value())
}

/// What the broker's settings make of a topic's (Kafka `KafkaConfig.extractLogConfigMap`).
fn of_broker(def: &ConfigDef, broker: &BrokerConfig) -> Option<ConfigValue> {
    let synonyms = topic_synonyms(def.name);
    let (synonym, value) = synonyms.iter().find_map(|s| Some((s, broker.value(s.name)?)))?;
    if def.kind != ConfigType::Long {
        return Some(value.clone());
    }
    let value = as_integer(value)?.saturating_mul(synonym.factor);
    // Every negative retention time means for ever.
    let forever = def.name == "retention.ms" && value < 0;
    Some(ConfigValue::Long(if forever { -1 } else { value }))
}
