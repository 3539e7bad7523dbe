//! What compaction leaves of transactions.

use std::collections::{BTreeSet, HashMap};

use millstream_core::partition::{AbortedTransactions, BatchSequence, Producers};
use millstream_core::record::{Marker, control_batch};

use super::*;

/// A producer's transactional batch with one record.
fn of(id: i64, sequence: i32, key: &str, value: &str) -> Bytes {
    let mut builder =
        BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence)).transactional(true);
    builder.push(NOW, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    builder.finish()
}

fn marker(id: i64, marker: Marker) -> Bytes {
    control_batch(marker, ProducerId(id), ProducerEpoch(0), 0, NOW)
}

/// What the partition would know of the log's producers. `live`: those that have not expired.
fn known(f: &Fixture, live: impl Fn(i64) -> bool) -> KnownProducers {
    let (producers, aborted) = fold(f);
    let last = producers.last_records().into_iter().filter(|(id, _)| live(id.0)).collect();
    KnownProducers { last, aborted: aborted.iter().copied().collect() }
}

fn fold(f: &Fixture) -> (Producers, AbortedTransactions) {
    let (mut producers, mut aborted) = (Producers::default(), AbortedTransactions::default());
    for (header, bytes) in f.batches() {
        if let Some(batch) = BatchSequence::of(&header, &bytes, header.base_offset) {
            producers.replay(&batch);
            producers.take_aborted().into_iter().for_each(|a| aborted.push(a));
        }
    }
    (producers, aborted)
}

/// Base offsets, each with its number of records; markers with -1.
fn left(f: &Fixture) -> Vec<(i64, i32)> {
    let told = |h: &BatchHeader| (h.base_offset.0, if h.is_control() { -1 } else { h.record_count });
    f.batches().iter().map(|(header, _)| told(header)).collect()
}

/// Compacts whatever there is, and gives the markers that no reader need be told of.
fn compact_all(f: &mut Fixture, now: Timestamp, known: &KnownProducers) -> Vec<i64> {
    let job = f.plan(now).expect("something to compact");
    let done = job.run(known).unwrap();
    let gone = done.gone.iter().map(|offset| offset.0).collect();
    let events = f.log().install_compacted(done);
    f.learn(events);
    f.checkpoint();
    gone
}

fn dirty(f: &mut Fixture) {
    f.put("end", Some("x"));
    f.roll();
}

#[test]
fn aborted_records_go_and_committed_ones_count() {
    let mut f = Fixture::new(LogConfig { min_cleanable_dirty_ratio: Ratio::of(0.0), ..compacted() });
    f.put("a", Some("0")); // 0
    f.put("b", Some("0")); // 1
    f.produce(&of(7, 0, "a", "aborted")); // 2
    f.produce(&of(8, 0, "b", "committed")); // 3
    f.produce(&marker(7, Marker::Abort)); // 4
    f.produce(&marker(8, Marker::Commit)); // 5
    f.produce(&of(7, 1, "c", "committed")); // 6
    f.produce(&marker(7, Marker::Commit)); // 7
    f.put("z", Some("0")); // 8
    f.roll();
    let all = known(&f, |_| false);
    assert_eq!(compact_all(&mut f, NOW, &all), Vec::<i64>::new(), "its records were there a moment ago");
    assert_eq!(left(&f), [(0, 1), (3, 1), (4, -1), (5, -1), (6, 1), (7, -1), (8, 1)]);
    // Nothing is left of the aborted one: its marker has its time now.
    dirty(&mut f); // 9
    let all = known(&f, |_| false);
    let aborted_still_known = KnownProducers { aborted: fold_before(), ..all };
    assert_eq!(compact_all(&mut f, NOW, &aborted_still_known), [4]);
    let horizon = f.batches().iter().find(|(h, _)| h.base_offset == Offset(4)).map(|(h, _)| h.has_delete_horizon());
    assert_eq!(horizon, Some(true));
    f.restart();
    dirty(&mut f);
    let none = KnownProducers::default();
    compact_all(&mut f, NOW.plus_ms(DAY_MS - 1), &none);
    assert!(left(&f).contains(&(4, -1)), "its time is not over");
    dirty(&mut f);
    compact_all(&mut f, NOW.plus_ms(DAY_MS), &none);
    assert!(!left(&f).contains(&(4, -1)));
    assert!(left(&f).contains(&(5, -1)) && left(&f).contains(&(7, -1)), "records that need them are there");
    f.restart();
}

