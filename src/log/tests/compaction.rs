//! Compaction: what stays, and that a crash at any step leaves a log that opens.

use std::collections::BTreeMap;
use std::path::Path;

use millstream_core::partition::LastRecord;
use millstream_core::record::{Compression, RecordIter, batch_body};
use millstream_core::types::{ProducerEpoch, ProducerId, Sequence};
use proptest::prelude::*;

use super::*;

mod transactions;

const DAY_MS: i64 = 86_400_000;

fn compacted() -> LogConfig {
    LogConfig { segment_bytes: 600, compact: true, delete: false, segment_ms: i64::MAX, ..LogConfig::default() }
}

/// One record as a reader sees it.
type Seen = (Offset, Option<Vec<u8>>, Option<Vec<u8>>);

fn keyed(pairs: &[(&str, Option<&str>)], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new().compression(codec, None);
    for (key, value) in pairs {
        builder.push(NOW, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    builder.finish()
}

impl Fixture {
    fn put(&mut self, key: &str, value: Option<&str>) {
        self.produce(&keyed(&[(key, value)], Compression::None));
    }

    /// Closes the active segment, so that all so far may be compacted.
    fn roll(&mut self) {
        let meta = self.log().roll().unwrap();
        self.learn(vec![LogEvent::SegmentClosed(meta)]);
    }

    fn limits(&mut self, now: Timestamp) -> CompactionLimits {
        self.checkpoint();
        let log = self.log();
        CompactionLimits {
            end: log.next_offset(),
            applied: log.last_index(),
            now,
            dedupe_buffer_bytes: 1 << 20,
            bytes_per_second_max: f64::MAX,
        }
    }

    fn plan(&mut self, now: Timestamp) -> Option<CompactionJob> {
        let limits = self.limits(now);
        self.log().compaction_plan(limits)
    }

    fn compact_with(&mut self, now: Timestamp, producers: &KnownProducers) {
        let done = self.plan(now).expect("something to compact").run(producers).unwrap();
        let events = self.log().install_compacted(done);
        self.learn(events);
        self.checkpoint();
    }

    fn compact(&mut self, now: Timestamp) {
        self.compact_with(now, &KnownProducers::default());
    }

    fn batches(&self) -> Vec<(BatchHeader, Vec<u8>)> {
        let end = self.view().next_offset();
        let bytes = self.read_all(Offset::ZERO, end, 1000);
        let (mut rest, mut batches) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let header = BatchHeader::parse_checked(rest).unwrap();
            let (batch, after) = rest.split_at(header.size_bytes());
            batches.push((header, batch.to_vec()));
            rest = after;
        }
        batches
    }

    fn records(&self) -> Vec<Seen> {
        let mut records = Vec::new();
        for (header, batch) in self.batches() {
            let mut scratch = Vec::new();
            let body = batch_body(&header, &batch, 1 << 20, &mut scratch).unwrap();
            for record in RecordIter::new(&header, body).map(Result::unwrap) {
                records.push((record.offset, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec)));
            }
        }
        records
    }

    fn keys(&self) -> Vec<(i64, String)> {
        let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).unwrap();
        self.records().into_iter().map(|(offset, key, _)| (offset.0, text(key))).collect()
    }

    /// Starts anew and checks that readers see the same as before.
    fn restart(&mut self) {
        let before = self.records();
        self.kill();
        self.try_open().unwrap();
        assert_eq!(self.records(), before);
    }
}

