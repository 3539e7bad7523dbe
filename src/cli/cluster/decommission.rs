//! `millstream cluster decommission`
//!
//! The cluster holds all that was decided, so the command may be interrupted anywhere: run again, it goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::{
    BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, UnregisterBrokerRequest, UnregisterBrokerResponse,
};
use serde_json::json;

use super::drain::set_state;
use super::plan::{Placed, without};
use super::reassign::OngoingMoves;
use super::{Described, describe};
use crate::cli::args::ClusterDecommission;
use crate::cli::client::{Client, ClientError, Cluster, text};
use crate::cli::failure::{Doing, Failure, Stop};
use crate::cli::output::{Columns, Format, Progress, list, remark, show};

/// Between looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Nothing has moved for so long: the user is told what is waited for.
const REMARK_AFTER: Duration = Duration::from_secs(30);
/// Partitions that a remark or a refusal names.
const NAMED_MAX: usize = 3;
const METADATA_TOPIC: &str = "__cluster_metadata";

pub async fn run(client: &Client, format: Format, args: &ClusterDecommission) -> Result<(), Stop> {
    let (broker, what) = (args.broker, format!("cannot decommission broker {}", args.broker));
    let described = client.again(async || describe(client).await).await.doing(&what)?;
    let Some(row) = described.brokers.get(&broker) else {
        return Err(Failure::new(what, "no such broker is registered").into());
    };
    let mut is_up = !row.is_fenced;
    let brokers = others(&described, broker);
    let work = client.again(async || Work::look(client, broker).await).await.doing(&what)?;
    let plan = work.plan(broker, &brokers).map_err(|why| refusal(&what, &why))?;
    // One that is down can be told nothing, and is the last choice for new partitions anyway.
    if is_up && !args.dry_run {
        is_up = tell_to_leave(client, broker).await.doing(&what)?;
    }
    if !is_up {
        await_leaders(client, work, broker, &what).await?;
    }
    if args.dry_run {
        return show_plan(format, broker, &plan);
    }
    let moved = empty(client, args, &what).await?;
    if is_up {
        await_no_vote(client, broker).await.doing(&what)?;
    }
    unregister(client, broker).await.doing(&what)?;
    show(format, &json!({ "broker": broker, "status": "decommissioned", "moved": moved }), || {
        let stop = if is_up { "; stop it now" } else { "" };
        format!("broker {broker} is decommissioned, {moved} replicas were moved{stop}\n")
    })?;
    Ok(())
}

/// False: it is down by now. A broker that died a moment ago was told as up.
async fn tell_to_leave(client: &Client, broker: i32) -> Result<bool, ClientError> {
    let mut retry = client.retry();
    while let Err(error) = set_state(client, broker, Some("leaving")).await {
        let described = client.again(async || describe(client).await).await?;
        if described.brokers.get(&broker).is_none_or(|row| row.is_fenced) {
            return Ok(false);
        }
        retry.after(error).await?;
    }
    Ok(true)
}

/// Of a broker that died a moment ago the partitions may not have other leaders yet.
async fn await_leaders(client: &Client, mut work: Work, broker: i32, what: &str) -> Result<(), Stop> {
    let mut retry = client.retry();
    while let Err(why) = work.check_leaders(broker) {
        if !retry.pause().await {
            return Err(Failure::new(what, why)
                .advise("start it again, and let its partitions be copied first")
                .into());
        }
        work = client.again(async || Work::look(client, broker).await).await.doing(what)?;
    }
    Ok(())
}

fn refusal(what: &str, why: &str) -> Stop {
    let advice = "start another broker, or give the topics fewer replicas";
    Failure::new(what, why).advise(advice).into()
}

/// Those that may take replicas.
fn others(described: &Described, broker: i32) -> BTreeMap<i32, Option<String>> {
    let rows = described.brokers.values().filter(|row| row.id != broker && !row.is_fenced);
    rows.map(|row| (row.id, row.rack.clone())).collect()
}

/// What is left to be done.
struct Work {
    cluster: Cluster,
    /// Where every partition is, or shall be when it has moved.
    placed: Vec<Placed>,
    /// Moves under way off the broker.
    moving: Vec<(String, i32)>,
}

impl Work {
    async fn look(client: &Client, broker: i32) -> Result<Self, ClientError> {
        // First the moves: what ends in between is seen where it is then, by one that is not behind.
        let ongoing: OngoingMoves = client.ongoing_moves().await?;
        let cluster = client.cluster_of_controller().await?;
        let (mut placed, mut moving) = (Vec::new(), Vec::new());
        for topic in cluster.topics.values() {
            for state in &topic.partitions {
                let key = (topic.name.clone(), state.partition);
                let replicas = match ongoing.get(&key) {
                    Some(to) => {
                        let is_off_it = to.replicas.contains(&broker) && !to.target.contains(&broker);
                        if is_off_it && state.replicas != to.target {
                            moving.push(key);
                        }
                        to.target.clone()
                    }
                    None => state.replicas.clone(),
                };
                let (name, is_internal) = (topic.name.clone(), topic.is_internal);
                placed.push(Placed { topic: name, partition: state.partition, replicas, is_internal });
            }
        }
        Ok(Self { cluster, placed, moving })
    }

