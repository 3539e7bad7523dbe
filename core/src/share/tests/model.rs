//! A share-partition against a model that knows each record alone: after every step both know the same of every record.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::*;
use super::{BATCH, RECORDS, member, read};
use crate::types::{Offset, Timestamp};

const LIMITS: ShareLimits = ShareLimits { delivery_count: 4, in_flight: 18, lock_ms: 100, may_renew: true };

#[derive(Clone, Debug, PartialEq)]
struct Record {
    state: DeliveryState,
    count: i16,
    /// Who has it, also while a word of it is being written, and until when.
    lock: Option<(usize, i64)>,
    writing: Option<WriteId>,
}

const UNTOUCHED: Record = Record { state: DeliveryState::Available, count: 0, lock: None, writing: None };

impl Record {
    fn is_available(&self) -> bool {
        self.state == DeliveryState::Available && self.writing.is_none()
    }

    fn is_held(&self) -> bool {
        self.state == DeliveryState::Acquired && self.writing.is_none()
    }

    fn is_done(&self) -> bool {
        self.state.is_terminal() && self.writing.is_none()
    }

    fn released(&self) -> DeliveryState {
        if self.count >= LIMITS.delivery_count { DeliveryState::Archived } else { DeliveryState::Available }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Acquire {
        who: usize,
        max: i64,
        strict: bool,
    },
    /// Of `len` records, each with a type of its own where there is one for each.
    Acknowledge {
        who: usize,
        first: i64,
        len: i64,
        acks: Vec<AckType>,
    },
    Leave {
        who: usize,
    },
    Pass {
        ms: i64,
    },
    Written {
        which: usize,
        is_done: bool,
    },
    Trim {
        to: i64,
    },
    /// A batch of what was acquired turns out to be of an aborted transaction.
    AcquireAborted {
        who: usize,
        max: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let ack = prop_oneof![
        4 => Just(AckType::Accept),
        3 => Just(AckType::Release),
        1 => Just(AckType::Reject),
        1 => Just(AckType::Gap),
        1 => Just(AckType::Renew),
    ];
    let acknowledge = (0..3_usize, 0..RECORDS, 1..7_i64, prop::collection::vec(ack, 6), any::<bool>()).prop_map(
        |(who, first, len, mut acks, alike)| {
            acks.truncate(if alike { 1 } else { usize::try_from(len).expect("small") });
            Step::Acknowledge { who, first, len, acks }
        },
    );
    prop_oneof![
        6 => (0..3_usize, 1..12_i64, any::<bool>()).prop_map(|(who, max, strict)| Step::Acquire { who, max, strict }),
        8 => acknowledge,
        1 => (0..3_usize).prop_map(|who| Step::Leave { who }),
        3 => (1..120_i64).prop_map(|ms| Step::Pass { ms }),
        6 => (0..4_usize, prop::bool::weighted(0.8)).prop_map(|(which, is_done)| Step::Written { which, is_done }),
        1 => (1..6_i64).prop_map(|to| Step::Trim { to }),
        1 => (0..3_usize, 1..12_i64).prop_map(|(who, max)| Step::AcquireAborted { who, max }),
    ]
}

struct World {
    partition: SharePartition,
    /// By offset.
    records: Vec<Record>,
    start: i64,
    /// Nothing from here on was acquired.
    end: i64,
    writes: Vec<StateWrite>,
    now: i64,
}

impl World {
    fn new() -> Self {
        let partition = SharePartition::load(Offset(0), &[]).expect("empty");
        let records = vec![UNTOUCHED; usize::try_from(RECORDS).expect("small")];
        Self { partition, records, start: 0, end: 0, writes: Vec::new(), now: 0 }
    }

    fn record(&mut self, at: i64) -> &mut Record {
        self.records.get_mut(usize::try_from(at).expect("not negative")).expect("there is such a record")
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Record> {
        let (start, end) = (usize::try_from(self.start).expect("small"), usize::try_from(self.end).expect("small"));
        self.records.iter_mut().take(end).skip(start)
    }

    fn acquire(&mut self, who: usize, max: i64, mode: AcquireMode) -> Vec<Acquired> {
        let from = self.partition.next_fetch_offset();
        let batches = read(from);
        let holder: Arc<str> = member(who);
        let ask = Acquire {
            member: &holder,
            mode,
            max_records: max,
            batch_size: BATCH,
            fetch_offset: from,
            batches: &batches,
        };
        let can = self.partition.can_acquire(&LIMITS);
        let acquired = self.partition.acquire(Timestamp(self.now), &LIMITS, &ask);
        assert_eq!(can && from.0 < RECORDS, !acquired.is_empty(), "from {from} of {max}");
        let until = self.now + LIMITS.lock_ms;
        let mut count = 0;
        for given in &acquired {
            for at in given.first.0..=given.last.0 {
                let record = self.record(at);
                assert!(record.is_available(), "{at} is {record:?}");
                let count = record.count + 1;
                *record = Record { state: DeliveryState::Acquired, count, lock: Some((who, until)), writing: None };
                assert_eq!(count, given.delivery_count, "{at}");
            }
            count += given.last.0 - given.first.0 + 1;
            self.end = self.end.max(given.last.0 + 1);
        }
        let most = if mode == AcquireMode::RecordLimit { max } else { max + BATCH };
        assert!(count <= most, "{count} records for {max}");
        acquired
    }

    fn acquire_aborted(&mut self, who: usize, max: i64) {
        let acquired = self.acquire(who, max, AcquireMode::BatchOptimized);
        let Some(first) = acquired.first() else { return };
        let base = first.first.0 - first.first.0 % BATCH;
        let aborted = FetchedBatch { base: Offset(base), last: Offset(base + BATCH - 1) };
        let left = self.partition.leave_out(acquired.clone(), &[aborted]);
        let is_in = |at: i64| (base..base + BATCH).contains(&at);
        let all = |given: &[Acquired]| given.iter().flat_map(|a| a.first.0..=a.last.0).collect::<Vec<_>>();
        let kept: Vec<_> = all(&acquired).into_iter().filter(|at| !is_in(*at)).collect();
        assert_eq!(all(&left), kept);
        // Kafka takes what others have of such a batch, too; they cannot have any.
        for at in base.max(self.start)..(base + BATCH).min(self.end) {
            let record = self.record(at);
            if record.is_held() {
                (record.state, record.lock) = (DeliveryState::Archived, None);
            }
        }
    }

    fn acknowledge(&mut self, who: usize, first: i64, len: i64, acks: &[AckType]) {
        let acknowledgement =
            Acknowledgement { first: Offset(first), last: Offset(first + len - 1), types: acks.to_vec() };
        let outcome = self.partition.acknowledge(Timestamp(self.now), &LIMITS, &member(who), &[acknowledgement]);
        let (start, end, until) = (self.start, self.end, self.now + LIMITS.lock_ms);
        let of = |at: i64| *acks.get(usize::try_from(at - first).expect("in range")).or(acks.first()).expect("one");
        let range = first.max(start)..first + len;
        if first + len <= start {
            assert_eq!(outcome, Ok(None), "all of it is done with");
            return;
        }
        let is_its = range.clone().all(|at| {
            at < end && self.record(at).is_held() && self.record(at).lock.is_some_and(|(holder, _)| holder == who)
        });
        let Ok(write) = outcome else {
            assert!(!is_its, "refused: {outcome:?}");
            return;
        };
        assert!(is_its, "{first}+{len} counts, and is not {who}'s");
        for at in range {
            let (ack, record) = (of(at), self.record(at));
            record.state = match ack {
                AckType::Renew => {
                    record.lock = Some((who, until));
                    continue;
                }
                AckType::Accept => DeliveryState::Acknowledged,
                AckType::Gap | AckType::Reject => DeliveryState::Archived,
                AckType::Release => record.released(),
            };
            record.writing = write.as_ref().map(|write| write.id);
            assert!(record.writing.is_some(), "a change is written");
        }
        self.keep(write);
    }

    fn leave(&mut self, who: usize) {
        let write = self.partition.release_member(&LIMITS, &member(who));
        let id = write.as_ref().map(|write| write.id);
        for record in self.each().filter(|record| record.is_held() && record.lock.is_some_and(|lock| lock.0 == who)) {
            record.state = record.released();
            record.writing = id;
            assert!(id.is_some(), "a change is written");
        }
        self.keep(write);
    }

    fn pass(&mut self, ms: i64) {
        self.now += ms;
        let now = self.now;
        let due = self.each().filter(|record| record.is_held()).filter_map(|record| record.lock).map(|lock| lock.1);
        let first = due.min().map(Timestamp);
        assert_eq!(self.partition.next_deadline(), first, "the first lock that ends");
        let write = self.partition.expire(Timestamp(now), &LIMITS);
        for record in self.each().filter(|record| record.is_held() && record.lock.is_some_and(|lock| lock.1 <= now)) {
            (record.state, record.lock) = (record.released(), None);
            assert!(write.is_some(), "a change is written");
        }
        self.keep(write);
    }

    /// What is written says what each record has become, and no more.
    fn keep(&mut self, write: Option<StateWrite>) {
        let Some(write) = write else { return };
        for batch in &write.batches {
            for at in batch.first.0..=batch.last.0 {
                let record = self.record(at);
                assert_eq!((batch.state, batch.delivery_count), (record.state, record.count), "{at} in {write:?}");
            }
        }
        let done = self.each().filter(|record| record.state.is_terminal()).count();
        assert_eq!(i64::from(write.delivery_complete), i64::try_from(done).expect("small"), "{write:?}");
        self.writes.push(write);
    }

    fn written(&mut self, which: usize, is_done: bool) {
        if self.writes.is_empty() {
            return;
        }
        let write = self.writes.remove(which % self.writes.len());
        self.partition.written(write.id, is_done, Timestamp(self.now), &LIMITS);
        let now = self.now;
        for record in self.each().filter(|record| record.writing == Some(write.id)) {
            record.writing = None;
            let lock = record.lock.take();
            if is_done {
                continue;
            }
            record.lock = lock.filter(|(_, until)| *until > now);
            record.state = if record.lock.is_some() { DeliveryState::Acquired } else { record.released() };
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Acquire { who, max, strict: true } => drop(self.acquire(who, max, AcquireMode::RecordLimit)),
            Step::Acquire { who, max, strict: false } => drop(self.acquire(who, max, AcquireMode::BatchOptimized)),
            Step::AcquireAborted { who, max } => self.acquire_aborted(who, max),
            Step::Acknowledge { who, first, len, acks } => self.acknowledge(who, first, len, &acks),
            Step::Leave { who } => self.leave(who),
            Step::Pass { ms } => self.pass(ms),
            Step::Written { which, is_done } => self.written(which, is_done),
            Step::Trim { to } => {
                let to = (self.start + to).min(RECORDS);
                self.partition.trim(Offset(to));
                self.start = self.start.max(to);
                self.end = self.end.max(to);
            }
        }
        while self.start < self.end && self.record(self.start).is_done() {
            self.start += 1;
        }
        self.compare();
    }

    fn compare(&mut self) {
        let (start, end) = (self.partition.start().0, self.partition.end().0);
        assert_eq!((start, end), (self.start, self.end));
        let mut first_available = end;
        for at in (start..end).rev() {
            let run = self.partition.runs.range(..=Offset(at)).next_back().filter(|(_, run)| run.end.0 > at);
            let known = run.map_or(UNTOUCHED, |(_, run)| Record {
                state: run.state,
                count: run.delivery_count,
                lock: run
                    .lock
                    .as_ref()
                    .map(|lock| ((0..3).find(|n| member(*n) == lock.member).expect("known"), lock.until.0)),
                writing: run.writing,
            });
            assert_eq!(&known, self.record(at), "{at}");
            if known.is_available() {
                first_available = at;
            }
        }
        assert_eq!(self.partition.next_fetch_offset().0, first_available);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_what_its_own_story_makes_of_it(steps in prop::collection::vec(step(), 1..100)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
    }
}
