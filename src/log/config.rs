//! What can be set on a log and on the flusher of a data directory.

/// Of one partition: from the topic's config. Defaults are Kafka's (`LogConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`, bytes, default 1 GiB, at most `i32::MAX`. A segment is closed before it would grow
    /// beyond. Small: many files. Large: retention and compaction work in coarse steps.
    pub segment_bytes: u32,
    /// `segment.ms`, milliseconds, default 7 days: age of the first record at which a segment is closed by the
    /// next append.
    pub segment_ms: i64,
    /// `segment.jitter.ms`, milliseconds, default 0: up to this much is taken from `segment_ms`, so that not all
    /// partitions roll at once.
    pub segment_jitter_ms: i64,
    /// `index.interval.bytes`, bytes, default 4096: an index entry every so many bytes. Small: memory; large:
    /// more header reads for a fetch that starts inside.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`, bytes, default 10 MiB: the segment is closed when its index would grow beyond
    /// (12 bytes an entry, as Kafka's larger index).
    pub segment_index_bytes: u32,
    /// `retention.ms`, milliseconds, default 7 days, `None` (-1) for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`, bytes, default none (-1).
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy` contains `delete`. Default true.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`. Default false.
    pub compact: bool,
    /// `min.cleanable.dirty.ratio`, 0 to 1, default 0.5. Low: compacts often for little; high: more garbage stays.
    pub min_cleanable_dirty_ratio: Ratio,
    /// `min.compaction.lag.ms`, milliseconds, default 0: how long a record stays uncompacted at least.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`, milliseconds, default `i64::MAX`: after this a segment is compacted whatever the
    /// dirty ratio.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`, milliseconds, default 1 day: how long a tombstone stays after a compaction saw it.
    pub delete_retention_ms: i64,
}

/// A share in parts of a million, so that a config can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(pub u32);

impl Ratio {
    /// From a share of 0 to 1; what lies outside is clamped.
    pub fn of(share: f64) -> Self {
        // In range after the clamp.
        Self((share.clamp(0.0, 1.0) * 1e6) as u32)
    }

    /// 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            delete: true,
            compact: false,
            min_cleanable_dirty_ratio: Ratio::of(0.5),
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: DAY_MS,
        }
    }
}

impl LogConfig {
    /// Age at which a segment is closed: compacted topics close in time for `max.compaction.lag.ms` (Kafka
    /// `LogConfig.maxSegmentMs`).
    pub fn roll_ms(&self) -> i64 {
        if self.compact && self.max_compaction_lag_ms > 0 {
            self.segment_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_ms
        }
    }
}

/// How a data directory brings written bytes to the disk (`flush.method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FlushMethod {
    /// By the number of dirty files.
    #[default]
    Auto,
    /// `fdatasync` for each file.
    File,
    /// `syncfs` of the whole file system. Needs Linux 5.8: earlier ones hide write-back errors from it.
    Filesystem,
}

/// Of one data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushConfig {
    /// `flush.method`, default auto.
    pub method: FlushMethod,
    /// Most distinct dirty files that a round syncs one by one before `auto` takes `syncfs`, default 4. `bench/disk`
    /// finds the crossover of a machine.
    pub files_max: usize,
    /// Threads that sync files in parallel, default 8. More than the device takes at once is in vain.
    pub threads: usize,
    /// Most files of closed segments held open, default 4096, and never more than an eighth of the descriptors that
    /// the process may have. Few: files are reopened by reads; many: descriptors.
    pub open_files_max: usize,
    /// Most bytes of indexes of closed segments held in memory, default 64 MiB. Few: indexes are read again.
    pub index_bytes_max: usize,
    /// Bytes kept free for RocksDB and for deletions on a disk that is full otherwise, default 16 MiB. RocksDB alone
    /// wants 8 MiB before it goes on.
    pub ballast_bytes: u64,
}

impl Default for FlushConfig {
    fn default() -> Self {
        Self {
            method: FlushMethod::Auto,
            files_max: 4,
            threads: 8,
            open_files_max: 4096,
            index_bytes_max: 64 << 20,
            ballast_bytes: 16 << 20,
        }
    }
}
