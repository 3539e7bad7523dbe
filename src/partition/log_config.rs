//! A topic's settings as its logs take them.

use millstream_core::config::TopicConfig;

use crate::log::{LogConfig, Ratio};

/// What the log of a topic's partition is to be like.
pub(super) fn log_config(topic: &TopicConfig) -> LogConfig {
    LogConfig {
        segment_bytes: u32::try_from(topic.segment_bytes).unwrap_or(u32::MAX),
        segment_ms: topic.segment_ms,
        segment_jitter_ms: topic.segment_jitter_ms,
        index_interval_bytes: u32::try_from(topic.index_interval_bytes).unwrap_or(u32::MAX),
        segment_index_bytes: u32::try_from(topic.segment_index_bytes).unwrap_or(u32::MAX),
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes,
        delete: topic.cleanup.delete,
        compact: topic.cleanup.compact,
        min_cleanable_dirty_ratio: Ratio::of(topic.min_cleanable_dirty_ratio),
        min_compaction_lag_ms: topic.min_compaction_lag_ms,
        max_compaction_lag_ms: topic.max_compaction_lag_ms,
        delete_retention_ms: topic.delete_retention_ms,
    }
}
