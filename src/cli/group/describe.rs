//! `millstream group describe`

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::types::TopicPartition;
use serde_json::{Value, json};

use super::members::{self, Group, Member};
use super::streams::Tasks;
use crate::cli::args::GroupDescribe;
use crate::cli::client::{Broker, Client, ClientError, CommittedOffset, Isolation, OffsetQuery};
use crate::cli::failure::{Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, or_dash, show};

struct View {
    name: String,
    group: Group,
    coordinator: Broker,
    offsets: Vec<OffsetRow>,
}

/// A partition that the group has committed or a member has assigned.
struct OffsetRow {
    partition: TopicPartition,
    committed: Option<CommittedOffset>,
    end: Option<i64>,
    /// The member to which it is assigned.
    member: Option<Member>,
}

impl OffsetRow {
    /// Records between the committed offset and the end.
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed.as_ref()?.offset).max(0))
    }
}

pub async fn run(client: &Arc<Client>, format: Format, args: &GroupDescribe) -> Result<(), Stop> {
    let mut views = Vec::new();
    let mut failures = Vec::new();
    for name in &args.groups {
        match view(client, name).await {
            Ok(view) => views.push(view),
            Err(error) => failures.push(Failure::of(format!("cannot describe group {name}"), &error)),
        }
    }
    if !views.is_empty() {
        let document = json!({ "groups": views.iter().map(document).collect::<Vec<_>>() });
        show(format, &document, || views.iter().map(table).collect::<Vec<_>>().join("\n"))?;
    }
    all_done(failures)
}

async fn view(client: &Arc<Client>, name: &str) -> Result<View, ClientError> {
    let coordinator = client.coordinator(name).await?;
    let unknown = ClientError::Response { error: ResponseError::GroupIdNotFound, message: None };
    let group = members::describe(client, name).await?.ok_or(unknown)?;
    let mut committed = client.committed_offsets(name).await?;
    let assigned: BTreeMap<TopicPartition, &Member> = group
        .members
        .iter()
        .flat_map(|member| member.partitions.iter().flatten().map(move |partition| (partition.clone(), member)))
        .collect();
    let is_there = |partition: &&TopicPartition| assigned[*partition].tasks.is_none();
    let all: BTreeSet<TopicPartition> = committed.keys().chain(assigned.keys().filter(is_there)).cloned().collect();
    let partitions = Vec::from_iter(all);
    let ends = client.list_offsets(&partitions, OffsetQuery::End, Isolation::ReadUncommitted).await?;
    let offsets = partitions.into_iter().map(|partition| OffsetRow {
        committed: committed.remove(&partition),
        end: ends.get(&partition).and_then(|end| end.as_ref().ok().copied().flatten()),
        member: assigned.get(&partition).map(|member| (*member).clone()),
        partition,
    });
    let offsets = offsets.collect();
    Ok(View { name: name.to_owned(), coordinator, offsets, group })
}

/// The sum over partitions whose lag is known; None if there are none.
fn total_lag(offsets: &[OffsetRow]) -> Option<i64> {
    offsets.iter().filter_map(OffsetRow::lag).reduce(i64::saturating_add)
}

fn document(view: &View) -> Value {
    let offset = |row: &OffsetRow| {
        let member = row.member.as_ref();
        json!({
            "topic": row.partition.topic.as_str(),
            "partition": row.partition.partition,
            "committed_offset": row.committed.as_ref().map(|committed| committed.offset),
            "end_offset": row.end,
            "lag": row.lag(),
            "metadata": row.committed.as_ref().map(|committed| committed.metadata.as_str()),
            "member_id": member.map(|member| member.member_id.as_str()),
            "client_id": member.map(|member| member.client_id.as_str()),
            "host": member.map(|member| member.host.as_str()),
        })
    };
    let assigned =
        |partition: &TopicPartition| json!({ "topic": partition.topic.as_str(), "partition": partition.partition });
    let member = |member: &Member| {
        let partitions = member.partitions.as_ref().filter(|_| member.tasks.is_none());
        json!({
            "member_id": member.member_id,
            "instance_id": member.instance_id,
            "client_id": member.client_id,
            "host": member.host,
            "assignment": partitions.map(|partitions| partitions.iter().map(assigned).collect::<Vec<_>>()),
            "tasks": member.tasks.as_ref().map(Tasks::to_json),
        })
    };
    json!({
        "group": view.name,
        "state": view.group.state,
        "type": view.group.kind,
        "protocol_type": view.group.protocol_type,
        "assignor": view.group.assignor,
        "coordinator": {
            "id": view.coordinator.id, "host": view.coordinator.host, "port": view.coordinator.port,
        },
        "lag": total_lag(&view.offsets),
        "members": view.group.members.iter().map(member).collect::<Vec<_>>(),
        "offsets": view.offsets.iter().map(offset).collect::<Vec<_>>(),
    })
}

fn table(view: &View) -> String {
    let mut facts = Columns::new(&[]);
    facts.row(["Group".to_owned(), view.name.clone()]);
    facts.row(["State".to_owned(), view.group.state.clone()]);
    facts.row(["Type".to_owned(), view.group.kind.to_owned()]);
    facts.row(["Assignor".to_owned(), or_dash(view.group.assignor.as_ref())]);
    facts.row(["Coordinator".to_owned(), format!("{} ({})", view.coordinator.id, view.coordinator.address())]);
    facts.row(["Members".to_owned(), view.group.members.len().to_string()]);
    facts.row(["Lag".to_owned(), or_dash(total_lag(&view.offsets))]);
    let mut text = facts.render();
    if !view.offsets.is_empty() {
        text.push('\n');
        text.push_str(&offset_table(&view.offsets, !view.group.members.is_empty()));
    }
    if !view.group.members.is_empty() {
        text.push('\n');
        text.push_str(&member_table(&view.group.members));
    }
    text
}

