//! WriteShareGroupState (key 85) and ReadShareGroupStateSummary (key 87), versions 0 and 1, for both sides.
//!
//! Ours because `kafka-protocol` lacks version 1, which counts the records that are done with (KIP-1226).

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::decode::{Decode, DecodeError, RequestBody, reader};
use super::encode::{Encode, EncodeError, writer};
use super::reader::{Malformed, Reader};
use super::shape;
use super::writer::Writer;

const WRITE: i16 = 85;
const SUMMARY: i16 = 87;
/// From this version on both tell how many records are done with.
const COUNTED_FROM: i16 = 1;
/// Nobody counted.
const NOT_COUNTED: i32 = -1;

/// What the leader of partitions has to say of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteShareGroupStateRequest {
    pub group_id: StrBytes,
    pub topics: Vec<OfTopic<WriteStatePartition>>,
}

/// Whether it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteShareGroupStateResponse {
    pub results: Vec<OfTopic<WriteStateResult>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadShareGroupStateSummaryRequest {
    pub group_id: StrBytes,
    pub topics: Vec<OfTopic<SummaryPartition>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadShareGroupStateSummaryResponse {
    pub results: Vec<OfTopic<SummaryResult>>,
}

/// Partitions of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfTopic<P> {
    pub topic_id: Uuid,
    pub partitions: Vec<P>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteStatePartition {
    pub partition: i32,
    pub state_epoch: i32,
    pub leader_epoch: i32,
    /// -1: as before.
    pub start_offset: i64,
    /// -1 before version 1.
    pub delivery_complete_count: i32,
    pub state_batches: Vec<WireStateBatch>,
}

/// Consecutive records in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireStateBatch {
    pub first_offset: i64,
    /// Inclusive.
    pub last_offset: i64,
    pub delivery_state: i8,
    pub delivery_count: i16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteStateResult {
    pub partition: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SummaryPartition {
    pub partition: i32,
    pub leader_epoch: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryResult {
    pub partition: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub state_epoch: i32,
    pub leader_epoch: i32,
    pub start_offset: i64,
    /// -1 before version 1.
    pub delivery_complete_count: i32,
}

fn read_topics<'a, P>(
    reader: &mut Reader<'a>,
    mut partition: impl FnMut(&mut Reader<'a>) -> Result<P, Malformed>,
) -> Result<Vec<OfTopic<P>>, Malformed> {
    reader.array(|reader| {
        let topic_id = reader.uuid()?;
        let partitions = reader.array(|reader| {
            let one = partition(reader)?;
            reader.skip_tags()?;
            Ok(one)
        })?;
        reader.skip_tags()?;
        Ok(OfTopic { topic_id, partitions })
    })
}

fn write_topics<P>(
    fields: &mut Writer<'_>,
    topics: &[OfTopic<P>],
    mut partition: impl FnMut(&mut Writer<'_>, &P) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    fields.array(topics, |fields, topic| {
        fields.uuid(topic.topic_id);
        fields.array(&topic.partitions, |fields, one| {
            partition(fields, one)?;
            fields.no_tags();
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    })
}

impl RequestBody for WriteShareGroupStateRequest {
    const KEY: i16 = WRITE;
    type Response = WriteShareGroupStateResponse;
}

impl RequestBody for ReadShareGroupStateSummaryRequest {
    const KEY: i16 = SUMMARY;
    type Response = ReadShareGroupStateSummaryResponse;
}

impl Decode for WriteShareGroupStateRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(WRITE), WRITE, version, &body)?;
        let group_id = reader.string()?;
        let topics = read_topics(&mut reader, |reader| {
            Ok(WriteStatePartition {
                partition: reader.i32()?,
                state_epoch: reader.i32()?,
                leader_epoch: reader.i32()?,
                start_offset: reader.i64()?,
                delivery_complete_count: if version >= COUNTED_FROM { reader.i32()? } else { NOT_COUNTED },
                state_batches: reader.array(|reader| {
                    let batch = WireStateBatch {
                        first_offset: reader.i64()?,
                        last_offset: reader.i64()?,
                        delivery_state: reader.i8()?,
                        delivery_count: reader.i16()?,
                    };
                    reader.skip_tags()?;
                    Ok(batch)
                })?,
            })
        })?;
        reader.skip_tags()?;
        Ok(Self { group_id, topics })
    }
}

impl Encode for WriteShareGroupStateRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(WRITE), WRITE, version, buf)?;
        fields.string(&self.group_id)?;
        write_topics(&mut fields, &self.topics, |fields, one| {
            fields.i32(one.partition);
            fields.i32(one.state_epoch);
            fields.i32(one.leader_epoch);
            fields.i64(one.start_offset);
            if version >= COUNTED_FROM {
                fields.i32(one.delivery_complete_count);
            }
            fields.array(&one.state_batches, |fields, batch| {
                fields.i64(batch.first_offset);
                fields.i64(batch.last_offset);
                fields.i8(batch.delivery_state);
                fields.i16(batch.delivery_count);
                fields.no_tags();
                Ok(())
            })
        })?;
        fields.no_tags();
        Ok(())
    }
}

