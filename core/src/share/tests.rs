//! Random lives of a share-partition: members acquire, acknowledge, sleep and leave; writes fail; leaders die. And
//! single stories.

mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::types::{Offset, Timestamp};

const LIMITS: ShareLimits = ShareLimits { delivery_count: 3, in_flight: 20, lock_ms: 100, may_renew: true };
const RECORDS: i64 = 30;
const BATCH: i64 = 5;

/// What a share coordinator would have: of each offset its state, and where they start.
#[derive(Default)]
struct Coordinator {
    start: Offset,
    states: BTreeMap<i64, (DeliveryState, i16)>,
}

impl Coordinator {
    fn take(&mut self, write: &StateWrite) {
        self.start = self.start.max(write.start);
        for batch in &write.batches {
            for at in batch.first.0..=batch.last.0 {
                self.states.insert(at, (batch.state, batch.delivery_count));
            }
        }
        self.states = self.states.split_off(&self.start.0);
    }

    fn load(&self) -> SharePartition {
        let batches: Vec<_> = self
            .states
            .iter()
            .map(|(at, (state, delivery_count))| StateBatch {
                first: Offset(*at),
                last: Offset(*at),
                state: *state,
                delivery_count: *delivery_count,
            })
            .collect();
        SharePartition::load(self.start, &batches).expect("what was written is in order")
    }
}

fn member(number: usize) -> Arc<str> {
    Arc::from(format!("m{number}"))
}

fn read(from: Offset) -> Vec<FetchedBatch> {
    let batches =
        (0..RECORDS / BATCH).map(|n| FetchedBatch { base: Offset(n * BATCH), last: Offset((n + 1) * BATCH - 1) });
    batches.filter(|batch| batch.last >= from).take(3).collect()
}

fn acquire(partition: &mut SharePartition, now: i64, who: usize, mode: AcquireMode, max_records: i64) -> Vec<Acquired> {
    let fetch_offset = partition.next_fetch_offset();
    let (member, batches) = (member(who), read(fetch_offset));
    let ask = Acquire { member: &member, mode, max_records, batch_size: BATCH, fetch_offset, batches: &batches };
    partition.acquire(Timestamp(now), &LIMITS, &ask)
}

fn all_of(acquired: &Acquired, ack: AckType) -> Acknowledgement {
    Acknowledgement { first: acquired.first, last: acquired.last, types: vec![ack] }
}

#[derive(Clone, Debug)]
enum Step {
    Acquire {
        who: usize,
        max: i64,
        strict: bool,
    },
    Acknowledge {
        who: usize,
        at: i64,
        ack: AckType,
    },
    Leave {
        who: usize,
    },
    Pass {
        ms: i64,
    },
    /// The write ends.
    Written {
        is_done: bool,
        is_taken: bool,
    },
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let ack = prop_oneof![
        4 => Just(AckType::Accept), 2 => Just(AckType::Release), 1 => Just(AckType::Reject), 1 => Just(AckType::Renew)
    ];
    prop_oneof![
        6 => (0..3_usize, 1..9_i64, any::<bool>()).prop_map(|(who, max, strict)| Step::Acquire { who, max, strict }),
        8 => (0..3_usize, 0..RECORDS, ack).prop_map(|(who, at, ack)| Step::Acknowledge { who, at, ack }),
        1 => (0..3_usize).prop_map(|who| Step::Leave { who }),
        3 => (1..120_i64).prop_map(|ms| Step::Pass { ms }),
        6 => (prop::bool::weighted(0.8), any::<bool>())
            .prop_map(|(is_done, is_taken)| Step::Written { is_done, is_taken: is_done || is_taken }),
        1 => Just(Step::FailOver),
    ]
}

/// The partition, what is written of it, and who was told to have what until when.
struct World {
    partition: SharePartition,
    coordinator: Coordinator,
    /// And whether it is one that nobody waits for.
    writes: Vec<(StateWrite, bool)>,
    held: BTreeMap<i64, (usize, i64)>,
    /// Acknowledged to a member, so never to be seen again.
    accepted: BTreeMap<i64, ()>,
    now: i64,
}

impl World {
    fn new() -> Self {
        let coordinator = Coordinator::default();
        let partition = coordinator.load();
        let (writes, held, accepted) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { partition, coordinator, writes, held, accepted, now: 0 }
    }

    fn acquire(&mut self, who: usize, max: i64, mode: AcquireMode) {
        let acquired = acquire(&mut self.partition, self.now, who, mode, max);
        let count: i64 = acquired.iter().map(|a| a.last.0 - a.first.0 + 1).sum();
        assert!(mode == AcquireMode::BatchOptimized || count <= max, "{count} records for at most {max}");
        for at in acquired.iter().flat_map(|a| a.first.0..=a.last.0) {
            assert!(!self.accepted.contains_key(&at), "{at} was accepted");
            let before = self.held.insert(at, (who, self.now + LIMITS.lock_ms));
            assert_eq!(before, None, "{at} is given to {who} while another has it");
        }
        for a in &acquired {
            assert!(a.delivery_count <= LIMITS.delivery_count, "{a:?}");
        }
    }

