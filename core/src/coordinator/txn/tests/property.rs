//! Random lives of a transactional id and the producers that fight for it, with commits that come late and coordinators
//! that fail at any point. The world checks after each step that memory is what the log says; here is checked what
//! producers and partitions may count on.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::{Event, World, id, partition};
use crate::coordinator::txn::{
    AddPartitions, Command, EndTransaction, InitProducerId, Markers, Producer, Reply, Transaction, TransactionConfig,
    TransactionError, TransactionState, TransactionVersion,
};
use crate::types::{ProducerEpoch, ProducerId};

const CLIENTS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A client begins; with its identity if it has one and wants to go on with it.
    Init {
        client: usize,
        goes_on: bool,
    },
    Add {
        client: usize,
        partition: u8,
    },
    End {
        client: usize,
        commit: bool,
        old_epoch: bool,
    },
    /// Markers that were let go are written.
    Written {
        at: usize,
    },
    Commit {
        behind: usize,
    },
    FailOver {
        behind: usize,
    },
    Pass {
        ms: u64,
    },
    Level {
        version: i16,
    },
    /// The epochs of the producer come near their end.
    Age,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        3 => (client.clone(), any::<bool>()).prop_map(|(client, goes_on)| Step::Init { client, goes_on }),
        6 => (client.clone(), 0..3_u8).prop_map(|(client, partition)| Step::Add { client, partition }),
        6 => (client, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(client, commit, old_epoch)| Step::End { client, commit, old_epoch }),
        6 => (0..4_usize).prop_map(|at| Step::Written { at }),
        8 => prop_oneof![4 => Just(0_usize), 1 => 0..3_usize].prop_map(|behind| Step::Commit { behind }),
        2 => (0..3_usize).prop_map(|behind| Step::FailOver { behind }),
        2 => prop_oneof![Just(1_000), Just(11_000), Just(70_000)].prop_map(|ms| Step::Pass { ms }),
        1 => (0..3_i16).prop_map(|version| Step::Level { version }),
        1 => Just(Step::Age),
    ]
}

#[derive(Default)]
struct Client {
    /// Who it was told that it is. The version it speaks is the one when it was told so.
    known: Option<(Producer, TransactionVersion)>,
    /// What waits for its reply.
    asked: BTreeMap<u64, Asked>,
    /// A newer one was told that it is the producer: nothing may come of what this one asks for from then on.
    is_fenced: bool,
}

#[derive(Clone, Copy)]
enum Asked {
    Init { version: TransactionVersion },
    Add,
    End { commit: bool, producer: Producer },
}

struct Lives {
    world: World,
    clients: [Client; CLIENTS],
    committed: usize,
    /// How transactions ended, as their producers or their partitions were told: by the producer of the markers.
    outcomes: BTreeMap<Producer, bool>,
}

const NAME: &str = "t";

impl Lives {
    fn new() -> Self {
        Self {
            world: World::new(TransactionConfig::default()),
            clients: Default::default(),
            committed: 0,
            outcomes: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Init { client, goes_on } => self.init(client, goes_on),
            Step::Add { client, partition: number } => {
                let Some((producer, client_version)) = self.clients[client].known else { return };
                let token = self.world.token();
                self.clients[client].asked.insert(token.0, Asked::Add);
                let partitions = [partition(&format!("p-{number}"))].into();
                let add = AddPartitions { token, id: id(NAME), producer, partitions, client_version };
                self.run(&Command::AddPartitions(add));
            }
            Step::End { client, commit, old_epoch } => self.end(client, commit, old_epoch),
            Step::Written { at } => {
                let waiting = self.world.to_write.len();
                let Some(at) = at.checked_rem(waiting) else { return };
                let Markers { id, producer, .. } = self.world.to_write.remove(at);
                self.run(&Command::MarkersWritten { id, producer });
            }
            Step::Commit { behind } => {
                self.committed = self.committed.max(self.world.log.len().saturating_sub(behind));
                let events = self.world.commit(self.committed);
                self.heard(events);
            }
            Step::FailOver { behind } => {
                let end = self.committed.max(self.world.log.len().saturating_sub(behind));
                // Whoever leads next commits what is in its log first.
                self.committed = end;
                self.clients.iter_mut().for_each(|client| client.asked.clear());
                self.world.fail_over(end);
                let events = self.world.commit(end);
                self.heard(events);
            }
            Step::Pass { ms } => {
                self.world.pass(ms);
            }
            Step::Level { version } => self.world.version = TransactionVersion(version),
            Step::Age => self.age(),
        }
    }

