//! Brokers leave: `millstream cluster decommission | drain`, UnregisterBroker.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeQuorumRequest, UnregisterBrokerRequest};
use serde_json::Value;

use crate::cli::{Done, run};
use crate::harness::broker::BINARY;
use crate::harness::eventually;
use crate::harness::nodes::Nodes;
use crate::harness::topics::{self, name};
use crate::reassign::{await_files, create, move_all, ongoing, replicas};
use crate::replication::{PARTITIONS, Stream};

const BROKER_ID_NOT_REGISTERED: i16 = 102;

fn cli(nodes: &Nodes, args: &[&str]) -> Done {
    let bootstrap = nodes.bootstrap();
    let args: Vec<&str> = args.iter().copied().chain(["--brokers", &bootstrap, "--format", "json"]).collect();
    run(&args, "")
}

/// The document of a command that must not fail.
#[track_caller]
pub fn json(nodes: &Nodes, args: &[&str]) -> Value {
    let done = cli(nodes, args);
    assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
    serde_json::from_str(&done.stdout).expect("one JSON document")
}

/// Brokers that are registered, and whether each is fenced.
pub fn brokers(nodes: &Nodes, asked: usize) -> Vec<(i32, bool)> {
    let told = nodes.wire(asked).call(2, &DescribeClusterRequest::default().with_include_fenced_brokers(true));
    assert_eq!(told.error_code, 0);
    told.brokers.iter().map(|broker| (broker.broker_id.0, broker.is_fenced)).collect()
}

/// Voters and observers of the metadata.
fn quorum(nodes: &Nodes, asked: usize) -> Option<(BTreeSet<i32>, BTreeSet<i32>)> {
    let topic = TopicData::default()
        .with_topic_name(name("__cluster_metadata"))
        .with_partitions(vec![PartitionData::default().with_partition_index(0)]);
    let told = nodes.wire(asked).call(2, &DescribeQuorumRequest::default().with_topics(vec![topic]));
    let quorum = told.topics.first()?.partitions.first().filter(|quorum| quorum.error_code == 0)?;
    let voters = quorum.current_voters.iter().map(|voter| voter.replica_id.0).collect();
    Some((voters, quorum.observers.iter().map(|observer| observer.replica_id.0).collect()))
}

pub fn await_quorum(nodes: &Nodes, asked: usize, voters: &[i32], observers: &[i32]) {
    let wanted = (voters.iter().copied().collect(), observers.iter().copied().collect());
    eventually("these vote", || (quorum(nodes, asked)? == wanted).then_some(()));
}

fn leaders(nodes: &Nodes, asked: usize, topic: &str) -> Vec<i32> {
    topics::metadata(&mut nodes.wire(asked), &[topic]).topics[0].partitions.iter().map(|p| p.leader_id.0).collect()
}

#[test]
fn unregister_broker() {
    let Some(mut nodes) = Nodes::started(4, &[]) else { return };
    let ask = |nodes: &Nodes, asked: usize, version, id| {
        let told = nodes.wire(asked).call(version, &UnregisterBrokerRequest::default().with_broker_id(BrokerId(id)));
        (told.error_code, told.error_message.map(|words| words.to_string()))
    };
    for version in nodes.wire(1).versions::<UnregisterBrokerRequest>() {
        let unknown = Some("Broker ID 9 is not currently registered".to_owned());
        for asked in 1..=4 {
            assert_eq!(ask(&nodes, asked, version, 9), (BROKER_ID_NOT_REGISTERED, unknown.clone()));
        }
    }
    nodes.kill(4);
    eventually("it is seen to be dead", || brokers(&nodes, 2).contains(&(4, true)).then_some(()));
    assert_eq!(ask(&nodes, 2, 0, 4), (0, None));
    for asked in 1..=3 {
        eventually("it is forgotten", || {
            (brokers(&nodes, asked) == [(1, false), (2, false), (3, false)]).then_some(())
        });
    }
    await_quorum(&nodes, 1, &[1, 2, 3], &[]);
    // It was there before, and comes back as it was.
    nodes.spawn(4);
    nodes.await_ready(4);
    await_quorum(&nodes, 1, &[1, 2, 3], &[4]);
    assert_eq!(brokers(&nodes, 4).len(), 4);
}

