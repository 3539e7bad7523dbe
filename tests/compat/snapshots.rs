//! A node that was away while the others deleted or compacted what it lacks.

use std::fs;

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::harness::client::{Producer, admin, config, consume_all, wait};
use crate::harness::nodes::Nodes;
use crate::harness::{eventually, unique};

const RECORDS: usize = 6_000;
const KEYS: usize = 200;
/// So many records are deleted from the first topic.
const TRIMMED: i64 = 5_500;

/// Leader of the only partition and number of its replicas in sync.
fn leader(nodes: &Nodes, topic: &str) -> Option<(usize, usize)> {
    let client: BaseConsumer = BaseConsumer::from_config(&config(&nodes.bootstrap(), &[])).expect("client");
    let metadata = client.fetch_metadata(Some(topic), std::time::Duration::from_secs(5)).ok()?;
    let partition = metadata.topics().first()?.partitions().first()?;
    let leader = usize::try_from(partition.leader()).ok().filter(|leader| *leader > 0)?;
    Some((leader, partition.isr().len()))
}

pub fn all_in_sync(nodes: &Nodes, topic: &str) -> usize {
    eventually("three replicas are in sync", || leader(nodes, topic).filter(|(_, isr)| *isr == 3)).0
}

/// The files of each partition that a node has.
fn logs(nodes: &Nodes, id: usize) -> Vec<Vec<String>> {
    let topics = fs::read_dir(nodes.data_dir(id).join("log")).expect("log directory");
    let partitions = topics.flatten().flat_map(|topic| fs::read_dir(topic.path()).into_iter().flatten().flatten());
    let names = |files: fs::ReadDir| files.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
    partitions.map(|partition| fs::read_dir(partition.path()).into_iter().flat_map(names).collect()).collect()
}

pub fn has_compacted(nodes: &Nodes, id: usize) -> bool {
    logs(nodes, id).iter().flatten().any(|name| name.ends_with(".1.log"))
}

fn has_trimmed(nodes: &Nodes, id: usize) -> bool {
    let first = format!("{:020}.", 0);
    logs(nodes, id).iter().any(|log| !log.is_empty() && !log.iter().any(|name| name.starts_with(&first)))
}

pub fn produce(nodes: &Nodes, topic: &str, numbers: std::ops::Range<usize>) {
    let producer = Producer::new(&nodes.bootstrap(), &[("linger.ms", "5"), ("enable.idempotence", "true")]);
    for n in numbers {
        let value = format!("{n} {}", "x".repeat(1_000));
        producer.send(n, topic, Some(0), Some(&format!("key {}", n % KEYS)), value.as_bytes());
    }
    let failed = producer.flush().into_iter().find(|delivery| delivery.result.is_err());
    assert!(failed.is_none(), "{failed:?}");
}

/// The numbers of a topic's records, each at the offset of its number.
pub fn numbers(nodes: &Nodes, topic: &str) -> Vec<usize> {
    let records = consume_all(&nodes.bootstrap(), topic, 1).remove(&0).expect("records");
    let number = |value: &[u8]| std::str::from_utf8(value).ok()?.split(' ').next()?.parse::<usize>().ok();
    let numbers: Vec<_> = records.iter().map(|record| number(&record.value).expect("a number")).collect();
    for (record, number) in records.iter().zip(&numbers) {
        assert_eq!((record.offset, &record.key), (*number as i64, &Some(format!("key {}", number % KEYS))));
    }
    numbers
}

/// The last record of each key is there. Which of the older ones are is each replica's own affair.
fn has_the_latest(nodes: &Nodes, topic: &str, end: usize) {
    let found = numbers(nodes, topic);
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
    assert!((end - KEYS..end).all(|number| found.binary_search(&number).is_ok()), "{found:?}");
}

#[test]
fn a_node_that_was_away_while_logs_were_trimmed_and_compacted_catches_up() {
    let Some(mut nodes) = Nodes::started(3, &["log.cleaner.backoff.ms=200"]) else { return };
    let (trimmed, compacted) = (unique("trimmed"), unique("compacted"));
    let admin = admin(&nodes.bootstrap());
    let new = |topic| {
        NewTopic::new(topic, 1, TopicReplication::Fixed(3))
            .set("min.insync.replicas", "2")
            .set("segment.bytes", "1048576")
            .set("min.cleanable.dirty.ratio", "0.01")
    };
    let topics = [new(&trimmed), new(&compacted).set("cleanup.policy", "compact")];
    let created = wait(admin.create_topics(&topics, &AdminOptions::new())).expect("an answer");
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    let leads = [&trimmed, &compacted].map(|topic| all_in_sync(&nodes, topic));
    let away = (1..=3).find(|id| !leads.contains(id)).expect("a node that leads neither");
    nodes.kill(away);
    for topic in [&trimmed, &compacted] {
        produce(&nodes, topic, 0..RECORDS);
    }
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&trimmed, 0, Offset::Offset(TRIMMED)).expect("offset");
    wait(admin.delete_records(&before, &AdminOptions::new())).expect("delete records");
    eventually("the leader has compacted", || has_compacted(&nodes, leads[1]).then_some(()));
    eventually("the leader has deleted", || has_trimmed(&nodes, leads[0]).then_some(()));
    nodes.spawn(away);
    nodes.await_ready(away);
    for topic in [&trimmed, &compacted] {
        all_in_sync(&nodes, topic);
    }
    eventually("the logs came as they are", || {
        (has_compacted(&nodes, away) && has_trimmed(&nodes, away)).then_some(())
    });
    let all_but_trimmed: Vec<usize> = (TRIMMED as usize..RECORDS).collect();
    assert_eq!(numbers(&nodes, &trimmed), all_but_trimmed);
    has_the_latest(&nodes, &compacted, RECORDS);
    // Whoever leads now, it has the same.
    nodes.kill(leads[1]);
    for topic in [&trimmed, &compacted] {
        produce(&nodes, topic, RECORDS..RECORDS + 10);
    }
    assert_eq!(numbers(&nodes, &trimmed), (TRIMMED as usize..RECORDS + 10).collect::<Vec<_>>());
    has_the_latest(&nodes, &compacted, RECORDS + 10);
}