fn offset_table(offsets: &[OffsetRow], has_members: bool) -> String {
    let header = ["TOPIC", "#PARTITION", "#COMMITTED", "#END", "#LAG", "CLIENT", "HOST", "MEMBER"];
    let shown = if has_members { header.len() } else { 5 };
    let mut columns = Columns::new(&header[..shown]);
    for row in offsets {
        let member = row.member.as_ref();
        let cells = [
            row.partition.topic.to_string(),
            row.partition.partition.to_string(),
            or_dash(row.committed.as_ref().map(|committed| committed.offset)),
            or_dash(row.end),
            or_dash(row.lag()),
            or_dash(member.map(|member| &member.client_id)),
            or_dash(member.map(|member| &member.host)),
            or_dash(member.map(|member| &member.member_id)),
        ];
        columns.row(cells.into_iter().take(shown));
    }
    columns.render()
}

fn member_table(members: &[Member]) -> String {
    let mut columns = Columns::new(&["MEMBER", "INSTANCE", "CLIENT", "HOST", "ASSIGNMENT"]);
    for member in members {
        columns.row([
            member.member_id.clone(),
            or_dash(member.instance_id.as_ref()),
            member.client_id.clone(),
            member.host.clone(),
            member.assignment(),
        ]);
    }
    columns.render()
}

#[cfg(test)]
mod tests {
    use millstream_core::types::TopicName;

    use super::*;

    fn row(committed: Option<i64>, end: Option<i64>) -> OffsetRow {
        OffsetRow {
            partition: TopicPartition { topic: TopicName::new("a").expect("legal"), partition: 0 },
            committed: committed.map(|offset| CommittedOffset { offset, metadata: String::new() }),
            end,
            member: None,
        }
    }

    fn view(members: Vec<Member>) -> View {
        let group = Group {
            state: "Stable".to_owned(),
            kind: "classic",
            protocol_type: "consumer".to_owned(),
            assignor: Some("range".to_owned()),
            members: members.clone(),
        };
        let coordinator = Broker { id: 1, host: "b".to_owned(), port: 9092, rack: None };
        let mut offsets = vec![row(Some(3), Some(10))];
        offsets[0].member = members.first().cloned();
        View { name: "g".to_owned(), group, coordinator, offsets }
    }

    fn member() -> Member {
        let partitions = Some(vec![row(None, None).partition]);
        let (member_id, client_id, host) = ("m-1".to_owned(), "app".to_owned(), "/10.0.0.1".to_owned());
        Member { member_id, instance_id: None, client_id, host, partitions, tasks: None }
    }

    #[test]
    fn people_see_lag_and_members() {
        let facts = "Group        g\nState        Stable\nType         classic\nAssignor     range\n\
                     Coordinator  1 (b:9092)\n";
        let offsets = "TOPIC  PARTITION  COMMITTED  END  LAG  CLIENT  HOST       MEMBER\n\
                       a              0          3   10    7  app     /10.0.0.1  m-1\n";
        let members = "MEMBER  INSTANCE  CLIENT  HOST       ASSIGNMENT\nm-1     -         app     /10.0.0.1  a:0\n";
        let expected = format!("{facts}Members      1\nLag          7\n\n{offsets}\n{members}");
        assert_eq!(table(&view(vec![member()])), expected);
        let offsets = "TOPIC  PARTITION  COMMITTED  END  LAG\na              0          3   10    7\n";
        assert_eq!(table(&view(Vec::new())), format!("{facts}Members      0\nLag          7\n\n{offsets}"));
    }

    #[test]
    fn programs_see_the_same() {
        let expected = json!({
            "group": "g",
            "state": "Stable",
            "type": "classic",
            "protocol_type": "consumer",
            "assignor": "range",
            "coordinator": { "id": 1, "host": "b", "port": 9092 },
            "lag": 7,
            "members": [{
                "member_id": "m-1", "instance_id": null, "client_id": "app", "host": "/10.0.0.1",
                "assignment": [{ "topic": "a", "partition": 0 }],
                "tasks": null,
            }],
            "offsets": [{
                "topic": "a", "partition": 0, "committed_offset": 3, "end_offset": 10, "lag": 7, "metadata": "",
                "member_id": "m-1", "client_id": "app", "host": "/10.0.0.1",
            }],
        });
        assert_eq!(document(&view(vec![member()])), expected);
    }

    #[test]
    fn lag_is_known_where_both_ends_are() {
        assert_eq!(row(Some(3), Some(10)).lag(), Some(7));
        assert_eq!(row(Some(12), Some(10)).lag(), Some(0), "the topic was made anew");
        assert_eq!(row(None, Some(10)).lag(), None);
        assert_eq!(total_lag(&[row(Some(3), Some(10)), row(None, Some(5)), row(Some(1), Some(2))]), Some(8));
        assert_eq!(total_lag(&[row(None, Some(5))]), None);
    }
}
