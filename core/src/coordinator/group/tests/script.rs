//! Golden scripts: `core/testscripts/group/*.script`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::world::{Event, World, first_join, group, instance, member, protocols};
use crate::coordinator::group::{
    Command, CommitPartition, CommitTopic, DeleteGroups, DescribeGroups, FetchTopic, Fetched, Generation, GroupConfig,
    GroupId, Heartbeat, JoinGroup, LeaveGroup, LeavingMember, ListGroups, OffsetCommit, OffsetDelete, OffsetFetch,
    ProtocolName, ProtocolType, Record, Reply, ReplyToken, SyncGroup,
};
use crate::coordinator::scripts::{self, ms};
use crate::types::{LeaderEpoch, Offset, TopicId, TopicName};

#[test]
fn scripts_hold() {
    scripts::hold("group", 10, play);
}

fn play(script: &str) -> String {
    let mut player = Player { world: World::new(configured(script)), labels: BTreeMap::new() };
    scripts::played(script, |line| player.play(line).iter().map(|event| player.show(event)).collect())
}

fn configured(script: &str) -> GroupConfig {
    let mut config = GroupConfig::default();
    for (key, value) in scripts::config(script) {
        match key {
            "initial-delay" => config.initial_rebalance_delay_ms = ms(value) as i32,
            "max-size" => config.group_size_max = value.parse().unwrap(),
            "retention" => config.offsets_retention_ms = ms(value) as i64,
            other => panic!("no setting {other}"),
        }
    }
    config
}

struct Player {
    world: World,
    /// Who waits for a token.
    labels: BTreeMap<ReplyToken, String>,
}

/// The words of a command after its verb: `key=value` and others.
struct Words<'a> {
    keys: BTreeMap<&'a str, &'a str>,
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(words: impl Iterator<Item = &'a str>) -> Self {
        let mut this = Self { keys: BTreeMap::new(), rest: Vec::new() };
        for word in words {
            // `t-0=5` is an offset, no key.
            match word.split_once('=') {
                Some((key, value)) if !key.contains('-') => {
                    this.keys.insert(key, value);
                }
                _ => this.rest.push(word),
            }
        }
        this
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.keys.get(key).copied()
    }

    fn group(&self) -> GroupId {
        group(self.get("group").unwrap_or("g"))
    }

    fn generation(&self) -> Generation {
        Generation(self.get("gen").map_or(-1, |text| text.parse().unwrap()))
    }

    fn first(&self) -> &'a str {
        self.rest.first().copied().unwrap_or_default()
    }
}

/// `t-0` to topic and partition.
fn partition(text: &str) -> (TopicName, i32) {
    let (topic, partition) = text.rsplit_once('-').unwrap();
    (TopicName::new(topic).unwrap(), partition.parse().unwrap())
}

/// A topic id of 16 times the number.
fn topic_id(text: Option<&str>) -> TopicId {
    text.map_or(TopicId::ZERO, |text| TopicId(uuid::Uuid::from_bytes([text.parse().unwrap(); 16])))
}

impl Player {
    fn play(&mut self, line: &str) -> Vec<Event> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap();
        let words = Words::new(words);
        match verb {
            "after" => return self.world.pass(ms(words.first())),
            "restart" => return self.world.restart(),
            _ => {}
        }
        let token = self.world.token();
        self.labels.insert(token, line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        let command = match verb {
            "join" => Command::JoinGroup(self.join(token, &words)),
            "sync" => Command::SyncGroup(sync(token, &words)),
            "heartbeat" => Command::Heartbeat(Heartbeat {
                token,
                group: words.group(),
                member: member(words.first()),
                instance: words.get("instance").map(instance),
                generation: words.generation(),
            }),
            "leave" => Command::LeaveGroup(leave(token, &words)),
            "commit" => Command::OffsetCommit(commit(token, &words)),
            "fetch" => Command::OffsetFetch(fetch(token, &words)),
            "forget" => Command::OffsetDelete(OffsetDelete {
                token,
                group: words.group(),
                topics: words.rest.iter().map(|text| partition(text)).map(|(t, p)| (t, vec![p])).collect(),
            }),
            "list" => {
                let filter = |key| words.get(key).into_iter().flat_map(|text| text.split(',')).map(str::to_owned);
                Command::ListGroups(ListGroups {
                    token,
                    states: filter("states").collect(),
                    types: filter("types").collect(),
                })
            }
            "describe" => Command::DescribeGroups(DescribeGroups {
                token,
                groups: words.rest.iter().map(|id| group(id)).collect(),
            }),
            "delete" => {
                Command::DeleteGroups(DeleteGroups { token, groups: words.rest.iter().map(|id| group(id)).collect() })
            }
            "topic-deleted" => {
                self.world.parked.remove(&token);
                let topic = (TopicName::new(words.first()).unwrap(), topic_id(words.get("id")));
                Command::TopicsDeleted { topics: Arc::new([topic]), after: None }
            }
            other => panic!("no command {other}"),
        };
        self.world.run(&command)
    }