    fn plan(&self, broker: i32, brokers: &BTreeMap<i32, Option<String>>) -> Result<Vec<Placed>, String> {
        without(broker, brokers, &self.placed).map_err(|none| {
            let others = brokers.len();
            format!(
                "{}-{} has {} replicas, and {others} other brokers are up",
                none.topic, none.partition, none.replicas
            )
        })
    }

    /// What nobody leads cannot move, and of a broker that is down that does not mend itself.
    fn check_leaders(&self, broker: i32) -> Result<(), String> {
        let lost = self.placed.iter().filter(|placed| placed.replicas.contains(&broker)).filter(|placed| {
            let topic = self.cluster.topics.get(&placed.topic);
            let state = topic.and_then(|t| t.partitions.iter().find(|p| p.partition == placed.partition));
            state.is_some_and(|state| state.leader.is_none())
        });
        let names: Vec<String> = lost.map(|placed| format!("{}-{}", placed.topic, placed.partition)).collect();
        match names.as_slice() {
            [] => Ok(()),
            [..] => Err(format!("it is down, and without it {} has no leader", some(&names))),
        }
    }
}

/// The first of many.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        ..=NAMED_MAX => shown,
        count => format!("{shown} and {} more", count - NAMED_MAX),
    }
}

fn show_plan(format: Format, broker: i32, plan: &[Placed]) -> Result<(), Stop> {
    let row = |to: &Placed| json!({ "topic": to.topic, "partition": to.partition, "replicas": to.replicas });
    let document = json!({ "broker": broker, "status": "planned", "moves": plan.iter().map(row).collect::<Vec<_>>() });
    show(format, &document, || {
        let mut columns = Columns::new(&["TOPIC", "#PARTITION", "TO"]);
        for to in plan {
            columns.row([to.topic.clone(), to.partition.to_string(), list(&to.replicas)]);
        }
        columns.render()
    })?;
    Ok(())
}

/// Moves all replicas off the broker, some at a time; gives how many this run has begun to move, or found on their way.
async fn empty(client: &Client, args: &ClusterDecommission, what: &str) -> Result<usize, Stop> {
    let at_once = usize::from(args.at_once);
    let mut begun = 0;
    let (mut progress, mut left_before, mut changed) = (None, usize::MAX, Instant::now());
    loop {
        let work = client.again(async || Work::look(client, args.broker).await).await.doing(what)?;
        let described = client.again(async || describe(client).await).await.doing(what)?;
        let brokers = others(&described, args.broker);
        let plan = work.plan(args.broker, &brokers).map_err(|why| refusal(what, &why))?;
        let left = plan.len() + work.moving.len();
        if left == 0 {
            return Ok(begun);
        }
        if left_before == usize::MAX {
            begun = work.moving.len();
        }
        let (progress, total) = progress.get_or_insert_with(|| (Progress::new("moving partitions", left), left));
        progress.at(total.saturating_sub(left));
        let room = at_once.saturating_sub(work.moving.len()).min(plan.len());
        let refused = match room {
            0 => Vec::new(),
            _ => client.again(async || client.move_replicas(&plan[..room]).await).await.doing(what)?,
        };
        begun += room - refused.len();
        if let Some((placed, error)) = refused.first().filter(|_| refused.len() == room && room > 0) {
            return Err(Failure::of(format!("{what}: {}-{}", placed.topic, placed.partition), error).into());
        }
        if left != left_before {
            (left_before, changed) = (left, Instant::now());
        } else if changed.elapsed() >= REMARK_AFTER {
            changed = Instant::now();
            let names: Vec<String> =
                work.moving.iter().map(|(topic, partition)| format!("{topic}-{partition}")).collect();
            remark(&format!("millstream: {left} partitions are left; still moving: {}", some(&names)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Its vote in the metadata goes to another broker, where there is one.
async fn await_no_vote(client: &Client, broker: i32) -> Result<(), ClientError> {
    let mut retry = client.retry();
    let topic = TopicData::default()
        .with_topic_name(text(METADATA_TOPIC).into())
        .with_partitions(vec![PartitionData::default().with_partition_index(0)]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    loop {
        let code = |response: &DescribeQuorumResponse| response.error_code;
        let response = client.controller(|_| request.clone(), code).await?;
        let row = response.topics.first().and_then(|topic| topic.partitions.first());
        let code = row.map_or(response.error_code, |row| row.error_code);
        let error = match (ClientError::of_code(code, None), row) {
            (Some(error), _) => error,
            (None, Some(row)) if row.current_voters.iter().any(|voter| voter.replica_id.0 == broker) => {
                ClientError::Response {
                    error: ResponseError::RequestTimedOut,
                    message: Some("the broker still has a vote in the metadata".to_owned()),
                }
            }
            (None, _) => return Ok(()),
        };
        retry.after(error).await?;
    }
}

async fn unregister(client: &Client, broker: i32) -> Result<(), ClientError> {
    let attempt = async || {
        let build = |_| UnregisterBrokerRequest::default().with_broker_id(BrokerId(broker));
        let response = client.controller(build, |response: &UnregisterBrokerResponse| response.error_code).await?;
        match ClientError::of_code(response.error_code, response.error_message.as_deref()) {
            // It was registered a moment ago: an attempt before this one has done it.
            Some(error) if error.response() == Some(ResponseError::BrokerIdNotRegistered) => Ok(()),
            Some(error) => Err(error),
            None => Ok(()),
        }
    };
    client.again(attempt).await
}
