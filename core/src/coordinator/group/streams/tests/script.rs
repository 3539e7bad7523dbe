//! Golden scripts: `core/testscripts/streams/*.script`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::super::command::{
    Command, CommitPartition, CommitTopic, DeleteGroups, DescribeGroups, ListGroups, OffsetCommit, OffsetDelete,
    OffsetFetch,
};
use super::super::super::config::GroupConfig;
use super::super::super::consumer::GroupSettings;
use super::super::super::consumer::tests::{surroundings, topic_id, topics};
use super::super::super::ids::{Generation, GroupId, MemberId, ReplyToken};
use super::super::super::record::{Record, StreamsChange};
use super::super::super::reply::Reply;
use super::super::super::tests::world::{Event, World, first_join};
use super::super::{
    DescribedStreamsGroup, DescribedTopology, Endpoint, EndpointPartitions, HeldTasks, StreamsBeaten, StreamsCommand,
    StreamsHeartbeat, StreamsReply, StreamsSettings, TopicInfo, Topology,
};
use super::{beat, join, list, show_tasks, tasks, topology};
use crate::coordinator::scripts;
use crate::types::{Offset, TopicName};

#[test]
fn scripts_hold() {
    scripts::hold("streams", 8, |script| {
        let mut story = Story { world: World::new(configured(script)), topology: topology(0, "0;src=a") };
        scripts::played(script, |line| story.carry_out(line).iter().map(show).collect())
    });
}

/// Nothing waits but where a script says so.
fn configured(script: &str) -> GroupConfig {
    let mut config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
    config.streams.assignment_interval_ms = 0;
    config.streams.initial_rebalance_delay_ms = 0;
    for (key, value) in scripts::config(script) {
        match key {
            "max-size" => config.streams.group_size_max = value.parse().unwrap(),
            "interval" => config.streams.assignment_interval_ms = value.parse().unwrap(),
            "delay" => config.streams.initial_rebalance_delay_ms = value.parse().unwrap(),
            "standbys" => config.streams.num_standby_replicas = value.parse().unwrap(),
            other => panic!("no setting {other}"),
        }
    }
    config
}

struct Story {
    world: World,
    /// What members bring when they join.
    topology: Arc<Topology>,
}

type Words<'a> = BTreeMap<&'a str, &'a str>;

impl Story {
    fn carry_out(&mut self, line: &str) -> Vec<Event> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let who = rest.split_whitespace().next().unwrap_or_default();
        let words: Words<'_> = rest.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        let token = self.world.token();
        let group = || GroupId::new(words.get("group").unwrap_or(&"g")).unwrap();
        let command = match verb {
            "topics" => self.topics(rest),
            "settings" => self.settings(&words),
            "topology" => {
                let (epoch, text) = rest.split_once(' ').unwrap();
                self.topology = topology(epoch.parse().unwrap(), text);
                return Vec::new();
            }
            "join" => {
                let process = words.get("process").unwrap_or(&who);
                Command::Streams(heard(join(token, who, process, &self.topology), &words))
            }
            "beat" => Command::Streams(heard(beat(token, who, 0), &words)),
            "leave" => Command::Streams(heard(beat(token, who, -1), &words)),
            "classic-join" => Command::JoinGroup(first_join(&mut self.world, who)),
            "consumer-join" => {
                Command::ConsumerHeartbeat(super::super::super::consumer::tests::join(token, "g", who, &["a"]))
            }
            "commit" => Command::OffsetCommit(commit(token, who, &words)),
            "txn-commit" => Command::TransactionalCommit(commit(token, who, &words)),
            "fetch" => Command::OffsetFetch(OffsetFetch {
                token,
                group: group(),
                topics: None,
                require_stable: false,
                member: MemberId::new(who).ok().filter(|member| member.as_str() != "nobody"),
                epoch: words.get("epoch").map_or(-1, |text| text.parse().unwrap()),
            }),
            "delete-offsets" => {
                let topics = list(who).map(|name| (TopicName::new(name).unwrap(), vec![0])).collect();
                Command::OffsetDelete(OffsetDelete { token, group: group(), topics })
            }
            "describe" => Command::Streams(StreamsCommand::Describe(DescribeGroups { token, groups: vec![group()] })),
            "delete" => Command::DeleteGroups(DeleteGroups { token, groups: vec![group()] }),
            "list" => Command::ListGroups(ListGroups { token, states: Vec::new(), types: Vec::new() }),
            "after" => return self.world.pass(scripts::ms(rest)),
            "restart" => return self.world.restart(),
            other => panic!("no command {other}"),
        };
        self.world.run(&command)
    }

    fn topics(&self, rest: &str) -> Command {
        let known = rest.split_whitespace().filter_map(|word| word.split_once(':'));
        let known: Vec<(&str, usize)> = known.map(|(name, count)| (name, count.parse().unwrap())).collect();
        let before = &self.world.shard.surroundings;
        let topics = topics(before.topics.version() + 1, &known, &before.topics);
        let mut now = surroundings(topics);
        now.groups = Arc::clone(&before.groups);
        Command::SurroundingsChanged(now)
    }

    fn settings(&self, words: &Words<'_>) -> Command {
        let int = |name: &str| words.get(name).map(|text| text.parse().unwrap());
        let streams = StreamsSettings {
            session_timeout_ms: int("session"),
            heartbeat_interval_ms: int("heartbeat"),
            assignment_interval_ms: int("interval"),
            initial_rebalance_delay_ms: int("delay"),
            num_standby_replicas: int("standbys"),
        };
        let mut now = self.world.shard.surroundings.clone();
        now.groups =
            Arc::new(BTreeMap::from([("g".to_owned(), GroupSettings { streams, ..GroupSettings::default() })]));
        Command::SurroundingsChanged(now)
    }
}

