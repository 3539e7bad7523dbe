//! Three real nodes under faults: what was acknowledged is there once, in order, and the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::messages::DescribeQuorumRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;

use crate::harness::client::{Delivery, Producer, Received, admin, config, consume_all, wait};
use crate::harness::group::Group;
use crate::harness::nodes::Nodes;
use crate::harness::replicas::{Batches, await_same_replicas, sequences};
use crate::harness::topics::{metadata, name};
use crate::harness::{PATIENCE, eventually, unique};

pub const PARTITIONS: i32 = 6;
/// As a careful application has them.
const IDEMPOTENT: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    ("linger.ms", "2"),
    ("batch.num.messages", "100"),
    ("message.timeout.ms", "120000"),
    ("retry.backoff.ms", "50"),
    // What a leader had taken when it was cut off is answered for when this is over.
    ("request.timeout.ms", "5000"),
];

/// A topic with a replica of each partition on each node, of which a majority must be in sync.
pub fn replicated_topic(nodes: &Nodes) -> String {
    let topic = unique("replicated");
    let admin = admin(&nodes.bootstrap());
    let replicas = i32::try_from(nodes.count()).expect("a small number");
    let majority = (replicas / 2 + 1).to_string();
    let new =
        [NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(replicas)).set("min.insync.replicas", &majority)];
    let created = wait(admin.create_topics(&new, &AdminOptions::new())).expect("an answer");
    assert!(created[0].is_ok(), "{created:?}");
    all_in_sync(nodes, &topic);
    topic
}

/// Leader and number of replicas in sync of each partition, as a fresh client is told.
pub fn leaders(bootstrap: &str, topic: &str) -> Option<Vec<(i32, usize)>> {
    let client: BaseConsumer = BaseConsumer::from_config(&config(bootstrap, &[])).expect("client");
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
    let topic = metadata.topics().first()?;
    let partitions: Vec<_> = topic.partitions().iter().map(|p| (p.leader(), p.isr().len())).collect();
    (partitions.len() == PARTITIONS as usize).then_some(partitions)
}

pub fn leader_of_first(nodes: &Nodes, topic: &str) -> usize {
    eventually("the first partition has a leader", || {
        let (leader, _) = *leaders(&nodes.bootstrap(), topic)?.first()?;
        usize::try_from(leader).ok().filter(|leader| *leader > 0)
    })
}

/// Numbered messages of one producer, spread over the partitions, and a group that reads them and commits.
pub struct Stream<'a> {
    producer: Producer,
    group: Group,
    topic: &'a str,
    sent: usize,
    padding: String,
}

impl<'a> Stream<'a> {
    pub fn start(nodes: &Nodes, topic: &'a str) -> Self {
        let producer = Producer::new(&nodes.bootstrap(), &IDEMPOTENT);
        let group = Group::start(&nodes.bootstrap(), topic, &unique("readers"));
        Self { producer, group, topic, sent: 0, padding: String::new() }
    }

    /// The same of a client that asks another node who leads when one does not answer for 5 s; librdkafka waits a minute.
    pub fn start_impatient(nodes: &Nodes, topic: &'a str) -> Self {
        let settings = [IDEMPOTENT.as_slice(), &[("socket.timeout.ms", "5000")]].concat();
        Self { producer: Producer::new(&nodes.bootstrap(), &settings), ..Self::start(nodes, topic) }
    }

    /// Each message has so many bytes more.
    pub fn padded(self, size: usize) -> Self {
        Self { padding: format!(" {}", "x".repeat(size)), ..self }
    }

    /// Sends so many, whatever becomes of them for now.
    pub fn push(&mut self, more: usize) {
        for _ in 0..more {
            self.push_one();
        }
    }

    fn push_one(&mut self) {
        let partition = Some((self.sent % PARTITIONS as usize) as i32);
        let value = format!("value {}{}", self.sent, self.padding);
        self.producer.send(self.sent, self.topic, partition, None, value.as_bytes());
        self.sent += 1;
    }