fn keys(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(offset, key)| (*offset, (*key).to_owned())).collect()
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut f = Fixture::new(compacted());
        f.produce(&keyed(&[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))], codec));
        f.lead(RaftTerm(2));
        f.produce(&keyed(&[("a", Some("3")), ("c", Some("1"))], codec));
        f.roll();
        f.produce(&keyed(&[("b", Some("2"))], codec));
        let before = f.log().first_index();
        f.compact(NOW);
        // The active segment is not looked at.
        assert_eq!(f.keys(), keys(&[(1, "b"), (3, "a"), (4, "c"), (5, "b")]), "{codec:?}");
        assert!(f.batches().iter().take(2).all(|(header, _)| header.compression() == Ok(codec)));
        assert_eq!((f.log().first_offset(), f.log().next_offset()), (Offset(0), Offset(6)));
        // Own entries are gone, and raft's log begins behind.
        assert!(f.log().first_index() > before);
        let first = f.log().first_index();
        assert_eq!(f.log().term_at(RaftIndex(first.0 - 1)), Some(RaftTerm(2)));
        assert_eq!(f.log().term_at(RaftIndex(first.0 - 2)), None);
        assert!(matches!(f.view().payload(RaftIndex(3)), Err(ReadError::NoEntry { .. })));
        f.restart();
        assert_eq!(f.log().first_index(), first);
    }
}

#[test]
fn a_second_compaction_works_on_the_result_of_the_first() {
    let mut f = Fixture::new(LogConfig { min_cleanable_dirty_ratio: Ratio::of(0.0), ..compacted() });
    for round in 0..6 {
        for key in ["a", "b", "c", "d"] {
            f.put(key, Some(&format!("{key}{round}")));
        }
        f.roll();
        f.compact(NOW);
        let last = round * 4;
        assert_eq!(f.keys(), keys(&[(last, "a"), (last + 1, "b"), (last + 2, "c"), (last + 3, "d")]));
        f.restart();
    }
    // One with records, one that its successors left empty, and the active one.
    assert!(f.files().len() <= 3, "{:?}", f.files());
    assert!(f.log().closed_segments().all(SegmentMeta::is_compacted));
    assert!(f.plan(NOW).is_none(), "nothing is dirty");
}

#[test]
fn tombstones_stay_for_delete_retention_ms() {
    let mut f = Fixture::new(LogConfig { min_cleanable_dirty_ratio: Ratio::of(0.0), ..compacted() });
    f.put("a", Some("1"));
    f.put("a", None);
    f.roll();
    f.compact(NOW);
    assert_eq!(f.keys(), keys(&[(1, "a")]));
    let (header, _) = f.batches().remove(0);
    assert!(header.has_delete_horizon());
    assert_eq!(header.base_timestamp, NOW.plus_ms(DAY_MS));
    let found = f.view().offset_for_timestamp(NOW, Offset(0), Offset(2)).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (Offset(1), NOW), "times stay what they were");
    for (n, (now, stays)) in [(NOW.plus_ms(DAY_MS - 1), true), (NOW.plus_ms(DAY_MS), false)].into_iter().enumerate() {
        f.put("x", Some(&n.to_string()));
        f.roll();
        f.compact(now);
        assert_eq!(f.keys().iter().any(|(_, key)| key == "a"), stays);
        f.restart();
    }
}

#[test]
fn a_live_producers_last_batch_stays_if_empty() {
    let mut f = Fixture::new(compacted());
    let of = |id, sequence, key: &str| {
        let mut builder = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence));
        builder.push(NOW, Some(key.as_bytes()), Some(b"v"), &[]);
        builder.finish()
    };
    f.produce(&of(7, 0, "a"));
    f.produce(&of(7, 1, "a"));
    f.produce(&of(8, 0, "a"));
    f.put("a", Some("last"));
    f.put("z", Some("last"));
    f.roll();
    let last = LastRecord { data: Some(Offset(1)), epoch: ProducerEpoch(0) };
    f.compact_with(NOW, &KnownProducers { last: [(ProducerId(7), last)].into(), aborted: Vec::new() });
    let batches = f.batches();
    let told: Vec<_> =
        batches.iter().map(|(h, _)| (h.base_offset.0, h.record_count, h.producer_id.0, h.base_sequence.0)).collect();
    assert_eq!(told, [(1, 0, 7, 1), (3, 1, -1, -1), (4, 1, -1, -1)]);
    assert_eq!(batches[0].0.last_sequence(), Sequence(1));
}

