//! A large group rebalances in a short time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{beat, join, surroundings, topics};
use crate::coordinator::group::consumer::{ConsumerState, Target, Topics};
use crate::coordinator::group::{Command, GroupConfig, MemberId, Reply, ReplyToken, Shard};
use crate::types::Timestamp;

const MEMBERS: usize = 1_000;
const TOPICS: usize = 10;
const PARTITIONS: usize = 1_000;
/// Some 1 s unoptimised on an idle machine (0.1 s optimised); the bound is for busy ones.
const TIME_MAX: Duration = Duration::from_secs(60);

struct Member {
    id: MemberId,
    epoch: i32,
    owned: Target,
}

struct Group {
    shard: Shard,
    now: Timestamp,
    members: Vec<Member>,
}

impl Group {
    fn carry_out(&mut self, command: &Command) -> Vec<Reply> {
        let decision = self.shard.decide(self.now, command);
        // What would be appended.
        let _bytes: usize = decision.records.iter().map(|record| record.encode().key.len()).sum();
        self.shard.apply(decision).replies.into_iter().map(|(_, reply)| reply).collect()
    }

    /// Every member says once what it has, and takes what it is told.
    fn round(&mut self) {
        self.now = self.now.plus_ms(1_000);
        for at in 0..self.members.len() {
            let member = &self.members[at];
            let mut said = beat(ReplyToken(0), "g", member.id.as_str(), member.epoch);
            said.owned = Some(member.owned.clone());
            let replies = self.carry_out(&Command::ConsumerHeartbeat(said));
            let [Reply::ConsumerHeartbeat(Ok(beaten))] = &replies[..] else { panic!("{replies:?}") };
            let member = &mut self.members[at];
            member.epoch = beaten.epoch;
            if let Some(assignment) = &beaten.assignment {
                member.owned = assignment.clone();
            }
        }
    }

    fn state(&self) -> ConsumerState {
        self.shard.groups["g"].consumer.as_ref().unwrap().state()
    }

    fn sizes(&self) -> (usize, usize) {
        let sizes = self.members.iter().map(|member| member.owned.values().map(|of| of.len()).sum::<usize>());
        (sizes.clone().min().unwrap(), sizes.max().unwrap())
    }

    fn settle(&mut self) {
        let mut rounds = 0;
        while self.state() != ConsumerState::Stable {
            self.round();
            rounds += 1;
            assert!(rounds < 10, "it does not settle: {:?}", self.state());
        }
    }
}

#[test]
fn a_thousand_members_share_ten_thousand_partitions_in_time() {
    let named: Vec<String> = (0..TOPICS).map(|at| format!("t{at}")).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    let counts: Vec<(&str, usize)> = named.iter().map(|name| (*name, PARTITIONS)).collect();
    let known = topics(1, &counts, &Topics::default());
    let mut group =
        Group { shard: Shard::new(Arc::new(GroupConfig::default())), now: Timestamp(1), members: Vec::new() };
    group.carry_out(&Command::SurroundingsChanged(surroundings(known)));
    let begun = Instant::now();
    for at in 0..MEMBERS {
        let id = format!("m{at:04}");
        let replies = group.carry_out(&Command::ConsumerHeartbeat(join(ReplyToken(0), "g", &id, &named)));
        let [Reply::ConsumerHeartbeat(Ok(beaten))] = &replies[..] else { panic!("{replies:?}") };
        let owned = beaten.assignment.clone().unwrap_or_default();
        group.members.push(Member { id: beaten.member.clone(), epoch: beaten.epoch, owned });
    }
    group.settle();
    let joined = begun.elapsed();
    assert_eq!(group.sizes(), (10, 10));
    // A member goes, and all that it had goes to the others.
    let begun = Instant::now();
    let gone = group.members.pop().unwrap();
    group.carry_out(&Command::ConsumerHeartbeat(beat(ReplyToken(0), "g", gone.id.as_str(), -1)));
    group.settle();
    let left = begun.elapsed();
    assert_eq!(group.sizes(), (10, 11));
    println!("{MEMBERS} members joined in {joined:?}; one left: {left:?}");
    assert!(joined < TIME_MAX && left < TIME_MAX, "{joined:?}, {left:?}");
}
