//! The work of a compaction: two passes over the files, on a thread that may wait.

use std::fs::{self, File};
use std::io;

use millstream_core::record::{BatchHeader, RecordIter, batch_body};
use millstream_core::types::Offset;

use super::super::error::{LostPlace, ReadError};
use super::super::frame::{Frame, FrameError, SEGMENT_HEADER_LEN, SegmentHeader, describe_batch, parse_frame};
use super::super::scan::FrameReader;
use super::super::throttle::Throttle;
use super::super::timestamps::INFLATED_MAX;
use super::filter::{Filter, Kept};
use super::offset_map::OffsetMap;
use super::output::{Compacted, Finished, Output};
use super::transactions::{KnownProducers, Transactions};

use super::{CompactionJob, Source};

/// What the first pass found.
struct Mapped {
    map: OffsetMap,
    /// Offset up to which keys are in the map.
    end: Offset,
    /// Sources that begin before that.
    sources: usize,
}

impl CompactionJob {
    /// Reads the dirty part for its keys, then writes all sources anew without what is superseded or was aborted.
    /// `producers`: as they are known now. Memory: the map, and a batch. After an error nothing has changed; `Corrupt`: a source is damaged, and the replica is to be halted; `Gone`: so is a source, or it was
    /// cancelled.
    pub fn run(self, producers: &KnownProducers) -> Result<Compacted, ReadError> {
        let throttle = Throttle::new(self.limits.bytes_per_second_max, self.cancelled.clone());
        let mapped = self.map_keys(&throttle, producers)?;
        let sources = &self.sources[..mapped.sources];
        let mut done = Compacted {
            outputs: Vec::new(),
            bytes_before: sources.iter().map(|source| source.meta.length).sum(),
            bytes_after: 0,
            dirty_keys: mapped.map.len(),
            cleaned_end: mapped.end,
            gone: Vec::new(),
        };
        let last_offset = self.last_batch(sources, &throttle)?;
        let mut filter = Filter {
            map: &mapped.map,
            map_end: mapped.end,
            now: self.limits.now,
            delete_retention_ms: self.config.delete_retention_ms,
            producers: &producers.last,
            last_offset,
            transactions: Transactions::new(producers, Offset::ZERO),
        };
        for group in groups(sources, u64::from(self.config.segment_bytes)) {
            let finished = self.clean(group, &mut filter, &throttle)?;
            done.bytes_after += finished.meta.length;
            done.outputs.push(finished);
        }
        done.gone = filter.transactions.gone;
        Ok(done)
    }

    fn map_keys(&self, throttle: &Throttle, producers: &KnownProducers) -> Result<Mapped, ReadError> {
        let mut transactions = Transactions::new(producers, self.first_dirty);
        let mut map = OffsetMap::new(self.limits.dedupe_buffer_bytes);
        let mut end = self.first_dirty;
        let mut scratch = Vec::new();
        let mut sources = 0;
        for source in &self.sources {
            if map.is_full() {
                break;
            }
            sources += 1;
            if source.meta.end_offset <= self.first_dirty {
                continue;
            }
            each_batch(source, throttle, |header, batch| {
                if header.next_offset() <= self.first_dirty {
                    return Ok(true);
                }
                if map.is_full() {
                    return Ok(false);
                }
                if header.is_control() {
                    transactions.marker(header, batch);
                } else if !transactions.batch(header) {
                    self.map_batch(header, batch, &mut map, &mut scratch)?;
                }
                end = header.next_offset();
                Ok(true)
            })?;
            if !map.is_full() {
                end = source.meta.end_offset;
            }
        }
        Ok(Mapped { map, end, sources })
    }

    fn map_batch(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        map: &mut OffsetMap,
        scratch: &mut Vec<u8>,
    ) -> Result<(), String> {
        let body = batch_body(header, batch, INFLATED_MAX, scratch).map_err(|e| e.to_string())?;
        for record in RecordIter::new(header, body) {
            let record = record.map_err(|e| e.to_string())?;
            if let Some(key) = record.key
                && record.offset >= self.first_dirty
            {
                map.put(key, record.offset);
            }
        }
        Ok(())
    }

