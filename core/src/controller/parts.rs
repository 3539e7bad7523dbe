//! What metadata is made of: nodes, topics, partitions.

use std::sync::Arc;

use super::Image;
use super::wire::{Reader, WireError, Writer};
use crate::config::ConfigMap;
use crate::types::{DirectoryId, LogMark, NodeId, PeerId, RaftIndex, RaftTerm, TopicId, TopicName};

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    pub replicas: Vec<NodeId>,
    /// The voters that its raft group is born with. They stay whatever becomes of the replicas: each of them opens the
    /// group with all of them, however late, and on whatever disk its node is then.
    pub peers: Vec<PeerId>,
    /// Counts the changes of the replicas: what a leader says of its group's members is of one of them.
    pub moves: u64,
    /// The group is not known to consist of the replicas yet.
    pub moving: Option<Move>,
    /// The entry of the group's log that settled its members after the last move, and the term of the leader that said so.
    /// A replica whose log ends before that may know nothing of a move, nor what it promised before it was deleted.
    pub since: LogMark,
}

/// A move of replicas that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// The replicas that a cancel goes back to; `None`: it was cancelled.
    pub from: Option<Vec<NodeId>>,
    /// Nodes that keep their replica until the group is without them, by id.
    pub leaving: Vec<NodeId>,
}

impl Partition {
    /// A partition that comes into being on these nodes, with the disks that they have now.
    pub fn born(replicas: Vec<NodeId>, image: &Image) -> Self {
        let peers = replicas.iter().filter_map(|node| image.peer_of_node(*node)).collect();
        Self { replicas, peers, ..Self::default() }
    }

    /// Whether a node has a replica, for now at least.
    pub fn is_on(&self, node: NodeId) -> bool {
        self.replicas.contains(&node) || self.moving.as_ref().is_some_and(|moving| moving.leaving.contains(&node))
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

/// In version 2.
pub(super) fn write_partitions(partitions: &[Partition], to: &mut Writer) {
    to.list(partitions.iter(), |to, partition| {
        write_nodes(&partition.replicas, to);
        to.list(partition.peers.iter(), |to, peer| {
            to.u64(peer.0);
        });
        to.u64(partition.moves);
        write_mark(partition.since, to);
        Move::write(partition.moving.as_ref(), to);
    });
}

pub(super) fn write_nodes(nodes: &[NodeId], to: &mut Writer) {
    to.list(nodes.iter(), |to, node| {
        to.i32(node.0);
    });
}

pub(super) fn read_nodes(from: &mut Reader<'_>) -> Result<Vec<NodeId>, WireError> {
    from.list("replicas", |from| Ok(NodeId(from.i32("node id")?)))
}

pub(super) fn write_mark(LogMark { term, index }: LogMark, to: &mut Writer) {
    to.u64(term.0).u64(index.0);
}

pub(super) fn read_mark(from: &mut Reader<'_>) -> Result<LogMark, WireError> {
    Ok(LogMark { term: RaftTerm(from.u64("term")?), index: RaftIndex(from.u64("index")?) })
}

impl Move {
    /// A byte first: 0 there is none, 1 it was cancelled, 2 it goes on.
    pub(super) fn write(moving: Option<&Self>, to: &mut Writer) {
        let Some(Self { from, leaving }) = moving else {
            to.u8(0);
            return;
        };
        to.u8(if from.is_some() { 2 } else { 1 });
        from.iter().for_each(|from| write_nodes(from, to));
        write_nodes(leaving, to);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, WireError> {
        let kind = reader.u8("move")?;
        let kind = reader.checked((kind <= 2).then_some(kind), "move")?;
        if kind == 0 {
            return Ok(None);
        }
        let from = if kind == 2 { Some(read_nodes(reader)?) } else { None };
        Ok(Some(Self { from, leaving: read_nodes(reader)? }))
    }
}

/// Version 0 is of clusters of one node, whose disk was the first; version 1 of those in which nothing moved.
pub(super) fn read_partitions(from: &mut Reader<'_>, version: u8) -> Result<Vec<Partition>, WireError> {
    from.list("partitions", |from| {
        let replicas = read_nodes(from)?;
        let peers = match version {
            0 => vec![PeerId(1)],
            _ => from.list("peers", |from| Ok(PeerId(from.u64("peer id")?)))?,
        };
        let born = Partition { replicas, peers, ..Partition::default() };
        Ok(match version {
            0 | 1 => born,
            _ => Partition { moves: from.u64("moves")?, since: read_mark(from)?, moving: Move::read(from)?, ..born },
        })
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
