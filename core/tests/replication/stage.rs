//! Transactions over several replicated partitions: one holds what the transaction coordinator decides, the others what
//! producers write. Requests and answers are lost, late, and come to whoever believes that he leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::coordinator::EncodedRecord;
use millstream_core::coordinator::txn::{Command, Reply, TransactionVersion};
use millstream_core::partition::{Admission, Guard, TxnEnd};
use millstream_core::replica::{BatchDescriptor, EntryKind};
use millstream_core::types::{
    ProducerEpoch, ProducerId, RaftIndex, RaftTerm, Sequence, Timestamp, TopicName, TopicPartition,
};

use super::chance::Chance;
use super::clients::Client;
use super::cluster::{Cluster, Story};
use super::coordinators::{Coordinators, Job};
use super::items::{Data, Item};
use super::outcomes::Outcomes;

const STEP_MS: u64 = 2;
pub const PARTITIONS: usize = 2;
/// Transactional ids, each with two instances of a producer.
const IDS: usize = 3;
const READ_MS: u64 = 150;

/// Something that was appended, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub node: usize,
    pub boot: u64,
    index: RaftIndex,
    term: RaftTerm,
}

/// What a leader can say of what it appended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Open,
    Committed,
    /// It is gone, or nobody will ever answer.
    Silent,
}

/// A leadership that serves clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leadership {
    pub node: usize,
    pub boot: u64,
    pub term: RaftTerm,
}

impl Cluster {
    /// Whether the node leads, and has applied an entry of its own term.
    pub fn serves(&self, node: usize) -> Option<Leadership> {
        let n = &self.nodes[node];
        let term = n.leads().filter(|term| n.log.get(n.applied).is_some_and(|e| e.term == *term))?;
        Some(Leadership { node, boot: n.boot, term })
    }

    fn some_serving(&self, chance: &mut Chance) -> Option<Leadership> {
        let serving: Vec<_> = (0..self.nodes.len()).filter_map(|node| self.serves(node)).collect();
        chance.pick(&serving)
    }

    pub fn append(&mut self, node: usize, item: Item, count: i32) -> Option<Place> {
        let (base_offset, crc) = (self.nodes[node].log.end(), item.crc());
        let batch = BatchDescriptor { base_offset, count, size_bytes: 100, crc };
        let replica = self.nodes[node].replica.as_mut()?;
        let (term, index) = replica.propose(EntryKind::Batch(batch)).ok()?;
        self.proposed.insert((node, index, term), crc);
        let boot = self.nodes[node].boot;
        self.work(node);
        Some(Place { node, boot, index, term })
    }

    /// The end of what the node has, to wait for.
    pub fn end_of(&self, node: usize) -> Place {
        let (n, (index, term)) = (&self.nodes[node], self.nodes[node].log.last());
        Place { node, boot: n.boot, index, term }
    }

    pub fn fate(&self, place: Place) -> Fate {
        let node = &self.nodes[place.node];
        if node.boot != place.boot || node.replica.is_none() {
            return Fate::Silent;
        }
        if node.applied < place.index {
            return Fate::Open;
        }
        let is_there = place.index.0 < 2 || self.checks.committed()[place.index.0 as usize - 2].term == place.term;
        if is_there { Fate::Committed } else { Fate::Silent }
    }
}

/// A batch that a client sends, and again.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub client: usize,
    pub attempt: u64,
    pub partition: usize,
    pub data: Data,
    pub count: i32,
}

/// What a client hears of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    Again,
    Refused,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Coordinator(Reply),
    Written(Written),
}

/// Who asked a coordinator.
#[derive(Clone, Copy, Debug)]
pub enum Asker {
    Client {
        client: usize,
        attempt: u64,
    },
    /// A partition's leader, before it appends.
    Partition {
        at: Leadership,
        sent: Sent,
        guard: Guard,
    },
}

#[derive(Debug)]
pub enum Act {
    /// A client's time is up.
    Client {
        client: usize,
        attempt: u64,
    },
    Ask {
        asker: Asker,
        command: Command,
    },
    Produce(Sent),
    /// What the coordinator says of a batch comes to who asked.
    Verified {
        at: Leadership,
        sent: Sent,
        guard: Guard,
        reply: Reply,
    },
    Hear {
        client: usize,
        attempt: u64,
        answer: Answer,
    },
    /// A marker comes to whoever leads the partition.
    Marker {
        job: usize,
        partition: usize,
    },
    Job(usize),
    Read(usize),
}

/// What waits for a commit in a partition of data.
#[derive(Clone, Copy)]
enum Waiting {
    Sent(Sent),
    Marker { job: usize },
}

pub struct Stage {
    pub now: u64,
    pub chance: Chance,
    pub version: TransactionVersion,
    /// The first has what the coordinator decides.
    pub clusters: Vec<Cluster>,
    acts: BTreeMap<(u64, u64), Act>,
    made: u64,
    guards: u64,
    waiting: Vec<(usize, Place, Waiting)>,
    pub records: Vec<EncodedRecord>,
    pub coordinators: Coordinators,
    pub jobs: Vec<Option<Job>>,
    pub clients: Vec<Client>,
    pub outcomes: Outcomes,
    pub is_ending: bool,
}