    /// Sends until so many more are acknowledged.
    pub fn send(&mut self, more: usize) {
        let enough = self.producer.delivered() + more;
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.producer.delivered() < enough {
            assert!(Instant::now() < deadline, "no more is acknowledged");
            if self.sent > enough + 20_000 {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            self.push_one();
        }
    }

    /// Whether a commit of the group was acknowledged.
    pub fn has_committed(&self) -> bool {
        !self.group.committed().is_empty()
    }

    /// What the group committed stands, and it has left out nothing.
    #[track_caller]
    pub fn check_committed(&mut self, nodes: &Nodes) {
        self.group.check_committed(&nodes.bootstrap());
    }

    /// What must be so after every fault. All that was sent was acknowledged, and is there once, in order, at its offset, with
    /// the same bytes on every replica; the group has read all of it, and what it committed stands. Gives where each
    /// partition ends.
    #[track_caller]
    pub fn check(mut self, nodes: &Nodes) -> BTreeMap<i32, i64> {
        let deliveries = self.producer.flush();
        let batches = await_same_replicas(nodes, self.topic);
        let ends = self.check_records(nodes, deliveries, &batches);
        self.group.await_read(&ends);
        self.check_committed(nodes);
        ends
    }

    #[track_caller]
    fn check_records(&self, nodes: &Nodes, deliveries: Vec<Delivery>, batches: &Batches) -> BTreeMap<i32, i64> {
        let mut acknowledged = BTreeMap::new();
        for delivery in deliveries {
            let place = delivery.result.unwrap_or_else(|e| panic!("message {}: {e}", delivery.number));
            acknowledged.insert(delivery.number, place);
        }
        assert_eq!(acknowledged.len(), self.sent);
        let mut ends = BTreeMap::new();
        for (partition, records) in consume_all(&nodes.bootstrap(), self.topic, PARTITIONS) {
            let sent_again = is_sent_again_by_the_client(partition, &batches[&partition]);
            let mut offsets = BTreeMap::<usize, Vec<i64>>::new();
            let mut numbers = Vec::new();
            for record in &records {
                let number = number(&record.value);
                let at = offsets.entry(number).or_default();
                if at.is_empty() || !sent_again {
                    numbers.push(number);
                }
                at.push(record.offset);
            }
            let expected: Vec<usize> =
                (0..self.sent).filter(|n| (*n % PARTITIONS as usize) as i32 == partition).collect();
            assert!(numbers == expected, "partition {partition}: {}", differs(&records, &offsets, &expected));
            ends.insert(partition, records.last().map_or(0, |last| last.offset + 1));
            for (number, offsets) in offsets {
                // A delivery that was learnt of only by its retry has no offset.
                let (at, offset) = acknowledged[&number];
                assert!(at == partition && (offset < 0 || offsets.contains(&offset)), "{at} {offset} {offsets:?}");
            }
        }
        ends
    }
}

/// No batch of a producer's epoch is there twice: that is what a broker keeps. A client may well send again under a new
/// epoch what it was not told of: librdkafka (2.12) does with all that is on its way, in every partition, when one batch overtakes
/// another after a change of leaders (`rd_kafka_idemp_drain_epoch_bump`, "skipped sequence numbers").
#[track_caller]
fn is_sent_again_by_the_client(partition: i32, batches: &[u8]) -> bool {
    let sequences = sequences(batches);
    let different: BTreeSet<_> = sequences.iter().collect();
    assert_eq!(different.len(), sequences.len(), "partition {partition} has a batch twice");
    let epochs: BTreeSet<_> = sequences.iter().map(|(id, epoch, _)| (id, epoch)).collect();
    epochs.len() > 1
}

/// Where what was read first departs from what was sent: a number that comes twice with both offsets, or one that is missing.
fn differs(records: &[Received], offsets: &BTreeMap<usize, Vec<i64>>, expected: &[usize]) -> String {
    let doubled: Vec<_> = offsets.iter().filter(|(_, at)| at.len() > 1).collect();
    let missing: Vec<_> = expected.iter().filter(|number| !offsets.contains_key(number)).collect();
    let (first, last) = (doubled.first(), doubled.last());
    let counts = format!("{} of {}", records.len(), expected.len());
    format!(
        "{counts}, doubled {}: {first:?} to {last:?}, missing {}: {:?}",
        doubled.len(),
        missing.len(),
        missing.first()
    )
}

/// The metadata and the committed offsets are on all three nodes as well: before that another must not lose its disk.
pub fn internals_in_sync(nodes: &Nodes) {
    eventually("committed offsets are on every node", || {
        let told = metadata(&mut nodes.wire(1), &["__consumer_offsets"]);
        let partitions = &told.topics.first().filter(|topic| topic.error_code == 0)?.partitions;
        partitions.iter().all(|p| p.leader_id.0 > 0 && p.isr_nodes.len() == nodes.count()).then_some(())
    });
    let partition = PartitionData::default().with_partition_index(0);
    let topic = TopicData::default().with_topic_name(name("__cluster_metadata")).with_partitions(vec![partition]);
    let ask = DescribeQuorumRequest::default().with_topics(vec![topic]);
    eventually("every node votes on the metadata, and has all of it", || {
        let told = nodes.wire(1).call(2, &ask);
        let quorum = told.topics.first()?.partitions.first().filter(|quorum| quorum.error_code == 0)?;
        let voters: BTreeSet<i32> = quorum.current_voters.iter().map(|voter| voter.replica_id.0).collect();
        let have_all = quorum.current_voters.iter().all(|voter| voter.log_end_offset >= quorum.high_watermark);
        let is_settled = voters.len() == nodes.count() && quorum.current_voters.len() == nodes.count();
        (is_settled && have_all && quorum.observers.is_empty()).then_some(())
    });
}

pub fn number(value: &[u8]) -> usize {
    let text = std::str::from_utf8(value).expect("UTF-8");
    let number = text.strip_prefix("value ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.expect("a value of ours")
}

pub fn all_in_sync(nodes: &Nodes, topic: &str) {
    in_sync(nodes, topic, nodes.count());
}

/// Waits until every partition is led and has so many replicas in sync.
#[track_caller]
pub fn in_sync(nodes: &Nodes, topic: &str, count: usize) {
    let mut told = Vec::new();
    eventually("all replicas are in sync", || {
        let leaders = leaders(&nodes.bootstrap(), topic)?;
        if leaders != told {
            println!("leaders and replicas in sync: {leaders:?}");
            told.clone_from(&leaders);
        }
        leaders.iter().all(|(leader, in_sync)| *leader > 0 && *in_sync == count).then_some(())
    });
}

#[test]
fn each_node_is_killed_in_turn_and_nothing_is_lost_or_doubled() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic);
    for dies in [1, 2, 3, 1] {
        stream.send(2_000);
        nodes.kill(dies);
        stream.send(2_000);
        stream.check_committed(&nodes);
        nodes.spawn(dies);
        nodes.await_ready(dies);
        all_in_sync(&nodes, &topic);
        stream.check_committed(&nodes);
    }
    stream.check(&nodes);
}

