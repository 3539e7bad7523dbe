//! Random lives of a streams group: answers get lost, clients vanish or take their time to give tasks up, coordinators come
//! anew, topics come, grow and go. What is in memory is what is stored (the world checks that after every step); no task
//! is ever active with two; no process has a task twice; and in the end every task is active once, with its copies on
//! other processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::super::command::Command;
use super::super::super::config::GroupConfig;
use super::super::super::consumer::tests::{surroundings, topics};
use super::super::super::reply::Reply;
use super::super::super::tests::world::{Event, World};
use super::super::tasks::{each, each_since};
use super::super::{InternalTopic, StreamsCommand, StreamsHeartbeat, StreamsReply, StreamsState, Tasks, Topology};
use super::{beat, join, topology};

const PROCESSES: [&str; 5] = ["p0", "p0", "p1", "p1", "p2"];
const TOPOLOGY: &str = "0;src=a;log=l;sink=r 1;rep=r;log=m 2;src=b";

#[derive(Clone, Debug)]
enum Step {
    Beat {
        who: usize,
        lost: bool,
    },
    /// It has given up what it was told to.
    Revoked {
        who: usize,
    },
    Vanish {
        who: usize,
    },
    Leave {
        who: usize,
    },
    /// The topics that were asked for are made.
    Create,
    Grow,
    /// A topic goes, or comes back.
    Toggle {
        topic: usize,
    },
    Standbys {
        count: i32,
    },
    Restart,
    Pass {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..PROCESSES.len();
    prop_oneof![
        40 => (who.clone(), prop::bool::weighted(0.1)).prop_map(|(who, lost)| Step::Beat { who, lost }),
        20 => who.clone().prop_map(|who| Step::Revoked { who }),
        1 => who.clone().prop_map(|who| Step::Vanish { who }),
        2 => who.prop_map(|who| Step::Leave { who }),
        5 => Just(Step::Create),
        1 => Just(Step::Grow),
        1 => (0..5_usize).prop_map(|topic| Step::Toggle { topic }),
        1 => (0..3).prop_map(|count| Step::Standbys { count }),
        1 => Just(Step::Restart),
        6 => prop_oneof![Just(100), Just(1_000), Just(3_000), Just(31_000), Just(46_000)]
            .prop_map(|ms| Step::Pass { ms }),
    ]
}

struct Client {
    id: String,
    lives: u32,
    epoch: i32,
    /// What it was told to have, and what it really has: it takes its time.
    told: Tasks,
    has: Tasks,
    says_all: bool,
}

impl Client {
    fn new(at: usize, lives: u32) -> Self {
        let (told, has) = (Tasks::default(), Tasks::default());
        Self { id: format!("c{at}-{lives}"), lives, epoch: 0, told, has, says_all: true }
    }

    /// What it was told and may have at once: it keeps the rest until it is done with it.
    fn take(&mut self, told: Tasks) {
        let add = |has: &mut super::TaskSet, told: &super::TaskSet| {
            for (id, partitions) in told {
                has.entry(Arc::clone(id)).or_default().extend(partitions);
            }
        };
        add(&mut self.has.active, &told.active);
        add(&mut self.has.standby, &told.standby);
        self.told = told;
        self.says_all = true;
    }
}

struct Sim {
    world: World,
    clients: Vec<Client>,
    topology: Arc<Topology>,
    /// Topics and how many partitions they have; `None`: gone.
    topics: BTreeMap<&'static str, Option<usize>>,
    asked_for: Vec<InternalTopic>,
    standbys: i32,
    version: i64,
}

impl Sim {
    fn new() -> Self {
        let mut sim = Self {
            world: World::new(GroupConfig::default()),
            clients: (0..PROCESSES.len()).map(|at| Client::new(at, 0)).collect(),
            topology: topology(0, TOPOLOGY),
            topics: BTreeMap::from([("a", Some(2)), ("b", Some(3)), ("l", None), ("m", None), ("r", None)]),
            asked_for: Vec::new(),
            standbys: 1,
            version: 1,
        };
        sim.tell();
        sim
    }

    fn tell(&mut self) {
        let before = self.world.shard.surroundings.topics.clone();
        let known: Vec<(&str, usize)> =
            self.topics.iter().filter_map(|(name, count)| Some((*name, (*count)?))).collect();
        let mut now = surroundings(topics(self.version, &known, &before));
        let mut settings = super::super::super::consumer::GroupSettings::default();
        settings.streams.num_standby_replicas = Some(self.standbys);
        now.groups = Arc::new(BTreeMap::from([("g".to_owned(), settings)]));
        self.version += 1;
        assert!(self.world.run(&Command::SurroundingsChanged(now)).is_empty());
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Beat { who, lost } => self.beat(who, lost),
            Step::Revoked { who } => self.clients[who].has = self.clients[who].told.clone(),
            Step::Vanish { who } => self.anew(who),
            Step::Leave { who } => {
                let token = self.world.token();
                let said = beat(token, &self.clients[who].id, -1);
                self.world.run(&heartbeat(said));
                self.anew(who);
            }
            Step::Create => {
                for topic in std::mem::take(&mut self.asked_for) {
                    let known = self.topics.iter_mut().find(|(name, _)| ***name == *topic.name);
                    let (_, count) = known.expect("it is a topic of the topology");
                    count.get_or_insert(usize::try_from(topic.partition_count).unwrap());
                }
                self.tell();
            }
            Step::Grow => {
                let wider = self.topics["a"].unwrap_or(1) + 1;
                for name in ["a", "l", "m", "r"] {
                    let count = self.topics.get_mut(name).unwrap();
                    *count = count.map(|_| wider);
                }
                self.tell();
            }
            Step::Toggle { topic } => {
                let (_, count) = self.topics.iter_mut().nth(topic).unwrap();
                *count = if count.is_some() { None } else { Some(2) };
                self.tell();
            }
            Step::Standbys { count } => {
                self.standbys = count;
                self.tell();
            }
            Step::Restart => {
                self.world.restart();
            }
            Step::Pass { ms } => {
                self.world.pass(ms);
            }
        }
        self.check();
    }

