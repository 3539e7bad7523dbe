use proptest::prelude::*;

use super::*;
use crate::types::LeaderEpoch;

fn batch(id: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(0),
        length: 100,
        leader_epoch: LeaderEpoch(0),
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: Timestamp(7),
        max_timestamp: Timestamp(7),
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
        record_count: count,
    }
}

/// A partition that appends what is admitted.
#[derive(Default)]
struct Partition {
    producers: Producers,
    end: i64,
    guards: u64,
}

impl Partition {
    fn produce(&mut self, b: &BatchHeader) -> Result<Admission, ProducerError> {
        let outcome = self.producers.check(b, None)?;
        if outcome == Admission::New {
            self.producers.admit(BatchSequence::of(b, &[], Offset(self.end)).unwrap());
            self.end += i64::from(b.record_count);
        }
        Ok(outcome)
    }
}

#[test]
fn a_retry_finds_its_batch_before_and_after_the_commit() {
    let mut p = Partition::default();
    assert_eq!(p.produce(&batch(1, 0, 0, 10)), Ok(Admission::New));
    let again = Ok(Admission::Duplicate { first_offset: Offset(0), last_offset: Offset(9) });
    assert_eq!(p.produce(&batch(1, 0, 0, 10)), again);
    p.producers.commit_to(Offset(10));
    assert_eq!(p.produce(&batch(1, 0, 0, 10)), again);
}

#[test]
fn a_gap_is_out_of_order() {
    let mut p = Partition::default();
    p.produce(&batch(1, 0, 0, 10)).unwrap();
    let refused = ProducerError::OutOfOrder { producer_id: ProducerId(1), got: Sequence(11), last: Sequence(9) };
    assert_eq!(p.produce(&batch(1, 0, 11, 1)), Err(refused));
}

#[test]
fn the_sixth_batch_back_is_forgotten() {
    for commit in [0, 3, 6] {
        let mut p = Partition::default();
        for n in 0..6 {
            p.produce(&batch(1, 0, n, 1)).unwrap();
        }
        p.producers.commit_to(Offset(commit));
        assert!(matches!(p.produce(&batch(1, 0, 0, 1)), Err(ProducerError::OutOfOrder { .. })), "commit {commit}");
        assert!(matches!(p.produce(&batch(1, 0, 1, 1)), Ok(Admission::Duplicate { .. })), "commit {commit}");
    }
}

#[test]
fn a_new_epoch_begins_at_sequence_zero_and_fences_the_old() {
    let mut p = Partition::default();
    p.produce(&batch(1, 0, 0, 3)).unwrap();
    assert!(matches!(p.produce(&batch(1, 1, 3, 1)), Err(ProducerError::OutOfOrder { .. })));
    p.produce(&batch(1, 1, 0, 1)).unwrap();
    let stale =
        ProducerError::StaleEpoch { producer_id: ProducerId(1), epoch: ProducerEpoch(0), current: ProducerEpoch(1) };
    assert_eq!(p.produce(&batch(1, 0, 3, 1)), Err(stale));
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    let mut p = Partition::default();
    assert_eq!(p.produce(&batch(9, 3, 1234, 1)), Ok(Admission::New));
}

#[test]
fn sequences_wrap() {
    let mut p = Partition::default();
    p.produce(&batch(1, 0, i32::MAX - 1, 2)).unwrap();
    assert_eq!(p.produce(&batch(1, 0, 0, 1)), Ok(Admission::New));
}

#[test]
fn a_truncation_forgets_the_tail_of_every_producer() {
    let mut p = Partition::default();
    for (id, sequence) in [(1, 0), (2, 0), (1, 1), (2, 1), (3, 0)] {
        p.produce(&batch(id, 0, sequence, 1)).unwrap();
    }
    p.producers.commit_to(Offset(1));
    p.producers.truncate_from(Offset(3));
    p.end = 3;
    assert_eq!(p.produce(&batch(2, 0, 1, 1)), Ok(Admission::New), "cut off and written again");
    assert!(matches!(p.produce(&batch(1, 0, 1, 1)), Ok(Admission::Duplicate { first_offset: Offset(2), .. })));
    p.producers.truncate_from(Offset(0));
    p.producers.commit_to(Offset(9));
    let known: Vec<_> = p.producers.active().map(|p| (p.producer_id.0, p.last_sequence.0)).collect();
    assert_eq!(known, [(1, 0)], "what was committed stays");
    assert!(p.producers.order.is_empty() && p.producers.uncommitted.is_empty());
}

#[test]
fn idle_producers_expire() {
    let mut p = Partition::default();
    p.produce(&batch(1, 0, 0, 1)).unwrap();
    p.producers.commit_to(Offset(1));
    p.producers.expire(Timestamp(1006), 1000);
    assert!(!p.producers.is_empty());
    p.producers.expire(Timestamp(1007), 1000);
    assert!(p.producers.is_empty());
}

proptest! {
    /// Commits may fall anywhere: the outcome of every produce is that of a partition which commits at once, and
    /// a snapshot of the committed state reads back as it was.
    #[test]
    fn commit_points_do_not_show(steps in prop::collection::vec((0i64..3, 0i16..2, 0i32..8, 1i32..3, any::<bool>()), 0..60)) {
        let (mut lazy, mut eager) = (Partition::default(), Partition::default());
        for (id, epoch, sequence, count, commit) in steps {
            let b = batch(id, epoch, sequence, count);
            prop_assert_eq!(lazy.produce(&b), eager.produce(&b));
            eager.producers.commit_to(Offset(eager.end));
            if commit {
                lazy.producers.commit_to(Offset(lazy.end));
            }
        }
        lazy.producers.commit_to(Offset(lazy.end));
        prop_assert_eq!(&lazy.producers, &eager.producers);
        let mut bytes = Vec::new();
        lazy.producers.encode(&mut bytes);
        prop_assert_eq!(Producers::decode(&bytes), Ok(lazy.producers));
    }

    #[test]
    fn damaged_snapshots_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Producers::decode(&bytes));
    }
}

mod transactions;
