//! What metadata is made of: nodes, topics, partitions.

use std::sync::Arc;

use super::Image;
use super::wire::{Reader, WireError, Writer};
use crate::config::ConfigMap;
use crate::types::{DirectoryId, NodeId, PeerId, TopicId, TopicName};

/// An address that clients are told for one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, as `PLAINTEXT`.
    pub listener: String,
    pub host: String,
    pub port: u16,
    /// Kafka's number of the security protocol (`SecurityProtocol`): 0 plaintext, 1 TLS, 2 SASL, 3 SASL over TLS.
    pub protocol: i16,
}

/// The levels of a feature that a node can work with, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureRange {
    pub name: String,
    pub min: i16,
    pub max: i16,
}

/// What a node says of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub directory: DirectoryId,
    pub rack: Option<String>,
    pub endpoints: Vec<Endpoint>,
    /// Where the other nodes reach it.
    pub rpc_address: String,
    pub features: Vec<FeatureRange>,
}

/// A peer id and the disk it stands for, given once and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: PeerId,
    pub node: NodeId,
    pub directory: DirectoryId,
}

/// Where the replicas of one partition should be, the preferred leader first. Where they are, its raft group knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub replicas: Vec<NodeId>,
    /// The voters that its raft group is born with. They stay whatever becomes of the replicas: each of them opens the
    /// group with all of them, however late, and on whatever disk its node is then.
    pub peers: Vec<PeerId>,
}

impl Partition {
    /// A partition that comes into being on these nodes, with the disks that they have now.
    pub fn born(replicas: Vec<NodeId>, image: &Image) -> Self {
        let peers = replicas.iter().filter_map(|node| image.peer_of_node(*node)).collect();
        Self { replicas, peers }
    }
}

/// A topic: partitions are numbered from 0 by their place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub partitions: Vec<Partition>,
    /// Settings of its own; shared, since they outlive changes of partitions.
    pub configs: Arc<ConfigMap>,
}

/// What settings belong to, topics by their id. The numbers are on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigOwner {
    Topic(TopicId),
    AllBrokers,
    Broker(NodeId),
    Group(String),
    ClientMetrics(String),
}

impl ConfigOwner {
    pub(super) fn write(&self, to: &mut Writer) {
        match self {
            Self::Topic(id) => to.u8(1).uuid(id.0),
            Self::AllBrokers => to.u8(2),
            Self::Broker(id) => to.u8(3).i32(id.0),
            Self::Group(name) => to.u8(4).text(name),
            Self::ClientMetrics(name) => to.u8(5).text(name),
        };
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
        let owner = match from.u8("config owner")? {
            1 => Some(Self::Topic(TopicId(from.uuid("topic id")?))),
            2 => Some(Self::AllBrokers),
            3 => Some(Self::Broker(NodeId(from.i32("node id")?))),
            4 => Some(Self::Group(from.text("group")?)),
            5 => Some(Self::ClientMetrics(from.text("subscription")?)),
            _ => None,
        };
        from.checked(owner, "config owner")
    }
}

impl Node {
    pub(super) fn write(&self, to: &mut Writer) {
        to.i32(self.id.0).uuid(self.directory.0).optional_text(self.rack.as_deref());
        to.list(self.endpoints.iter(), |to, endpoint| {
            to.text(&endpoint.listener).text(&endpoint.host).u16(endpoint.port).i16(endpoint.protocol);
        });
        to.text(&self.rpc_address);
        to.list(self.features.iter(), |to, feature| {
            to.text(&feature.name).i16(feature.min).i16(feature.max);
        });
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            id: NodeId(from.i32("node id")?),
            directory: DirectoryId(from.uuid("directory id")?),
            rack: from.optional_text("rack")?,
            endpoints: from.list("endpoints", |from| {
                Ok(Endpoint {
                    listener: from.text("listener")?,
                    host: from.text("host")?,
                    port: from.u16("port")?,
                    protocol: from.i16("protocol")?,
                })
            })?,
            rpc_address: from.text("rpc address")?,
            features: from.list("features", |from| {
                Ok(FeatureRange { name: from.text("feature")?, min: from.i16("level")?, max: from.i16("level")? })
            })?,
        })
    }
}

impl Peer {
    pub(super) fn write(&self, to: &mut Writer) {
        to.u64(self.id.0).i32(self.node.0).uuid(self.directory.0);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            id: PeerId(from.u64("peer id")?),
            node: NodeId(from.i32("node id")?),
            directory: DirectoryId(from.uuid("directory id")?),
        })
    }
}

impl Topic {
    pub(super) fn write(&self, to: &mut Writer) {
        to.uuid(self.id.0).text(self.name.as_str());
        write_partitions(&self.partitions, to);
        write_configs(&self.configs, to);
    }

    pub(super) fn read(from: &mut Reader<'_>, version: u8) -> Result<Self, WireError> {
        let id = TopicId(from.uuid("topic id")?);
        let name = TopicName::new(&from.text("topic name")?).ok();
        Ok(Self {
            id,
            name: from.checked(name, "topic name")?,
            partitions: read_partitions(from, version)?,
            configs: Arc::new(read_configs(from)?),
        })
    }
}

/// In version 1.
pub(super) fn write_partitions(partitions: &[Partition], to: &mut Writer) {
    to.list(partitions.iter(), |to, partition| {
        to.list(partition.replicas.iter(), |to, node| {
            to.i32(node.0);
        });
        to.list(partition.peers.iter(), |to, peer| {
            to.u64(peer.0);
        });
    });
}

/// Version 0 is of clusters of one node, whose disk was the first.
pub(super) fn read_partitions(from: &mut Reader<'_>, version: u8) -> Result<Vec<Partition>, WireError> {
    from.list("partitions", |from| {
        let replicas = from.list("replicas", |from| Ok(NodeId(from.i32("node id")?)))?;
        let peers = match version {
            0 => vec![PeerId(1)],
            _ => from.list("peers", |from| Ok(PeerId(from.u64("peer id")?)))?,
        };
        Ok(Partition { replicas, peers })
    })
}

pub(super) fn write_configs(configs: &ConfigMap, to: &mut Writer) {
    to.list(configs.iter(), |to, (name, value)| {
        to.text(name).text(value);
    });
}

pub(super) fn read_configs(from: &mut Reader<'_>) -> Result<ConfigMap, WireError> {
    let pairs = from.list("settings", |from| Ok((from.text("setting")?, from.text("value")?)))?;
    Ok(pairs.into_iter().collect())
}
