//! Transactions: what may be appended, and where readers of committed records stop.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::partition::AbortedTransactions;
use crate::record::control_batch;

const TRANSACTIONAL: i16 = 0b1_0000;

fn of_transaction(id: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader { attributes: TRANSACTIONAL, ..batch(id, epoch, sequence, count) }
}

fn end(id: i64, epoch: i16, commit: bool, version: i8) -> TxnEnd {
    TxnEnd {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        commit,
        coordinator_epoch: 1,
        transaction_version: version,
    }
}

fn marker(end: &TxnEnd, at: i64) -> BatchSequence {
    let kind = if end.commit { Marker::Commit } else { Marker::Abort };
    let bytes = control_batch(kind, end.producer_id, end.producer_epoch, end.coordinator_epoch, Timestamp(7));
    BatchSequence::of(&BatchHeader::parse(&bytes).unwrap(), &bytes, Offset(at)).unwrap()
}

impl Partition {
    fn verify(&mut self, b: &BatchHeader, bumps: bool) -> Result<Option<Guard>, ProducerError> {
        let of = (b.producer_id, b.producer_epoch, b.base_sequence);
        self.guards += 1;
        self.producers.begin_verification(of, bumps, Timestamp(0), Guard(self.guards))
    }

    fn produce_with(&mut self, b: &BatchHeader, guard: Option<Guard>) -> Result<Admission, ProducerError> {
        let outcome = self.producers.check(b, guard)?;
        if outcome == Admission::New {
            self.producers.admit(BatchSequence::of(b, &[], Offset(self.end)).unwrap());
            self.end += i64::from(b.record_count);
        }
        Ok(outcome)
    }

    /// Verified, whatever the coordinator would say.
    fn transact(&mut self, b: &BatchHeader) -> Result<Admission, ProducerError> {
        let guard = self.verify(b, false)?;
        self.produce_with(b, guard)
    }

    fn end(&mut self, end: &TxnEnd) -> Result<(), ProducerError> {
        self.producers.check_end(end)?;
        self.producers.admit(marker(end, self.end));
        self.end += 1;
        Ok(())
    }

    fn commit_all(&mut self) {
        self.producers.commit_to(Offset(self.end));
    }

    fn last_stable(&self) -> i64 {
        self.producers.last_stable_offset(Offset(self.end)).unwrap().0
    }
}

const NOT_IN: ProducerError = ProducerError::NotInTransaction { producer_id: ProducerId(1) };

#[test]
fn the_first_batch_of_a_transaction_needs_a_guard_that_no_marker_has_taken() {
    let mut p = Partition::default();
    let first = of_transaction(1, 0, 0, 2);
    assert_eq!(p.produce_with(&first, None), Err(NOT_IN));
    let guard = p.verify(&first, false).unwrap();
    assert!(guard.is_some());
    assert_eq!(p.verify(&first, false), Ok(guard), "asked twice: the same question");
    p.end(&end(1, 0, false, 0)).unwrap();
    assert_eq!(p.produce_with(&first, guard), Err(NOT_IN), "aborted while the coordinator was asked");
    let guard = p.verify(&first, false).unwrap();
    assert_eq!(p.produce_with(&first, guard), Ok(Admission::New));
    assert_eq!(p.verify(&of_transaction(1, 0, 2, 1), false), Ok(None), "it is under way");
    assert_eq!(p.produce_with(&of_transaction(1, 0, 2, 1), None), Ok(Admission::New));
    assert!(matches!(p.produce_with(&first, None), Ok(Admission::Duplicate { .. })), "a retry needs no guard");
    p.producers.end_verifications();
    assert_eq!(p.produce_with(&of_transaction(1, 0, 3, 1), guard), Ok(Admission::New));
}

/// A client begins the next transaction while the markers of the one before are on their way.
#[test]
fn the_marker_of_the_transaction_before_leaves_the_guard_of_the_next() {
    let mut p = Partition::default();
    assert_eq!(p.transact(&of_transaction(1, 0, 0, 1)), Ok(Admission::New));
    let next = of_transaction(1, 1, 0, 1);
    let guard = p.verify(&next, true).unwrap();
    assert!(guard.is_some());
    p.end(&end(1, 1, true, 2)).unwrap();
    assert_eq!(p.produce_with(&next, guard), Ok(Admission::New));
    // That of a later one does not.
    p.end(&end(1, 2, true, 2)).unwrap();
    let overtaken = of_transaction(1, 2, 0, 1);
    let guard = p.verify(&overtaken, true).unwrap();
    p.end(&end(1, 3, false, 2)).unwrap();
    assert!(matches!(p.produce_with(&overtaken, guard), Err(ProducerError::StaleEpoch { .. })));
    assert_eq!(p.produce_with(&of_transaction(1, 3, 0, 1), guard), Err(NOT_IN));
}

