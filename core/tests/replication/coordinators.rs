//! The transaction coordinator wherever its partition is led: decides, lets what rests on a decision wait for its commit,
//! and has markers written until every partition has its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_core::coordinator::ids::ReplyToken;
use millstream_core::coordinator::timers::TimerChange;
use millstream_core::coordinator::txn::{
    AddPartitions, Command, DescribeTransactions, Effect, Markers, Producer, Reply, Shard, TimerKey, TransactionConfig,
    TransactionState, TransactionalId, VerifyPartitions,
};
use millstream_core::types::{ProducerEpoch, ProducerId, Timestamp};

use super::items::{Data, Item};
use super::stage::{Act, Answer, Asker, Fate, Leadership, PARTITIONS, Place, Sent, Stage, named_all, numbers};
use super::writers::descriptor;

const TIMEOUT_INTERVAL_MS: u64 = 300;
/// How soon markers that were not written are tried again.
const AGAIN_MS: u64 = 250;

/// Markers that are being written.
pub struct Job {
    pub origin: Leadership,
    pub markers: Markers,
    left: BTreeSet<usize>,
}

struct InFlight {
    place: Place,
    replies: Vec<(ReplyToken, Reply)>,
    effects: Vec<Effect>,
}

struct Service {
    shard: Shard,
    timers: BTreeMap<TimerKey, u64>,
    in_flight: VecDeque<InFlight>,
}

#[derive(Default)]
pub struct Coordinators {
    services: BTreeMap<Leadership, Service>,
    askers: BTreeMap<u64, Asker>,
    tokens: u64,
    /// Leaderships that found something decided and not yet told.
    pub taken_over: usize,
    pub timed_out: usize,
}

pub fn id_of(number: usize) -> TransactionalId {
    TransactionalId::new(&format!("id-{number}")).expect("it is short")
}

/// Its producer's id; the id, once it has one, stays.
pub fn producer_of(number: usize) -> ProducerId {
    ProducerId(number as i64 + 4)
}

fn config() -> Arc<TransactionConfig> {
    Arc::new(TransactionConfig { timeout_interval_ms: TIMEOUT_INTERVAL_MS, ..TransactionConfig::default() })
}

impl Stage {
    /// What a partition's leader asks of a batch that begins something there.
    pub fn verification(&self, sent: Sent, bumps_epoch: bool) -> Command {
        let client = &self.clients[sent.client];
        let Data { producer, epoch, .. } = sent.data;
        let producer = Producer { id: ProducerId(producer), epoch: ProducerEpoch(epoch) };
        let (id, partitions) = (id_of(client.id), named_all(&[sent.partition]));
        let token = ReplyToken(0);
        match bumps_epoch {
            true => Command::AddPartitions(AddPartitions {
                token,
                id,
                producer,
                partitions,
                client_version: client.version,
            }),
            false => Command::VerifyPartitions(VerifyPartitions { token, id, producer, partitions }),
        }
    }

    /// Who believes that he coordinates decides.
    pub fn ask(&mut self, asker: Asker, mut command: Command) {
        if self.is_of_an_old_connection(&asker, &command) {
            return;
        }
        let serving: Vec<Leadership> = self.coordinators.services.keys().copied().collect();
        let Some(at) = self.chance.pick(&serving) else { return };
        self.coordinators.tokens += 1;
        let number = self.coordinators.tokens;
        match &mut command {
            Command::InitProducerId(init) => init.token = ReplyToken(number),
            Command::AddPartitions(add) => add.token = ReplyToken(number),
            Command::VerifyPartitions(verify) => verify.token = ReplyToken(number),
            Command::EndTransaction(end) => end.token = ReplyToken(number),
            other => panic!("nobody asks {other:?}"),
        }
        self.coordinators.askers.insert(number, asker);
        self.decide(at, &command);
    }

    /// Before version 2 nothing but the connection tells a late end from that of the next transaction, which has the same
    /// epoch: a client that asks again has closed the one before (the hole that KIP-890 closes).
    fn is_of_an_old_connection(&self, asker: &Asker, command: &Command) -> bool {
        match (asker, command) {
            (Asker::Client { client, attempt }, Command::EndTransaction(end)) => {
                !end.client_version.bumps_epoch() && self.clients[*client].attempt != *attempt
            }
            _ => false,
        }
    }

    fn decide(&mut self, at: Leadership, command: &Command) {
        let now = Timestamp(self.now as i64);
        let Some(service) = self.coordinators.services.get_mut(&at) else { return };
        let decision = service.shard.decide(now, self.version, command);
        let mut is_written = true;
        for record in decision.records() {
            self.records.push(record);
            is_written &= self.clusters[0].append(at.node, Item::Record(self.records.len() - 1), 1).is_some();
        }
        if !is_written {
            self.coordinators.services.remove(&at);
            return;
        }
        let applied = service.shard.apply(decision);
        for change in applied.timers {
            match change {
                TimerChange::Set { key, after_ms } => _ = service.timers.insert(key, self.now + after_ms),
                TimerChange::Cancel(key) => _ = service.timers.remove(&key),
            }
        }
        if matches!(command, Command::TimerFired(TimerKey::Timeouts)) {
            self.coordinators.timed_out += applied.effects.len();
        }
        let place = self.clusters[0].end_of(at.node);
        service.in_flight.push_back(InFlight { place, replies: applied.replies, effects: applied.effects });
        assert!(applied.again.is_none(), "there are few");
    }

