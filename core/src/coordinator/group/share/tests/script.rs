//! Golden scripts: `core/testscripts/share/*.script`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::super::command::{Command, DeleteGroups, DescribeGroups, Effect, ListGroups};
use super::super::super::config::GroupConfig;
use super::super::super::consumer::tests::{show_target, surroundings, topic_id, topics};
use super::super::super::ids::GroupId;
use super::super::super::record::{Record, ShareChange};
use super::super::super::reply::Reply;
use super::super::super::tests::world::{Event, World, first_join};
use super::super::{
    AlterShareOffsets, AlterShareTopic, DeleteShareOffsets, InitializeShares, ShareCommand, ShareHeartbeat,
    SharePartitions, ShareReply, TopicPartitions,
};
use super::beat;
use crate::coordinator::scripts;
use crate::types::{Offset, TopicId};

#[test]
fn scripts_hold() {
    scripts::hold("share", 5, |script| {
        let mut world = World::new(configured(script));
        scripts::played(script, |line| carry_out(&mut world, line).iter().map(show).collect())
    });
}

fn configured(script: &str) -> GroupConfig {
    let mut config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
    config.share.assignment_interval_ms = 0;
    config.consumer.assignment_interval_ms = 0;
    for (key, value) in scripts::config(script) {
        match key {
            "max-size" => config.share.group_size_max = value.parse().unwrap(),
            "interval" => config.share.assignment_interval_ms = value.parse().unwrap(),
            other => panic!("no setting {other}"),
        }
    }
    config
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').filter(|word| !word.is_empty()).collect()
}

fn carry_out(world: &mut World, line: &str) -> Vec<Event> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let who = rest.split_whitespace().next().unwrap_or_default();
    let words: BTreeMap<&str, &str> = rest.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let token = world.token();
    let group = || GroupId::new(words.get("group").unwrap_or(&"g")).unwrap();
    let command = match verb {
        "topics" => {
            let known = rest.split_whitespace().filter_map(|word| word.split_once(':'));
            let known: Vec<(&str, usize)> = known.map(|(name, count)| (name, count.parse().unwrap())).collect();
            let before = world.shard.surroundings.topics.clone();
            Command::SurroundingsChanged(surroundings(topics(before.version() + 1, &known, &before)))
        }
        "gone" => {
            let topics =
                list(who).into_iter().map(|name| (crate::types::TopicName::new(name).unwrap(), topic_id(name)));
            Command::TopicsDeleted { topics: topics.collect(), after: None }
        }
        "beat" => {
            let topics = words.get("topics").map(|text| list(text));
            let epoch = words.get("epoch").map_or(0, |text| text.parse().unwrap());
            let said = ShareHeartbeat { group: group(), ..beat(token, who, epoch, topics.as_deref()) };
            Command::Share(ShareCommand::Heartbeat(said))
        }
        "consumer-beat" => {
            let said = super::super::super::consumer::tests::join(token, "g", who, &["a"]);
            Command::ConsumerHeartbeat(said)
        }
        "classic-join" => Command::JoinGroup(crate::coordinator::group::JoinGroup { token, ..first_join(world, who) }),
        // What share coordinators were asked for comes to its end.
        "answer" => return answer(world, rest == "yes"),
        "alter" => {
            let topic = |part: &str| {
                let (name, offsets) = part.split_once(':').unwrap();
                let offset = |text: &str| {
                    let (index, offset) = text.split_once('@').unwrap();
                    (index.parse().unwrap(), Offset(offset.parse().unwrap()))
                };
                AlterShareTopic { name: name.into(), partitions: list(offsets).into_iter().map(offset).collect() }
            };
            let topics = who.split(';').map(topic).collect();
            Command::Share(ShareCommand::AlterOffsets(AlterShareOffsets { token, group: group(), topics }))
        }
        "delete-offsets" => {
            let topics = list(who).into_iter().map(Arc::from).collect();
            Command::Share(ShareCommand::DeleteOffsets(DeleteShareOffsets { token, group: group(), topics }))
        }
        "offsets-deleted" => {
            let topics: Arc<[TopicId]> = list(who).into_iter().map(topic_id).collect();
            Command::Share(ShareCommand::OffsetsDeleted { token, group: group(), topics })
        }
        "partitions" => Command::Share(ShareCommand::Partitions { token, group: group() }),
        "delete-state" => Command::Share(ShareCommand::DeleteState(DescribeGroups { token, groups: vec![group()] })),
        "describe" => Command::Share(ShareCommand::Describe(DescribeGroups { token, groups: vec![group()] })),
        "delete" => Command::DeleteGroups(DeleteGroups { token, groups: vec![group()] }),
        "list" => Command::ListGroups(ListGroups { token, states: Vec::new(), types: Vec::new() }),
        "after" => return world.pass(scripts::ms(rest)),
        "restart" => return world.restart(),
        other => panic!("no command {other}"),
    };
    let events = world.run(&command);
    for event in &events {
        // Whoever alters offsets asks the share coordinators.
        if let Event::Replied(_, Reply::Share(ShareReply::AlterOffsets(Ok(altered)))) = event {
            world.effects.push(Effect::InitializeShares(altered.initialize.clone()));
        }
    }
    events
}