#[test]
fn batches_that_overtake_the_first_while_it_is_verified_are_out_of_order() {
    let mut p = Partition::default();
    let (first, second) = (of_transaction(1, 0, 0, 2), of_transaction(1, 0, 2, 2));
    p.verify(&first, false).unwrap();
    let guard = p.verify(&second, false).unwrap();
    assert!(matches!(p.produce_with(&second, guard), Err(ProducerError::OutOfOrder { .. })));
    assert_eq!(p.produce_with(&first, guard), Ok(Admission::New));
    // With transaction version 2 a producer that is not known begins at 0.
    let late = of_transaction(2, 0, 5, 1);
    let guard = p.verify(&late, true).unwrap();
    assert!(matches!(p.produce_with(&late, guard), Err(ProducerError::OutOfOrder { .. })));
}

#[test]
fn questions_that_nothing_came_of_are_forgotten() {
    let mut producers = Producers::default();
    for id in 0..50_000 {
        let of = (ProducerId(id), ProducerEpoch(0), Sequence(0));
        producers.begin_verification(of, false, Timestamp(id * 10), Guard(id as u64)).unwrap();
    }
    assert!(producers.verifications.len() < 20_000, "{}", producers.verifications.len());
    let last = (ProducerId(49_999), ProducerEpoch(0), Sequence(0));
    assert_eq!(producers.begin_verification(last, false, Timestamp(500_000), Guard(0)), Ok(Some(Guard(49_999))));
}

#[test]
fn a_transaction_takes_no_other_batches_of_its_producer() {
    let mut p = Partition::default();
    p.transact(&of_transaction(1, 0, 0, 1)).unwrap();
    let outside = ProducerError::OutsideTransaction { producer_id: ProducerId(1) };
    assert_eq!(p.produce(&batch(1, 0, 1, 1)), Err(outside));
    p.commit_all();
    assert_eq!(p.produce(&batch(1, 0, 1, 1)), Err(outside));
    p.end(&end(1, 0, true, 0)).unwrap();
    assert_eq!(p.produce(&batch(1, 0, 1, 1)), Ok(Admission::New));
}

#[test]
fn markers_are_checked_by_epochs() {
    let mut p = Partition::default();
    p.transact(&of_transaction(1, 5, 0, 1)).unwrap();
    let stale = |epoch: i16| {
        let (epoch, current) = (ProducerEpoch(epoch), ProducerEpoch(5));
        Err(ProducerError::StaleEpoch { producer_id: ProducerId(1), epoch, current })
    };
    assert_eq!(p.end(&end(1, 4, true, 0)), stale(4));
    assert_eq!(p.end(&end(1, 5, true, 2)), stale(5), "with version 2 a marker has a newer epoch");
    p.end(&TxnEnd { coordinator_epoch: 7, ..end(1, 6, true, 2) }).unwrap();
    let fenced = ProducerError::CoordinatorFenced { producer_id: ProducerId(1), epoch: 6, current: 7 };
    assert_eq!(p.end(&TxnEnd { coordinator_epoch: 6, ..end(1, 6, true, 2) }), Err(fenced));
    // One that comes again ends nothing.
    p.end(&TxnEnd { coordinator_epoch: 7, ..end(1, 6, true, 2) }).unwrap();
    p.commit_all();
    assert_eq!(p.last_stable(), p.end);
    assert!(p.producers.take_aborted().is_empty());
    // Its producer goes on in the new epoch, from 0.
    assert!(matches!(p.transact(&of_transaction(1, 5, 1, 1)), Err(ProducerError::StaleEpoch { .. })));
    assert!(matches!(p.transact(&of_transaction(1, 6, 1, 1)), Err(ProducerError::OutOfOrder { .. })));
    p.transact(&of_transaction(1, 6, 0, 1)).unwrap();
}