/// The aborted transaction of the test above.
fn fold_before() -> Vec<millstream_core::partition::AbortedTransaction> {
    vec![millstream_core::partition::AbortedTransaction {
        producer_id: ProducerId(7),
        first_offset: Offset(2),
        last_offset: Offset(4),
        last_stable: Offset(3),
    }]
}

#[test]
fn the_last_batch_of_a_live_producer_stays_empty_and_keeps_its_marker() {
    let mut f = Fixture::new(LogConfig { min_cleanable_dirty_ratio: Ratio::of(0.0), ..compacted() });
    f.produce(&of(7, 0, "a", "aborted")); // 0
    f.produce(&marker(7, Marker::Abort)); // 1
    f.produce(&marker(9, Marker::Abort)); // 2, of a producer that wrote nothing here
    dirty(&mut f); // 3
    for day in 0..4 {
        let all = known(&f, |_| true);
        assert!(compact_all(&mut f, NOW.plus_ms(day * DAY_MS), &all).is_empty());
        assert_eq!(left(&f)[..3], [(0, 0), (1, -1), (2, -1)], "day {day}");
        dirty(&mut f);
    }
    let (before, aborted) = fold(&f);
    assert_eq!((before.len(), aborted.len()), (2, 1));
    assert_eq!(before.last_stable_offset(Offset(99)), Some(Offset(99)), "nothing seems to be under way");
    // Both have expired.
    for day in 4..8 {
        let all = known(&f, |_| false);
        compact_all(&mut f, NOW.plus_ms(day * DAY_MS), &all);
        dirty(&mut f);
    }
    assert!(left(&f).iter().all(|(_, count)| *count == 1), "{:?}", left(&f));
    f.restart();
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Data(i64, u8),
    End(i64, bool),
    Plain(u8),
    Roll,
    /// After so many hours, while some producers have expired.
    Compact(i64, i64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0i64..3, 0u8..5).prop_map(|(id, key)| Op::Data(id, key)),
        4 => (0i64..3, any::<bool>()).prop_map(|(id, commit)| Op::End(id, commit)),
        2 => (0u8..5).prop_map(Op::Plain),
        2 => Just(Op::Roll),
        2 => (0i64..30, 0i64..4).prop_map(|(hours, live)| Op::Compact(hours, live)),
    ];
    proptest::collection::vec(op, 1..60)
}