impl Stage {
    pub fn new(seed: u64, story: Story) -> Self {
        let clusters = (0..=PARTITIONS as u64).map(|n| Cluster::new(seed ^ (n + 1) << 32, story)).collect();
        let version = if seed.is_multiple_of(3) { TransactionVersion::V1 } else { TransactionVersion::V2 };
        let mut stage = Self {
            now: 0,
            chance: Chance::new(!seed),
            version,
            clusters,
            acts: BTreeMap::new(),
            made: 0,
            guards: 0,
            waiting: Vec::new(),
            records: Vec::new(),
            coordinators: Coordinators::default(),
            jobs: Vec::new(),
            clients: Vec::new(),
            outcomes: Outcomes::default(),
            is_ending: false,
        };
        for client in 0..2 * IDS {
            let bumps = version.bumps_epoch() && stage.chance.percent(70);
            let spoken = if bumps { TransactionVersion::V2 } else { TransactionVersion::V0 };
            stage.clients.push(Client::new(client % IDS, spoken));
            let first = if client < IDS { 300 } else { 3_000 } + stage.chance.below(1_000);
            stage.at(first, Act::Client { client, attempt: 0 });
        }
        for partition in 1..=PARTITIONS {
            stage.at(READ_MS, Act::Read(partition));
        }
        stage
    }

    pub fn at(&mut self, after_ms: u64, act: Act) {
        self.made += 1;
        self.acts.insert((self.now + after_ms, self.made), act);
    }

    /// Over the network.
    pub fn send(&mut self, act: Act) {
        let is_bad = !self.is_ending;
        if is_bad && self.chance.percent(3) {
            return;
        }
        let is_late = is_bad && self.chance.percent(3);
        let takes = 1 + self.chance.below(if is_late { 3_000 } else { 15 });
        self.at(takes, act);
    }