#[test]
fn all_nodes_are_killed_at_once_and_nothing_is_lost_or_doubled() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic);
    for _ in 0..3 {
        stream.send(2_000);
        (1..=3).for_each(|id| nodes.kill(id));
        nodes.start_all();
        stream.check_committed(&nodes);
    }
    stream.send(1_000);
    stream.check(&nodes);
}

#[test]
fn a_leader_that_stands_still_is_replaced_and_takes_nothing_when_it_goes_on() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let (topic, probes) = (replicated_topic(&nodes), replicated_topic(&nodes));
    let mut stream = Stream::start(&nodes, &topic);
    for _ in 0..3 {
        stream.send(1_000);
        let leader = leader_of_first(&nodes, &probes);
        nodes.pause(leader);
        let others: Vec<&str> = (1..=3).filter(|id| *id != leader).map(|id| nodes.kafka(id)).collect();
        let begun = Instant::now();
        // One that was told of the old leader waits for it: each asks anew.
        eventually("a fresh client gets an acknowledgement", || {
            let fresh = Producer::new(&others.join(","), &[("message.timeout.ms", "1000"), ("linger.ms", "0")]);
            fresh.send(0, &probes, Some(0), None, b"probe");
            fresh.flush()[0].result.is_ok().then_some(())
        });
        println!("acknowledged {:?} after the leader stood still", begun.elapsed());
        nodes.resume(leader);
        stream.send(1_000);
        all_in_sync(&nodes, &topic);
        all_in_sync(&nodes, &probes);
        stream.check_committed(&nodes);
    }
    stream.check(&nodes);
    await_same_replicas(&nodes, &probes);
}

#[test]
fn a_node_that_is_stopped_hands_over_and_no_produce_fails() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic);
    for stops in [2, 3, 1] {
        stream.send(2_000);
        let (status, log) = nodes.stop(stops);
        assert!(status.success(), "{log}");
        stream.send(2_000);
        stream.check_committed(&nodes);
        nodes.spawn(stops);
        nodes.await_ready(stops);
        all_in_sync(&nodes, &topic);
    }
    stream.check(&nodes);
}

