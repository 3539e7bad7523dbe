//! Golden scripts: `core/testscripts/share_state/*.script`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::record::{Change, decode};
use super::{batch, key, show_batch};
use crate::coordinator::EncodedRecord;
use crate::coordinator::ids::ReplyToken;
use crate::coordinator::scripts;
use crate::coordinator::share_state::{
    Command, DeleteState, InitializeState, NOT_COUNTED, ReadState, ReadSummary, Reply, Shard, ShareState,
    ShareStateKey, WriteState,
};
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId, TopicName};

#[test]
fn scripts_hold() {
    scripts::hold("share_state", 6, |script| {
        let mut world = World::default();
        scripts::played(script, |line| world.carry_out(line))
    });
}

/// A shard over a log that keeps all, and topics that are gone.
#[derive(Default)]
struct World {
    shard: Shard,
    log: Vec<EncodedRecord>,
    gone: BTreeSet<TopicId>,
}

impl World {
    fn carry_out(&mut self, line: &str) -> Vec<String> {
        let mut words = line.split_whitespace();
        let (verb, rest): (_, Vec<&str>) = (words.next().unwrap(), words.collect());
        match verb {
            "failover" => {
                self.shard = Shard::default();
                for record in &self.log {
                    self.shard.replay_encoded(&record.key, record.value.as_deref()).unwrap();
                }
                Vec::new()
            }
            "compact" => {
                let last: BTreeMap<_, _> = self.log.drain(..).map(|record| (record.key.clone(), record)).collect();
                self.log = last.into_values().filter(|record| record.value.is_some()).collect();
                Vec::new()
            }
            "gone" => {
                let id = TopicId(uuid::Uuid::from_u128(rest[0].parse().unwrap()));
                self.gone.insert(id);
                let topics = Arc::from([(TopicName::new("t").unwrap(), id)]);
                self.run(&Command::TopicsDeleted { topics, after: None })
            }
            _ => self.run(&self.command(verb, &rest)),
        }
    }

    fn command(&self, verb: &str, rest: &[&str]) -> Command {
        let key = key(rest[0]);
        let is_known = !self.gone.contains(&key.topic) && key.partition < 10;
        let number = |name: &str| {
            let given = rest.iter().filter_map(|word| word.split_once('=')).find(|(of, _)| *of == name);
            given.map(|(_, value)| value.parse::<i64>().unwrap())
        };
        let state_epoch = number("epoch").map(|epoch| epoch as i32);
        let leader_epoch = number("leader").map(|epoch| LeaderEpoch(epoch as i32));
        let start = number("start").map(Offset);
        let token = ReplyToken(1);
        match verb {
            "initialize" => Command::Initialize(InitializeState { token, key, is_known, state_epoch, start }),
            "read" => Command::Read(ReadState { token, key, is_known, leader_epoch }),
            "write" => Command::Write(WriteState {
                token,
                key,
                is_known,
                state_epoch,
                leader_epoch,
                start,
                delivery_complete: number("done").map_or(NOT_COUNTED, |count| count as i32),
                batches: rest[1..].iter().filter(|word| !word.contains('=')).map(|word| batch(word)).collect(),
            }),
            "delete" => Command::Delete(DeleteState { token, key, is_known }),
            "summary" => Command::ReadSummary(ReadSummary { token, key, is_known }),
            other => panic!("no command: {other}"),
        }
    }

    fn run(&mut self, command: &Command) -> Vec<String> {
        let mut events = Vec::new();
        let mut next = Some(command.clone());
        while let Some(command) = next {
            let decision = self.shard.decide(Timestamp(1), &command);
            for record in decision.records() {
                events.push(show_record(&record));
                self.log.push(record);
            }
            let applied = self.shard.apply(decision);
            events.extend(applied.replies.iter().map(|(_, reply)| format!("=> {}", show_reply(reply))));
            next = applied.again;
        }
        self.check();
        events
    }

    /// What is loaded from the log is what is here.
    fn check(&self) {
        let mut loaded = Shard::default();
        for record in &self.log {
            loaded.replay_encoded(&record.key, record.value.as_deref()).unwrap();
        }
        assert_eq!(format!("{loaded:?}"), format!("{:?}", self.shard));
    }
}

fn show_record(record: &EncodedRecord) -> String {
    match decode(&record.key, record.value.as_deref()).unwrap() {
        Some(Change::Snapshot(key, None)) => format!("log {}: forgotten", show_key(&key)),
        Some(Change::Snapshot(key, Some(state))) => {
            format!("log {}: {} {}", show_key(&key), state.snapshot_epoch, show_state(&state))
        }
        other => panic!("it writes snapshots: {other:?}"),
    }
}

fn show_key(key: &ShareStateKey) -> String {
    format!("{}:{}:{}", key.group, key.topic.0.as_u128(), key.partition)
}

fn show_state(state: &ShareState) -> String {
    let batches: Vec<String> = state.batches.iter().map(show_batch).collect();
    let summary = show_summary(state.state_epoch, state.leader_epoch, state.start, state.delivery_complete);
    format!("{summary} [{}]", batches.join(" "))
}

fn show_summary(state_epoch: i32, leader_epoch: LeaderEpoch, start: Option<Offset>, done: i32) -> String {
    let start = start.map_or("none".to_owned(), |start| start.to_string());
    format!("epoch={state_epoch} leader={leader_epoch} start={start} done={done}")
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::Initialize(Ok(())) | Reply::Write(Ok(())) | Reply::Delete(Ok(())) => "ok".to_owned(),
        Reply::Read(Ok(state)) => show_state(state),
        Reply::ReadSummary(Ok(of)) => show_summary(of.state_epoch, of.leader_epoch, of.start, of.delivery_complete),
        Reply::Initialize(Err(e))
        | Reply::Read(Err(e))
        | Reply::Write(Err(e))
        | Reply::Delete(Err(e))
        | Reply::ReadSummary(Err(e)) => format!("{e:?}"),
    }
}
