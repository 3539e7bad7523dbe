//! What is stored of a share group (KIP-932), key types 10 to 15. Values are version 0, with compact lengths and tagged
//! fields; keys are not flexible.
//!
//! 10 `ShareGroupMemberMetadata`: group, member => what the member said of itself.
//! 11 `ShareGroupMetadata`: group => epoch i32, hash of the topics i64.
//! 12 `ShareGroupTargetAssignmentMetadata`: group => epoch i32; tag 0: time i64.
//! 13 `ShareGroupTargetAssignmentMember`: group, member => what the member shall have.
//! 14 `ShareGroupCurrentMemberAssignment`: group, member => epochs, state, what it has.
//! 15 `ShareGroupStatePartitionMetadata`: group => topics whose state is initializing, initialized, being deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::consumer::{Epoch, MemberState, Target, TargetEpoch};
use super::super::ids::{ClientHost, ClientId, GroupId, MemberId};
use super::super::share::{ShareCurrent, SharePartitions, ShareSubscription, TopicPartitions};
use super::consumer::{
    VERSION, decode_target, decode_target_epoch, encode_target, encode_target_epoch, open, read_target, write_target,
};
use crate::coordinator::wire::{DecodeError, Reader, Writer};
use crate::types::TopicId;

const MEMBER: i16 = 10;
const GROUP: i16 = 11;
const TARGET_EPOCH: i16 = 12;
const TARGET: i16 = 13;
const CURRENT: i16 = 14;
const PARTITIONS: i16 = 15;

/// One change of a share group. No value: a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareChange {
    Group(Option<Epoch>),
    Member(MemberId, Option<Arc<ShareSubscription>>),
    TargetEpoch(Option<TargetEpoch>),
    Target(MemberId, Option<Arc<Target>>),
    Current(MemberId, Option<ShareCurrent>),
    Partitions(Option<Arc<SharePartitions>>),
}

/// The key of such a change on the bytes that hold it.
pub(in crate::coordinator::group) struct ShareKeyRef<'a> {
    kind: i16,
    pub group: &'a str,
    /// Empty where the group is all.
    member: &'a str,
}

impl<'a> ShareKeyRef<'a> {
    pub fn is_kind(kind: i16) -> bool {
        matches!(kind, MEMBER..=PARTITIONS)
    }

    /// After the type was read.
    pub fn decode(kind: i16, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let group = reader.str(false)?;
        let member = if matches!(kind, MEMBER | TARGET | CURRENT) { reader.str(false)? } else { "" };
        Ok(Self { kind, group, member })
    }

    pub fn change(&self, value: Option<&[u8]>) -> Result<ShareChange, DecodeError> {
        let member = || MemberId::new(self.member);
        Ok(match self.kind {
            MEMBER => ShareChange::Member(member()?, value.map(decode_member).transpose()?.map(Arc::new)),
            GROUP => ShareChange::Group(value.map(decode_epoch).transpose()?),
            TARGET_EPOCH => ShareChange::TargetEpoch(value.map(decode_target_epoch).transpose()?),
            TARGET => ShareChange::Target(member()?, value.map(decode_target).transpose()?.map(Arc::new)),
            CURRENT => ShareChange::Current(member()?, value.map(decode_current).transpose()?),
            _ => ShareChange::Partitions(value.map(decode_partitions).transpose()?.map(Arc::new)),
        })
    }
}

impl ShareChange {
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Group(value) => value.is_none(),
            Self::Member(_, value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Current(_, value) => value.is_none(),
            Self::Partitions(value) => value.is_none(),
        }
    }

    pub(super) fn encode_key(&self, group: &GroupId) -> Bytes {
        let (kind, member) = match self {
            Self::Member(member, _) => (MEMBER, Some(member)),
            Self::Group(_) => (GROUP, None),
            Self::TargetEpoch(_) => (TARGET_EPOCH, None),
            Self::Target(member, _) => (TARGET, Some(member)),
            Self::Current(member, _) => (CURRENT, Some(member)),
            Self::Partitions(_) => (PARTITIONS, None),
        };
        let mut key = Writer::default();
        key.i16(kind);
        key.str(group.as_str());
        if let Some(member) = member {
            key.str(member.as_str());
        }
        key.finish()
    }

    pub(super) fn encode_value(&self) -> Option<Bytes> {
        let mut value = Writer::default();
        value.i16(VERSION);
        match self {
            Self::Group(epoch) => encode_epoch(&mut value, epoch.as_ref()?),
            Self::Member(_, said) => encode_member(&mut value, said.as_ref()?),
            Self::TargetEpoch(epoch) => encode_target_epoch(&mut value, epoch.as_ref()?),
            Self::Target(_, target) => encode_target(&mut value, target.as_ref()?),
            Self::Current(_, current) => encode_current(&mut value, current.as_ref()?),
            Self::Partitions(partitions) => encode_partitions(&mut value, partitions.as_ref()?),
        }
        Some(value.finish())
    }
}