    /// `join NAME [as=ID] [instance=I] [session=10s] [rebalance=30s] [type=consumer] [protocols=range:t] [v=9]`
    fn join(&mut self, token: ReplyToken, words: &Words<'_>) -> JoinGroup {
        // Who brings an id uses up none.
        let name = if words.get("as").is_some() { "unused" } else { words.first() };
        let default = first_join(&mut self.world, name);
        self.world.parked.remove(&default.token);
        let version: i16 = words.get("v").map_or(9, |text| text.parse().unwrap());
        JoinGroup {
            token,
            group: words.group(),
            member: words.get("as").map(member),
            instance: words.get("instance").map(instance),
            session_timeout_ms: words.get("session").map_or(10_000, |text| ms(text) as i32),
            rebalance_timeout_ms: words.get("rebalance").map_or(30_000, |text| ms(text) as i32),
            protocol_type: ProtocolType::new(words.get("type").unwrap_or("consumer")).unwrap(),
            protocols: protocols(words.get("protocols").unwrap_or("range:t")),
            known_member_required: version >= 4,
            skips_assignment: version >= 9,
            ..default
        }
    }

    fn show(&self, event: &Event) -> String {
        match event {
            Event::Logged(record) => format!("log   {}", show_record(record)),
            Event::Replied(token, reply) => format!("reply {}: {}", self.labels[token], show_reply(reply)),
        }
    }
}

/// `sync ID gen=1 [instance=I] [protocol=P] [type=T] [assign=a1:X,b1:Y]`
fn sync(token: ReplyToken, words: &Words<'_>) -> SyncGroup {
    let assignments = words.get("assign").into_iter().flat_map(|text| text.split(','));
    let assignments = assignments.map(|part| part.split_once(':').unwrap());
    SyncGroup {
        token,
        group: words.group(),
        member: member(words.first()),
        instance: words.get("instance").map(instance),
        generation: words.generation(),
        protocol_type: words.get("type").map(|text| ProtocolType::new(text).unwrap()),
        protocol: words.get("protocol").map(|text| ProtocolName::new(text).unwrap()),
        assignments: assignments.map(|(id, bytes)| (member(id), bytes.to_owned().into())).collect(),
    }
}

/// `leave ID ... [instance=I]`: without an id an operator removes the instance.
fn leave(token: ReplyToken, words: &Words<'_>) -> LeaveGroup {
    let instance = words.get("instance").map(instance);
    let mut members: Vec<LeavingMember> =
        words.rest.iter().map(|id| LeavingMember { member: Some(member(id)), instance: instance.clone() }).collect();
    if members.is_empty() {
        members.push(LeavingMember { member: None, instance });
    }
    LeaveGroup { token, group: words.group(), members }
}

/// `commit t-0=5 ... [by=ID gen=1] [instance=I] [retention=10s] [id=1] [epoch=3] [note=text]`
fn commit(token: ReplyToken, words: &Words<'_>) -> OffsetCommit {
    let topics = words.rest.iter().map(|text| {
        let (name, offset) = text.split_once('=').unwrap();
        let (name, partition) = partition(name);
        let partitions = vec![CommitPartition {
            partition,
            offset: Offset(offset.parse().unwrap()),
            leader_epoch: words.get("epoch").map(|text| LeaderEpoch(text.parse().unwrap())),
            metadata: words.get("note").unwrap_or_default().into(),
        }];
        CommitTopic { name, id: topic_id(words.get("id")), partitions }
    });
    OffsetCommit {
        token,
        group: words.group(),
        member: words.get("by").map(member),
        instance: words.get("instance").map(instance),
        generation: words.generation(),
        retention_ms: words.get("retention").map(|text| ms(text) as i64),
        knows_epochs: true,
        topics: topics.collect(),
    }
}

/// `fetch t-0 ... [id=1]` or `fetch all`
fn fetch(token: ReplyToken, words: &Words<'_>) -> OffsetFetch {
    let id = topic_id(words.get("id"));
    let topics = words.rest.iter().map(|text| {
        let (name, partition) = partition(text);
        FetchTopic { name, id, partitions: vec![partition] }
    });
    let topics = if words.rest == ["all"] { None } else { Some(topics.collect()) };
    OffsetFetch { token, group: words.group(), topics, require_stable: true, member: None, epoch: -1 }
}

