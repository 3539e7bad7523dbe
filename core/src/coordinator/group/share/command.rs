//! What can be asked of the coordinator about share groups, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::command::DescribeGroups;
use super::super::consumer::{Target, TopicNames};
use super::super::ids::{ClientHost, ClientId, GroupId, MemberId, ReplyToken};
use super::super::reply::{ConsumerBeaten, ConsumerRefused, DescribedTopic};
use super::member::ShareSubscription;
use super::state::ShareState;
use crate::types::{Offset, TopicId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareCommand {
    Heartbeat(ShareHeartbeat),
    Describe(DescribeGroups),
    /// The share coordinators have these now.
    Initialized {
        group: GroupId,
        topics: Target,
    },
    /// They could not be asked, or refused.
    NotInitialized {
        group: GroupId,
        topics: Target,
    },
    /// Which partitions are initialized.
    Partitions {
        token: ReplyToken,
        group: GroupId,
    },
    AlterOffsets(AlterShareOffsets),
    /// Which state is to be deleted, before the offsets are told to be gone.
    DeleteOffsets(DeleteShareOffsets),
    /// The state of these topics is deleted.
    OffsetsDeleted {
        token: ReplyToken,
        group: GroupId,
        topics: Arc<[TopicId]>,
    },
    /// Groups are to be deleted: their state first. Those of other protocols are passed over.
    DeleteState(DescribeGroups),
}

/// What a member says. What it leaves out has not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareHeartbeat {
    pub token: ReplyToken,
    pub group: GroupId,
    pub member: MemberId,
    /// 0 to join, -1 to leave.
    pub epoch: i32,
    pub rack: Option<Arc<str>>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub topics: Option<Arc<TopicNames>>,
}

/// Where a group without members is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterShareOffsets {
    pub token: ReplyToken,
    pub group: GroupId,
    pub topics: Vec<AlterShareTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterShareTopic {
    pub name: Arc<str>,
    pub partitions: Vec<(i32, Offset)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteShareOffsets {
    pub token: ReplyToken,
    pub group: GroupId,
    pub topics: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareReply {
    Heartbeat(Result<ConsumerBeaten, ConsumerRefused>),
    /// `None`: there is no such group; `Some(None)`: it is no share group.
    Describe(Vec<(GroupId, Option<Option<DescribedShareGroup>>)>),
    Partitions(Vec<InitializedTopic>),
    AlterOffsets(Result<ShareOffsetsAltered, ShareOffsetsError>),
    DeleteOffsets(Result<ShareOffsetsToDelete, ShareOffsetsError>),
    OffsetsDeleted,
    /// What is to be deleted of each share group.
    DeleteState(Vec<(GroupId, Result<Target, ShareOffsetsError>)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedShareGroup {
    pub state: ShareState,
    pub epoch: i32,
    pub target_epoch: i32,
    pub members: Vec<DescribedShareMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedShareMember {
    pub member: MemberId,
    pub said: Arc<ShareSubscription>,
    pub epoch: i32,
    pub assigned: Vec<DescribedTopic>,
}

/// A topic that is there, and its initialized partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitializedTopic {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partitions: Vec<i32>,
}

/// Why the offsets of a group are not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareOffsetsError {
    /// There is none, or it is no share group. Says which.
    GroupNotFound(String),
    NonEmpty,
}

/// What share coordinators are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitializeShares {
    pub group: GroupId,
    /// The group's, which becomes the state's.
    pub epoch: i32,
    /// Where each partition begins; `None`: where the group's settings say.
    pub topics: BTreeMap<TopicId, BTreeMap<i32, Option<Offset>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareOffsetsAltered {
    /// To be asked of the share coordinators.
    pub initialize: InitializeShares,
    /// In the order of the request.
    pub topics: Vec<AlteredTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredTopic {
    pub name: Arc<str>,
    /// `None`: there is no such topic.
    pub id: Option<TopicId>,
    /// Whether there is such a partition.
    pub partitions: Vec<(i32, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareOffsetsToDelete {
    /// To be deleted by the share coordinators, with the topics' names.
    pub topics: Vec<InitializedTopic>,
    /// There is nothing to delete: `true` if there is no such topic either.
    pub nothing: Vec<(Arc<str>, bool)>,
}