    pub fn run_ms(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now += STEP_MS;
            self.clusters.iter_mut().for_each(|cluster| cluster.run_ms(STEP_MS));
            while let Some(entry) = self.acts.first_entry().filter(|e| e.key().0 <= self.now) {
                let act = entry.remove();
                self.carry_out(act);
            }
            self.see_commits();
            self.coordinate();
        }
    }

    /// Ends all trouble; then every transaction comes to its end, and readers see what they must.
    pub fn heal_and_settle(&mut self) {
        self.is_ending = true;
        self.clusters.iter_mut().for_each(Cluster::heal);
        self.run_ms(12_000);
        self.assert_all_decided();
        self.clusters.iter_mut().for_each(Cluster::settle);
        for partition in 1..=PARTITIONS {
            self.assert_replicas_agree(partition);
            let leader = self.clusters[partition].leader().expect("there is one");
            self.outcomes.read_all(partition, &self.clusters[partition], leader);
        }
        self.outcomes.assert_whole();
    }

    /// What each replica knows of producers and transactions is what a replay of the whole log tells.
    fn assert_replicas_agree(&self, partition: usize) {
        let cluster = &self.clusters[partition];
        let mut replayed = millstream_core::partition::Producers::default();
        super::writers::sequences(cluster.checks.committed()).for_each(|batch| replayed.replay(&batch));
        for node in cluster.nodes.iter().filter(|n| !n.is_gone) {
            let mut own = node.producers.clone();
            own.end_verifications();
            assert_eq!(own, replayed, "partition {partition}, {}", node.peer);
        }
        assert!(!replayed.has_open_transactions(), "a transaction hangs in partition {partition}");
    }

    fn carry_out(&mut self, act: Act) {
        match act {
            Act::Client { client, attempt } => self.wake(client, attempt),
            Act::Ask { asker, command } => self.ask(asker, command),
            Act::Produce(sent) => self.produce(sent),
            Act::Verified { at, sent, guard, reply } => self.verified(at, sent, guard, &reply),
            Act::Hear { client, attempt, answer } => self.hear(client, attempt, answer),
            Act::Marker { job, partition } => self.write_marker(job, partition),
            Act::Job(job) => self.go_on(job),
            Act::Read(partition) => {
                if let Some(at) = self.clusters[partition].some_serving(&mut self.chance) {
                    self.outcomes.read(partition, &self.clusters[partition], at, &mut self.chance);
                }
                let next = 1 + self.chance.below(READ_MS);
                self.at(next, Act::Read(partition));
            }
        }
    }

    /// Answers a client.
    pub fn tell(&mut self, client: usize, attempt: u64, answer: Answer) {
        self.send(Act::Hear { client, attempt, answer });
    }

    /// A batch comes to a leader: it is a duplicate, belongs to what is under way, or the coordinator is asked.
    fn produce(&mut self, sent: Sent) {
        let Some(at) = self.clusters[sent.partition].some_serving(&mut self.chance) else { return };
        let Data { producer, epoch, sequence } = sent.data;
        let (id, epoch) = (ProducerId(producer), ProducerEpoch(epoch));
        let bumps_epoch = self.clients[sent.client].version.bumps_epoch();
        self.guards += 1;
        let (fresh, now) = (Guard(self.guards), Timestamp(self.now as i64));
        let of = (id, epoch, Sequence(sequence));
        let producers = &mut self.clusters[sent.partition].nodes[at.node].producers;
        match producers.begin_verification(of, bumps_epoch, now, fresh) {
            Err(_) => self.tell(sent.client, sent.attempt, Answer::Written(Written::Refused)),
            Ok(None) => self.place(at, sent, None),
            Ok(Some(guard)) => {
                let command = self.verification(sent, bumps_epoch);
                self.send(Act::Ask { asker: Asker::Partition { at, sent, guard }, command });
            }
        }
    }

    /// The coordinator has said of a batch what it says.
    fn verified(&mut self, at: Leadership, sent: Sent, guard: Guard, reply: &Reply) {
        use millstream_core::coordinator::txn::TransactionError::ConcurrentTransactions;
        let written = match reply {
            Reply::AddPartitions(Ok(())) => return self.place(at, sent, Some(guard)),
            Reply::VerifyPartitions(Ok(verified)) if verified.iter().all(|v| v.is_in_transaction) => {
                return self.place(at, sent, Some(guard));
            }
            Reply::AddPartitions(Err(ConcurrentTransactions))
            | Reply::VerifyPartitions(Err(ConcurrentTransactions)) => Written::Again,
            _ => Written::Refused,
        };
        self.tell(sent.client, sent.attempt, Answer::Written(written));
    }

    fn place(&mut self, at: Leadership, sent: Sent, guard: Option<Guard>) {
        let cluster = &mut self.clusters[sent.partition];
        if cluster.serves(at.node).is_none_or(|now| now.boot != at.boot) {
            return;
        }
        match cluster.nodes[at.node].producers.check(&sent.data.header(sent.count), guard) {
            Err(_) => self.tell(sent.client, sent.attempt, Answer::Written(Written::Refused)),
            // Answered when all that is there is committed.
            Ok(Admission::Duplicate { .. }) => {
                self.waiting.push((sent.partition, cluster.end_of(at.node), Waiting::Sent(sent)));
            }
            Ok(Admission::New) => {
                if let Some(place) = cluster.append(at.node, Item::Data(sent.data), sent.count) {
                    self.waiting.push((sent.partition, place, Waiting::Sent(sent)));
                }
            }
        }
    }

    fn write_marker(&mut self, job: usize, partition: usize) {
        use millstream_core::partition::ProducerError::{CoordinatorFenced, StaleEpoch};
        let Some(Job { markers, origin, .. }) = &self.jobs[job] else { return };
        let end = TxnEnd {
            producer_id: markers.producer.id,
            producer_epoch: markers.producer.epoch,
            commit: markers.commit,
            coordinator_epoch: origin.term.0 as i32,
            transaction_version: markers.client_version.0 as i8,
        };
        let Some(at) = self.clusters[partition].some_serving(&mut self.chance) else { return };
        let cluster = &mut self.clusters[partition];
        match cluster.nodes[at.node].producers.check_end(&end) {
            Ok(()) => {
                let item = Item::End {
                    producer: end.producer_id.0,
                    epoch: end.producer_epoch.0,
                    commit: end.commit,
                    coordinator_epoch: end.coordinator_epoch,
                };
                if let Some(place) = cluster.append(at.node, item, 1) {
                    self.waiting.push((partition, place, Waiting::Marker { job }));
                }
            }
            Err(CoordinatorFenced { .. }) => self.jobs[job] = None,
            Err(StaleEpoch { .. }) => self.marker_written(job, partition),
            Err(error) => panic!("a marker is refused: {error}"),
        }
    }

    /// Answers what is committed; what leaderships had in mind goes with them.
    fn see_commits(&mut self) {
        for (partition, place, waiting) in std::mem::take(&mut self.waiting) {
            match (self.clusters[partition].fate(place), waiting) {
                (Fate::Open, _) => self.waiting.push((partition, place, waiting)),
                (Fate::Committed, Waiting::Sent(sent)) => {
                    self.tell(sent.client, sent.attempt, Answer::Written(Written::Done));
                }
                (Fate::Committed, Waiting::Marker { job }) => self.marker_written(job, partition),
                (Fate::Silent, _) => {}
            }
        }
        for cluster in &mut self.clusters[1..] {
            let follows = |n: &&mut super::node::Node| n.leads().is_none();
            cluster.nodes.iter_mut().filter(follows).for_each(|n| n.producers.end_verifications());
        }
    }

    pub fn trace(&self) -> Vec<u64> {
        self.clusters.iter().map(Cluster::trace).collect()
    }
}

pub fn named(partition: usize) -> TopicPartition {
    TopicPartition { topic: TopicName::new("data").expect("a name"), partition: partition as i32 }
}

pub fn named_all(partitions: &[usize]) -> BTreeSet<TopicPartition> {
    partitions.iter().map(|partition| named(*partition)).collect()
}

pub fn numbers(partitions: &Arc<BTreeSet<TopicPartition>>) -> BTreeSet<usize> {
    partitions.iter().map(|partition| partition.partition as usize).collect()
}