fn answer(world: &mut World, well: bool) -> Vec<Event> {
    let mut events = Vec::new();
    for effect in std::mem::take(&mut world.effects) {
        let Effect::InitializeShares(InitializeShares { group, topics, .. }) = effect else { panic!("{effect:?}") };
        let topics = topics.into_iter().map(|(id, of)| (id, of.into_keys().collect())).collect();
        events.extend(world.run(&Command::Share(match well {
            true => ShareCommand::Initialized { group, topics },
            false => ShareCommand::NotInitialized { group, topics },
        })));
    }
    events
}

fn show(event: &Event) -> String {
    match event {
        Event::Logged(record) => format!("log {}", show_record(record)),
        Event::Replied(_, reply) => format!("reply {}", show_reply(reply)),
    }
}

fn show_record(record: &Record) -> String {
    let gone = || "gone".to_owned();
    let Record::Share { change, .. } = record else { return format!("{record:?}") };
    match change {
        ShareChange::Group(epoch) => format!("epoch {}", epoch.map_or_else(gone, |of| of.epoch.to_string())),
        ShareChange::Member(id, said) => {
            let named = |topics: &std::collections::BTreeSet<Arc<str>>| topics.iter().cloned().collect::<Vec<_>>();
            let said = said.as_ref().map_or_else(gone, |said| format!("[{}]", named(&said.topics).join(" ")));
            format!("member {id} {said}")
        }
        ShareChange::TargetEpoch(epoch) => {
            format!("target epoch {}", epoch.map_or_else(gone, |of| of.epoch.to_string()))
        }
        ShareChange::Target(id, target) => {
            format!("target {id} {}", target.as_ref().map_or_else(gone, |target| show_target(target)))
        }
        ShareChange::Current(id, current) => {
            let current = current.as_ref().map_or_else(gone, |of| {
                format!("epoch {} after {} has {}", of.epoch, of.previous_epoch, show_target(&of.assigned))
            });
            format!("current {id} {current}")
        }
        ShareChange::Partitions(partitions) => {
            format!("partitions {}", partitions.as_ref().map_or_else(gone, |of| show_partitions(of)))
        }
    }
}

fn show_partitions(partitions: &SharePartitions) -> String {
    let topics = |topics: &BTreeMap<TopicId, TopicPartitions>| {
        show_target(&topics.iter().map(|(id, topic)| (*id, topic.partitions.clone())).collect())
    };
    let deleting: Vec<&str> = partitions.deleting.values().map(|name| &**name).collect();
    format!(
        "initializing {} initialized {} deleting [{}]",
        topics(&partitions.initializing),
        topics(&partitions.initialized),
        deleting.join(" ")
    )
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::Share(ShareReply::Heartbeat(Ok(beaten))) => {
            let has = beaten.assignment.as_ref().map(|has| format!(" has {}", show_target(has))).unwrap_or_default();
            format!("{} epoch {}{has}", beaten.member, beaten.epoch)
        }
        Reply::Share(ShareReply::Heartbeat(Err(refused))) => format!("{:?}: {}", refused.error, refused.message),
        Reply::Share(ShareReply::Describe(groups)) => {
            let group = |(id, group): &(GroupId, Option<Option<super::super::DescribedShareGroup>>)| match group {
                None => format!("{id} not found"),
                Some(None) => format!("{id} is none"),
                Some(Some(group)) => {
                    let mut text =
                        format!("{id} {} epoch {} target {}", group.state.name(), group.epoch, group.target_epoch);
                    for member in &group.members {
                        let has = member.assigned.iter().map(|topic| format!("{}{:?}", topic.name, topic.partitions));
                        text += &format!("; {} epoch {} {}", member.member, member.epoch, has.collect::<String>());
                    }
                    text
                }
            };
            groups.iter().map(group).collect()
        }
        Reply::Share(ShareReply::Partitions(topics)) => {
            let topic = |topic: &super::super::InitializedTopic| format!("{}{:?}", topic.name, topic.partitions);
            format!("[{}]", topics.iter().map(topic).collect::<Vec<_>>().join(" "))
        }
        Reply::Share(ShareReply::AlterOffsets(Ok(altered))) => {
            let topic = |topic: &super::super::AlteredTopic| format!("{} {:?}", topic.name, topic.partitions);
            let topics: Vec<String> = altered.topics.iter().map(topic).collect();
            let asked = altered.initialize.topics.values().map(|of| format!("{of:?}")).collect::<String>();
            format!("{} epoch {} asks {asked}", topics.join(" "), altered.initialize.epoch)
        }
        Reply::Share(ShareReply::DeleteOffsets(Ok(result))) => {
            let topic = |topic: &super::super::InitializedTopic| format!("{}{:?}", topic.name, topic.partitions);
            let topics: Vec<String> = result.topics.iter().map(topic).collect();
            format!("deletes [{}] nothing {:?}", topics.join(" "), result.nothing)
        }
        Reply::Share(ShareReply::DeleteState(groups)) => {
            let group = |(id, result): &(GroupId, Result<_, _>)| match result {
                Ok(state) => format!("{id} {}", show_target(state)),
                Err(error) => format!("{id} {error:?}"),
            };
            format!("state {}", groups.iter().map(group).collect::<Vec<_>>().join(", "))
        }
        Reply::ListGroups(groups) => {
            let group = |group: &crate::coordinator::group::ListedGroup| {
                let protocol = group.protocol_type.as_ref().map_or("", |name| name.as_str());
                format!("{} {} {} {protocol}", group.group, group.kind.name(), group.state)
            };
            groups.iter().map(group).collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    }
}
