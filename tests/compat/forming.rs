//! Nodes become one cluster, once.

use std::collections::BTreeSet;
use std::fs;

use kafka_protocol::messages::{CreateTopicsRequest, DescribeClusterRequest};

use crate::harness::client::{Producer, consume_all};
use crate::harness::nodes::Nodes;
use crate::harness::topics::creatable;
use crate::harness::{eventually, unique};

/// Numbers of the brokers that a node tells clients of, and the cluster's id.
fn cluster(nodes: &Nodes, id: usize) -> (BTreeSet<i32>, String) {
    let answer = nodes.wire(id).call(1, &DescribeClusterRequest::default());
    (answer.brokers.iter().map(|broker| broker.broker_id.0).collect(), answer.cluster_id.to_string())
}

fn await_brokers(nodes: &Nodes, asked: usize, count: i32) -> String {
    eventually("every node is known", || {
        let (brokers, id) = cluster(nodes, asked);
        (brokers == (1..=count).collect()).then_some(id)
    })
}

fn create_topic(nodes: &Nodes, asked: usize, replicas: i16) -> String {
    let topic = unique("topic");
    let wanted = creatable(&topic, 3, &[]).with_replication_factor(replicas);
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]);
    let answer = nodes.wire(asked).call(7, &request);
    assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
    topic
}

fn write(nodes: &Nodes, topic: &str, count: usize) {
    let producer = Producer::new(&nodes.bootstrap(), &[("message.timeout.ms", "60000")]);
    for number in 0..count {
        producer.send(number, topic, Some((number % 3) as i32), None, format!("value {number}").as_bytes());
    }
    for delivery in producer.flush() {
        delivery.result.unwrap_or_else(|e| panic!("message {}: {e}", delivery.number));
    }
}

fn read(nodes: &Nodes, topic: &str) -> usize {
    consume_all(&nodes.bootstrap(), topic, 3).values().map(Vec::len).sum()
}

#[test]
fn three_nodes_form_one_cluster_in_any_order() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 1, 3]] {
        let Some(mut nodes) = Nodes::new(3, &[]) else { return };
        for id in order {
            nodes.spawn(id);
            nodes.await_port(id);
        }
        (1..=3).for_each(|id| nodes.await_ready(id));
        let ids: BTreeSet<_> = (1..=3).map(|id| await_brokers(&nodes, id, 3)).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        for id in 1..=3 {
            assert_eq!(nodes.meta(id, "cluster.id").as_ref(), ids.first());
            assert_eq!(nodes.meta(id, "peer.id"), Some(id.to_string()));
            assert_eq!(nodes.meta(id, "founders"), nodes.meta(1, "founders"));
        }
        let topic = create_topic(&nodes, 3, 3);
        write(&nodes, &topic, 100);
        assert_eq!(read(&nodes, &topic), 100);
    }
}

#[test]
fn a_majority_is_enough_and_the_third_comes_later() {
    let Some(mut nodes) = Nodes::new(3, &[]) else { return };
    nodes.spawn(1);
    nodes.await_log(1, "waiting for the cluster");
    assert_eq!(nodes.meta(1, "peer.id"), None, "one of three forms nothing");
    nodes.spawn(3);
    nodes.await_ready(1);
    nodes.await_ready(3);
    nodes.spawn(2);
    nodes.await_ready(2);
    for id in 1..=3 {
        await_brokers(&nodes, id, 3);
        assert_eq!(nodes.meta(id, "cluster.id"), nodes.meta(1, "cluster.id"));
    }
    assert_eq!(nodes.meta(2, "peer.id").as_deref(), Some("3"), "not a founder");
}

#[test]
fn a_former_that_is_killed_before_it_decided_goes_on_with_the_same_id() {
    let Some(mut nodes) = Nodes::new(3, &[]) else { return };
    nodes.spawn(1);
    let proposed = eventually("an id is made up", || nodes.meta(1, "cluster.id"));
    nodes.kill(1);
    nodes.spawn(2);
    nodes.await_port(2);
    nodes.spawn(1);
    nodes.await_ready(1);
    nodes.await_ready(2);
    assert_eq!([nodes.meta(1, "cluster.id"), nodes.meta(2, "cluster.id")], [Some(proposed.clone()), Some(proposed)]);
}

