//! Readers beside the writer, and reads that must not wait.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::*;

#[test]
fn readers_see_whole_batches_while_the_log_grows_rolls_and_is_cut_at_its_start() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 3000, index_interval_bytes: 500, ..LogConfig::default() });
    let high_watermark = AtomicI64::new(0);
    let log_start = AtomicI64::new(0);
    let total = 3000;
    let view = f.view();
    let read_to_end = || {
        let mut next = Offset::ZERO;
        while next.0 < total {
            next = next.max(Offset(log_start.load(Ordering::Acquire)));
            let end = Offset(high_watermark.load(Ordering::Acquire));
            let slice = match view.read(next, end, 2000, true) {
                Ok(slice) => slice,
                // Cut away meanwhile: go on at the log start.
                Err(ReadError::Gone { .. }) => continue,
                Err(e) => panic!("{e}"),
            };
            let mut bytes = vec![0; slice.len];
            std::os::unix::fs::FileExt::read_exact_at(&*slice.file, &mut bytes, slice.position).unwrap();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let header = BatchHeader::parse_checked(rest).unwrap();
                let expected = next.max(Offset(log_start.load(Ordering::Acquire)));
                assert!(header.base_offset == next || header.base_offset <= expected, "a hole before {next}");
                next = header.next_offset();
                rest = &rest[header.size_bytes()..];
            }
            assert!(next <= end);
        }
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(read_to_end)).collect();
        for n in 0..total {
            f.produce(&batch(1, (n % 90) as usize, NOW));
            if n % 50 == 0 {
                f.lead(f.log.as_ref().unwrap().last_term());
            }
            high_watermark.store(n + 1, Ordering::Release);
            if n % 400 == 399 {
                log_start.store(n - 300, Ordering::Release);
                let applied = f.log().last_index();
                let events = f.log().delete_segments_below(Offset(n - 300), applied).unwrap();
                f.learn(events);
            }
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_read_that_must_not_wait_says_cold_when_the_disk_would_be_asked() {
    let mut f = Fixture::new(LogConfig::default());
    for _ in 0..200 {
        f.produce(&batch(1, 1000, NOW));
    }
    let view = f.view();
    let end = f.log().next_offset();
    let slice = view.try_read(Offset(50), end, 50_000, true).unwrap();
    assert!(slice.is_cached());
    slice.file.sync_all().unwrap();
    posix_fadvise(&*slice.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    if slice.is_cached() {
        // A file system in memory has nothing to drop.
        return;
    }
    assert!(matches!(view.try_read(Offset(120), end, 50_000, true), Err(ReadError::Cold)));
    let slice = view.read(Offset(120), end, 50_000, true).unwrap();
    assert_eq!(slice.base_offset, Offset(120));
    assert_eq!(view.try_read(Offset(120), end, 50_000, true).unwrap().len, slice.len);
}
