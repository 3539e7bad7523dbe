//! What replicas that catch up may take (KIP-73): the leader's limit and the follower's, for entries and for snapshots,
//! changed on the way; who is in sync is not held up.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{CreateTopicsRequest, IncrementalAlterConfigsRequest};

use crate::configs::describe;
use crate::harness::client::Producer;
use crate::harness::nodes::Nodes;
use crate::harness::topics::{self, creatable};
use crate::harness::{eventually, text, unique};
use crate::snapshots::has_compacted;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const MESSAGES: usize = 100;
const MESSAGE_BYTES: usize = 50_000;
/// What a second brings: all of it takes five.
const RATE: usize = 1_000_000;

/// The leader, once it has so many replicas in sync.
#[track_caller]
fn leader(nodes: &Nodes, asked: usize, topic: &str, in_sync: usize) -> usize {
    eventually("a leader, and replicas in sync", || {
        let told = topics::metadata(&mut nodes.wire(asked), &[topic]);
        let partition = told.topics[0].partitions.first()?;
        let leader = usize::try_from(partition.leader_id.0).ok().filter(|leader| *leader > 0)?;
        (partition.error_code == 0 && partition.isr_nodes.len() == in_sync).then_some(leader)
    })
}

fn in_sync(nodes: &Nodes, asked: usize, topic: &str) -> usize {
    let told = topics::metadata(&mut nodes.wire(asked), &[topic]);
    assert_eq!(told.topics[0].partitions[0].error_code, 0);
    told.topics[0].partitions[0].isr_nodes.len()
}

fn produce(nodes: &Nodes, topic: &str) {
    let settings = [("enable.idempotence", "true"), ("batch.size", "60000"), ("message.timeout.ms", "60000")];
    let producer = Producer::new(&nodes.bootstrap(), &settings);
    for n in 0..MESSAGES {
        producer.send(n, topic, Some(0), Some(&format!("{n}")), &[b'x'; MESSAGE_BYTES]);
    }
    let failed = producer.flush().into_iter().find(|delivery| delivery.result.is_err());
    assert!(failed.is_none(), "{failed:?}");
}

/// Sets a rate on all brokers, as `kafka-reassign-partitions --throttle` does on some.
#[track_caller]
fn limit(nodes: &Nodes, asked: usize, setting: &str, rate: usize) {
    let config = AlterableConfig::default().with_name(text(setting)).with_config_operation(0);
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(""))
        .with_configs(vec![config.with_value(Some(text(&rate.to_string())))]);
    let mut wire = nodes.wire(asked);
    let altered = wire.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(altered.responses[0].error_code, 0, "{:?}", altered.responses[0].error_message);
    for id in (1..=3).filter(|id| nodes.is_running(*id)) {
        eventually("each node knows the rate", || {
            let told =
                describe(&mut nodes.wire(id), BROKER, &id.to_string()).into_iter().find(|c| &*c.name == setting)?;
            (told.value.as_deref() == Some(rate.to_string().as_str())).then_some(())
        });
    }
}

/// Takes the list of throttled replicas off a topic.
#[track_caller]
fn free(nodes: &Nodes, asked: usize, topic: &str, side: &str) {
    let list = AlterableConfig::default()
        .with_name(text(&format!("{side}.replication.throttled.replicas")))
        .with_config_operation(1);
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(vec![list.with_value(None)]);
    let altered = nodes.wire(asked).call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(altered.responses[0].error_code, 0, "{:?}", altered.responses[0].error_message);
}

/// A topic whose replicas are throttled on one side, its leader, and another node with a replica.
fn throttled(nodes: &Nodes, side: &str, more: &[(&str, &str)]) -> (String, usize, usize) {
    let (topic, list) = (unique("topic"), format!("{side}.replication.throttled.replicas"));
    let configs: Vec<_> = [(list.as_str(), "*")].into_iter().chain(more.iter().copied()).collect();
    let wanted = creatable(&topic, 1, &configs).with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]);
    assert_eq!(nodes.wire(1).call(7, &request).topics[0].error_code, 0);
    let leader = leader(nodes, 1, &topic, 3);
    (topic, leader, leader % 3 + 1)
}

