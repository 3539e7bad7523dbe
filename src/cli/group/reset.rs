//! `millstream group reset`, as `kafka-consumer-groups --reset-offsets` does it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::error::ResponseError;
use millstream_core::types::{Timestamp, TopicName, TopicPartition};
use serde_json::{Value, json};

use super::members::{self, Group};
use crate::cli::args::GroupReset;
use crate::cli::client::{Client, ClientError, CommittedOffset, Isolation};
use crate::cli::failure::{Doing, Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, Progress, or_dash, remark, show};
use crate::cli::resolve::{Place, resolve};
use crate::cli::values::TopicSelection;

/// Partitions committed in one request: the broker writes them as one batch.
const PARTITIONS_PER_COMMIT: usize = 1_000;
/// Members named when they are in the way.
const MEMBERS_NAMED_MAX: usize = 3;

struct Row {
    partition: TopicPartition,
    old: Option<i64>,
    place: Place,
    failure: Option<Failure>,
}

pub async fn run(client: &Arc<Client>, format: Format, args: &GroupReset) -> Result<(), Stop> {
    let what = format!("cannot reset the offsets of group {}", args.group);
    let group = members::describe(client, &args.group).await.doing(&what)?;
    if let Some(group) = group.filter(Group::has_members) {
        return Err(refusal(&what, &group).into());
    }
    let committed = client.committed_offsets(&args.group).await.doing(&what)?;
    let partitions = partitions(client, args, &committed).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let now = Timestamp(i64::try_from(now).unwrap_or(i64::MAX));
    let places = resolve(client, &partitions, args.to, Isolation::ReadUncommitted, now).await.doing(&what)?;
    let mut rows = Vec::new();
    for (partition, place) in places {
        let place = place.doing(format!("{what}: no offset of {partition} can be found"))?;
        let old = committed.get(&partition).map(|committed| committed.offset);
        rows.push(Row { partition, old, place, failure: None });
    }
    if args.execute {
        commit(client, &args.group, &mut rows).await?;
    }
    print(format, args, &rows)?;
    all_done(rows.into_iter().filter_map(|row| row.failure).collect())
}

fn refusal(what: &str, group: &Group) -> Failure {
    let named = group.members.iter().take(MEMBERS_NAMED_MAX);
    let mut names: Vec<_> = named.map(|member| format!("{} at {}", member.client_id, member.host)).collect();
    if group.members.len() > MEMBERS_NAMED_MAX {
        names.push("...".to_owned());
    }
    let why = match group.members.len() {
        0 => format!("it is in state {}", group.state),
        1 => format!("it has a member ({}), state {}", names.join(", "), group.state),
        count => format!("it has {count} members ({}), state {}", names.join(", "), group.state),
    };
    Failure::new(what, why).advise("stop its consumers and try again")
}

/// The partitions chosen, each of which exists.
async fn partitions(
    client: &Client,
    args: &GroupReset,
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Result<Vec<TopicPartition>, Stop> {
    let what = format!("cannot reset the offsets of group {}", args.group);
    if args.all_topics {
        if committed.is_empty() {
            return Err(Failure::new(what, "it has committed no offsets").advise("--topic names a topic").into());
        }
        return Ok(committed.keys().cloned().collect());
    }
    let names: BTreeSet<_> = args.topics.iter().map(|selection| selection.topic.to_string()).collect();
    let cluster = client.cluster(Some(&Vec::from_iter(names))).await.doing(&what)?;
    let mut chosen = BTreeSet::new();
    for TopicSelection { topic, partitions } in &args.topics {
        let state = cluster.topic(topic.as_str()).doing(format!("{what} in topic {topic}"))?;
        let known: BTreeSet<_> = state.partitions.iter().map(|partition| partition.partition).collect();
        if let Some(partition) = partitions.iter().find(|partition| !known.contains(partition)) {
            let why =
                format!("topic {topic} has no partition {partition}, only 0 to {}", known.len().saturating_sub(1));
            return Err(Failure::new(what, why).into());
        }
        let wanted = if partitions.is_empty() { known } else { partitions.iter().copied().collect() };
        chosen.extend(wanted.into_iter().map(|partition| TopicPartition { topic: TopicName::clone(topic), partition }));
    }
    Ok(Vec::from_iter(chosen))
}

/// Commits the new offsets; a row that was refused says why.
async fn commit(client: &Client, group: &str, rows: &mut [Row]) -> Result<(), Stop> {
    let mut progress = Progress::new("committing offsets", rows.len());
    let mut done = 0;
    for chunk in rows.chunks_mut(PARTITIONS_PER_COMMIT) {
        let offsets = chunk.iter().map(|row| (row.partition.clone(), row.place.offset)).collect();
        let committed = client.commit_offsets(group, &offsets).await;
        let mut results = committed.doing(format!("cannot commit offsets of group {group}"))?;
        for row in chunk.iter_mut() {
            let missing = ClientError::Response { error: ResponseError::UnknownServerError, message: None };
            if let Err(error) = results.remove(&row.partition).unwrap_or(Err(missing)) {
                let what = format!("cannot commit the offset of {} for group {group}", row.partition);
                row.failure = Some(Failure::of(what, &error));
            }
        }
        done += chunk.len();
        progress.at(done);
    }
    Ok(())
}

fn print(format: Format, args: &GroupReset, rows: &[Row]) -> Result<(), Stop> {
    for row in rows.iter().filter(|row| row.place.asked != row.place.offset) {
        let Place { offset, asked, start, end } = row.place;
        remark(&format!(
            "millstream: {}: offset {asked} is outside of {start} to {end}, {offset} is taken instead",
            row.partition
        ));
    }
    let offset = |row: &Row| -> Value {
        json!({
            "topic": row.partition.topic.as_str(),
            "partition": row.partition.partition,
            "old_offset": row.old,
            "new_offset": row.place.offset,
            "error": row.failure.as_ref().map(Failure::to_json),
        })
    };
    let document = json!({
        "group": args.group,
        "executed": args.execute,
        "offsets": rows.iter().map(offset).collect::<Vec<_>>(),
    });
    show(format, &document, || table(rows))?;
    if !args.execute && !args.dry_run && format == Format::Table {
        remark("millstream: nothing is changed yet: --execute commits these offsets");
    }
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let mut columns = Columns::new(&["TOPIC", "#PARTITION", "#OLD OFFSET", "#NEW OFFSET", "#CHANGE"]);
    for row in rows {
        let change = row.old.map(|old| format!("{:+}", row.place.offset - old));
        columns.row([
            row.partition.topic.to_string(),
            row.partition.partition.to_string(),
            or_dash(row.old),
            row.place.offset.to_string(),
            or_dash(change),
        ]);
    }
    columns.render()
}
