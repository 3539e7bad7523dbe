//! DescribeShareGroupOffsets (key 90), versions 0 and 1.
//!
//! Ours because `kafka-protocol` lacks version 1, which tells the lag (KIP-1226).

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::decode::{Decode, DecodeError, RequestBody, reader};
use super::encode::{Encode, EncodeError, writer};
use super::shape;

const KEY: i16 = 90;
/// From this version on the lag is told.
const LAG_FROM: i16 = 1;

/// Where share groups stand is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeShareGroupOffsetsRequest {
    pub groups: Vec<OffsetsOf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetsOf {
    pub group_id: StrBytes,
    /// `None`: all that the group has.
    pub topics: Option<Vec<OffsetsOfTopic>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetsOfTopic {
    pub name: StrBytes,
    pub partitions: Vec<i32>,
}

/// Where share groups stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeShareGroupOffsetsResponse {
    pub groups: Vec<DescribedOffsets>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedOffsets {
    pub group_id: StrBytes,
    pub topics: Vec<DescribedTopicOffsets>,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedTopicOffsets {
    pub name: StrBytes,
    /// Zero: there is no such topic.
    pub id: Uuid,
    pub partitions: Vec<DescribedPartitionOffset>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedPartitionOffset {
    pub index: i32,
    /// -1: none.
    pub start_offset: i64,
    pub leader_epoch: i32,
    /// Records that are not done with; -1: nobody knows. From version 1.
    pub lag: i64,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
}

impl RequestBody for DescribeShareGroupOffsetsRequest {
    const KEY: i16 = KEY;
    type Response = DescribeShareGroupOffsetsResponse;
}

impl Decode for DescribeShareGroupOffsetsRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        let groups = reader.array(|reader| {
            let group_id = reader.string()?;
            let topics = reader.nullable_array(|reader| {
                let topic = OffsetsOfTopic { name: reader.string()?, partitions: reader.array(|r| r.i32())? };
                reader.skip_tags()?;
                Ok(topic)
            })?;
            reader.skip_tags()?;
            Ok(OffsetsOf { group_id, topics })
        })?;
        reader.skip_tags()?;
        Ok(Self { groups })
    }
}

impl Encode for DescribeShareGroupOffsetsRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(KEY), KEY, version, buf)?;
        fields.array(&self.groups, |fields, group| {
            fields.string(&group.group_id)?;
            fields.nullable_len(group.topics.as_ref().map(Vec::len))?;
            for topic in group.topics.iter().flatten() {
                fields.string(&topic.name)?;
                fields.array(&topic.partitions, |fields, index| {
                    fields.i32(*index);
                    Ok(())
                })?;
                fields.no_tags();
            }
            fields.no_tags();
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    }
}

impl Decode for DescribeShareGroupOffsetsResponse {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::response(KEY), KEY, version, &body)?;
        // Throttling.
        reader.i32()?;
        let groups = reader.array(|reader| {
            let group_id = reader.string()?;
            let topics = reader.array(|reader| {
                let (name, id) = (reader.string()?, reader.uuid()?);
                let partitions = reader.array(|reader| {
                    let partition = DescribedPartitionOffset {
                        index: reader.i32()?,
                        start_offset: reader.i64()?,
                        leader_epoch: reader.i32()?,
                        lag: if version >= LAG_FROM { reader.i64()? } else { -1 },
                        error_code: reader.i16()?,
                        error_message: reader.nullable_string()?,
                    };
                    reader.skip_tags()?;
                    Ok(partition)
                })?;
                reader.skip_tags()?;
                Ok(DescribedTopicOffsets { name, id, partitions })
            })?;
            let (error_code, error_message) = (reader.i16()?, reader.nullable_string()?);
            reader.skip_tags()?;
            Ok(DescribedOffsets { group_id, topics, error_code, error_message })
        })?;
        reader.skip_tags()?;
        Ok(Self { groups })
    }
}

impl Encode for DescribeShareGroupOffsetsResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(KEY), KEY, version, buf)?;
        // No throttling.
        fields.i32(0);
        fields.array(&self.groups, |fields, group| {
            fields.string(&group.group_id)?;
            fields.array(&group.topics, |fields, topic| {
                fields.string(&topic.name)?;
                fields.uuid(topic.id);
                fields.array(&topic.partitions, |fields, partition| {
                    fields.i32(partition.index);
                    fields.i64(partition.start_offset);
                    fields.i32(partition.leader_epoch);
                    if version >= LAG_FROM {
                        fields.i64(partition.lag);
                    }
                    fields.i16(partition.error_code);
                    fields.nullable_string(partition.error_message.as_deref())?;
                    fields.no_tags();
                    Ok(())
                })?;
                fields.no_tags();
                Ok(())
            })?;
            fields.i16(group.error_code);
            fields.nullable_string(group.error_message.as_deref())?;
            fields.no_tags();
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages;
    use kafka_protocol::protocol::Decodable;

    use super::super::samples::{check_codec, check_codec_beyond_the_crate};
    use super::*;

    #[test]
    fn version_0_is_the_crates_and_version_1_comes_back() {
        check_codec::<DescribeShareGroupOffsetsRequest, messages::DescribeShareGroupOffsetsRequest>(shape::request(
            KEY,
        ));
        check_codec_beyond_the_crate::<DescribeShareGroupOffsetsRequest>(shape::request(KEY), 1);
        check_codec::<DescribeShareGroupOffsetsResponse, messages::DescribeShareGroupOffsetsResponse>(shape::response(
            KEY,
        ));
        check_codec_beyond_the_crate::<DescribeShareGroupOffsetsResponse>(shape::response(KEY), 1);
    }

    #[test]
    fn version_0_is_what_the_crate_reads_and_version_1_tells_the_lag() {
        let partition = DescribedPartitionOffset {
            index: 3,
            start_offset: 7,
            leader_epoch: 2,
            lag: 0x0102_0304_0506_0708,
            error_code: 6,
            error_message: Some("why".into()),
        };
        let topic = DescribedTopicOffsets { name: "t".into(), id: Uuid::from_u128(5), partitions: vec![partition] };
        let group = DescribedOffsets {
            group_id: "g".into(),
            topics: vec![topic],
            error_code: 69,
            error_message: Some("no".into()),
        };
        let response = DescribeShareGroupOffsetsResponse { groups: vec![group] };
        let (mut zero, mut one) = (BytesMut::new(), BytesMut::new());
        response.encode_body(0, &mut zero).expect("it can be said");
        response.encode_body(1, &mut one).expect("it can be said");
        let lag = [1, 2, 3, 4, 5, 6, 7, 8];
        let at = one.windows(8).position(|bytes| bytes == lag).expect("the lag is told");
        assert_eq!([&one[..at], &one[at + 8..]].concat(), zero);
        let mut zero = zero.freeze();
        let read = messages::DescribeShareGroupOffsetsResponse::decode(&mut zero, 0).expect("sound");
        assert!(zero.is_empty(), "{zero:?}");
        let group = &read.groups[0];
        assert_eq!((&**group.group_id, group.error_code, group.error_message.as_deref()), ("g", 69, Some("no")));
        let partition = &group.topics[0].partitions[0];
        assert_eq!((partition.partition_index, partition.start_offset, partition.leader_epoch), (3, 7, 2));
        assert_eq!((partition.error_code, partition.error_message.as_deref()), (6, Some("why")));
    }
}
