//! The log as a whole: see `model` for the properties, `stories` for single cases.

mod compaction;
mod faults;
mod flush;
mod model;
mod readers;
mod stories;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::record::{BatchBuilder, BatchHeader};
use millstream_core::types::{Offset, PartitionId, RaftIndex, RaftTerm, Timestamp, TopicId};
use uuid::Uuid;

use super::*;

pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(super) fn partition() -> PartitionId {
    PartitionId { topic: TopicId(Uuid::from_u128(0x1234)), partition: 5 }
}

/// A batch as a client sends it.
pub(super) fn batch(records: usize, value_len: usize, timestamp: Timestamp) -> Bytes {
    let mut builder = BatchBuilder::new();
    for n in 0..records {
        let value = vec![(n * 7 + value_len) as u8; value_len];
        builder.push(timestamp.plus_ms(n as i64), Some(&n.to_be_bytes()), Some(&value), &[]);
    }
    builder.finish()
}

/// The batch as it stands in the log.
pub(super) fn stored(bytes: &Bytes, base_offset: Offset, term: RaftTerm) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&(term.0 as i32).to_be_bytes());
    bytes
}

/// A data directory with one partition, and a store that remembers what the log said.
pub(super) struct Fixture {
    pub root: tempfile::TempDir,
    pub dir: Arc<DataDir>,
    pub config: LogConfig,
    pub known: Known,
    pub log: Option<Log>,
}

pub(super) const START: LogStart =
    LogStart { next_index: RaftIndex(2), prev_term: RaftTerm(1), base_offset: Offset::ZERO };

impl Fixture {
    pub fn new(config: LogConfig) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), FlushConfig { open_files_max: 2, ..FlushConfig::default() }).unwrap();
        let log = Log::create(&dir, partition(), config.clone(), START).unwrap();
        let mut fixture = Self { root, dir, config, known: Known::default(), log: Some(log) };
        fixture.lead(RaftTerm(1));
        fixture
    }

    pub fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    pub fn view(&self) -> Arc<LogView> {
        self.log.as_ref().unwrap().view()
    }

    pub fn append(&mut self, payload: Payload, term: RaftTerm) {
        let log = self.log.as_mut().unwrap();
        let entry = Entry { index: log.last_index().next(), term, next_offset: log.next_offset(), payload };
        let events = log.append(&[entry], NOW).unwrap();
        self.learn(events);
    }

    /// The empty entry with which a term begins.
    pub fn lead(&mut self, term: RaftTerm) {
        self.append(Payload::Own { entry_type: 0, data: Bytes::new() }, term);
    }

    pub fn produce(&mut self, bytes: &Bytes) {
        let log = self.log();
        let (base_offset, term) = (log.next_offset(), log.last_term());
        self.append(Payload::Batch { base_offset, bytes: bytes.clone() }, term);
    }

    pub fn learn(&mut self, events: Vec<LogEvent>) {
        for event in events {
            match event {
                LogEvent::SegmentClosed(meta) => {
                    self.known.segments.retain(|known| known.base_offset != meta.base_offset);
                    self.known.segments.push(meta);
                }
                LogEvent::SegmentRemoved(base) => self.known.segments.retain(|known| known.base_offset != base),
            }
        }
    }

    /// Says that all is synced, as the store would after a flush.
    pub fn synced(&mut self) {
        self.known.synced_end = Some(self.log().last_index().next());
    }

    pub fn checkpoint(&mut self) {
        self.synced();
        self.known.checkpoint = Some(self.log().checkpoint());
    }

    /// Ends as by `kill -9`: nothing is given back or closed in order.
    pub fn kill(&mut self) {
        if let Some(log) = &mut self.log {
            // A log that failed tidies nothing up.
            log.failed = true;
        }
        self.log = None;
    }

    pub fn try_open(&mut self) -> Result<Vec<(Descriptor, Vec<u8>)>, OpenError> {
        let mut frames = Vec::new();
        let mut on_frame = |frame: &ScannedFrame<'_>| {
            assert_eq!(frame.header.is_some(), frame.descriptor.own_kind.is_none());
            frames.push((frame.descriptor, frame.bytes.to_vec()));
        };
        let opened = Log::open(&self.dir, partition(), self.config.clone(), self.known.clone(), &mut on_frame)?;
        self.log = Some(opened.log);
        self.learn(opened.events);
        Ok(frames)
    }

    pub fn path(&self) -> PathBuf {
        let id = partition();
        self.root.path().join("log").join(id.topic.to_string()).join(id.partition.to_string())
    }

    /// The `.log` files, by name.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ext| ext == "log"));
        files.sort();
        files
    }

    /// Offsets of the batches that a reader gets, one read after the other.
    pub fn read_all(&self, from: Offset, end: Offset, max_bytes: usize) -> Vec<u8> {
        let view = self.view();
        let mut bytes = Vec::new();
        let mut next = from;
        while next < end {
            let slice = view.read(next, end, max_bytes, true).unwrap();
            if slice.len == 0 {
                break;
            }
            let mut part = vec![0; slice.len];
            std::os::unix::fs::FileExt::read_exact_at(&*slice.file, &mut part, slice.position).unwrap();
            let mut rest = part.as_slice();
            while !rest.is_empty() {
                let header = BatchHeader::parse_checked(rest).unwrap();
                next = header.next_offset();
                rest = &rest[header.size_bytes()..];
            }
            bytes.extend_from_slice(&part);
        }
        bytes
    }
}
