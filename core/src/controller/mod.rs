//! Cluster metadata: which nodes, topics and settings there are, and what may become of them.
//!
//! A *decision* looks at the image and at a request, and gives [`Command`]s and a reply. The commands go through the
//! metadata log; carrying one out ([`Image::apply`]) cannot fail. So every node that reads the log has the same image,
//! and serving a request and replaying the log follow the same path. Time, fresh ids and random numbers are
//! arguments; the network, the disk and the log are not known here, nor is who leads which partition.

mod acls;
mod alter_configs;
mod auto_create;
mod command;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod describe_configs;
mod features;
mod image;
mod members;
mod moves;
mod nodes;
mod parts;
mod placement;
mod producer_ids;
mod raise_internal;
mod scram;
mod shards;
mod stored;
mod wire;

pub use acls::{ACLS_PER_REQUEST_MAX, NewAcl, NewAclError, TooManyAcls, create_acls, delete_acls};
pub use alter_configs::{
    AlterConfigError, Alteration, ConfigChange, alter_configs, incremental_alter_configs, operation, resource_type,
};
pub use auto_create::{auto_created_topic, internal_topic_configs};
pub use command::{Command, CommandError};
pub use create_partitions::{CreatePartitionsError, MorePartitions, create_partitions};
pub use create_topics::{AssignmentError, CreateTopicError, CreatedTopic, NewTopic, TopicCreation, create_topics};
pub use delete_topics::{DeleteTopicError, DeletedTopic, TopicToDelete, delete_topics};
pub use describe_configs::{DescribeConfigsError, ResourceToDescribe, describe_configs};
pub use features::{
    FEATURES, Feature, FeatureUpdate, GROUP_VERSION, SHARE_VERSION, STREAMS_VERSION, TRANSACTION_VERSION,
    UpdateFeaturesError, form_cluster, update_features, upgrade_type,
};
pub use image::Image;
pub use members::GroupMembers;
pub use moves::{MoveError, Ongoing, Reassignment, SettledGroup, complete_moves, reassign};
pub use nodes::{AddressTaken, NodeNotRegistered, register_node, remove_node, take_in_node};
pub use parts::{ConfigOwner, Endpoint, FeatureRange, Move, Node, Partition, Peer, Topic};
pub use placement::{PlacementError, UsableNode, place};
pub use producer_ids::{PRODUCER_ID_BLOCK_LEN, ProducerIdsExhausted, allocate_producer_ids};
pub use raise_internal::raise_internal_topics;
pub use scram::{
    AlterScramError, AlteredScram, DescribeScramError, LOGIN_SECRET_BYTES, ScramDeletion, ScramUpsertion,
    UserMechanisms, alter_scram, describe_scram, first_user,
};
pub use stored::{StoredChange, StoredError};
pub use wire::WireError;

/// Most partitions that one request may make (Kafka `ReplicationControlManager.MAX_PARTITIONS_PER_BATCH`).
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// What is to be written to the metadata log, and what is answered once it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<R> {
    pub commands: Vec<Command>,
    pub reply: R,
}

impl<R> Decision<R> {
    /// A reply that changes nothing.
    fn only(reply: R) -> Self {
        Self { commands: Vec::new(), reply }
    }
}

#[cfg(test)]
mod tests;
