//! Random lives of a share group: answers get lost, clients vanish, coordinators come anew, topics grow, share coordinators
//! fail. What is in memory is what is stored (the world checks that after every step), nothing is assigned that is not
//! initialized, and in the end every partition has members, as many as any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::super::command::{Command, Effect};
use super::super::super::config::GroupConfig;
use super::super::super::consumer::Target;
use super::super::super::consumer::tests::{surroundings, topic_id, topics};
use super::super::super::reply::Reply;
use super::super::super::tests::world::{Event, World};
use super::super::assign::{MemberSpec, assign};
use super::super::{InitializeShares, ShareCommand, ShareReply};
use super::beat;

const CLIENTS: usize = 5;
const SUBSCRIPTIONS: [&[&str]; 3] = [&["a"], &["a", "b"], &["b"]];

#[derive(Clone, Debug)]
enum Step {
    Beat {
        who: usize,
        lost: bool,
    },
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
    /// The share coordinators answer what they were asked for.
    Answer {
        well: bool,
    },
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
        4 => prop::bool::weighted(0.8).prop_map(|well| Step::Answer { well }),
        1 => Just(Step::Restart),
        6 => prop_oneof![Just(100), Just(1_000), Just(11_000), Just(46_000)].prop_map(|ms| Step::Pass { ms }),
    ]
}

struct Client {
    id: String,
    lives: u32,
    epoch: i32,
    has: Target,
    subscription: usize,
    says_all: bool,
}

struct Sim {
    world: World,
    clients: Vec<Client>,
    counts: [usize; 2],
    version: i64,
    initialized: BTreeSet<(crate::types::TopicId, i32)>,
}

impl Sim {
    fn new() -> Self {
        let client = |at: usize| Client {
            id: format!("c{at}-0"),
            lives: 0,
            epoch: 0,
            has: Target::new(),
            subscription: 1,
            says_all: true,
        };
        let mut sim = Self {
            world: World::new(GroupConfig::default()),
            clients: (0..CLIENTS).map(client).collect(),
            counts: [3, 4],
            version: 1,
            initialized: BTreeSet::new(),
        };
        sim.tell_topics();
        sim
    }

