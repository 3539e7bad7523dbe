//! A committed offset: `OffsetCommitKey` and `OffsetCommitValue`.
//!
//! Key, type 1 (and 0 of old): group string, topic string, partition i32.
//! Value: version i16, then offset i64, leader epoch i32 (3+), metadata string (compact in 4+), commit timestamp i64,
//! expire timestamp i64 (1 only), tagged fields (4+): 0 = topic id.

use bytes::Bytes;

use super::{DecodeError, GroupId, OFFSET_COMMIT};
use crate::coordinator::wire::{Reader, Writer};
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId, TopicName};

/// The one version with a time to expire at, which old clients may ask for.
const WITH_EXPIRY: i16 = 1;
const LATEST: i16 = 4;
const TOPIC_ID_TAG: u32 = 0;
/// "No leader epoch" (`RecordBatch.NO_PARTITION_LEADER_EPOCH`), and "no time".
const NONE: i32 = -1;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OffsetKey {
    pub group: GroupId,
    pub topic: TopicName,
    pub partition: i32,
}

/// [`OffsetKey`] on the bytes that hold it: loading millions of them allocates nothing that is known already.
pub(in super::super) struct OffsetKeyRef<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub partition: i32,
}

/// What a group has committed for a partition (`OffsetAndMetadata`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to consume. Kafka takes any number here, and so do we.
    pub offset: Offset,
    /// The epoch of the last consumed record, where the client said so.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The client's own note. At most `TEXT_LEN_MAX` bytes.
    pub metadata: Box<str>,
    pub committed_at: Timestamp,
    /// Given by clients of OffsetCommit v2 to v4 only; else the group's retention counts.
    pub expires_at: Option<Timestamp>,
    /// Zero where the commit came without.
    pub topic_id: TopicId,
}

impl OffsetKey {
    pub fn encode(&self) -> Bytes {
        let mut key = Writer::default();
        key.i16(OFFSET_COMMIT);
        key.str(self.group.as_str());
        key.str(self.topic.as_str());
        key.i32(self.partition);
        key.finish()
    }
}

impl<'a> OffsetKeyRef<'a> {
    /// After the type was read.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { group: reader.str(false)?, topic: reader.str(false)?, partition: reader.i32()? })
    }

    pub fn to_key(&self) -> Result<OffsetKey, DecodeError> {
        Ok(OffsetKey {
            group: GroupId::new(self.group)?,
            topic: TopicName::new(self.topic)?,
            partition: self.partition,
        })
    }
}

impl CommittedOffset {
    pub fn encode(&self) -> Bytes {
        let mut value = Writer::default();
        match self.expires_at {
            Some(expires_at) => {
                value.i16(WITH_EXPIRY);
                value.i64(self.offset.0);
                value.str(&self.metadata);
                value.i64(self.committed_at.0);
                value.i64(expires_at.0);
            }
            None => {
                value.i16(LATEST);
                value.i64(self.offset.0);
                value.i32(self.leader_epoch.map_or(NONE, |epoch| epoch.0));
                value.compact_str(&self.metadata);
                value.i64(self.committed_at.0);
                if self.topic_id == TopicId::ZERO {
                    value.uvarint(0);
                } else {
                    value.uvarint(1);
                    value.uvarint(TOPIC_ID_TAG);
                    value.uvarint(16);
                    value.uuid(self.topic_id.0);
                }
            }
        }
        value.finish()
    }

    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let version = reader.i16()?;
        if !(0..=LATEST).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let flexible = version >= 4;
        let offset = Offset(reader.i64()?);
        let leader_epoch = if version >= 3 { reader.i32()? } else { NONE };
        let metadata = reader.str(flexible)?.into();
        let committed_at = Timestamp(reader.i64()?);
        let expires_at = if version == WITH_EXPIRY { Timestamp(reader.i64()?) } else { Timestamp::NONE };
        let mut topic_id = TopicId::ZERO;
        if flexible {
            reader.tagged_fields(|tag, content| {
                if tag == TOPIC_ID_TAG {
                    topic_id = TopicId(content.uuid()?);
                }
                Ok(())
            })?;
        }
        Ok(Self {
            offset,
            leader_epoch: (leader_epoch != NONE).then_some(LeaderEpoch(leader_epoch)),
            metadata,
            committed_at,
            expires_at: (expires_at != Timestamp::NONE).then_some(expires_at),
            topic_id,
        })
    }
}
