//! The transaction coordinator as raw requests meet it: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn,
//! DescribeTransactions, ListTransactions, FindCoordinator.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, GroupId, InitProducerIdRequest, ListTransactionsRequest,
};

use crate::harness::broker::Broker;
use crate::harness::txn::{
    BUMPS_EPOCH, add, add_when_free, added, describe, described_as, end, end_again, find, init, init_as, settled,
    topic_of, wire_id,
};
use crate::harness::{eventually, text, topics, unique};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const INVALID_REQUEST: i16 = 42;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const OPERATION_NOT_ATTEMPTED: i16 = 55;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
const TRANSACTION_ABORTABLE: i16 = 120;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

#[test]
fn find_coordinator_of_a_transactional_id() {
    let broker = Broker::start();
    find(&mut broker.wire(), &unique("t"));
}

#[test]
fn init_producer_id_with_a_transactional_id() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let id = unique("t");
    find(&mut wire, &id);
    let (producer, epoch) = init(&mut wire, &id);
    assert!(producer >= 0 && epoch == 0, "{producer} {epoch}");
    assert_eq!(init(&mut wire, &id), (producer, 1), "another instance");
    // It goes on with what it has (KIP-360), also when it did not hear the answer.
    for _ in 0..2 {
        let begun = init_as(&mut wire, 4, &id, (producer, 1));
        assert_eq!((begun.error_code, begun.producer_id.0, begun.producer_epoch), (0, producer, 2));
    }
    assert_eq!(init_as(&mut wire, 4, &id, (producer, 0)).error_code, PRODUCER_FENCED);
    assert_eq!(
        init_as(&mut wire, 3, &id, (producer, 0)).error_code,
        INVALID_PRODUCER_EPOCH,
        "a client that knows less"
    );
    assert_eq!(init_as(&mut wire, 4, &id, (producer + 1_000_000, 2)).error_code, PRODUCER_FENCED);
    assert_eq!(init_as(&mut wire, 4, &id, (producer, -1)).error_code, INVALID_REQUEST);
    let request = |id: &str, timeout_ms| {
        InitProducerIdRequest::default()
            .with_transactional_id(Some(wire_id(id)))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1)
    };
    for timeout_ms in [0, -1, 900_001, i32::MAX] {
        assert_eq!(wire.call(4, &request(&id, timeout_ms)).error_code, INVALID_TRANSACTION_TIMEOUT, "{timeout_ms}");
    }
    assert_eq!(wire.call(4, &request("", 60_000)).error_code, INVALID_REQUEST);
}

#[test]
fn add_partitions_to_txn() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let id = unique("t");
    let topic = topics::topic(&mut wire, 2);
    find(&mut wire, &id);
    let producer = init(&mut wire, &id);
    for version in wire.versions::<AddPartitionsToTxnRequest>() {
        assert_eq!(add(&mut wire, version, &id, producer, &[(&topic, &[0, 1])]), [0, 0], "version {version}");
        let errors = add(&mut wire, version, &id, producer, &[(&topic, &[0, 7]), ("missing", &[0])]);
        let expected = [UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_OR_PARTITION, OPERATION_NOT_ATTEMPTED];
        assert_eq!(errors, expected, "version {version}");
        let (number, epoch) = producer;
        let fenced = if version < 2 { INVALID_PRODUCER_EPOCH } else { PRODUCER_FENCED };
        assert_eq!(add(&mut wire, version, &id, (number, epoch + 1), &[(&topic, &[0])]), [fenced]);
        assert_eq!(add(&mut wire, version, &id, (number + 1, epoch), &[(&topic, &[0])]), [INVALID_PRODUCER_ID_MAPPING]);
        let nobody = unique("nobody");
        assert_eq!(add(&mut wire, version, &nobody, producer, &[(&topic, &[0])]), [INVALID_PRODUCER_ID_MAPPING]);
        assert_eq!(add(&mut wire, version, "", producer, &[(&topic, &[0])]), [INVALID_REQUEST]);
    }
    // Clients do not write to internal topics like this.
    let errors = add(&mut wire, 3, &id, producer, &[("__transaction_state", &[0]), (&topic, &[0])]);
    assert_eq!(errors, [TOPIC_AUTHORIZATION_FAILED, OPERATION_NOT_ATTEMPTED]);
    // What nodes ask for those who write.
    let other = topics::topic(&mut wire, 1);
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(wire_id(&id))
        .with_producer_id(producer.0.into())
        .with_producer_epoch(producer.1)
        .with_verify_only(true)
        .with_topics(vec![topic_of(&topic, &[0, 1]), topic_of(&other, &[0])]);
    let verify = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
    assert_eq!(added(&mut wire, 5, &verify), [0, 0, TRANSACTION_ABORTABLE]);
}

