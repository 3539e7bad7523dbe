//! Nodes in racks: consumers read from a replica in their own (KIP-392), and replicas are spread over all of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest};
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::client::{Producer, config};
use crate::harness::nodes::Nodes;
use crate::harness::topics::{self, LATEST, creatable, fetch_request, list_offset};
use crate::harness::wire::Wire;
use crate::harness::{PATIENCE, batch, eventually, text, unique};

const SELECTOR: &str = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";
const FETCHED: &str = "millstream_response_bytes_total{api=\"Fetch\"}";
const OFFSET_OUT_OF_RANGE: i16 = 1;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
/// The first version that knows racks, and the one that the tests speak.
const RACKS_FROM: i16 = 11;
const VERSION: i16 = 12;

fn rack(node: usize, racks: usize) -> String {
    format!("rack-{}", (node - 1) % racks + 1)
}

/// So many nodes, in turn in so many racks.
fn in_racks(count: usize, racks: usize, settings: &[&str]) -> Option<Nodes> {
    let mut nodes = Nodes::new(count, settings)?;
    (1..=count).for_each(|id| nodes.set(id, format!("broker.rack={}", rack(id, racks))));
    (1..=count).for_each(|id| nodes.spawn(id));
    (1..=count).for_each(|id| nodes.await_ready(id));
    Some(nodes)
}

/// A topic with one partition and a replica on each of three nodes, in sync: its name, its leader and the others.
#[track_caller]
fn replicated(nodes: &Nodes) -> (String, usize, [usize; 2]) {
    let topic = unique("topic");
    let mut wire = nodes.wire(1);
    let wanted = creatable(&topic, 1, &[]).with_replication_factor(3);
    let created = wire.call(7, &CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]));
    assert_eq!(created.topics[0].error_code, 0);
    let leader = leader(&mut wire, &topic, 3);
    let others: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    topics::await_topic(&mut nodes.wire(leader), &topic, 1);
    (topic, leader, [others[0], others[1]])
}

/// The leader, once it has so many replicas in sync.
#[track_caller]
fn leader(wire: &mut Wire, topic: &str, in_sync: usize) -> usize {
    eventually("a leader, and replicas in sync", || {
        let told = topics::metadata(wire, &[topic]);
        let partition = told.topics[0].partitions.first()?;
        let leader = usize::try_from(partition.leader_id.0).ok().filter(|leader| *leader > 0)?;
        (partition.error_code == 0 && partition.isr_nodes.len() == in_sync).then_some(leader)
    })
}

fn of_rack(topic: &str, offset: i64, rack: &str) -> FetchRequest {
    fetch_request(topic, 0, offset).with_rack_id(text(rack))
}

#[track_caller]
fn fetch(wire: &mut Wire, request: &FetchRequest) -> PartitionData {
    let response = wire.call(VERSION, request);
    assert_eq!(response.error_code, 0);
    response.responses[0].partitions[0].clone()
}

fn count(data: &PartitionData) -> usize {
    batch::read(&data.records.clone().unwrap_or_default()).len()
}

/// Waits until a follower has told that it knows so much to be committed.
#[track_caller]
fn await_followed(wire: &mut Wire, topic: &str, high_watermark: i64) {
    eventually("the follower knows what is committed", || {
        let told = fetch(wire, &of_rack(topic, 0, ""));
        assert!([0, NOT_LEADER_OR_FOLLOWER].contains(&told.error_code), "error {}", told.error_code);
        (told.high_watermark == high_watermark).then_some(())
    });
}

/// What a fetch was told: its error, where to go instead, how many records came.
type Seen = (i16, i32, usize);

fn seen(data: &PartitionData) -> Seen {
    (data.error_code, data.preferred_read_replica.0, count(data))
}