    fn acknowledge(&mut self, who: usize, at: i64, ack: AckType) {
        let holds = self.held.get(&at).is_some_and(|(holder, _)| *holder == who);
        let given = Acknowledgement { first: Offset(at), last: Offset(at), types: vec![ack] };
        let outcome = self.partition.acknowledge(Timestamp(self.now), &LIMITS, &member(who), &[given]);
        match outcome {
            Ok(write) if ack == AckType::Renew => {
                assert_eq!(write, None);
                self.held.entry(at).and_modify(|held| held.1 = self.now + LIMITS.lock_ms);
            }
            Ok(write) => {
                assert!(holds || write.is_none(), "{who} acknowledged {at} and did not have it");
                self.writes.extend(write.map(|write| (write, false)));
            }
            Err(_) => {}
        }
    }

    fn written(&mut self, is_done: bool, is_taken: bool) {
        if self.writes.is_empty() {
            return;
        }
        let (write, is_expiry) = self.writes.remove(0);
        if is_taken {
            self.coordinator.take(&write);
        }
        self.partition.written(write.id, is_done, Timestamp(self.now), &LIMITS);
        for batch in write.batches.iter().filter(|_| is_done && !is_expiry) {
            for at in batch.first.0..=batch.last.0 {
                self.held.remove(&at);
                if batch.state == DeliveryState::Acknowledged {
                    self.accepted.insert(at, ());
                }
            }
        }
        let now = self.now;
        self.held.retain(|_, (_, until)| *until > now);
    }

    fn pass(&mut self, ms: i64) {
        self.now += ms;
        if let Some(write) = self.partition.expire(Timestamp(self.now), &LIMITS) {
            for at in write.batches.iter().flat_map(|batch| batch.first.0..=batch.last.0) {
                self.held.remove(&at);
            }
            self.writes.push((write, true));
        }
    }

    fn fail_over(&mut self) {
        self.writes.clear();
        self.held.clear();
        self.partition = self.coordinator.load();
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Acquire { who, max, strict: true } => self.acquire(who, max, AcquireMode::RecordLimit),
            Step::Acquire { who, max, strict: false } => self.acquire(who, max, AcquireMode::BatchOptimized),
            Step::Acknowledge { who, at, ack } => self.acknowledge(who, at, ack),
            Step::Leave { who } => {
                let write = self.partition.release_member(&LIMITS, &member(who));
                self.writes.extend(write.map(|write| (write, false)));
            }
            Step::Pass { ms } => self.pass(ms),
            Step::Written { is_done, is_taken } => self.written(is_done, is_taken),
            Step::FailOver => self.fail_over(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_record_has_one_holder_and_comes_until_it_is_done(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        // In the end one member gets and accepts all that is left.
        for _ in 0..RECORDS * 4 {
            while !world.writes.is_empty() {
                world.written(true, true);
            }
            world.pass(LIMITS.lock_ms + 1);
            while !world.writes.is_empty() {
                world.written(true, true);
            }
            world.acquire(0, 9, AcquireMode::RecordLimit);
            let held: Vec<_> = world.held.keys().copied().collect();
            for at in held {
                world.acknowledge(0, at, AckType::Accept);
            }
        }
        prop_assert_eq!(world.partition.start(), Offset(RECORDS));
    }
}

#[test]
fn a_record_that_comes_back_too_often_is_given_up() {
    let mut partition = SharePartition::load(Offset(0), &[]).expect("empty");
    for round in 1..=3_i16 {
        let acquired = acquire(&mut partition, 0, 0, AcquireMode::RecordLimit, 1);
        assert_eq!(acquired, [Acquired { first: Offset(0), last: Offset(0), delivery_count: round }]);
        let acks: Vec<_> = acquired.iter().map(|a| all_of(a, AckType::Release)).collect();
        let write = partition.acknowledge(Timestamp(0), &LIMITS, "m0", &acks).expect("acquired").expect("a change");
        let state = if round == 3 { DeliveryState::Archived } else { DeliveryState::Available };
        assert_eq!(write.batches.first().map(|batch| batch.state), Some(state));
        partition.written(write.id, true, Timestamp(0), &LIMITS);
    }
    assert_eq!(partition.start(), Offset(1));
}

#[test]
fn one_refused_acknowledgement_refuses_all_of_the_request() {
    let mut partition = SharePartition::load(Offset(0), &[]).expect("empty");
    acquire(&mut partition, 0, 0, AcquireMode::RecordLimit, 2);
    let ack = |at| Acknowledgement { first: Offset(at), last: Offset(at), types: vec![AckType::Accept] };
    let refused = partition.acknowledge(Timestamp(0), &LIMITS, "m0", &[ack(0), ack(2)]);
    assert_eq!(refused, Err(AcknowledgeError::OutOfRange));
    let refused = partition.acknowledge(Timestamp(0), &LIMITS, "m1", &[ack(0)]);
    assert_eq!(refused, Err(AcknowledgeError::NotAcquired));
    assert!(partition.acknowledge(Timestamp(0), &LIMITS, "m0", &[ack(0), ack(1)]).expect("acquired").is_some());
}

#[test]
fn state_out_of_order_is_refused() {
    let batch = |first, last| StateBatch {
        first: Offset(first),
        last: Offset(last),
        state: DeliveryState::Available,
        delivery_count: 1,
    };
    for bad in [vec![batch(1, 3)], vec![batch(5, 4)], vec![batch(2, 5), batch(5, 6)], vec![batch(2, i64::MAX)]] {
        assert!(SharePartition::load(Offset(2), &bad).is_err(), "{bad:?}");
    }
}
