//! `millstream txn`: one file for each action.

mod abort;
mod describe;
mod find_hanging;
mod list;

use std::time::{SystemTime, UNIX_EPOCH};

use super::args::{TxnAction, TxnCommand};
use super::failure::Stop;

pub async fn run(command: TxnCommand) -> Result<(), Stop> {
    let client = super::connect::connect(&command.connect).await?;
    let format = command.connect.format;
    match command.action {
        TxnAction::List(args) => list::run(&client, format, &args).await,
        TxnAction::Describe(args) => describe::run(&client, format, &args).await,
        TxnAction::Abort(args) => abort::run(&client, format, &args).await,
        TxnAction::FindHanging(args) => find_hanging::run(&client, format, &args).await,
    }
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