/// The records that a reader of committed ones sees, by the rules of Kafka's consumer, told of `aborted`.
fn committed(f: &Fixture, aborted: &AbortedTransactions, end: Offset) -> Vec<(i64, String, String)> {
    let mut to_come = aborted.overlapping(Offset::ZERO, end);
    to_come.reverse();
    let (mut leaves_out, mut seen) = (BTreeSet::new(), Vec::new());
    for (header, bytes) in f.batches().into_iter().filter(|(header, _)| header.base_offset < end) {
        while let Some(next) = to_come.pop_if(|next| next.first_offset <= header.last_offset()) {
            leaves_out.insert(next.producer_id);
        }
        if header.is_control() {
            if millstream_core::record::marker_of(&header, &bytes).is_some_and(|(m, _)| m == Marker::Abort) {
                leaves_out.remove(&header.producer_id);
            }
            continue;
        }
        if header.is_transactional() && leaves_out.contains(&header.producer_id) {
            continue;
        }
        let mut scratch = Vec::new();
        let body = batch_body(&header, &bytes, 10_000, &mut scratch).unwrap();
        for record in RecordIter::new(&header, body).map(Result::unwrap) {
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            seen.push((record.offset.0, text(record.key), text(record.value)));
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Compactions at any time, some producers expired or not: readers of committed records find the last value of each
    /// key, and what a replay of the compacted log knows of transactions is what was known.
    #[test]
    fn readers_of_committed_records_lose_nothing(ops in ops()) {
        let config = LogConfig { min_cleanable_dirty_ratio: Ratio::of(0.0), ..compacted() };
        let mut f = Fixture::new(config);
        let (mut producers, mut aborted) = (Producers::default(), AbortedTransactions::default());
        let mut sequences: HashMap<i64, i32> = HashMap::new();
        let (mut now, mut n) = (NOW, 0);
        // By producer what it has written since its last marker; the decided records.
        let mut undecided: HashMap<i64, Vec<(i64, String, String)>> = HashMap::new();
        let mut decided: Vec<(i64, String, String)> = Vec::new();
        for op in ops {
            n += 1;
            let at = f.log().next_offset();
            let bytes = match op {
                Op::Data(id, key) => {
                    let sequence = sequences.entry(id).or_default();
                    let (key, value) = (format!("k{key}"), format!("v{n}"));
                    undecided.entry(id).or_default().push((at.0, key.clone(), value.clone()));
                    *sequence += 1;
                    of(id, *sequence - 1, &key, &value)
                }
                Op::End(id, commit) => {
                    let ended = undecided.remove(&id).unwrap_or_default();
                    decided.extend(ended.into_iter().filter(|_| commit));
                    marker(id, if commit { Marker::Commit } else { Marker::Abort })
                }
                Op::Plain(key) => {
                    let (key, value) = (format!("k{key}"), format!("v{n}"));
                    decided.push((at.0, key.clone(), value.clone()));
                    keyed(&[(&key, Some(&value))], Compression::None)
                }
                Op::Roll => {
                    if at > f.log().view().segments().last().unwrap().base_offset() {
                        f.roll();
                    }
                    continue;
                }
                Op::Compact(hours, live) => {
                    now = now.plus_ms(hours * 3_600_000);
                    let last_stable = producers.last_stable_offset(at).unwrap();
                    let last = producers.last_records().into_iter().filter(|(id, _)| id.0 < live).collect();
                    let limits = CompactionLimits { end: last_stable, ..f.limits(now) };
                    if let Some(job) = f.log().compaction_plan(limits) {
                        let done = job.run(&KnownProducers { last, aborted: aborted.iter().copied().collect() }).unwrap();
                        aborted.remove(&done.gone);
                        let events = f.log().install_compacted(done);
                        f.learn(events);
                        f.checkpoint();
                    }
                    continue;
                }
            };
            f.produce(&bytes);
            let header = BatchHeader::parse(&bytes).unwrap();
            if let Some(batch) = BatchSequence::of(&header, &bytes, at) {
                producers.replay(&batch);
                producers.take_aborted().into_iter().for_each(|a| aborted.push(a));
            }
        }
        let end = producers.last_stable_offset(f.log().next_offset()).unwrap();
        let latest = |seen: Vec<(i64, String, String)>| -> BTreeMap<String, (i64, String)> {
            let mut seen: Vec<_> = seen.into_iter().filter(|(offset, ..)| *offset < end.0).collect();
            seen.sort();
            seen.into_iter().map(|(offset, key, value)| (key, (offset, value))).collect()
        };
        prop_assert_eq!(latest(committed(&f, &aborted, end)), latest(decided));
        // A replay of what is left finds the same transactions under way, and tells readers no less.
        let (replayed, found) = fold(&f);
        prop_assert_eq!(replayed.last_stable_offset(f.view().next_offset()), Some(end));
        prop_assert_eq!(latest(committed(&f, &found, end)), latest(committed(&f, &aborted, end)));
        f.restart();
    }
}