fn show_record(record: &Record) -> String {
    match record {
        Record::Consumer { change, .. } => format!("{change:?}"),
        Record::Share { change, .. } => format!("{change:?}"),
        Record::Streams { change, .. } => format!("{change:?}"),
        Record::OffsetCommit { key, value } => {
            let name = format!("{} {}-{}", key.group, key.topic, key.partition);
            match value {
                None => format!("{name} gone"),
                Some(value) => {
                    let epoch = value.leader_epoch.map(|epoch| format!(" epoch {epoch}")).unwrap_or_default();
                    let note = if value.metadata.is_empty() { String::new() } else { format!(" {:?}", value.metadata) };
                    let expires = value.expires_at.map(|at| format!(" for {}ms", at.0 - value.committed_at.0));
                    format!("{name} = {}{epoch}{note}{}", value.offset, expires.unwrap_or_default())
                }
            }
        }
        Record::GroupMetadata { group, value: None } => format!("{group} gone"),
        Record::GroupMetadata { group, value: Some(value) } if value.members.is_empty() => {
            let protocol_type = value.protocol_type.as_ref().map_or("no protocol type", |name| name.as_str());
            format!("{group} generation {} empty, {protocol_type}", value.generation)
        }
        Record::GroupMetadata { group, value: Some(value) } => {
            let members = value
                .members
                .iter()
                .map(|member| format!("{}={}", member.id, String::from_utf8_lossy(&member.assignment)));
            let leader = value.leader.as_ref().unwrap();
            let members = members.collect::<Vec<_>>().join(" ");
            let protocol = value.protocol.as_ref().unwrap();
            format!("{group} generation {} {protocol}, {leader} leads, {members}", value.generation)
        }
    }
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::ConsumerHeartbeat(_) | Reply::DescribeConsumerGroups(_) | Reply::Share(_) | Reply::Streams(_) => {
            format!("{reply:?}")
        }
        Reply::JoinGroup(Ok(joined)) => {
            let members: Vec<&str> = joined.members.iter().map(|member| member.member.as_str()).collect();
            let members = if members.is_empty() { String::new() } else { format!(" [{}]", members.join(" ")) };
            let leader = joined.leader.as_ref().map_or("nobody", |leader| leader.as_str());
            let skip = if joined.skip_assignment { ", assigns nothing" } else { "" };
            let protocol = joined.protocol.as_ref().map_or("nothing", |name| name.as_str());
            format!("{} in generation {} {protocol}, {leader} leads{members}{skip}", joined.member, joined.generation)
        }
        Reply::JoinGroup(Err(refused)) => {
            let member = refused.member.as_ref().map_or("no id", |member| member.as_str());
            format!("{:?} ({member})", refused.error)
        }
        Reply::SyncGroup(Ok(synced)) => format!("assigned {:?}", String::from_utf8_lossy(&synced.assignment)),
        Reply::SyncGroup(Err(error)) => format!("{error:?}"),
        Reply::Heartbeat(result) => show_result(result),
        Reply::LeaveGroup(Ok(left)) => left.iter().map(|left| show_result(&left.result)).collect::<Vec<_>>().join(", "),
        Reply::LeaveGroup(Err(error)) => format!("{error:?}"),
        Reply::OffsetCommit(Ok(topics)) => {
            let results = topics.iter().flat_map(|topic| &topic.partitions).map(|(_, result)| show_result(result));
            results.collect::<Vec<_>>().join(", ")
        }
        Reply::OffsetCommit(Err(error)) => format!("{error:?}"),
        Reply::OffsetFetch(Err(error)) => format!("{error:?}"),
        Reply::OffsetFetch(Ok(topics)) => {
            let partitions = topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|(partition, fetched)| {
                    let fetched = match fetched {
                        Fetched::Nothing => "nothing".to_owned(),
                        Fetched::Unstable => "unstable".to_owned(),
                        Fetched::Offset(found) => {
                            let epoch = found.leader_epoch.map(|epoch| format!(" epoch {epoch}")).unwrap_or_default();
                            let note = if found.metadata.is_empty() { "" } else { " " };
                            format!("{}{epoch}{note}{}", found.offset, found.metadata)
                        }
                    };
                    format!("{}-{partition} {fetched}", topic.name)
                })
            });
            format!("[{}]", partitions.collect::<Vec<_>>().join(", "))
        }
        Reply::OffsetDelete(Ok(topics)) => {
            let results = topics.iter().flat_map(|topic| &topic.partitions).map(|(_, result)| show_result(result));
            results.collect::<Vec<_>>().join(", ")
        }
        Reply::OffsetDelete(Err(error)) => format!("{error:?}"),
        Reply::ListGroups(groups) => {
            let groups = groups.iter().map(|group| {
                let protocol_type = group.protocol_type.as_ref().map_or("-", |name| name.as_str());
                format!("{} {protocol_type} {}", group.group, group.state)
            });
            format!("[{}]", groups.collect::<Vec<_>>().join(", "))
        }
        Reply::DescribeGroups(groups) => {
            let groups = groups.iter().map(|(id, group)| match group {
                None => format!("{id} Dead"),
                Some(group) => {
                    let members = group.members.iter().map(|member| {
                        let name = member.instance.as_ref().map_or(String::new(), |instance| format!("({instance})"));
                        let assignment = String::from_utf8_lossy(&member.assignment);
                        format!(" {}{name}={assignment}/{}", member.member, member.metadata.len())
                    });
                    let protocol = group.protocol.as_ref().map_or("-", |name| name.as_str());
                    format!("{id} {} {protocol}{}", group.state.name(), members.collect::<String>())
                }
            });
            groups.collect::<Vec<_>>().join(", ")
        }
        Reply::DeleteGroups(groups) => {
            let groups = groups.iter().map(|(id, result)| format!("{id} {}", show_result(result)));
            groups.collect::<Vec<_>>().join(", ")
        }
    }
}

fn show_result<E: std::fmt::Debug>(result: &Result<(), E>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}
