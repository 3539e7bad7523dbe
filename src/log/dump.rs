//! A segment for people to read: `millstream debug log FILE`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use millstream_core::record::BatchHeader;

use super::frame::{Frame, parse_frame};
use super::scan::FrameReader;

/// Prints every frame of a segment file, and the place where it goes wrong: this position is returned.
pub fn dump_segment(path: &Path, out: &mut dyn Write) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut reader = FrameReader::new(&file, len);
    // Compacted segments hold no indexes.
    let (mut position, mut next_index) = (0, None);
    while position < len {
        let frame = reader.frame(position)?.and_then(|bytes| Ok((bytes.len() as u64, parse_frame(bytes)?)));
        let (size, frame) = match frame {
            Ok(found) => found,
            Err(e) => {
                writeln!(out, "{position:>10} BAD: {e}; {} bytes are left", len - position)?;
                return Ok(Some(position));
            }
        };
        write!(out, "{position:>10} {size:>8} bytes ")?;
        match frame {
            Frame::Header(header) => {
                next_index = (header.generation == 0).then_some(header.base_index.0);
                writeln!(
                    out,
                    "segment of {} base offset {} base index {} previous term {} generation {} end offset {}",
                    header.partition,
                    header.base_offset,
                    header.base_index,
                    header.prev_term,
                    header.generation,
                    header.end_offset
                )?;
            }
            Frame::Entry { descriptor, data } => {
                next_index = Some(descriptor.index.0 + 1);
                writeln!(
                    out,
                    "index {} term {} own entry of type {} with {} bytes, next offset {}",
                    descriptor.index,
                    descriptor.term,
                    descriptor.own_kind.unwrap_or_default(),
                    data.len(),
                    descriptor.base_offset
                )?;
            }
            Frame::Batch(header) => {
                dump_batch(&header, next_index, out)?;
                next_index = next_index.map(|index| index + 1);
            }
        }
        position += size;
    }
    Ok(None)
}

fn dump_batch(header: &BatchHeader, index: Option<u64>, out: &mut dyn Write) -> io::Result<()> {
    if let Some(index) = index {
        write!(out, "index {index} ")?;
    }
    let codec = header.compression().map_or("unknown", |codec| codec.name());
    write!(
        out,
        "epoch {} batch offsets {}..={} records {} codec {codec} {:?} timestamps {}..={} crc {:08x}",
        header.leader_epoch,
        header.base_offset,
        header.last_offset(),
        header.record_count,
        header.timestamp_type(),
        header.base_timestamp,
        header.max_timestamp,
        header.crc
    )?;
    if header.is_idempotent() {
        write!(
            out,
            " producer {} epoch {} sequences {}..={}",
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.last_sequence()
        )?;
    }
    for (is, word) in [
        (header.is_transactional(), "transactional"),
        (header.is_control(), "control"),
        (header.has_delete_horizon(), "delete-horizon"),
    ] {
        if is {
            write!(out, " {word}")?;
        }
    }
    writeln!(out)
}
