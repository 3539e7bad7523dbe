//! Records of share groups: ShareFetch and ShareAcknowledge, from the members' heartbeats on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{GroupId, ShareAcknowledgeRequest, ShareFetchRequest};
use uuid::Uuid;

use crate::harness::broker::Broker;
use crate::harness::flex::{self, Writer};
use crate::harness::topics::{self, topic_id};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};
use crate::share_groups::{configure, joined};

const INVALID_REQUEST: i16 = 42;
const SHARE_SESSION_NOT_FOUND: i16 = 122;
const INVALID_SHARE_SESSION_EPOCH: i16 = 123;
const INVALID_RECORD_STATE: i16 = 121;

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;

const SHARE_ACKNOWLEDGE: i16 = 79;

/// A member of a share group that reads partition 0 of a topic.
struct Reader {
    wire: Wire,
    group: String,
    id: String,
    topic: Uuid,
    epoch: i32,
}

/// First and last offset, and how often the records were delivered.
type Acquired = (i64, i64, i16);

impl Reader {
    /// Joins; the group begins where the topic does.
    fn new(broker: &Broker, group: &str, topic: &str) -> Reader {
        let mut wire = broker.wire();
        configure(&mut wire, group, "share.auto.offset.reset", "earliest");
        let id = Uuid::new_v4().to_string();
        joined(&mut wire, group, &id, topic);
        let topic = topic_id(&mut wire, topic);
        Reader { wire, group: group.to_owned(), id, topic, epoch: 0 }
    }

    fn fetch_request(&self, max_records: i32) -> ShareFetchRequest {
        let topic = FetchTopic::default().with_topic_id(self.topic).with_partitions(vec![FetchPartition::default()]);
        ShareFetchRequest::default()
            .with_group_id(Some(GroupId(text(&self.group))))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(self.epoch)
            .with_max_wait_ms(200)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(max_records)
            .with_batch_size(max_records)
            .with_topics(vec![topic])
    }

    fn fetch(&mut self, max_records: i32) -> Vec<Acquired> {
        let request = self.fetch_request(max_records);
        let answer = self.wire.call(1, &request);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.epoch += 1;
        let rows = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let acquired = rows.flat_map(|row| {
            assert_eq!(row.error_code, 0, "{row:?}");
            row.acquired_records.iter().map(|r| (r.first_offset, r.last_offset, r.delivery_count))
        });
        acquired.collect()
    }

    /// Fetches until there is something: a share-partition is read from when its state is.
    fn take(&mut self, max_records: i32) -> Vec<Acquired> {
        eventually("records are acquired", || Some(self.fetch(max_records)).filter(|acquired| !acquired.is_empty()))
    }

    fn acknowledge_request(&self, batches: &[(i64, i64, &[i8])]) -> ShareAcknowledgeRequest {
        let batch = |(first, last, types): &(i64, i64, &[i8])| {
            AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(types.to_vec())
        };
        let partition =
            AcknowledgePartition::default().with_acknowledgement_batches(batches.iter().map(batch).collect());
        let topic = AcknowledgeTopic::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text(&self.group))))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(self.epoch)
            .with_topics(vec![topic])
    }

    /// Renews the lock of a record, with the version that can; the partition's error.
    fn renew(&mut self, offset: i64, says_so: bool) -> i16 {
        let batch = |w: Writer| w.i64(offset).i64(offset).array(1).i8(RENEW).tags();
        let partition = |w: Writer| batch(w.i32(0).array(1)).tags();
        let head = Writer::default().string(&self.group).string(&self.id).i32(self.epoch).i8(i8::from(says_so));
        let body = partition(head.array(1).uuid(self.topic).array(1)).tags().tags().bytes();
        let correlation = self.wire.send_body(SHARE_ACKNOWLEDGE, 2, 2, &body);
        self.epoch += 1;
        let mut answer = flex::Reader(self.wire.receive_body(1, correlation));
        let (_throttle, error, message, lock_ms) = (answer.i32(), answer.i16(), answer.string(), answer.i32());
        assert_eq!((error, message, lock_ms), (0, None, 3_000));
        assert_eq!((answer.array(), answer.uuid(), answer.array(), answer.i32()), (Some(1), self.topic, Some(1), 0));
        answer.i16()
    }

    /// The partition's error.
    fn acknowledge(&mut self, batches: &[(i64, i64, &[i8])]) -> i16 {
        let request = self.acknowledge_request(batches);
        let answer = self.wire.call(1, &request);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.epoch += 1;
        answer.responses[0].partitions[0].error_code
    }
}

fn counts(acquired: &[Acquired]) -> BTreeMap<i64, i16> {
    acquired.iter().flat_map(|(first, last, count)| (*first..=*last).map(|offset| (offset, *count))).collect()
}

#[test]
fn share_fetch() {
    let broker = Broker::start();
    let (group, topic) = (unique("readers"), topics::topic(&mut broker.wire(), 1));
    for value in ["a", "b", "c", "d"] {
        topics::write(&mut broker.wire(), &topic, 0, &[value]);
    }
    let mut reader = Reader::new(&broker, &group, &topic);
    reader.epoch = 3;
    assert_eq!(reader.refused_fetch(), SHARE_SESSION_NOT_FOUND);
    reader.epoch = 0;
    let taken = counts(&reader.take(2));
    assert_eq!(taken, BTreeMap::from([(0, 1), (1, 1)]));
    // A second member gets what the first one does not have.
    let mut second = Reader::new(&broker, &group, &topic);
    assert_eq!(counts(&second.take(10)), BTreeMap::from([(2, 1), (3, 1)]));
    assert_eq!(second.fetch(10), [], "everything is in somebody's hands");
    reader.epoch += 5;
    assert_eq!(reader.refused_fetch(), INVALID_SHARE_SESSION_EPOCH);
    reader.epoch -= 5;
    // Who closes its session gives back what it has.
    let close = reader.fetch_request(0).with_share_session_epoch(-1).with_topics(Vec::new());
    assert_eq!(reader.wire.call(1, &close).error_code, 0);
    assert_eq!(counts(&second.take(10)), BTreeMap::from([(0, 2), (1, 2)]));
}

