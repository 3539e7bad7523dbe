//! `millstream txn describe`

use std::sync::Arc;

use serde_json::{Value, json};

use super::now_ms;
use crate::cli::args::TxnDescribe;
use crate::cli::client::{Client, ClientError, Coordinated, Transaction};
use crate::cli::failure::{Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, list, or_dash, show};

struct View {
    id: String,
    coordinator: i32,
    transaction: Transaction,
}

impl View {
    /// Milliseconds since the transaction began, while one is under way.
    fn age_ms(&self) -> Option<i64> {
        let is_open = matches!(self.transaction.state.as_str(), "Ongoing" | "PrepareCommit" | "PrepareAbort");
        self.transaction.started_at_ms.filter(|_| is_open).map(|at| (now_ms() - at).max(0))
    }
}

pub async fn run(client: &Arc<Client>, format: Format, args: &TxnDescribe) -> Result<(), Stop> {
    let (mut views, mut failures) = (Vec::new(), Vec::new());
    for id in &args.ids {
        match view(client, id).await {
            Ok(view) => views.push(view),
            Err(error) => failures.push(Failure::of(format!("cannot describe transactional id {id}"), &error)),
        }
    }
    if !views.is_empty() {
        let document = json!({ "transactions": views.iter().map(document).collect::<Vec<_>>() });
        show(format, &document, || table(&views))?;
    }
    all_done(failures)
}

async fn view(client: &Client, id: &str) -> Result<View, ClientError> {
    let coordinator = client.coordinator_of(Coordinated::Transaction, id).await?.id;
    Ok(View { id: id.to_owned(), coordinator, transaction: client.describe_transaction(id).await? })
}

fn document(view: &View) -> Value {
    let Transaction { state, producer_id, producer_epoch, timeout_ms, started_at_ms, partitions } = &view.transaction;
    json!({
        "transactional_id": view.id,
        "coordinator": view.coordinator,
        "producer_id": producer_id,
        "producer_epoch": producer_epoch,
        "state": state,
        "timeout_ms": timeout_ms,
        "started_at_ms": started_at_ms,
        "age_ms": view.age_ms(),
        "partitions": partitions.iter().map(|p| json!({ "topic": p.topic.as_str(), "partition": p.partition })).collect::<Vec<_>>(),
    })
}

fn table(views: &[View]) -> String {
    let header =
        ["TRANSACTIONAL ID", "STATE", "#PRODUCER", "#EPOCH", "#COORDINATOR", "#TIMEOUT S", "#AGE S", "PARTITIONS"];
    let mut columns = Columns::new(&header);
    let in_seconds = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
    for view in views {
        let Transaction { state, producer_id, producer_epoch, timeout_ms, partitions, .. } = &view.transaction;
        columns.row([
            view.id.clone(),
            state.clone(),
            producer_id.to_string(),
            producer_epoch.to_string(),
            view.coordinator.to_string(),
            in_seconds(i64::from(*timeout_ms)),
            or_dash(view.age_ms().map(in_seconds)),
            list(&Vec::from_iter(partitions)),
        ]);
    }
    columns.render()
}
