//! `millstream topic create`

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use millstream_core::types::TopicName;
use serde_json::{Value, json};

use super::TOPICS_PER_REQUEST;
use crate::cli::args::TopicCreate;
use crate::cli::base64;
use crate::cli::client::{Client, ClientError, text};
use crate::cli::failure::{Doing, Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, Progress, or_dash, show};

/// What became of one topic.
struct Created {
    name: String,
    topic_id: Option<String>,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    status: &'static str,
    failure: Option<Failure>,
}

pub async fn run(client: &Client, format: Format, args: &TopicCreate) -> Result<(), Stop> {
    let mut results = Vec::new();
    let mut progress = Progress::new("creating topics", args.names.len());
    for names in args.names.chunks(TOPICS_PER_REQUEST) {
        let request = request(names, args, client.timeout_ms());
        let code = |response: &CreateTopicsResponse| response.topics.first().map_or(0, |topic| topic.error_code);
        let what = format!("cannot create {}", naming(names));
        let response = client.controller(|_| request.clone(), code).await.doing(what)?;
        let mut rows: BTreeMap<_, _> = response.topics.into_iter().map(|row| (row.name.to_string(), row)).collect();
        results.extend(names.iter().map(|name| created(name, rows.remove(name.as_str()), args)));
        progress.at(results.len());
    }
    drop(progress);
    if !args.validate_only {
        await_leaders(client, &results).await?;
    }
    let document = json!({ "topics": results.iter().map(document).collect::<Vec<_>>() });
    show(format, &document, || table(&results))?;
    all_done(results.into_iter().filter_map(|result| result.failure).collect())
}

fn naming(names: &[TopicName]) -> String {
    match names {
        [name] => format!("topic {name}"),
        _ => format!("{} topics", names.len()),
    }
}

fn request(names: &[TopicName], args: &TopicCreate, timeout_ms: i32) -> CreateTopicsRequest {
    let config = |(key, value): &(String, String)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    };
    let topic = |name: &TopicName| {
        CreatableTopic::default()
            .with_name(text(name.as_str()).into())
            .with_num_partitions(args.partitions)
            .with_replication_factor(args.replication)
            .with_configs(args.configs.iter().map(config).collect())
    };
    CreateTopicsRequest::default()
        .with_topics(names.iter().map(topic).collect())
        .with_timeout_ms(timeout_ms)
        .with_validate_only(args.validate_only)
}

fn created(name: &TopicName, row: Option<CreatableTopicResult>, args: &TopicCreate) -> Created {
    let row = row.unwrap_or_else(|| {
        let message = text("the broker left the topic out of its answer");
        CreatableTopicResult::default().with_error_code(-1).with_error_message(Some(message))
    });
    let error = ClientError::of_code(row.error_code, row.error_message.as_deref());
    let exists = error.as_ref().and_then(ClientError::response) == Some(ResponseError::TopicAlreadyExists);
    let (status, failure) = match error {
        None if args.validate_only => ("valid", None),
        None => ("created", None),
        Some(_) if exists && args.if_not_exists => ("exists", None),
        Some(error) => ("failed", Some(Failure::of(format!("cannot create topic {name}"), &error))),
    };
    Created {
        name: name.to_string(),
        topic_id: Some(row.topic_id).filter(|id| !id.is_nil()).map(|id| base64::url(id.as_bytes())),
        partitions: Some(row.num_partitions).filter(|count| *count > 0),
        replication_factor: Some(row.replication_factor).filter(|count| *count > 0),
        status,
        failure,
    }
}

/// Waits until the broker asked knows the new topics and their leaders, so that the next command can use them. When
/// that takes too long they are created nevertheless.
async fn await_leaders(client: &Client, results: &[Created]) -> Result<(), Stop> {
    let names: Vec<_> = results.iter().filter(|r| r.status == "created").map(|r| r.name.clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let mut retry = client.retry();
    loop {
        let cluster = client.cluster(Some(&names)).await.doing("cannot look up the new topics")?;
        let is_led = |name: &String| {
            cluster.topic(name).is_ok_and(|topic| topic.partitions.iter().all(|partition| partition.leader.is_some()))
        };
        if names.iter().all(is_led) || !retry.pause().await {
            return Ok(());
        }
    }
}

fn document(created: &Created) -> Value {
    json!({
        "name": created.name,
        "status": created.status,
        "topic_id": created.topic_id,
        "partitions": created.partitions,
        "replication_factor": created.replication_factor,
        "error": created.failure.as_ref().map(Failure::to_json),
    })
}

fn table(results: &[Created]) -> String {
    let mut columns = Columns::new(&["NAME", "STATUS", "#PARTITIONS", "#REPLICATION"]);
    for result in results {
        columns.row([
            result.name.clone(),
            result.status.to_owned(),
            or_dash(result.partitions),
            or_dash(result.replication_factor),
        ]);
    }
    columns.render()
}