    fn run(&mut self, command: &Command) {
        self.world.run(command);
    }

    fn init(&mut self, client: usize, goes_on: bool) {
        let token = self.world.token();
        let expected = self.clients[client].known.map(|(producer, _)| producer).filter(|_| goes_on);
        // A client speaks the second version where the cluster does.
        let version = Some(self.world.version).filter(|version| version.bumps_epoch()).unwrap_or_default();
        self.clients[client].asked.insert(token.0, Asked::Init { version });
        let init = InitProducerId { token, id: id(NAME), timeout_ms: 60_000, expected, fresh: None };
        self.run(&Command::InitProducerId(init));
    }

    fn end(&mut self, client: usize, commit: bool, old_epoch: bool) {
        let Some((mut producer, client_version)) = self.clients[client].known else { return };
        if old_epoch {
            producer.epoch = ProducerEpoch((producer.epoch.0 - 1).max(0));
        }
        let token = self.world.token();
        self.clients[client].asked.insert(token.0, Asked::End { commit, producer });
        let end = EndTransaction { token, id: id(NAME), producer, commit, client_version, fresh: None };
        self.run(&Command::EndTransaction(end));
    }

    /// All that is known is committed; then the producer is one with few epochs left.
    fn age(&mut self) {
        self.take(&Step::Commit { behind: 0 });
        let Some(transaction) = self.world.of(NAME).filter(|t| t.state == TransactionState::Empty).cloned() else {
            return;
        };
        let producer = Producer { id: transaction.producer_id, epoch: transaction.producer_epoch };
        let aged = ProducerEpoch(i16::MAX - 3);
        if producer.epoch >= aged {
            return;
        }
        let to = Transaction { producer_epoch: aged, ..transaction };
        self.world.replay(crate::coordinator::txn::record::encode(&id(NAME), Some(&to), TransactionVersion::V2));
        self.committed = self.world.log.len();
        for client in &mut self.clients {
            if let Some((known, _)) = client.known.as_mut().filter(|(known, _)| *known == producer) {
                known.epoch = aged;
            }
        }
    }

    /// Replies and markers that were let go.
    fn heard(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Replied(token, reply) => {
                    for client in 0..CLIENTS {
                        if let Some(asked) = self.clients[client].asked.remove(&token.0) {
                            self.answered(client, asked, reply.clone());
                        }
                    }
                }
                Event::Marked(markers) => self.ended(markers.producer, markers.commit),
                Event::Logged(..) => {}
            }
        }
    }

    fn answered(&mut self, client: usize, asked: Asked, reply: Reply) {
        match (asked, reply) {
            (Asked::Init { version }, Reply::InitProducerId(Ok(producer))) => {
                for other in &mut self.clients {
                    other.is_fenced = true;
                    // What was asked before may have been done before.
                    other.asked.clear();
                }
                self.clients[client].is_fenced = false;
                self.clients[client].known = Some((producer, version));
            }
            (Asked::Add, Reply::AddPartitions(Ok(()))) => {
                assert!(!self.clients[client].is_fenced, "a fenced producer adds partitions");
            }
            (Asked::End { commit, producer }, Reply::EndTransaction(Ok(Some(next)))) => {
                // Epochs grow, or the id is a new one.
                assert!(next.id != producer.id || next.epoch >= producer.epoch, "{producer:?} became {next:?}");
                if next.id == producer.id && next.epoch > producer.epoch {
                    self.ended(next, commit);
                }
                let known = &mut self.clients[client].known;
                if let Some((known, _)) = known.as_mut().filter(|(known, _)| *known == producer) {
                    *known = next;
                }
            }
            _ => {}
        }
    }

    /// With an epoch for each transaction nobody hears of two outcomes.
    fn ended(&mut self, producer: Producer, commit: bool) {
        let transaction_has_epoch =
            self.clients.iter().all(|c| c.known.is_none_or(|(_, version)| version.bumps_epoch()));
        if transaction_has_epoch && self.world.version.bumps_epoch() {
            let told = *self.outcomes.entry(producer).or_insert(commit);
            assert_eq!(told, commit, "{producer:?} ended both ways");
        }
    }
}

