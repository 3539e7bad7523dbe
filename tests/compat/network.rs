//! Three real nodes on a network that is cut, one way or both, and slow: nothing that was acknowledged is lost, those who are
//! the majority go on, and who is cut off takes nothing.

use std::time::{Duration, Instant};

use crate::failover;
use crate::harness::batch::Batch;
use crate::harness::eventually;
use crate::harness::nodes::Nodes;
use crate::harness::replicas::await_same_replicas;
use crate::harness::topics::{metadata, produce_request};
use crate::replication::{Stream, all_in_sync, leader_of_first, replicated_topic};

const ALL: [usize; 3] = [1, 2, 3];
/// Its answer names nobody who leads elsewhere.
const PRODUCE: i16 = 9;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
/// What one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(1);

/// One record with acks=all to the partition of probes; the error of the answer, if there was one.
fn probe(nodes: &Nodes, to: usize, topic: &str) -> Option<i16> {
    let records = Batch::of(&["a probe"]).build();
    let answer = nodes.wire(to).try_call(PRODUCE, &produce_request(topic, 0, records), ATTEMPT)?;
    Some(answer.responses[0].partition_responses[0].error_code)
}

/// Which node leads the partition of probes, as this one tells; 0: none.
fn leader(nodes: &Nodes, asked: usize, topic: &str) -> usize {
    let told = metadata(&mut nodes.wire(asked), &[topic]);
    let partition = told.topics[0].partitions.first().filter(|partition| partition.error_code == 0);
    partition.and_then(|partition| usize::try_from(partition.leader_id.0).ok()).unwrap_or(0)
}

/// A client that knows nothing asks these nodes for the leader, until one of them acknowledges.
fn await_acknowledgement(nodes: &Nodes, of: &[usize], topic: &str) {
    eventually("one of the majority acknowledges", || {
        of.iter().find(|asked| {
            let leader = leader(nodes, **asked, topic);
            of.contains(&leader) && probe(nodes, leader, topic) == Some(0)
        })
    });
}

fn settle(nodes: &Nodes, topics: [&str; 2]) {
    nodes.net().heal();
    topics.iter().for_each(|topic| all_in_sync(nodes, topic));
}

/// What was sent to the first topic is there as it must be, and the replicas of the probes have the same.
fn check(stream: Stream<'_>, nodes: &Nodes, probes: &str) {
    stream.check(nodes);
    await_same_replicas(nodes, probes);
}

#[test]
fn each_node_is_cut_off_in_turn_and_the_others_go_on() {
    let Some(nodes) = Nodes::started_apart(3, &[]) else { return };
    let (topic, probes) = (replicated_topic(&nodes), replicated_topic(&nodes));
    let mut stream = Stream::start(&nodes, &topic);
    for leads in [true, false, true, false, true] {
        stream.send(1_000);
        let leader = leader_of_first(&nodes, &probes);
        let alone = if leads { leader } else { leader % 3 + 1 };
        let others: Vec<usize> = ALL.into_iter().filter(|id| *id != alone).collect();
        let begun = Instant::now();
        nodes.net().isolate(alone);
        await_acknowledgement(&nodes, &others, &probes);
        println!("node {alone} cut off, it led: {leads}; the others acknowledged after {:?}", begun.elapsed());
        // Clients still reach it, and it takes nothing.
        eventually("who is cut off leads no more", || {
            let told = probe(&nodes, alone, &probes);
            assert_ne!(told, Some(0), "acknowledged by one that is alone");
            (told == Some(NOT_LEADER_OR_FOLLOWER)).then_some(())
        });
        // Clients forget whom they are not told of: then they would ask nobody else.
        eventually("who is cut off tells of all nodes", || {
            (metadata(&mut nodes.wire(alone), &[&probes]).brokers.len() == 3).then_some(())
        });
        // Whoever is connected to no other is sent away.
        stream.send(1_000);
        settle(&nodes, [&topic, &probes]);
        stream.check_committed(&nodes);
        stream.send(500);
    }
    check(stream, &nodes, &probes);
}

#[test]
fn a_fresh_client_is_acknowledged_soon_after_a_leader_was_cut_off() {
    let Some(nodes) = Nodes::started_apart(3, &[]) else { return };
    let topic = failover::replicated(&nodes, &[]);
    let mut took = Vec::new();
    for _ in 0..failover::tries().0 {
        let leader = failover::all_in_sync(&nodes, &topic);
        let failed = Instant::now();
        nodes.net().isolate(leader);
        failover::write_anew(&nodes, 3, leader, &topic);
        took.push(failed.elapsed());
        nodes.net().heal();
    }
    failover::report("first acknowledgement after a leader was cut off", Duration::from_secs(2), took);
}

#[test]
fn links_that_carry_one_way_only_lose_nothing() {
    let Some(nodes) = Nodes::started_apart(3, &[]) else { return };
    let (topic, probes) = (replicated_topic(&nodes), replicated_topic(&nodes));
    let mut stream = Stream::start(&nodes, &topic);
    // Of the leader (0) and the others: one does not hear it, it does not hear one, nobody hears it, it hears nobody, two
    // followers hear each other one way only, a ring.
    let stories: [&[(usize, usize)]; 6] =
        [&[(0, 1)], &[(1, 0)], &[(0, 1), (0, 2)], &[(1, 0), (2, 0)], &[(1, 2)], &[(0, 1), (1, 2)]];
    for story in stories {
        let leads = leader_of_first(&nodes, &probes);
        let node = |place: &usize| (leads - 1 + place) % 3 + 1;
        let cuts: Vec<(usize, usize)> = story.iter().map(|(from, to)| (node(from), node(to))).collect();
        let begun = Instant::now();
        cuts.iter().for_each(|(from, to)| nodes.net().cut(*from, *to));
        eventually("a leader acknowledges", || {
            ALL.iter().find(|asked| {
                let leader = leader(&nodes, **asked, &probes);
                leader > 0 && probe(&nodes, leader, &probes) == Some(0)
            })
        });
        // A client that is connected to those who are cut off may need them again first.
        stream.push(500);
        println!("node {leads} led, cut {cuts:?}: acknowledged after {:?}", begun.elapsed());
        settle(&nodes, [&topic, &probes]);
        stream.check_committed(&nodes);
        stream.send(500);
    }
    check(stream, &nodes, &probes);
}

#[test]
fn slow_links_lose_nothing() {
    let Some(nodes) = Nodes::started_apart(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic).padded(300);
    for rate in ["2mbit", "500kbit"] {
        nodes.net().slow_down(rate);
        let begun = Instant::now();
        stream.send(2_000);
        println!("{rate}: 2,000 records more acknowledged after {:?}", begun.elapsed());
        nodes.net().heal();
        all_in_sync(&nodes, &topic);
    }
    stream.check(&nodes);
}