#[test]
fn a_consumer_is_sent_to_the_follower_in_its_rack() {
    let Some(nodes) = in_racks(3, 3, &[SELECTOR]) else { return };
    let (topic, ..) = replicated(&nodes);
    write(&nodes, &topic, &["one", "two", "three"]);
    // On a busy machine the leader may change on the way: then once more.
    let mut last = Vec::new();
    let told = eventually("it is sent away", || {
        let leader = leader(&mut nodes.wire(1), &topic, 3);
        let follower = leader % 3 + 1;
        let (mut wire, near) = (nodes.wire(leader), rack(follower, 3));
        let whole = fetch(&mut wire, &of_rack(&topic, 0, &near));
        let mut all = vec![
            seen(&whole),
            // At once, however long the client would wait.
            seen(&fetch(&mut wire, &of_rack(&topic, 3, &near).with_max_wait_ms(20_000))),
            seen(&wire.call(RACKS_FROM, &of_rack(&topic, 0, &near)).responses[0].partitions[0]),
        ];
        let first = wire.call(VERSION, &of_rack(&topic, 0, &near).with_session_epoch(0));
        all.push(seen(&first.responses[0].partitions[0]));
        let mut next = of_rack(&topic, 0, &near).with_session_id(first.session_id).with_session_epoch(1);
        next.topics.clear();
        // In a session it is told each time.
        let next = wire.call(VERSION, &next);
        all.extend(next.responses.first().map(|topic| seen(&topic.partitions[0])));
        for stays in [rack(leader, 3), "elsewhere".to_owned(), String::new()] {
            all.push(seen(&fetch(&mut wire, &of_rack(&topic, 0, &stays))));
        }
        all.push(seen(&fetch(&mut wire, &of_rack(&topic, 4, &near))));
        // A replica is never sent away.
        all.push(seen(&fetch(&mut wire, &of_rack(&topic, 0, &near).with_replica_id(7.into()))));
        let away = (0, i32::try_from(follower).expect("an id"), 0);
        let here = (0, -1, 3);
        let wanted = [away, away, away, away, away, here, here, here, (OFFSET_OUT_OF_RANGE, -1, 0), here];
        if all != wanted && all != last {
            eprintln!("leader {leader}: {all:?}");
            last = all;
            return None;
        }
        (all == wanted).then_some(whole)
    });
    assert_eq!((told.high_watermark, told.log_start_offset, told.last_stable_offset), (3, 0, 3));
}

/// Writes, wherever the leader is.
#[track_caller]
fn write(nodes: &Nodes, topic: &str, values: &[&str]) {
    eventually("it is written", || {
        let leader = leader(&mut nodes.wire(1), topic, 3);
        let written = topics::produce(&mut nodes.wire(leader), topic, 0, batch::Batch::of(values).build());
        assert!([0, NOT_LEADER_OR_FOLLOWER].contains(&written.error_code), "error {}", written.error_code);
        (written.error_code == 0).then_some(())
    });
}

