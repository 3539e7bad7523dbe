//! Requests of transactional producers to their coordinator, and the errors that they meet.

use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest, EndTxnResponse, FindCoordinatorRequest,
    InitProducerIdRequest, InitProducerIdResponse, TransactionalId,
};

use super::wire::Wire;
use super::{eventually, text, topics};

const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const CONCURRENT_TRANSACTIONS: i16 = 51;

/// The version of EndTxn whose clients' epochs rise with each transaction.
pub const BUMPS_EPOCH: i16 = 5;

pub fn wire_id(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// Waits until the broker coordinates the id.
pub fn find(wire: &mut Wire, id: &str) {
    for version in [2, 4] {
        let asked = FindCoordinatorRequest::default().with_key_type(1);
        let asked = match version {
            4 => asked.with_coordinator_keys(vec![text(id)]),
            _ => asked.with_key(text(id)),
        };
        eventually("the transaction coordinator", || {
            let found = wire.call(version, &asked);
            let code = found.coordinators.first().map_or(found.error_code, |row| row.error_code);
            assert!([0, COORDINATOR_NOT_AVAILABLE].contains(&code), "error {code}");
            (code == 0).then_some(())
        });
    }
}

/// Asks until the error is none that passes.
pub fn settled<T>(mut ask: impl FnMut() -> T, code: impl Fn(&T) -> i16) -> T {
    eventually("the coordinator has loaded", || {
        let answer = ask();
        let passing = [COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR];
        (!passing.contains(&code(&answer))).then_some(answer)
    })
}

pub fn init_as(wire: &mut Wire, version: i16, id: &str, (producer_id, epoch): (i64, i16)) -> InitProducerIdResponse {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(wire_id(id)))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(producer_id.into())
        .with_producer_epoch(epoch);
    settled(|| wire.call(version, &request), |answer| answer.error_code)
}

/// Begins, however often the transaction before must be waited for.
pub fn init(wire: &mut Wire, id: &str) -> (i64, i16) {
    eventually("the producer begins", || {
        let begun = init_as(wire, 4, id, (-1, -1));
        assert!([0, CONCURRENT_TRANSACTIONS].contains(&begun.error_code), "error {}", begun.error_code);
        (begun.error_code == 0).then_some((begun.producer_id.0, begun.producer_epoch))
    })
}

pub fn topic_of(topic: &str, partitions: &[i32]) -> AddPartitionsToTxnTopic {
    AddPartitionsToTxnTopic::default().with_name(topics::name(topic)).with_partitions(partitions.to_vec())
}

/// The errors of the partitions, sorted: the rows come in any order.
pub fn add(wire: &mut Wire, version: i16, id: &str, producer: (i64, i16), asked: &[(&str, &[i32])]) -> Vec<i16> {
    let topics: Vec<_> = asked.iter().map(|(topic, partitions)| topic_of(topic, partitions)).collect();
    let request = AddPartitionsToTxnRequest::default();
    let request = match version {
        4.. => request.with_transactions(vec![
            AddPartitionsToTxnTransaction::default()
                .with_transactional_id(wire_id(id))
                .with_producer_id(producer.0.into())
                .with_producer_epoch(producer.1)
                .with_topics(topics),
        ]),
        _ => request
            .with_v3_and_below_transactional_id(wire_id(id))
            .with_v3_and_below_producer_id(producer.0.into())
            .with_v3_and_below_producer_epoch(producer.1)
            .with_v3_and_below_topics(topics),
    };
    added(wire, version, &request)
}

pub fn added(wire: &mut Wire, version: i16, request: &AddPartitionsToTxnRequest) -> Vec<i16> {
    let answer = wire.call(version, request);
    assert_eq!(answer.error_code, 0);
    let topics = match version {
        4.. => answer.results_by_transaction.into_iter().flat_map(|row| row.topic_results).collect(),
        _ => answer.results_by_topic_v3_and_below,
    };
    let rows = topics.iter().flat_map(|topic| &topic.results_by_partition);
    let mut errors: Vec<i16> = rows.map(|row| row.partition_error_code).collect();
    errors.sort_unstable();
    errors
}

/// The same once what came before is complete.
pub fn add_when_free(wire: &mut Wire, version: i16, id: &str, producer: (i64, i16), asked: &[(&str, &[i32])]) {
    eventually("the transaction before is complete", || {
        let errors = add(wire, version, id, producer, asked);
        assert!(errors.iter().all(|e| [0, CONCURRENT_TRANSACTIONS].contains(e)), "{errors:?}");
        errors.iter().all(|e| *e == 0).then_some(())
    });
}

pub fn end(wire: &mut Wire, version: i16, id: &str, producer: (i64, i16), commit: bool) -> EndTxnResponse {
    let request = EndTxnRequest::default()
        .with_transactional_id(wire_id(id))
        .with_producer_id(producer.0.into())
        .with_producer_epoch(producer.1)
        .with_committed(commit);
    wire.call(version, &request)
}

/// The same of a retry, which may have to wait for the markers.
pub fn end_again(wire: &mut Wire, version: i16, id: &str, producer: (i64, i16), commit: bool) -> EndTxnResponse {
    eventually("the end is complete", || {
        let ended = end(wire, version, id, producer, commit);
        (ended.error_code != CONCURRENT_TRANSACTIONS).then_some(ended)
    })
}

pub fn describe(wire: &mut Wire, id: &str) -> TransactionState {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![wire_id(id)]);
    let mut described = wire.call(0, &request).transaction_states;
    assert_eq!(described.len(), 1);
    described.remove(0)
}

pub fn described_as(wire: &mut Wire, id: &str, state: &str) {
    eventually(&format!("{id} is {state}"), || {
        let described = describe(wire, id);
        assert_eq!(described.error_code, 0);
        (described.transaction_state.as_str() == state).then_some(())
    });
}
