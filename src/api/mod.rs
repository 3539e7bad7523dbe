//! The list of APIs and the way from a frame to its handler. One file per family translates between Kafka's
//! messages and the rooms below; this file and `dispatch` carry out nothing themselves.

pub mod acls;
pub mod cluster;
pub mod configs;
pub mod consumer_groups;
pub mod delete_records;
pub mod describe_groups;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod elect_leaders;
pub mod errors;
pub mod features;
pub mod fetch;
pub mod find_coordinator;
pub mod groups;
pub mod init_producer_id;
pub mod list_offsets;
pub mod log_dirs;
pub mod metadata;
pub mod offsets;
pub mod produce;
pub mod reassign;
pub mod sasl;
pub mod scram_users;
pub mod share_groups;
pub mod share_states;
pub mod shares;
pub mod streams_groups;
pub mod telemetry;
pub mod topics;
pub mod transactions;
pub mod txn_markers;
pub mod unregister_broker;
pub mod versions;

mod access;
mod add_partitions;
mod audit;
mod compute;
mod context;
mod dispatch;
mod find;
mod forward;
mod latest_offsets;
mod leaders;
mod nodes;
mod outcome;
mod session;
mod topic_creation;
mod transaction_nodes;
mod verification;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, DeleteShareGroupStateRequest, InitializeShareGroupStateRequest, ReadShareGroupStateRequest,
};

use crate::protocol::share_state::{ReadShareGroupStateSummaryRequest, WriteShareGroupStateRequest};
use crate::protocol::{Key, RequestHeader};

pub use access::{Access, Resource, show_denials};
pub use audit::{Who, logged_in};
pub use context::Context;
pub use dispatch::{Call, Dispatcher, Refused, Service};
pub use outcome::Outcome;
pub use sasl::Logins;
pub use session::{ClientSoftware, Session};
pub use share_states::ShareStateNodes;
pub use streams_groups::InternalTopics;
pub use topic_creation::OnDemand;
pub use transaction_nodes::Cluster as TransactionNodes;

/// A boxed future, as handlers return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries out one request. Runs to its end in the connection's task, in request order; what may wait without
/// holding up later requests is returned as [`Outcome::Later`].
pub type Handler = for<'a> fn(&'a Arc<Context>, &'a mut Session, Request) -> BoxFuture<'a, Outcome>;

