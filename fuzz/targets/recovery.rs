//! A segment of any bytes is opened: recovery gives a log or a refusal. What it keeps is read back whole, opened again
//! as the same log, and written on.
#![no_main]

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream::log::{DataDir, Entry, FlushConfig, Known, Log, LogConfig, LogStart, Payload};
use millstream_core::record::{BatchBuilder, crc32c};
use millstream_core::types::{Offset, PartitionId, RaftIndex, RaftTerm, Timestamp, TopicId};
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// One data directory for the whole run, and the segment of a good log in it.
struct Place {
    _root: tempfile::TempDir,
    dir: Arc<DataDir>,
    segment: PathBuf,
    good: Vec<u8>,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let memory = std::path::Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let root = tempfile::TempDir::new_in(parent).expect("temporary directory");
    let dir =
        DataDir::open(root.path(), FlushConfig { ballast_bytes: 0, ..FlushConfig::default() }).expect("data directory");
    let start = LogStart { next_index: RaftIndex(2), prev_term: RaftTerm(1), base_offset: Offset(0) };
    let mut log = Log::create(&dir, partition(), LogConfig::default(), start).expect("log");
    for (term, batches) in [(1, 3), (4, 2)] {
        append(&mut log, term, Payload::Own { entry_type: 0, data: Bytes::new() });
        for n in 0..batches {
            let mut builder = BatchBuilder::new();
            builder.push(NOW.plus_ms(n), Some(b"key"), Some(b"some value"), &[]);
            builder.push(NOW.plus_ms(n + 1), None, None, &[]);
            let base_offset = log.next_offset();
            append(&mut log, term, Payload::Batch { base_offset, bytes: builder.finish() });
        }
    }
    // The file is longer: room is set aside beyond the end.
    let end = usize::try_from(log.view().size_bytes()).expect("small");
    drop(log);
    let segment = find_segment(root.path()).expect("a segment");
    let good = std::fs::read(&segment).expect("segment")[..end].to_vec();
    Place { _root: root, dir, segment, good }
});

fn partition() -> PartitionId {
    PartitionId { topic: TopicId(Uuid::from_u128(0x1234)), partition: 0 }
}

fn append(log: &mut Log, term: u64, payload: Payload) {
    let entry = Entry { index: log.last_index().next(), term: RaftTerm(term), next_offset: log.next_offset(), payload };
    log.append(&[entry], NOW).expect("append");
}

fn find_segment(path: &std::path::Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(path).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find_segment(&path) {
                return Some(found);
            }
        } else if path.extension().is_some_and(|x| x == "log") {
            return Some(path);
        }
    }
    None
}

/// Gives each frame the checksum that its bytes have, so that what lies behind the checksum is reached too.
fn mend_checksums(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 17) {
        let length = i32::from_be_bytes(head[8..12].try_into().expect("four bytes"));
        let Some(end) = usize::try_from(length).ok().and_then(|l| at.checked_add(12 + l)).filter(|e| *e <= bytes.len())
        else {
            return;
        };
        if end < at + 22 {
            return;
        }
        let crc = crc32c(&bytes[at + 21..end]);
        bytes[at + 17..at + 21].copy_from_slice(&crc.to_be_bytes());
        at = end;
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((switches, data)) = data.split_first() else { return };
    let place = &*PLACE;
    let mut bytes = match switches & 3 {
        // The file is what came.
        0 => data.to_vec(),
        // It comes behind a good log.
        1 => [&place.good[..], data].concat(),
        // It is laid over a good log, from some place on.
        _ => {
            let Some((at, data)) = data.split_first() else { return };
            let mut bytes = place.good.clone();
            let at = (usize::from(*at) * 7) % bytes.len();
            let end = (at + data.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&data[..end - at]);
            bytes
        }
    };
    if switches & 4 != 0 {
        mend_checksums(&mut bytes);
    }
    std::fs::write(&place.segment, &bytes).expect("write");
    let synced_end = (switches & 8 != 0).then_some(RaftIndex(5));
    let open = || {
        let known = Known { synced_end, ..Known::default() };
        Log::open(&place.dir, partition(), LogConfig::default(), known, &mut |_| {})
    };
    let Ok(opened) = open() else {
        assert_eq!(std::fs::read(&place.segment).expect("segment"), bytes, "what is refused is left as it was");
        return;
    };
    let mut log = opened.log;
    let (index, offset) = (log.last_index(), log.next_offset());
    if let Some(end) = synced_end {
        assert!(index.next() >= end, "what was synced is not cut");
    }
    let view = log.view();
    let mut from = log.first_offset();
    while from < offset {
        let slice = view.read(from, offset, 1 << 20, true).expect("what was kept can be read");
        let mut bytes = vec![0; slice.len];
        slice.file.read_exact_at(&mut bytes, slice.position).expect("the slice is in the file");
        let next = next_offset(&bytes).expect("a whole batch");
        assert!(next > from, "reads move on");
        from = next;
    }
    let term = log.last_term().0 + 1;
    append(&mut log, term, Payload::Own { entry_type: 0, data: Bytes::new() });
    drop(log);
    let again = open().expect("what was kept is opened again").log;
    assert_eq!((again.last_index(), again.next_offset()), (index.next(), offset));
});

/// The offset after the last whole batch.
fn next_offset(mut bytes: &[u8]) -> Option<Offset> {
    let mut next = None;
    while let Some(head) = bytes.get(..27) {
        let base = i64::from_be_bytes(head[..8].try_into().expect("eight bytes"));
        let delta = i32::from_be_bytes(head[23..27].try_into().expect("four bytes"));
        let length = i32::from_be_bytes(head[8..12].try_into().expect("four bytes"));
        next = Some(Offset(base + i64::from(delta) + 1));
        bytes = bytes.get(12 + usize::try_from(length).ok()?..)?;
    }
    next
}
