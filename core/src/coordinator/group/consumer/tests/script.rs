//! Golden scripts: `core/testscripts/consumer/*.script`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::super::super::tests::world::{Event, World, first_join};
use super::{beat, names, surroundings, topic_id, topics};
use crate::coordinator::group::consumer::{Assigned, Target};
use crate::coordinator::group::{
    Command, CommitPartition, CommitTopic, ConsumerChange, ConsumerHeartbeat, DeleteGroups, DescribeGroups, Effect,
    Generation, GroupConfig, GroupId, Heartbeat, InstanceId, JoinGroup, LeaveGroup, LeavingMember, ListGroups,
    MemberId, OffsetCommit, OffsetFetch, Pattern, PatternsResolved, Protocol, ProtocolName, ProtocolType, Record,
    Reply, SyncGroup,
};
use crate::coordinator::scripts;
use crate::types::{Offset, TopicName};

#[test]
fn scripts_hold() {
    scripts::hold("consumer", 5, |script| {
        let mut world = World::new(configured(script));
        scripts::played(script, |line| carry_out(&mut world, line).iter().map(show).collect())
    });
}

fn configured(script: &str) -> GroupConfig {
    let mut config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
    // Every change is assigned at once, unless a story is about that.
    config.consumer.assignment_interval_ms = 0;
    for (key, value) in scripts::config(script) {
        match key {
            "max-size" => config.consumer.group_size_max = value.parse().unwrap(),
            "interval" => config.consumer.assignment_interval_ms = value.parse().unwrap(),
            "upgrade" => config.consumer.migration.upgrade = value == "yes",
            "downgrade" => config.consumer.migration.downgrade = value == "yes",
            other => panic!("no setting {other}"),
        }
    }
    config
}

fn keys(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_whitespace().filter_map(|word| word.split_once('='))
}

struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Words<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    fn number(&self, key: &str) -> Option<i32> {
        self.get(key).map(|text| text.parse().unwrap())
    }

    fn instance(&self) -> Option<InstanceId> {
        self.get("instance").map(|name| InstanceId::new(name).unwrap())
    }

    fn group(&self) -> GroupId {
        GroupId::new(self.get("group").unwrap_or("g")).unwrap()
    }
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').filter(|word| !word.is_empty()).collect()
}

/// `a:0,1;b:2`
fn partitions(text: &str) -> Target {
    let topic = |part: &str| {
        let (name, partitions) = part.split_once(':').unwrap();
        (topic_id(name), list(partitions).iter().map(|index| index.parse().unwrap()).collect())
    };
    text.split(';').filter(|part| !part.is_empty()).map(topic).collect()
}

fn carry_out(world: &mut World, line: &str) -> Vec<Event> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let who = rest.split_whitespace().next().unwrap_or_default();
    let words = Words(keys(rest).collect());
    let token = world.token();
    let member = || MemberId::new(who).unwrap();
    let command = match verb {
        "topics" => {
            let known: Vec<(&str, usize)> = rest
                .split_whitespace()
                .filter_map(|word| word.split_once(':'))
                .map(|(n, c)| (n, c.parse().unwrap()))
                .collect();
            let before = world.shard.surroundings.topics.clone();
            Command::SurroundingsChanged(surroundings(topics(before.version() + 1, &known, &before)))
        }
        "beat" | "join" => {
            let joins = verb == "join";
            let owned = words.get("owned").map(partitions).or(joins.then(Target::new));
            Command::ConsumerHeartbeat(ConsumerHeartbeat {
                epoch: words.number("epoch").unwrap_or(0),
                instance: words.instance(),
                rebalance_timeout_ms: words.number("timeout").or(joins.then_some(30_000)),
                topics: words.get("topics").map(|text| names(&list(text))),
                pattern: words.get("pattern").map(|text| Pattern {
                    text: text.into(),
                    invalid: text.contains('(').then(|| "unclosed group".into()),
                }),
                assignor: words.get("assignor").map(Into::into),
                owned,
                group: words.group(),
                ..beat(token, "g", who, 0)
            })
        }
        "resolve" => return resolve(world),
        "after" => return world.pass(rest.trim_end_matches('s').parse::<u64>().unwrap() * 1_000),
        "restart" => return world.restart(),
        "classic-join" => {
            let has_id = words.get("new").is_none();
            let said = words.get("topics").map(list).unwrap_or_default();
            let first = first_join(world, who);
            Command::JoinGroup(JoinGroup {
                token,
                member: has_id.then(member),
                fresh_member: member(),
                instance: words.instance(),
                protocols: [Protocol {
                    name: ProtocolName::new(words.get("protocol").unwrap_or("range")).unwrap(),
                    metadata: subscription(&said, &words.get("owned").map(|text| owned(text)).unwrap_or_default()),
                }]
                .into(),
                ..first
            })
        }
        "classic-sync" => Command::SyncGroup(SyncGroup {
            token,
            group: words.group(),
            member: member(),
            instance: words.instance(),
            generation: Generation(words.number("generation").unwrap()),
            protocol_type: ProtocolType::new("consumer").ok(),
            protocol: ProtocolName::new("range").ok(),
            assignments: words.get("assign").map(|text| (member(), assignment(&owned(text)))).into_iter().collect(),
        }),
        "classic-beat" => Command::Heartbeat(Heartbeat {
            token,
            group: words.group(),
            member: member(),
            instance: words.instance(),
            generation: Generation(words.number("generation").unwrap()),
        }),
        "classic-leave" => Command::LeaveGroup(LeaveGroup {
            token,
            group: words.group(),
            members: vec![LeavingMember { member: Some(member()), instance: words.instance() }],
        }),
        "commit" => Command::OffsetCommit(OffsetCommit {
            token,
            group: words.group(),
            member: (who != "-").then(member),
            instance: None,
            generation: Generation(words.number("epoch").unwrap_or(-1)),
            retention_ms: None,
            knows_epochs: words.get("old").is_none(),
            topics: vec![CommitTopic {
                name: TopicName::new("a").unwrap(),
                id: topic_id("a"),
                partitions: list(words.get("of").unwrap())
                    .iter()
                    .map(|index| CommitPartition {
                        partition: index.parse().unwrap(),
                        offset: Offset(7),
                        leader_epoch: None,
                        metadata: "".into(),
                    })
                    .collect(),
            }],
        }),
        "fetch" => Command::OffsetFetch(OffsetFetch {
            token,
            group: words.group(),
            topics: None,
            require_stable: false,
            member: (who != "-").then(member),
            epoch: words.number("epoch").unwrap_or(-1),
        }),
        "list" => Command::ListGroups(ListGroups { token, states: Vec::new(), types: Vec::new() }),
        "describe" => Command::DescribeConsumerGroups(DescribeGroups { token, groups: vec![words.group()] }),
        "delete" => Command::DeleteGroups(DeleteGroups { token, groups: vec![words.group()] }),
        other => panic!("no command {other}"),
    };
    world.run(&command)
}

