//! The response to Fetch (key 1), versions 4 to 18: records go out as they lie in memory or on disk.
//!
//! The request holds no records and is decoded by `kafka-protocol`.

use super::encode::EncodeError;
use super::place::{CurrentLeader, NodeEndpoint, TopicRef};
use super::response::{Part, Response, ResponseWriter};
use super::writer::tag_value;

const KEY: i16 = 1;
const LOG_START_OFFSET_FROM: i16 = 5;
/// From this version on there are sessions and a top-level error (KIP-227).
const SESSION_FROM: i16 = 7;
/// From this version on a consumer may be sent to a nearer replica (KIP-392).
const PREFERRED_REPLICA_FROM: i16 = 11;
/// From this version on topics go by id.
const TOPIC_ID_FROM: i16 = 13;
/// From this version on a response names the addresses of leaders (KIP-951).
const NODE_ENDPOINTS_FROM: i16 = 16;

/// What is there to read. Fields that a version lacks are left out.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// From version 7.
    pub error_code: i16,
    /// 0: no session. From version 7.
    pub session_id: i32,
    /// Topics in the request's terms: by name or by id.
    pub topics: Vec<FetchTopicResponse>,
    /// Addresses of the leaders that partitions name; from version 16.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Debug)]
pub struct FetchTopicResponse {
    pub topic: TopicRef,
    pub partitions: Vec<FetchPartitionResponse>,
}

#[derive(Clone, Debug)]
pub struct FetchPartitionResponse {
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// -1 on an error.
    pub high_watermark: i64,
    /// -1 on an error.
    pub last_stable_offset: i64,
    /// From version 5. -1 on an error.
    pub log_start_offset: i64,
    /// `None` (null) for read_uncommitted; else ascending by first offset.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// Node to read from instead, -1 for none; then there are no records. From version 11.
    pub preferred_read_replica: i32,
    /// Where the reader's log leaves ours; from version 12.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// For NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH; from version 12.
    pub current_leader: Option<CurrentLeader>,
    /// For replicas that must begin with a snapshot; from version 12.
    pub snapshot_id: Option<SnapshotId>,
    /// Batches in offset order. Empty is no records, never null.
    pub records: Vec<Part>,
}

/// A transaction whose records are to be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// The largest epoch at or below the reader's, and where it ends (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    pub epoch: i32,
    pub end_offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    pub end_offset: i64,
    pub epoch: i32,
}

/// Encodes the whole frame. The parts of records are moved into it, not copied.
pub fn encode_fetch_response(
    version: i16,
    correlation_id: i32,
    response: FetchResponse,
) -> Result<Response, EncodeError> {
    let mut frame = ResponseWriter::new(KEY, version, correlation_id)?;
    let mut fields = frame.fields();
    fields.i32(response.throttle_time_ms);
    if version >= SESSION_FROM {
        fields.i16(response.error_code);
        fields.i32(response.session_id);
    }
    fields.len(response.topics.len())?;
    for topic in response.topics {
        let mut fields = frame.fields();
        topic.topic.write(&mut fields, version >= TOPIC_ID_FROM)?;
        fields.len(topic.partitions.len())?;
        for partition in topic.partitions {
            partition.write(&mut frame, version)?;
        }
        frame.fields().no_tags();
    }
    let endpoints = NodeEndpoint::tag_value(&response.node_endpoints)?;
    match endpoints {
        Some(endpoints) if version >= NODE_ENDPOINTS_FROM => frame.fields().tags(&[(0, endpoints)])?,
        _ => frame.fields().no_tags(),
    }
    frame.finish()
}

impl FetchPartitionResponse {
    fn write(self, frame: &mut ResponseWriter, version: i16) -> Result<(), EncodeError> {
        let mut fields = frame.fields();
        fields.i32(self.index);
        fields.i16(self.error_code);
        fields.i64(self.high_watermark);
        fields.i64(self.last_stable_offset);
        if version >= LOG_START_OFFSET_FROM {
            fields.i64(self.log_start_offset);
        }
        fields.nullable_len(self.aborted_transactions.as_ref().map(Vec::len))?;
        for aborted in self.aborted_transactions.iter().flatten() {
            fields.i64(aborted.producer_id);
            fields.i64(aborted.first_offset);
            fields.no_tags();
        }
        if version >= PREFERRED_REPLICA_FROM {
            fields.i32(self.preferred_read_replica);
        }
        fields.len(self.records.iter().map(Part::len).sum())?;
        // The tags are made before the records leave `self`.
        let tags = self.tags()?;
        for part in self.records {
            frame.insert(part);
        }
        frame.fields().tags(&tags)
    }

    fn tags(&self) -> Result<Vec<(u32, bytes::BytesMut)>, EncodeError> {
        let mut tags = Vec::new();
        if let Some(diverging) = self.diverging_epoch {
            tags.push((0, epoch_and_offset(diverging.epoch, diverging.end_offset, true)?));
        }
        if let Some(leader) = self.current_leader {
            tags.push((1, leader.tag_value()?));
        }
        if let Some(snapshot) = self.snapshot_id {
            tags.push((2, epoch_and_offset(snapshot.epoch, snapshot.end_offset, false)?));
        }
        Ok(tags)
    }
}

fn epoch_and_offset(epoch: i32, offset: i64, epoch_first: bool) -> Result<bytes::BytesMut, EncodeError> {
    tag_value(|fields| {
        if epoch_first {
            fields.i32(epoch);
        }
        fields.i64(offset);
        if !epoch_first {
            fields.i32(epoch);
        }
        fields.no_tags();
        Ok(())
    })
}

#[cfg(test)]
mod tests;