#[test]
fn the_last_batch_stays_so_that_readers_get_to_the_end() {
    let mut f = Fixture::new(LogConfig { min_cleanable_dirty_ratio: Ratio::of(0.0), ..compacted() });
    f.put("a", Some("1"));
    f.put("a", None);
    f.roll();
    f.compact(NOW);
    f.put("b", Some("1"));
    f.put("b", None);
    f.roll();
    f.compact(NOW.plus_ms(2 * DAY_MS));
    f.put("c", None);
    f.roll();
    f.compact(NOW.plus_ms(4 * DAY_MS));
    // Another that supersedes nothing, long after.
    f.put("d", None);
    f.put("d", None);
    f.roll();
    f.compact(NOW.plus_ms(9 * DAY_MS));
    let end = f.log().next_offset();
    let (last, _) = f.batches().pop().unwrap();
    assert_eq!(last.next_offset(), end);
    f.restart();
}

#[test]
fn records_without_keys_go() {
    let mut f = Fixture::new(compacted());
    f.produce(&batch(1, 10, NOW));
    let mut builder = BatchBuilder::new();
    builder.push(NOW, None, Some(b"v"), &[]);
    f.produce(&builder.finish());
    f.put("a", Some("1"));
    f.roll();
    f.compact(NOW);
    assert_eq!(f.records().iter().map(|(offset, _, _)| offset.0).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn what_is_due_follows_policy_ratio_lags_and_limits() {
    let mut f = Fixture::new(compacted());
    for n in 0..20 {
        f.put(&format!("{}", n % 3), Some("value of some length to fill segments"));
    }
    f.roll();
    let limits = f.limits(NOW);
    let base = compacted();
    let count = |f: &mut Fixture, config: LogConfig, limits: CompactionLimits| {
        f.log().set_config(config);
        f.log().compaction_plan(limits).map_or(0, |job| job.sources.len())
    };
    let all = count(&mut f, base.clone(), limits);
    assert!(all >= 3);
    assert_eq!(count(&mut f, LogConfig { compact: false, ..base.clone() }, limits), 0);
    let ratio_one = LogConfig { min_cleanable_dirty_ratio: Ratio::of(1.0), ..base.clone() };
    assert_eq!(count(&mut f, ratio_one.clone(), limits), 0);
    // Overdue whatever the ratio.
    let overdue = LogConfig { max_compaction_lag_ms: 1000, ..ratio_one };
    assert_eq!(count(&mut f, overdue.clone(), CompactionLimits { now: NOW.plus_ms(1000), ..limits }), 0);
    assert_eq!(count(&mut f, overdue, CompactionLimits { now: NOW.plus_ms(1001), ..limits }), all);
    let young = LogConfig { min_compaction_lag_ms: 1000, ..base.clone() };
    assert_eq!(count(&mut f, young.clone(), CompactionLimits { now: NOW.plus_ms(999), ..limits }), 0);
    assert_eq!(count(&mut f, young, CompactionLimits { now: NOW.plus_ms(1000), ..limits }), all);
    let second = f.log().closed_segments().nth(1).copied().unwrap();
    assert_eq!(count(&mut f, base.clone(), CompactionLimits { end: second.end_offset, ..limits }), 2);
    let applied = RaftIndex(second.end_index.0 - 2);
    assert_eq!(count(&mut f, base, CompactionLimits { applied, ..limits }), 1);
}

#[test]
fn a_map_that_is_too_small_takes_several_rounds() {
    let mut f = Fixture::new(compacted());
    for n in 0..60 {
        f.put(&format!("key {:02}", n % 30), Some(&format!("value {n}")));
    }
    f.roll();
    let mut rounds = 0;
    loop {
        let limits = CompactionLimits { dedupe_buffer_bytes: 24 * 10, ..f.limits(NOW) };
        f.log().set_config(LogConfig { min_cleanable_dirty_ratio: Ratio::of(0.0), ..compacted() });
        let Some(job) = f.log().compaction_plan(limits) else { break };
        let done = job.run(&KnownProducers::default()).unwrap();
        assert!(done.dirty_keys <= 10);
        let events = f.log().install_compacted(done);
        f.learn(events);
        f.restart();
        rounds += 1;
        assert!(rounds < 30, "it ends");
    }
    assert!(rounds >= 6, "{rounds}");
    let expected: Vec<_> = (30..60).map(|n| (n, format!("key {:02}", n % 30))).collect();
    assert_eq!(f.keys(), expected);
}

#[test]
fn a_damaged_source_is_not_compacted() {
    let mut f = Fixture::new(compacted());
    f.put("a", Some("1"));
    f.put("a", Some("2"));
    f.roll();
    let path = f.files().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let names = |f: &Fixture| fs::read_dir(f.path()).unwrap().count();
    let before = names(&f);
    let answer = f.plan(NOW).unwrap().run(&KnownProducers::default());
    assert!(matches!(answer, Err(ReadError::Corrupt { .. })), "{answer:?}");
    assert_eq!(names(&f), before, "nothing is left of it");
}

#[test]
fn what_retention_deleted_meanwhile_stays_deleted() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 250, ..compacted() });
    for n in 0..12 {
        f.put(&format!("{n}"), Some("some value of some length, so that segments are small"));
    }
    f.roll();
    let job = f.plan(NOW).unwrap();
    let sources: Vec<Offset> = job.sources.iter().map(|source| source.meta.end_offset).collect();
    let done = job.run(&KnownProducers::default()).unwrap();
    assert!(done.outputs.len() >= 3);
    let applied = f.log().last_index();
    let events = f.log().delete_segments_below(sources[0], applied).unwrap();
    f.learn(events);
    let events = f.log().install_compacted(done);
    f.learn(events);
    assert_eq!(f.log().first_offset(), sources[0]);
    assert_eq!(f.records().first().map(|(offset, _, _)| *offset), Some(sources[0]));
    f.checkpoint();
    f.restart();
}

