//! Single cases.

use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;

fn small(segment_bytes: u32) -> LogConfig {
    LogConfig { segment_bytes, ..LogConfig::default() }
}

#[test]
fn records_begin_at_offset_zero_and_own_entries_take_none() {
    let mut f = Fixture::new(LogConfig::default());
    f.produce(&batch(3, 10, NOW));
    f.lead(RaftTerm(2));
    f.produce(&batch(2, 10, NOW));
    assert_eq!((f.log().next_offset(), f.log().last_index()), (Offset(5), RaftIndex(5)));
    let view = f.view();
    let first = view.read(Offset(1), Offset(5), 1 << 20, true).unwrap();
    assert_eq!((first.base_offset, first.len), (Offset(0), batch(3, 10, NOW).len()));
    // The own entry between them ends a read, and the next read goes past it.
    let second = view.read(Offset(3), Offset(5), 1 << 20, true).unwrap();
    assert_eq!((second.base_offset, second.len), (Offset(3), batch(2, 10, NOW).len()));
    assert_eq!(view.read(Offset(5), Offset(5), 1 << 20, true).unwrap().len, 0);
    assert_eq!(f.read_all(Offset(0), Offset(5), 1).len(), first.len + second.len);
}

#[test]
fn a_read_ends_where_the_high_watermark_is_and_takes_one_batch_at_least() {
    let mut f = Fixture::new(LogConfig::default());
    for _ in 0..10 {
        f.produce(&batch(1, 100, NOW));
    }
    let size = batch(1, 100, NOW).len();
    let view = f.view();
    let len = |end, max, one| view.read(Offset(2), Offset(end), max, one).unwrap().len;
    assert_eq!(len(7, 1 << 20, false), 5 * size);
    assert_eq!(len(10, 3 * size + 1, false), 3 * size);
    assert_eq!(len(10, size - 1, false), 0);
    assert_eq!(len(10, size - 1, true), size);
    assert_eq!(len(2, 1 << 20, true), 0);
}

#[test]
fn segments_close_when_full_and_reads_go_on_in_the_next() {
    let mut f = Fixture::new(small(1000));
    for _ in 0..40 {
        f.produce(&batch(2, 100, NOW));
    }
    assert!(f.files().len() > 5);
    assert!(f.files().iter().all(|path| fs::metadata(path).unwrap().len() <= 1000));
    let expected: Vec<u8> = (0..40).flat_map(|n| stored(&batch(2, 100, NOW), Offset(2 * n), RaftTerm(1))).collect();
    assert!(f.read_all(Offset(0), Offset(80), 700) == expected);
    assert_eq!(f.view().segment_count(), f.files().len());
}

#[test]
fn segments_close_by_the_records_own_time_or_the_clock() {
    let config = LogConfig { segment_ms: 1000, ..LogConfig::default() };
    let mut f = Fixture::new(config);
    f.produce(&batch(1, 0, NOW));
    f.produce(&batch(1, 0, NOW.plus_ms(1000)));
    assert_eq!(f.files().len(), 1);
    f.produce(&batch(1, 0, NOW.plus_ms(1001)));
    assert_eq!(f.files().len(), 2);
    // Without timestamps the time of the append counts.
    let mut f = Fixture::new(LogConfig { segment_ms: 1000, ..LogConfig::default() });
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp::NONE, None, None, &[]);
    let bytes = builder.finish();
    for (now, files) in [(NOW, 1), (NOW.plus_ms(1000), 1), (NOW.plus_ms(1001), 2)] {
        let log = f.log();
        let entry = Entry {
            index: log.last_index().next(),
            term: log.last_term(),
            next_offset: log.next_offset(),
            payload: Payload::Batch { base_offset: log.next_offset(), bytes: bytes.clone() },
        };
        let events = log.append(&[entry], now).unwrap();
        f.learn(events);
        assert_eq!(f.files().len(), files, "at {now}");
    }
}