/// The patterns end in `*`, which stands for anything.
fn resolve(world: &mut World) -> Vec<Event> {
    let mut events = Vec::new();
    for effect in std::mem::take(&mut world.effects) {
        let Effect::ResolvePatterns { group, patterns, topics } = effect else { panic!("{effect:?}") };
        let matching = |pattern: &str| -> BTreeSet<_> {
            let start = pattern.trim_end_matches('*');
            topics.names().filter(|name| name.starts_with(start)).cloned().collect()
        };
        let patterns = patterns.iter().map(|pattern| (pattern.clone(), matching(pattern).into())).collect();
        let result = PatternsResolved { group, patterns, version: topics.version(), at: world.now() };
        events.extend(world.run(&Command::PatternsResolved(result)));
    }
    events
}

fn owned(text: &str) -> Vec<(&str, Vec<i32>)> {
    let topic = |part| {
        let (name, partitions): (&str, &str) = str::split_once(part, ':').unwrap();
        (name, list(partitions).iter().map(|index| index.parse().unwrap()).collect())
    };
    text.split(';').filter(|part| !part.is_empty()).map(topic).collect()
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as i16).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn push_partitions(bytes: &mut Vec<u8>, owned: &[(&str, Vec<i32>)]) {
    bytes.extend_from_slice(&(owned.len() as i32).to_be_bytes());
    for (topic, partitions) in owned {
        push_text(bytes, topic);
        bytes.extend_from_slice(&(partitions.len() as i32).to_be_bytes());
        partitions.iter().for_each(|index| bytes.extend_from_slice(&index.to_be_bytes()));
    }
}

/// Version 1.
fn subscription(topics: &[&str], owned: &[(&str, Vec<i32>)]) -> bytes::Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend_from_slice(&(topics.len() as i32).to_be_bytes());
    topics.iter().for_each(|topic| push_text(&mut bytes, topic));
    bytes.extend_from_slice(&[0xff; 4]);
    push_partitions(&mut bytes, owned);
    bytes.into()
}

fn assignment(owned: &[(&str, Vec<i32>)]) -> bytes::Bytes {
    let mut bytes = vec![0, 1];
    push_partitions(&mut bytes, owned);
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.into()
}

pub(in super::super::super) fn show_target(target: &Target) -> String {
    let topic = |(id, partitions): (&crate::types::TopicId, &BTreeSet<i32>)| {
        let partitions: Vec<String> = partitions.iter().map(i32::to_string).collect();
        format!("{}:{}", name_of(*id), partitions.join(","))
    };
    let topics: Vec<String> = target.iter().map(topic).collect();
    format!("[{}]", topics.join(" "))
}

/// Each partition with the epoch that it was given at.
fn show_assigned(assigned: &Assigned) -> String {
    let topic = |(id, partitions): (&crate::types::TopicId, &BTreeMap<i32, i32>)| {
        let partitions: Vec<String> = partitions.iter().map(|(index, epoch)| format!("{index}@{epoch}")).collect();
        format!("{}:{}", name_of(*id), partitions.join(","))
    };
    let topics: Vec<String> = assigned.iter().map(topic).collect();
    format!("[{}]", topics.join(" "))
}

