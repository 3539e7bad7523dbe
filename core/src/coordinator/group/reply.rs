//! What the group coordinator answers. One error enum per operation; their Kafka codes are chosen above.

use std::sync::Arc;

use bytes::Bytes;

use super::consumer::{Assignor, ConsumerState, Subscription, Target};
use super::describe::GroupKind;
use super::ids::{ClientHost, ClientId, Generation, GroupId, InstanceId, MemberId, ProtocolName, ProtocolType};
use super::share::ShareReply;
use super::streams::StreamsReply;
use crate::types::{LeaderEpoch, Offset, TopicId, TopicName};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    JoinGroup(Result<Joined, JoinRefused>),
    SyncGroup(Result<Synced, SyncError>),
    Heartbeat(Result<(), HeartbeatError>),
    LeaveGroup(Result<Vec<Left>, LeaveError>),
    OffsetCommit(Result<Vec<CommittedTopic>, CommitError>),
    /// Topics and partitions as asked for, or all that the group has.
    OffsetFetch(Result<Vec<FetchedTopic>, FetchError>),
    OffsetDelete(Result<Vec<DeletedOffsets>, OffsetDeleteError>),
    ListGroups(Vec<ListedGroup>),
    /// `None`: there is no such group.
    DescribeGroups(Vec<(GroupId, Option<DescribedGroup>)>),
    DeleteGroups(Vec<(GroupId, Result<(), DeleteGroupError>)>),
    ConsumerHeartbeat(Result<ConsumerBeaten, ConsumerRefused>),
    /// `None`: there is no such group; `Some(None)`: it is not of the consumer protocol.
    DescribeConsumerGroups(Vec<(GroupId, Option<Option<DescribedConsumerGroup>>)>),
    Share(ShareReply),
    Streams(StreamsReply),
}