#[test]
fn a_result_that_is_not_installed_leaves_no_trace() {
    let mut f = Fixture::new(compacted());
    f.put("a", Some("1"));
    f.put("a", Some("2"));
    f.roll();
    let before = f.files();
    let done = f.plan(NOW).unwrap().run(&KnownProducers::default()).unwrap();
    assert_eq!(f.files().len(), before.len() + 1);
    drop(done);
    assert_eq!(f.files(), before);
    assert_eq!(f.keys(), keys(&[(0, "a"), (1, "a")]));
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A crash at each step between the first output's first byte and the last source's deletion.
#[test]
fn a_crash_at_any_step_of_a_compaction_leaves_a_log_that_opens() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 400, ..compacted() });
    for n in 0..40 {
        f.put(&format!("{}", n % 7), Some(&format!("value {n} of some length")));
    }
    f.roll();
    f.put("tail", Some("1"));
    f.checkpoint();
    let before = f.records();
    let stale = f.known.clone();
    let saved = tempfile::tempdir().unwrap();
    let job = f.plan(NOW).unwrap();
    copy_dir(&f.path(), &saved.path().join("sources"));
    let done = job.run(&KnownProducers::default()).unwrap();
    assert!(done.outputs.len() > 1);
    copy_dir(&f.path(), &saved.path().join("both"));
    let outputs: Vec<PathBuf> = done.outputs.iter().map(|output| output.segment.path()).collect();
    let events = f.log().install_compacted(done);
    f.learn(events);
    let after = f.records();
    assert!(after.len() < before.len());
    let fresh = f.known.clone();
    let sources: Vec<PathBuf> =
        stale.segments.iter().map(|meta| f.path().join(format!("{:020}.log", meta.base_offset.0))).collect();
    f.kill();

    let mut open = |prepare: &dyn Fn(&Path), from: &str, known: &Known| {
        fs::remove_dir_all(f.path()).unwrap();
        copy_dir(&saved.path().join(from), &f.path());
        prepare(&f.path());
        f.known = known.clone();
        f.try_open().unwrap();
        let records = f.records();
        let mut known: Vec<_> = f.known.segments.clone();
        known.sort_unstable_by_key(|meta| meta.base_offset);
        assert_eq!(known, f.log().closed_segments().copied().collect::<Vec<_>>(), "the store learns the truth");
        assert!(f.files().iter().all(|path| !path.to_string_lossy().contains("cleaned")));
        // And once more, with what the store knows now.
        f.restart();
        f.log = None;
        records
    };
    // An output that is not finished, cut at any place.
    let whole = fs::read(saved.path().join("both").join(outputs[0].file_name().unwrap())).unwrap();
    for len in [0, 50, whole.len() / 2, whole.len()] {
        let name = format!("{}.cleaned", outputs[0].file_name().unwrap().to_string_lossy());
        let records = open(&|dir| fs::write(dir.join(&name), &whole[..len]).unwrap(), "sources", &stale);
        assert_eq!(records, before);
    }
    // Some outputs finished, the rest not begun.
    for kept in 0..=outputs.len() {
        let prepare = |dir: &Path| {
            for path in &outputs[kept..] {
                fs::remove_file(dir.join(path.file_name().unwrap())).unwrap();
            }
        };
        let records = open(&prepare, "both", &stale);
        let last = |records: &[Seen]| -> BTreeMap<Option<Vec<u8>>, Option<Vec<u8>>> {
            records.iter().map(|(_, key, value)| (key.clone(), value.clone())).collect()
        };
        assert_eq!(last(&records), last(&before), "{kept} outputs");
        assert!(records.len() <= before.len() && records.len() >= after.len());
    }
    // All finished, some sources deleted already; the store behind, or ahead.
    for gone in 0..=sources.len() {
        let prepare = |dir: &Path| {
            for path in &sources[..gone] {
                fs::remove_file(dir.join(path.file_name().unwrap())).unwrap();
            }
        };
        for known in [&stale, &fresh] {
            assert_eq!(open(&prepare, "both", known), after, "{gone} sources gone");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn every_keys_last_value_survives(
        rounds in prop::collection::vec(prop::collection::vec((0u8..12, 0u8..4, 1usize..4), 1..30), 1..5),
        map_keys in 1usize..30,
        segment_bytes in 300u32..1500,
    ) {
        let config = LogConfig { segment_bytes, min_cleanable_dirty_ratio: Ratio::of(0.0), ..compacted() };
        let mut f = Fixture::new(config);
        let mut all: Vec<Seen> = Vec::new();
        for round in rounds {
            for (key, value, count) in round {
                let mut builder = BatchBuilder::new();
                for n in 0..count {
                    let key = vec![b'k', (key + n as u8) % 12];
                    // Every fourth is a tombstone.
                    let value = (value > 0).then(|| vec![value; usize::from(value) * 10 + n]);
                    builder.push(NOW, Some(&key), value.as_deref(), &[]);
                    let offset = f.log().next_offset().plus(n as i64);
                    all.push((offset, Some(key), value));
                }
                f.produce(&builder.finish());
            }
            f.roll();
            let limits = CompactionLimits { dedupe_buffer_bytes: 27 * map_keys, ..f.limits(NOW) };
            let Some(job) = f.log().compaction_plan(limits) else { continue };
            let done = job.run(&KnownProducers::default()).unwrap();
            let cleaned_end = done.cleaned_end;
            let events = f.log().install_compacted(done);
            f.learn(events);
            let records = f.records();
            // What is there was written so; of keys known to the end, only the last is.
            prop_assert!(records.iter().all(|record| all.contains(record)));
            prop_assert!(records.is_sorted_by_key(|(offset, _, _)| *offset));
            let last = |records: &[Seen]| -> BTreeMap<Option<Vec<u8>>, Seen> {
                records.iter().map(|seen| (seen.1.clone(), seen.clone())).collect()
            };
            prop_assert_eq!(last(&records), last(&all));
            let in_clean: Vec<_> = records.iter().filter(|(offset, _, _)| *offset < cleaned_end).collect();
            let mut keys: Vec<_> = in_clean.iter().map(|(_, key, _)| key).collect();
            keys.sort_unstable();
            keys.dedup();
            prop_assert_eq!(keys.len(), in_clean.len());
            f.checkpoint();
            f.restart();
        }
    }
}
