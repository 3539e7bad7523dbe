//! Coordinators that move alive: members of both protocols go on as they were.

use std::time::Duration;

use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::consumers::{Log, Member, assert_complete, await_shared, await_values};
use crate::harness::client::{Producer, config};
use crate::harness::nodes::Nodes;
use crate::harness::{eventually, unique};
use crate::leadership::coordinator;
use crate::leaving::json;
use crate::reassign::create;
use crate::replication::PARTITIONS;

/// Both groups have the same coordinator. Whether a member is still one shows soon.
const SETTINGS: [&str; 3] = [
    "offsets.topic.num.partitions=1",
    "group.consumer.min.heartbeat.interval.ms=200",
    "group.consumer.heartbeat.interval.ms=200",
];
const CLASSIC: [(&str, &str); 2] = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")];
const NEW: [(&str, &str); 1] = [("group.protocol", "consumer")];
const MESSAGES: usize = 600;

fn produce(nodes: &Nodes, topic: &str, numbers: std::ops::Range<usize>) {
    let producer = Producer::new(&nodes.bootstrap(), &[("linger.ms", "5"), ("enable.idempotence", "true")]);
    for n in numbers {
        producer.send(n, topic, Some((n % PARTITIONS as usize) as i32), None, n.to_string().as_bytes());
    }
    assert!(producer.flush().iter().all(|delivery| delivery.result.is_ok()));
}

/// Waits until a group has committed so many messages.
#[track_caller]
fn await_committed(nodes: &Nodes, of: &str, topic: &str, count: usize) {
    let asks: BaseConsumer =
        BaseConsumer::from_config(&config(&nodes.bootstrap(), &[("group.id", of)])).expect("consumer");
    let mut wanted = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        wanted.add_partition(topic, partition);
    }
    eventually("the members have committed what they read", || {
        let told = asks.committed_offsets(wanted.clone(), Duration::from_secs(5)).ok()?;
        let sum: i64 = told.elements().iter().map(|element| element.offset().to_raw().unwrap_or(0).max(0)).sum();
        (sum == count as i64).then_some(())
    });
}

/// Who has what, how often that was changed, and what the application was told.
fn state(members: &[Member]) -> Vec<(Vec<i32>, usize, usize, Vec<String>)> {
    let of =
        |member: &Member| (member.held().into_iter().collect(), member.assigned(), member.revoked(), member.errors());
    members.iter().map(of).collect()
}

#[test]
fn members_of_both_protocols_do_not_notice_that_their_coordinator_moves() {
    let Some(nodes) = Nodes::started(3, &SETTINGS) else { return };
    let topic = create(&mut nodes.wire(1), PARTITIONS, 3);
    let (classic, new) = (unique("classic"), unique("new"));
    let logs = [Log::default(), Log::default()];
    let start = |of: &str, number, log: &Log, settings: &[(&str, &str)]| {
        Member::start_at(&nodes.bootstrap(), of, &topic, number, log, settings)
    };
    let members = [
        start(&classic, 1, &logs[0], &CLASSIC),
        start(&classic, 2, &logs[0], &CLASSIC),
        start(&new, 1, &logs[1], &NEW),
        start(&new, 2, &logs[1], &NEW),
    ];
    await_shared(&[&members[0], &members[1]], PARTITIONS);
    await_shared(&[&members[2], &members[3]], PARTITIONS);
    let mut sent = 0;
    let mut go_on = || {
        produce(&nodes, &topic, sent..sent + MESSAGES);
        sent += MESSAGES;
        logs.iter().for_each(|log| await_values(log, sent));
        // By the coordinator that there is now, of members that it knows.
        [&classic, &new].iter().for_each(|of| await_committed(&nodes, of, &topic, sent));
    };
    go_on();
    let before = state(&members);
    let home = coordinator(&nodes, 1, &classic);
    let number = home.to_string();
    json(&nodes, &["cluster", "drain", &number]);
    for of in [&classic, &new] {
        eventually("it has moved", || (coordinator(&nodes, 1, of) != home).then_some(()));
    }
    go_on();
    assert_eq!(state(&members), before);
    // Back again: the preferred leader is elected.
    json(&nodes, &["cluster", "drain", &number, "--undo"]);
    go_on();
    assert_eq!(state(&members), before);
    members.into_iter().for_each(Member::stop);
    logs.iter().for_each(|log| assert_complete(log, 3 * MESSAGES));
}