/// Every API that is served, with its versions. ApiVersions is computed from this list; dispatch looks here.
pub const APIS: &[Api] = &[
    // Advertised from 0: librdkafka stops compressing otherwise (KAFKA-18659).
    Api::new(ApiKey::Produce, 3..=13, produce::handle).advertised_from(0),
    Api::new(ApiKey::Fetch, 4..=18, fetch::handle),
    Api::new(ApiKey::ListOffsets, 1..=11, list_offsets::handle),
    Api::new(ApiKey::Metadata, 0..=13, metadata::handle),
    Api::new(ApiKey::OffsetCommit, 2..=10, offsets::handle_commit),
    Api::new(ApiKey::OffsetFetch, 1..=10, offsets::handle_fetch),
    Api::new(ApiKey::FindCoordinator, 0..=6, find_coordinator::handle),
    Api::new(ApiKey::JoinGroup, 0..=9, groups::handle_join),
    Api::new(ApiKey::Heartbeat, 0..=4, groups::handle_heartbeat),
    Api::new(ApiKey::LeaveGroup, 0..=5, groups::handle_leave),
    Api::new(ApiKey::SyncGroup, 0..=5, groups::handle_sync),
    Api::new(ApiKey::DescribeGroups, 0..=6, describe_groups::handle_describe),
    Api::new(ApiKey::ListGroups, 0..=5, describe_groups::handle_list),
    Api::new(ApiKey::SaslHandshake, 0..=1, sasl::handle_handshake),
    Api::new(ApiKey::ApiVersions, 0..=4, versions::handle),
    Api::new(ApiKey::CreateTopics, 2..=7, topics::handle_create).forwarded(),
    Api::new(ApiKey::DeleteTopics, 1..=6, topics::handle_delete).forwarded(),
    Api::new(ApiKey::DeleteRecords, 0..=2, delete_records::handle),
    Api::new(ApiKey::InitProducerId, 0..=5, init_producer_id::handle),
    Api::new(ApiKey::OffsetForLeaderEpoch, 2..=4, list_offsets::handle_for_epoch),
    Api::new(ApiKey::AddPartitionsToTxn, 0..=5, transactions::handle_add_partitions),
    Api::new(ApiKey::AddOffsetsToTxn, 0..=4, transactions::handle_add_offsets),
    Api::new(ApiKey::EndTxn, 0..=5, transactions::handle_end),
    Api::new(ApiKey::WriteTxnMarkers, 1..=2, txn_markers::handle),
    Api::new(ApiKey::TxnOffsetCommit, 0..=5, offsets::handle_transactional),
    Api::new(ApiKey::DescribeAcls, 1..=3, acls::handle_describe),
    Api::new(ApiKey::CreateAcls, 1..=3, acls::handle_create).forwarded(),
    Api::new(ApiKey::DeleteAcls, 1..=3, acls::handle_delete).forwarded(),
    Api::new(ApiKey::DescribeConfigs, 1..=4, configs::handle_describe),
    Api::new(ApiKey::AlterConfigs, 0..=2, configs::handle_alter).forwarded(),
    Api::new(ApiKey::AlterReplicaLogDirs, 1..=2, log_dirs::handle_alter),
    Api::new(ApiKey::DescribeLogDirs, 1..=5, log_dirs::handle),
    Api::new(ApiKey::SaslAuthenticate, 0..=2, sasl::handle_authenticate),
    Api::new(ApiKey::CreatePartitions, 0..=3, topics::handle_create_partitions).forwarded(),
    Api::new(ApiKey::DeleteGroups, 0..=2, describe_groups::handle_delete),
    Api::new(ApiKey::ElectLeaders, 0..=2, elect_leaders::handle).forwarded(),
    Api::new(ApiKey::IncrementalAlterConfigs, 0..=1, configs::handle_incremental)
        .forwarded_if(configs::is_for_controller),
    Api::new(ApiKey::AlterPartitionReassignments, 0..=1, reassign::handle_alter).forwarded(),
    Api::new(ApiKey::ListPartitionReassignments, 0..=0, reassign::handle_list).forwarded(),
    Api::new(ApiKey::OffsetDelete, 0..=0, offsets::handle_delete),
    Api::new(ApiKey::DescribeQuorum, 0..=2, cluster::handle_quorum).forwarded(),
    Api::new(ApiKey::DescribeUserScramCredentials, 0..=0, scram_users::handle_describe),
    Api::new(ApiKey::AlterUserScramCredentials, 0..=0, scram_users::handle_alter).forwarded(),
    Api::new(ApiKey::UpdateFeatures, 0..=2, features::handle).forwarded(),
    Api::new(ApiKey::DescribeCluster, 0..=2, cluster::handle),
    Api::new(ApiKey::DescribeProducers, 0..=0, describe_producers::handle),
    Api::new(ApiKey::UnregisterBroker, 0..=0, unregister_broker::handle).forwarded(),
    Api::new(ApiKey::DescribeTransactions, 0..=0, describe_transactions::handle_describe),
    Api::new(ApiKey::ListTransactions, 0..=2, describe_transactions::handle_list),
    Api::new(ApiKey::ConsumerGroupHeartbeat, 0..=1, consumer_groups::handle_heartbeat),
    Api::new(ApiKey::ConsumerGroupDescribe, 0..=1, consumer_groups::handle_describe),
    Api::new(ApiKey::GetTelemetrySubscriptions, 0..=0, telemetry::handle_get),
    Api::new(ApiKey::PushTelemetry, 0..=0, telemetry::handle_push),
    Api::new(ApiKey::ListConfigResources, 0..=1, configs::handle_list),
    Api::new(ApiKey::DescribeTopicPartitions, 0..=0, describe_topic_partitions::handle),
    Api::new(ApiKey::ShareGroupHeartbeat, 1..=1, share_groups::handle_heartbeat),
    Api::new(ApiKey::ShareGroupDescribe, 1..=1, share_groups::handle_describe),
    Api::new(ApiKey::ShareFetch, 1..=2, shares::handle_fetch),
    Api::new(ApiKey::ShareAcknowledge, 1..=2, shares::handle_acknowledge),
    Api::new(ApiKey::InitializeShareGroupState, 0..=0, share_states::handle::<InitializeShareGroupStateRequest>),
    Api::new(ApiKey::ReadShareGroupState, 0..=0, share_states::handle::<ReadShareGroupStateRequest>),
    Api::new(ApiKey::WriteShareGroupState, 0..=1, share_states::handle::<WriteShareGroupStateRequest>),
    Api::new(ApiKey::DeleteShareGroupState, 0..=0, share_states::handle::<DeleteShareGroupStateRequest>),
    Api::new(ApiKey::ReadShareGroupStateSummary, 0..=1, share_states::handle::<ReadShareGroupStateSummaryRequest>),
    Api::with_key(Key::STREAMS_GROUP_HEARTBEAT, 0..=0, streams_groups::handle_heartbeat),
    Api::with_key(Key::STREAMS_GROUP_DESCRIBE, 0..=0, streams_groups::handle_describe),
    Api::new(ApiKey::DescribeShareGroupOffsets, 0..=1, share_groups::handle_describe_offsets),
    Api::new(ApiKey::AlterShareGroupOffsets, 0..=0, share_groups::handle_alter),
    Api::new(ApiKey::DeleteShareGroupOffsets, 0..=0, share_groups::handle_delete),
];

