//! `millstream share-group describe`

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::share_group_describe_response::{DescribedGroup, Member};
use kafka_protocol::messages::{ShareGroupDescribeRequest, ShareGroupDescribeResponse};
use millstream_core::types::{TopicName, TopicPartition};
use serde_json::{Value, json};

use crate::cli::args::GroupDescribe;
use crate::cli::client::{Client, ClientError, Isolation, OffsetQuery, text};
use crate::cli::failure::{Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, or_dash, show};
use crate::protocol::share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, OffsetsOf,
};

struct View {
    group: DescribedGroup,
    coordinator: i32,
    offsets: Vec<Row>,
}

struct Row {
    partition: TopicPartition,
    /// The first record that is not done with; `None`: nobody has read here yet.
    start: Option<i64>,
    end: Option<i64>,
    /// Records that are not done with; `None`: nobody knows, or the broker does not tell.
    lag: Option<i64>,
}

pub async fn run(client: &Arc<Client>, format: Format, args: &GroupDescribe) -> Result<(), Stop> {
    let (mut views, mut failures) = (Vec::new(), Vec::new());
    for name in &args.groups {
        match view(client, name).await {
            Ok(view) => views.push(view),
            Err(error) => failures.push(Failure::of(format!("cannot describe share group {name}"), &error)),
        }
    }
    if !views.is_empty() {
        let document = json!({ "groups": views.iter().map(document).collect::<Vec<_>>() });
        show(format, &document, || views.iter().map(table).collect::<Vec<_>>().join("\n"))?;
    }
    all_done(failures)
}

async fn view(client: &Arc<Client>, name: &str) -> Result<View, ClientError> {
    let coordinator = client.coordinator(name).await?.id;
    let request = ShareGroupDescribeRequest::default().with_group_ids(vec![text(name).into()]);
    let code = |response: &ShareGroupDescribeResponse| response.groups.first().map_or(0, |row| row.error_code);
    let response = client.ask_coordinator(name, |_| request.clone(), code).await?;
    let group = response.groups.into_iter().next().unwrap_or_default();
    if let Some(error) = ClientError::of_code(group.error_code, group.error_message.as_deref()) {
        return Err(error);
    }
    let starts = starts(client, name).await?;
    let partitions: Vec<TopicPartition> = starts.keys().cloned().collect();
    let ends = client.list_offsets(&partitions, OffsetQuery::End, Isolation::ReadUncommitted).await?;
    let row = |(partition, Place { start, lag }): (TopicPartition, Place)| Row {
        start: Some(start).filter(|start| *start >= 0),
        lag: Some(lag).filter(|lag| *lag >= 0),
        end: ends.get(&partition).and_then(|end| end.as_ref().ok().copied().flatten()),
        partition,
    };
    Ok(View { group, coordinator, offsets: starts.into_iter().map(row).collect() })
}

/// -1: nobody has read yet, or nobody knows.
struct Place {
    start: i64,
    lag: i64,
}

/// Where the group stands in each partition that it has begun with.
async fn starts(client: &Client, name: &str) -> Result<BTreeMap<TopicPartition, Place>, ClientError> {
    let all = OffsetsOf { group_id: text(name), topics: None };
    let request = DescribeShareGroupOffsetsRequest { groups: vec![all] };
    let code = |response: &DescribeShareGroupOffsetsResponse| response.groups.first().map_or(0, |row| row.error_code);
    let response = client.ask_coordinator(name, |_| request.clone(), code).await?;
    let group = response.groups.into_iter().next().unwrap_or_default();
    if let Some(error) = ClientError::of_code(group.error_code, group.error_message.as_deref()) {
        return Err(error);
    }
    let mut starts = BTreeMap::new();
    for topic in &group.topics {
        let Ok(name) = TopicName::new(&topic.name) else { continue };
        for row in &topic.partitions {
            let partition = TopicPartition { topic: name.clone(), partition: row.index };
            starts.insert(partition, Place { start: row.start_offset, lag: row.lag });
        }
    }
    Ok(starts)
}

/// `topic:0,1` of everything that a member has.
fn assignment(member: &Member) -> String {
    let topics = member.assignment.topic_partitions.iter().map(|topic| {
        let partitions: Vec<String> = topic.partitions.iter().map(ToString::to_string).collect();
        format!("{}:{}", &**topic.topic_name, partitions.join(","))
    });
    topics.collect::<Vec<_>>().join(" ")
}

fn document(view: &View) -> Value {
    let member = |member: &Member| {
        json!({
            "member_id": &*member.member_id,
            "client_id": &*member.client_id,
            "host": &*member.client_host,
            "epoch": member.member_epoch,
            "assignment": assignment(member),
        })
    };
    let offset = |row: &Row| {
        json!({
            "topic": row.partition.topic.as_str(),
            "partition": row.partition.partition,
            "start_offset": row.start,
            "end_offset": row.end,
            "lag": row.lag,
        })
    };
    json!({
        "group": &**view.group.group_id,
        "state": &*view.group.group_state,
        "epoch": view.group.group_epoch,
        "assignor": &*view.group.assignor_name,
        "coordinator": view.coordinator,
        "members": view.group.members.iter().map(member).collect::<Vec<_>>(),
        "offsets": view.offsets.iter().map(offset).collect::<Vec<_>>(),
    })
}

fn table(view: &View) -> String {
    let mut facts = Columns::new(&[]);
    facts.row(["Group".to_owned(), view.group.group_id.to_string()]);
    facts.row(["State".to_owned(), view.group.group_state.to_string()]);
    facts.row(["Assignor".to_owned(), view.group.assignor_name.to_string()]);
    facts.row(["Coordinator".to_owned(), view.coordinator.to_string()]);
    facts.row(["Members".to_owned(), view.group.members.len().to_string()]);
    let mut text = facts.render();
    if !view.offsets.is_empty() {
        let mut columns = Columns::new(&["TOPIC", "#PARTITION", "#START", "#END", "#LAG"]);
        for row in &view.offsets {
            let partition = row.partition.partition.to_string();
            let [start, end, lag] = [row.start, row.end, row.lag].map(or_dash);
            columns.row([row.partition.topic.to_string(), partition, start, end, lag]);
        }
        text.push('\n');
        text.push_str(&columns.render());
    }
    if !view.group.members.is_empty() {
        let mut columns = Columns::new(&["MEMBER", "CLIENT", "HOST", "ASSIGNMENT"]);
        for member in &view.group.members {
            let (id, client, host) = (&member.member_id, &member.client_id, &member.client_host);
            columns.row([id.to_string(), client.to_string(), host.to_string(), assignment(member)]);
        }
        text.push('\n');
        text.push_str(&columns.render());
    }
    text
}
