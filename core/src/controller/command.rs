//! What is written to the metadata log: one record a command.
//!
//! A record is the command's number (u16), the version of its body (u8), and the body. Numbers are never used again.
//! Free for what comes: 32-39 access control lists, 50-59 client quotas, 60-69 delegation
//! tokens, 72-79 moves of replicas.

use super::acls::{read_acl, write_acl};
use super::parts::{read_mark, read_nodes, read_partitions, write_mark, write_nodes, write_partitions};
use super::scram::{read_credential, read_scram_key, write_credential, write_scram_key};
use super::wire::{Reader, WireError, Writer};
use super::{ConfigOwner, Move, Node, Partition, Peer, Topic};
use crate::security::{Acl, ScramCredential, ScramMechanism};
use crate::types::{LogMark, NodeId, PartitionId, ProducerId, TopicId};

/// A change of the metadata, decided. Carrying it out cannot fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The cluster's name, as the first command of its log.
    FormCluster {
        cluster_id: String,
    },
    /// A node starts, or starts again with other addresses.
    RegisterNode(Node),
    /// A node is gone for good.
    RemoveNode {
        node: NodeId,
    },
    /// A disk gets its identity in raft.
    AssignPeer(Peer),
    CreateTopic(Topic),
    DeleteTopic {
        id: TopicId,
    },
    /// Partitions `first` and up.
    AddPartitions {
        id: TopicId,
        first: i32,
        partitions: Vec<Partition>,
    },
    /// Where the replicas of a partition shall be, and what is left to be done for it.
    MoveReplicas {
        id: PartitionId,
        replicas: Vec<NodeId>,
        moving: Option<Move>,
        since: LogMark,
    },
    /// Settings given (`Some`) or taken back (`None`).
    ChangeConfigs {
        owner: ConfigOwner,
        changes: Vec<(String, Option<String>)>,
    },
    /// Producer ids below `next` belong to someone; `node` may give out those from the last such command's on.
    AllocateProducerIds {
        node: NodeId,
        next: ProducerId,
    },
    /// Where partitions of a topic should be from now on, by number.
    SetReplicas {
        id: TopicId,
        replicas: Vec<(i32, Vec<NodeId>)>,
    },
    /// A feature's level for the whole cluster; 0 turns it off.
    SetFeature {
        name: String,
        level: i16,
    },
    AddAcl(Acl),
    RemoveAcl(Acl),
    /// What is kept of a user's password; `None`: nothing any more.
    SetScram {
        user: String,
        mechanism: ScramMechanism,
        credential: Option<ScramCredential>,
    },
    /// What salts of users that do not exist are made of.
    SetLoginSecret {
        secret: Vec<u8>,
    },
}

/// Why a record of the metadata log is not carried out. Either ends the node: going on without it would make
/// another cluster of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error(
        "metadata holds command {number} in version {version}: this node is too old, run the version that wrote it"
    )]
    TooNew { number: u16, version: u8 },
    #[error("metadata is damaged: {0}")]
    Damaged(#[from] WireError),
}

mod number {
    pub(super) const FORM_CLUSTER: u16 = 1;
    pub(super) const REGISTER_NODE: u16 = 2;
    pub(super) const REMOVE_NODE: u16 = 3;
    pub(super) const ASSIGN_PEER: u16 = 4;
    pub(super) const CREATE_TOPIC: u16 = 10;
    pub(super) const DELETE_TOPIC: u16 = 11;
    pub(super) const ADD_PARTITIONS: u16 = 12;
    pub(super) const CHANGE_CONFIGS: u16 = 20;
    pub(super) const ALLOCATE_PRODUCER_IDS: u16 = 21;
    pub(super) const SET_FEATURE: u16 = 22;
    pub(super) const ADD_ACL: u16 = 30;
    pub(super) const REMOVE_ACL: u16 = 31;
    pub(super) const SET_SCRAM: u16 = 40;
    pub(super) const SET_LOGIN_SECRET: u16 = 41;
    pub(super) const SET_REPLICAS: u16 = 70;
    pub(super) const MOVE_REPLICAS: u16 = 71;
}

/// The version in which a body is written. Of those with partitions version 1 holds the peers of
/// each, version 2 its moves.
fn newest_version(number: u16) -> u8 {
    match number {
        number::CREATE_TOPIC | number::ADD_PARTITIONS => 2,
        _ => 0,
    }
}

impl Command {
    fn number(&self) -> u16 {
        match self {
            Self::FormCluster { .. } => number::FORM_CLUSTER,
            Self::RegisterNode(_) => number::REGISTER_NODE,
            Self::RemoveNode { .. } => number::REMOVE_NODE,
            Self::AssignPeer(_) => number::ASSIGN_PEER,
            Self::CreateTopic(_) => number::CREATE_TOPIC,
            Self::DeleteTopic { .. } => number::DELETE_TOPIC,
            Self::AddPartitions { .. } => number::ADD_PARTITIONS,
            Self::ChangeConfigs { .. } => number::CHANGE_CONFIGS,
            Self::AllocateProducerIds { .. } => number::ALLOCATE_PRODUCER_IDS,
            Self::SetFeature { .. } => number::SET_FEATURE,
            Self::AddAcl(_) => number::ADD_ACL,
            Self::RemoveAcl(_) => number::REMOVE_ACL,
            Self::SetScram { .. } => number::SET_SCRAM,
            Self::SetLoginSecret { .. } => number::SET_LOGIN_SECRET,
            Self::SetReplicas { .. } => number::SET_REPLICAS,
            Self::MoveReplicas { .. } => number::MOVE_REPLICAS,
        }
    }

