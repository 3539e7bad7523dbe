//! A disk that runs full.

use std::os::unix::fs::MetadataExt;

use super::super::io::faults::{Fault, Faulty, set};
use super::*;

/// So many bytes can be written below.
fn room(f: &Fixture, bytes: usize) -> Faulty {
    set(f.root.path(), Fault::Room(bytes))
}

#[test]
fn a_full_disk_refuses_the_reservation_and_changes_nothing() {
    let mut f = Fixture::new(LogConfig::default());
    f.produce(&batch(1, 10, NOW));
    let end = f.log().next_offset();
    {
        let _full = room(&f, 0);
        assert!(matches!(f.log().reserve(1 << 20), Err(LogError::NoSpace)));
    }
    f.log().reserve(1 << 20).unwrap();
    f.produce(&batch(1, 10, NOW));
    assert_eq!(f.log().next_offset(), end.plus(1));
}

#[test]
fn a_failed_write_is_cut_back_to_whole_frames_and_ends_the_log() {
    let one = batch(1, 300, NOW);
    for most in [0, 1, 15, 16, 100, one.len() - 1, one.len() + 1, 2 * one.len() - 1] {
        let mut f = Fixture::new(LogConfig::default());
        f.produce(&one);
        f.synced();
        let (end, len) = (f.log().next_offset(), fs::metadata(&f.files()[0]).unwrap().len());
        let log = f.log();
        let entries: Vec<Entry> = (0..2)
            .map(|n| Entry {
                index: RaftIndex(log.last_index().0 + 1 + n),
                term: RaftTerm(1),
                next_offset: end.plus(n as i64),
                payload: Payload::Batch { base_offset: end.plus(n as i64), bytes: one.clone() },
            })
            .collect();
        {
            let _full = room(&f, most);
            assert!(matches!(f.log().append(&entries, NOW), Err(LogError::NoSpace)));
        }
        assert_eq!(f.log().next_offset(), end);
        assert!(matches!(f.log().append(&entries, NOW), Err(LogError::Failed)));
        assert_eq!(fs::metadata(&f.files()[0]).unwrap().len(), len, "room for {most}");
        // When there is room again it is opened anew and goes on.
        f.kill();
        f.try_open().unwrap();
        f.log().append(&entries, NOW).unwrap();
        assert_eq!(f.log().next_offset(), end.plus(2));
    }
}

#[test]
fn a_roll_without_room_leaves_no_half_segment() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 500, ..LogConfig::default() });
    f.produce(&batch(1, 300, NOW));
    let log = f.log();
    let entry = Entry {
        index: log.last_index().next(),
        term: RaftTerm(1),
        next_offset: Offset(1),
        payload: Payload::Batch { base_offset: Offset(1), bytes: batch(1, 300, NOW) },
    };
    {
        let _full = room(&f, 20);
        assert!(matches!(f.log().append(std::slice::from_ref(&entry), NOW), Err(LogError::NoSpace)));
    }
    assert_eq!(f.files().len(), 1);
    f.kill();
    f.try_open().unwrap();
    f.log().append(&[entry], NOW).unwrap();
    assert_eq!(f.files().len(), 2);
}

#[test]
fn a_roll_on_a_full_disk_takes_the_room_that_was_set_aside() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 100_000, ..LogConfig::default() });
    f.produce(&batch(1, 80_000, NOW));
    f.log().reserve(200_000).unwrap();
    let used: u64 = f.files().iter().map(|file| fs::metadata(file).unwrap().blocks() * 512).sum();
    let _full = set(&f.path(), Fault::Quota(used));
    assert!(matches!(f.log().reserve(10 << 20), Err(LogError::NoSpace)));
    f.produce(&batch(1, 80_000, NOW));
    assert_eq!(f.files().len(), 2);
}

