//! The log of one partition: segments on disk, their indexes, recovery, retention, compaction, flush.
//!
//! Holds frames, which are record batches byte for byte and raft's own entries, and hands out ranges of
//! files. Knows nothing of raft's rules, of RocksDB, of topics' names or of who asks.

mod config;
mod data_dir;
mod entry;
mod error;
mod meta;
mod view;
mod writer;

pub use config::{FlushConfig, FlushMethod, LogConfig, Ratio};
pub use data_dir::{DataDir, SegmentFile};
pub use entry::{Descriptor, Entry, Payload, ScannedFrame};
pub use error::{LogError, LostPlace, OpenError, ReadError};
pub use meta::{Checkpoint, SegmentMeta};
pub use view::{FoundTimestamp, LogView, Slice};
pub use writer::{Known, Log, LogEvent, LogStart, Opened};
