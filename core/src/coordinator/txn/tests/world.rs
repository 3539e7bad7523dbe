//! A shard with what a runtime puts around it: a clock, timers, a log that commits later, ids, replies and effects that
//! wait. What is stored is held against what is in memory after each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::EncodedRecord;
use crate::coordinator::ids::ReplyToken;
use crate::coordinator::timers::{TimerChange, Timers};
use crate::coordinator::txn::record::decode;
use crate::coordinator::txn::{
    Command, Effect, Markers, Producer, Reply, Shard, TimerKey, Transaction, TransactionConfig, TransactionVersion,
    TransactionalId,
};
use crate::types::{ProducerEpoch, ProducerId, Timestamp, TopicName, TopicPartition};

pub const START: i64 = 1_700_000_000_000;
pub const FIRST_ID: i64 = 1_000;

pub struct World {
    pub shard: Shard,
    pub version: TransactionVersion,
    pub now_ms: u64,
    pub log: Vec<EncodedRecord>,
    /// Markers that were let go and not yet written.
    pub to_write: Vec<Markers>,
    config: Arc<TransactionConfig>,
    timers: Timers<TimerKey>,
    /// What waits for the log up to there.
    parked: Vec<(usize, Event)>,
    next_token: u64,
    next_id: i64,
}

/// What happened, in order.
#[derive(Clone, Debug)]
pub enum Event {
    Logged(TransactionalId, Option<Transaction>),
    Replied(ReplyToken, Reply),
    Marked(Markers),
}

impl World {
    pub fn new(config: TransactionConfig) -> Self {
        let config = Arc::new(config);
        let mut world = Self {
            shard: Shard::new(config.clone()),
            version: TransactionVersion::V2,
            now_ms: 0,
            log: Vec::new(),
            to_write: Vec::new(),
            config,
            timers: Timers::default(),
            parked: Vec::new(),
            next_token: 0,
            next_id: FIRST_ID,
        };
        world.run(&Command::Loaded);
        world
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(START).plus_ms(self.now_ms as i64)
    }

    pub fn token(&mut self) -> ReplyToken {
        self.next_token += 1;
        ReplyToken(self.next_token)
    }

    /// Decides, appends, applies; and again while there is more to do. Nothing is committed.
    pub fn run(&mut self, command: &Command) -> Vec<Event> {
        let mut events = Vec::new();
        let mut next = Some(command.clone());
        while let Some(command) = next {
            next = self.step(&command, &mut events);
            self.check();
        }
        events
    }

    fn step(&mut self, command: &Command, events: &mut Vec<Event>) -> Option<Command> {
        let decision = self.shard.decide(self.now(), self.version, command);
        for record in decision.records() {
            let (id, to) = decode(&record.key, record.value.as_deref()).unwrap().expect("it is ours");
            events.push(Event::Logged(id, to));
            self.log.push(record);
        }
        let applied = self.shard.apply(decision);
        for change in applied.timers {
            match change {
                TimerChange::Set { key, after_ms } => self.timers.set(key, self.now_ms + after_ms.max(1)),
                TimerChange::Cancel(key) => self.timers.cancel(&key),
            }
        }
        let end = self.log.len();
        let mut again = applied.again;
        for (token, reply) in applied.replies {
            match reply {
                Reply::ProducerIdNeeded => again = Some(self.with_fresh(command)),
                reply => self.parked.push((end, Event::Replied(token, reply))),
            }
        }
        for effect in applied.effects {
            match effect {
                Effect::WriteMarkers(markers) => self.parked.push((end, Event::Marked(markers))),
                Effect::AllocateProducerId { id, producer } => {
                    again = Some(Command::AbortTimedOut { id, producer, fresh: self.fresh() });
                }
            }
        }
        again
    }

    fn with_fresh(&mut self, command: &Command) -> Command {
        let fresh = Some(self.fresh());
        match command.clone() {
            Command::InitProducerId(mut init) if init.fresh.is_none() => {
                init.fresh = fresh;
                Command::InitProducerId(init)
            }
            Command::EndTransaction(mut end) if end.fresh.is_none() => {
                end.fresh = fresh;
                Command::EndTransaction(end)
            }
            other => panic!("{other:?} needs no id, or has one"),
        }
    }