impl Reader {
    fn refused_fetch(&mut self) -> i16 {
        let request = self.fetch_request(1);
        self.wire.call(1, &request).error_code
    }
}

#[test]
fn share_acknowledge() {
    let broker = Broker::start();
    let (group, topic) = (unique("readers"), topics::topic(&mut broker.wire(), 1));
    for value in ["a", "b", "c", "d"] {
        topics::write(&mut broker.wire(), &topic, 0, &[value]);
    }
    let mut reader = Reader::new(&broker, &group, &topic);
    let early = reader.acknowledge_request(&[(0, 0, &[ACCEPT])]);
    assert_eq!(reader.wire.call(1, &early).error_code, INVALID_SHARE_SESSION_EPOCH, "a session begins with a fetch");
    assert_eq!(counts(&reader.take(10)).len(), 4);
    assert_eq!(reader.acknowledge(&[(0, 3, &[ACCEPT, RELEASE, REJECT, RELEASE])]), 0);
    assert_eq!(counts(&reader.take(10)), BTreeMap::from([(1, 2), (3, 2)]), "what was released comes again");
    assert_eq!(reader.acknowledge(&[(2, 2, &[ACCEPT])]), INVALID_RECORD_STATE, "it is done with");
    assert_eq!(reader.acknowledge(&[(3, 1, &[ACCEPT])]), INVALID_REQUEST);
    assert_eq!(reader.acknowledge(&[(1, 1, &[ACCEPT]), (3, 3, &[ACCEPT])]), 0);
    assert_eq!(reader.fetch(10), []);
}

#[test]
fn records_come_again_and_are_given_up() {
    let settings = [
        "group.share.min.record.lock.duration.ms=1000",
        "group.share.record.lock.duration.ms=1000",
        "group.share.delivery.count.limit=2",
    ];
    let Some(broker) = Broker::own(&settings) else { return };
    let (group, topic) = (unique("readers"), topics::topic(&mut broker.wire(), 1));
    topics::write(&mut broker.wire(), &topic, 0, &["a"]);
    let mut reader = Reader::new(&broker, &group, &topic);
    assert_eq!(reader.take(10), [(0, 0, 1)]);
    assert_eq!(reader.take(10), [(0, 0, 2)], "its lock ran out");
    assert_eq!(reader.acknowledge(&[(0, 0, &[RELEASE])]), 0);
    topics::write(&mut broker.wire(), &topic, 0, &["b"]);
    assert_eq!(reader.take(10), [(1, 1, 1)], "the first one was delivered often enough");
}

#[test]
fn a_lock_that_is_renewed_does_not_run_out() {
    const LOCK: Duration = Duration::from_secs(3);
    let settings = ["group.share.min.record.lock.duration.ms=1000", "group.share.record.lock.duration.ms=3000"];
    let Some(broker) = Broker::own(&settings) else { return };
    let (group, topic) = (unique("readers"), topics::topic(&mut broker.wire(), 1));
    topics::write(&mut broker.wire(), &topic, 0, &["a"]);
    let (mut worker, mut other) = (Reader::new(&broker, &group, &topic), Reader::new(&broker, &group, &topic));
    let taken = Instant::now();
    assert_eq!(worker.take(10), [(0, 0, 1)]);
    assert_eq!(worker.renew(0, false), INVALID_REQUEST, "a request that renews says so");
    while taken.elapsed() < 3 * LOCK {
        assert_eq!(worker.renew(0, true), 0);
        assert_eq!(other.fetch(10), [], "it is still being worked on");
    }
    assert_eq!(other.take(10), [(0, 0, 2)], "nobody has renewed it");
    assert_eq!(worker.renew(0, true), INVALID_RECORD_STATE, "it is another's");
    assert_eq!(other.acknowledge(&[(0, 0, &[ACCEPT])]), 0);
}

#[test]
fn a_share_group_goes_on_after_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let (group, topic) = (unique("readers"), topics::topic(&mut broker.wire(), 1));
    for value in ["a", "b", "c"] {
        topics::write(&mut broker.wire(), &topic, 0, &[value]);
    }
    let mut reader = Reader::new(&broker, &group, &topic);
    assert_eq!(counts(&reader.take(10)).len(), 3);
    assert_eq!(reader.acknowledge(&[(0, 0, &[ACCEPT]), (2, 2, &[ACCEPT])]), 0);
    broker.kill();
    broker.restart();
    crate::groups::coordinator(&mut broker.wire(), &group);
    let mut reader = Reader { wire: broker.wire(), epoch: 0, ..reader };
    let left = eventually("the rest is delivered", || {
        let request = reader.fetch_request(10);
        let answer = reader.wire.call(1, &request);
        assert_eq!(answer.error_code, 0);
        reader.epoch += 1;
        let row = answer.responses.first()?.partitions.first()?;
        (!row.acquired_records.is_empty()).then(|| row.acquired_records.clone())
    });
    let left: Vec<_> = left.iter().map(|r| (r.first_offset, r.last_offset)).collect();
    assert_eq!(left, [(1, 1)]);
}