/// One request, its header decoded and its versions checked.
pub struct Request {
    pub header: RequestHeader,
    /// What follows the header, undecoded and unguarded.
    pub body: Bytes,
    /// What its client may do.
    pub access: Access,
    pub who: Who,
}

/// An API that is served.
#[derive(Clone, Copy)]
pub struct Api {
    pub key: Key,
    /// Lowest version that is carried out.
    pub min: i16,
    /// Highest version that is carried out.
    pub max: i16,
    /// Lowest version that ApiVersions names; lower than `min` only for Produce (KAFKA-18659).
    pub advertised_min: i16,
    pub handler: Handler,
    /// Which requests only the leader of the metadata can carry out.
    pub forwarded: Option<fn(&Request) -> bool>,
}

impl Api {
    pub const fn new(key: ApiKey, versions: std::ops::RangeInclusive<i16>, handler: Handler) -> Self {
        Self::with_key(Key::of(key), versions, handler)
    }

    /// One that has no name in the crate.
    pub const fn with_key(key: Key, versions: std::ops::RangeInclusive<i16>, handler: Handler) -> Self {
        let (min, max) = (*versions.start(), *versions.end());
        Self { key, min, max, advertised_min: min, handler, forwarded: None }
    }

    /// Names lower versions in ApiVersions than are carried out.
    pub const fn advertised_from(mut self, version: i16) -> Self {
        self.advertised_min = version;
        self
    }

    /// Carried out where the metadata is led.
    pub const fn forwarded(self) -> Self {
        self.forwarded_if(|_| true)
    }

    /// The same, for some of the requests.
    pub const fn forwarded_if(mut self, is_for_controller: fn(&Request) -> bool) -> Self {
        self.forwarded = Some(is_for_controller);
        self
    }

    pub fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// Milliseconds since 1970, from the system's clock.
fn now() -> millstream_core::types::Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    millstream_core::types::Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
