//! Transactional producers, two instances to an id: each fences the other, dies amid a transaction, sleeps through it,
//! and asks again where it hears nothing.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::coordinator::ids::ReplyToken;
use millstream_core::coordinator::txn::{
    AddPartitions, Command, EndTransaction, InitProducerId, Producer, Reply, TransactionError, TransactionVersion,
};

use super::coordinators::{id_of, producer_of};
use super::items::Data;
use super::stage::{Act, Answer, Asker, PARTITIONS, Sent, Stage, Written, named_all};

/// What is not written after so many tries is given up, and the transaction aborted.
const TRIES_MAX: usize = 12;
/// How soon it tries again where it is told to.
const AGAIN_MS: u64 = 50;

#[derive(Clone, Copy, Debug)]
enum Doing {
    Nothing,
    Begin,
    Init,
    Next,
    Add(usize),
    Produce { partition: usize, data: Data, count: i32 },
    End { commit: bool },
}

pub struct Client {
    /// Which transactional id.
    pub id: usize,
    pub version: TransactionVersion,
    producer: Option<Producer>,
    sequences: BTreeMap<usize, i32>,
    transaction: usize,
    added: BTreeSet<usize>,
    left: u64,
    /// A batch was sent and never acknowledged: the next transaction takes a new epoch.
    is_unsure: bool,
    doing: Doing,
    /// Of its request; an answer to an earlier one is passed over.
    pub attempt: u64,
    tries: usize,
}

impl Client {
    pub fn new(id: usize, version: TransactionVersion) -> Self {
        Self {
            id,
            version,
            producer: None,
            sequences: BTreeMap::new(),
            transaction: 0,
            added: BTreeSet::new(),
            left: 0,
            is_unsure: false,
            doing: Doing::Init,
            attempt: 0,
            tries: 0,
        }
    }

    fn become_producer(&mut self, producer: Producer) {
        self.producer = Some(producer);
        self.sequences.clear();
    }
}

impl Stage {
    /// Goes on after a while, unless it hears something.
    fn wait(&mut self, client: usize, ms: u64, doing: Doing) {
        let own = &mut self.clients[client];
        own.attempt += 1;
        own.doing = doing;
        let attempt = own.attempt;
        self.at(ms, Act::Client { client, attempt });
    }

    /// Begins with something, at once.
    fn begin(&mut self, client: usize, doing: Doing) {
        self.clients[client].tries = 0;
        self.wait(client, 1, doing);
    }

    /// Fenced, or dead: another begins in its place, in the end.
    fn rest(&mut self, client: usize) {
        if self.is_ending {
            return self.wait(client, 1, Doing::Nothing);
        }
        let is_second = client >= self.clients.len() / 2;
        let ms = if is_second { 2_000 } else { 100 } + self.chance.below(3_000);
        self.wait(client, ms, Doing::Init);
    }

    pub fn wake(&mut self, client: usize, attempt: u64) {
        if self.clients[client].attempt != attempt {
            return;
        }
        let patience = 60 + self.chance.below(200);
        let doing = self.clients[client].doing;
        self.clients[client].tries += 1;
        let tries = self.clients[client].tries;
        let (id, producer) = (id_of(self.clients[client].id), self.clients[client].producer);
        let version = self.clients[client].version;
        let token = ReplyToken(0);
        let command = match doing {
            Doing::Nothing => return,
            Doing::Begin if self.is_ending => return,
            Doing::Begin => return self.begin_transaction(client),
            Doing::Next => return self.next(client),
            Doing::Init if self.is_ending => return,
            Doing::Init => {
                let fresh = Some(producer_of(self.clients[client].id));
                let timeout_ms = 1_000 + self.chance.below(2_500) as i32;
                Command::InitProducerId(InitProducerId { token, id, timeout_ms, expected: None, fresh })
            }
            Doing::Produce { .. } if tries > TRIES_MAX => {
                self.clients[client].is_unsure = true;
                return self.begin(client, Doing::End { commit: false });
            }
            Doing::Produce { partition, data, count } => {
                self.wait(client, patience, doing);
                let attempt = self.clients[client].attempt;
                return self.send(Act::Produce(Sent { client, attempt, partition, data, count }));
            }
            Doing::Add(partition) => {
                let producer = producer.expect("it began");
                let partitions = named_all(&[partition]);
                Command::AddPartitions(AddPartitions { token, id, producer, partitions, client_version: version })
            }
            Doing::End { commit } => {
                let producer = producer.expect("it began");
                if commit {
                    self.outcomes.asks_commit(self.clients[client].transaction);
                }
                Command::EndTransaction(EndTransaction {
                    token,
                    id,
                    producer,
                    commit,
                    client_version: version,
                    fresh: None,
                })
            }
        };
        self.wait(client, patience, doing);
        let attempt = self.clients[client].attempt;
        self.send(Act::Ask { asker: Asker::Client { client, attempt }, command });
    }