fn name_of(id: crate::types::TopicId) -> String {
    id.0.as_bytes().iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

fn show(event: &Event) -> String {
    match event {
        Event::Logged(record) => format!("log {}", show_record(record)),
        Event::Replied(_, reply) => format!("reply {}", show_reply(reply)),
    }
}

fn show_record(record: &Record) -> String {
    let gone = || "gone".to_owned();
    match record {
        Record::Consumer { change, .. } => match change {
            ConsumerChange::Group(epoch) => format!("epoch {}", epoch.map_or_else(gone, |of| of.epoch.to_string())),
            ConsumerChange::PartitionsGone => "partitions gone".to_owned(),
            ConsumerChange::Member(id, said) => {
                let said = said.as_ref().map_or_else(gone, |said| {
                    let named: Vec<&str> = said.topics.iter().map(|name| &**name).collect();
                    let pattern = said.pattern().map(|pattern| format!(" pattern {pattern}")).unwrap_or_default();
                    let classic = if said.classic.is_some() { " classic" } else { "" };
                    format!("[{}]{pattern}{classic}", named.join(" "))
                });
                format!("member {id} {said}")
            }
            ConsumerChange::TargetEpoch(epoch) => {
                format!("target epoch {}", epoch.map_or_else(gone, |of| of.epoch.to_string()))
            }
            ConsumerChange::Target(id, target) => {
                format!("target {id} {}", target.as_ref().map_or_else(gone, |target| show_target(target)))
            }
            ConsumerChange::Current(id, current) => {
                let current = current.as_ref().map_or_else(gone, |of| {
                    let (has, gives) = (show_assigned(&of.assigned), show_assigned(&of.revoking));
                    format!("epoch {} after {} {:?} has {has} gives {gives}", of.epoch, of.previous_epoch, of.state)
                });
                format!("current {id} {current}")
            }
            ConsumerChange::Pattern(pattern, resolved) => {
                let named = resolved.as_ref().map_or_else(gone, |resolved| {
                    let named: Vec<&str> = resolved.topics.iter().map(|name| &**name).collect();
                    format!("[{}]", named.join(" "))
                });
                format!("pattern {pattern} {named}")
            }
        },
        Record::Share { change, .. } => format!("{change:?}"),
        Record::Streams { change, .. } => format!("{change:?}"),
        Record::GroupMetadata { value: None, .. } => "classic gone".to_owned(),
        Record::GroupMetadata { value: Some(value), .. } => {
            let ids: Vec<&str> = value.members.iter().map(|member| member.id.as_str()).collect();
            format!("classic generation {} [{}]", value.generation, ids.join(" "))
        }
        Record::OffsetCommit { key, value } => {
            let offset = value.as_ref().map_or_else(gone, |value| value.offset.0.to_string());
            format!("offset {}-{} {offset}", key.topic, key.partition)
        }
    }
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::ConsumerHeartbeat(Ok(beaten)) => {
            let has = beaten.assignment.as_ref().map(|target| format!(" has {}", show_target(target)));
            format!("{} epoch {}{}", beaten.member, beaten.epoch, has.unwrap_or_default())
        }
        Reply::ConsumerHeartbeat(Err(refused)) => format!("{:?}", refused.error),
        Reply::JoinGroup(Ok(joined)) => {
            let leads = joined.leader.as_ref().map_or("nobody", |leader| leader.as_str());
            format!("{} generation {} led by {leads}", joined.member, joined.generation)
        }
        Reply::JoinGroup(Err(refused)) => format!("{:?} {:?}", refused.error, refused.member),
        Reply::SyncGroup(Ok(synced)) => format!("synced {:02x?}", &synced.assignment[..]),
        Reply::DescribeConsumerGroups(groups) => {
            let mut text = String::new();
            for (id, group) in groups {
                let Some(Some(group)) = group else { return format!("{id} is none") };
                let (state, epoch, target) = (group.state.name(), group.epoch, group.target_epoch);
                write!(text, "{id} {state} epoch {epoch} target {target} {}", group.assignor.name()).unwrap();
                for member in &group.members {
                    let has: Vec<String> =
                        member.assigned.iter().map(|topic| format!("{}{:?}", topic.name, topic.partitions)).collect();
                    write!(text, "; {} epoch {} {}", member.member, member.epoch, has.join(" ")).unwrap();
                }
            }
            text
        }
        Reply::ListGroups(groups) => {
            let group = |group: &crate::coordinator::group::ListedGroup| {
                format!("{} {} {}", group.group, group.kind.name(), group.state)
            };
            groups.iter().map(group).collect::<Vec<_>>().join(", ")
        }
        Reply::OffsetCommit(Ok(_)) => "committed".to_owned(),
        Reply::OffsetCommit(Err(error)) => format!("{error:?}"),
        Reply::OffsetFetch(Ok(topics)) => format!("fetched {}", topics.len()),
        other => format!("{other:?}"),
    }
}
