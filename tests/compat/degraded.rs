//! What a cluster without a majority says of itself, and who is not taken in.

use std::time::{Duration, Instant};

use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_quorum_response::ReplicaState;
use kafka_protocol::messages::{
    CreateTopicsRequest, DescribeClusterRequest, DescribeQuorumRequest, FindCoordinatorRequest,
};

use crate::cli::{Done, run};
use crate::failover::{all_in_sync, replicated, write_anew};
use crate::harness::batch::Batch;
use crate::harness::nodes::Nodes;
use crate::harness::topics::{creatable, name, produce, produce_request};
use crate::harness::{eventually, text, unique};

/// Nobody leads, nobody has answered in time, too few replicas.
const NOT_ACKNOWLEDGED: [i16; 4] = [6, 7, 19, 20];

fn ask(nodes: &Nodes, id: usize, args: &[&str]) -> Done {
    let args: Vec<_> = args.iter().copied().chain(["--brokers", nodes.kafka(id), "--timeout", "3"]).collect();
    run(&args, "")
}

/// Node id, log end, and the times of the last fetch and of the last that left nothing, of each voter.
fn voters(nodes: &Nodes, asked: usize) -> Option<Vec<(i32, i64, i64, i64)>> {
    let topic = TopicData::default()
        .with_topic_name(name("__cluster_metadata"))
        .with_partitions(vec![PartitionData::default().with_partition_index(0)]);
    let told = nodes.wire(asked).call(2, &DescribeQuorumRequest::default().with_topics(vec![topic]));
    let partition = told.topics.first()?.partitions.first().filter(|p| p.error_code == 0)?;
    let row = |v: &ReplicaState| (v.replica_id.0, v.log_end_offset, v.last_fetch_timestamp, v.last_caught_up_timestamp);
    Some(partition.current_voters.iter().map(row).collect())
}

#[test]
fn a_node_without_a_majority_says_so() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = unique("topic");
    let wanted = creatable(&topic, 3, &[]).with_replication_factor(3);
    let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]);
    assert_eq!(nodes.wire(1).call(7, &request).topics[0].error_code, 0);
    eventually("groups have coordinators", || {
        let asked = FindCoordinatorRequest::default().with_key(text("g")).with_key_type(0);
        (nodes.wire(1).call(2, &asked).error_code == 0).then_some(())
    });
    eventually("all groups are listed", || (ask(&nodes, 1, &["group", "list"]).code == Some(0)).then_some(()));
    assert_eq!(nodes.get(1, "/health/ready").0, 200);

    nodes.kill(3);
    // Its place is known as long as the leader is the one that heard it: then the times stay, and are not "never".
    eventually("the voter is told as it was last", || {
        let rows = voters(&nodes, 1)?;
        let now = rows.iter().map(|row| row.2).max()?;
        let (_, end, fetched, caught_up) = *rows.iter().find(|row| row.0 == 3)?;
        assert!(end > 0 || (end, caught_up) == (-1, -1), "{rows:?}");
        (fetched > 0 && now - fetched > 1_500).then_some(())
    });

    nodes.kill(2);
    eventually("the node is not ready", || {
        let (code, text) = nodes.get(1, "/health/ready");
        (code == 503 && text.contains("no leader of the metadata")).then_some(())
    });
    assert_eq!(nodes.get(1, "/health/live").0, 200);
    let listed = ask(&nodes, 1, &["group", "list"]);
    assert_eq!(listed.code, Some(1), "{}", listed.stderr);
    assert!(listed.stderr.contains("partitions of __consumer_offsets have no leader"), "{}", listed.stderr);

    let started = Instant::now();
    let described = ask(&nodes, 1, &["topic", "describe", &topic]);
    assert!(described.stdout.contains("PARTITION") && described.stdout.contains(&topic), "{}", described.stderr);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    let wanted = creatable(&unique("topic"), 1, &[]);
    let request = CreateTopicsRequest::default().with_timeout_ms(1_000).with_topics(vec![wanted]);
    let refused = nodes.wire(1).call(7, &request).topics.remove(0);
    let words = refused.error_message.map(|words| words.to_string()).unwrap_or_default();
    assert!(refused.error_code != 0 && words.contains("majority of"), "{} {words}", refused.error_code);

    nodes.start_all();
    eventually("the node is ready again", || (nodes.get(1, "/health/ready").0 == 200).then_some(()));
}

#[test]
fn a_node_at_the_address_of_another_is_not_taken_in() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let odd = nodes.add(vec![1, 2, 3]);
    let taken = format!("rpc.advertised={}", nodes.rpc(2));
    nodes.set(odd, taken);
    nodes.spawn(odd);
    nodes.await_log(odd, "every node needs an rpc.advertised of its own");
    let told = nodes.wire(1).call(2, &DescribeClusterRequest::default().with_include_fenced_brokers(true));
    assert_eq!(told.brokers.len(), 3);
}

/// What is not flushed here is with the others: where there are others, `acks=all` waits for a majority of them.
#[test]
fn write_caching_does_not_acknowledge_without_a_majority() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated(&nodes, &[("write.caching", "true"), ("min.insync.replicas", "1")]);
    let leader = all_in_sync(&nodes, &topic);
    let mut wire = nodes.wire(leader);
    assert_eq!(produce(&mut wire, &topic, 0, Batch::of(&["with all"]).build()).error_code, 0);
    let others = [leader % 3 + 1, (leader + 1) % 3 + 1];
    nodes.pause(others[0]);
    assert_eq!(produce(&mut wire, &topic, 0, Batch::of(&["with one"]).build()).error_code, 0);
    nodes.pause(others[1]);
    let alone = produce_request(&topic, 0, Batch::of(&["alone"]).build()).with_timeout_ms(2_000);
    for _ in 0..2 {
        let code = wire.call(9, &alone).responses[0].partition_responses[0].error_code;
        assert!(NOT_ACKNOWLEDGED.contains(&code), "error {code} of one that is alone");
    }
    others.iter().for_each(|id| nodes.resume(*id));
    write_anew(&nodes, 3, 0, &topic);
}
