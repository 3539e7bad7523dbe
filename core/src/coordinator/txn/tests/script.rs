//! Golden scripts: `core/testscripts/txn/*.script`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::world::{Event, World, id, partition, producer};
use crate::coordinator::scripts::{self, ms};
use crate::coordinator::txn::record::encode;
use crate::coordinator::txn::{
    AddPartitions, Command, DescribeTransactions, EndTransaction, InitProducerId, ListTransactions, Markers, Producer,
    Reply, Transaction, TransactionConfig, TransactionState, TransactionVersion, VerifyPartitions,
};
use crate::types::{ProducerEpoch, ProducerId, TopicPartition};

#[test]
fn scripts_hold() {
    scripts::hold("txn", 8, |script| {
        let mut world = World::new(TransactionConfig::default());
        scripts::played(script, |line| carry_out(&mut world, line).iter().map(show).collect())
    });
}

/// The words of a command after its verb: the id, `key=value` and others.
struct Words<'a> {
    keys: BTreeMap<&'a str, &'a str>,
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(words: impl Iterator<Item = &'a str>) -> Self {
        let (mut keys, mut rest) = (BTreeMap::new(), Vec::new());
        for word in words {
            match word.split_once('=') {
                Some((key, value)) => _ = keys.insert(key, value),
                None => rest.push(word),
            }
        }
        Self { keys, rest }
    }

    fn id(&self) -> &'a str {
        self.rest[0]
    }

    fn partitions(&self) -> BTreeSet<TopicPartition> {
        self.rest[1..].iter().map(|name| partition(name)).collect()
    }

    fn version(&self) -> TransactionVersion {
        TransactionVersion(self.keys.get("v").map_or(2, |version| version.parse().unwrap()))
    }

    /// `by=ID:EPOCH`; without it whoever is the producer.
    fn producer(&self, world: &World) -> Producer {
        self.keys.get("by").map_or_else(
            || world.of(self.id()).map_or(producer(1, 0), |t| Producer { id: t.producer_id, epoch: t.producer_epoch }),
            |by| read_producer(by),
        )
    }
}

fn read_producer(text: &str) -> Producer {
    let (id, epoch) = text.split_once(':').unwrap();
    producer(id.parse().unwrap(), epoch.parse().unwrap())
}

fn carry_out(world: &mut World, line: &str) -> Vec<Event> {
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap();
    let words = Words::new(words);
    let token = world.token();
    let command = match verb {
        "init" => Command::InitProducerId(InitProducerId {
            token,
            id: id(words.id()),
            timeout_ms: words.keys.get("timeout").map_or(60_000, |time| ms(time) as i32),
            expected: words.keys.get("as").map(|text| read_producer(text)),
            fresh: None,
        }),
        "add" => Command::AddPartitions(AddPartitions {
            token,
            id: id(words.id()),
            producer: words.producer(world),
            partitions: words.partitions(),
            client_version: words.version(),
        }),
        "verify" => Command::VerifyPartitions(VerifyPartitions {
            token,
            id: id(words.id()),
            producer: words.producer(world),
            partitions: words.partitions(),
        }),
        "commit" | "abort" => Command::EndTransaction(EndTransaction {
            token,
            id: id(words.id()),
            producer: words.producer(world),
            commit: verb == "commit",
            client_version: words.version(),
            fresh: None,
        }),
        "describe" => Command::DescribeTransactions(DescribeTransactions { token, ids: vec![id(words.id())] }),
        "list" => Command::ListTransactions(list(token, &words)),
        "written" => {
            let at = world.to_write.iter().position(|markers| markers.id.as_str() == words.id());
            let Some(at) = at else { return Vec::new() };
            let Markers { id, producer, .. } = world.to_write.remove(at);
            let producer = words.keys.get("by").map_or(producer, |by| read_producer(by));
            Command::MarkersWritten { id, producer }
        }
        "after" => {
            let mut events = world.pass(ms(words.id()));
            events.extend(world.commit(world.log.len()));
            return events;
        }
        "failover" => {
            let mut events = world.fail_over(world.log.len());
            events.extend(world.commit(world.log.len()));
            return events;
        }
        "level" => {
            world.version = TransactionVersion(words.id().parse().unwrap());
            return Vec::new();
        }
        "epoch" => {
            let epoch = ProducerEpoch(words.rest[1].parse().unwrap());
            let to = Transaction { producer_epoch: epoch, ..world.of(words.id()).unwrap().clone() };
            world.replay(encode(&id(words.id()), Some(&to), world.version));
            return Vec::new();
        }
        other => panic!("no command: {other}"),
    };
    world.carry_out(&command)
}