/// The document of a command that must not fail, while others send.
#[track_caller]
pub fn json_while_sending(nodes: &Nodes, stream: &mut Stream<'_>, args: &'static [&'static str]) -> Value {
    let bootstrap = nodes.bootstrap();
    let running = std::thread::spawn(move || {
        let args: Vec<&str> = args.iter().copied().chain(["--brokers", &bootstrap, "--format", "json"]).collect();
        run(&args, "")
    });
    while !running.is_finished() {
        stream.send(50);
    }
    let done = running.join().expect("it runs to its end");
    assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
    serde_json::from_str(&done.stdout).expect("one JSON document")
}

#[test]
fn a_broker_is_decommissioned_under_a_producer_though_the_command_is_interrupted() {
    let Some(mut nodes) = Nodes::started(4, &[]) else { return };
    let topic = create(&mut nodes.wire(1), PARTITIONS, 3);
    move_all(&mut nodes.wire(1), &topic, PARTITIONS, Some(&[1, 2, 3]));
    eventually("it is on the first three", || {
        let rows = replicas(&mut nodes.wire(1), &topic);
        rows.iter().all(|(all, in_sync)| *all == [1, 2, 3] && in_sync.len() == 3).then_some(())
    });
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(1_000);
    let planned = json(&nodes, &["cluster", "decommission", "1", "--dry-run"]);
    assert!(planned["moves"].as_array().is_some_and(|moves| moves.len() >= PARTITIONS as usize), "{planned}");
    let bootstrap = nodes.bootstrap();
    let args = ["cluster", "decommission", "1", "--at-once", "1", "--brokers", &bootstrap];
    let mut command = std::process::Command::new(BINARY).args(args).spawn().expect("the binary starts");
    eventually("it has begun", || {
        stream.send(20);
        (!ongoing(&mut nodes.wire(2), None).is_empty()).then_some(())
    });
    command.kill().expect("kill");
    command.wait().expect("wait");
    let done = json_while_sending(&nodes, &mut stream, &["cluster", "decommission", "1"]);
    assert_eq!((&done["broker"], done["status"].as_str()), (&Value::from(1), Some("decommissioned")), "{done}");
    stream.send(500);
    for asked in 2..=4 {
        eventually("nobody knows it any more", || {
            (brokers(&nodes, asked) == [(2, false), (3, false), (4, false)]).then_some(())
        });
        let told = topics::metadata_of_all(&mut nodes.wire(asked));
        let on_it = |p: &kafka_protocol::messages::metadata_response::MetadataResponsePartition| {
            p.replica_nodes.contains(&BrokerId(1))
        };
        assert!(told.topics.iter().flat_map(|topic| &topic.partitions).all(|p| !on_it(p)));
    }
    await_quorum(&nodes, 2, &[2, 3, 4], &[]);
    await_files(&nodes, &mut nodes.wire(2), &topic, 1, false);
    nodes.kill(1);
    stream.send(500);
    let refused = cli(&nodes, &["cluster", "decommission", "1"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("no such broker is registered"), "{}", refused.stderr);
    // The others bear the loss of one.
    nodes.kill(3);
    stream.send(500);
    nodes.spawn(3);
    nodes.await_ready(3);
    stream.check(&nodes);
}

#[test]
fn a_broker_that_is_down_is_decommissioned_and_too_few_others_are_told() {
    let Some(mut nodes) = Nodes::started(4, &[]) else { return };
    let topic = create(&mut nodes.wire(1), PARTITIONS, 3);
    move_all(&mut nodes.wire(1), &topic, PARTITIONS, Some(&[4, 1, 2]));
    eventually("it has moved", || ongoing(&mut nodes.wire(1), None).is_empty().then_some(()));
    topics::write(&mut leader(&nodes, &topic), &topic, 0, &["kept"]);
    nodes.kill(4);
    eventually("it is seen to be dead", || brokers(&nodes, 2).contains(&(4, true)).then_some(()));
    let done = json(&nodes, &["cluster", "decommission", "4"]);
    assert_eq!(done["status"], "decommissioned");
    eventually("it is forgotten", || (brokers(&nodes, 2).len() == 3).then_some(()));
    let rows = replicas(&mut nodes.wire(1), &topic);
    assert!(rows.iter().all(|(all, _)| *all == [3, 1, 2]), "{rows:?}");
    assert_eq!(topics::values(&mut leader(&nodes, &topic), &topic, 0, 0), ["kept"]);

    let refused = cli(&nodes, &["cluster", "decommission", "3"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("has 3 replicas, and 2 other brokers are up"), "{}", refused.stderr);
    assert_eq!(brokers(&nodes, 2).len(), 3);
    await_quorum(&nodes, 1, &[1, 2, 3], &[]);
}

/// A connection to the leader of the first partition.
fn leader(nodes: &Nodes, topic: &str) -> crate::harness::wire::Wire {
    let first = || {
        let told = topics::metadata(&mut nodes.wire(1), &[topic]);
        let first = told.topics[0].partitions.iter().find(|p| p.partition_index == 0)?;
        usize::try_from(first.leader_id.0).ok().filter(|leader| *leader > 0)
    };
    nodes.wire(eventually("the first partition is led", first))
}

#[test]
fn a_drained_broker_leads_nothing_until_that_is_undone() {
    let Some(mut nodes) = Nodes::started(3, &["leader.imbalance.check.interval.seconds=1"]) else { return };
    let topic = create(&mut nodes.wire(1), PARTITIONS, 3);
    let alone = create(&mut nodes.wire(1), 3, 1);
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(500);
    let done = json_while_sending(&nodes, &mut stream, &["cluster", "drain", "2"]);
    assert_eq!(done["status"], "drained", "{done}");
    let stuck = leaders(&nodes, 1, &alone).iter().filter(|leader| **leader == 2).count();
    assert!(done["left"].as_array().is_some_and(|left| left.len() >= stuck), "{done}");
    for asked in 1..=3 {
        eventually("it leads nothing", || {
            leaders(&nodes, asked, &topic).iter().all(|l| [1, 3].contains(l)).then_some(())
        });
    }
    // Also what falls to it when another dies, and after its own start.
    nodes.kill(3);
    stream.send(300);
    nodes.kill(2);
    nodes.spawn(2);
    nodes.spawn(3);
    nodes.await_ready(2);
    nodes.await_ready(3);
    stream.send(300);
    eventually("it leads nothing", || leaders(&nodes, 1, &topic).iter().all(|l| [1, 3].contains(l)).then_some(()));
    std::thread::sleep(Duration::from_millis(1_500));
    eventually("nor later", || leaders(&nodes, 1, &topic).iter().all(|l| [1, 3].contains(l)).then_some(()));

    let done = json(&nodes, &["cluster", "drain", "2", "--undo"]);
    assert_eq!(done["status"], "active");
    eventually("it leads again", || leaders(&nodes, 1, &topic).contains(&2).then_some(()));
    let refused = cli(&nodes, &["cluster", "drain", "9"]);
    assert_eq!(refused.code, Some(1));
    stream.check(&nodes);
}