    fn fresh(&mut self) -> ProducerId {
        self.next_id += 1;
        ProducerId(self.next_id - 1)
    }

    /// What was appended up to `end` is committed: what waits for it goes.
    pub fn commit(&mut self, end: usize) -> Vec<Event> {
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(|(at, _)| *at <= end);
        self.parked = kept;
        let events: Vec<Event> = gone.into_iter().map(|(_, event)| event).collect();
        self.to_write.extend(events.iter().filter_map(|event| match event {
            Event::Marked(markers) => Some(markers.clone()),
            _ => None,
        }));
        events
    }

    /// Runs and commits.
    pub fn carry_out(&mut self, command: &Command) -> Vec<Event> {
        let mut events = self.run(command);
        events.extend(self.commit(self.log.len()));
        events
    }

    /// Lets time pass; due timers fire in order.
    pub fn pass(&mut self, ms: u64) -> Vec<Event> {
        let end = self.now_ms + ms;
        let mut events = Vec::new();
        while let Some(deadline) = self.timers.next_deadline_ms().filter(|deadline| *deadline <= end) {
            self.now_ms = self.now_ms.max(deadline);
            let key = self.timers.pop_due(self.now_ms).expect("it is due");
            events.extend(self.run(&Command::TimerFired(key)));
        }
        self.now_ms = end;
        events
    }

    /// Another node takes over with the log up to `end`: what waited for more is lost, and markers under way, too.
    pub fn fail_over(&mut self, end: usize) -> Vec<Event> {
        self.log.truncate(end);
        self.parked.clear();
        self.to_write.clear();
        self.timers = Timers::default();
        self.shard = self.loaded();
        self.run(&Command::Loaded)
    }

    /// A record from elsewhere.
    pub fn replay(&mut self, record: EncodedRecord) {
        self.shard.replay_encoded(&record.key, record.value.as_deref()).unwrap();
        self.log.push(record);
    }

    pub fn of(&self, id: &str) -> Option<&Transaction> {
        self.shard.transactions.get(id)
    }

    /// From what the store holds: the last record of each key.
    fn loaded(&self) -> Shard {
        let mut store: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        for record in &self.log {
            match &record.value {
                Some(value) => store.insert(record.key.clone(), value.clone()),
                None => store.remove(&record.key),
            };
        }
        let mut shard = Shard::new(self.config.clone());
        store.iter().for_each(|(key, value)| shard.replay_encoded(key, Some(value)).unwrap());
        shard
    }

    fn check(&self) {
        let loaded = self.loaded();
        assert_eq!(loaded.deadlines, self.shard.deadlines);
        assert_eq!(loaded.transactions.len(), self.shard.transactions.len());
        for ((id, kept), (other, stored)) in self.shard.transactions.iter().zip(&loaded.transactions) {
            let mut kept = kept.clone();
            kept.last_producer_epoch = None;
            // Written under the lowest level: the log does not say.
            if stored.previous_producer_id.is_none() && !kept.client_version.bumps_epoch() {
                kept.previous_producer_id = stored.previous_producer_id;
                kept.next_producer_id = stored.next_producer_id;
            }
            assert_eq!((id, &kept), (other, stored), "memory and log differ");
            assert!(kept.state.is_prepared() || kept.next_producer_id.is_none(), "{id}: {kept:?}");
            assert!(kept.producer_epoch.0 >= 0 && kept.producer_id.0 >= 0, "{id}: {kept:?}");
        }
    }
}

pub fn id(name: &str) -> TransactionalId {
    TransactionalId::new(name).unwrap()
}

pub fn producer(id: i64, epoch: i16) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

pub fn partition(name: &str) -> TopicPartition {
    let (topic, number) = name.rsplit_once('-').expect("topic-number");
    TopicPartition { topic: TopicName::new(topic).unwrap(), partition: number.parse().unwrap() }
}
