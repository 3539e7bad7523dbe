//! `millstream cluster drain`

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use serde_json::json;

use crate::cli::args::ClusterDrain;
use crate::cli::client::{Client, ClientError, Cluster, text};
use crate::cli::failure::{Doing, Failure, Stop};
use crate::cli::output::{Format, Progress, show};
use crate::cli::settings::{Change, OwnerKind};

/// What an operator wants of a broker.
pub(super) const STATE: &str = "broker.state";

/// Between looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Kafka's election of preferred leaders.
const PREFERRED: i8 = 0;

/// Leaderships of a broker.
#[derive(Default)]
struct Led {
    /// Another replica is in sync and could lead.
    movable: usize,
    /// Topic and partition of the others.
    stuck: Vec<(String, i32)>,
}

pub async fn run(client: &Client, format: Format, args: &ClusterDrain) -> Result<(), Stop> {
    let what = match args.undo {
        true => format!("cannot end the drain of broker {}", args.broker),
        false => format!("cannot drain broker {}", args.broker),
    };
    let cluster = client.cluster(None).await.doing(&what)?;
    if !cluster.brokers.contains_key(&args.broker) {
        return Err(Failure::new(what, "no such broker is up").advise("a broker that is down leads nothing").into());
    }
    if args.undo {
        client.again(async || set_state(client, args.broker, None).await).await.doing(&what)?;
        let elect = async || elect_preferred(client, args.broker, &cluster).await;
        let returned = client.again(elect).await.doing(&what)?;
        let document = json!({ "broker": args.broker, "status": "active", "returning": returned });
        let words = || format!("broker {} may lead again: {returned} leaderships go back to it\n", args.broker);
        return Ok(show(format, &document, words)?);
    }
    client.again(async || set_state(client, args.broker, Some("drained")).await).await.doing(&what)?;
    let first = led(&cluster, args.broker);
    let total = first.movable;
    let mut progress = Progress::new("leaderships moved", total);
    let mut now = first;
    while now.movable > 0 {
        tokio::time::sleep(LOOK_EVERY).await;
        now = led(&client.cluster(None).await.doing(&what)?, args.broker);
        progress.at(total.saturating_sub(now.movable));
    }
    drop(progress);
    let stuck: Vec<_> =
        now.stuck.iter().map(|(topic, partition)| json!({ "topic": topic, "partition": partition })).collect();
    let document = json!({ "broker": args.broker, "status": "drained", "moved": total, "left": stuck });
    show(format, &document, || {
        let mut text = format!("broker {} is drained: {total} leaderships moved\n", args.broker);
        for (topic, partition) in &now.stuck {
            text.push_str(&format!("{topic}-{partition} stays: it has no other replica in sync\n"));
        }
        text
    })?;
    Ok(())
}

/// `None`: as any other.
pub(super) async fn set_state(client: &Client, broker: i32, state: Option<&str>) -> Result<(), ClientError> {
    let change = match state {
        Some(state) => Change::Set(STATE.to_owned(), state.to_owned()),
        None => Change::Delete(STATE.to_owned()),
    };
    let name = broker.to_string();
    let altered = client.alter_settings(OwnerKind::Broker, &[name], &[change], false).await?;
    altered.into_values().collect()
}

fn led(cluster: &Cluster, broker: i32) -> Led {
    let mut led = Led::default();
    for topic in cluster.topics.values() {
        for partition in topic.partitions.iter().filter(|partition| partition.leader == Some(broker)) {
            if partition.isr.iter().any(|id| *id != broker) {
                led.movable += 1;
            } else {
                led.stuck.push((topic.name.clone(), partition.partition));
            }
        }
    }
    led
}

/// Gives how many go back.
async fn elect_preferred(client: &Client, broker: i32, cluster: &Cluster) -> Result<usize, ClientError> {
    let of_topic = |topic: &crate::cli::client::TopicState| {
        let is_its = |p: &&crate::cli::client::PartitionState| {
            p.replicas.first() == Some(&broker) && p.leader != Some(broker) && p.isr.contains(&broker)
        };
        let partitions: Vec<i32> = topic.partitions.iter().filter(is_its).map(|p| p.partition).collect();
        let row = TopicPartitions::default().with_topic(text(&topic.name).into());
        (!partitions.is_empty()).then(|| row.with_partitions(partitions))
    };
    let rows: Vec<TopicPartitions> = cluster.topics.values().filter_map(of_topic).collect();
    let count: usize = rows.iter().map(|row| row.partitions.len()).sum();
    if count == 0 {
        return Ok(0);
    }
    let timeout_ms = client.timeout_ms();
    let build = |_| {
        ElectLeadersRequest::default()
            .with_election_type(PREFERRED)
            .with_timeout_ms(timeout_ms)
            .with_topic_partitions(Some(rows.clone()))
    };
    let response = client.controller(build, |response: &ElectLeadersResponse| response.error_code).await?;
    if let Some(error) = ClientError::of_code(response.error_code, None) {
        return Err(error);
    }
    // The others follow by themselves, when the brokers next balance.
    let refused = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result).filter(|row| {
        ResponseError::try_from_code(row.error_code).is_some_and(|error| error != ResponseError::ElectionNotNeeded)
    });
    Ok(count - refused.count())
}