#[test]
fn deletion_on_a_full_disk_begins_with_what_needs_no_room() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 500, ..LogConfig::default() });
    for _ in 0..4 {
        f.produce(&batch(1, 300, NOW));
    }
    let (end, last) = (f.log().next_offset(), f.log().last_index());
    assert_eq!(f.files().len(), 4);
    {
        let _full = room(&f, 0);
        let events = f.log().delete_segments_below(end, last).unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!(f.files().len(), 1, "only the active one needs room to go");
        assert!(f.log().ends_segments_below(end));
    }
    f.log().delete_segments_below(end, last).unwrap();
    assert!(!f.log().ends_segments_below(end));
    assert_eq!((f.files().len(), f.log().first_offset()), (1, end));
}

#[test]
fn what_is_deleted_makes_room_for_closing_the_active_segment() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 500, ..LogConfig::default() });
    for _ in 0..4 {
        f.produce(&batch(1, 300, NOW));
    }
    let used: u64 = fs::read_dir(f.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().blocks() * 512).sum();
    let _full = set(&f.path(), Fault::Quota(used));
    let (end, last) = (f.log().next_offset(), f.log().last_index());
    f.log().delete_segments_below(end, last).unwrap();
    assert_eq!((f.files().len(), f.log().first_offset()), (1, end));
}

#[test]
fn a_log_that_is_emptied_is_on_disk_before_its_old_segments_go() {
    let mut f = Fixture::new(LogConfig::default());
    f.produce(&batch(1, 300, NOW));
    let dir = f.log().take_dirty().files[0].dir.clone();
    dir.take_unsynced();
    let (end, last) = (f.log().next_offset(), f.log().last_index());
    f.log().delete_segments_below(end, last).unwrap();
    assert_eq!(f.files().len(), 1);
    assert_eq!(dir.take_unsynced(), Vec::<PathBuf>::new(), "the new file's entry is synced");
}

#[test]
fn a_torn_file_that_is_made_again_is_not_removed() {
    let config = LogConfig { compact: true, delete: false, ..LogConfig::default() };
    let mut f = Fixture::new(config);
    f.produce(&batch(3, 100, NOW));
    f.produce(&batch(3, 100, NOW));
    f.log().roll().unwrap();
    f.checkpoint();
    let log = f.log();
    let limits = CompactionLimits {
        end: log.next_offset(),
        applied: log.last_index(),
        now: NOW,
        dedupe_buffer_bytes: 1 << 20,
        bytes_per_second_max: f64::MAX,
    };
    let compacted = log.compaction_plan(limits).unwrap().run(&Default::default()).unwrap();
    let events = log.install_compacted(compacted);
    f.learn(events);
    f.kill();
    // The crash took the header of the new file.
    let active = f.files().pop().unwrap();
    fs::File::options().write(true).open(&active).unwrap().set_len(10).unwrap();
    f.try_open().unwrap();
    assert_eq!(f.files().len(), 2);
    assert!(active.exists());
    f.lead(RaftTerm(2));
    f.produce(&batch(1, 100, NOW));
    let end = f.log().next_offset();
    f.kill();
    f.try_open().unwrap();
    assert_eq!(f.log().next_offset(), end);
}

#[test]
fn indexes_of_closed_segments_take_bounded_memory() {
    let most = 4096;
    let mut f = Fixture::new(LogConfig { segment_bytes: 10_000, index_interval_bytes: 1, ..LogConfig::default() });
    f.kill();
    let flush = FlushConfig { index_bytes_max: most, ..FlushConfig::default() };
    f.dir = DataDir::open(f.root.path(), flush).unwrap();
    f.known.synced_end = None;
    f.try_open().unwrap();
    for _ in 0..500 {
        f.produce(&batch(1, 100, NOW));
        assert!(f.dir.handles.index_bytes() <= most);
    }
    assert!(f.files().len() > 5);
    // Those that readers load again count as well.
    for offset in 0..500 {
        f.view().read(Offset(offset), Offset(500), 100, true).unwrap();
        assert!(f.dir.handles.index_bytes() <= most);
    }
    assert!(f.dir.handles.index_bytes() > 0);
}