fn list(token: crate::coordinator::ids::ReplyToken, words: &Words<'_>) -> ListTransactions {
    let state = |name: &str| TransactionState::ALL.into_iter().find(|state| state.name() == name).unwrap();
    ListTransactions {
        token,
        producer_ids: words
            .keys
            .get("id")
            .map(|ids| ids.split(',').map(|id| ProducerId(id.parse().unwrap())).collect()),
        states: words.keys.get("state").map(|names| names.split(',').map(state).collect()),
        longer_than_ms: words.keys.get("longer").map_or(-1, |time| ms(time) as i64),
    }
}

fn show(event: &Event) -> String {
    match event {
        Event::Logged(id, None) => format!("log {id}: forgotten"),
        Event::Logged(id, Some(transaction)) => format!("log {id}: {}", show_transaction(transaction)),
        Event::Replied(_, reply) => format!("=> {}", show_reply(reply)),
        Event::Marked(Markers { id, producer, commit, partitions, client_version }) => {
            let outcome = if *commit { "commit" } else { "abort" };
            let (who, partitions) = (show_producer(producer), show_partitions(partitions));
            format!("markers of {id}: {outcome} {who} {partitions} v{}", client_version.0)
        }
    }
}

fn show_transaction(transaction: &Transaction) -> String {
    let who = Producer { id: transaction.producer_id, epoch: transaction.producer_epoch };
    let mut text = format!("{} {}", transaction.state.name(), show_producer(&who));
    if let Some(previous) = transaction.previous_producer_id.filter(|id| *id != transaction.producer_id) {
        write!(text, " before {previous}").unwrap();
    }
    if let Some(next) = transaction.next_producer_id {
        write!(text, " next {next}").unwrap();
    }
    if transaction.state == TransactionState::Ongoing {
        write!(text, " {}", show_partitions(&transaction.partitions)).unwrap();
    }
    text
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::InitProducerId(Ok(producer)) | Reply::EndTransaction(Ok(Some(producer))) => show_producer(producer),
        Reply::AddPartitions(Ok(())) | Reply::EndTransaction(Ok(None)) => "ok".to_owned(),
        Reply::VerifyPartitions(Ok(verified)) => {
            let each = verified
                .iter()
                .map(|v| format!("{}: {}", v.partition, if v.is_in_transaction { "in" } else { "not in" }));
            each.collect::<Vec<_>>().join(", ")
        }
        Reply::InitProducerId(Err(e))
        | Reply::AddPartitions(Err(e))
        | Reply::VerifyPartitions(Err(e))
        | Reply::EndTransaction(Err(e)) => format!("{e:?}"),
        Reply::DescribeTransactions(described) => {
            let each = described.iter().map(|(id, found)| match found {
                None => format!("{id}: none"),
                Some(found) => {
                    let (who, partitions) = (show_producer(&found.producer), show_partitions(&found.partitions));
                    let started = if found.started_at.is_some() { "started" } else { "not started" };
                    format!("{id}: {} {who} {}ms {started} {partitions}", found.state.name(), found.timeout_ms)
                }
            });
            each.collect::<Vec<_>>().join(", ")
        }
        Reply::ListTransactions(listed) => {
            let each = listed.iter().map(|row| format!("{} {} {}", row.id, row.producer_id, row.state.name()));
            format!("[{}]", each.collect::<Vec<_>>().join(", "))
        }
        Reply::ProducerIdNeeded => unreachable!("the world gives it"),
    }
}

fn show_producer(producer: &Producer) -> String {
    format!("{}:{}", producer.id, producer.epoch)
}

fn show_partitions(partitions: &BTreeSet<TopicPartition>) -> String {
    let names: Vec<String> = partitions.iter().map(TopicPartition::to_string).collect();
    format!("[{}]", names.join(" "))
}