    fn begin_transaction(&mut self, client: usize) {
        let left = 1 + self.chance.below(5);
        let own = &mut self.clients[client];
        own.transaction = self.outcomes.begin();
        own.added.clear();
        (own.left, own.is_unsure) = (left, false);
        self.next(client);
    }

    fn next(&mut self, client: usize) {
        if self.clients[client].left == 0 {
            let commit = self.chance.percent(70);
            return self.begin(client, Doing::End { commit });
        }
        let partition = 1 + self.chance.below(PARTITIONS as u64) as usize;
        let own = &self.clients[client];
        if !own.version.bumps_epoch() && !own.added.contains(&partition) {
            return self.begin(client, Doing::Add(partition));
        }
        self.write(client, partition);
    }

    fn write(&mut self, client: usize, partition: usize) {
        let count = 1 + self.chance.below(3) as i32;
        let own = &mut self.clients[client];
        let Producer { id, epoch } = own.producer.expect("it began");
        let next = own.sequences.entry(partition).or_insert(0);
        let data = Data { producer: id.0, epoch: epoch.0, sequence: *next };
        *next += count;
        self.outcomes.writes(own.transaction, partition, data);
        self.begin(client, Doing::Produce { partition, data, count });
    }

    pub fn hear(&mut self, client: usize, attempt: u64, answer: Answer) {
        if self.clients[client].attempt != attempt {
            return;
        }
        match (self.clients[client].doing, answer) {
            (Doing::Init, Answer::Coordinator(Reply::InitProducerId(Ok(producer)))) => {
                self.clients[client].become_producer(producer);
                self.begin(client, Doing::Begin);
            }
            (Doing::Add(partition), Answer::Coordinator(Reply::AddPartitions(Ok(())))) => {
                self.clients[client].added.insert(partition);
                self.write(client, partition);
            }
            (Doing::Produce { .. }, Answer::Written(Written::Done)) => {
                self.clients[client].left -= 1;
                match self.chance.below(100) {
                    0..2 => self.rest(client),
                    2..4 => {
                        let ms = 1_000 + self.chance.below(4_000);
                        self.wait(client, ms, Doing::Next);
                    }
                    _ => self.begin(client, Doing::Next),
                }
            }
            (Doing::Produce { .. }, Answer::Written(Written::Refused)) => {
                self.clients[client].is_unsure = true;
                self.begin(client, Doing::End { commit: false });
            }
            (Doing::End { commit }, Answer::Coordinator(Reply::EndTransaction(Ok(producer)))) => {
                self.outcomes.told(self.clients[client].transaction, commit);
                if let Some(producer) = producer {
                    self.clients[client].become_producer(producer);
                }
                let is_unsure = self.clients[client].is_unsure;
                let ms = 5 + self.chance.below(200);
                self.wait(client, ms, if is_unsure { Doing::Init } else { Doing::Begin });
            }
            (doing, Answer::Written(Written::Again)) => {
                let ms = 1 + self.chance.below(AGAIN_MS);
                self.wait(client, ms, doing);
            }
            (doing, Answer::Coordinator(reply)) => match error_of(&reply) {
                Some(TransactionError::ConcurrentTransactions) => {
                    let ms = 1 + self.chance.below(AGAIN_MS);
                    self.wait(client, ms, doing);
                }
                Some(_) => {
                    self.outcomes.fenced += 1;
                    self.rest(client);
                }
                None => panic!("{reply:?} answers another question"),
            },
            (doing, answer) => panic!("{answer:?} to {doing:?}"),
        }
    }
}

fn error_of(reply: &Reply) -> Option<TransactionError> {
    match reply {
        Reply::InitProducerId(Err(e)) | Reply::AddPartitions(Err(e)) | Reply::EndTransaction(Err(e)) => Some(*e),
        _ => None,
    }
}
