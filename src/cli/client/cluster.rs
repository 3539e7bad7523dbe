//! What the cluster consists of: brokers, topics, partitions and their leaders (Metadata).

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};

use super::{Client, ClientError, Spoken, text};
use crate::cli::base64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl Broker {
    /// `host:port`, a v6 address in brackets.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

#[derive(Clone, Debug)]
pub struct PartitionState {
    pub partition: i32,
    /// None: the partition has no leader.
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub offline_replicas: Vec<i32>,
}

#[derive(Clone, Debug)]
pub struct TopicState {
    pub name: String,
    /// As Kafka writes it; none before topics had ids (Kafka 2.8).
    pub id: Option<String>,
    pub is_internal: bool,
    /// In ascending order.
    pub partitions: Vec<PartitionState>,
    /// Why nothing is known of the topic.
    pub error: Option<ResponseError>,
}

impl TopicState {
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replicas.len())
    }
}

#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub cluster_id: Option<String>,
    pub controller: Option<i32>,
    pub brokers: BTreeMap<i32, Broker>,
    /// By name.
    pub topics: BTreeMap<String, TopicState>,
}

impl Cluster {
    /// The state of a topic, or why there is none.
    pub fn topic(&self, name: &str) -> Result<&TopicState, ClientError> {
        let unknown = ClientError::Response { error: ResponseError::UnknownTopicOrPartition, message: None };
        let topic = self.topics.get(name).ok_or(unknown)?;
        match topic.error {
            Some(error) => Err(ClientError::Response { error, message: None }),
            None => Ok(topic),
        }
    }

    pub fn leader(&self, topic: &str, partition: i32) -> Result<i32, ClientError> {
        let found = self.topic(topic)?.partitions.iter().find(|state| state.partition == partition);
        let error = match found.map(|state| state.leader) {
            Some(Some(leader)) => return Ok(leader),
            Some(None) => ResponseError::LeaderNotAvailable,
            None => ResponseError::UnknownTopicOrPartition,
        };
        Err(ClientError::Response { error, message: None })
    }

    fn of(response: MetadataResponse) -> Self {
        let brokers: BTreeMap<i32, Broker> = response.brokers.iter().map(|b| (b.node_id.0, broker(b))).collect();
        Self {
            cluster_id: response.cluster_id.map(|id| id.to_string()),
            controller: Some(response.controller_id.0).filter(|id| brokers.contains_key(id)),
            brokers,
            topics: response.topics.iter().map(topic).map(|topic| (topic.name.clone(), topic)).collect(),
        }
    }
}

fn broker(row: &MetadataResponseBroker) -> Broker {
    Broker {
        id: row.node_id.0,
        host: row.host.to_string(),
        port: row.port,
        rack: row.rack.as_ref().map(ToString::to_string),
    }
}

fn topic(row: &MetadataResponseTopic) -> TopicState {
    let ids = |nodes: &[BrokerId]| nodes.iter().map(|id| id.0).collect();
    let mut partitions: Vec<_> = row
        .partitions
        .iter()
        .map(|partition| PartitionState {
            partition: partition.partition_index,
            leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: ids(&partition.replica_nodes),
            isr: ids(&partition.isr_nodes),
            offline_replicas: ids(&partition.offline_replicas),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.partition);
    TopicState {
        name: row.name.as_ref().map(|name| name.to_string()).unwrap_or_default(),
        id: Some(row.topic_id).filter(|id| !id.is_nil()).map(|id| base64::url(id.as_bytes())),
        is_internal: row.is_internal,
        partitions,
        error: ResponseError::try_from_code(row.error_code),
    }
}

impl Client {
    /// The brokers, and these topics (None: all). Never creates a topic. A topic's own error is in its state.
    pub async fn cluster(&self, topics: Option<&[String]>) -> Result<Cluster, ClientError> {
        let mut retry = self.retry();
        loop {
            let answer = self.any(|_| metadata_request(topics)).await;
            match answer {
                Ok(response) => {
                    let cluster = Cluster::of(response);
                    self.learn_brokers(&cluster.brokers);
                    return Ok(cluster);
                }
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// All topics, as the controller knows them: it is never behind what it has decided.
    pub async fn cluster_of_controller(&self) -> Result<Cluster, ClientError> {
        Ok(Cluster::of(self.controller(|_| metadata_request(None), |_| 0).await?))
    }

    /// Asks the controller. `code_of` picks the error code that says whether the broker asked was one; only then, or
    /// when no connection came about, is the request sent again.
    pub async fn controller<R>(
        &self,
        build: impl Fn(i16) -> R + Send + Sync,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError>
    where
        R: Spoken + Send + Sync,
        R::Response: Send,
    {
        let mut retry = self.retry();
        loop {
            let answer = match self.cluster(Some(&[])).await?.controller {
                Some(id) => self.broker(id, &build).await,
                None => self.any(&build).await,
            };
            match answer {
                Ok(response) => match ClientError::of_code(code_of(&response), None) {
                    Some(error) if error.response() == Some(ResponseError::NotController) => retry.after(error).await?,
                    _ => return Ok(response),
                },
                Err(error @ ClientError::Connect { .. }) => retry.after(error).await?,
                Err(error) => return Err(error),
            }
        }
    }
}

fn metadata_request(topics: Option<&[String]>) -> MetadataRequest {
    let row = |name: &String| MetadataRequestTopic::default().with_name(Some(text(name).into()));
    MetadataRequest::default()
        .with_allow_auto_topic_creation(false)
        .with_topics(topics.map(|names| names.iter().map(row).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(host: &str) -> Broker {
        Broker { id: 1, host: host.to_owned(), port: 9092, rack: None }
    }

    #[test]
    fn addresses_of_version_6_stand_in_brackets() {
        assert_eq!(broker("::1").address(), "[::1]:9092");
        assert_eq!(broker("localhost").address(), "localhost:9092");
    }

    #[test]
    fn a_partition_without_leader_says_so() {
        let state = PartitionState {
            partition: 0,
            leader: None,
            leader_epoch: 3,
            replicas: vec![1],
            isr: vec![1],
            offline_replicas: vec![1],
        };
        let topic =
            TopicState { name: "a".to_owned(), id: None, is_internal: false, partitions: vec![state], error: None };
        let cluster = Cluster { topics: BTreeMap::from([("a".to_owned(), topic)]), ..Cluster::default() };
        let code = |partition| cluster.leader("a", partition).expect_err("no leader").response();
        assert_eq!(code(0), Some(ResponseError::LeaderNotAvailable));
        assert_eq!(code(1), Some(ResponseError::UnknownTopicOrPartition));
        assert!(cluster.topic("b").is_err());
    }
}