#[test]
fn add_offsets_to_txn() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let id = unique("t");
    find(&mut wire, &id);
    let (producer, epoch) = init(&mut wire, &id);
    let request = |id: &str, epoch| {
        AddOffsetsToTxnRequest::default()
            .with_transactional_id(wire_id(id))
            .with_producer_id(producer.into())
            .with_producer_epoch(epoch)
            .with_group_id(GroupId(text("group")))
    };
    for version in wire.versions::<AddOffsetsToTxnRequest>() {
        let added = settled(|| wire.call(version, &request(&id, epoch)), |answer| answer.error_code);
        assert_eq!(added.error_code, 0, "version {version}");
        let fenced = if version < 2 { INVALID_PRODUCER_EPOCH } else { PRODUCER_FENCED };
        assert_eq!(wire.call(version, &request(&id, epoch + 1)).error_code, fenced, "version {version}");
        assert_eq!(wire.call(version, &request("", epoch)).error_code, INVALID_REQUEST);
    }
    let described = describe(&mut wire, &id);
    assert_eq!(described.topics.len(), 1);
    assert_eq!(described.topics[0].topic.as_str(), "__consumer_offsets");
}

#[test]
fn end_txn_as_old_clients_send_it() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let id = unique("t");
    let topic = topics::topic(&mut wire, 2);
    find(&mut wire, &id);
    let producer = init(&mut wire, &id);
    for version in 0..BUMPS_EPOCH {
        let (number, epoch) = producer;
        let fenced = if version < 2 { INVALID_PRODUCER_EPOCH } else { PRODUCER_FENCED };
        add_when_free(&mut wire, 3, &id, producer, &[(&topic, &[0, 1])]);
        assert_eq!(end(&mut wire, version, &id, (number, epoch + 1), true).error_code, fenced);
        assert_eq!(end(&mut wire, version, &id, (number + 1, epoch), true).error_code, INVALID_PRODUCER_ID_MAPPING);
        assert_eq!(end(&mut wire, version, "", producer, true).error_code, INVALID_REQUEST);
        let commit = version % 2 == 0;
        assert_eq!(end(&mut wire, version, &id, producer, commit).error_code, 0, "version {version}");
        // Asked once more: the same. The other way round: too late.
        assert_eq!(end_again(&mut wire, version, &id, producer, commit).error_code, 0);
        assert_eq!(end(&mut wire, version, &id, producer, !commit).error_code, INVALID_TXN_STATE);
    }
    let other = unique("t");
    find(&mut wire, &other);
    let nothing_begun = init(&mut wire, &other);
    assert_eq!(end(&mut wire, 4, &other, nothing_begun, true).error_code, INVALID_TXN_STATE);
}