/// SIGSTOP of each node in turn, then of all at once.
#[test]
fn nodes_stand_still_in_turn_and_all_at_once_and_nothing_is_lost_or_doubled() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic);
    for stands in [1, 2, 3] {
        stream.send(1_000);
        nodes.pause(stands);
        stream.send(1_000);
        nodes.resume(stands);
        all_in_sync(&nodes, &topic);
        stream.check_committed(&nodes);
    }
    (1..=3).for_each(|id| nodes.pause(id));
    // Longer than an election takes: whoever led cannot know whether it still does.
    std::thread::sleep(Duration::from_secs(2));
    (1..=3).for_each(|id| nodes.resume(id));
    stream.send(1_000);
    stream.check(&nodes);
}

#[test]
fn a_group_goes_on_when_its_coordinator_dies() {
    let Some(mut nodes) = Nodes::started(3, &["offsets.topic.num.partitions=1"]) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic);
    stream.send(6_000);
    let more = [
        ("group.id", "survivors"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("session.timeout.ms", "45000"),
    ];
    let consumer: BaseConsumer = BaseConsumer::from_config(&config(&nodes.bootstrap(), &more)).expect("consumer");
    consumer.subscribe(&[&topic]).expect("subscribe");
    let read = |count: usize| {
        let mut positions = BTreeMap::new();
        let deadline = Instant::now() + 2 * PATIENCE;
        let mut seen = 0;
        while seen < count {
            assert!(Instant::now() < deadline, "{seen} of {count}");
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                positions.insert(message.partition(), message.offset() + 1);
                seen += 1;
            }
        }
        positions
    };
    for _ in 0..3 {
        let positions = read(1_000);
        eventually("offsets are committed", || consumer.commit_consumer_state(CommitMode::Sync).ok());
        let coordinator = leaders_of_offsets(&nodes);
        nodes.kill(coordinator);
        let committed =
            eventually("the new coordinator has the offsets", || consumer.committed(Duration::from_secs(5)).ok());
        for element in committed.elements_for_topic(&topic) {
            let Some(position) = positions.get(&element.partition()) else { continue };
            let told = element.offset().to_raw().unwrap_or(-1);
            assert!(told >= *position, "partition {}: {told} after {position}", element.partition());
        }
        nodes.spawn(coordinator);
        nodes.await_ready(coordinator);
    }
    read(1_000);
    stream.check(&nodes);
}

fn leaders_of_offsets(nodes: &Nodes) -> usize {
    eventually("__consumer_offsets has a leader", || {
        let client: BaseConsumer = BaseConsumer::from_config(&config(&nodes.bootstrap(), &[])).expect("client");
        let metadata = client.fetch_metadata(Some("__consumer_offsets"), Duration::from_secs(5)).ok()?;
        let leader = metadata.topics().first()?.partitions().first()?.leader();
        usize::try_from(leader).ok().filter(|leader| *leader > 0)
    })
}

/// The disk, or what is on it of the store, or of the logs.
#[test]
fn a_node_that_lost_its_disk_comes_back_as_a_new_replica() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let mut stream = Stream::start(&nodes, &topic);
    for (hurt, lost) in [(2, ""), (3, "kv"), (1, "log")] {
        stream.send(2_000);
        let before = nodes.meta(hurt, "directory.id");
        nodes.kill(hurt);
        std::fs::remove_dir_all(nodes.data_dir(hurt).join(lost)).expect("the disk is lost");
        stream.send(1_000);
        nodes.spawn(hurt);
        nodes.await_ready(hurt);
        assert_ne!(nodes.meta(hurt, "directory.id"), before, "it is another disk");
        stream.send(1_000);
        all_in_sync(&nodes, &topic);
        internals_in_sync(&nodes);
        stream.check_committed(&nodes);
        // Its word counts again: with it, another may go.
        let other = hurt % 3 + 1;
        nodes.kill(other);
        stream.send(1_000);
        nodes.spawn(other);
        nodes.await_ready(other);
        all_in_sync(&nodes, &topic);
        internals_in_sync(&nodes);
    }
    stream.check(&nodes);
}