#[test]
fn sequences_go_on_over_a_marker_of_the_same_epoch() {
    let mut p = Partition::default();
    p.transact(&of_transaction(1, 0, 0, 3)).unwrap();
    p.end(&end(1, 0, true, 0)).unwrap();
    p.commit_all();
    assert!(matches!(p.transact(&of_transaction(1, 0, 0, 1)), Err(ProducerError::OutOfOrder { .. })));
    p.producers.end_verifications();
    p.transact(&of_transaction(1, 0, 3, 1)).unwrap();
}

#[test]
fn the_last_stable_offset_stays_before_the_first_undecided_transaction() {
    let mut p = Partition::default();
    p.produce(&batch(9, 0, 0, 2)).unwrap();
    p.transact(&of_transaction(1, 0, 0, 1)).unwrap();
    p.transact(&of_transaction(2, 0, 0, 1)).unwrap();
    assert_eq!(p.producers.last_stable_offset(Offset(2)), Some(Offset(2)), "what is not committed does not count");
    p.commit_all();
    assert_eq!(p.last_stable(), 2);
    p.end(&end(1, 0, false, 0)).unwrap();
    assert_eq!(p.last_stable(), 2, "nor does a marker");
    p.commit_all();
    assert_eq!(p.last_stable(), 3);
    let aborted = p.producers.take_aborted();
    assert_eq!(aborted.len(), 1);
    assert_eq!((aborted[0].first_offset, aborted[0].last_offset), (Offset(2), Offset(4)));
    assert_eq!(aborted[0].last_stable, Offset(3));
    p.end(&end(2, 0, true, 0)).unwrap();
    p.commit_all();
    assert_eq!(p.last_stable(), 6);
    assert!(p.producers.take_aborted().is_empty());
}

#[test]
fn a_producer_with_a_transaction_under_way_never_expires() {
    let mut p = Partition::default();
    p.transact(&of_transaction(1, 0, 0, 1)).unwrap();
    p.transact(&of_transaction(2, 0, 0, 1)).unwrap();
    p.end(&end(2, 0, true, 0)).unwrap();
    p.commit_all();
    p.producers.expire(Timestamp(1_000_000), 1000);
    let known: Vec<_> = p.producers.active().map(|p| (p.producer_id.0, p.transaction_start)).collect();
    assert_eq!(known, [(1, Some(Offset(0)))]);
}

#[test]
fn what_was_stored_before_there_were_transactions_is_read() {
    let mut p = Partition::default();
    p.produce(&batch(4, 2, 0, 3)).unwrap();
    p.commit_all();
    let mut old = Vec::new();
    old.extend(1u32.to_be_bytes());
    old.extend(4i64.to_be_bytes());
    old.extend(2i16.to_be_bytes());
    old.extend(7i64.to_be_bytes());
    old.push(1);
    old.extend(0i32.to_be_bytes());
    old.extend(2i32.to_be_bytes());
    old.extend(0i64.to_be_bytes());
    old.extend(2i64.to_be_bytes());
    assert_eq!(Producers::decode_version(1, &old), Ok(p.producers));
}

/// What a reader of the whole log finds, by nothing but its definition.
#[derive(Debug, Default, PartialEq, Eq)]
struct Model {
    last_stable: i64,
    aborted: BTreeSet<(i64, i64, i64)>,
    open: BTreeMap<i64, i64>,
    epochs: BTreeMap<i64, i16>,
}

impl Model {
    fn of(log: &[BatchSequence], end: i64) -> Self {
        let mut model = Self::default();
        for b in log.iter().filter(|b| b.last_offset.0 < end) {
            let id = b.producer_id.0;
            model.epochs.insert(id, b.epoch.0);
            match b.kind {
                BatchKind::Plain => {}
                BatchKind::Transactional => drop(model.open.entry(id).or_insert(b.first_offset.0)),
                BatchKind::End { commit, .. } => {
                    let first = model.open.remove(&id);
                    if let (Some(first), false) = (first, commit) {
                        model.aborted.insert((id, first, b.last_offset.0));
                    }
                }
            }
        }
        model.last_stable = model.open.values().copied().min().unwrap_or(end).min(end);
        model
    }

