//! DescribeTransactions (65) and ListTransactions (66), of the transactional ids that this node coordinates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{self, TopicData};
use kafka_protocol::messages::{
    self, DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
    list_transactions_response,
};
use millstream_core::coordinator::txn::{
    Command, DescribeTransactions, DescribedTransaction, ListTransactions, ListedTransaction, Reply, TransactionState,
    TransactionalId,
};
use millstream_core::security::Operation;
use millstream_core::types::{ProducerId, Timestamp, TopicPartition};
use regex::{Regex, RegexBuilder};

use super::transactions::{NO_TOKEN, transactional_id};
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::coordinator::CoordinatorError;
use crate::protocol::StrBytes;

/// How long a coordinator's answer is waited for.
const WITHIN: Duration = Duration::from_secs(10);
/// Most memory that a pattern may be compiled to.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// States that Kafka knows beside those that last: nothing is in them, and a filter may name them.
const PASSING_STATES: [&str; 2] = ["Dead", "PrepareEpochFence"];

pub fn handle_describe<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DescribeTransactionsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        // Once each, however often it is named: a reply is not to outgrow what there is.
        let named: BTreeSet<&str> = asked.transactional_ids.iter().map(|id| id.as_str()).collect();
        context.transactions.confirm(named.iter().copied()).await;
        let mut of_partition: BTreeMap<Option<i32>, Vec<TransactionalId>> = BTreeMap::new();
        let mut rows = Vec::with_capacity(named.len());
        let access = &request.access;
        for name in named {
            if let Err(error) = access.check(Operation::Describe, Resource::TransactionalId(name)) {
                rows.push(refused(name, error));
                continue;
            }
            match transactional_id(name) {
                Some(id) => of_partition.entry(context.transactions.partition_for(name).ok()).or_default().push(id),
                None => rows.push(refused(name, ResponseError::InvalidRequest)),
            }
        }
        for (partition, ids) in of_partition {
            let names = ids.clone();
            match describe(context, partition, ids).await {
                Ok(described) => rows.extend(described.into_iter().map(|(id, found)| match found {
                    Some(found) => row(&id, &found, access),
                    None => refused(id.as_str(), ResponseError::TransactionalIdNotFound),
                })),
                Err(e) => {
                    let error = errors::of_coordinator(e);
                    rows.extend(names.iter().map(|id| refused(id.as_str(), error)));
                }
            }
        }
        Outcome::reply(&request.header, &DescribeTransactionsResponse::default().with_transaction_states(rows))
    })
}

async fn describe(
    context: &Context,
    partition: Option<i32>,
    ids: Vec<TransactionalId>,
) -> Result<Vec<(TransactionalId, Option<DescribedTransaction>)>, CoordinatorError> {
    let partition = partition.ok_or(CoordinatorError::NotCoordinator)?;
    let command = move |token| Command::DescribeTransactions(DescribeTransactions { token, ids });
    match context.transactions.ask(partition, command).await?.reply_within(WITHIN).await? {
        Reply::DescribeTransactions(described) => Ok(described),
        other => unreachable!("a description was answered with {other:?}"),
    }
}

fn refused(id: &str, error: ResponseError) -> describe_transactions_response::TransactionState {
    describe_transactions_response::TransactionState::default()
        .with_transactional_id(wire_id(id))
        .with_error_code(error.code())
}

/// Without the topics that the client may not know of.
fn row(
    id: &TransactionalId,
    found: &DescribedTransaction,
    access: &Access,
) -> describe_transactions_response::TransactionState {
    let mut topics: Vec<TopicData> = Vec::new();
    let may_see = |of: &&TopicPartition| access.may_quietly(Operation::Describe, Resource::Topic(of.topic.as_str()));
    for partition in found.partitions.iter().filter(may_see) {
        let topic = partition.topic.as_str();
        if topics.last().is_none_or(|last| last.topic.as_str() != topic) {
            let name = messages::TopicName(StrBytes::from_string(topic.to_owned()));
            topics.push(TopicData::default().with_topic(name));
        }
        if let Some(last) = topics.last_mut() {
            last.partitions.push(partition.partition);
        }
    }
    describe_transactions_response::TransactionState::default()
        .with_transactional_id(wire_id(id.as_str()))
        .with_transaction_state(StrBytes::from_static_str(found.state.name()))
        .with_transaction_timeout_ms(found.timeout_ms)
        .with_transaction_start_time_ms(found.started_at.unwrap_or(Timestamp::NONE).0)
        .with_producer_id(messages::ProducerId(found.producer.id.0))
        .with_producer_epoch(found.producer.epoch.0)
        .with_topics(topics)
}

fn wire_id(id: &str) -> messages::TransactionalId {
    messages::TransactionalId(StrBytes::from_string(id.to_owned()))
}