#[test]
fn jitter_is_taken_from_the_age_and_differs_between_segments() {
    let ages: Vec<i64> = (0..8)
        .map(|_| Fixture::new(LogConfig { segment_jitter_ms: 500, ..small(500) }))
        .flat_map(|mut f| {
            let first = f.log().jitter_ms();
            f.produce(&batch(1, 300, NOW));
            f.produce(&batch(1, 300, NOW));
            [first, f.log().jitter_ms()]
        })
        .collect();
    assert!(ages.iter().all(|age| (0..500).contains(age)));
    assert!(ages.iter().any(|age| *age != ages[0]));
    assert_eq!(Fixture::new(LogConfig::default()).log().jitter_ms(), 0);
}

#[test]
fn a_full_index_closes_the_segment() {
    let config = LogConfig { segment_index_bytes: 12 * 5, index_interval_bytes: 1, ..LogConfig::default() };
    let mut f = Fixture::new(config);
    for _ in 0..40 {
        f.produce(&batch(1, 0, NOW));
    }
    assert!(f.files().len() >= 8, "{}", f.files().len());
}

#[test]
fn a_segment_of_own_entries_only_never_closes() {
    let mut f = Fixture::new(small(200));
    for term in 2..50 {
        f.lead(RaftTerm(term));
    }
    assert_eq!(f.files().len(), 1);
    f.produce(&batch(1, 0, NOW));
    f.lead(RaftTerm(50));
    assert_eq!(f.files().len(), 2);
    assert_eq!(f.log().term_at(RaftIndex(30)), Some(RaftTerm(29)));
}

#[test]
fn room_is_reserved_in_steps_and_given_back() {
    let mut f = Fixture::new(LogConfig::default());
    let path = f.files().remove(0);
    let blocks = || fs::metadata(&path).unwrap().blocks() * 512;
    f.log().reserve(1000).unwrap();
    let first = blocks();
    assert!(first >= 64 * 1024, "{first}");
    f.log().reserve(60_000).unwrap();
    assert_eq!(blocks(), first);
    f.log().reserve(200_000).unwrap();
    assert!(blocks() >= 200_000);
    let len = fs::metadata(&path).unwrap().len();
    f.log = None;
    assert_eq!(fs::metadata(&path).unwrap().len(), len);
    assert!(blocks() < 64 * 1024, "{}", blocks());
}

#[test]
fn what_a_roll_leaves_is_reserved_in_the_next_segment() {
    let mut f = Fixture::new(small(2400));
    f.log().reserve(100_000).unwrap();
    for _ in 0..3 {
        f.produce(&batch(1, 900, NOW));
    }
    let files = f.files();
    let blocks = |at: usize| fs::metadata(&files[at]).unwrap().blocks() * 512;
    assert_eq!(files.len(), 2);
    assert!(blocks(0) <= 8192 && blocks(1) >= 90_000, "{} {}", blocks(0), blocks(1));
}

#[test]
fn a_killed_log_gives_back_what_was_reserved_at_the_next_start() {
    let mut f = Fixture::new(LogConfig::default());
    f.produce(&batch(1, 10, NOW));
    f.log().reserve(1 << 20).unwrap();
    f.kill();
    f.try_open().unwrap();
    assert!(fs::metadata(&f.files()[0]).unwrap().blocks() * 512 < 64 * 1024);
}

#[test]
fn a_log_that_goes_late_leaves_alone_what_its_successor_wrote() {
    let mut f = Fixture::new(LogConfig::default());
    f.produce(&batch(1, 10, NOW));
    f.log().reserve(1 << 20).unwrap();
    let old = f.log.take();
    f.try_open().unwrap();
    f.produce(&batch(1, 10, NOW));
    drop(old);
    assert_eq!(f.read_all(Offset(0), Offset(2), 1000).len(), 2 * batch(1, 10, NOW).len());
}

