//! `millstream share-group reset` and `delete-offsets`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
};
use millstream_core::types::{Timestamp, TopicPartition};
use serde_json::json;

use super::args::{ShareGroupDeleteOffsets, ShareGroupReset};
use crate::cli::client::{Client, ClientError, Isolation, text};
use crate::cli::failure::{Doing, Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, remark, show};
use crate::cli::resolve::resolve;
use crate::cli::values::TopicSelection;

pub async fn reset(client: &Arc<Client>, format: Format, args: &ShareGroupReset) -> Result<(), Stop> {
    let what = format!("cannot reset the offsets of share group {}", args.group);
    let partitions = partitions(client, &args.topics).await.doing(&what)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let now = Timestamp(i64::try_from(now).unwrap_or(i64::MAX));
    let places = resolve(client, &partitions, args.to, Isolation::ReadUncommitted, now).await.doing(&what)?;
    let mut starts = BTreeMap::new();
    for (partition, place) in places {
        let place = place.doing(format!("{what}: no offset of {partition} can be found"))?;
        starts.insert(partition, place.offset);
    }
    let failures = if args.execute { alter(client, &args.group, &starts).await.doing(&what)? } else { BTreeMap::new() };
    let failed = |partition: &TopicPartition| failures.get(partition).map(Failure::to_json);
    let row = |(partition, offset): (&TopicPartition, &i64)| {
        json!({
            "topic": partition.topic.as_str(),
            "partition": partition.partition,
            "new_offset": offset,
            "error": failed(partition),
        })
    };
    let rows: Vec<_> = starts.iter().map(row).collect();
    show(format, &json!({ "group": args.group, "executed": args.execute, "offsets": rows }), || {
        let mut columns = Columns::new(&["TOPIC", "#PARTITION", "#NEW OFFSET"]);
        for (partition, offset) in &starts {
            columns.row([partition.topic.to_string(), partition.partition.to_string(), offset.to_string()]);
        }
        columns.render()
    })?;
    if !args.execute && !args.dry_run && format == Format::Table {
        remark("millstream: nothing is changed yet: --execute sets these offsets");
    }
    all_done(failures.into_values().collect())
}

async fn partitions(client: &Client, topics: &[TopicSelection]) -> Result<Vec<TopicPartition>, ClientError> {
    let names: BTreeSet<_> = topics.iter().map(|selection| selection.topic.to_string()).collect();
    let cluster = client.cluster(Some(&Vec::from_iter(names))).await?;
    let mut chosen = BTreeSet::new();
    for TopicSelection { topic, partitions } in topics {
        let known = cluster.topic(topic.as_str())?.partitions.iter().map(|partition| partition.partition);
        let wanted: Vec<i32> = if partitions.is_empty() { known.collect() } else { partitions.clone() };
        chosen.extend(wanted.into_iter().map(|partition| TopicPartition { topic: topic.clone(), partition }));
    }
    Ok(Vec::from_iter(chosen))
}

/// The partitions that failed.
async fn alter(
    client: &Client,
    group: &str,
    starts: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, Failure>, ClientError> {
    let mut topics: BTreeMap<&str, Vec<AlterShareGroupOffsetsRequestPartition>> = BTreeMap::new();
    for (partition, start) in starts {
        let row = AlterShareGroupOffsetsRequestPartition::default().with_partition_index(partition.partition);
        topics.entry(partition.topic.as_str()).or_default().push(row.with_start_offset(*start));
    }
    let topics = topics.into_iter().map(|(name, rows)| {
        AlterShareGroupOffsetsRequestTopic::default().with_topic_name(text(name).into()).with_partitions(rows)
    });
    let request =
        AlterShareGroupOffsetsRequest::default().with_group_id(text(group).into()).with_topics(topics.collect());
    let code = |response: &AlterShareGroupOffsetsResponse| response.error_code;
    let response = client.ask_coordinator(group, |_| request.clone(), code).await?;
    if let Some(error) = ClientError::of_code(response.error_code, response.error_message.as_deref()) {
        return Err(error);
    }
    let mut failures = BTreeMap::new();
    for topic in &response.responses {
        for row in &topic.partitions {
            let Some(error) = ClientError::of_code(row.error_code, row.error_message.as_deref()) else { continue };
            let is_it = |p: &&TopicPartition| {
                p.topic.as_str() == topic.topic_name.as_str() && p.partition == row.partition_index
            };
            let Some(partition) = starts.keys().find(is_it) else { continue };
            let what = format!("cannot set the offset of {partition} for share group {group}");
            failures.insert(partition.clone(), Failure::of(what, &error));
        }
    }
    Ok(failures)
}

pub async fn delete(client: &Arc<Client>, format: Format, args: &ShareGroupDeleteOffsets) -> Result<(), Stop> {
    let what = format!("cannot delete offsets of share group {}", args.group);
    let topic = |name: &millstream_core::types::TopicName| {
        DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(text(name.as_str()).into())
    };
    let request = DeleteShareGroupOffsetsRequest::default()
        .with_group_id(text(&args.group).into())
        .with_topics(args.topics.iter().map(topic).collect());
    let code = |response: &DeleteShareGroupOffsetsResponse| response.error_code;
    let response = client.ask_coordinator(&args.group, |_| request.clone(), code).await.doing(&what)?;
    if let Some(error) = ClientError::of_code(response.error_code, response.error_message.as_deref()) {
        return Err(Failure::of(what, &error).into());
    }
    let rows: Vec<(String, Option<Failure>)> = response
        .responses
        .iter()
        .map(|row| {
            let error = ClientError::of_code(row.error_code, row.error_message.as_deref());
            let name = row.topic_name.to_string();
            let failure = error.map(|error| Failure::of(format!("{what} in topic {name}"), &error));
            (name, failure)
        })
        .collect();
    let status = |failure: &Option<Failure>| if failure.is_some() { "failed" } else { "deleted" };
    let row = |(topic, failure): &(String, Option<Failure>)| json!({ "topic": topic, "status": status(failure), "error": failure.as_ref().map(Failure::to_json) });
    let document = json!({ "group": args.group, "topics": rows.iter().map(row).collect::<Vec<_>>() });
    show(format, &document, || {
        let mut columns = Columns::new(&["TOPIC", "STATUS"]);
        for (topic, failure) in &rows {
            columns.row([topic.clone(), status(failure).to_owned()]);
        }
        columns.render()
    })?;
    all_done(rows.into_iter().filter_map(|(_, failure)| failure).collect())
}