/// A member is in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub member: MemberId,
    pub generation: Generation,
    pub protocol_type: Option<ProtocolType>,
    pub protocol: Option<ProtocolName>,
    pub leader: Option<MemberId>,
    /// All members, for the leader; else empty.
    pub members: Vec<JoinedMember>,
    /// The leader is to keep the assignment that stands (KIP-814).
    pub skip_assignment: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    /// What the member says for the chosen protocol.
    pub metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: JoinError,
    /// The id that the answer names, as Kafka does. `None`: the empty id.
    pub member: Option<MemberId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// The group's name is empty (INVALID_GROUP_ID).
    InvalidGroupId,
    /// Outside of the configured range (INVALID_SESSION_TIMEOUT).
    InvalidSessionTimeout,
    /// Come back with the id that the answer names (MEMBER_ID_REQUIRED).
    MemberIdRequired,
    /// UNKNOWN_MEMBER_ID.
    UnknownMember,
    /// Another member has taken this instance id (FENCED_INSTANCE_ID).
    FencedInstance,
    /// GROUP_MAX_SIZE_REACHED.
    GroupFull,
    /// Another protocol type, or no protocol that all members support (INCONSISTENT_GROUP_PROTOCOL).
    InconsistentProtocol,
    /// A consumer group that takes no members of the classic protocol (GROUP_ID_NOT_FOUND).
    GroupNotFound,
    /// A newer join of the same member has taken the place of this one (REBALANCE_IN_PROGRESS).
    Superseded,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<ProtocolType>,
    pub protocol: Option<ProtocolName>,
    pub assignment: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncError {
    /// The group's name is empty (INVALID_GROUP_ID).
    InvalidGroupId,
    UnknownMember,
    FencedInstance,
    IllegalGeneration,
    InconsistentProtocol,
    RebalanceInProgress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatError {
    /// The group's name is empty (INVALID_GROUP_ID).
    InvalidGroupId,
    UnknownMember,
    FencedInstance,
    IllegalGeneration,
    RebalanceInProgress,
}

/// What became of one member that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub member: Option<MemberId>,
    pub instance: Option<InstanceId>,
    pub result: Result<(), LeaveMemberError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveMemberError {
    UnknownMember,
    FencedInstance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveError {
    /// The group's name is empty (INVALID_GROUP_ID).
    InvalidGroupId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedTopic {
    pub name: TopicName,
    pub id: TopicId,
    pub partitions: Vec<(i32, Result<(), CommitPartitionError>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPartitionError {
    /// OFFSET_METADATA_TOO_LARGE.
    MetadataTooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// A generation is given and the group is not there: GROUP_ID_NOT_FOUND from v9 on, else ILLEGAL_GENERATION.
    GroupNotFound,
    UnknownMember,
    FencedInstance,
    IllegalGeneration,
    RebalanceInProgress,
    /// The member had another epoch when it got what it commits (STALE_MEMBER_EPOCH).
    StaleEpoch,
    /// A member of the consumer protocol commits as those of the classic one do (UNSUPPORTED_VERSION).
    UnsupportedVersion,
}

/// Why a member is told no offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    UnknownMember,
    StaleEpoch,
    IllegalGeneration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    pub name: TopicName,
    /// As asked for; zero where all topics were.
    pub id: TopicId,
    pub partitions: Vec<(i32, Fetched)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    Offset(FetchedOffset),
    /// Nothing is committed (offset -1).
    Nothing,
    /// A transaction is under way that may commit another one (UNSTABLE_OFFSET_COMMIT).
    Unstable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
    pub metadata: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedOffsets {
    pub name: TopicName,
    pub partitions: Vec<(i32, Result<(), DeletePartitionError>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletePartitionError {
    /// Members of the group subscribe to the topic (GROUP_SUBSCRIBED_TO_TOPIC).
    Subscribed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetDeleteError {
    /// The group's name is empty (INVALID_GROUP_ID).
    InvalidGroupId,
    GroupNotFound,
    /// The group has members whose subscriptions cannot be read (NON_EMPTY_GROUP).
    NonEmpty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteGroupError {
    GroupNotFound,
    NonEmpty,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: GroupId,
    /// `None`: a group that only keeps offsets.
    pub protocol_type: Option<ProtocolType>,
    /// Its name.
    pub state: &'static str,
    pub kind: GroupKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    pub state: GroupState,
    pub protocol_type: Option<ProtocolType>,
    /// In a stable group only, as are the members' metadata.
    pub protocol: Option<ProtocolName>,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// A classic group's state (`ClassicGroupState`). A group that is not there counts as "Dead".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    pub const ALL: [Self; 4] = [Self::Empty, Self::PreparingRebalance, Self::CompletingRebalance, Self::Stable];

    /// Kafka's name, as ListGroups and DescribeGroups give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// The answer to a heartbeat of the consumer protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerBeaten {
    pub member: MemberId,
    pub epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// What the member has now; `None`: as before.
    pub assignment: Option<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRefused {
    pub error: ConsumerError,
    pub message: String,
}

/// Why a heartbeat of the consumer protocol is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerError {
    /// No such group, or one that cannot come over from the classic protocol (GROUP_ID_NOT_FOUND).
    GroupNotFound,
    /// GROUP_MAX_SIZE_REACHED.
    GroupFull,
    UnknownMember,
    /// FENCED_MEMBER_EPOCH.
    FencedEpoch,
    /// Another member holds the instance id, and has not left (UNRELEASED_INSTANCE_ID).
    UnreleasedInstance,
    /// Another member has taken the instance id (FENCED_INSTANCE_ID).
    FencedInstance,
    /// INVALID_REGULAR_EXPRESSION.
    InvalidPattern,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    pub state: ConsumerState,
    pub epoch: i32,
    pub target_epoch: i32,
    pub assignor: Assignor,
    pub members: Vec<DescribedConsumer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumer {
    pub member: MemberId,
    pub subscription: Arc<Subscription>,
    pub epoch: i32,
    /// What it holds, also what it is to give up.
    pub assigned: Vec<DescribedTopic>,
    pub target: Vec<DescribedTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedTopic {
    pub id: TopicId,
    pub name: TopicName,
    pub partitions: Vec<i32>,
}