#[test]
fn a_partition_that_crashed_at_its_birth_is_newborn() {
    let mut f = Fixture::new(LogConfig::default());
    f.kill();
    let path = f.files().remove(0);
    for len in [0, 50] {
        fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        assert!(matches!(f.try_open(), Err(OpenError::Newborn)), "length {len}");
    }
    fs::write(&path, [0; 4096]).unwrap();
    assert!(matches!(f.try_open(), Err(OpenError::Newborn)));
    fs::remove_dir_all(f.path()).unwrap();
    assert!(matches!(f.try_open(), Err(OpenError::Newborn)));
    f.known.synced_end = Some(RaftIndex(3));
    assert!(matches!(f.try_open(), Err(OpenError::Lost { .. })));
}

#[test]
fn a_segment_of_a_newer_format_or_of_another_partition_is_never_cut() {
    let mut f = Fixture::new(LogConfig::default());
    f.kill();
    let path = f.files().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[47] = 9;
    let crc = millstream_core::record::crc32c(&bytes[21..super::super::frame::SEGMENT_HEADER_LEN as usize]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    match f.try_open() {
        Err(OpenError::Lost { place }) => assert!(place.reason.contains("format 9"), "{}", place.reason),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

/// A batch's base offset is not under its checksum.
#[test]
fn a_batch_at_an_impossible_offset_is_cut_from_the_tail() {
    for offset in [i64::MIN, -1, i64::MAX - 1, i64::MAX] {
        let mut f = Fixture::new(LogConfig::default());
        f.kill();
        let path = f.files().remove(0);
        let good = fs::read(&path).unwrap();
        let bad = stored(&batch(3, 10, NOW), Offset(offset), RaftTerm(1));
        fs::write(&path, [good.as_slice(), &bad].concat()).unwrap();
        f.try_open().unwrap();
        assert_eq!((f.log().next_offset(), fs::read(&path).unwrap()), (Offset(0), good), "offset {offset}");
    }
}

#[test]
fn closed_segments_below_the_checkpoint_are_not_opened_at_a_start() {
    let mut f = Fixture::new(small(1000));
    for _ in 0..20 {
        f.produce(&batch(1, 300, NOW));
    }
    f.checkpoint();
    f.kill();
    // Damage in a closed segment is not the start's business but the scrub's: the length still fits.
    let first = f.files().remove(0);
    let file = fs::File::options().read(true).write(true).open(&first).unwrap();
    file.write_all_at(b"xxx", 300).unwrap();
    f.try_open().unwrap();
    let last = f.log().next_offset();
    assert!(f.view().payload(f.log().first_index().next()).is_err());
    // Beyond it all is there.
    assert!(!f.read_all(Offset(15), last, 1 << 20).is_empty());
}

#[test]
fn a_start_from_a_checkpoint_completes_the_index_when_asked() {
    let mut f = Fixture::new(LogConfig { index_interval_bytes: 200, ..LogConfig::default() });
    for _ in 0..50 {
        f.produce(&batch(1, 50, NOW));
    }
    f.checkpoint();
    for _ in 0..10 {
        f.produce(&batch(1, 50, NOW));
    }
    f.kill();
    assert_eq!(f.try_open().unwrap().len(), 10);
    let view = f.view();
    assert!(matches!(view.try_read(Offset(3), Offset(60), 1000, true), Err(ReadError::Cold)));
    assert_eq!(view.try_read(Offset(55), Offset(60), 1000, true).unwrap().base_offset, Offset(55));
    assert_eq!(view.read(Offset(3), Offset(60), 1000, true).unwrap().base_offset, Offset(3));
    assert_eq!(view.try_read(Offset(3), Offset(60), 1000, true).unwrap().base_offset, Offset(3));
    // Appends and a roll go on from there.
    f.produce(&batch(1, 50, NOW));
    assert_eq!(f.read_all(Offset(0), Offset(61), 333).len(), 61 * batch(1, 50, NOW).len());
}

#[test]
fn timestamps_lead_to_the_exact_record() {
    let mut f = Fixture::new(LogConfig { index_interval_bytes: 100, ..small(1500) });
    // Three records a batch, a second apart; batches a minute apart, the second out of order.
    let times = [0, 3, 1, 2, 4, 5, 6, 7, 8, 9];
    for minute in times {
        f.produce(&batch(3, 100, NOW.plus_ms(minute * 60_000)));
    }
    assert!(f.files().len() > 2);
    let (view, end) = (f.view(), Offset(30));
    let find = |ms, from| view.offset_for_timestamp(NOW.plus_ms(ms), Offset(from), end).unwrap();
    let found = |offset, ms| {
        Some(FoundTimestamp {
            offset: Offset(offset),
            timestamp: NOW.plus_ms(ms),
            epoch: millstream_core::types::LeaderEpoch(1),
        })
    };
    assert_eq!(find(-5, 0), found(0, 0));
    assert_eq!(find(1, 0), found(1, 1));
    assert_eq!(find(3, 0), found(3, 180_000));
    assert_eq!(find(60_000, 6), found(6, 60_000));
    assert_eq!(find(60_001, 6), found(7, 60_001));
    assert_eq!(find(9 * 60_000 + 2, 0), found(29, 9 * 60_000 + 2));
    assert_eq!(find(9 * 60_000 + 3, 0), None);
    assert_eq!(view.offset_for_timestamp(NOW.plus_ms(9 * 60_000), Offset(0), Offset(27)).unwrap(), None);
    assert_eq!(view.max_timestamp(Offset(0), end).unwrap(), found(29, 9 * 60_000 + 2));
    assert_eq!(view.max_timestamp(Offset(0), Offset(9)).unwrap(), found(5, 180_002));
    assert_eq!(view.max_timestamp(Offset(6), Offset(9)).unwrap(), found(8, 60_002));
    assert_eq!(view.max_timestamp(end, end).unwrap(), None);
}

#[test]
fn retention_by_time_and_by_size_moves_the_log_start_between_segments() {
    let mut f = Fixture::new(small(1000));
    for n in 0..20 {
        f.produce(&batch(1, 400, NOW.plus_ms(n * 1000)));
    }
    let end = Offset(20);
    let old = LogConfig { retention_ms: Some(5000), ..small(1000) };
    f.log().set_config(old.clone());
    let now = NOW.plus_ms(20_000);
    let start = f.log().offset_for_retention(now, end).unwrap();
    assert!((Offset(14)..=Offset(15)).contains(&start), "{start}");
    // Not beyond the high watermark.
    assert!(f.log().offset_for_retention(now, Offset(6)).unwrap() <= Offset(6));
    f.log().set_config(LogConfig { delete: false, ..old });
    assert_eq!(f.log().offset_for_retention(now, end), None);
    let size = f.log().size_bytes();
    f.log().set_config(LogConfig { retention_bytes: Some(size - 1), retention_ms: None, ..small(1000) });
    assert_eq!(f.log().offset_for_retention(now, end), None);
    f.log().set_config(LogConfig { retention_bytes: Some(3000), retention_ms: None, ..small(1000) });
    let start = f.log().offset_for_retention(now, end).unwrap();
    f.checkpoint();
    let applied = f.log().last_index();
    let events = f.log().delete_segments_below(start, applied).unwrap();
    f.learn(events);
    assert_eq!(f.log().first_offset(), start);
    assert!((3000..4000).contains(&f.log().size_bytes()), "{}", f.log().size_bytes());
    assert!(matches!(f.view().payload(RaftIndex(3)), Err(ReadError::NoEntry { .. })));
}

#[test]
fn all_that_is_too_old_goes_the_active_segment_too() {
    let mut f = Fixture::new(LogConfig { retention_ms: Some(1000), ..LogConfig::default() });
    f.produce(&batch(5, 10, NOW));
    let slice = f.view().read(Offset(0), Offset(5), 1 << 20, true).unwrap();
    assert_eq!(f.log().offset_for_retention(NOW.plus_ms(500), Offset(5)), None);
    assert_eq!(f.log().offset_for_retention(NOW.plus_ms(5000), Offset(5)), Some(Offset(5)));
    // Not before it is applied.
    f.log().delete_segments_below(Offset(5), RaftIndex(2)).unwrap();
    assert_eq!(f.files().len(), 1);
    let events = f.log().delete_segments_below(Offset(5), RaftIndex(3)).unwrap();
    assert_eq!(events.len(), 2);
    f.learn(events);
    assert_eq!((f.log().first_offset(), f.log().next_offset()), (Offset(5), Offset(5)));
    assert_eq!((f.log().first_index(), f.log().last_index()), (RaftIndex(4), RaftIndex(3)));
    assert_eq!(f.log().term_at(RaftIndex(3)), Some(RaftTerm(1)));
    // Who holds the file reads on.
    let mut bytes = vec![0; slice.len];
    slice.file.read_exact_at(&mut bytes, slice.position).unwrap();
    assert!(BatchHeader::parse_checked(&bytes).is_ok());
    f.checkpoint();
    f.kill();
    f.try_open().unwrap();
    assert_eq!((f.log().first_index(), f.log().next_offset()), (RaftIndex(4), Offset(5)));
    // Nothing is left to be too old.
    assert_eq!(f.log().offset_for_retention(NOW.plus_ms(5000), Offset(5)), None);
}

#[test]
fn a_truncation_over_segments_takes_their_files_along() {
    let mut f = Fixture::new(small(700));
    for _ in 0..10 {
        f.produce(&batch(1, 300, NOW));
    }
    let files = f.files().len();
    f.known = Known::default();
    let events = f.log().truncate_from(RaftIndex(5)).unwrap();
    assert!(events.iter().all(|event| matches!(event, LogEvent::SegmentRemoved(_))));
    assert!(f.files().len() < files);
    assert_eq!((f.log().last_index(), f.log().next_offset()), (RaftIndex(4), Offset(2)));
    f.lead(RaftTerm(2));
    f.produce(&batch(1, 300, NOW));
    f.kill();
    let frames = f.try_open().unwrap();
    assert_eq!(frames.iter().map(|(frame, _)| frame.term.0).collect::<Vec<_>>(), [1, 1, 1, 2, 2]);
}

#[test]
fn a_log_can_be_read_by_people() {
    let mut f = Fixture::new(LogConfig::default());
    f.produce(&batch(2, 10, NOW));
    let path = f.files().remove(0);
    let dump = |path: &PathBuf| {
        let mut out = Vec::new();
        let damaged = dump_segment(path, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), damaged)
    };
    let (text, damaged) = dump(&path);
    assert_eq!(damaged, None);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains("base index 2"), "{text}");
    assert!(lines[1].contains("index 2 term 1 own entry of type 0"), "{text}");
    assert!(lines[2].contains("index 3 epoch 1 batch offsets 0..=1 records 2 codec none"), "{text}");
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(fs::metadata(&path).unwrap().len() - 1).unwrap();
    let (text, damaged) = dump(&path);
    let position = damaged.unwrap_or_else(|| panic!("{text}"));
    assert!(text.contains(&format!("{position} BAD: the frame needs")), "{text}");
}

#[test]
fn idle_segments_are_closed_and_opened_again() {
    let mut f = Fixture::new(small(500));
    for _ in 0..30 {
        f.produce(&batch(1, 300, NOW));
    }
    // The fixture allows two open files.
    for _ in 0..3 {
        assert_eq!(f.read_all(Offset(0), Offset(30), 1 << 20).len(), 30 * batch(1, 300, NOW).len());
    }
    let segments = f.view().segments().clone();
    let open = segments.iter().filter(|segment| segment.file(super::super::walk::Patience::CacheOnly).is_ok()).count();
    // Two, and the active one.
    assert!(open <= 3, "{open} of {} are open", segments.len());
}
