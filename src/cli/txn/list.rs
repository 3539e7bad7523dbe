//! `millstream txn list`

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::ListTransactionsRequest;
use serde_json::json;

use crate::cli::args::TxnList;
use crate::cli::client::{Client, text};
use crate::cli::failure::{Doing, Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, show};

struct Row {
    id: String,
    producer_id: i64,
    state: String,
    coordinator: i32,
}

/// Every broker knows the ids that it coordinates: all are asked.
pub async fn run(client: &Arc<Client>, format: Format, args: &TxnList) -> Result<(), Stop> {
    let cluster = client.cluster(Some(&[])).await.doing("cannot list the transactions")?;
    let mut failures = Vec::new();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (coordinator, answer) in client.list_transactions(cluster.brokers.into_keys(), &request(args)).await {
        match answer {
            Ok(listed) => rows.extend(listed.into_iter().map(|row| {
                let (id, state) = (row.transactional_id.to_string(), row.transaction_state.to_string());
                (id.clone(), Row { id, producer_id: row.producer_id.0, state, coordinator })
            })),
            Err(error) => {
                failures.push(Failure::of(format!("cannot list the transactions of broker {coordinator}"), &error));
            }
        }
    }
    let document = |row: &Row| {
        json!({
            "transactional_id": row.id,
            "producer_id": row.producer_id,
            "state": row.state,
            "coordinator": row.coordinator,
        })
    };
    let document = json!({ "transactions": rows.values().map(document).collect::<Vec<_>>() });
    show(format, &document, || {
        let mut columns = Columns::new(&["TRANSACTIONAL ID", "#PRODUCER", "STATE", "#COORDINATOR"]);
        for row in rows.values() {
            let Row { id, producer_id, state, coordinator } = row;
            columns.row([id.clone(), producer_id.to_string(), state.clone(), coordinator.to_string()]);
        }
        columns.render()
    })?;
    all_done(failures)
}

fn request(args: &TxnList) -> ListTransactionsRequest {
    let longer_than = args.longer_than.map_or(-1, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    ListTransactionsRequest::default()
        .with_state_filters(args.states.iter().map(|state| text(state)).collect())
        .with_producer_id_filters(args.producer_ids.iter().map(|id| (*id).into()).collect())
        .with_duration_filter(longer_than)
        .with_transactional_id_pattern(args.pattern.as_deref().map(text))
}
