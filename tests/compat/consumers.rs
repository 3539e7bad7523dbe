//! Consumer groups of rdkafka: several members, rebalances, static members, cooperative rebalancing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message;

use crate::harness::broker::Broker;
use crate::harness::client::{Producer, config};
use crate::harness::{eventually, topics, unique};

/// Counts what the group protocol does to a member.
#[derive(Default)]
struct Events {
    assigned: AtomicUsize,
    revoked: AtomicUsize,
    /// What the application is told.
    errors: Mutex<Vec<String>>,
}

#[derive(Clone, Default)]
struct Context(Arc<Events>);

impl ClientContext for Context {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: rdkafka::error::KafkaError, _: &str) {}
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(_) => self.0.assigned.fetch_add(1, Ordering::SeqCst),
            Rebalance::Revoke(_) => self.0.revoked.fetch_add(1, Ordering::SeqCst),
            Rebalance::Error(error) => panic!("rebalance: {error}"),
        };
    }
}

pub type Log = Arc<Mutex<Vec<(usize, i32, i64, String)>>>;

/// A consumer in a thread of its own; every message it gets goes into the common log.
pub struct Member {
    stop: Arc<AtomicBool>,
    held: Arc<Mutex<BTreeSet<i32>>>,
    events: Context,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    pub fn start(broker: &Broker, group: &str, topic: &str, number: usize, log: &Log, more: &[(&str, &str)]) -> Member {
        let mut settings = vec![("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")];
        settings.extend_from_slice(more);
        Member::start_new(broker, group, topic, number, log, &settings)
    }

    /// Without what only the classic protocol knows.
    pub fn start_new(
        broker: &Broker,
        group: &str,
        topic: &str,
        number: usize,
        log: &Log,
        more: &[(&str, &str)],
    ) -> Member {
        Member::start_at(broker.bootstrap(), group, topic, number, log, more)
    }

    /// The same of a broker, or of several, by their addresses.
    pub fn start_at(
        bootstrap: &str,
        group: &str,
        topic: &str,
        number: usize,
        log: &Log,
        more: &[(&str, &str)],
    ) -> Member {
        let mut settings =
            vec![("group.id", group), ("auto.offset.reset", "earliest"), ("auto.commit.interval.ms", "200")];
        settings.extend_from_slice(more);
        let events = Context::default();
        let consumer: BaseConsumer<Context> =
            BaseConsumer::from_config_and_context(&config(bootstrap, &settings), events.clone()).expect("consumer");
        consumer.subscribe(&[topic]).expect("subscribe");
        let (stop, held) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let (stopping, holding, log, its) = (Arc::clone(&stop), Arc::clone(&held), Arc::clone(log), events.clone());
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::SeqCst) {
                match consumer.poll(Duration::from_millis(20)) {
                    Some(Ok(message)) => {
                        let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                        log.lock().expect("log").push((number, message.partition(), message.offset(), value));
                    }
                    Some(Err(error)) => its.0.errors.lock().expect("errors").push(error.to_string()),
                    None => {}
                }
                let assignment = consumer.assignment().expect("assignment");
                *holding.lock().expect("held") = assignment.elements().iter().map(|e| e.partition()).collect();
            }
            // Closing leaves the group, unless the member is a static one.
            drop(consumer);
        });
        Member { stop, held, events, thread: Some(thread) }
    }

    pub fn held(&self) -> BTreeSet<i32> {
        self.held.lock().expect("held").clone()
    }

    pub fn assigned(&self) -> usize {
        self.events.0.assigned.load(Ordering::SeqCst)
    }

    pub fn errors(&self) -> Vec<String> {
        self.events.0.errors.lock().expect("errors").clone()
    }

    pub fn revoked(&self) -> usize {
        self.events.0.revoked.load(Ordering::SeqCst)
    }

    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the member's thread");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn produce(broker: &Broker, topic: &str, partitions: i32, range: std::ops::Range<usize>) {
    let producer = Producer::new(broker.bootstrap(), &[("linger.ms", "5")]);
    for i in range {
        producer.send(i, topic, Some((i % partitions as usize) as i32), None, i.to_string().as_bytes());
    }
    assert!(producer.flush().iter().all(|d| d.result.is_ok()));
}

/// Waits until the members share out all partitions among them, each at least one.
#[track_caller]
pub fn await_shared(members: &[&Member], partitions: i32) {
    eventually("every partition has one owner, every member has some", || {
        let held: Vec<_> = members.iter().map(|m| m.held()).collect();
        let total: usize = held.iter().map(BTreeSet::len).sum();
        let all: BTreeSet<i32> = held.iter().flatten().copied().collect();
        (total == partitions as usize && all.len() == total && held.iter().all(|h| !h.is_empty())).then_some(())
    });
}

#[track_caller]
pub fn await_values(log: &Log, count: usize) {
    eventually("every message has come", || {
        let log = log.lock().expect("log");
        let values: BTreeSet<_> = log.iter().map(|(.., value)| value.clone()).collect();
        (values.len() >= count).then_some(())
    });
}

/// No message is missing, and each member saw each partition's offsets rise.
#[track_caller]
pub fn assert_complete(log: &Log, count: usize) {
    let log = log.lock().expect("log");
    let values: BTreeSet<usize> = log.iter().map(|(.., value)| value.parse().expect("a number")).collect();
    assert_eq!(values.len(), count);
    assert_eq!(values.last(), Some(&(count - 1)));
    let mut last = BTreeMap::new();
    for (member, partition, offset, _) in log.iter() {
        let before = last.insert((*member, *partition), *offset);
        assert!(
            before.is_none_or(|b| b < *offset),
            "member {member}, partition {partition}: {offset} after {before:?}"
        );
    }
}

