//! Where things are, as several messages say it: a topic by name or id, a partition's leader, a node's address.

use bytes::BytesMut;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::encode::EncodeError;
use super::reader::{Malformed, Reader};
use super::writer::{Writer, tag_value};

/// A topic as a message names it: by name in older versions, by id in newer ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// As sent: may be no legal topic name.
    Name(StrBytes),
    /// As sent: may be zero or unknown.
    Id(Uuid),
}

impl TopicRef {
    pub(super) fn read(reader: &mut Reader<'_>, by_id: bool) -> Result<Self, Malformed> {
        Ok(if by_id { Self::Id(reader.uuid()?) } else { Self::Name(reader.string()?) })
    }

    /// Refuses the kind that the version does not have: another topic would be answered than was asked for.
    pub(super) fn write(&self, fields: &mut Writer<'_>, by_id: bool) -> Result<(), EncodeError> {
        match self {
            Self::Id(id) if by_id => fields.uuid(*id),
            Self::Name(name) if !by_id => fields.string(name)?,
            Self::Id(_) => return Err(EncodeError::Field("a topic id")),
            Self::Name(_) => return Err(EncodeError::Field("a topic name")),
        }
        Ok(())
    }
}

/// A topic and an array of what is said of its partitions; `partition` reads one.
pub(super) fn read_topic<T>(
    reader: &mut Reader<'_>,
    by_id: bool,
    partition: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<(TopicRef, Vec<T>), Malformed> {
    let topic = TopicRef::read(reader, by_id)?;
    let partitions = reader.array(partition)?;
    reader.skip_tags()?;
    Ok((topic, partitions))
}

pub(super) fn write_topic<T>(
    fields: &mut Writer<'_>,
    by_id: bool,
    topic: &TopicRef,
    partitions: &[T],
    partition: impl FnMut(&mut Writer<'_>, &T) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    topic.write(fields, by_id)?;
    fields.array(partitions, partition)?;
    fields.no_tags();
    Ok(())
}

/// A partition's leader as far as the answering broker knows (KIP-951), so that a client need not ask for metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLeader {
    /// Node id; -1: unknown.
    pub leader_id: i32,
    /// -1: unknown.
    pub leader_epoch: i32,
}

impl CurrentLeader {
    /// Where it is no tagged field: Kafka's defaults stand for none.
    pub(super) fn write_or_none(leader: Option<Self>, fields: &mut Writer<'_>) {
        let leader = leader.unwrap_or(Self { leader_id: 0, leader_epoch: 0 });
        fields.i32(leader.leader_id);
        fields.i32(leader.leader_epoch);
        fields.no_tags();
    }

    pub(super) fn tag_value(&self) -> Result<BytesMut, EncodeError> {
        tag_value(|fields| {
            fields.i32(self.leader_id);
            fields.i32(self.leader_epoch);
            fields.no_tags();
            Ok(())
        })
    }
}

/// Address of a node that a `CurrentLeader` names (KIP-951), for the listener that the request came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: StrBytes,
    pub port: i32,
    pub rack: Option<StrBytes>,
}

impl NodeEndpoint {
    /// The tagged array, or nothing to write when it is empty.
    pub(super) fn tag_value(endpoints: &[Self]) -> Result<Option<BytesMut>, EncodeError> {
        if endpoints.is_empty() {
            return Ok(None);
        }
        let value = tag_value(|fields| Self::write_all(endpoints, fields))?;
        Ok(Some(value))
    }

    /// Where it is no tagged field.
    pub(super) fn write_all(endpoints: &[Self], fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.array(endpoints, |fields, endpoint| {
            fields.i32(endpoint.node_id);
            fields.string(&endpoint.host)?;
            fields.i32(endpoint.port);
            fields.nullable_string(endpoint.rack.as_deref())?;
            fields.no_tags();
            Ok(())
        })
    }
}