fn no_tags(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    reader.tagged_fields(|_, _| Ok(()))
}

fn encode_epoch(value: &mut Writer, epoch: &Epoch) {
    value.i32(epoch.epoch);
    value.i64(epoch.metadata_hash);
    value.uvarint(0);
}

fn decode_epoch(value: &[u8]) -> Result<Epoch, DecodeError> {
    let mut reader = open(value)?;
    let epoch = Epoch { epoch: reader.i32()?, metadata_hash: reader.i64()? };
    no_tags(&mut reader)?;
    Ok(epoch)
}

fn encode_member(value: &mut Writer, said: &ShareSubscription) {
    value.compact_nullable_str(said.rack.as_deref());
    value.compact_str(said.client_id.as_str());
    value.compact_str(said.client_host.as_str());
    value.compact_count(said.topics.len());
    said.topics.iter().for_each(|topic| value.compact_str(topic));
    value.uvarint(0);
}

fn decode_member(value: &[u8]) -> Result<ShareSubscription, DecodeError> {
    let mut reader = open(value)?;
    let rack = reader.nullable_str(true)?.map(Arc::from);
    let client_id = ClientId::new(reader.str(true)?)?;
    let client_host = ClientHost::new(reader.str(true)?)?;
    let topics = (0..reader.count(true)?).map(|_| Ok(reader.str(true)?.into())).collect::<Result<_, DecodeError>>()?;
    no_tags(&mut reader)?;
    Ok(ShareSubscription { rack, client_id, client_host, topics: Arc::new(topics) })
}

fn encode_current(value: &mut Writer, current: &ShareCurrent) {
    value.i32(current.epoch);
    value.i32(current.previous_epoch);
    // A member of a share group has nothing to wait for.
    value.i8(MemberState::Stable.to_wire());
    write_target(value, &current.assigned);
    value.uvarint(0);
}

fn decode_current(value: &[u8]) -> Result<ShareCurrent, DecodeError> {
    let mut reader = open(value)?;
    let (epoch, previous_epoch, _state) = (reader.i32()?, reader.i32()?, reader.i8()?);
    let assigned = read_target(&mut reader)?;
    no_tags(&mut reader)?;
    Ok(ShareCurrent { epoch, previous_epoch, assigned })
}

fn encode_partitions(value: &mut Writer, partitions: &SharePartitions) {
    encode_topics(value, &partitions.initializing);
    encode_topics(value, &partitions.initialized);
    value.compact_count(partitions.deleting.len());
    for (id, name) in &partitions.deleting {
        value.uuid(id.0);
        value.compact_str(name);
        value.uvarint(0);
    }
    value.uvarint(0);
}

fn encode_topics(value: &mut Writer, topics: &BTreeMap<TopicId, TopicPartitions>) {
    value.compact_count(topics.len());
    for (id, topic) in topics {
        value.uuid(id.0);
        value.compact_str(&topic.name);
        value.compact_count(topic.partitions.len());
        topic.partitions.iter().for_each(|index| value.i32(*index));
        value.uvarint(0);
    }
}

fn decode_partitions(value: &[u8]) -> Result<SharePartitions, DecodeError> {
    let mut reader = open(value)?;
    let initializing = decode_topics(&mut reader)?;
    let initialized = decode_topics(&mut reader)?;
    let mut deleting = BTreeMap::new();
    for _ in 0..reader.count(true)? {
        let id = TopicId(reader.uuid()?);
        deleting.insert(id, reader.str(true)?.into());
        no_tags(&mut reader)?;
    }
    no_tags(&mut reader)?;
    Ok(SharePartitions { initializing, initialized, deleting })
}

fn decode_topics(reader: &mut Reader<'_>) -> Result<BTreeMap<TopicId, TopicPartitions>, DecodeError> {
    let mut topics = BTreeMap::new();
    for _ in 0..reader.count(true)? {
        let id = TopicId(reader.uuid()?);
        let name = reader.str(true)?.into();
        let partitions = (0..reader.count(true)?).map(|_| reader.i32()).collect::<Result<_, _>>()?;
        no_tags(reader)?;
        topics.insert(id, TopicPartitions { name, partitions });
    }
    Ok(topics)
}
