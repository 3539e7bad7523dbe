//! Random lives of a group, with clients that do what clients do: answers get lost, clients vanish, coordinators come
//! anew, topics grow, members change their minds. No partition is ever used by two of them, what is in memory is what
//! is stored (the world checks that after every step), and in the end every partition has one owner.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::super::tests::world::{Event, World};
use super::{beat, join, names, surroundings, topics};
use crate::coordinator::group::consumer::{ConsumerState, Target, Topics};
use crate::coordinator::group::{
    Command, ConsumerBeaten, ConsumerHeartbeat, ConsumerRefused, Effect, GroupConfig, InstanceId, Pattern,
    PatternsResolved, Reply,
};
use crate::types::TopicId;

const CLIENTS: usize = 5;
const SESSION_MS: u64 = 45_000;

#[derive(Clone, Debug)]
enum Step {
    /// A heartbeat, or a join of who is not in the group. The answer may get lost.
    Beat {
        who: usize,
        lost: bool,
    },
    /// It does not say anything any more, and comes back under a new id.
    Vanish {
        who: usize,
    },
    Leave {
        who: usize,
    },
    Subscribe {
        who: usize,
        to: usize,
    },
    Grow {
        topic: usize,
    },
    Resolve,
    Restart,
    Pass {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..CLIENTS;
    prop_oneof![
        30 => (who.clone(), prop::bool::weighted(0.1)).prop_map(|(who, lost)| Step::Beat { who, lost }),
        1 => who.clone().prop_map(|who| Step::Vanish { who }),
        2 => who.clone().prop_map(|who| Step::Leave { who }),
        2 => (who, 0..SUBSCRIPTIONS.len()).prop_map(|(who, to)| Step::Subscribe { who, to }),
        1 => (0..2_usize).prop_map(|topic| Step::Grow { topic }),
        2 => Just(Step::Resolve),
        1 => Just(Step::Restart),
        6 => prop_oneof![Just(100), Just(1_000), Just(11_000), Just(46_000)].prop_map(|ms| Step::Pass { ms }),
    ]
}

/// Names and a pattern: `*` at its end stands for anything.
const SUBSCRIPTIONS: [(&[&str], &str); 5] = [(&["a"], ""), (&["a", "b"], ""), (&["b"], ""), (&[], "*"), (&["a"], "b*")];

/// A consumer: it uses what it was given until it is told otherwise.
struct Client {
    id: String,
    is_static: bool,
    epoch: i32,
    owned: Target,
    subscription: usize,
    /// It has something to say besides that it lives.
    says_all: bool,
    lives: u32,
    last_beat_ms: u64,
}

impl Client {
    fn give_up(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.says_all = true;
    }
}

struct Sim {
    world: World,
    clients: Vec<Client>,
    counts: [usize; 2],
    version: i64,
}

impl Sim {
    fn new() -> Self {
        let client = |at: usize| Client {
            id: format!("c{at}-0"),
            is_static: at % 2 == 1,
            epoch: 0,
            owned: Target::new(),
            subscription: 1,
            says_all: true,
            lives: 0,
            last_beat_ms: 0,
        };
        let mut sim = Self {
            world: World::new(GroupConfig::default()),
            clients: (0..CLIENTS).map(client).collect(),
            counts: [3, 4],
            version: 1,
        };
        sim.tell_topics();
        sim
    }

    fn tell_topics(&mut self) {
        let before = self.world.shard.surroundings.topics.clone();
        let [a, b] = self.counts;
        let known: Topics = topics(self.version, &[("a", a), ("b", b)], &before);
        assert!(self.world.run(&Command::SurroundingsChanged(surroundings(known))).is_empty());
    }

    fn heartbeat(&mut self, who: usize) -> ConsumerHeartbeat {
        let token = self.world.token();
        let client = &self.clients[who];
        let (named, pattern) = SUBSCRIPTIONS[client.subscription];
        let full = ConsumerHeartbeat {
            epoch: client.epoch,
            owned: Some(client.owned.clone()),
            topics: Some(names(named)),
            pattern: Some(Pattern { text: pattern.into(), invalid: None }),
            ..join(token, "g", &client.id, &[])
        };
        let brief = ConsumerHeartbeat { owned: full.owned.clone(), ..beat(token, "g", &client.id, client.epoch) };
        let instance = client.is_static.then(|| InstanceId::new(&format!("i{who}")).unwrap());
        ConsumerHeartbeat { instance, ..if client.says_all { full } else { brief } }
    }

    fn ask(&mut self, beat: ConsumerHeartbeat) -> Result<ConsumerBeaten, ConsumerRefused> {
        let mut events = self.world.run(&Command::ConsumerHeartbeat(beat));
        match events.pop() {
            Some(Event::Replied(_, Reply::ConsumerHeartbeat(answer))) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Beat { who, lost } => self.beat(who, lost),
            Step::Vanish { who } => self.anew(who),
            Step::Leave { who } => self.leave(who),
            Step::Subscribe { who, to } => {
                self.clients[who].subscription = to;
                self.clients[who].says_all = true;
            }
            Step::Grow { topic } => {
                self.counts[topic] += 1;
                self.version += 1;
                self.tell_topics();
            }
            Step::Resolve => self.resolve(),
            Step::Restart => {
                self.world.restart();
            }
            Step::Pass { ms } => self.pass(ms),
        }
        self.check();
    }

