//! `millstream group delete`

use std::sync::Arc;

use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use serde_json::{Value, json};

use crate::cli::args::GroupDelete;
use crate::cli::client::{Client, ClientError, text};
use crate::cli::failure::{Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, Progress, show};

pub async fn run(client: &Arc<Client>, format: Format, args: &GroupDelete) -> Result<(), Stop> {
    let mut results = Vec::new();
    let mut progress = Progress::new("deleting groups", args.groups.len());
    for group in &args.groups {
        let deleted = delete(client, group).await;
        let failure = deleted.err().map(|error| Failure::of(format!("cannot delete group {group}"), &error));
        results.push((group, failure));
        progress.at(results.len());
    }
    drop(progress);
    let status = |failure: &Option<Failure>| if failure.is_some() { "failed" } else { "deleted" };
    let row = |(group, failure): &(&String, Option<Failure>)| -> Value {
        json!({ "group": group, "status": status(failure), "error": failure.as_ref().map(Failure::to_json) })
    };
    let document = json!({ "groups": results.iter().map(row).collect::<Vec<_>>() });
    show(format, &document, || {
        let mut columns = Columns::new(&["GROUP", "STATUS"]);
        for (group, failure) in &results {
            columns.row([(*group).clone(), status(failure).to_owned()]);
        }
        columns.render()
    })?;
    all_done(results.into_iter().filter_map(|(_, failure)| failure).collect())
}

async fn delete(client: &Client, group: &str) -> Result<(), ClientError> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![text(group).into()]);
    let code = |response: &DeleteGroupsResponse| response.results.first().map_or(0, |row| row.error_code);
    let response = client.ask_coordinator(group, |_| request.clone(), code).await?;
    ClientError::of_code(code(&response), None).map_or(Ok(()), Err)
}
