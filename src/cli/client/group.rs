//! Consumer groups as an onlooker sees them: coordinator, committed offsets, resets.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseTopics;
use kafka_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse,
};
use millstream_core::types::{TopicName, TopicPartition};

use super::{Broker, Client, ClientError, Spoken, text};

/// What is coordinated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinated {
    Group,
    Transaction,
}

impl Coordinated {
    /// Kafka's number of it.
    fn to_wire(self) -> i8 {
        match self {
            Self::Group => 0,
            Self::Transaction => 1,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    pub metadata: String,
}

/// In whose name offsets are committed.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    pub member: &'a str,
    pub generation: i32,
}

/// Whoever is no member, for a group without members.
const ONLOOKER: Committer<'static> = Committer { member: "", generation: -1 };

impl Client {
    /// The broker that coordinates a group.
    pub async fn coordinator(&self, group: &str) -> Result<Broker, ClientError> {
        self.coordinator_of(Coordinated::Group, group).await
    }

    /// The broker that coordinates a group, or a transactional id.
    pub async fn coordinator_of(&self, what: Coordinated, key: &str) -> Result<Broker, ClientError> {
        let mut retry = self.retry();
        loop {
            let found = match self.any(|version| find_coordinator(what, key, version)).await {
                Ok(response) => coordinator_of(response),
                Err(error) => Err(error),
            };
            match found {
                Ok(broker) => {
                    self.learn_brokers(&BTreeMap::from([(broker.id, broker.clone())]));
                    return Ok(broker);
                }
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// Asks the coordinator of a group, again when it is another one by now or still loads. `code_of` picks the code
    /// that tells.
    pub async fn ask_coordinator<R>(
        &self,
        group: &str,
        build: impl Fn(i16) -> R + Send + Sync,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError>
    where
        R: Spoken + Send + Sync,
        R::Response: Send,
    {
        self.ask_coordinator_waiting(group, build, code_of, Duration::ZERO).await
    }

    /// The same of a transactional id.
    pub async fn ask_transaction_coordinator<R>(
        &self,
        id: &str,
        build: impl Fn(i16) -> R + Send + Sync,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError>
    where
        R: Spoken + Send + Sync,
        R::Response: Send,
    {
        self.ask_coordinator_of(Coordinated::Transaction, id, build, code_of, Duration::ZERO).await
    }

    /// The same with a request that the coordinator itself may keep waiting for so long.
    pub async fn ask_coordinator_waiting<R>(
        &self,
        group: &str,
        build: impl Fn(i16) -> R + Send + Sync,
        code_of: impl Fn(&R::Response) -> i16,
        wait: Duration,
    ) -> Result<R::Response, ClientError>
    where
        R: Spoken + Send + Sync,
        R::Response: Send,
    {
        self.ask_coordinator_of(Coordinated::Group, group, build, code_of, wait).await
    }

    async fn ask_coordinator_of<R>(
        &self,
        what: Coordinated,
        key: &str,
        build: impl Fn(i16) -> R + Send + Sync,
        code_of: impl Fn(&R::Response) -> i16,
        wait: Duration,
    ) -> Result<R::Response, ClientError>
    where
        R: Spoken + Send + Sync,
        R::Response: Send,
    {
        use ResponseError::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
        let mut retry = self.retry();
        loop {
            let coordinator = self.coordinator_of(what, key).await?;
            match self.broker_waiting(coordinator.id, &build, wait).await {
                Ok(response) => match ResponseError::try_from_code(code_of(&response)) {
                    Some(error @ (CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)) => {
                        retry.after(ClientError::Response { error, message: None }).await?;
                    }
                    _ => return Ok(response),
                },
                Err(error @ ClientError::Connect { .. }) => retry.after(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Everything that a group has committed. A group that does not exist has committed nothing.
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        let response = self.ask_coordinator(group, |version| offset_fetch(group, version), offset_fetch_code).await?;
        match ClientError::of_code(offset_fetch_code(&response), None) {
            Some(error) if error.response() == Some(ResponseError::GroupIdNotFound) => Ok(BTreeMap::new()),
            Some(error) => Err(error),
            None => offsets_of(response),
        }
    }

    /// Commits offsets for a group without members, as Kafka's own reset does. What became of each partition.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Result<(), ClientError>>, ClientError> {
        self.commit_offsets_as(group, offsets, ONLOOKER).await
    }

    /// The same in the name of a member.
    pub async fn commit_offsets_as(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
        by: Committer<'_>,
    ) -> Result<BTreeMap<TopicPartition, Result<(), ClientError>>, ClientError> {
        let request = offset_commit(group, offsets, by);
        let code = |response: &OffsetCommitResponse| {
            response
                .topics
                .iter()
                .flat_map(|t| &t.partitions)
                .map(|p| p.error_code)
                .find(|code| *code != 0)
                .unwrap_or(0)
        };
        let response = self.ask_coordinator(group, |_| request.clone(), code).await?;
        let mut results = BTreeMap::new();
        for topic in response.topics {
            for row in &topic.partitions {
                let partition = partition(&topic.name, row.partition_index)?;
                results.insert(partition, ClientError::of_code(row.error_code, None).map_or(Ok(()), Err));
            }
        }
        Ok(results)
    }
}

fn partition(topic: &str, partition: i32) -> Result<TopicPartition, ClientError> {
    match TopicName::new(topic) {
        Ok(topic) => Ok(TopicPartition { topic, partition }),
        Err(invalid) => Err(ClientError::Response {
            error: ResponseError::InvalidTopicException,
            message: Some(invalid.to_string()),
        }),
    }
}

/// One key up to version 3, a list from version 4 on.
fn find_coordinator(what: Coordinated, key: &str, version: i16) -> FindCoordinatorRequest {
    let request = FindCoordinatorRequest::default();
    let request = if version >= 1 { request.with_key_type(what.to_wire()) } else { request };
    if version >= 4 { request.with_coordinator_keys(vec![text(key)]) } else { request.with_key(text(key)) }
}

fn coordinator_of(response: FindCoordinatorResponse) -> Result<Broker, ClientError> {
    let (code, message, id, host, port) = match response.coordinators.into_iter().next() {
        Some(row) => (row.error_code, row.error_message, row.node_id, row.host, row.port),
        None => (response.error_code, response.error_message, response.node_id, response.host, response.port),
    };
    match ClientError::of_code(code, message.as_deref()) {
        Some(error) => Err(error),
        None => Ok(Broker { id: id.0, host: host.to_string(), port, rack: None }),
    }
}

/// All topics of one group; a list of groups from version 8 on.
fn offset_fetch(group: &str, version: i16) -> OffsetFetchRequest {
    if version < 8 {
        return OffsetFetchRequest::default().with_group_id(text(group).into()).with_topics(None);
    }
    let row = OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(None);
    let row = if version >= 9 { row.with_member_id(None).with_member_epoch(-1) } else { row };
    OffsetFetchRequest::default().with_groups(vec![row])
}

fn offset_fetch_code(response: &OffsetFetchResponse) -> i16 {
    response.groups.first().map_or(response.error_code, |group| group.error_code)
}

fn offsets_of(response: OffsetFetchResponse) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
    let mut offsets = BTreeMap::new();
    let mut add = |topic: &str, index, code, offset, metadata: Option<String>| {
        match ClientError::of_code(code, None) {
            Some(error) => return Err(error),
            None if offset < 0 => {}
            None => {
                let committed = CommittedOffset { offset, metadata: metadata.unwrap_or_default() };
                offsets.insert(partition(topic, index)?, committed);
            }
        }
        Ok(())
    };
    for topic in &response.topics {
        for row in &topic.partitions {
            let metadata = row.metadata.as_ref().map(ToString::to_string);
            add(&topic.name, row.partition_index, row.error_code, row.committed_offset, metadata)?;
        }
    }
    let topics: Vec<&OffsetFetchResponseTopics> = response.groups.iter().flat_map(|group| &group.topics).collect();
    for topic in topics {
        for row in &topic.partitions {
            let metadata = row.metadata.as_ref().map(ToString::to_string);
            add(&topic.name, row.partition_index, row.error_code, row.committed_offset, metadata)?;
        }
    }
    Ok(offsets)
}

fn offset_commit(group: &str, offsets: &BTreeMap<TopicPartition, i64>, by: Committer<'_>) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&TopicName, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (partition, offset) in offsets {
        let row = OffsetCommitRequestPartition::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")));
        topics.entry(&partition.topic).or_default().push(row);
    }
    let topic = |(name, rows): (&TopicName, _)| {
        OffsetCommitRequestTopic::default().with_name(text(name.as_str()).into()).with_partitions(rows)
    };
    OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id_or_member_epoch(by.generation)
        .with_member_id(text(by.member))
        .with_topics(topics.into_iter().map(topic).collect())
}