#[test]
fn end_txn_bumps_the_epoch() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let id = unique("t");
    let topic = topics::topic(&mut wire, 2);
    find(&mut wire, &id);
    let mut producer = init(&mut wire, &id);
    for commit in [true, false, true] {
        add_when_free(&mut wire, BUMPS_EPOCH, &id, producer, &[(&topic, &[0, 1])]);
        let before = producer;
        let ended = end(&mut wire, BUMPS_EPOCH, &id, before, commit);
        assert_eq!(ended.error_code, 0);
        producer = (ended.producer_id.0, ended.producer_epoch);
        assert_eq!(producer, (before.0, before.1 + 1));
        // The answer got lost: it is told once more.
        let again = end_again(&mut wire, BUMPS_EPOCH, &id, before, commit);
        assert_eq!((again.error_code, again.producer_id.0, again.producer_epoch), (0, producer.0, producer.1));
        assert_eq!(end(&mut wire, BUMPS_EPOCH, &id, before, !commit).error_code, INVALID_TXN_STATE);
        assert_eq!(end(&mut wire, BUMPS_EPOCH, &id, producer, true).error_code, INVALID_TXN_STATE, "nothing to commit");
        assert_eq!(add(&mut wire, BUMPS_EPOCH, &id, before, &[(&topic, &[0])]), [PRODUCER_FENCED]);
    }
    // Given up before anything belongs to it.
    let ended = end(&mut wire, BUMPS_EPOCH, &id, producer, false);
    assert_eq!((ended.error_code, ended.producer_epoch), (0, producer.1 + 1));
}

#[test]
fn a_newer_instance_ends_what_the_older_began() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let id = unique("t");
    let topic = topics::topic(&mut wire, 1);
    find(&mut wire, &id);
    let older = init(&mut wire, &id);
    add_when_free(&mut wire, 3, &id, older, &[(&topic, &[0])]);
    assert_eq!(init_as(&mut wire, 4, &id, (-1, -1)).error_code, CONCURRENT_TRANSACTIONS);
    let newer = init(&mut wire, &id);
    assert!(newer.0 == older.0 && newer.1 > older.1, "{newer:?} after {older:?}");
    assert_eq!(add(&mut wire, 3, &id, older, &[(&topic, &[0])]), [PRODUCER_FENCED]);
    assert_eq!(end(&mut wire, 3, &id, older, true).error_code, PRODUCER_FENCED);
    assert_eq!(describe(&mut wire, &id).transaction_state.as_str(), "Empty");
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    const INTERVAL: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms=100";
    let Some(broker) = Broker::own(&[INTERVAL]) else { return };
    let mut wire = broker.wire();
    let id = unique("t");
    let topic = topics::topic(&mut wire, 1);
    find(&mut wire, &id);
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(wire_id(&id)))
        .with_transaction_timeout_ms(300)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let begun = settled(|| wire.call(4, &request), |answer| answer.error_code);
    assert_eq!(begun.error_code, 0);
    let producer = (begun.producer_id.0, begun.producer_epoch);
    add_when_free(&mut wire, 3, &id, producer, &[(&topic, &[0])]);
    described_as(&mut wire, &id, "CompleteAbort");
    assert_eq!(add(&mut wire, 3, &id, producer, &[(&topic, &[0])]), [PRODUCER_FENCED]);
    assert_eq!(end(&mut wire, 3, &id, producer, true).error_code, PRODUCER_FENCED);
}

#[test]
fn an_unused_transactional_id_is_forgotten() {
    let settings =
        ["transactional.id.expiration.ms=200", "transaction.remove.expired.transaction.cleanup.interval.ms=100"];
    let Some(broker) = Broker::own(&settings) else { return };
    let mut wire = broker.wire();
    let id = unique("t");
    find(&mut wire, &id);
    let (producer, _) = init(&mut wire, &id);
    eventually("the id is forgotten", || {
        let code = describe(&mut wire, &id).error_code;
        assert!([0, TRANSACTIONAL_ID_NOT_FOUND].contains(&code), "error {code}");
        (code == TRANSACTIONAL_ID_NOT_FOUND).then_some(())
    });
    let (fresh, epoch) = init(&mut wire, &id);
    assert!(fresh != producer && epoch == 0, "{fresh} {epoch}");
}

