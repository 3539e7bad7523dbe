//! `millstream topic describe`

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::types::{TopicName, TopicPartition};
use serde_json::{Value, json};

use super::select::select;
use crate::cli::args::TopicDescribe;
use crate::cli::client::{Client, ClientError, Isolation, OffsetQuery, PartitionState, TopicState};
use crate::cli::failure::{Failure, Stop, all_done};
use crate::cli::output::{Columns, Format, list, or_dash, show};
use crate::cli::settings::{Described, OwnerKind, Setting};

/// Start and end offset of each partition, as far as its leader answers.
#[derive(Default)]
struct Offsets {
    starts: BTreeMap<TopicPartition, Result<Option<i64>, ClientError>>,
    ends: BTreeMap<TopicPartition, Result<Option<i64>, ClientError>>,
}

impl Offsets {
    fn of(&self, partition: &TopicPartition) -> (Option<i64>, Option<i64>) {
        let known = |answers: &BTreeMap<_, Result<Option<i64>, _>>| answers.get(partition)?.as_ref().ok().copied()?;
        (known(&self.starts), known(&self.ends))
    }
}

pub async fn run(client: &Arc<Client>, format: Format, args: &TopicDescribe) -> Result<(), Stop> {
    let (names, cluster) = select(client, &args.names).await?;
    let mut failures = Vec::new();
    let mut topics = Vec::new();
    for name in &names {
        match cluster.topic(name) {
            Ok(topic) => topics.push(topic),
            Err(error) => failures.push(Failure::of(format!("cannot describe topic {name}"), &error)),
        }
    }
    if !topics.is_empty() {
        let offsets = match tokio::time::timeout(client.patience(), offsets(client, &topics)).await {
            Ok(Ok(offsets)) => offsets,
            Ok(Err(error)) => {
                failures.push(Failure::of("cannot look up the offsets", &error));
                Offsets::default()
            }
            Err(_) => Offsets::default(),
        };
        let found: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
        let settings = client.describe_settings(OwnerKind::Topic, &found).await.unwrap_or_else(|error| {
            failures.push(Failure::of("cannot look up the settings", &error));
            BTreeMap::new()
        });
        let settings = shown(settings, args.all_configs);
        let document = json!({
            "topics": topics.iter().map(|topic| document(topic, &offsets, &settings)).collect::<Vec<_>>()
        });
        show(format, &document, || {
            let texts: Vec<_> = topics.iter().map(|topic| table(topic, &offsets, &settings)).collect();
            texts.join("\n")
        })?;
    }
    all_done(failures)
}

async fn offsets(client: &Arc<Client>, topics: &[&TopicState]) -> Result<Offsets, ClientError> {
    // A partition without leader would only be waited for: its offsets are not known.
    let led = |topic: &&TopicState| -> Vec<TopicPartition> {
        let Ok(name) = TopicName::new(&topic.name) else { return Vec::new() };
        let partitions = topic.partitions.iter().filter(|partition| partition.leader.is_some());
        partitions.map(|p| TopicPartition { topic: name.clone(), partition: p.partition }).collect()
    };
    let partitions: Vec<_> = topics.iter().flat_map(led).collect();
    let isolation = Isolation::ReadUncommitted;
    let starts = client.list_offsets(&partitions, OffsetQuery::Start, isolation).await?;
    // A leader that was silent is not asked again.
    let answered: Vec<_> = partitions.into_iter().filter(|p| matches!(starts.get(p), Some(Ok(_)))).collect();
    Ok(Offsets { ends: client.list_offsets(&answered, OffsetQuery::End, isolation).await?, starts })
}

/// The settings to show, or None where the broker does not tell them.
fn shown(settings: BTreeMap<String, Described>, all: bool) -> BTreeMap<String, Option<Vec<Setting>>> {
    let pick = |settings: Vec<Setting>| settings.into_iter().filter(|setting| all || !setting.is_default).collect();
    settings.into_iter().map(|(name, described)| (name, described.ok().map(pick))).collect()
}

fn offsets_of(topic: &TopicState, partition: &PartitionState, offsets: &Offsets) -> (Option<i64>, Option<i64>) {
    let Ok(topic) = TopicName::new(&topic.name) else { return (None, None) };
    offsets.of(&TopicPartition { topic, partition: partition.partition })
}