#[test]
fn a_follower_answers_consumers() {
    // Without a selector nobody is sent to it; it answers who comes.
    let Some(nodes) = in_racks(3, 3, &[]) else { return };
    let (topic, ..) = replicated(&nodes);
    write(&nodes, &topic, &["one", "two", "three"]);
    let mut last = Vec::new();
    eventually("a follower answers", || {
        let leader = leader(&mut nodes.wire(1), &topic, 3);
        let follower = leader % 3 + 1;
        let (mut at_leader, mut wire) = (nodes.wire(leader), nodes.wire(follower));
        let original = fetch(&mut at_leader, &of_rack(&topic, 0, &rack(follower, 3)));
        let copy = fetch(&mut wire, &of_rack(&topic, 0, ""));
        let epoch = topics::metadata(&mut wire, &[&topic]).topics[0].partitions[0].leader_epoch;
        let mut in_epoch = |epoch| {
            let mut request = of_rack(&topic, 0, "");
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            fetch(&mut wire, &request).error_code
        };
        let all = vec![
            in_epoch(epoch),
            in_epoch(epoch - 1),
            in_epoch(epoch + 1),
            original.error_code,
            copy.error_code,
            fetch(&mut wire, &of_rack(&topic, 4, "")).error_code,
            wire.call(RACKS_FROM - 1, &fetch_request(&topic, 0, 0)).responses[0].partitions[0].error_code,
            list_offset(&mut wire, &topic, 0, LATEST).error_code,
        ];
        let wanted = [
            0,
            FENCED_LEADER_EPOCH,
            UNKNOWN_LEADER_EPOCH,
            0,
            0,
            OFFSET_OUT_OF_RANGE,
            NOT_LEADER_OR_FOLLOWER,
            NOT_LEADER_OR_FOLLOWER,
        ];
        let is_copy = original.records == copy.records && count(&copy) == 3 && original.preferred_read_replica.0 == -1;
        let ends = (copy.high_watermark, copy.last_stable_offset, copy.log_start_offset);
        if all != last {
            eprintln!("leader {leader}: {all:?} {ends:?}");
        }
        let is_it = all == wanted && is_copy && ends == (3, 3, 0);
        last = all;
        is_it.then_some(())
    });

    // Who waits there is woken by what the leader commits, also when the group is quiet by then.
    for (end, pause_ms) in (3..).zip([20, 20, 20, 1_200]) {
        let follower = leader(&mut nodes.wire(1), &topic, 3) % 3 + 1;
        let mut wire = nodes.wire(follower);
        await_followed(&mut wire, &topic, end);
        let asked = wire.send(VERSION, &of_rack(&topic, end, "").with_max_wait_ms(60_000));
        std::thread::sleep(Duration::from_millis(pause_ms));
        write(&nodes, &topic, &["more"]);
        let told = wire.receive::<FetchRequest>(VERSION, asked);
        let told = &told.responses[0].partitions[0];
        // It became the leader itself, or follows another: the client is told so.
        let is_other = [NOT_LEADER_OR_FOLLOWER].contains(&told.error_code);
        assert!(is_other || (told.error_code, count(told), told.high_watermark) == (0, 1, end + 1), "{told:?}");
    }
}

#[test]
fn a_follower_that_lags_or_stands_still_is_not_read_from() {
    let Some(nodes) = in_racks(3, 3, &[SELECTOR]) else { return };
    let (topic, leader, [follower, _]) = replicated(&nodes);
    let near = rack(follower, 3);
    let mut wire = nodes.wire(leader);
    write(&nodes, &topic, &["old"]);
    let sent_to = |wire: &mut Wire, offset| {
        let told = fetch(wire, &of_rack(&topic, offset, &near));
        assert_eq!(told.error_code, 0);
        (told.preferred_read_replica.0, count(&told))
    };
    let there = i32::try_from(follower).expect("an id");
    eventually("it is sent away", || (sent_to(&mut wire, 0) == (there, 0)).then_some(()));
    nodes.pause(follower);
    topics::write(&mut wire, &topic, 0, &["new"]);
    for _ in 0..20 {
        // While it counts as in sync, and later.
        assert_eq!(sent_to(&mut wire, 1), (-1, 1));
        std::thread::sleep(Duration::from_millis(100));
    }
    nodes.resume(follower);
    eventually("it is sent away again", || (sent_to(&mut wire, 1) == (there, 0)).then_some(()));
    await_followed(&mut nodes.wire(follower), &topic, 2);
}

/// Numbered messages to the only partition, and a consumer of them in a rack.
struct Reader {
    consumer: BaseConsumer,
    next: usize,
}