    fn beat(&mut self, who: usize, lost: bool) {
        let said = self.heartbeat(who);
        let answer = self.ask(said);
        let now_ms = self.world.now_ms;
        let client = &mut self.clients[who];
        match answer {
            _ if lost => {
                // It says all again. Of what it was told it knows nothing, nor when its session ends.
                client.says_all = true;
            }
            Ok(beaten) => {
                client.last_beat_ms = now_ms;
                client.epoch = beaten.epoch;
                client.says_all = false;
                if let Some(assignment) = beaten.assignment {
                    client.owned = assignment;
                }
            }
            // Fenced, or forgotten.
            Err(_) => client.give_up(),
        }
    }

    /// The process is gone; another one with a new id takes its place.
    fn anew(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.lives += 1;
        client.id = format!("c{who}-{}", client.lives);
        client.give_up();
    }

    fn leave(&mut self, who: usize) {
        let token = self.world.token();
        let client = &self.clients[who];
        let epoch = if client.is_static { -2 } else { -1 };
        let instance = client.is_static.then(|| InstanceId::new(&format!("i{who}")).unwrap());
        let said = ConsumerHeartbeat { instance, ..beat(token, "g", &client.id, epoch) };
        // Whether it was in the group or not.
        let _answer: Result<_, _> = self.ask(said);
        self.anew(who);
    }

    fn resolve(&mut self) {
        for effect in std::mem::take(&mut self.world.effects) {
            let Effect::ResolvePatterns { group, patterns, topics } = effect else { panic!("{effect:?}") };
            let matching = |pattern: &str| -> BTreeSet<_> {
                let start = pattern.trim_end_matches('*');
                topics.names().filter(|name| name.starts_with(start)).cloned().collect()
            };
            let patterns = patterns.iter().map(|pattern| (pattern.clone(), matching(pattern).into())).collect();
            let (version, at) = (topics.version(), self.world.now());
            let result = PatternsResolved { group, patterns, version, at };
            self.world.run(&Command::PatternsResolved(result));
        }
    }

    /// A client that could not reach its coordinator for its session's time stops using what it has.
    fn pass(&mut self, ms: u64) {
        let then = self.world.now_ms + ms;
        for client in &mut self.clients {
            if client.last_beat_ms + SESSION_MS <= then {
                client.give_up();
            }
        }
        self.world.pass(ms);
    }

    fn users(&self) -> BTreeMap<(TopicId, i32), usize> {
        let mut users = BTreeMap::new();
        for client in &self.clients {
            for (topic, partitions) in &client.owned {
                partitions.iter().for_each(|index| *users.entry((*topic, *index)).or_default() += 1);
            }
        }
        users
    }

    fn check(&self) {
        for (partition, users) in self.users() {
            assert_eq!(users, 1, "{partition:?} is used by {users}");
        }
    }

    /// All beat until nothing changes any more.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..200 {
            let before = self.world.log.len();
            for who in 0..CLIENTS {
                self.beat(who, false);
                self.check();
            }
            self.resolve();
            self.pass(4_000);
            // Sessions may have to end first, and patterns are looked at every ten seconds.
            quiet = if self.world.log.len() == before { quiet + 1 } else { 0 };
            if quiet > 14 {
                break;
            }
        }
        let group = self.world.shard.groups["g"].consumer.as_ref().unwrap();
        assert_eq!(group.state(), ConsumerState::Stable);
        assert_eq!(group.members.len(), CLIENTS);
        let subscribed: BTreeSet<&str> =
            self.clients.iter().flat_map(|client| topics_of(client.subscription)).collect();
        let [a, b] = self.counts;
        let expected: usize =
            [("a", a), ("b", b)].iter().filter(|(name, _)| subscribed.contains(name)).map(|(_, count)| count).sum();
        assert_eq!(self.users().len(), expected, "each partition has its owner");
        for client in &self.clients {
            let wanted: BTreeSet<TopicId> = topics_of(client.subscription).map(super::topic_id).collect();
            assert!(client.owned.keys().all(|topic| wanted.contains(topic)), "{} has what it does not want", client.id);
        }
    }
}

fn topics_of(subscription: usize) -> impl Iterator<Item = &'static str> {
    let (named, pattern) = SUBSCRIPTIONS[subscription];
    let start = pattern.strip_suffix('*');
    ["a", "b"]
        .into_iter()
        .filter(move |name| named.contains(name) || start.is_some_and(|start| name.starts_with(start)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_is_used_by_two_and_all_are_used_in_the_end(steps in prop::collection::vec(step(), 1..120)) {
        let mut sim = Sim::new();
        for step in &steps {
            sim.take(step);
        }
        sim.settle();
    }
}
