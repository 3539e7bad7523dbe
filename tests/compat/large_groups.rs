//! A group of 1,000 members that share 10,000 partitions, by either protocol: how long a rebalance takes the broker, and
//! whether another group on the same coordinator notices.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponse;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, CreateTopicsRequest, HeartbeatRequest, JoinGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::groups::{coordinator, group, join, stable, subscription};
use crate::harness::broker::Broker;
use crate::harness::topics::{self, creatable, name};
use crate::harness::wire::Wire;
use crate::harness::{number, text, unique};

const MEMBERS: usize = 1_000;
const PARTITIONS: i32 = 10_000;
/// What another group may wait for the answer to a heartbeat meanwhile, beside the other tests.
const STALL_MAX: Duration = Duration::from_secs(10);

/// What a rebalance may take beside the other tests; alone on a machine `MILLSTREAM_TEST_REBALANCE_MS` says what.
fn rebalance_max() -> Duration {
    number("MILLSTREAM_TEST_REBALANCE_MS").map_or(Duration::from_secs(60), Duration::from_millis)
}

const JOIN: i16 = 3;
const SYNC: i16 = 3;

/// Another group, whose only member asks for a heartbeat again and again.
struct Bystander {
    ends: Arc<AtomicBool>,
    longest: Arc<Mutex<Duration>>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    fn start(broker: &Broker) -> Bystander {
        let (of, mut wire) = (unique("bystander"), broker.wire());
        let (member, generation) = stable(&mut wire, &of, None);
        let (ends, longest) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Duration::ZERO)));
        let (its_ends, its_longest) = (Arc::clone(&ends), Arc::clone(&longest));
        let beat = HeartbeatRequest::default()
            .with_group_id(group(&of))
            .with_member_id(text(&member))
            .with_generation_id(generation);
        let thread = std::thread::spawn(move || {
            while !its_ends.load(Ordering::Relaxed) {
                let asked = Instant::now();
                assert_eq!(wire.call(4, &beat).error_code, 0);
                let mut longest = its_longest.lock().expect("longest");
                *longest = asked.elapsed().max(*longest);
                drop(longest);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Bystander { ends, longest, thread: Some(thread) }
    }

    #[track_caller]
    fn end(mut self) -> Duration {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("every heartbeat was answered");
        *self.longest.lock().expect("longest")
    }
}

fn create(wire: &mut Wire) -> String {
    let topic = unique("topic");
    let request =
        CreateTopicsRequest::default().with_timeout_ms(60_000).with_topics(vec![creatable(&topic, PARTITIONS, &[])]);
    assert_eq!(wire.call(7, &request).topics[0].error_code, 0);
    topic
}

/// One round of the classic protocol: everybody joins, the leader assigns, everybody gets its share.
fn rebalance(wires: &mut [Wire], of: &str, members: &mut [String], round: i32) -> Duration {
    let began = Instant::now();
    // Who comes back with what it had is told that nothing has changed: each round is about another topic.
    let topic = format!("topic-{round}");
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription(&[&topic]));
    let ask = |member: &String| {
        join(of, member, None).with_rebalance_timeout_ms(60_000).with_protocols(vec![protocol.clone()])
    };
    let sent: Vec<i32> = wires.iter_mut().zip(&*members).map(|(wire, member)| wire.send(JOIN, &ask(member))).collect();
    let joined: Vec<JoinGroupResponse> =
        wires.iter_mut().zip(sent).map(|(wire, sent)| wire.receive::<JoinGroupRequest>(JOIN, sent)).collect();
    let generation = joined[0].generation_id;
    for (member, joined) in members.iter_mut().zip(&joined) {
        assert_eq!((joined.error_code, joined.generation_id), (0, generation));
        *member = joined.member_id.to_string();
    }
    let all: Vec<_> = joined.iter().flat_map(|joined| &joined.members).collect();
    assert_eq!(all.len(), MEMBERS, "one of them leads, and is told of everybody");
    // As long as shares of so many partitions are in fact.
    let share = |id: &str| Bytes::from(format!("{id}{}", "p".repeat(4 * PARTITIONS as usize / MEMBERS)));
    let sent: Vec<i32> = wires
        .iter_mut()
        .zip(&joined)
        .map(|(wire, joined)| {
            let assignment = |id: &StrBytes| {
                SyncGroupRequestAssignment::default().with_member_id(id.clone()).with_assignment(share(id))
            };
            let request = SyncGroupRequest::default()
                .with_group_id(group(of))
                .with_generation_id(generation)
                .with_member_id(joined.member_id.clone())
                .with_assignments(joined.members.iter().map(|member| assignment(&member.member_id)).collect());
            wire.send(SYNC, &request)
        })
        .collect();
    for ((wire, sent), joined) in wires.iter_mut().zip(sent).zip(&joined) {
        let synced = wire.receive::<SyncGroupRequest>(SYNC, sent);
        assert_eq!((synced.error_code, &synced.assignment), (0, &share(&joined.member_id)));
    }
    began.elapsed()
}

