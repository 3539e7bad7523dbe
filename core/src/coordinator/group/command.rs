//! What can be asked of the group coordinator.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::consumer::{Surroundings, Target, TopicNames, Topics};
use super::ids::{
    ClientHost, ClientId, Generation, GroupId, InstanceId, MemberId, ProtocolName, ProtocolType, ReplyToken,
};
use super::share::{InitializeShares, ShareCommand};
use super::streams::StreamsCommand;
use crate::coordinator::timers;
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId, TopicName};

/// One command to one shard. All groups in it belong to the shard's partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    JoinGroup(JoinGroup),
    SyncGroup(SyncGroup),
    Heartbeat(Heartbeat),
    LeaveGroup(LeaveGroup),
    OffsetCommit(OffsetCommit),
    /// To be appended and applied as part of a transaction.
    TransactionalCommit(OffsetCommit),
    OffsetFetch(OffsetFetch),
    OffsetDelete(OffsetDelete),
    ListGroups(ListGroups),
    DescribeGroups(DescribeGroups),
    ConsumerHeartbeat(ConsumerHeartbeat),
    DescribeConsumerGroups(DescribeGroups),
    PatternsResolved(PatternsResolved),
    /// The cluster is another one than it was.
    SurroundingsChanged(Surroundings),
    Share(ShareCommand),
    Streams(StreamsCommand),
    DeleteGroups(DeleteGroups),
    /// Topics are gone, and their offsets go with them. `after`: groups up to and with this one are done.
    TopicsDeleted {
        topics: Arc<[(TopicName, TopicId)]>,
        after: Option<GroupId>,
    },
    /// The shard was loaded and this node leads its partition: members get their session timers.
    Loaded,
    /// A timer that a decision set is due.
    TimerFired(TimerKey),
    /// Goes on with the expiry of offsets after this group.
    Expire {
        after: GroupId,
    },
}

/// What a timer is for. Setting a key again replaces its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimerKey {
    /// No sign of life from a member, or no second join of one that got its id.
    Session { group: GroupId, member: MemberId },
    /// The end of the join phase.
    Rebalance { group: GroupId },
    /// Members have not asked for their assignments.
    Sync { group: GroupId },
    /// A member of the consumer or the streams protocol has not given up what it must.
    Revoke { group: GroupId, member: MemberId },
    /// A member of the classic protocol in a consumer group did not join again.
    MemberJoin { group: GroupId, member: MemberId },
    /// The same, and did not ask for its assignment.
    MemberSync { group: GroupId, member: MemberId },
    /// A streams group has waited for more members.
    FirstAssignment { group: GroupId },
    /// Time to look for expired offsets.
    Expiry,
}

pub type TimerChange = timers::TimerChange<TimerKey>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroup {
    pub token: ReplyToken,
    pub group: GroupId,
    /// `None`: unknown member, who gets an id.
    pub member: Option<MemberId>,
    /// The id that an unknown member gets: client id or instance id, `-`, a random UUID.
    pub fresh_member: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub session_timeout_ms: i32,
    /// The session timeout again for clients of v0.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: ProtocolType,
    /// In the order that the member prefers.
    pub protocols: Arc<[Protocol]>,
    /// A new dynamic member must come back with its id (KIP-394, v4 and later).
    pub known_member_required: bool,
    /// The client can be told to lead without assigning (KIP-814, v9 and later).
    pub skips_assignment: bool,
}

/// A way to assign that a member supports, with what it says to the leader in that case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: ProtocolName,
    pub metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    pub token: ReplyToken,
    pub group: GroupId,
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub generation: Generation,
    /// Checked if given (v5 and later).
    pub protocol_type: Option<ProtocolType>,
    pub protocol: Option<ProtocolName>,
    /// The leader's; empty from others.
    pub assignments: Vec<(MemberId, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub token: ReplyToken,
    pub group: GroupId,
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub generation: Generation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroup {
    pub token: ReplyToken,
    pub group: GroupId,
    pub members: Vec<LeavingMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    /// `None`: an operator removes the static member `instance`.
    pub member: Option<MemberId>,
    pub instance: Option<InstanceId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    pub token: ReplyToken,
    pub group: GroupId,
    /// `None` with generation -1: no group management.
    pub member: Option<MemberId>,
    pub instance: Option<InstanceId>,
    pub generation: Generation,
    /// Retention that clients of v2 to v4 may ask for, in ms. `None`: the group's.
    pub retention_ms: Option<i64>,
    /// The client knows of members' epochs (v9 and later).
    pub knows_epochs: bool,
    pub topics: Vec<CommitTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitTopic {
    pub name: TopicName,
    /// The id that the topic has now, or zero.
    pub id: TopicId,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPartition {
    pub partition: i32,
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
    pub metadata: Box<str>,
}

/// Reads what is committed. Every reply waits for the commit of what it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetch {
    pub token: ReplyToken,
    pub group: GroupId,
    /// `None`: all that the group has.
    pub topics: Option<Vec<FetchTopic>>,
    /// Do not tell what a transaction that is under way may replace (KIP-447).
    pub require_stable: bool,
    /// With an epoch of -1: no member.
    pub member: Option<MemberId>,
    pub epoch: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    pub name: TopicName,
    /// Zero, or the id that what was committed must not contradict.
    pub id: TopicId,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDelete {
    pub token: ReplyToken,
    pub group: GroupId,
    pub topics: Vec<(TopicName, Vec<i32>)>,
}

/// Empty filters let everything pass. Compared without regard to case; an unknown name lets nothing pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListGroups {
    pub token: ReplyToken,
    pub states: Vec<String>,
    pub types: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeGroups {
    pub token: ReplyToken,
    pub groups: Vec<GroupId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroups {
    pub token: ReplyToken,
    pub groups: Vec<GroupId>,
}

/// What a member of the consumer protocol says. What it leaves out has not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    pub token: ReplyToken,
    pub group: GroupId,
    /// `None` from clients that do not make their ids themselves, as long as they have none.
    pub member: Option<MemberId>,
    /// The id that such a one gets.
    pub fresh_member: MemberId,
    /// 0 to join, -1 to leave, -2 to leave for a while.
    pub epoch: i32,
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub rebalance_timeout_ms: Option<i32>,
    pub topics: Option<Arc<TopicNames>>,
    pub pattern: Option<Pattern>,
    pub assignor: Option<Arc<str>>,
    /// The partitions that it has.
    pub owned: Option<Target>,
}

/// A pattern that topics are to match. Whoever asks has looked at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub text: Arc<str>,
    /// Why it is none.
    pub invalid: Option<Box<str>>,
}

/// The topics that the patterns of a group stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternsResolved {
    pub group: GroupId,
    pub patterns: BTreeMap<Arc<str>, Arc<TopicNames>>,
    /// Of the metadata that they were compared with.
    pub version: i64,
    /// When that began.
    pub at: Timestamp,
}

/// What is to be done elsewhere.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Compare patterns with the topics, and tell the result as [`Command::PatternsResolved`]. It may take its time.
    ResolvePatterns { group: GroupId, patterns: Vec<Arc<str>>, topics: Arc<Topics> },
    /// Ask the share coordinators, and tell what comes of it as a [`ShareCommand`].
    InitializeShares(InitializeShares),
}