fn heard(beat: StreamsHeartbeat, words: &Words<'_>) -> StreamsCommand {
    let int = |name: &str, or: i32| words.get(name).map_or(or, |text| text.parse().unwrap());
    let endpoint = words.get("endpoint").map(|text| {
        let (host, port) = text.split_once(':').unwrap();
        Endpoint { host: host.into(), port: port.parse().unwrap() }
    });
    StreamsCommand::Heartbeat(Box::new(StreamsHeartbeat {
        epoch: int("epoch", beat.epoch),
        endpoint_epoch: int("knows", 0),
        group: GroupId::new(words.get("group").unwrap_or(&"g")).unwrap(),
        owned: words.get("owns").map(|text| tasks(text)).or(beat.owned),
        shutdown: words.contains_key("shutdown"),
        endpoint,
        ..beat
    }))
}

fn commit(token: ReplyToken, who: &str, words: &Words<'_>) -> OffsetCommit {
    let topic = |text: &str| {
        let (name, partition) = text.split_once(':').unwrap();
        let partition = CommitPartition {
            partition: partition.parse().unwrap(),
            offset: Offset(7),
            leader_epoch: None,
            metadata: "".into(),
        };
        CommitTopic { name: TopicName::new(name).unwrap(), id: topic_id(name), partitions: vec![partition] }
    };
    OffsetCommit {
        token,
        group: GroupId::new("g").unwrap(),
        member: MemberId::new(who).ok().filter(|member| member.as_str() != "nobody"),
        instance: None,
        generation: Generation(words.get("epoch").map_or(-1, |text| text.parse().unwrap())),
        retention_ms: None,
        knows_epochs: !words.contains_key("old"),
        topics: list(words["of"]).map(topic).collect(),
    }
}

fn show(event: &Event) -> String {
    match event {
        Event::Logged(record) => format!("log {}", show_record(record)),
        Event::Replied(_, reply) => format!("reply {}", show_reply(reply)),
    }
}

fn show_record(record: &Record) -> String {
    let gone = || "gone".to_owned();
    let change = match record {
        Record::Streams { change, .. } => change,
        Record::GroupMetadata { value: None, .. } => return "classic group gone".to_owned(),
        Record::GroupMetadata { .. } => return "classic group".to_owned(),
        Record::OffsetCommit { key, value } => {
            let value = value.as_ref().map_or_else(gone, |of| of.offset.0.to_string());
            return format!("offset {}:{} {value}", key.topic, key.partition);
        }
        other => return format!("{other:?}"),
    };
    match change {
        StreamsChange::Group(None) => "group gone".to_owned(),
        StreamsChange::Group(Some(of)) => {
            let configs: Vec<String> = of.configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let (validated, configs) = (of.validated_topology_epoch, configs.join(" "));
            format!("epoch {} validated {validated} {configs}", of.epoch)
        }
        StreamsChange::Member(id, None) => format!("member {id} gone"),
        StreamsChange::Member(id, Some(said)) => {
            let endpoint = said.endpoint.as_ref().map(|of| format!(" at {}:{}", of.host, of.port));
            format!("member {id} of {}{} topology {}", said.process, endpoint.unwrap_or_default(), said.topology_epoch)
        }
        StreamsChange::TargetEpoch(epoch) => {
            format!("target epoch {}", epoch.map_or_else(gone, |of| of.epoch.to_string()))
        }
        StreamsChange::Target(id, target) => {
            format!("target {id} {}", target.as_ref().map_or_else(gone, |target| show_tasks(target)))
        }
        StreamsChange::Current(id, None) => format!("current {id} gone"),
        StreamsChange::Current(id, Some(of)) => {
            let gives_up =
                if of.revoking.is_empty() { String::new() } else { format!(" gives up {}", show_held(&of.revoking)) };
            let (epoch, previous, state) = (of.epoch, of.previous_epoch, of.state);
            format!("current {id} epoch {epoch} after {previous} {state:?} has {}{gives_up}", show_held(&of.assigned))
        }
        StreamsChange::Topology(topology) => {
            let topology =
                topology.as_ref().map_or_else(gone, |of| format!("{} {:?}", of.epoch, of.subtopologies.keys()));
            format!("topology {topology}")
        }
    }
}

