//! `millstream topic delete`

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use serde_json::{Value, json};

use super::TOPICS_PER_REQUEST;
use super::select::{is_pattern, select};
use crate::cli::args::TopicDelete;
use crate::cli::client::{Client, ClientError, text};
use crate::cli::failure::{Doing, Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, Progress, show};

struct Deleted {
    name: String,
    status: &'static str,
    failure: Option<Failure>,
}

pub async fn run(client: &Client, format: Format, args: &TopicDelete) -> Result<(), Stop> {
    let has_patterns = args.names.iter().any(|name| is_pattern(name));
    let names = if has_patterns { select(client, &args.names).await?.0 } else { args.names.clone() };
    let mut results = Vec::new();
    if has_patterns && !args.yes {
        results.extend(names.iter().map(|name| Deleted { name: name.clone(), status: "matched", failure: None }));
        print(format, &results)?;
        let why = format!("{} topics match and would lose all their records", names.len());
        return Err(Failure::new("nothing deleted", why).advise("--yes deletes them").into());
    }
    let mut progress = Progress::new("deleting topics", names.len());
    for chunk in names.chunks(TOPICS_PER_REQUEST) {
        let timeout_ms = client.timeout_ms();
        let code = |response: &DeleteTopicsResponse| response.responses.first().map_or(0, |row| row.error_code);
        let answer = client.controller(|version| request(chunk, version, timeout_ms), code).await;
        let response = answer.doing(format!("cannot delete {}", chunk.join(", ")))?;
        let mut rows: BTreeMap<_, _> =
            response.responses.iter().map(|row| (name_of(row), deleted(row, args))).collect();
        results.extend(chunk.iter().filter_map(|name| rows.remove(name)));
        progress.at(results.len());
    }
    drop(progress);
    print(format, &results)?;
    all_done(results.into_iter().filter_map(|result| result.failure).collect())
}

/// From version 6 on a topic is named by a struct that may hold an id instead.
fn request(names: &[String], version: i16, timeout_ms: i32) -> DeleteTopicsRequest {
    let request = DeleteTopicsRequest::default().with_timeout_ms(timeout_ms);
    if version < 6 {
        return request.with_topic_names(names.iter().map(|name| text(name).into()).collect());
    }
    let row = |name: &String| DeleteTopicState::default().with_name(Some(text(name).into()));
    request.with_topics(names.iter().map(row).collect())
}

fn name_of(row: &DeletableTopicResult) -> String {
    row.name.as_ref().map(|name| name.to_string()).unwrap_or_default()
}

fn deleted(row: &DeletableTopicResult, args: &TopicDelete) -> Deleted {
    let name = name_of(row);
    let error = ClientError::of_code(row.error_code, row.error_message.as_deref());
    let is_missing = error.as_ref().and_then(ClientError::response) == Some(ResponseError::UnknownTopicOrPartition);
    let (status, failure) = match error {
        None => ("deleted", None),
        Some(_) if is_missing && args.if_exists => ("missing", None),
        Some(error) => ("failed", Some(Failure::of(format!("cannot delete topic {name}"), &error))),
    };
    Deleted { name, status, failure }
}

fn print(format: Format, results: &[Deleted]) -> Result<(), Stop> {
    let row = |result: &Deleted| -> Value {
        let error = result.failure.as_ref().map(Failure::to_json);
        json!({ "name": result.name, "status": result.status, "error": error })
    };
    let document = json!({ "topics": results.iter().map(row).collect::<Vec<_>>() });
    show(format, &document, || {
        let mut columns = Columns::new(&["NAME", "STATUS"]);
        for result in results {
            columns.row([result.name.clone(), result.status.to_owned()]);
        }
        columns.render()
    })?;
    Ok(())
}
