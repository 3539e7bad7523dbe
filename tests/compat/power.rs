//! Loss of power on all nodes at once: what was acknowledged was on the disks.
//!
//! `MILLSTREAM_TEST_POWER_ROUNDS` says how often power is lost in each test, `MILLSTREAM_TEST_SEED` what becomes of that
//! which was not synced.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use crate::harness::client::{admin, wait};
use crate::harness::group::Group;
use crate::harness::nodes::Nodes;
use crate::harness::power::{Unsynced, ignore_syncs};
use crate::harness::{chance, eventually, number, topics, unique};
use crate::replication::{Stream, replicated_topic};

/// Files come and go all the time.
const SETTINGS: [&str; 2] = ["log.roll.ms=300", "offsets.topic.num.partitions=4"];
const TREATMENTS: [Unsynced; 3] = [Unsynced::Gone, Unsynced::Torn, Unsynced::TornNamesKept];

fn rounds() -> usize {
    usize::try_from(number("MILLSTREAM_TEST_POWER_ROUNDS").unwrap_or(3)).expect("rounds")
}

/// The layer bites: with syncs that do nothing, what was acknowledged since is gone.
#[test]
fn what_was_acknowledged_without_a_sync_is_gone_after_a_loss_of_power() {
    let Some(mut nodes) = Nodes::started_on_power(1, &[]) else { return };
    let mut chance = chance();
    let topic = topics::topic(&mut nodes.wire(1), 1);
    let values = |nodes: &Nodes| {
        topics::await_topic(&mut nodes.wire(1), &topic, 1);
        topics::values(&mut nodes.wire(1), &topic, 0, 0)
    };
    for value in ["a", "b", "c"] {
        topics::write(&mut nodes.wire(1), &topic, 0, &[value]);
    }
    nodes.lose_power(Unsynced::Gone, &mut chance);
    nodes.start_all();
    assert_eq!(values(&nodes), ["a", "b", "c"]);
    topics::write(&mut nodes.wire(1), &topic, 0, &["d"]);
    ignore_syncs(nodes.data_dir(1));
    topics::write(&mut nodes.wire(1), &topic, 0, &["e"]);
    assert_eq!(values(&nodes), ["a", "b", "c", "d", "e"]);
    nodes.lose_power(Unsynced::Gone, &mut chance);
    nodes.start_all();
    assert_eq!(values(&nodes), ["a", "b", "c", "d"]);
}

/// A process that died alone leaves the page cache: its successor syncs what it finds before anything rests on it.
#[test]
fn what_a_killed_node_had_written_is_synced_by_its_next_start() {
    let Some(mut nodes) = Nodes::started_on_power(1, &[]) else { return };
    let mut chance = chance();
    let topic = topics::topic(&mut nodes.wire(1), 1);
    for round in 0..rounds() {
        ignore_syncs(nodes.data_dir(1));
        topics::write(&mut nodes.wire(1), &topic, 0, &[&round.to_string()]);
        nodes.kill(1);
        std::fs::remove_file(crate::harness::power::image_of(nodes.data_dir(1)).join("ignore")).expect("syncs again");
        nodes.start_all();
        topics::await_topic(&mut nodes.wire(1), &topic, 1);
        let there = topics::values(&mut nodes.wire(1), &topic, 0, 0);
        assert_eq!(there.len(), round + 1);
        nodes.lose_power(Unsynced::Gone, &mut chance);
        nodes.start_all();
        topics::await_topic(&mut nodes.wire(1), &topic, 1);
        assert_eq!(topics::values(&mut nodes.wire(1), &topic, 0, 0), there, "what was shown is there");
    }
}

#[test]
fn power_is_lost_on_one_node_again_and_again() {
    let Some(mut nodes) = Nodes::started_on_power(1, &SETTINGS) else { return };
    lose_power_again_and_again(&mut nodes);
}

#[test]
fn power_is_lost_on_three_nodes_at_once_again_and_again() {
    let Some(mut nodes) = Nodes::started_on_power(3, &SETTINGS) else { return };
    lose_power_again_and_again(&mut nodes);
}

fn lose_power_again_and_again(nodes: &mut Nodes) {
    let mut chance = chance();
    let topic = replicated_topic(nodes);
    let mut stream = Stream::start(nodes, &topic);
    let mut second = Group::start(&nodes.bootstrap(), &topic, &unique("second"));
    let mut created: BTreeMap<String, i32> = BTreeMap::new();
    for round in 0..rounds() {
        let (name, partitions) = (unique("created"), chance.random_range(1..4));
        create(nodes, &name, partitions);
        created.insert(name, partitions);
        stream.send(chance.random_range(200..2_000));
        eventually("groups commit", || (stream.has_committed() && !second.committed().is_empty()).then_some(()));
        std::thread::sleep(Duration::from_millis(chance.random_range(0..300)));
        let unsynced = TREATMENTS[chance.random_range(0..TREATMENTS.len())];
        println!("round {round}: what was not synced: {unsynced:?}");
        nodes.lose_power(unsynced, &mut chance);
        nodes.start_all();
        stream.check_committed(nodes);
        second.check_committed(&nodes.bootstrap());
        check_created(nodes, &created);
    }
    stream.send(500);
    let ends = stream.check(nodes);
    second.await_read(&ends);
    second.check_committed(&nodes.bootstrap());
}

fn create(nodes: &Nodes, name: &str, partitions: i32) {
    let replicas = i32::try_from(nodes.count()).expect("a small number");
    let new = [NewTopic::new(name, partitions, TopicReplication::Fixed(replicas))];
    let created = wait(admin(&nodes.bootstrap()).create_topics(&new, &AdminOptions::new())).expect("an answer");
    assert!(created[0].is_ok(), "{created:?}");
}

fn check_created(nodes: &Nodes, created: &BTreeMap<String, i32>) {
    let admin = admin(&nodes.bootstrap());
    eventually("topics that were created are there", || {
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(5)).ok()?;
        created
            .iter()
            .all(|(name, partitions)| {
                let found = metadata.topics().iter().find(|topic| topic.name() == name);
                found.is_some_and(|topic| topic.partitions().len() == usize::try_from(*partitions).unwrap_or(0))
            })
            .then_some(())
    });
}