impl Decode for WriteShareGroupStateResponse {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::response(WRITE), WRITE, version, &body)?;
        let results = read_topics(&mut reader, |reader| {
            Ok(WriteStateResult {
                partition: reader.i32()?,
                error_code: reader.i16()?,
                error_message: reader.nullable_string()?,
            })
        })?;
        reader.skip_tags()?;
        Ok(Self { results })
    }
}

impl Encode for WriteShareGroupStateResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(WRITE), WRITE, version, buf)?;
        write_topics(&mut fields, &self.results, |fields, one| {
            fields.i32(one.partition);
            fields.i16(one.error_code);
            fields.nullable_string(one.error_message.as_deref())
        })?;
        fields.no_tags();
        Ok(())
    }
}

impl Decode for ReadShareGroupStateSummaryRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(SUMMARY), SUMMARY, version, &body)?;
        let group_id = reader.string()?;
        let topics = read_topics(&mut reader, |reader| {
            Ok(SummaryPartition { partition: reader.i32()?, leader_epoch: reader.i32()? })
        })?;
        reader.skip_tags()?;
        Ok(Self { group_id, topics })
    }
}

impl Encode for ReadShareGroupStateSummaryRequest {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::request(SUMMARY), SUMMARY, version, buf)?;
        fields.string(&self.group_id)?;
        write_topics(&mut fields, &self.topics, |fields, one| {
            fields.i32(one.partition);
            fields.i32(one.leader_epoch);
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    }
}

impl Decode for ReadShareGroupStateSummaryResponse {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::response(SUMMARY), SUMMARY, version, &body)?;
        let results = read_topics(&mut reader, |reader| {
            Ok(SummaryResult {
                partition: reader.i32()?,
                error_code: reader.i16()?,
                error_message: reader.nullable_string()?,
                state_epoch: reader.i32()?,
                leader_epoch: reader.i32()?,
                start_offset: reader.i64()?,
                delivery_complete_count: if version >= COUNTED_FROM { reader.i32()? } else { NOT_COUNTED },
            })
        })?;
        reader.skip_tags()?;
        Ok(Self { results })
    }
}

impl Encode for ReadShareGroupStateSummaryResponse {
    fn encode_body(&self, version: i16, buf: &mut BytesMut) -> Result<(), EncodeError> {
        let mut fields = writer(shape::response(SUMMARY), SUMMARY, version, buf)?;
        write_topics(&mut fields, &self.results, |fields, one| {
            fields.i32(one.partition);
            fields.i16(one.error_code);
            fields.nullable_string(one.error_message.as_deref())?;
            fields.i32(one.state_epoch);
            fields.i32(one.leader_epoch);
            fields.i64(one.start_offset);
            if version >= COUNTED_FROM {
                fields.i32(one.delivery_complete_count);
            }
            Ok(())
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
    fn they_read_and_write_as_the_crate_does() {
        check_codec::<WriteShareGroupStateRequest, messages::WriteShareGroupStateRequest>(shape::request(WRITE));
        check_codec::<WriteShareGroupStateResponse, messages::WriteShareGroupStateResponse>(shape::response(WRITE));
        check_codec::<ReadShareGroupStateSummaryRequest, messages::ReadShareGroupStateSummaryRequest>(shape::request(
            SUMMARY,
        ));
        check_codec::<ReadShareGroupStateSummaryResponse, messages::ReadShareGroupStateSummaryResponse>(
            shape::response(SUMMARY),
        );
    }

    #[test]
    fn version_1_comes_back() {
        check_codec_beyond_the_crate::<WriteShareGroupStateRequest>(shape::request(WRITE), 1);
        check_codec_beyond_the_crate::<WriteShareGroupStateResponse>(shape::response(WRITE), 1);
        check_codec_beyond_the_crate::<ReadShareGroupStateSummaryRequest>(shape::request(SUMMARY), 1);
        check_codec_beyond_the_crate::<ReadShareGroupStateSummaryResponse>(shape::response(SUMMARY), 1);
    }
}