fn a_replica_catches_up_at_the_rate(side: &str) {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let (topic, here, away) = throttled(&nodes, side, &[]);
    let rate = format!("{side}.replication.throttled.rate");
    limit(&nodes, here, &rate, RATE);
    nodes.kill(away);
    leader(&nodes, here, &topic, 2);
    // Those in sync take what comes.
    produce(&nodes, &topic);
    let began = Instant::now();
    nodes.spawn(away);
    nodes.await_ready(away);
    leader(&nodes, here, &topic, 3);
    let (took, wanted) = (began.elapsed(), Duration::from_secs((MESSAGES * MESSAGE_BYTES / RATE) as u64));
    assert!(took >= wanted * 7 / 10, "caught up within {took:?}, at the rate it takes {wanted:?}");

    // So slow that it never ends, until the limit goes.
    nodes.kill(away);
    leader(&nodes, here, &topic, 2);
    limit(&nodes, here, &rate, 1);
    produce(&nodes, &topic);
    nodes.spawn(away);
    nodes.await_ready(away);
    for _ in 0..10 {
        produce(&nodes, &topic);
        assert_eq!(in_sync(&nodes, here, &topic), 2);
    }
    match side {
        "leader" => free(&nodes, here, &topic, side),
        _ => limit(&nodes, here, &rate, 1 << 30),
    }
    leader(&nodes, here, &topic, 3);
}

#[test]
fn the_leader_limits_what_it_gives() {
    a_replica_catches_up_at_the_rate("leader");
}

#[test]
fn the_follower_limits_what_it_takes() {
    a_replica_catches_up_at_the_rate("follower");
}

#[test]
fn a_snapshot_comes_at_the_rate() {
    let Some(mut nodes) = Nodes::started(3, &["log.cleaner.backoff.ms=200"]) else { return };
    let compacted =
        [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01")];
    let (topic, here, away) = throttled(&nodes, "leader", &compacted);
    nodes.kill(away);
    leader(&nodes, here, &topic, 2);
    // Each key once: the compacted segments hold all of it.
    produce(&nodes, &topic);
    let now = leader(&nodes, here, &topic, 2);
    eventually("the leader has compacted", || has_compacted(&nodes, now).then_some(()));
    // First it hardly moves.
    limit(&nodes, here, "leader.replication.throttled.rate", 1);
    nodes.spawn(away);
    nodes.await_ready(away);
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(in_sync(&nodes, here, &topic), 2);
    }
    let began = Instant::now();
    limit(&nodes, here, "leader.replication.throttled.rate", RATE);
    leader(&nodes, here, &topic, 3);
    let (took, wanted) = (began.elapsed(), Duration::from_secs((MESSAGES * MESSAGE_BYTES / RATE) as u64));
    assert!(took >= wanted * 6 / 10, "caught up within {took:?}, at the rate it takes {wanted:?}");
    assert!(has_compacted(&nodes, away), "by a snapshot");
}

/// Bytes of segments that a node has fetched of snapshots that are not installed.
fn fetched(nodes: &Nodes, id: usize) -> u64 {
    let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let files = list(nodes.data_dir(id).join("incoming")).flat_map(|partition| list(partition.path()));
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// Each line of the leader's that says that an offer came to nothing.
#[track_caller]
fn say_when_an_offer_fails(nodes: &Nodes, id: usize) {
    let level = AlterableConfig::default().with_name(text("millstream.partition")).with_config_operation(0);
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER_LOGGER)
        .with_resource_name(text(&id.to_string()))
        .with_configs(vec![level.with_value(Some(text("DEBUG")))]);
    let altered = nodes.wire(id).call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(altered.responses[0].error_code, 0, "{:?}", altered.responses[0].error_message);
}

#[test]
fn a_snapshot_that_is_broken_off_goes_on_where_it_was() {
    let Some(mut nodes) = Nodes::started(3, &["log.cleaner.backoff.ms=200"]) else { return };
    let compacted =
        [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01")];
    let (topic, here, away) = throttled(&nodes, "leader", &compacted);
    nodes.kill(away);
    leader(&nodes, here, &topic, 2);
    produce(&nodes, &topic);
    let now = leader(&nodes, here, &topic, 2);
    eventually("the leader has compacted", || has_compacted(&nodes, now).then_some(()));
    limit(&nodes, here, "leader.replication.throttled.rate", RATE);
    say_when_an_offer_fails(&nodes, now);
    nodes.spawn(away);
    nodes.await_ready(away);
    eventually("some of it is fetched", || (fetched(&nodes, away) > RATE as u64).then_some(()));
    // Stands still until its connections are closed.
    nodes.pause(away);
    let had = fetched(&nodes, away);
    nodes.await_log(now, "snapshot was not taken yet");
    nodes.resume(away);
    limit(&nodes, here, "leader.replication.throttled.rate", 1 << 30);
    leader(&nodes, here, &topic, 3);
    let log = nodes.log(away);
    // A smaller one, of what was compacted by then, may have come before without a break.
    let kept = |line: &str| line.split("kept_bytes=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    let kept = log.lines().filter_map(kept).max();
    println!("{had} bytes were there, {kept:?} were kept");
    assert!(kept.is_some_and(|kept| kept >= had), "{had} bytes were there, {kept:?} were kept");
    assert!(has_compacted(&nodes, away), "by a snapshot");
}
