//! OffsetFetch (key 9), versions 1 to 10, for both sides.
//!
//! Ours because `kafka-protocol` lacks version 10, which names topics by id. One set of types serves all versions.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

use super::decode::{Decode, DecodeError, RequestBody, reader};
use super::encode::{Encode, EncodeError, writer};
use super::place::{TopicRef, read_topic, write_topic};
use super::reader::{Fault, Malformed, Reader};
use super::shape;
use super::writer::Writer;

const KEY: i16 = 9;
/// From this version on topics go by id.
const TOPIC_ID_FROM: i16 = 10;
/// Versions before ask for one group, without saying so in an array.
const GROUPS_FROM: i16 = 8;

/// Asks for committed offsets. Up to version 7 of exactly one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetFetchRequest {
    pub groups: Vec<OffsetFetchGroup>,
    /// Refuse rather than show offsets that a transaction may still change. From version 7.
    pub require_stable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchGroup {
    pub group_id: StrBytes,
    /// From version 9; `None` asks as no member.
    pub member_id: Option<StrBytes>,
    /// From version 9; -1 asks as no member.
    pub member_epoch: i32,
    /// `None` (from version 2) asks for all topics.
    pub topics: Option<Vec<OffsetFetchTopic>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchTopic {
    pub topic: TopicRef,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetFetchResponse {
    /// From version 3.
    pub throttle_time_ms: i32,
    /// In the request's order. Up to version 7 exactly one; its id is then not sent.
    pub groups: Vec<OffsetFetchGroupResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchGroupResponse {
    pub group_id: StrBytes,
    pub topics: Vec<OffsetFetchTopicResponse>,
    /// Kafka's error code, 0 for none. Version 1 has none: it goes to every partition instead, if there is one.
    pub error_code: i16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchTopicResponse {
    pub topic: TopicRef,
    pub partitions: Vec<OffsetFetchPartitionResponse>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchPartitionResponse {
    pub index: i32,
    /// -1: none.
    pub committed_offset: i64,
    /// -1: unknown. From version 5.
    pub committed_leader_epoch: i32,
    pub metadata: Option<StrBytes>,
    pub error_code: i16,
}

impl RequestBody for OffsetFetchRequest {
    const KEY: i16 = KEY;
    type Response = OffsetFetchResponse;
}

fn read_fetch_topics(reader: &mut Reader<'_>, version: i16) -> Result<Option<Vec<OffsetFetchTopic>>, Malformed> {
    let topics = reader.nullable_array(|reader| {
        let (topic, partitions) = read_topic(reader, version >= TOPIC_ID_FROM, |reader| reader.i32())?;
        Ok(OffsetFetchTopic { topic, partitions })
    })?;
    match topics {
        None if version < 2 => reader.fail(Fault::Null),
        topics => Ok(topics),
    }
}

fn write_fetch_topics(
    fields: &mut Writer<'_>,
    version: i16,
    topics: Option<&[OffsetFetchTopic]>,
) -> Result<(), EncodeError> {
    if version < 2 && topics.is_none() {
        return Err(EncodeError::Field("all topics"));
    }
    fields.nullable_len(topics.map(<[_]>::len))?;
    for topic in topics.unwrap_or_default() {
        write_topic(fields, version >= TOPIC_ID_FROM, &topic.topic, &topic.partitions, |fields, partition| {
            fields.i32(*partition);
            Ok(())
        })?;
    }
    Ok(())
}

impl Decode for OffsetFetchRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        let reader = &mut reader;
        let groups = if version >= GROUPS_FROM {
            reader.array(|reader| {
                let group_id = reader.string()?;
                let (member_id, member_epoch) =
                    if version >= 9 { (reader.nullable_string()?, reader.i32()?) } else { (None, -1) };
                let topics = read_fetch_topics(reader, version)?;
                reader.skip_tags()?;
                Ok(OffsetFetchGroup { group_id, member_id, member_epoch, topics })
            })?
        } else {
            let group_id = reader.string()?;
            let topics = read_fetch_topics(reader, version)?;
            vec![OffsetFetchGroup { group_id, member_id: None, member_epoch: -1, topics }]
        };
        let require_stable = if version >= 7 { reader.bool()? } else { false };
        reader.skip_tags()?;
        Ok(Self { groups, require_stable })
    }
}

impl Encode for OffsetFetchRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(KEY), KEY, version, buf)?;
        if version >= GROUPS_FROM {
            fields.array(&self.groups, |fields, group| {
                fields.string(&group.group_id)?;
                if version >= 9 {
                    fields.nullable_string(group.member_id.as_deref())?;
                    fields.i32(group.member_epoch);
                }
                write_fetch_topics(fields, version, group.topics.as_deref())?;
                fields.no_tags();
                Ok(())
            })?;
        } else {
            let [group] = &self.groups[..] else { return Err(EncodeError::Field("other than one group")) };
            fields.string(&group.group_id)?;
            write_fetch_topics(&mut fields, version, group.topics.as_deref())?;
        }
        if version >= 7 {
            fields.bool(self.require_stable);
        } else if self.require_stable {
            return Err(EncodeError::Field("require stable"));
        }
        fields.no_tags();
        Ok(())
    }
}

