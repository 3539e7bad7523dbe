//! OffsetCommit (key 8), versions 2 to 10, for both sides.
//!
//! Ours because `kafka-protocol` lacks version 10, which names topics by id. One set of types serves all versions.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::decode::{Decode, DecodeError, RequestBody, reader};
use super::encode::{Encode, EncodeError, writer};
use super::place::{TopicRef, read_topic, write_topic};
use super::shape;

const KEY: i16 = 8;
/// From this version on topics go by id.
const TOPIC_ID_FROM: i16 = 10;

/// Offsets that a member of a group, or someone who moves them, wants kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetCommitRequest {
    pub group_id: StrBytes,
    /// -1: not a member's commit.
    pub generation_id_or_member_epoch: i32,
    /// Empty: not a member's commit.
    pub member_id: StrBytes,
    /// From version 7.
    pub group_instance_id: Option<StrBytes>,
    /// How long to keep the offsets, in milliseconds; -1: as configured. Versions 2 to 4.
    pub retention_time_ms: i64,
    pub topics: Vec<OffsetCommitTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitTopic {
    pub topic: TopicRef,
    pub partitions: Vec<OffsetCommitPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitPartition {
    pub index: i32,
    pub committed_offset: i64,
    /// Epoch of the record before; -1: unknown. From version 6.
    pub committed_leader_epoch: i32,
    pub committed_metadata: Option<StrBytes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetCommitResponse {
    /// From version 3.
    pub throttle_time_ms: i32,
    /// Topics in the request's terms: by name or by id.
    pub topics: Vec<OffsetCommitTopicResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitTopicResponse {
    pub topic: TopicRef,
    pub partitions: Vec<OffsetCommitPartitionResponse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetCommitPartitionResponse {
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
}

impl RequestBody for OffsetCommitRequest {
    const KEY: i16 = KEY;
    type Response = OffsetCommitResponse;
}

impl Decode for OffsetCommitRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        let reader = &mut reader;
        let request = Self {
            group_id: reader.string()?,
            generation_id_or_member_epoch: reader.i32()?,
            member_id: reader.string()?,
            group_instance_id: if version >= 7 { reader.nullable_string()? } else { None },
            retention_time_ms: if version <= 4 { reader.i64()? } else { -1 },
            topics: reader.array(|reader| {
                let (topic, partitions) = read_topic(reader, version >= TOPIC_ID_FROM, |reader| {
                    let partition = OffsetCommitPartition {
                        index: reader.i32()?,
                        committed_offset: reader.i64()?,
                        committed_leader_epoch: if version >= 6 { reader.i32()? } else { -1 },
                        committed_metadata: reader.nullable_string()?,
                    };
                    reader.skip_tags()?;
                    Ok(partition)
                })?;
                Ok(OffsetCommitTopic { topic, partitions })
            })?,
        };
        reader.skip_tags()?;
        Ok(request)
    }
}

impl Encode for OffsetCommitRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(KEY), KEY, version, buf)?;
        fields.string(&self.group_id)?;
        fields.i32(self.generation_id_or_member_epoch);
        fields.string(&self.member_id)?;
        if version >= 7 {
            fields.nullable_string(self.group_instance_id.as_deref())?;
        } else if self.group_instance_id.is_some() {
            return Err(EncodeError::Field("a group instance id"));
        }
        if version <= 4 {
            fields.i64(self.retention_time_ms);
        }
        fields.array(&self.topics, |fields, topic| {
            write_topic(fields, version >= TOPIC_ID_FROM, &topic.topic, &topic.partitions, |fields, partition| {
                fields.i32(partition.index);
                fields.i64(partition.committed_offset);
                if version >= 6 {
                    fields.i32(partition.committed_leader_epoch);
                }
                fields.nullable_string(partition.committed_metadata.as_deref())?;
                fields.no_tags();
                Ok(())
            })
        })?;
        fields.no_tags();
        Ok(())
    }
}

impl Decode for OffsetCommitResponse {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::response(KEY), KEY, version, &body)?;
        let throttle_time_ms = if version >= 3 { reader.i32()? } else { 0 };
        let topics = reader.array(|reader| {
            let (topic, partitions) = read_topic(reader, version >= TOPIC_ID_FROM, |reader| {
                let partition = OffsetCommitPartitionResponse { index: reader.i32()?, error_code: reader.i16()? };
                reader.skip_tags()?;
                Ok(partition)
            })?;
            Ok(OffsetCommitTopicResponse { topic, partitions })
        })?;
        reader.skip_tags()?;
        Ok(Self { throttle_time_ms, topics })
    }
}

impl Encode for OffsetCommitResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(KEY), KEY, version, buf)?;
        if version >= 3 {
            fields.i32(self.throttle_time_ms);
        }
        fields.array(&self.topics, |fields, topic| {
            write_topic(fields, version >= TOPIC_ID_FROM, &topic.topic, &topic.partitions, |fields, partition| {
                fields.i32(partition.index);
                fields.i16(partition.error_code);
                fields.no_tags();
                Ok(())
            })
        })?;
        fields.no_tags();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;

    use super::super::samples::{check_codec, check_codec_beyond_the_crate};
    use super::*;

    #[test]
    fn it_reads_and_writes_as_the_crate_does() {
        check_codec::<OffsetCommitRequest, messages::OffsetCommitRequest>(shape::request(KEY));
        check_codec::<OffsetCommitResponse, messages::OffsetCommitResponse>(shape::response(KEY));
    }

    #[test]
    fn version_10_names_topics_by_id() {
        check_codec_beyond_the_crate::<OffsetCommitRequest>(shape::request(KEY), 10);
        check_codec_beyond_the_crate::<OffsetCommitResponse>(shape::response(KEY), 10);
    }
}
