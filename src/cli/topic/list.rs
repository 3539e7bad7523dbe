//! `millstream topic list`

use serde_json::json;

use super::select::matches;
use crate::cli::args::TopicList;
use crate::cli::client::{Client, TopicState};
use crate::cli::failure::{Doing, Stop};
use crate::cli::output::{Columns, Format, show};

pub async fn run(client: &Client, format: Format, args: &TopicList) -> Result<(), Stop> {
    let cluster = client.cluster(None).await.doing("cannot list the topics")?;
    let is_wanted = |topic: &&TopicState| {
        let is_named = args.names.is_empty() || args.names.iter().any(|pattern| matches(pattern, &topic.name));
        is_named && (args.internal || !topic.is_internal || args.names.contains(&topic.name))
    };
    let topics: Vec<_> = cluster.topics.values().filter(is_wanted).collect();
    let row = |topic: &&TopicState| {
        json!({
            "name": topic.name,
            "topic_id": topic.id,
            "partitions": topic.partitions.len(),
            "replication_factor": topic.replication_factor(),
            "internal": topic.is_internal,
        })
    };
    let document = json!({ "topics": topics.iter().map(row).collect::<Vec<_>>() });
    show(format, &document, || table(&topics))?;
    Ok(())
}

fn table(topics: &[&TopicState]) -> String {
    let mut columns = Columns::new(&["NAME", "#PARTITIONS", "#REPLICATION"]);
    for topic in topics {
        let replication = topic.replication_factor().to_string();
        columns.row([topic.name.clone(), topic.partitions.len().to_string(), replication]);
    }
    columns.render()
}