impl Ord for Producer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.id, self.epoch).cmp(&(other.id, other.epoch))
    }
}

impl PartialOrd for Producer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// However it goes, it can go on: markers get written, and somebody new can begin.
fn settles(lives: &mut Lives) {
    for _ in 0..4 {
        lives.take(&Step::Commit { behind: 0 });
        while !lives.world.to_write.is_empty() {
            lives.take(&Step::Written { at: 0 });
            lives.take(&Step::Commit { behind: 0 });
        }
        lives.take(&Step::Init { client: 0, goes_on: false });
        let events = lives.world.commit(lives.world.log.len());
        lives.committed = lives.world.log.len();
        let is_told = |event: &Event| matches!(event, Event::Replied(_, Reply::InitProducerId(Ok(_))));
        if events.iter().any(is_told) {
            return;
        }
    }
    panic!("nobody can begin: {:?}", lives.world.of(NAME));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn producers_can_count_on_what_they_were_told(steps in prop::collection::vec(step(), 1..80)) {
        let mut lives = Lives::new();
        for step in &steps {
            lives.take(step);
        }
        settles(&mut lives);
    }
}

/// A producer that was fenced ends nothing, and is not told who the producer is now: its epoch is that before also where
/// the one that fenced it ended a transaction without an epoch of its own.
#[test]
fn the_epoch_before_is_a_retry_only_of_an_end_that_bumped_it() {
    let mut lives = Lives::new();
    lives.take(&Step::Init { client: 1, goes_on: false });
    lives.take(&Step::Commit { behind: 0 });
    lives.take(&Step::Level { version: 0 });
    lives.take(&Step::Init { client: 0, goes_on: false });
    lives.take(&Step::Commit { behind: 0 });
    lives.take(&Step::Add { client: 0, partition: 0 });
    lives.take(&Step::Commit { behind: 0 });
    lives.take(&Step::End { client: 0, commit: true, old_epoch: false });
    lives.take(&Step::Commit { behind: 0 });
    lives.take(&Step::Written { at: 0 });
    lives.take(&Step::Commit { behind: 0 });
    let (fenced, client_version) = lives.clients[1].known.expect("it was told");
    let end = EndTransaction {
        token: lives.world.token(),
        id: id(NAME),
        producer: fenced,
        commit: true,
        client_version,
        fresh: None,
    };
    let events = lives.world.carry_out(&Command::EndTransaction(end));
    let [Event::Replied(_, Reply::EndTransaction(Err(error)))] = &events[..] else { panic!("{events:?}") };
    assert_eq!(*error, TransactionError::ProducerFenced);
}

/// Used in no other test: an id that was never given out belongs to nobody.
#[test]
fn a_stranger_gets_nothing() {
    let mut world = World::new(TransactionConfig::default());
    let stranger = Producer { id: ProducerId(7), epoch: ProducerEpoch(0) };
    let token = world.token();
    let partitions = [partition("p-0")].into();
    let client_version = TransactionVersion::V2;
    let add = AddPartitions { token, id: id(NAME), producer: stranger, partitions, client_version };
    let events = world.carry_out(&Command::AddPartitions(add));
    assert!(matches!(&events[..], [Event::Replied(_, Reply::AddPartitions(Err(_)))]), "{events:?}");
}