fn document(topic: &TopicState, offsets: &Offsets, settings: &BTreeMap<String, Option<Vec<Setting>>>) -> Value {
    let row = |partition: &PartitionState| {
        let (start, end) = offsets_of(topic, partition, offsets);
        json!({
            "partition": partition.partition,
            "leader": partition.leader,
            "leader_epoch": partition.leader_epoch,
            "replicas": partition.replicas,
            "isr": partition.isr,
            "offline_replicas": partition.offline_replicas,
            "start_offset": start,
            "end_offset": end,
        })
    };
    let configs = settings.get(&topic.name).cloned().flatten();
    json!({
        "name": topic.name,
        "topic_id": topic.id,
        "internal": topic.is_internal,
        "replication_factor": topic.replication_factor(),
        "configs": configs.map(|configs| configs.iter().map(Setting::to_json).collect::<Vec<_>>()),
        "partitions": topic.partitions.iter().map(row).collect::<Vec<_>>(),
    })
}

fn table(topic: &TopicState, offsets: &Offsets, settings: &BTreeMap<String, Option<Vec<Setting>>>) -> String {
    let mut facts = Columns::new(&[]);
    facts.row(["Topic".to_owned(), topic.name.clone()]);
    facts.row(["Id".to_owned(), or_dash(topic.id.as_ref())]);
    facts.row(["Partitions".to_owned(), topic.partitions.len().to_string()]);
    facts.row(["Replication".to_owned(), topic.replication_factor().to_string()]);
    if topic.is_internal {
        facts.row(["Internal".to_owned(), "yes".to_owned()]);
    }
    match settings.get(&topic.name) {
        Some(Some(settings)) => {
            for setting in settings {
                facts.row(["Setting".to_owned(), shown_setting(setting)]);
            }
        }
        _ => facts.row(["Settings".to_owned(), "not told".to_owned()]),
    }
    format!("{}\n{}", facts.render(), partitions(topic, offsets))
}

fn shown_setting(setting: &Setting) -> String {
    format!("{}={} ({})", setting.name, or_dash(setting.value.as_ref()), setting.source)
}

fn partitions(topic: &TopicState, offsets: &Offsets) -> String {
    let header = ["#PARTITION", "#LEADER", "#EPOCH", "REPLICAS", "ISR", "OFFLINE", "#START", "#END"];
    let mut columns = Columns::new(&header);
    for partition in &topic.partitions {
        let (start, end) = offsets_of(topic, partition, offsets);
        columns.row([
            partition.partition.to_string(),
            or_dash(partition.leader),
            partition.leader_epoch.to_string(),
            list(&partition.replicas),
            list(&partition.isr),
            list(&partition.offline_replicas),
            or_dash(start),
            or_dash(end),
        ]);
    }
    columns.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicState {
        let partition = PartitionState {
            partition: 0,
            leader: Some(2),
            leader_epoch: 5,
            replicas: vec![2, 1],
            isr: vec![2],
            offline_replicas: Vec::new(),
        };
        TopicState {
            name: "a".to_owned(),
            id: Some("id".to_owned()),
            is_internal: false,
            partitions: vec![partition],
            error: None,
        }
    }

    fn offsets() -> Offsets {
        let partition = TopicPartition { topic: TopicName::new("a").expect("legal"), partition: 0 };
        let gone = ClientError::UnknownBroker(2);
        Offsets {
            starts: BTreeMap::from([(partition.clone(), Ok(Some(3)))]),
            ends: BTreeMap::from([(partition, Err(gone))]),
        }
    }

    fn settings() -> BTreeMap<String, Option<Vec<Setting>>> {
        let setting = Setting {
            name: "retention.ms".to_owned(),
            value: Some("1".to_owned()),
            source: "dynamic_topic_config",
            is_default: false,
            is_read_only: false,
            is_sensitive: false,
        };
        BTreeMap::from([("a".to_owned(), Some(vec![setting]))])
    }

    #[test]
    fn people_see_partitions_and_settings() {
        let expected = "Topic        a\nId           id\nPartitions   1\nReplication  2\n\
                        Setting      retention.ms=1 (dynamic_topic_config)\n\n\
                        PARTITION  LEADER  EPOCH  REPLICAS  ISR  OFFLINE  START  END\n        \
                        0       2      5  2,1       2    -            3    -\n";
        assert_eq!(table(&topic(), &offsets(), &settings()), expected);
    }

    #[test]
    fn programs_see_the_same() {
        let expected = json!({
            "name": "a",
            "topic_id": "id",
            "internal": false,
            "replication_factor": 2,
            "configs": [{
                "name": "retention.ms", "value": "1", "source": "dynamic_topic_config",
                "read_only": false, "sensitive": false,
            }],
            "partitions": [{
                "partition": 0, "leader": 2, "leader_epoch": 5, "replicas": [2, 1], "isr": [2],
                "offline_replicas": [], "start_offset": 3, "end_offset": null,
            }],
        });
        assert_eq!(document(&topic(), &offsets(), &settings()), expected);
    }
}