    /// Last offset of the last batch.
    fn last_batch(&self, sources: &[Source], throttle: &Throttle) -> Result<Option<Offset>, ReadError> {
        for source in sources.iter().rev() {
            let mut last = None;
            each_batch(source, throttle, |header, _| {
                last = Some(header.last_offset());
                Ok(true)
            })?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// Writes what stays of a group into one segment.
    fn clean(&self, group: &[Source], filter: &mut Filter<'_>, throttle: &Throttle) -> Result<Finished, ReadError> {
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let generation = group.iter().map(|source| source.meta.generation).max().unwrap_or(0) + 1;
        let header = SegmentHeader {
            generation,
            end_offset: last.meta.end_offset,
            end_index: last.meta.end_index,
            last_term: last.meta.last_term,
            cleaned_end: last.meta.end_offset.min(filter.map_end),
            ..SegmentHeader::new(self.id, first.meta.base_offset, first.meta.base_index, first.meta.prev_term)
        };
        let io_error = |e| first.segment.io_error(e);
        let mut output = Output::create(self, header).map_err(io_error)?;
        if let Err(e) = group.iter().try_for_each(|source| clean_into(source, filter, throttle, &mut output)) {
            output.discard();
            return Err(e);
        }
        let modified = fs::metadata(last.segment.path()).and_then(|meta| meta.modified()).ok();
        output.finish(self, modified).map_err(io_error)
    }
}

fn clean_into(
    source: &Source,
    filter: &mut Filter<'_>,
    throttle: &Throttle,
    output: &mut Output,
) -> Result<(), ReadError> {
    let mut scratch = Vec::new();
    each_batch(source, throttle, |header, batch| {
        let rewritten;
        let bytes = match filter.apply(header, batch, &mut scratch)? {
            Kept::Nothing => return Ok(true),
            Kept::Whole => batch,
            Kept::Rewritten(bytes) => {
                rewritten = bytes;
                &rewritten
            }
        };
        let header = BatchHeader::parse(bytes).map_err(|e| e.to_string())?;
        let frame = describe_batch(&header).map_err(|e| e.to_string())?;
        output.push(&frame, bytes).map_err(Stop::Write)?;
        throttle.pass(bytes.len());
        Ok(true)
    })
}

/// Neighbours whose sizes together stay within a segment's, and whose offsets fit into one (`groupSegmentsBySize`).
fn groups(sources: &[Source], segment_bytes: u64) -> Vec<&[Source]> {
    let mut groups = Vec::new();
    let mut rest = sources;
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let fits = |source: &&Source| {
            bytes += source.meta.length;
            let span = source.meta.end_offset.0 - first.meta.base_offset.0;
            bytes <= segment_bytes && span <= i64::from(i32::MAX)
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (group, after) = rest.split_at(count);
        groups.push(group);
        rest = after;
    }
    groups
}

/// Why a pass ends early.
enum Stop {
    /// What is wrong with the batch.
    Corrupt(String),
    /// The output cannot be written.
    Write(io::Error),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Corrupt(reason)
    }
}

/// Calls `each` for every batch, its checksum checked, until it says no.
fn each_batch(
    source: &Source,
    throttle: &Throttle,
    mut each: impl FnMut(&BatchHeader, &[u8]) -> Result<bool, Stop>,
) -> Result<(), ReadError> {
    let segment = &source.segment;
    let path = segment.path();
    let io_error = |e: io::Error| match e.kind() {
        // Deleted by retention, or with its topic.
        io::ErrorKind::NotFound => ReadError::Gone { base_offset: segment.base_offset() },
        _ => segment.io_error(e),
    };
    // A handle of its own: what is read once should not push out what readers have open.
    let file = File::open(&path).map_err(io_error)?;
    let mut reader = FrameReader::new(&file, source.meta.length);
    let mut position = SEGMENT_HEADER_LEN;
    while position < source.meta.length {
        if throttle.is_cancelled() {
            return Err(ReadError::Gone { base_offset: segment.base_offset() });
        }
        let bytes = reader.frame(position).map_err(io_error)?.map_err(|e| segment.corrupt(position, &e))?;
        throttle.pass(bytes.len());
        match parse_frame(bytes).map_err(|e| segment.corrupt(position, &e))? {
            Frame::Entry { .. } => {}
            Frame::Header(_) => return Err(segment.corrupt(position, &FrameError::Kind(0))),
            Frame::Batch(header) => {
                let stopped = |stop| match stop {
                    Stop::Corrupt(reason) => {
                        ReadError::Corrupt { place: LostPlace { path: path.clone(), position, reason } }
                    }
                    Stop::Write(e) => segment.io_error(e),
                };
                if !each(&header, bytes).map_err(stopped)? {
                    return Ok(());
                }
            }
        }
        position += bytes.len() as u64;
    }
    Ok(())
}
