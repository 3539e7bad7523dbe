//! `millstream txn find-hanging`: transactions that go on in a partition longer than any may, and that no coordinator
//! knows of: nothing ends them, and who reads what is committed waits behind them for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ListTransactionsRequest;
use millstream_core::types::{TopicName, TopicPartition};
use serde_json::{Value, json};

use super::now_ms;
use crate::cli::args::TxnFindHanging;
use crate::cli::client::{Client, ClientError, Cluster, OpenTransaction, Transaction};
use crate::cli::failure::{Doing, Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, show};

/// Partitions that one request asks about.
const PARTITIONS_PER_REQUEST: usize = 500;

type Found = (TopicPartition, OpenTransaction);

pub async fn run(client: &Arc<Client>, format: Format, args: &TxnFindHanging) -> Result<(), Stop> {
    let names: Vec<String> = args.topics.iter().map(|selection| selection.topic.as_str().to_owned()).collect();
    let asked = if names.is_empty() { None } else { Some(&names[..]) };
    let cluster = client.cluster(asked).await.doing("cannot look up topics")?;
    let mut failures = Vec::new();
    let by_leader = partitions_by_leader(&cluster, args, &mut failures);
    let mut open = Vec::new();
    for (leader, partitions) in by_leader {
        for partitions in partitions.chunks(PARTITIONS_PER_REQUEST) {
            collect(client, leader, partitions, &mut open, &mut failures).await;
        }
    }
    let oldest_allowed = now_ms().saturating_sub(millis(args.max_timeout));
    open.retain(|(_, open)| open.last_timestamp_ms < oldest_allowed);
    let hanging = without_coordinator(client, &cluster, open).await?;
    let document = json!({ "transactions": hanging.iter().map(document).collect::<Vec<_>>() });
    show(format, &document, || table(&hanging))?;
    all_done(failures)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The partitions that are meant, by who leads them.
fn partitions_by_leader(
    cluster: &Cluster,
    args: &TxnFindHanging,
    failures: &mut Vec<Failure>,
) -> BTreeMap<i32, Vec<TopicPartition>> {
    let mut wanted: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for selection in &args.topics {
        let name = selection.topic.as_str();
        match cluster.topic(name) {
            Err(error) => failures.push(Failure::of(format!("cannot look into topic {name}"), &error)),
            Ok(topic) if selection.partitions.is_empty() => {
                wanted.entry(name).or_default().extend(topic.partitions.iter().map(|p| p.partition));
            }
            Ok(_) => wanted.entry(name).or_default().extend(&selection.partitions),
        }
    }
    if args.topics.is_empty() {
        let all = |name| cluster.topics.get(name).into_iter().flat_map(|topic| &topic.partitions).map(|p| p.partition);
        wanted = cluster.topics.keys().map(|name| (name.as_str(), all(name).collect())).collect();
    }
    let mut by_leader: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
    for (name, numbers) in wanted {
        let Ok(topic) = TopicName::new(name) else { continue };
        for partition in numbers {
            match cluster.leader(name, partition) {
                Ok(leader) if args.broker.is_none_or(|id| id == leader) => {
                    let partition = TopicPartition { topic: topic.clone(), partition };
                    by_leader.entry(leader).or_default().push(partition);
                }
                Ok(_) => {}
                Err(error) => failures.push(Failure::of(format!("cannot look into {name}-{partition}"), &error)),
            }
        }
    }
    by_leader
}

async fn collect(
    client: &Client,
    leader: i32,
    partitions: &[TopicPartition],
    open: &mut Vec<Found>,
    failures: &mut Vec<Failure>,
) {
    match client.again(async || client.open_transactions(leader, partitions).await).await {
        Err(error) => failures.push(Failure::of(format!("cannot look into the partitions of broker {leader}"), &error)),
        Ok(found) => {
            for (partition, of_partition) in found {
                match of_partition {
                    Ok(found) => open.extend(found.into_iter().map(|open| (partition.clone(), open))),
                    Err(error) => failures.push(Failure::of(format!("cannot look into {partition}"), &error)),
                }
            }
        }
    }
}

/// Those that no coordinator knows to go on. Whether one does must be known of all, or nothing is said.
async fn without_coordinator(client: &Arc<Client>, cluster: &Cluster, open: Vec<Found>) -> Result<Vec<Found>, Stop> {
    if open.is_empty() {
        return Ok(open);
    }
    let producer_ids: BTreeSet<i64> = open.iter().map(|(_, open)| open.producer_id).collect();
    let request = ListTransactionsRequest::default()
        .with_producer_id_filters(producer_ids.iter().map(|id| (*id).into()).collect());
    let mut ids: BTreeMap<i64, String> = BTreeMap::new();
    for (broker, listed) in client.list_transactions(cluster.brokers.keys().copied(), &request).await {
        let listed = listed.doing(format!("cannot list the transactions of broker {broker}"))?;
        ids.extend(listed.into_iter().map(|row| (row.producer_id.0, row.transactional_id.to_string())));
    }
    let mut known: BTreeMap<i64, Transaction> = BTreeMap::new();
    for (producer_id, id) in ids {
        match client.describe_transaction(&id).await {
            Ok(transaction) => _ = known.insert(producer_id, transaction),
            Err(ClientError::Response { error: ResponseError::TransactionalIdNotFound, .. }) => {}
            Err(error) => return Err(Failure::of(format!("cannot describe transactional id {id}"), &error).into()),
        }
    }
    let is_known = |(partition, open): &Found| {
        known.get(&open.producer_id).is_some_and(|transaction| goes_on(transaction, partition, open.producer_id))
    };
    Ok(open.into_iter().filter(|found| !is_known(found)).collect())
}

/// Whether a coordinator will end the transaction in the partition.
fn goes_on(transaction: &Transaction, partition: &TopicPartition, producer_id: i64) -> bool {
    transaction.producer_id == producer_id && transaction.partitions.contains(partition)
}

fn document((partition, open): &Found) -> Value {
    json!({
        "topic": partition.topic.as_str(),
        "partition": partition.partition,
        "producer_id": open.producer_id,
        "producer_epoch": open.producer_epoch,
        "coordinator_epoch": open.coordinator_epoch,
        "start_offset": open.start_offset,
        "last_timestamp_ms": open.last_timestamp_ms,
    })
}

fn table(hanging: &[Found]) -> String {
    let header = ["PARTITION", "#PRODUCER", "#EPOCH", "#COORDINATOR EPOCH", "#START OFFSET", "#IDLE S"];
    let mut columns = Columns::new(&header);
    for (partition, open) in hanging {
        columns.row([
            partition.to_string(),
            open.producer_id.to_string(),
            open.producer_epoch.to_string(),
            open.coordinator_epoch.to_string(),
            open.start_offset.to_string(),
            (now_ms().saturating_sub(open.last_timestamp_ms) / 1_000).to_string(),
        ]);
    }
    columns.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_coordinator_knows_does_not_hang() {
        let partition = |number| TopicPartition { topic: TopicName::new("a").expect("a name"), partition: number };
        let transaction = Transaction {
            state: "Ongoing".to_owned(),
            producer_id: 5,
            producer_epoch: 1,
            timeout_ms: 1_000,
            started_at_ms: Some(1),
            partitions: BTreeSet::from([partition(0)]),
        };
        assert!(goes_on(&transaction, &partition(0), 5));
        assert!(!goes_on(&transaction, &partition(1), 5));
        assert!(!goes_on(&transaction, &partition(0), 6));
    }
}