    fn anew(&mut self, who: usize) {
        self.clients[who] = Client::new(who, self.clients[who].lives + 1);
    }

    fn beat(&mut self, who: usize, lost: bool) {
        let token = self.world.token();
        let client = &self.clients[who];
        let owned = client.says_all.then(|| client.has.clone());
        let said = match client.epoch {
            0 => join(token, &client.id, PROCESSES[who], &self.topology),
            epoch => StreamsHeartbeat { owned, ..beat(token, &client.id, epoch) },
        };
        let mut events = self.world.run(&heartbeat(said));
        let Some(Event::Replied(_, Reply::Streams(StreamsReply::Heartbeat(answer)))) = events.pop() else {
            panic!("no answer")
        };
        let client = &mut self.clients[who];
        match answer {
            _ if lost => client.says_all = true,
            Ok(beaten) => {
                client.epoch = beaten.epoch;
                client.says_all = client.has != client.told;
                beaten.tasks.into_iter().for_each(|tasks| client.take(tasks));
                self.asked_for = beaten.create;
            }
            // It gives up all that it has.
            Err(_) => *client = Client { lives: client.lives, id: client.id.clone(), ..Client::new(who, 0) },
        }
    }

    fn check(&self) {
        let Some(group) = self.world.shard.groups.get("g").and_then(|group| group.streams.as_ref()) else { return };
        let mut active = BTreeSet::new();
        for client in &self.clients {
            let is_member = group.members.keys().any(|id| id.as_str() == client.id);
            for task in each(&client.has.active).filter(|_| is_member) {
                assert!(active.insert((Arc::clone(task.0), task.1)), "{task:?} is active twice");
            }
        }
        let mut of_process = BTreeSet::new();
        for member in group.members.values() {
            for held in [&member.current.assigned, &member.current.revoking] {
                for (id, partition) in each_since(&held.active).chain(each(&held.standby)) {
                    let process = Arc::clone(&member.said.process);
                    assert!(
                        of_process.insert((process, Arc::clone(id), partition)),
                        "a process has {id}_{partition} twice"
                    );
                }
            }
        }
    }

    /// All topics are as they should be, and all clients live.
    fn settle(&mut self) {
        self.topics = BTreeMap::from([("a", Some(4)), ("b", Some(3)), ("l", Some(4)), ("m", Some(4)), ("r", Some(4))]);
        self.tell();
        let mut quiet = 0;
        for _ in 0..200 {
            let before = self.world.log.len();
            for who in 0..PROCESSES.len() {
                self.take(&Step::Revoked { who });
                self.take(&Step::Beat { who, lost: false });
            }
            self.world.pass(3_000);
            quiet = if self.world.log.len() == before { quiet + 1 } else { 0 };
            // Longer than a session: who vanished is gone.
            if quiet > 16 {
                break;
            }
        }
        let group = self.world.shard.groups["g"].streams.as_ref().unwrap();
        assert_eq!(group.state(), StreamsState::Stable, "{group:#?}");
        let mut active: BTreeMap<String, usize> = BTreeMap::new();
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        for client in &self.clients {
            each(&client.has.active).for_each(|(id, at)| *active.entry(format!("{id}_{at}")).or_default() += 1);
            each(&client.has.standby).for_each(|(id, at)| *copies.entry(format!("{id}_{at}")).or_default() += 1);
        }
        assert_eq!(active.len(), 4 + 4 + 3, "{active:?}");
        assert!(active.values().all(|count| *count == 1), "{active:?}");
        let wanted = usize::try_from(self.standbys).unwrap();
        assert_eq!(copies.len(), if wanted == 0 { 0 } else { 4 + 4 }, "{copies:?}");
        assert!(copies.values().all(|count| *count == wanted), "{copies:?}");
    }
}

fn heartbeat(said: StreamsHeartbeat) -> Command {
    Command::Streams(StreamsCommand::Heartbeat(Box::new(said)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_task_is_active_once_in_the_end_and_never_twice(steps in prop::collection::vec(step(), 1..150)) {
        let mut sim = Sim::new();
        for step in &steps {
            sim.take(step);
        }
        sim.settle();
    }
}
