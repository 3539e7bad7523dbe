//! What can be asked of the coordinator about streams groups, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::command::DescribeGroups;
use super::super::ids::{ClientHost, ClientId, GroupId, MemberId, ReplyToken};
use super::member::{ClientTags, Endpoint, StreamsSubscription};
use super::state::StreamsState;
use super::tasks::Tasks;
use super::topology::{TopicInfo, Topology};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamsCommand {
    Heartbeat(Box<StreamsHeartbeat>),
    Describe(DescribeGroups),
}

/// What a member says. What it leaves out has not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsHeartbeat {
    pub token: ReplyToken,
    pub group: GroupId,
    pub member: MemberId,
    /// 0 to join, -1 to leave.
    pub epoch: i32,
    /// Of the endpoints that it was told last.
    pub endpoint_epoch: i32,
    pub rack: Option<Arc<str>>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub rebalance_timeout_ms: Option<i32>,
    /// With epoch 0.
    pub topology: Option<Arc<Topology>>,
    /// The tasks that it has.
    pub owned: Option<Tasks>,
    pub process: Option<Arc<str>>,
    pub endpoint: Option<Endpoint>,
    pub tags: Option<Arc<ClientTags>>,
    /// It asks for the end of the whole application.
    pub shutdown: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamsReply {
    Heartbeat(Result<StreamsBeaten, StreamsRefused>),
    /// `None`: there is no such group; `Some(None)`: it is no streams group.
    Describe(Vec<(GroupId, Option<Option<DescribedStreamsGroup>>)>),
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsBeaten {
    pub member: MemberId,
    pub epoch: i32,
    /// 0 for one that leaves.
    pub heartbeat_interval_ms: i32,
    pub status: Vec<StreamsStatus>,
    /// What the member has now; `None`: as before.
    pub tasks: Option<Tasks>,
    pub endpoint_epoch: i32,
    /// Who answers queries on what; `None`: as the member knows it.
    pub endpoints: Option<Vec<EndpointPartitions>>,
    /// Topics of the application that are not there yet. Whoever carried the heartbeat looks whether its sender may
    /// create them, and creates them; a failure is added to the detail of [`StreamsStatusKind::MissingInternalTopics`].
    pub create: Vec<InternalTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsStatus {
    pub kind: StreamsStatusKind,
    pub detail: String,
}

/// `StreamsGroupHeartbeatResponse.Status`, with its codes 0 to 5 in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamsStatusKind {
    StaleTopology,
    MissingSourceTopics,
    IncorrectlyPartitionedTopics,
    MissingInternalTopics,
    ShutdownApplication,
    AssignmentDelayed,
}

/// The partitions that one member can be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPartitions {
    pub endpoint: Endpoint,
    pub active: Vec<(Arc<str>, Vec<i32>)>,
    pub standby: Vec<(Arc<str>, Vec<i32>)>,
}

/// A topic that is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTopic {
    pub name: Arc<str>,
    pub partition_count: i32,
    /// `None`: the broker's default.
    pub replication_factor: Option<i16>,
    pub configs: BTreeMap<Arc<str>, Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsRefused {
    pub error: StreamsError,
    pub message: String,
}

/// Why a heartbeat is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamsError {
    /// No such group, or one of another protocol (GROUP_ID_NOT_FOUND).
    GroupNotFound,
    /// GROUP_MAX_SIZE_REACHED.
    GroupFull,
    /// UNKNOWN_MEMBER_ID.
    UnknownMember,
    /// FENCED_MEMBER_EPOCH.
    FencedEpoch,
    /// Another topology than the group's, or tasks that there are not (INVALID_REQUEST).
    InvalidRequest,
    /// STREAMS_INVALID_TOPOLOGY.
    InvalidTopology,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedStreamsGroup {
    pub state: StreamsState,
    pub epoch: i32,
    pub target_epoch: i32,
    /// `None` only where records lack.
    pub topology: Option<DescribedTopology>,
    pub members: Vec<DescribedStreamsMember>,
}

/// As it is configured; as the members said it while topics are missing or do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedTopology {
    pub epoch: i32,
    pub subtopologies: Vec<DescribedSubtopology>,
}

/// Every list in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedSubtopology {
    pub id: Arc<str>,
    pub source_topics: Vec<Arc<str>>,
    pub repartition_sinks: Vec<Arc<str>>,
    pub changelogs: Vec<TopicInfo>,
    pub repartition_sources: Vec<TopicInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedStreamsMember {
    pub member: MemberId,
    pub said: Arc<StreamsSubscription>,
    pub epoch: i32,
    /// Without what it is to give up, as in Kafka.
    pub assigned: Tasks,
    pub target: Tasks,
}