#[test]
fn members_share_the_partitions_and_take_over_from_each_other() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 6);
    let (group, log) = (unique("group"), Log::default());
    let start = |number| Member::start(&broker, &group, &topic, number, &log, &[]);
    let first = start(1);
    await_shared(&[&first], 6);
    produce(&broker, &topic, 6, 0..600);
    let (second, third) = (start(2), start(3));
    await_shared(&[&first, &second, &third], 6);
    assert!(first.held().len() == 2 && second.held().len() == 2 && third.held().len() == 2);
    produce(&broker, &topic, 6, 600..1_200);
    await_values(&log, 1_200);
    second.stop();
    await_shared(&[&first, &third], 6);
    produce(&broker, &topic, 6, 1_200..1_800);
    await_values(&log, 1_800);
    first.stop();
    third.stop();
    assert_complete(&log, 1_800);
}

#[test]
fn a_group_goes_on_where_it_stopped() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 3);
    let (group, log) = (unique("group"), Log::default());
    produce(&broker, &topic, 3, 0..300);
    let member = Member::start(&broker, &group, &topic, 1, &log, &[]);
    await_values(&log, 300);
    member.stop();
    produce(&broker, &topic, 3, 300..400);
    let member = Member::start(&broker, &group, &topic, 2, &log, &[]);
    await_values(&log, 400);
    member.stop();
    assert_eq!(log.lock().expect("log").len(), 400, "nothing came twice");
    assert_complete(&log, 400);
}

/// With a cooperative assignor a new member takes some partitions; the others are never given up.
#[test]
fn cooperative_members_keep_what_they_need_not_give_up() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 6);
    let (group, log) = (unique("group"), Log::default());
    let more = [("partition.assignment.strategy", "cooperative-sticky")];
    let start = |number| Member::start(&broker, &group, &topic, number, &log, &more);
    let first = start(1);
    await_shared(&[&first], 6);
    let before = first.held();
    produce(&broker, &topic, 6, 0..300);
    let second = start(2);
    await_shared(&[&first, &second], 6);
    assert!(first.held().is_subset(&before) && first.held().len() == 3);
    assert_eq!(first.revoked(), 1, "some partitions, once");
    produce(&broker, &topic, 6, 300..600);
    await_values(&log, 600);
    let kept = first.held();
    second.stop();
    await_shared(&[&first], 6);
    assert!(kept.is_subset(&first.held()));
    assert_eq!(first.revoked(), 1, "to get more, nothing is given up");
    produce(&broker, &topic, 6, 600..900);
    await_values(&log, 900);
    first.stop();
    assert_complete(&log, 900);
}

/// A static member that is away for less than its session gets its partitions back; the others notice nothing.
#[test]
fn static_members_come_back_without_a_rebalance() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 4);
    let (group, log) = (unique("group"), Log::default());
    let start = |number, instance| {
        let more = [("group.instance.id", instance), ("session.timeout.ms", "20000")];
        Member::start(&broker, &group, &topic, number, &log, &more)
    };
    let (first, second) = (start(1, "one"), start(2, "two"));
    await_shared(&[&first, &second], 4);
    produce(&broker, &topic, 4, 0..200);
    await_values(&log, 200);
    let (held, rebalances) = (second.held(), first.assigned());
    second.stop();
    produce(&broker, &topic, 4, 200..400);
    let second = start(3, "two");
    await_shared(&[&first, &second], 4);
    assert_eq!(second.held(), held, "the same share");
    await_values(&log, 400);
    assert_eq!(first.assigned(), rebalances, "the other member was left alone");
    first.stop();
    second.stop();
    assert_complete(&log, 400);
}

/// New partitions of a subscribed topic are found and shared out.
#[test]
fn new_partitions_are_shared_out() {
    use kafka_protocol::messages::CreatePartitionsRequest;
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    let (group, log) = (unique("group"), Log::default());
    let more = [("topic.metadata.refresh.interval.ms", "300")];
    let member = Member::start(&broker, &group, &topic, 1, &log, &more);
    await_shared(&[&member], 2);
    let grown = CreatePartitionsTopic::default().with_name(topics::name(&topic)).with_count(5).with_assignments(None);
    let response = wire.call(3, &CreatePartitionsRequest::default().with_topics(vec![grown]).with_timeout_ms(30_000));
    assert_eq!(response.results[0].error_code, 0);
    await_shared(&[&member], 5);
    topics::await_topic(&mut wire, &topic, 5);
    produce(&broker, &topic, 5, 0..100);
    await_values(&log, 100);
    member.stop();
    assert_complete(&log, 100);
}

/// The broker dies under a group at work: its members go on, and nothing is lost.
#[test]
fn a_group_goes_on_after_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let topic = topics::topic(&mut broker.wire(), 4);
    let (group, log) = (unique("group"), Log::default());
    let (first, second) =
        (Member::start(&broker, &group, &topic, 1, &log, &[]), Member::start(&broker, &group, &topic, 2, &log, &[]));
    await_shared(&[&first, &second], 4);
    for round in 0..3 {
        produce(&broker, &topic, 4, round * 200..round * 200 + 200);
        if round < 2 {
            broker.kill();
            broker.restart();
        }
    }
    await_values(&log, 600);
    await_shared(&[&first, &second], 4);
    let log = log.lock().expect("log");
    let values: BTreeSet<usize> = log.iter().map(|(.., value)| value.parse().expect("a number")).collect();
    assert!(values.into_iter().eq(0..600));
}