    fn found(producers: &Producers, aborted: &AbortedTransactions, end: i64) -> Self {
        let all = || producers.active();
        Self {
            last_stable: producers.last_stable_offset(Offset(end)).unwrap().0,
            aborted: aborted.iter().map(|a| (a.producer_id.0, a.first_offset.0, a.last_offset.0)).collect(),
            open: all().filter_map(|p| Some((p.producer_id.0, p.transaction_start?.0))).collect(),
            epochs: all().map(|p| (p.producer_id.0, p.epoch.0)).collect(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Data {
        id: i64,
        count: i32,
    },
    End {
        id: i64,
        commit: bool,
        bumps: bool,
    },
    /// So much of what is not committed yet is, in percent.
    Commit(i64),
    /// What is not committed is cut off, and that is gone which was appended.
    Truncate,
    /// Another node takes over from what is stored, and reads the log from somewhere before that.
    Restart {
        back: usize,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        5 => (0i64..4, 1i32..3).prop_map(|(id, count)| Op::Data { id, count }),
        4 => (0i64..4, any::<bool>(), any::<bool>()).prop_map(|(id, commit, bumps)| Op::End { id, commit, bumps }),
        3 => (0i64..=100).prop_map(Op::Commit),
        1 => Just(Op::Truncate),
        1 => (0usize..6).prop_map(|back| Op::Restart { back }),
    ];
    prop::collection::vec(op, 0..80)
}

proptest! {
    /// Commits, truncations, restarts from any checkpoint: what is known equals a replay of the whole log.
    #[test]
    fn what_is_known_is_what_a_replay_of_the_whole_log_finds(ops in ops()) {
        let mut producers = Producers::default();
        let mut aborted = AbortedTransactions::default();
        let (mut log, mut end, mut committed): (Vec<BatchSequence>, i64, i64) = (Vec::new(), 0, 0);
        let mut next: BTreeMap<i64, (i16, i32)> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Data { id, count } => {
                    let (epoch, sequence) = *next.entry(id).or_default();
                    let header = of_transaction(id, epoch, sequence, count);
                    let of = (header.producer_id, header.producer_epoch, header.base_sequence);
                    let guard = producers.begin_verification(of, false, Timestamp(0), Guard(1)).unwrap();
                    prop_assert_eq!(producers.check(&header, guard), Ok(Admission::New));
                    let b = BatchSequence::of(&header, &[], Offset(end)).unwrap();
                    producers.admit(b);
                    log.push(b);
                    next.insert(id, (epoch, sequence + count));
                    end += i64::from(count);
                }
                Op::End { id, commit, bumps } => {
                    let (epoch, sequence) = *next.entry(id).or_default();
                    let (ended, version) = if bumps { (self::end(id, epoch + 1, commit, 2), (epoch + 1, 0)) } else {
                        (self::end(id, epoch, commit, 0), (epoch, sequence))
                    };
                    prop_assert_eq!(producers.check_end(&ended), Ok(()));
                    let b = marker(&ended, end);
                    producers.admit(b);
                    log.push(b);
                    next.insert(id, version);
                    end += 1;
                }
                Op::Commit(percent) => {
                    let to = committed + (end - committed) * percent / 100;
                    // Between two batches.
                    committed = log.iter().map(|b| b.first_offset.0).filter(|at| *at <= to).max().unwrap_or(0).max(committed);
                    if to == end {
                        committed = end;
                    }
                    producers.commit_to(Offset(committed));
                }
                Op::Truncate => {
                    producers.truncate_from(Offset(committed));
                    log.retain(|b| b.last_offset.0 < committed);
                    end = committed;
                    next.clear();
                    for b in &log {
                        let sequence = match b.kind {
                            BatchKind::End { .. } => {
                                let known = next.get(&b.producer_id.0).copied().unwrap_or((b.epoch.0, 0));
                                if known.0 == b.epoch.0 { known.1 } else { 0 }
                            }
                            _ => b.last_sequence.0 + 1,
                        };
                        next.insert(b.producer_id.0, (b.epoch.0, sequence));
                    }
                }
                Op::Restart { back } => {
                    let mut bytes = Vec::new();
                    producers.take_aborted().into_iter().for_each(|a| aborted.push(a));
                    aborted.encode(&mut bytes);
                    producers.encode(&mut bytes);
                    let mut rest = &bytes[..];
                    aborted = AbortedTransactions::decode(&mut rest).unwrap();
                    producers = Producers::decode(rest).unwrap();
                    let applied = log.iter().filter(|b| b.last_offset.0 < committed).count();
                    for b in &log[applied.saturating_sub(back)..applied] {
                        producers.replay(b);
                    }
                    log[applied..].iter().for_each(|b| producers.admit(*b));
                }
            }
            producers.take_aborted().into_iter().for_each(|a| aborted.push(a));
            let found = Model::found(&producers, &aborted, committed);
            prop_assert_eq!(found, Model::of(&log, committed));
        }
    }
}
