//! A follower that stands still while much is written: the leader keeps nothing of it in memory, and it catches up.

use crate::failover::{all_in_sync, replicated};
use crate::harness::client::Producer;
use crate::harness::eventually;
use crate::harness::nodes::Nodes;
use crate::harness::replicas::await_same_bytes;

const MESSAGE_BYTES: usize = 100_000;
/// Buffers differ from one moment to the next, by far less than what is written.
const GROWTH_MAX: u64 = 96 << 20;

/// Writes so many megabytes, with acknowledgements of a majority.
fn write(nodes: &Nodes, topic: &str, megabytes: usize) {
    let settings = [("enable.idempotence", "true"), ("queue.buffering.max.kbytes", "8192"), ("linger.ms", "5")];
    let producer = Producer::new(&nodes.bootstrap(), &settings);
    for n in 0..megabytes * 1_000_000 / MESSAGE_BYTES {
        producer.send(n, topic, Some(0), None, &[b'x'; MESSAGE_BYTES]);
    }
    let failed = producer.flush().into_iter().find(|delivery| delivery.result.is_err());
    assert!(failed.is_none(), "{failed:?}");
}

#[test]
fn a_follower_that_stands_still_does_not_fill_the_memory_of_its_leader() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated(&nodes, &[]);
    let leader = all_in_sync(&nodes, &topic);
    // Buffers and caches have their size from then on.
    write(&nodes, &topic, 30);
    let before = nodes.memory_bytes(leader);
    let slow = leader % 3 + 1;
    nodes.pause(slow);
    let mut most = before;
    for _ in 0..6 {
        write(&nodes, &topic, 50);
        most = most.max(nodes.memory_bytes(leader));
    }
    println!("node {leader}: {} MB before, {} MB at most", before >> 20, most >> 20);
    assert!(most < before + GROWTH_MAX, "{before} bytes before, then {most}");
    let told = nodes.told_of(leader, &topic).expect("an answer");
    assert_eq!(told[0].leader_id.0, leader as i32, "it led all the while");
    nodes.resume(slow);
    eventually("it has caught up", || {
        let told = nodes.told_of(leader, &topic)?;
        (told[0].isr_nodes.len() == 3).then_some(())
    });
    await_same_bytes(&nodes, &[1, 2, 3], &topic, 1);
}