#[test]
fn describe_transactions() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let id = unique("t");
    let topic = topics::topic(&mut wire, 3);
    find(&mut wire, &id);
    let producer = init(&mut wire, &id);
    let described = describe(&mut wire, &id);
    assert_eq!((described.error_code, described.transaction_state.as_str()), (0, "Empty"));
    assert_eq!((described.transaction_timeout_ms, described.transaction_start_time_ms), (60_000, -1));
    add_when_free(&mut wire, 3, &id, producer, &[(&topic, &[2, 0])]);
    let described = describe(&mut wire, &id);
    assert_eq!((described.error_code, described.transaction_state.as_str()), (0, "Ongoing"));
    assert_eq!((described.producer_id.0, described.producer_epoch), producer);
    assert!(described.transaction_start_time_ms > 0);
    assert_eq!(described.topics.len(), 1);
    let mut partitions = described.topics[0].partitions.clone();
    partitions.sort_unstable();
    assert_eq!((described.topics[0].topic.as_str(), partitions), (topic.as_str(), vec![0, 2]));
    assert_eq!(end(&mut wire, 3, &id, producer, true).error_code, 0);
    described_as(&mut wire, &id, "CompleteCommit");
    assert!(describe(&mut wire, &id).topics.is_empty());
    assert_eq!(describe(&mut wire, &unique("nobody")).error_code, TRANSACTIONAL_ID_NOT_FOUND);
    assert_eq!(describe(&mut wire, "").error_code, INVALID_REQUEST);
}

#[test]
fn list_transactions() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let stem = unique("t");
    let topic = topics::topic(&mut wire, 1);
    let (idle, busy) = (format!("{stem}-idle"), format!("{stem}-busy"));
    let mut producers = Vec::new();
    for id in [&idle, &busy] {
        find(&mut wire, id);
        producers.push(init(&mut wire, id));
    }
    add_when_free(&mut wire, 3, &busy, producers[1], &[(&topic, &[0])]);
    let mut list = |version, request: ListTransactionsRequest| {
        let listed = settled(|| wire.call(version, &request), |answer| answer.error_code);
        assert_eq!(listed.error_code, 0);
        let rows = listed.transaction_states.iter().filter(|row| row.transactional_id.starts_with(&stem));
        let mut names: Vec<String> = rows
            .map(|row| {
                format!("{} {}", row.transactional_id.rsplit('-').next().unwrap_or_default(), &*row.transaction_state)
            })
            .collect();
        names.sort();
        (names, listed.unknown_state_filters.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let all = || ListTransactionsRequest::default();
    for version in 0..=2 {
        assert_eq!(list(version, all()).0, ["busy Ongoing", "idle Empty"], "version {version}");
        let ongoing = all().with_state_filters(vec![text("Ongoing"), text("Nonsense")]);
        assert_eq!(list(version, ongoing), (vec!["busy Ongoing".to_owned()], vec!["Nonsense".to_owned()]));
        let of_one = all().with_producer_id_filters(vec![producers[0].0.into()]);
        assert_eq!(list(version, of_one).0, ["idle Empty"]);
    }
    assert_eq!(list(1, all().with_duration_filter(3_600_000)).0, ["idle Empty"], "as Kafka: it began in 1970");
    let of_pattern = |pattern: &str| all().with_transactional_id_pattern(Some(text(pattern)));
    assert_eq!(list(2, of_pattern(&format!("{stem}-b.*"))).0, ["busy Ongoing"]);
    assert_eq!(list(2, of_pattern(&stem)).0, Vec::<String>::new(), "the whole id must match");
    let wrong = wire.call(2, &of_pattern("("));
    // Kafka forgets to tell what is wrong.
    assert!(wrong.error_code == INVALID_REGULAR_EXPRESSION || !broker.is_own(), "error {}", wrong.error_code);
}