#[test]
fn a_classic_group_of_a_thousand_rebalances_and_nobody_else_waits() {
    let settings = ["group.initial.rebalance.delay.ms=3000", "max.connections.per.ip=5000"];
    let Some(broker) = Broker::own(&settings) else { return };
    let of = unique("large");
    coordinator(&mut broker.wire(), &of);
    let mut wires: Vec<Wire> = (0..MEMBERS).map(|_| broker.wire()).collect();
    let mut members = vec![String::new(); MEMBERS];
    // The first waits for more to come, as it is told to.
    rebalance(&mut wires, &of, &mut members, 0);
    let bystander = Bystander::start(&broker);
    let mut took: Vec<Duration> = (1..=3).map(|round| rebalance(&mut wires, &of, &mut members, round)).collect();
    let stalled = bystander.end();
    took.sort();
    println!(
        "classic: {MEMBERS} members rebalanced in {:?}, a heartbeat of another group took at most {stalled:?}",
        took[1]
    );
    assert!(took[1] < rebalance_max() && stalled < STALL_MAX, "{took:?}, {stalled:?}");
}

/// A member of the new protocol, as its client knows it.
#[derive(Clone, Default)]
struct Member {
    id: String,
    epoch: i32,
    owned: Vec<i32>,
    /// The broker has not been told of what is owned.
    is_news: bool,
}

/// Members beat until all of them are at the same epoch and have equal shares of all partitions: the broker assigns now and
/// then, and until it does again those who came have nothing. Their requests wait in one line: what is
/// measured is the broker.
fn converge(wire: &mut Wire, of: &str, topic: &str, id: Uuid, members: &mut [Member]) -> Duration {
    let began = Instant::now();
    loop {
        let sent: Vec<i32> = members.iter_mut().map(|member| wire.send(1, &beat(of, topic, id, member))).collect();
        for (member, sent) in members.iter_mut().zip(sent) {
            let answer = wire.receive::<ConsumerGroupHeartbeatRequest>(1, sent);
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
            member.epoch = answer.member_epoch;
            if let Some(given) = answer.assignment {
                member.owned = given.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
                member.is_news = true;
            }
        }
        let owned: usize = members.iter().map(|member| member.owned.len()).sum();
        let different: BTreeSet<i32> = members.iter().flat_map(|member| member.owned.iter().copied()).collect();
        assert_eq!(different.len(), owned, "nothing is given to two");
        let is_news = members.iter().any(|member| member.is_news || member.epoch != members[0].epoch);
        let share = PARTITIONS as usize / MEMBERS;
        if !is_news && members.iter().all(|member| member.owned.len() == share) {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{owned} partitions are given");
    }
}

fn beat(of: &str, topic: &str, id: Uuid, member: &mut Member) -> ConsumerGroupHeartbeatRequest {
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(of))
        .with_member_id(text(&member.id))
        .with_member_epoch(member.epoch)
        .with_rebalance_timeout_ms(-1);
    if member.epoch == 0 {
        let topics = Some(vec![name(topic)]);
        return request
            .with_rebalance_timeout_ms(300_000)
            .with_subscribed_topic_names(topics)
            .with_topic_partitions(Some(Vec::new()));
    }
    if !std::mem::take(&mut member.is_news) {
        return request;
    }
    let owned = TopicPartitions::default().with_topic_id(id).with_partitions(member.owned.clone());
    request.with_topic_partitions(Some(vec![owned]))
}

#[test]
fn a_consumer_group_of_a_thousand_rebalances_and_nobody_else_waits() {
    let Some(broker) = Broker::own(&["group.consumer.max.size=2000"]) else { return };
    let mut wire = broker.wire();
    let topic = create(&mut wire);
    let (of, id) = (unique("large"), topics::topic_id(&mut wire, &topic));
    coordinator(&mut wire, &of);
    let bystander = Bystander::start(&broker);
    let mut members: Vec<Member> =
        (0..MEMBERS).map(|n| Member { id: format!("member-{n:04}"), ..Member::default() }).collect();
    let began = converge(&mut wire, &of, &topic, id, &mut members);
    // One goes, another comes.
    let mut gone = members.remove(17);
    gone.epoch = -1;
    assert_eq!(wire.call(1, &beat(&of, &topic, id, &mut gone)).error_code, 0);
    members.push(Member { id: "late".to_owned(), ..Member::default() });
    let changed = converge(&mut wire, &of, &topic, id, &mut members);
    let stalled = bystander.end();
    println!(
        "consumer: {MEMBERS} members came in {began:?}, one was replaced in {changed:?}, a heartbeat of another group took \
         at most {stalled:?}"
    );
    assert!(began < rebalance_max() && changed < rebalance_max() && stalled < STALL_MAX);
}
