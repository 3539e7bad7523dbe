//! Which files of a partition's directory are its log, and which are left from a compaction that did not end.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use millstream_core::types::Offset;

use super::error::{LostPlace, OpenError};
use super::meta::SegmentMeta;
use super::names::{SegmentName, UNFINISHED};
use super::partition_dir::PartitionDir;
use super::recovery::open_io;
use super::scan::read_header;

/// A segment's file.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundFile {
    pub name: SegmentName,
    pub len: u64,
}

/// What the directory holds.
pub(super) struct PartitionFiles {
    /// By base offset.
    pub segments: Vec<FoundFile>,
    /// To be deleted once the log is open: segments that a compacted one stands for, unfinished ones, indexes of no
    /// segment.
    pub leftovers: Vec<PathBuf>,
}

impl PartitionFiles {
    /// A missing directory is an empty one.
    pub fn list(dir: &PartitionDir, known: &[SegmentMeta]) -> Result<Self, OpenError> {
        let mut segments = Vec::new();
        let mut indexes = Vec::new();
        let mut leftovers = Vec::new();
        let entries = match fs::read_dir(dir.path()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self { segments, leftovers }),
            entries => entries.map_err(|e| open_io(dir.path(), e))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| open_io(dir.path(), e))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if let Some(name) = SegmentName::of_log(&name) {
                let len = entry.metadata().map_err(|e| open_io(&entry.path(), e))?.len();
                segments.push(FoundFile { name, len });
            } else if let Some(name) = SegmentName::of_index(&name) {
                indexes.push(name);
            } else if name.ends_with(UNFINISHED) {
                leftovers.push(entry.path());
            }
        }
        segments.sort_unstable_by_key(|file| file.name);
        let replaced = replaced(dir, &segments, known)?;
        segments.retain(|file| !replaced.contains(&file.name));
        leftovers.extend(replaced.iter().map(|name| dir.path().join(name.log())));
        let has_segment = |name: &SegmentName| segments.iter().any(|file| file.name == *name);
        let strays = indexes.iter().filter(|name| !has_segment(name));
        leftovers.extend(strays.map(|name| dir.path().join(name.index())));
        Ok(Self { segments, leftovers })
    }
}

/// Segments that a compacted one stands for. It got its name when it was whole and synced, so it wins, and those
/// with a lower generation whose base offset lies in its range are left from before.
fn replaced(
    dir: &PartitionDir,
    segments: &[FoundFile],
    known: &[SegmentMeta],
) -> Result<BTreeSet<SegmentName>, OpenError> {
    let mut replaced = BTreeSet::new();
    for compacted in segments.iter().filter(|file| file.name.generation > 0) {
        let (base, generation) = (compacted.name.base_offset, compacted.name.generation);
        let end = end_of(dir, compacted, known)?;
        let covered = segments.iter().map(|file| file.name);
        replaced.extend(covered.filter(|name| name.generation < generation && (base..end).contains(&name.base_offset)));
    }
    Ok(replaced)
}

/// The offset after those for which a compacted segment stands.
fn end_of(dir: &PartitionDir, file: &FoundFile, known: &[SegmentMeta]) -> Result<Offset, OpenError> {
    let is_it = |meta: &&SegmentMeta| {
        meta.base_offset == file.name.base_offset && meta.generation == file.name.generation && meta.length == file.len
    };
    if let Some(meta) = known.iter().find(is_it) {
        return Ok(meta.end_offset);
    }
    let path = dir.path().join(file.name.log());
    let header = File::open(&path).and_then(|handle| read_header(&handle, file.len)).map_err(|e| open_io(&path, e))?;
    match header {
        Ok(header) => Ok(header.end_offset),
        Err(e) => Err(OpenError::Lost { place: LostPlace { path, position: 0, reason: e.to_string() } }),
    }
}
