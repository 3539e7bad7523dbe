//! `millstream group list`

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ListGroupsRequest;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use serde_json::json;
use tokio::task::JoinSet;

use crate::cli::args::GroupList;
use crate::cli::client::{Client, ClientError};
use crate::cli::failure::{Doing, Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, or_dash, show};

struct Row {
    group: String,
    state: Option<String>,
    kind: Option<String>,
    protocol_type: Option<String>,
    coordinator: i32,
}

/// Every broker knows the groups that it coordinates: all are asked.
pub async fn run(client: &Arc<Client>, format: Format, args: &GroupList) -> Result<(), Stop> {
    let cluster = client.cluster(Some(&[])).await.doing("cannot list the groups")?;
    let mut calls = JoinSet::new();
    for id in cluster.brokers.into_keys() {
        let client = Arc::clone(client);
        calls.spawn(async move { (id, groups_at(&client, id).await) });
    }
    let mut failures = Vec::new();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (id, answer) in calls.join_all().await {
        match answer {
            Ok(groups) => rows.extend(groups.iter().map(|group| (group.group_id.to_string(), row(id, group)))),
            Err(error) => failures.push(Failure::of(format!("cannot list the groups of broker {id}"), &error)),
        }
    }
    let is_wanted = |row: &Row| {
        let state = plain(row.state.as_deref().unwrap_or_default());
        args.states.is_empty() || args.states.iter().any(|wanted| plain(wanted) == state)
    };
    rows.retain(|_, row| is_wanted(row));
    let document = |row: &Row| {
        json!({
            "group": row.group,
            "state": row.state,
            "type": row.kind,
            "protocol_type": row.protocol_type,
            "coordinator": row.coordinator,
        })
    };
    let document = json!({ "groups": rows.values().map(document).collect::<Vec<_>>() });
    show(format, &document, || table(rows.values()))?;
    all_done(failures)
}

async fn groups_at(client: &Client, id: i32) -> Result<Vec<ListedGroup>, ClientError> {
    let mut retry = client.retry();
    loop {
        let answer = client.broker(id, |_| ListGroupsRequest::default()).await;
        let error = match answer {
            Ok(response) => match ResponseError::try_from_code(response.error_code) {
                None => return Ok(response.groups),
                Some(error) => ClientError::Response { error, message: None },
            },
            Err(error) => error,
        };
        retry.after(error).await?;
    }
}

/// Old brokers tell neither state nor type.
fn row(coordinator: i32, group: &ListedGroup) -> Row {
    let told = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Row {
        group: group.group_id.to_string(),
        state: told(&group.group_state),
        kind: told(&group.group_type),
        protocol_type: told(&group.protocol_type),
        coordinator,
    }
}

/// `PreparingRebalance`, `preparing_rebalance` and `preparing-rebalance` are one.
fn plain(state: &str) -> String {
    state.chars().filter(|letter| letter.is_alphanumeric()).map(|letter| letter.to_ascii_lowercase()).collect()
}

fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut columns = Columns::new(&["GROUP", "STATE", "TYPE", "PROTOCOL", "#COORDINATOR"]);
    for row in rows {
        columns.row([
            row.group.clone(),
            or_dash(row.state.as_ref()),
            or_dash(row.kind.as_ref()),
            or_dash(row.protocol_type.as_ref()),
            row.coordinator.to_string(),
        ]);
    }
    columns.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_known_in_any_spelling() {
        assert_eq!(plain("PreparingRebalance"), plain("preparing-rebalance"));
        assert_eq!(plain("STABLE"), plain("Stable"));
    }
}
