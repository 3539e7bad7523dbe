//! Produce (key 0), versions 3 to 13. The records of a request are slices of its frame, not copies.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::decode::{Decode, DecodeError, RequestBody, reader};
use super::encode::{Encode, EncodeError, writer};
use super::place::{CurrentLeader, NodeEndpoint, TopicRef};
use super::reader::{Malformed, Reader};
use super::shape;
use super::writer::Writer;

const KEY: i16 = 0;
/// From this version on topics go by id.
const TOPIC_ID_FROM: i16 = 13;
/// From this version on a response names the leader in tags (KIP-951).
const LEADER_FROM: i16 = 10;
/// From this version on a response says which records are wrong (KIP-467).
const RECORD_ERRORS_FROM: i16 = 8;
const LOG_START_OFFSET_FROM: i16 = 5;

/// What a producer wants appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    pub transactional_id: Option<StrBytes>,
    /// -1: all in sync, 0: no answer, 1: the leader. Any other number may stand here.
    pub acks: i16,
    /// How long to wait for the acknowledgements, in milliseconds.
    pub timeout_ms: i32,
    pub topics: Vec<ProduceTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    pub topic: TopicRef,
    pub partitions: Vec<ProducePartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    pub index: i32,
    /// Record batches as sent, unchecked; `None` when null was sent.
    pub records: Option<Bytes>,
}

impl RequestBody for ProduceRequest {
    const KEY: i16 = KEY;
    // A client reads it by the crate: speed matters on the broker.
    type Response = kafka_protocol::messages::ProduceResponse;
}

impl Decode for ProduceRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        Ok(Self::read(&mut reader, version >= TOPIC_ID_FROM)?)
    }
}

impl ProduceRequest {
    fn read(reader: &mut Reader<'_>, by_id: bool) -> Result<Self, Malformed> {
        let transactional_id = reader.nullable_string()?;
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        let topics = reader.array(|reader| {
            let topic = TopicRef::read(reader, by_id)?;
            let partitions = reader.array(|reader| {
                let partition = ProducePartition { index: reader.i32()?, records: reader.nullable_bytes()? };
                reader.skip_tags()?;
                Ok(partition)
            })?;
            reader.skip_tags()?;
            Ok(ProduceTopic { topic, partitions })
        })?;
        reader.skip_tags()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }
}

/// What became of it. Fields that a version lacks are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// Topics in the request's terms: by name or by id.
    pub topics: Vec<ProduceTopicResponse>,
    pub throttle_time_ms: i32,
    /// Addresses of the leaders that partitions name; from version 10.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    pub topic: TopicRef,
    pub partitions: Vec<ProducePartitionResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// Offset of the first record; -1 on an error.
    pub base_offset: i64,
    /// Set where the topic takes the broker's time; -1 otherwise.
    pub log_append_time_ms: i64,
    /// First offset of the partition; from version 5. -1 on an error.
    pub log_start_offset: i64,
    /// The records that made the batch be refused; from version 8.
    pub record_errors: Vec<RecordError>,
    /// From version 8.
    pub error_message: Option<StrBytes>,
    /// For NOT_LEADER_OR_FOLLOWER; from version 10.
    pub current_leader: Option<CurrentLeader>,
}

/// A record that is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Place in the batch, from 0.
    pub batch_index: i32,
    pub message: Option<StrBytes>,
}

impl Encode for ProduceResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(KEY), KEY, version, buf)?;
        fields.array(&self.topics, |fields, topic| {
            topic.topic.write(fields, version >= TOPIC_ID_FROM)?;
            fields.array(&topic.partitions, |fields, partition| partition.write(fields, version))?;
            fields.no_tags();
            Ok(())
        })?;
        fields.i32(self.throttle_time_ms);
        match NodeEndpoint::tag_value(&self.node_endpoints)? {
            Some(endpoints) if version >= LEADER_FROM => fields.tags(&[(0, endpoints)]),
            _ => {
                fields.no_tags();
                Ok(())
            }
        }
    }
}

impl ProducePartitionResponse {
    fn write(&self, fields: &mut Writer<'_>, version: i16) -> Result<(), EncodeError> {
        fields.i32(self.index);
        fields.i16(self.error_code);
        fields.i64(self.base_offset);
        fields.i64(self.log_append_time_ms);
        if version >= LOG_START_OFFSET_FROM {
            fields.i64(self.log_start_offset);
        }
        if version >= RECORD_ERRORS_FROM {
            fields.array(&self.record_errors, |fields, error| {
                fields.i32(error.batch_index);
                fields.nullable_string(error.message.as_deref())?;
                fields.no_tags();
                Ok(())
            })?;
            fields.nullable_string(self.error_message.as_deref())?;
        }
        match &self.current_leader {
            Some(leader) if version >= LEADER_FROM => fields.tags(&[(0, leader.tag_value()?)]),
            _ => {
                fields.no_tags();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
