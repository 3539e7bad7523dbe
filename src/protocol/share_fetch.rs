//! ShareFetch (key 78), versions 1 and 2: records go out as they lie on disk.
//!
//! Ours because `kafka-protocol` lacks version 2, which brings acquire modes and renewals (KIP-1206, KIP-1222), and would
//! copy the records.

use bytes::Bytes;
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::decode::{Decode, DecodeError, RequestBody, reader};
use super::encode::EncodeError;
use super::place::{CurrentLeader, NodeEndpoint};
use super::reader::{Malformed, Reader};
use super::response::{Part, Response, ResponseWriter};
use super::shape;

const KEY: i16 = 78;
/// From this version on there are acquire modes and renewals.
const ACQUIRE_MODE_FROM: i16 = 2;

/// A member of a share group wants records, and says what became of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareFetchRequest {
    pub group_id: Option<StrBytes>,
    pub member_id: Option<StrBytes>,
    /// 0 opens a session, -1 closes it.
    pub share_session_epoch: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub max_records: i32,
    /// Records of one range of acquired ones, as near as batches come to it.
    pub batch_size: i32,
    /// 0: whole batches; 1: never more than the maximum. 0 before version 2.
    pub share_acquire_mode: i8,
    /// Whether locks are prolonged; then nothing is fetched. False before version 2.
    pub is_renew_ack: bool,
    pub topics: Vec<ShareTopic>,
    pub forgotten_topics: Vec<ForgottenTopic>,
}

/// Partitions of a topic, and what is acknowledged of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareTopic {
    /// As sent: may be zero or unknown.
    pub topic_id: Uuid,
    pub partitions: Vec<SharePartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharePartition {
    pub index: i32,
    pub acknowledgements: Vec<AcknowledgementBatch>,
}

/// What became of consecutive records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcknowledgementBatch {
    pub first_offset: i64,
    /// Inclusive.
    pub last_offset: i64,
    /// One for all, or one for each. 0: gap, 1: accept, 2: release, 3: reject, 4: renew.
    pub types: Vec<i8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenTopic {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
}

/// What a member has now.
#[derive(Clone, Debug, Default)]
pub struct ShareFetchResponse {
    pub error_code: i16,
    /// How long records are locked; 0 with an error.
    pub acquisition_lock_timeout_ms: i32,
    pub topics: Vec<ShareFetchTopicResponse>,
    /// Addresses of the leaders that partitions name.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Debug)]
pub struct ShareFetchTopicResponse {
    pub topic_id: Uuid,
    pub partitions: Vec<ShareFetchPartitionResponse>,
}

#[derive(Clone, Debug, Default)]
pub struct ShareFetchPartitionResponse {
    pub index: i32,
    pub error_code: i16,
    pub acknowledge_error_code: i16,
    pub acknowledge_error_message: Option<StrBytes>,
    /// For NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH.
    pub current_leader: Option<CurrentLeader>,
    /// Whole batches in offset order; there may be more in them than was acquired.
    pub records: Vec<Part>,
    pub acquired: Vec<AcquiredRecords>,
}

/// Records that the member may work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquiredRecords {
    pub first_offset: i64,
    /// Inclusive.
    pub last_offset: i64,
    pub delivery_count: i16,
}

impl RequestBody for ShareFetchRequest {
    const KEY: i16 = KEY;
    type Response = messages::ShareFetchResponse;
}

impl Decode for ShareFetchRequest {
    const GUARDED: bool = true;

    fn decode_body(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = reader(shape::request(KEY), KEY, version, &body)?;
        let has_mode = version >= ACQUIRE_MODE_FROM;
        let request = Self {
            group_id: reader.nullable_string()?,
            member_id: reader.nullable_string()?,
            share_session_epoch: reader.i32()?,
            max_wait_ms: reader.i32()?,
            min_bytes: reader.i32()?,
            max_bytes: reader.i32()?,
            max_records: reader.i32()?,
            batch_size: reader.i32()?,
            share_acquire_mode: if has_mode { reader.i8()? } else { 0 },
            is_renew_ack: if has_mode { reader.bool()? } else { false },
            topics: reader.array(read_share_topic)?,
            forgotten_topics: reader.array(|reader| {
                let topic = ForgottenTopic { topic_id: reader.uuid()?, partitions: reader.array(|r| r.i32())? };
                reader.skip_tags()?;
                Ok(topic)
            })?,
        };
        reader.skip_tags()?;
        Ok(request)
    }
}

/// A topic as both ShareFetch and ShareAcknowledge name it.
pub(super) fn read_share_topic(reader: &mut Reader<'_>) -> Result<ShareTopic, Malformed> {
    let topic_id = reader.uuid()?;
    let partitions = reader.array(|reader| {
        let index = reader.i32()?;
        let acknowledgements = reader.array(|reader| {
            let (first_offset, last_offset) = (reader.i64()?, reader.i64()?);
            let types = reader.array(|reader| reader.i8())?;
            reader.skip_tags()?;
            Ok(AcknowledgementBatch { first_offset, last_offset, types })
        })?;
        reader.skip_tags()?;
        Ok(SharePartition { index, acknowledgements })
    })?;
    reader.skip_tags()?;
    Ok(ShareTopic { topic_id, partitions })
}

/// Encodes the whole frame. The parts of records are moved into it, not copied.
pub fn encode_share_fetch_response(
    version: i16,
    correlation_id: i32,
    response: ShareFetchResponse,
) -> Result<Response, EncodeError> {
    let mut frame = ResponseWriter::new(KEY, version, correlation_id)?;
    let mut fields = frame.fields();
    // No throttling.
    fields.i32(0);
    fields.i16(response.error_code);
    fields.nullable_string(None)?;
    fields.i32(response.acquisition_lock_timeout_ms);
    fields.len(response.topics.len())?;
    for topic in response.topics {
        let mut fields = frame.fields();
        fields.uuid(topic.topic_id);
        fields.len(topic.partitions.len())?;
        for partition in topic.partitions {
            partition.write(&mut frame)?;
        }
        frame.fields().no_tags();
    }
    let mut fields = frame.fields();
    NodeEndpoint::write_all(&response.node_endpoints, &mut fields)?;
    fields.no_tags();
    frame.finish()
}

impl ShareFetchPartitionResponse {
    fn write(self, frame: &mut ResponseWriter) -> Result<(), EncodeError> {
        let mut fields = frame.fields();
        fields.i32(self.index);
        fields.i16(self.error_code);
        fields.nullable_string(None)?;
        fields.i16(self.acknowledge_error_code);
        fields.nullable_string(self.acknowledge_error_message.as_deref())?;
        CurrentLeader::write_or_none(self.current_leader, &mut fields);
        fields.len(self.records.iter().map(Part::len).sum())?;
        for part in self.records {
            frame.insert(part);
        }
        let mut fields = frame.fields();
        fields.array(&self.acquired, |fields, acquired| {
            fields.i64(acquired.first_offset);
            fields.i64(acquired.last_offset);
            fields.i16(acquired.delivery_count);
            fields.no_tags();
            Ok(())
        })?;
        fields.no_tags();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::write_share_topic;