fn read_fetched_topics(reader: &mut Reader<'_>, version: i16) -> Result<Vec<OffsetFetchTopicResponse>, Malformed> {
    reader.array(|reader| {
        let (topic, partitions) = read_topic(reader, version >= TOPIC_ID_FROM, |reader| {
            let partition = OffsetFetchPartitionResponse {
                index: reader.i32()?,
                committed_offset: reader.i64()?,
                committed_leader_epoch: if version >= 5 { reader.i32()? } else { -1 },
                metadata: reader.nullable_string()?,
                error_code: reader.i16()?,
            };
            reader.skip_tags()?;
            Ok(partition)
        })?;
        Ok(OffsetFetchTopicResponse { topic, partitions })
    })
}

impl OffsetFetchGroupResponse {
    fn write_topics(&self, fields: &mut Writer<'_>, version: i16) -> Result<(), EncodeError> {
        // Version 1 has no place for the group's error.
        let group_error = if version < 2 { self.error_code } else { 0 };
        fields.array(&self.topics, |fields, topic| {
            write_topic(fields, version >= TOPIC_ID_FROM, &topic.topic, &topic.partitions, |fields, partition| {
                fields.i32(partition.index);
                fields.i64(partition.committed_offset);
                if version >= 5 {
                    fields.i32(partition.committed_leader_epoch);
                }
                fields.nullable_string(partition.metadata.as_deref())?;
                fields.i16(if group_error != 0 { group_error } else { partition.error_code });
                fields.no_tags();
                Ok(())
            })
        })
    }
}

impl Decode for OffsetFetchResponse {
    const GUARDED: bool = true;

    /// Up to version 7 the one group's id is empty.
    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::response(KEY), KEY, version, &body)?;
        let reader = &mut reader;
        let throttle_time_ms = if version >= 3 { reader.i32()? } else { 0 };
        let groups = if version >= GROUPS_FROM {
            reader.array(|reader| {
                let group_id = reader.string()?;
                let topics = read_fetched_topics(reader, version)?;
                let error_code = reader.i16()?;
                reader.skip_tags()?;
                Ok(OffsetFetchGroupResponse { group_id, topics, error_code })
            })?
        } else {
            let topics = read_fetched_topics(reader, version)?;
            let error_code = if version >= 2 { reader.i16()? } else { 0 };
            vec![OffsetFetchGroupResponse { group_id: StrBytes::default(), topics, error_code }]
        };
        reader.skip_tags()?;
        Ok(Self { throttle_time_ms, groups })
    }
}

impl Encode for OffsetFetchResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(KEY), KEY, version, buf)?;
        if version >= 3 {
            fields.i32(self.throttle_time_ms);
        }
        if version >= GROUPS_FROM {
            fields.array(&self.groups, |fields, group| {
                fields.string(&group.group_id)?;
                group.write_topics(fields, version)?;
                fields.i16(group.error_code);
                fields.no_tags();
                Ok(())
            })?;
        } else {
            let [group] = &self.groups[..] else { return Err(EncodeError::Field("other than one group")) };
            group.write_topics(&mut fields, version)?;
            if version >= 2 {
                fields.i16(group.error_code);
            }
        }
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
        check_codec::<OffsetFetchRequest, messages::OffsetFetchRequest>(shape::request(KEY));
        check_codec::<OffsetFetchResponse, messages::OffsetFetchResponse>(shape::response(KEY));
    }

    #[test]
    fn version_10_names_topics_by_id() {
        check_codec_beyond_the_crate::<OffsetFetchRequest>(shape::request(KEY), 10);
        check_codec_beyond_the_crate::<OffsetFetchResponse>(shape::response(KEY), 10);
    }
}
