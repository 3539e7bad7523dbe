//! The log of one partition: segments on disk, their indexes, recovery, retention, compaction, flush.
//!
//! Holds frames, which are record batches byte for byte and raft's own entries, and hands out ranges of
//! files. Knows nothing of raft's rules, of RocksDB, of topics' names or of who asks.

mod append;
mod ballast;
mod compaction;
mod config;
mod data_dir;
mod dump;
mod entries;
mod entry;
mod error;
mod fd_limit;
mod files;
mod flusher;
mod frame;
mod handles;
mod incoming;
mod index;
mod index_file;
mod io;
mod meta;
mod names;
mod partition_dir;
mod probe;
mod read;
mod recovery;
mod retention;
mod roll;
mod scan;
mod scrub;
mod segment;
#[cfg(test)]
mod tests;
mod throttle;
mod timestamps;
mod truncate;
mod view;
mod walk;
mod writer;

pub use ballast::give_up_ballast;
pub use compaction::{Compacted, CompactionJob, CompactionLimits, KnownProducers};
pub use config::{FlushConfig, FlushMethod, LogConfig, Ratio};
pub use data_dir::DataDir;
pub use dump::dump_segment;
pub use entry::{Descriptor, Entry, Payload, ScannedFrame};
pub use error::{LogError, LostPlace, OpenError, ReadError};
pub use fd_limit::raise_fd_limit;
pub use flusher::{Dirty, FlushStats};
pub use incoming::{CompactedSegment, Incoming, IncomingSegment};
#[cfg(test)]
pub use io::faults;
pub use meta::{Checkpoint, MetaError, SegmentMeta};
pub use recovery::{Known, Opened};
pub use scrub::Scrub;
pub use timestamps::FoundTimestamp;
pub use view::{LogView, Slice};
pub use writer::{Log, LogEvent, LogStart};