pub fn handle_list<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: ListTransactionsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let body = ListTransactionsResponse::default();
        let Ok(pattern) = pattern(asked.transactional_id_pattern.as_deref()) else {
            return Outcome::reply(
                &request.header,
                &body.with_error_code(ResponseError::InvalidRegularExpression.code()),
            );
        };
        let (list, unknown) = list_from_wire(&asked);
        let body = match list_here(context, &list).await {
            Err(e) => body.with_error_code(errors::of_coordinator(e).code()),
            Ok(listed) => {
                let is_meant = |row: &ListedTransaction| {
                    let id = row.id.as_str();
                    pattern.as_ref().is_none_or(|p| p.is_match(id))
                        && request.access.may_quietly(Operation::Describe, Resource::TransactionalId(id))
                };
                body.with_transaction_states(listed.into_iter().filter(is_meant).map(|row| listed_row(&row)).collect())
            }
        };
        Outcome::reply(&request.header, &body.with_unknown_state_filters(unknown))
    })
}

/// The whole id must match. Empty is none.
fn pattern(asked: Option<&str>) -> Result<Option<Regex>, regex::Error> {
    let Some(pattern) = asked.filter(|pattern| !pattern.is_empty()) else { return Ok(None) };
    let whole = format!("^(?:{pattern})$");
    // Alone first: what is no pattern may become one by what stands around it.
    let build = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    build(pattern)?;
    build(&whole).map(Some)
}

/// The command, and the states of the filter that there are none of.
fn list_from_wire(asked: &ListTransactionsRequest) -> (ListTransactions, Vec<StrBytes>) {
    let find = |name: &str| TransactionState::ALL.into_iter().find(|state| state.name() == name);
    let (known, others): (Vec<_>, Vec<_>) = asked.state_filters.iter().partition(|name| find(name).is_some());
    let states: BTreeSet<TransactionState> = known.into_iter().filter_map(|name| find(name)).collect();
    let unknown: BTreeSet<&StrBytes> = others.into_iter().filter(|name| !PASSING_STATES.contains(&&***name)).collect();
    let producer_ids: BTreeSet<ProducerId> = asked.producer_id_filters.iter().map(|id| ProducerId(id.0)).collect();
    let list = ListTransactions {
        token: NO_TOKEN,
        producer_ids: Some(producer_ids).filter(|ids| !ids.is_empty()),
        states: Some(states).filter(|_| !asked.state_filters.is_empty()),
        longer_than_ms: asked.duration_filter,
    };
    (list, unknown.into_iter().cloned().collect())
}

/// Of all coordinators that are here. One that is still loading makes the list wait: it would not be whole.
async fn list_here(context: &Context, list: &ListTransactions) -> Result<Vec<ListedTransaction>, CoordinatorError> {
    let mut asked = Vec::new();
    for partition in context.transactions.coordinated() {
        let list = list.clone();
        let command = move |token| Command::ListTransactions(ListTransactions { token, ..list });
        asked.push(context.transactions.ask(partition, command).await);
    }
    let mut listed = Vec::new();
    for asked in asked {
        let reply = match asked {
            Ok(asked) => asked.reply_within(WITHIN).await,
            Err(e) => Err(e),
        };
        match reply {
            Ok(Reply::ListTransactions(rows)) => listed.extend(rows),
            Ok(other) => unreachable!("a list was answered with {other:?}"),
            // Another node's.
            Err(CoordinatorError::NotCoordinator) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(listed)
}

fn listed_row(row: &ListedTransaction) -> list_transactions_response::TransactionState {
    list_transactions_response::TransactionState::default()
        .with_transactional_id(wire_id(row.id.as_str()))
        .with_producer_id(messages::ProducerId(row.producer_id.0))
        .with_transaction_state(StrBytes::from_static_str(row.state.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_the_whole_id() {
        let matches = |text: &str, id: &str| pattern(Some(text)).unwrap().unwrap().is_match(id);
        assert!(matches("my-.*", "my-app") && matches("a|b", "b") && matches("(?i)A", "a"));
        assert!(!matches("my", "my-app") && !matches("a|b", "ab") && !matches("app", "my-app"));
        assert!(pattern(None).unwrap().is_none() && pattern(Some("")).unwrap().is_none());
        for bad in ["(", "a)(b", "[", "*", "(?:a{1000}){1000}"] {
            assert!(pattern(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn states_that_there_are_none_of_are_told() {
        let asked = |names: &[&'static str]| {
            let names = names.iter().map(|name| StrBytes::from_static_str(name)).collect();
            list_from_wire(&ListTransactionsRequest::default().with_state_filters(names))
        };
        let (list, unknown) = asked(&["Ongoing", "ongoing", "Dead"]);
        assert_eq!(list.states, Some(BTreeSet::from([TransactionState::Ongoing])));
        assert_eq!(unknown, [StrBytes::from_static_str("ongoing")]);
        let (list, unknown) = asked(&["Nonsense"]);
        assert_eq!((list.states, unknown.len()), (Some(BTreeSet::new()), 1));
        let (list, _) = asked(&[]);
        assert_eq!((list.states, list.producer_ids, list.longer_than_ms), (None, None, -1));
    }
}