impl Reader {
    fn start(nodes: &Nodes, topic: &str, rack: &str) -> Self {
        let more = [("group.id", "unused"), ("enable.auto.commit", "false"), ("client.rack", rack)];
        let consumer: BaseConsumer = BaseConsumer::from_config(&config(&nodes.bootstrap(), &more)).expect("consumer");
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, 0, Offset::Beginning).expect("partition");
        consumer.assign(&assignment).expect("assign");
        Self { consumer, next: 0 }
    }

    /// Reads up to so many messages, which come each once and in order.
    #[track_caller]
    fn read_to(&mut self, end: usize) {
        let started = Instant::now();
        while self.next < end {
            assert!(started.elapsed() < 2 * PATIENCE, "message {} does not come", self.next);
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    assert_eq!(message.offset(), self.next as i64);
                    self.next += 1;
                }
                Some(Err(error)) => eprintln!("consumer: {error}"),
                None => {}
            }
        }
    }
}

#[test]
fn a_consumer_in_a_rack_reads_there_and_goes_on_when_nodes_die() {
    const SIZE: usize = 10_000;
    let Some(mut nodes) = in_racks(3, 3, &[SELECTOR]) else { return };
    let (topic, leader_before, [follower, _]) = replicated(&nodes);
    let producer =
        Producer::new(&nodes.bootstrap(), &[("enable.idempotence", "true"), ("message.timeout.ms", "120000")]);
    let mut sent = 0;
    let mut send = |count: usize| {
        for _ in 0..count {
            producer.send(sent, &topic, Some(0), None, &[7; SIZE]);
            sent += 1;
        }
        eventually("all is acknowledged", || (producer.delivered() == sent).then_some(()));
        sent
    };
    let all = send(100);
    eventually("consumers are sent there", || {
        let told = fetch(&mut nodes.wire(leader_before), &of_rack(&topic, 0, &rack(follower, 3)));
        (told.preferred_read_replica.0 == follower as i32).then_some(())
    });
    await_followed(&mut nodes.wire(follower), &topic, 100);
    let mut reader = Reader::start(&nodes, &topic, &rack(follower, 3));
    reader.read_to(all);
    let fetched = |nodes: &Nodes, id| nodes.metric(id, FETCHED) as usize;
    let (there, here) = (fetched(&nodes, follower), fetched(&nodes, leader_before));
    assert!(there >= 100 * SIZE && here < 50 * SIZE, "{there} bytes from the follower, {here} from the leader");

    // Its follower dies: it reads from the leader, and later there again.
    nodes.kill(follower);
    reader.read_to(send(20));
    nodes.spawn(follower);
    nodes.await_ready(follower);
    let now = leader(&mut nodes.wire(leader_before), &topic, 3);
    assert_eq!(now, leader_before);
    reader.read_to(send(20));

    // The leader dies.
    nodes.kill(leader_before);
    reader.read_to(send(20));
    assert!(reader.next == sent);
}

#[test]
fn replicas_are_spread_over_racks() {
    let Some(nodes) = in_racks(6, 3, &[]) else { return };
    let mut wire = nodes.wire(1);
    eventually("all nodes are known", || (topics::metadata(&mut wire, &[]).brokers.len() == 6).then_some(()));
    for (replicas, racks) in [(2, 2), (3, 3), (4, 3)] {
        let topic = unique("topic");
        let wanted = creatable(&topic, 12, &[]).with_replication_factor(replicas);
        let created = wire.call(7, &CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![wanted]));
        assert_eq!(created.topics[0].error_code, 0, "{:?}", created.topics[0].error_message);
        let told = topics::metadata(&mut wire, &[&topic]);
        let mut leaders = BTreeSet::new();
        for partition in &told.topics[0].partitions {
            let nodes: BTreeSet<usize> = partition.replica_nodes.iter().map(|id| id.0 as usize).collect();
            let in_racks: BTreeSet<String> = nodes.iter().map(|id| rack(*id, 3)).collect();
            assert_eq!((nodes.len(), in_racks.len()), (replicas as usize, racks), "{:?}", partition.replica_nodes);
            leaders.insert(partition.replica_nodes[0].0);
        }
        assert_eq!((told.topics[0].partitions.len(), leaders.len()), (12, 6), "every node is somewhere the first");
    }
}
