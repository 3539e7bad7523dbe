//! The records of `__consumer_offsets`, in Kafka's own format: every version that Kafka may have written is read,
//! and written is what Kafka 4.3 writes.
//!
//! A key starts with its type (i16), a value with its version (i16). Types that are not known
//! decode to `None`.

mod consumer;
mod group_metadata;
mod offset_commit;
mod share;
mod streams;
#[cfg(test)]
mod tests;
mod topology;

use bytes::Bytes;

pub use consumer::ConsumerChange;
pub(super) use consumer::ConsumerKeyRef;
pub use group_metadata::{GroupMetadata, StoredMember};
pub(super) use offset_commit::OffsetKeyRef;
pub use offset_commit::{CommittedOffset, OffsetKey};
pub use share::ShareChange;
pub(super) use share::ShareKeyRef;
pub use streams::StreamsChange;
pub(super) use streams::StreamsKeyRef;

use super::ids::GroupId;
pub use crate::coordinator::wire::{DecodeError, EncodedRecord};
use crate::coordinator::wire::{Reader, Writer};

/// Key types (`CoordinatorRecordType`).
const LEGACY_OFFSET_COMMIT: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

/// One change of what groups have stored. No value: a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    OffsetCommit { key: OffsetKey, value: Option<CommittedOffset> },
    GroupMetadata { group: GroupId, value: Option<GroupMetadata> },
    Consumer { group: GroupId, change: ConsumerChange },
    Share { group: GroupId, change: ShareChange },
    Streams { group: GroupId, change: StreamsChange },
}

impl Record {
    pub fn encode(&self) -> EncodedRecord {
        match self {
            Self::OffsetCommit { key, value } => {
                EncodedRecord { key: key.encode(), value: value.as_ref().map(CommittedOffset::encode) }
            }
            Self::GroupMetadata { group, value } => {
                EncodedRecord { key: encode_group_key(group), value: value.as_ref().map(GroupMetadata::encode) }
            }
            Self::Consumer { group, change } => {
                EncodedRecord { key: change.encode_key(group), value: change.encode_value() }
            }
            Self::Share { group, change } => {
                EncodedRecord { key: change.encode_key(group), value: change.encode_value() }
            }
            Self::Streams { group, change } => {
                EncodedRecord { key: change.encode_key(group), value: change.encode_value() }
            }
        }
    }

    /// `None` for a record of another kind of group.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, DecodeError> {
        Ok(match KeyRef::decode(key)? {
            KeyRef::Offset(key) => {
                Some(Self::OffsetCommit { key: key.to_key()?, value: value.map(CommittedOffset::decode).transpose()? })
            }
            KeyRef::Group(group) => Some(Self::GroupMetadata {
                group: GroupId::new(group)?,
                value: value.map(GroupMetadata::decode).transpose()?,
            }),
            KeyRef::Consumer(key) => {
                let group = GroupId::new(key.group)?;
                key.change(value)?.map(|change| Self::Consumer { group, change })
            }
            KeyRef::Share(key) => Some(Self::Share { group: GroupId::new(key.group)?, change: key.change(value)? }),
            KeyRef::Streams(key) => Some(Self::Streams { group: GroupId::new(key.group)?, change: key.change(value)? }),
            KeyRef::Other => None,
        })
    }
}

/// A key on the bytes that hold it.
pub(super) enum KeyRef<'a> {
    Offset(OffsetKeyRef<'a>),
    Group(&'a str),
    Consumer(ConsumerKeyRef<'a>),
    Share(ShareKeyRef<'a>),
    Streams(StreamsKeyRef<'a>),
    /// A type that is not ours.
    Other,
}

impl<'a> KeyRef<'a> {
    pub fn decode(key: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(key);
        Ok(match reader.i16()? {
            LEGACY_OFFSET_COMMIT | OFFSET_COMMIT => Self::Offset(OffsetKeyRef::decode(&mut reader)?),
            GROUP_METADATA => Self::Group(reader.str(false)?),
            kind if ConsumerKeyRef::is_kind(kind) => Self::Consumer(ConsumerKeyRef::decode(kind, &mut reader)?),
            kind if ShareKeyRef::is_kind(kind) => Self::Share(ShareKeyRef::decode(kind, &mut reader)?),
            kind if StreamsKeyRef::is_kind(kind) => Self::Streams(StreamsKeyRef::decode(kind, &mut reader)?),
            _ => Self::Other,
        })
    }
}

fn encode_group_key(group: &GroupId) -> Bytes {
    let mut key = Writer::default();
    key.i16(GROUP_METADATA);
    key.str(group.as_str());
    key.finish()
}
