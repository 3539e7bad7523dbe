//! Lives of streams groups: as stories, and at random.

mod assign;
mod configure;
mod property;
mod reconcile;
mod records;
mod script;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::ids::{ClientHost, ClientId, GroupId, MemberId, ReplyToken};
use super::tasks::each;
use super::{CopartitionGroup, StreamsHeartbeat, Subtopology, TaskSet, Tasks, TopicInfo, Topology};

/// A heartbeat that says nothing but that the member lives.
fn beat(token: ReplyToken, member: &str, epoch: i32) -> StreamsHeartbeat {
    StreamsHeartbeat {
        token,
        group: GroupId::new("g").unwrap(),
        member: MemberId::new(member).unwrap(),
        epoch,
        endpoint_epoch: -1,
        rack: None,
        client_id: ClientId::new("c").unwrap(),
        client_host: ClientHost::new("/127.0.0.1").unwrap(),
        rebalance_timeout_ms: None,
        topology: None,
        owned: None,
        process: None,
        endpoint: None,
        tags: None,
        shutdown: false,
    }
}

/// A first heartbeat.
fn join(token: ReplyToken, member: &str, process: &str, topology: &Arc<Topology>) -> StreamsHeartbeat {
    StreamsHeartbeat {
        rebalance_timeout_ms: Some(30_000),
        topology: Some(Arc::clone(topology)),
        owned: Some(Tasks::default()),
        process: Some(process.into()),
        ..beat(token, member, 0)
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|word| !word.is_empty())
}

/// A topology from `0;src=a,b;log=s;sink=r;co=a+b 1;rep=r,f:3`: a word for each subtopology. `co` names topics that are
/// read together.
fn topology(epoch: i32, text: &str) -> Arc<Topology> {
    let part = |word: &str| {
        let (id, rest) = word.split_once(';').unwrap_or((word, ""));
        (Arc::from(id), subtopology(rest))
    };
    Arc::new(Topology { epoch, subtopologies: text.split_whitespace().map(part).collect() })
}

fn subtopology(text: &str) -> Subtopology {
    let fields: Vec<(&str, &str)> = text.split(';').filter_map(|field| field.split_once('=')).collect();
    let of = |wanted: &str| fields.iter().find(|(key, _)| *key == wanted).map_or("", |(_, value)| value);
    let names = |key: &str| list(of(key)).map(Arc::from).collect::<Vec<Arc<str>>>();
    let infos = |key: &str| list(of(key)).map(topic_info).collect::<Vec<_>>();
    let (source_topics, repartition_sources) = (names("src"), infos("rep"));
    let copartition_group = |(_, value): &(&str, &str)| {
        let place = |at: Option<usize>| at.map(|at| i16::try_from(at).unwrap());
        let source = |name: &str| place(source_topics.iter().position(|topic| **topic == *name));
        let repartition = |name: &str| place(repartition_sources.iter().position(|topic| *topic.name == *name));
        CopartitionGroup {
            source_topics: value.split('+').filter_map(source).collect(),
            source_patterns: Vec::new(),
            repartition_sources: value.split('+').filter_map(repartition).collect(),
        }
    };
    Subtopology {
        copartition_groups: fields.iter().filter(|(key, _)| *key == "co").map(copartition_group).collect(),
        source_topics,
        source_patterns: Vec::new(),
        changelogs: infos("log"),
        repartition_sinks: names("sink"),
        repartition_sources,
    }
}

fn topic_info(text: &str) -> TopicInfo {
    let (name, partitions) = text.split_once(':').unwrap_or((text, "0"));
    TopicInfo { name: name.into(), partitions: partitions.parse().unwrap(), replication_factor: 0, configs: Vec::new() }
}

/// Tasks from `0_0,0_1/1_0`: active ones, standbys and warmups.
fn tasks(text: &str) -> Tasks {
    let mut kinds = text.split('/').map(task_set);
    let mut next = || kinds.next().unwrap_or_default();
    Tasks { active: next(), standby: next(), warmup: next() }
}

fn task_set(text: &str) -> TaskSet {
    let mut set = TaskSet::new();
    for task in list(text) {
        let (id, partition) = task.split_once('_').unwrap();
        set.entry(id.into()).or_default().insert(partition.parse().unwrap());
    }
    set
}

fn show_tasks(tasks: &Tasks) -> String {
    let set =
        |set: &TaskSet| each(set).map(|(id, partition)| format!("{id}_{partition}")).collect::<Vec<_>>().join(",");
    let kinds = [set(&tasks.active), set(&tasks.standby), set(&tasks.warmup)];
    let text = kinds.join("/");
    let text = text.trim_end_matches('/');
    if text.is_empty() { "nothing".to_owned() } else { text.to_owned() }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<Arc<str>, Arc<str>> {
    pairs.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
}
