//! `millstream group list`

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ListGroupsRequest;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use serde_json::json;
use tokio::task::JoinSet;

use crate::cli::args::GroupList;
use crate::cli::client::{Client, ClientError, Cluster};
use crate::cli::failure::{Doing, Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, or_dash, show};

/// Its partitions are the coordinators.
const GROUPS_TOPIC: &str = "__consumer_offsets";

struct Row {
    group: String,
    state: Option<String>,
    kind: Option<String>,
    protocol_type: Option<String>,
    coordinator: i32,
}

/// Every broker knows the groups that it coordinates: all are asked. `kind`: only groups of this type.
pub async fn run(client: &Arc<Client>, format: Format, args: &GroupList, kind: Option<&str>) -> Result<(), Stop> {
    let (cluster, unled) = look(client).await.doing("cannot list the groups")?;
    let mut calls = JoinSet::new();
    for id in cluster.brokers.into_keys() {
        let client = Arc::clone(client);
        calls.spawn(async move { (id, groups_at(&client, id).await) });
    }
    let mut failures = Vec::from_iter(unled);
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
    rows.retain(|_, row| is_wanted(row) && kind.is_none_or(|kind| row.kind.as_deref() == Some(kind)));
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

/// The brokers; and, if that stays so, that groups are missing because no broker coordinates them.
async fn look(client: &Client) -> Result<(Cluster, Option<Failure>), ClientError> {
    let mut retry = client.retry();
    loop {
        let cluster = client.cluster(Some(&[GROUPS_TOPIC.to_owned()])).await?;
        let missing = uncoordinated(&cluster);
        if missing.is_none() || !retry.pause().await {
            return Ok((cluster, missing));
        }
    }
}

fn uncoordinated(cluster: &Cluster) -> Option<Failure> {
    // No such topic: there has been no group yet.
    let topic = cluster.topics.get(GROUPS_TOPIC)?;
    let is_led = |leader: Option<i32>| leader.is_some_and(|leader| cluster.brokers.contains_key(&leader));
    let unled = topic.partitions.iter().filter(|partition| !is_led(partition.leader)).count();
    let all = topic.partitions.len();
    (unled > 0).then(|| {
        let why =
            format!("{unled} of the {all} partitions of {GROUPS_TOPIC} have no leader, so their groups are unknown");
        Failure::new("cannot list all groups", why).advise("start the brokers that are down")
    })
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
    use crate::cli::client::{Broker, PartitionState, TopicState};

    use super::*;

    #[test]
    fn groups_without_coordinator_are_missed() {
        let partition = |partition, leader| PartitionState {
            partition,
            leader,
            leader_epoch: 1,
            replicas: vec![1],
            isr: vec![1],
            offline_replicas: Vec::new(),
        };
        let cluster = |leaders: &[Option<i32>]| {
            let partitions = (0..).zip(leaders).map(|(index, leader)| partition(index, *leader)).collect();
            let name = GROUPS_TOPIC.to_owned();
            let topic = TopicState { name: name.clone(), id: None, is_internal: true, partitions, error: None };
            let broker = Broker { id: 1, host: "a".to_owned(), port: 1, rack: None };
            let brokers = BTreeMap::from([(1, broker)]);
            Cluster { brokers, topics: BTreeMap::from([(name, topic)]), ..Cluster::default() }
        };
        assert_eq!(uncoordinated(&Cluster::default()), None);
        assert_eq!(uncoordinated(&cluster(&[Some(1), Some(1)])), None);
        let failure = uncoordinated(&cluster(&[Some(1), None, Some(2)])).expect("some are missing");
        assert!(failure.why.starts_with("2 of the 3 partitions"), "{failure}");
    }

    #[test]
    fn states_are_known_in_any_spelling() {
        assert_eq!(plain("PreparingRebalance"), plain("preparing-rebalance"));
        assert_eq!(plain("STABLE"), plain("Stable"));
    }
}