    /// Coordinators come and go with the leaderships; what is committed is answered.
    pub fn coordinate(&mut self) {
        let nodes = self.clusters[0].nodes.len();
        let leading: BTreeSet<Leadership> = (0..nodes).filter_map(|node| self.clusters[0].serves(node)).collect();
        self.coordinators.services.retain(|at, _| leading.contains(at));
        for at in leading {
            if !self.coordinators.services.contains_key(&at) {
                let shard = self.load(self.clusters[0].nodes[at.node].applied.0);
                let service = Service { shard, timers: BTreeMap::new(), in_flight: VecDeque::new() };
                self.coordinators.services.insert(at, service);
                self.decide(at, &Command::Loaded);
                let loaded = self.coordinators.services.get(&at).and_then(|service| service.in_flight.back());
                self.coordinators.taken_over += loaded.map_or(0, |loaded| loaded.effects.len());
            }
            self.answer_committed(at);
            let service = self.coordinators.services.get(&at);
            let due = service.and_then(|s| s.timers.iter().find(|(_, due)| **due <= self.now).map(|(key, _)| *key));
            if let Some(key) = due {
                self.decide(at, &Command::TimerFired(key));
            }
        }
    }

    /// A state machine from what is committed up to an entry.
    fn load(&self, to: u64) -> Shard {
        let mut shard = Shard::new(config());
        let committed = self.clusters[0].checks.committed().iter().take_while(|entry| entry.index.0 <= to);
        for item in committed.filter_map(descriptor).filter_map(|batch| Item::of(batch.crc)) {
            let Item::Record(place) = item else { panic!("{item:?} among what coordinators write") };
            let record = &self.records[place];
            shard.replay_encoded(&record.key, record.value.as_deref()).expect("what was encoded is read");
        }
        shard
    }

    fn answer_committed(&mut self, at: Leadership) {
        loop {
            let Some(service) = self.coordinators.services.get_mut(&at) else { return };
            let Some(first) = service.in_flight.front() else { return };
            match self.clusters[0].fate(first.place) {
                Fate::Open => return,
                Fate::Silent => _ = self.coordinators.services.remove(&at),
                Fate::Committed => {
                    let Some(InFlight { replies, effects, .. }) = service.in_flight.pop_front() else { return };
                    replies.into_iter().for_each(|(token, reply)| self.reply(token, reply));
                    for effect in effects {
                        let Effect::WriteMarkers(markers) = effect else {
                            panic!("epochs are not used up: {effect:?}")
                        };
                        let left = numbers(&markers.partitions);
                        self.jobs.push(Some(Job { origin: at, markers, left }));
                        self.go_on(self.jobs.len() - 1);
                    }
                }
            }
        }
    }

    fn reply(&mut self, token: ReplyToken, reply: Reply) {
        match self.coordinators.askers.remove(&token.0) {
            Some(Asker::Client { client, attempt }) => self.tell(client, attempt, Answer::Coordinator(reply)),
            Some(Asker::Partition { at, sent, guard }) => self.send(Act::Verified { at, sent, guard, reply }),
            None => panic!("{token:?} is answered twice"),
        }
    }

    /// Sends the markers that are left, and again after a while.
    pub fn go_on(&mut self, job: usize) {
        let Some(Job { origin, left, markers }) = &self.jobs[job] else { return };
        if !self.coordinators.services.contains_key(origin) {
            // What it has sent may arrive yet.
            return;
        }
        if left.is_empty() {
            let (origin, id, producer) = (*origin, markers.id.clone(), markers.producer);
            self.jobs[job] = None;
            return self.decide(origin, &Command::MarkersWritten { id, producer });
        }
        for partition in left.clone() {
            self.send(Act::Marker { job, partition });
        }
        self.at(AGAIN_MS, Act::Job(job));
    }

    pub fn marker_written(&mut self, job: usize, partition: usize) {
        let Some(at) = &mut self.jobs[job] else { return };
        at.left.remove(&partition);
        if at.left.is_empty() {
            self.go_on(job);
        }
    }

    /// No transaction is under way, and what the coordinator knows is what a replay of its records tells.
    pub fn assert_all_decided(&self) {
        let describe = |shard: &Shard| {
            let ids = (0..PARTITIONS + 1).map(id_of).collect();
            let command = Command::DescribeTransactions(DescribeTransactions { token: ReplyToken(0), ids });
            let decision = shard.decide(Timestamp(self.now as i64), self.version, &command);
            let mut shard = Shard::new(config());
            shard.apply(decision).replies
        };
        let leader = self.clusters[0].leader().and_then(|node| self.clusters[0].serves(node)).expect("it leads");
        let live = describe(&self.coordinators.services.get(&leader).expect("it serves").shard);
        assert_eq!(live, describe(&self.load(u64::MAX)), "the coordinator is what its records tell");
        for (_, reply) in live {
            let Reply::DescribeTransactions(described) = reply else { panic!("{reply:?}") };
            for (id, transaction) in described {
                let Some(transaction) = transaction else { continue };
                let is_over = !transaction.state.is_prepared() && transaction.state != TransactionState::Ongoing;
                assert!(is_over, "{id:?} hangs: {transaction:?}");
            }
        }
    }
}
