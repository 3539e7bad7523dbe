//! Groups: of the classic protocol, in [`consumer`] of the new one, share groups and streams groups. Who is a member, who
//! leads, what is assigned, which offsets are committed.
//!
//! One [`Shard`] per partition of `__consumer_offsets`, as Kafka's `GroupMetadataManager` and
//! `OffsetMetadataManager` (4.3) decide. Knows nothing of API versions, connections, or where records go.

mod command;
mod commit;
mod config;
pub mod consumer;
mod decision;
mod delete;
mod describe;
mod draft;
mod fetch;
mod heartbeat;
mod ids;
mod join;
mod leave;
mod loader;
mod offsets;
mod pending;
mod rebalance;
mod record;
mod reply;
mod shard;
pub mod share;
mod state;
pub mod streams;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;
mod transaction;

pub use command::{
    Command, CommitPartition, CommitTopic, ConsumerHeartbeat, DeleteGroups, DescribeGroups, Effect, FetchTopic,
    Heartbeat, JoinGroup, LeaveGroup, LeavingMember, ListGroups, OffsetCommit, OffsetDelete, OffsetFetch, Pattern,
    PatternsResolved, Protocol, SyncGroup, TimerChange, TimerKey,
};
pub use config::GroupConfig;
pub use decision::Decision;
pub use describe::{GroupCounts, GroupKind};
pub use ids::{
    ClientHost, ClientId, Generation, GroupId, InstanceId, MemberId, ProtocolName, ProtocolType, ReplyToken,
    TEXT_LEN_MAX, TextTooLong,
};
pub use loader::Loader;
pub use record::{
    CommittedOffset, ConsumerChange, DecodeError, EncodedRecord, GroupMetadata, OffsetKey, Record, ShareChange,
    StoredMember, StreamsChange,
};
pub use reply::{
    CommitError, CommitPartitionError, CommittedTopic, ConsumerBeaten, ConsumerError, ConsumerRefused,
    DeleteGroupError, DeletePartitionError, DeletedOffsets, DescribedConsumer, DescribedConsumerGroup, DescribedGroup,
    DescribedMember, DescribedTopic, FetchError, Fetched, FetchedOffset, FetchedTopic, GroupState, HeartbeatError,
    JoinError, JoinRefused, Joined, JoinedMember, LeaveError, LeaveMemberError, Left, ListedGroup, OffsetDeleteError,
    Reply, SyncError, Synced,
};
pub use shard::{Applied, Shard};