    fn tell_topics(&mut self) {
        let before = self.world.shard.surroundings.topics.clone();
        let [a, b] = self.counts;
        let known = topics(self.version, &[("a", a), ("b", b)], &before);
        assert!(self.world.run(&Command::SurroundingsChanged(surroundings(known))).is_empty());
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Beat { who, lost } => self.beat(who, lost),
            Step::Vanish { who } => self.anew(who),
            Step::Leave { who } => {
                let token = self.world.token();
                let said = beat(token, &self.clients[who].id, -1, None);
                self.world.run(&Command::Share(ShareCommand::Heartbeat(said)));
                self.anew(who);
            }
            Step::Subscribe { who, to } => {
                self.clients[who].subscription = to;
                self.clients[who].says_all = true;
            }
            Step::Grow { topic } => {
                self.counts[topic] += 1;
                self.version += 1;
                self.tell_topics();
            }
            Step::Answer { well } => self.answer(well),
            Step::Restart => {
                self.world.restart();
            }
            Step::Pass { ms } => {
                self.world.pass(ms);
            }
        }
        for client in &self.clients {
            for (topic, partitions) in &client.has {
                for index in partitions {
                    assert!(self.initialized.contains(&(*topic, *index)), "{} has what is not initialized", client.id);
                }
            }
        }
    }

    fn anew(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.lives += 1;
        *client = Client {
            id: format!("c{who}-{}", client.lives),
            lives: client.lives,
            epoch: 0,
            has: Target::new(),
            subscription: client.subscription,
            says_all: true,
        };
    }

    fn beat(&mut self, who: usize, lost: bool) {
        let token = self.world.token();
        let client = &self.clients[who];
        let topics = (client.says_all || client.epoch == 0).then_some(SUBSCRIPTIONS[client.subscription]);
        let said = beat(token, &client.id, client.epoch, topics);
        let mut events = self.world.run(&Command::Share(ShareCommand::Heartbeat(said)));
        let Some(Event::Replied(_, Reply::Share(ShareReply::Heartbeat(answer)))) = events.pop() else {
            panic!("no answer")
        };
        let client = &mut self.clients[who];
        match answer {
            _ if lost => client.says_all = true,
            Ok(beaten) => {
                client.epoch = beaten.epoch;
                client.says_all = false;
                client.has = beaten.assignment.unwrap_or(std::mem::take(&mut client.has));
            }
            Err(_) => {
                client.epoch = 0;
                client.has.clear();
            }
        }
    }

    fn answer(&mut self, well: bool) {
        for effect in std::mem::take(&mut self.world.effects) {
            let Effect::InitializeShares(InitializeShares { group, topics, .. }) = effect else { panic!("{effect:?}") };
            let topics: Target = topics.into_iter().map(|(id, of)| (id, of.into_keys().collect())).collect();
            if well {
                let all = topics.iter().flat_map(|(id, of)| of.iter().map(|index| (*id, *index)));
                self.initialized.extend(all);
            }
            self.world.run(&Command::Share(match well {
                true => ShareCommand::Initialized { group, topics },
                false => ShareCommand::NotInitialized { group, topics },
            }));
        }
    }

    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..100 {
            let before = self.world.log.len();
            for who in 0..CLIENTS {
                self.beat(who, false);
            }
            self.answer(true);
            self.world.pass(5_000);
            quiet = if self.world.log.len() == before { quiet + 1 } else { 0 };
            if quiet > 12 {
                break;
            }
        }
        let group = self.world.shard.groups["g"].share.as_ref().unwrap();
        assert_eq!(group.members.len(), CLIENTS);
        let mut users: BTreeMap<_, usize> = BTreeMap::new();
        for client in &self.clients {
            let wanted: BTreeSet<_> = SUBSCRIPTIONS[client.subscription].iter().map(|name| topic_id(name)).collect();
            for (topic, partitions) in &client.has {
                assert!(wanted.contains(topic), "{} has what it does not want", client.id);
                partitions.iter().for_each(|index| *users.entry((*topic, *index)).or_default() += 1);
            }
        }
        let subscribed: BTreeSet<&str> =
            self.clients.iter().flat_map(|client| SUBSCRIPTIONS[client.subscription].iter().copied()).collect();
        let [a, b] = self.counts;
        let counts = [("a", a), ("b", b)];
        let expected: usize = counts.iter().filter(|(name, _)| subscribed.contains(name)).map(|(_, count)| count).sum();
        assert_eq!(users.len(), expected, "each partition has somebody");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn all_partitions_are_used_in_the_end(steps in prop::collection::vec(step(), 1..120)) {
        let mut sim = Sim::new();
        for step in &steps {
            sim.take(step);
        }
        sim.settle();
    }

    #[test]
    fn assignments_are_even_and_settle(
        counts in prop::collection::vec(0_i32..6, 1..4),
        subscriptions in prop::collection::vec(prop::collection::btree_set(0_usize..4, 0..4), 1..9),
        alike in any::<bool>(),
    ) {
        let id = |at: usize| topic_id(&format!("t{at}"));
        let assignable: Target = counts.iter().enumerate().map(|(at, count)| (id(at), (0..*count).collect())).collect();
        let everything: BTreeSet<usize> = (0..counts.len()).collect();
        let specs = |targets: Option<&[Target]>| -> Vec<MemberSpec> {
            let spec = |(at, subscribed): (usize, &BTreeSet<usize>)| {
                let subscribed = if alike { &everything } else { subscribed };
                let topics = subscribed.iter().map(|topic| id(*topic)).collect();
                MemberSpec { topics: Arc::new(topics), target: Arc::new(targets.map(|of| of[at].clone()).unwrap_or_default()) }
            };
            subscriptions.iter().enumerate().map(spec).collect()
        };
        let targets = assign(&specs(None), alike, &assignable);
        for (topic, partitions) in &assignable {
            let members = specs(None).iter().filter(|member| member.topics.contains(topic)).count();
            for index in partitions {
                let users = targets.iter().filter(|target| target.get(topic).is_some_and(|of| of.contains(index))).count();
                prop_assert!((users > 0) == (members > 0) && users <= members);
            }
        }
        for (member, target) in specs(None).iter().zip(&targets) {
            prop_assert!(target.keys().all(|topic| member.topics.contains(topic)));
        }
        if alike {
            let sizes = || targets.iter().map(|target| target.values().map(BTreeSet::len).sum::<usize>());
            prop_assert!(sizes().max() <= sizes().min().map(|least| least + 1));
        }
        prop_assert_eq!(assign(&specs(Some(&targets)), alike, &assignable), targets);
    }
}
