//! `millstream topic alter`

use std::collections::BTreeMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use serde_json::json;

use super::select::{is_pattern, select};
use crate::cli::args::TopicAlter;
use crate::cli::client::{Client, ClientError, text};
use crate::cli::failure::{Doing, Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, show};
use crate::cli::settings::{OwnerKind, changes};

/// What became of each topic.
type Altered = BTreeMap<String, Result<(), ClientError>>;

pub async fn run(client: &Client, format: Format, args: &TopicAlter) -> Result<(), Stop> {
    if args.set.is_empty() && args.delete.is_empty() && args.partitions.is_none() {
        return Err(Stop::Usage("nothing to alter: --set, --delete or --partitions is needed".to_owned()));
    }
    let has_patterns = args.names.iter().any(|name| is_pattern(name));
    let names = if has_patterns { select(client, &args.names).await?.0 } else { args.names.clone() };
    let mut failures = BTreeMap::new();
    let changes = changes(&args.set, &args.delete);
    if !changes.is_empty() {
        let altered = client.alter_settings(OwnerKind::Topic, &names, &changes, args.validate_only).await;
        collect(&mut failures, "cannot alter topic", altered.doing("cannot alter the settings")?);
    }
    if let Some(count) = args.partitions {
        let fit: Vec<_> = names.iter().filter(|name| !failures.contains_key(*name)).cloned().collect();
        let grown = add_partitions(client, &fit, count, args.validate_only).await;
        collect(&mut failures, "cannot add partitions to topic", grown.doing("cannot add partitions")?);
    }
    print(format, args, &names, &failures)?;
    all_done(failures.into_values().collect())
}

fn collect(failures: &mut BTreeMap<String, Failure>, what: &str, altered: Altered) {
    for (name, result) in altered {
        if let Err(error) = result {
            let failure = Failure::of(format!("{what} {name}"), &error);
            failures.insert(name, failure);
        }
    }
}

async fn add_partitions(client: &Client, names: &[String], count: i32, is_dry: bool) -> Result<Altered, ClientError> {
    let topic = |name: &String| {
        CreatePartitionsTopic::default().with_name(text(name).into()).with_count(count).with_assignments(None)
    };
    let request = CreatePartitionsRequest::default()
        .with_topics(names.iter().map(topic).collect())
        .with_timeout_ms(client.timeout_ms())
        .with_validate_only(is_dry);
    let code = |response: &CreatePartitionsResponse| response.results.first().map_or(0, |row| row.error_code);
    let response = client.controller(|_| request.clone(), code).await?;
    let outcome = |row: &CreatePartitionsTopicResult| {
        let error = ClientError::of_code(row.error_code, row.error_message.as_deref());
        (row.name.to_string(), error.map_or(Ok(()), Err))
    };
    Ok(response.results.iter().map(outcome).collect())
}

fn print(
    format: Format,
    args: &TopicAlter,
    names: &[String],
    failures: &BTreeMap<String, Failure>,
) -> Result<(), Stop> {
    let done = if args.validate_only { "valid" } else { "altered" };
    let status = |name: &String| if failures.contains_key(name) { "failed" } else { done };
    let row = |name: &String| json!({ "name": name, "status": status(name), "error": failures.get(name).map(Failure::to_json) });
    let document = json!({ "topics": names.iter().map(row).collect::<Vec<_>>() });
    show(format, &document, || {
        let mut columns = Columns::new(&["NAME", "STATUS"]);
        for name in names {
            columns.row([name.clone(), status(name).to_owned()]);
        }
        columns.render()
    })?;
    Ok(())
}