fn show_held(held: &HeldTasks) -> String {
    show_tasks(&held.plain())
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::Streams(StreamsReply::Heartbeat(Ok(beaten))) => show_beaten(beaten),
        Reply::Streams(StreamsReply::Heartbeat(Err(refused))) => format!("{:?}: {}", refused.error, refused.message),
        Reply::Streams(StreamsReply::Describe(groups)) => {
            let group = |(id, group): &(GroupId, Option<Option<DescribedStreamsGroup>>)| match group {
                None => format!("{id} not found"),
                Some(None) => format!("{id} is none"),
                Some(Some(group)) => format!("{id} {}", show_group(group)),
            };
            groups.iter().map(group).collect()
        }
        Reply::ListGroups(groups) => {
            let group = |group: &crate::coordinator::group::ListedGroup| {
                let protocol = group.protocol_type.as_ref().map_or("", |name| name.as_str());
                format!("{} {} {} {protocol}", group.group, group.kind.name(), group.state)
            };
            groups.iter().map(group).collect::<Vec<_>>().join(", ")
        }
        Reply::OffsetCommit(result) => match result {
            Ok(_) => "committed".to_owned(),
            Err(error) => format!("{error:?}"),
        },
        Reply::OffsetFetch(result) => match result {
            Ok(topics) => topics.iter().map(|topic| format!("{} {:?}", topic.name, topic.partitions)).collect(),
            Err(error) => format!("{error:?}"),
        },
        Reply::JoinGroup(result) => match result {
            Ok(_) => "joined".to_owned(),
            Err(refused) => format!("{:?}", refused.error),
        },
        other => format!("{other:?}"),
    }
}

fn show_beaten(beaten: &StreamsBeaten) -> String {
    let mut text = format!("{} epoch {}", beaten.member, beaten.epoch);
    if let Some(tasks) = &beaten.tasks {
        text += &format!(" has {}", show_tasks(tasks));
    }
    for status in &beaten.status {
        text += &format!("; {:?}: {}", status.kind, status.detail);
    }
    for topic in &beaten.create {
        text += &format!("; create {}:{}", topic.name, topic.partition_count);
    }
    let partitions =
        |of: &[(Arc<str>, Vec<i32>)]| of.iter().map(|(name, of)| format!("{name}{of:?}")).collect::<String>();
    let show = |of: &EndpointPartitions| {
        let Endpoint { host, port } = &of.endpoint;
        format!("; {host}:{port} answers {} / {}", partitions(&of.active), partitions(&of.standby))
    };
    for endpoint in beaten.endpoints.iter().flatten() {
        text += &show(endpoint);
    }
    if beaten.endpoint_epoch > 0 || beaten.endpoints.as_ref().is_some_and(|all| !all.is_empty()) {
        text += &format!("; endpoint epoch {}", beaten.endpoint_epoch);
    }
    text
}

fn show_group(group: &DescribedStreamsGroup) -> String {
    let mut text = format!("{} epoch {} target {}", group.state.name(), group.epoch, group.target_epoch);
    text += &group.topology.as_ref().map(show_topology).unwrap_or_default();
    for member in &group.members {
        let (id, epoch, process) = (&member.member, member.epoch, &member.said.process);
        let (has, wants) = (show_tasks(&member.assigned), show_tasks(&member.target));
        text += &format!("; {id} of {process} epoch {epoch} has {has} wants {wants}");
    }
    text
}

fn show_topology(topology: &DescribedTopology) -> String {
    let infos =
        |of: &[TopicInfo]| of.iter().map(|topic| format!("{}:{}", topic.name, topic.partitions)).collect::<Vec<_>>();
    let mut text = format!(" topology {}", topology.epoch);
    for part in &topology.subtopologies {
        text += &format!(
            " {}:[{}>{} {} {}]",
            part.id,
            part.source_topics.join(","),
            part.repartition_sinks.join(","),
            infos(&part.repartition_sources).join(","),
            infos(&part.changelogs).join(",")
        );
    }
    text
}