#[test]
fn a_first_seed_that_was_wiped_joins_and_forms_nothing() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = create_topic(&nodes, 1, 3);
    write(&nodes, &topic, 300);
    let (id, directory) = (nodes.meta(1, "cluster.id"), nodes.meta(1, "directory.id"));
    nodes.kill(1);
    fs::remove_dir_all(nodes.data_dir(1)).expect("wiped");
    nodes.spawn(1);
    nodes.await_ready(1);
    assert_eq!(nodes.meta(1, "cluster.id"), id);
    assert_ne!(nodes.meta(1, "directory.id"), directory);
    assert_eq!(nodes.meta(1, "peer.id").as_deref(), Some("4"), "a new replica everywhere");
    await_brokers(&nodes, 1, 3);
    assert_eq!(read(&nodes, &topic), 300);

    // Half of a directory is as good as none.
    nodes.kill(1);
    fs::remove_dir_all(nodes.data_dir(1).join("log")).expect("wiped");
    nodes.spawn(1);
    nodes.await_ready(1);
    assert_eq!(nodes.meta(1, "peer.id").as_deref(), Some("5"));
    assert_eq!(read(&nodes, &topic), 300);

    // Nobody else is there to ask.
    (1..=3).for_each(|id| nodes.kill(id));
    fs::remove_dir_all(nodes.data_dir(1).join("kv")).expect("wiped");
    nodes.spawn(1);
    nodes.await_log(1, "waiting for the cluster");
    assert_eq!((nodes.meta(1, "cluster.id"), nodes.meta(1, "peer.id")), (id.clone(), None));
    nodes.spawn(2);
    nodes.spawn(3);
    nodes.await_ready(1);
    assert_eq!((nodes.meta(1, "cluster.id"), nodes.meta(1, "peer.id")), (id, Some("6".to_owned())));
    assert_eq!(read(&nodes, &topic), 300);
}

#[test]
fn a_node_with_data_forms_no_second_cluster() {
    let Some(mut nodes) = Nodes::new(0, &[]) else { return };
    let first = nodes.add(vec![]);
    nodes.spawn(first);
    nodes.await_ready(first);
    let topic = create_topic(&nodes, first, 1);
    write(&nodes, &topic, 30);
    let id = nodes.meta(first, "cluster.id");
    // The others take it for the first of their seeds; it is one already.
    for more in 2..=3 {
        assert_eq!(nodes.add(vec![1, 2, 3]), more);
    }
    for more in 2..=3 {
        nodes.spawn(more);
    }
    for more in 2..=3 {
        nodes.await_ready(more);
        assert_eq!(nodes.meta(more, "cluster.id"), id);
    }
    assert_eq!(Some(await_brokers(&nodes, 3, 3)), id);
    assert_eq!(read(&nodes, &topic), 30);
}

#[test]
fn a_fourth_node_joins_by_any_member_and_takes_replicas() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let fourth = nodes.add(vec![3]);
    nodes.spawn(fourth);
    nodes.await_ready(fourth);
    assert_eq!(nodes.meta(4, "cluster.id"), nodes.meta(1, "cluster.id"));
    assert_eq!(nodes.meta(4, "peer.id").as_deref(), Some("4"));
    for asked in 1..=4 {
        await_brokers(&nodes, asked, 4);
    }
    let topic = create_topic(&nodes, fourth, 4);
    write(&nodes, &topic, 100);
    assert_eq!(read(&nodes, &topic), 100);
    // It needs no seeds to come back.
    nodes.kill(fourth);
    nodes.spawn(fourth);
    nodes.await_ready(fourth);
    await_brokers(&nodes, fourth, 4);
}

#[test]
fn all_come_back_after_they_were_killed() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = create_topic(&nodes, 2, 3);
    write(&nodes, &topic, 300);
    for _ in 0..2 {
        (1..=3).for_each(|id| nodes.kill(id));
        (1..=3).rev().for_each(|id| nodes.spawn(id));
        (1..=3).for_each(|id| nodes.await_ready(id));
        assert_eq!(read(&nodes, &topic), 300);
    }
    // None is where the others have it in their metadata; the seeds are named anew.
    (1..=3).for_each(|id| nodes.kill(id));
    (1..=3).for_each(|id| nodes.move_away(id));
    (1..=3).for_each(|id| nodes.spawn(id));
    (1..=3).for_each(|id| nodes.await_ready(id));
    assert_eq!(read(&nodes, &topic), 300);
}

#[test]
fn a_second_node_of_the_same_number_is_refused() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let twin = nodes.add(vec![1, 2, 3]);
    nodes.spawn_as(twin, 2);
    let (status, log) = nodes.await_end(twin);
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.lines().any(|line| line.contains("node.id=2") && line.contains("of its own")), "{log}");
    await_brokers(&nodes, 1, 3);
}

#[test]
fn a_start_that_waits_for_others_says_for_whom_and_can_be_stopped() {
    let Some(mut nodes) = Nodes::new(3, &[]) else { return };
    nodes.spawn(2);
    nodes.await_log(2, "waiting for the cluster");
    let log = nodes.log(2);
    let warning = log.lines().find(|line| line.contains("waiting for the cluster")).expect("there");
    assert!(warning.contains("seeds_without_answer") && warning.contains("start the other nodes"), "{warning}");
    let (status, log) = nodes.stop(2);
    assert_eq!(status.code(), Some(0), "{log}");
}
