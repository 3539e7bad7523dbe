//! StreamsGroupHeartbeat (key 88) and StreamsGroupDescribe (key 89), version 0, and what both speak of.
//!
//! Ours because `kafka-protocol` lacks them (KIP-1071).

mod describe;
mod heartbeat;

use kafka_protocol::protocol::StrBytes;

use super::encode::EncodeError;
use super::reader::{Malformed, Reader};
use super::writer::Writer;

pub use describe::{
    Assignment, DescribedGroup, DescribedMember, DescribedSubtopology, DescribedTopology, StreamsGroupDescribeRequest,
    StreamsGroupDescribeResponse,
};
pub use heartbeat::{
    CopartitionGroup, EndpointToPartitions, Status, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse,
    Subtopology, Topology,
};

/// A setting of a topic, or a tag of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    pub key: StrBytes,
    pub value: StrBytes,
}

/// A topic that belongs to the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: StrBytes,
    /// 0: as many as come of the topics that are read.
    pub partitions: i32,
    /// 0: the broker's default.
    pub replication_factor: i16,
    pub topic_configs: Vec<KeyValue>,
}

/// Where a process answers queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    pub host: StrBytes,
    pub port: u16,
}

/// Partitions by the name before them: tasks of a subtopology, or partitions of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionsOf {
    pub name: StrBytes,
    pub partitions: Vec<i32>,
}

/// How far a task is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskOffset {
    pub subtopology_id: StrBytes,
    pub partition: i32,
    pub offset: i64,
}

/// A structure that stands in messages of both keys.
trait Part: Sized {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed>;
    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError>;
}

impl Part for KeyValue {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self { key: reader.string()?, value: reader.string()? };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.string(&self.key)?;
        fields.string(&self.value)?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for TopicInfo {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self {
            name: reader.string()?,
            partitions: reader.i32()?,
            replication_factor: reader.i16()?,
            topic_configs: reader.array(KeyValue::read)?,
        };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.string(&self.name)?;
        fields.i32(self.partitions);
        fields.i16(self.replication_factor);
        write_all(fields, &self.topic_configs)?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for Endpoint {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self { host: reader.string()?, port: reader.i16()?.cast_unsigned() };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.string(&self.host)?;
        fields.i16(self.port.cast_signed());
        fields.no_tags();
        Ok(())
    }
}

impl Part for PartitionsOf {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self { name: reader.string()?, partitions: reader.array(|reader| reader.i32())? };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.string(&self.name)?;
        fields.array(&self.partitions, |fields, partition| {
            fields.i32(*partition);
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    }
}

impl Part for TaskOffset {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let part = Self { subtopology_id: reader.string()?, partition: reader.i32()?, offset: reader.i64()? };
        reader.skip_tags()?;
        Ok(part)
    }

    fn write(&self, fields: &mut Writer<'_>) -> Result<(), EncodeError> {
        fields.string(&self.subtopology_id)?;
        fields.i32(self.partition);
        fields.i64(self.offset);
        fields.no_tags();
        Ok(())
    }
}

fn write_all<T: Part>(fields: &mut Writer<'_>, parts: &[T]) -> Result<(), EncodeError> {
    fields.array(parts, |fields, part| part.write(fields))
}

fn write_all_or_null<T: Part>(fields: &mut Writer<'_>, parts: Option<&[T]>) -> Result<(), EncodeError> {
    match parts {
        Some(parts) => write_all(fields, parts),
        None => fields.nullable_len(None),
    }
}

fn read_or_null<T: Part>(reader: &mut Reader<'_>) -> Result<Option<T>, Malformed> {
    reader.nullable_structure(T::read)
}

fn write_or_null<T: Part>(fields: &mut Writer<'_>, part: Option<&T>) -> Result<(), EncodeError> {
    fields.presence(part.is_some());
    part.map_or(Ok(()), |part| part.write(fields))
}

fn read_strings(reader: &mut Reader<'_>) -> Result<Vec<StrBytes>, Malformed> {
    reader.array(|reader| reader.string())
}

fn write_strings(fields: &mut Writer<'_>, strings: &[StrBytes]) -> Result<(), EncodeError> {
    fields.array(strings, |fields, string| fields.string(string))
}

#[cfg(test)]
mod tests;