    /// The record's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.u16(self.number()).u8(newest_version(self.number()));
        match self {
            Self::FormCluster { cluster_id } => {
                to.text(cluster_id);
            }
            Self::RegisterNode(node) => node.write(&mut to),
            Self::RemoveNode { node } => {
                to.i32(node.0);
            }
            Self::AssignPeer(peer) => peer.write(&mut to),
            Self::CreateTopic(topic) => topic.write(&mut to),
            Self::DeleteTopic { id } => {
                to.uuid(id.0);
            }
            Self::AddPartitions { id, first, partitions } => {
                to.uuid(id.0).i32(*first);
                write_partitions(partitions, &mut to);
            }
            Self::ChangeConfigs { owner, changes } => {
                owner.write(&mut to);
                to.list(changes.iter(), |to, (name, value)| {
                    to.text(name).optional_text(value.as_deref());
                });
            }
            Self::AllocateProducerIds { node, next } => {
                to.i32(node.0).i64(next.0);
            }
            Self::SetFeature { name, level } => {
                to.text(name).i16(*level);
            }
            Self::AddAcl(acl) | Self::RemoveAcl(acl) => write_acl(acl, &mut to),
            Self::SetScram { user, mechanism, credential } => {
                write_scram_key(user, *mechanism, &mut to);
                to.u8(u8::from(credential.is_some()));
                if let Some(credential) = credential {
                    write_credential(credential, &mut to);
                }
            }
            Self::SetLoginSecret { secret } => {
                to.bytes(secret);
            }
            Self::SetReplicas { id, replicas } => {
                to.uuid(id.0);
                to.list(replicas.iter(), |to, (partition, replicas)| {
                    write_nodes(replicas, to.i32(*partition));
                });
            }
            Self::MoveReplicas { id, replicas, moving, since } => {
                to.uuid(id.topic.0).i32(id.partition);
                write_mark(*since, &mut to);
                write_nodes(replicas, &mut to);
                Move::write(moving.as_ref(), &mut to);
            }
        }
        to.0
    }

    /// The command of a record's value.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let mut reader = Reader::new(bytes);
        let from = &mut reader;
        let (number, version) = (from.u16("command number")?, from.u8("command version")?);
        let too_new = CommandError::TooNew { number, version };
        if version > newest_version(number) {
            return Err(too_new);
        }
        let command = match number {
            number::FORM_CLUSTER => Self::FormCluster { cluster_id: from.text("cluster id")? },
            number::REGISTER_NODE => Self::RegisterNode(Node::read(from)?),
            number::REMOVE_NODE => Self::RemoveNode { node: NodeId(from.i32("node id")?) },
            number::ASSIGN_PEER => Self::AssignPeer(Peer::read(from)?),
            number::CREATE_TOPIC => Self::CreateTopic(Topic::read(from, version)?),
            number::DELETE_TOPIC => Self::DeleteTopic { id: TopicId(from.uuid("topic id")?) },
            number::ADD_PARTITIONS => Self::AddPartitions {
                id: TopicId(from.uuid("topic id")?),
                first: from.i32("partition")?,
                partitions: read_partitions(from, version)?,
            },
            number::CHANGE_CONFIGS => Self::ChangeConfigs {
                owner: ConfigOwner::read(from)?,
                changes: from.list("changes", |from| Ok((from.text("setting")?, from.optional_text("value")?)))?,
            },
            number::ALLOCATE_PRODUCER_IDS => Self::AllocateProducerIds {
                node: NodeId(from.i32("node id")?),
                next: ProducerId(from.i64("producer id")?),
            },
            number::ADD_ACL => Self::AddAcl(read_acl(from)?),
            number::REMOVE_ACL => Self::RemoveAcl(read_acl(from)?),
            number::SET_SCRAM => {
                let (user, mechanism) = read_scram_key(from)?;
                let credential = if from.u8("is set")? == 1 { Some(read_credential(from)?) } else { None };
                Self::SetScram { user, mechanism, credential }
            }
            number::SET_LOGIN_SECRET => Self::SetLoginSecret { secret: from.bytes("secret")? },
            number::SET_FEATURE => Self::SetFeature { name: from.text("feature")?, level: from.i16("level")? },
            number::SET_REPLICAS => Self::SetReplicas {
                id: TopicId(from.uuid("topic id")?),
                replicas: from.list("partitions", |from| {
                    let partition = from.i32("partition")?;
                    Ok((partition, read_nodes(from)?))
                })?,
            },
            number::MOVE_REPLICAS => Self::MoveReplicas {
                id: PartitionId { topic: TopicId(from.uuid("topic id")?), partition: from.i32("partition")? },
                since: read_mark(from)?,
                replicas: read_nodes(from)?,
                moving: Move::read(from)?,
            },
            _ => return Err(too_new),
        };
        reader.end()?;
        Ok(command)
    }
}
