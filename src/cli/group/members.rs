//! A group and its members, as its coordinator describes them: consumer groups of both kinds, and streams groups.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup as ConsumerGroup, Member as ConsumerMember,
};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup as ClassicGroup, DescribedGroupMember};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest, DescribeGroupsResponse,
};
use millstream_core::types::{TopicName, TopicPartition};

use super::assignment::{compact, read_assignment};
use super::streams::{self, Tasks};
use crate::cli::client::{Client, ClientError, text};
use crate::protocol::streams_group::{StreamsGroupDescribeRequest, StreamsGroupDescribeResponse};

/// States in which a group has no members (`GroupState`).
const STATES_WITHOUT_MEMBERS: [&str; 2] = ["Empty", "Dead"];

#[derive(Clone, Debug)]
pub struct Member {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    /// None: the assignment is not in the form of consumers.
    pub partitions: Option<Vec<TopicPartition>>,
    /// Of a streams group. Its partitions are then those that its tasks may read, also of topics that have fewer.
    pub tasks: Option<Tasks>,
}

impl Member {
    /// In few words what it has.
    pub fn assignment(&self) -> String {
        match (&self.tasks, &self.partitions) {
            (Some(tasks), _) => tasks.compact(),
            (None, Some(partitions)) => compact(partitions),
            (None, None) => "?".to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Group {
    pub state: String,
    /// `classic`, `consumer` (KIP-848) or `streams` (KIP-1071).
    pub kind: &'static str,
    pub protocol_type: String,
    pub assignor: Option<String>,
    pub members: Vec<Member>,
}

impl Group {
    pub fn has_members(&self) -> bool {
        !STATES_WITHOUT_MEMBERS.contains(&self.state.as_str())
    }
}

/// Asks for a consumer group of the new kind first, as Kafka's own tools do; then for a streams group, and for a classic one.
/// None: no such group.
pub async fn describe(client: &Client, group: &str) -> Result<Option<Group>, ClientError> {
    match consumer_group(client, group).await {
        Err(error) if is_of_other_kind(&error) => {}
        described => return described.map(Some),
    }
    match streams_group(client, group).await {
        Err(error) if is_of_other_kind(&error) => {}
        described => return described.map(Some),
    }
    match classic_group(client, group).await {
        // Up to DescribeGroups 5 a group that does not exist is dead.
        Ok(described) => Ok(Some(described).filter(|group| group.state != "Dead")),
        Err(error) if error.response() == Some(ResponseError::GroupIdNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_of_other_kind(error: &ClientError) -> bool {
    matches!(error, ClientError::Unsupported { .. })
        || matches!(error.response(), Some(ResponseError::GroupIdNotFound | ResponseError::UnsupportedVersion))
}

fn left_out() -> ClientError {
    ClientError::Response {
        error: ResponseError::UnknownServerError,
        message: Some("the broker left the group out of its answer".to_owned()),
    }
}

async fn consumer_group(client: &Client, group: &str) -> Result<Group, ClientError> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![text(group).into()]);
    let code = |response: &ConsumerGroupDescribeResponse| response.groups.first().map_or(0, |row| row.error_code);
    let response = client.ask_coordinator(group, |_| request.clone(), code).await?;
    let row = response.groups.into_iter().next().ok_or_else(left_out)?;
    match ClientError::of_code(row.error_code, row.error_message.as_deref()) {
        Some(error) => Err(error),
        None => Ok(of_consumer(&row)),
    }
}

async fn streams_group(client: &Client, group: &str) -> Result<Group, ClientError> {
    let build =
        |_| StreamsGroupDescribeRequest { group_ids: vec![text(group)], ..StreamsGroupDescribeRequest::default() };
    let code = |response: &StreamsGroupDescribeResponse| response.groups.first().map_or(0, |row| row.error_code);
    let response = client.ask_coordinator(group, build, code).await?;
    let row = response.groups.into_iter().next().ok_or_else(left_out)?;
    match ClientError::of_code(row.error_code, row.error_message.as_deref()) {
        Some(error) => Err(error),
        None => Ok(streams::group(&row)),
    }
}

async fn classic_group(client: &Client, group: &str) -> Result<Group, ClientError> {
    let request = DescribeGroupsRequest::default().with_groups(vec![text(group).into()]);
    let code = |response: &DescribeGroupsResponse| response.groups.first().map_or(0, |row| row.error_code);
    let response = client.ask_coordinator(group, |_| request.clone(), code).await?;
    let row = response.groups.into_iter().next().ok_or_else(left_out)?;
    match ClientError::of_code(row.error_code, row.error_message.as_deref()) {
        Some(error) => Err(error),
        None => Ok(of_classic(&row)),
    }
}

fn of_consumer(row: &ConsumerGroup) -> Group {
    let member = |member: &ConsumerMember| Member {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: Some(partitions(&member.assignment)),
        tasks: None,
    };
    Group {
        state: row.group_state.to_string(),
        kind: "consumer",
        protocol_type: "consumer".to_owned(),
        assignor: told(&row.assignor_name),
        members: row.members.iter().map(member).collect(),
    }
}

fn partitions(assignment: &Assignment) -> Vec<TopicPartition> {
    let mut all = Vec::new();
    for row in &assignment.topic_partitions {
        if let Ok(topic) = TopicName::new(&row.topic_name) {
            all.extend(row.partitions.iter().map(|p| TopicPartition { topic: topic.clone(), partition: *p }));
        }
    }
    all.sort();
    all
}

fn of_classic(row: &ClassicGroup) -> Group {
    let is_consumer = &*row.protocol_type == "consumer";
    let member = |member: &DescribedGroupMember| Member {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: if is_consumer { read_assignment(&member.member_assignment) } else { None },
        tasks: None,
    };
    Group {
        state: row.group_state.to_string(),
        kind: "classic",
        protocol_type: row.protocol_type.to_string(),
        assignor: told(&row.protocol_data),
        members: row.members.iter().map(member).collect(),
    }
}

fn told(name: &str) -> Option<String> {
    Some(name.to_owned()).filter(|name| !name.is_empty())
}
