//! What is stored of a group of the consumer protocol (KIP-848), key types 3 to 8 and 16. Values are version 0, with
//! compact lengths and tagged fields; keys are not flexible.
//!
//! 3 `ConsumerGroupMetadata`: group => epoch i32; tag 0: hash of the topics i64.
//! 4 `ConsumerGroupPartitionMetadata`: group. Written by Kafka 4.0 and before, now only deleted.
//! 5 `ConsumerGroupMemberMetadata`: group, member => what the member said of itself.
//! 6 `ConsumerGroupTargetAssignmentMetadata`: group => epoch i32; tag 0: time i64.
//! 7 `ConsumerGroupTargetAssignmentMember`: group, member => what the member shall have.
//! 8 `ConsumerGroupCurrentMemberAssignment`: group, member => epochs, state, what it has.
//! 16 `ConsumerGroupRegularExpression`: group, pattern => the topics that it stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::super::command::Protocol;
use super::super::consumer::{
    Assigned, ClassicFace, Current, Epoch, MemberState, Resolved, Subscription, Target, TargetEpoch,
};
use super::super::ids::{ClientHost, ClientId, GroupId, InstanceId, MemberId, ProtocolName};
use crate::coordinator::wire::{DecodeError, Reader, Writer};
use crate::types::{Timestamp, TopicId};

const GROUP: i16 = 3;
const PARTITIONS: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const PATTERN: i16 = 16;

pub(super) const VERSION: i16 = 0;
/// The one tagged field that most of the values have.
const TAG: u32 = 0;

/// One change of a consumer group. No value: a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerChange {
    Group(Option<Epoch>),
    /// The topics' metadata as Kafka 4.0 stored them.
    PartitionsGone,
    Member(MemberId, Option<Arc<Subscription>>),
    TargetEpoch(Option<TargetEpoch>),
    Target(MemberId, Option<Arc<Target>>),
    Current(MemberId, Option<Current>),
    Pattern(Arc<str>, Option<Resolved>),
}

/// The key of such a change on the bytes that hold it.
pub(in crate::coordinator::group) struct ConsumerKeyRef<'a> {
    kind: i16,
    pub group: &'a str,
    /// Member or pattern; empty where the group is all.
    of: &'a str,
}

impl<'a> ConsumerKeyRef<'a> {
    pub fn is_kind(kind: i16) -> bool {
        matches!(kind, GROUP..=CURRENT | PATTERN)
    }

    /// After the type was read.
    pub fn decode(kind: i16, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let group = reader.str(false)?;
        let of = if matches!(kind, MEMBER | TARGET | CURRENT | PATTERN) { reader.str(false)? } else { "" };
        Ok(Self { kind, group, of })
    }

    /// `None`: what Kafka 4.0 stored and nobody reads.
    pub fn change(&self, value: Option<&[u8]>) -> Result<Option<ConsumerChange>, DecodeError> {
        let member = || MemberId::new(self.of);
        Ok(Some(match self.kind {
            GROUP => ConsumerChange::Group(value.map(decode_epoch).transpose()?),
            MEMBER => ConsumerChange::Member(member()?, value.map(decode_member).transpose()?.map(Arc::new)),
            TARGET_EPOCH => ConsumerChange::TargetEpoch(value.map(decode_target_epoch).transpose()?),
            TARGET => ConsumerChange::Target(member()?, value.map(decode_target).transpose()?.map(Arc::new)),
            CURRENT => ConsumerChange::Current(member()?, value.map(decode_current).transpose()?),
            PATTERN => ConsumerChange::Pattern(self.of.into(), value.map(decode_pattern).transpose()?),
            _ if value.is_none() => ConsumerChange::PartitionsGone,
            _ => return Ok(None),
        }))
    }
}

impl ConsumerChange {
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Group(value) => value.is_none(),
            Self::PartitionsGone => true,
            Self::Member(_, value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Current(_, value) => value.is_none(),
            Self::Pattern(_, value) => value.is_none(),
        }
    }

    pub(super) fn encode_key(&self, group: &GroupId) -> Bytes {
        let (kind, of) = match self {
            Self::Group(_) => (GROUP, None),
            Self::PartitionsGone => (PARTITIONS, None),
            Self::Member(member, _) => (MEMBER, Some(member.as_str())),
            Self::TargetEpoch(_) => (TARGET_EPOCH, None),
            Self::Target(member, _) => (TARGET, Some(member.as_str())),
            Self::Current(member, _) => (CURRENT, Some(member.as_str())),
            Self::Pattern(pattern, _) => (PATTERN, Some(&**pattern)),
        };
        let mut key = Writer::default();
        key.i16(kind);
        key.str(group.as_str());
        if let Some(of) = of {
            key.str(of);
        }
        key.finish()
    }

    pub(super) fn encode_value(&self) -> Option<Bytes> {
        let mut value = Writer::default();
        value.i16(VERSION);
        match self {
            Self::Group(epoch) => encode_epoch(&mut value, epoch.as_ref()?),
            Self::PartitionsGone => return None,
            Self::Member(_, subscription) => encode_member(&mut value, subscription.as_ref()?),
            Self::TargetEpoch(epoch) => encode_target_epoch(&mut value, epoch.as_ref()?),
            Self::Target(_, target) => encode_target(&mut value, target.as_ref()?),
            Self::Current(_, current) => encode_current(&mut value, current.as_ref()?),
            Self::Pattern(_, resolved) => encode_pattern(&mut value, resolved.as_ref()?),
        }
        Some(value.finish())
    }
}

/// A value's reader behind its version.
pub(super) fn open(value: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::new(value);
    match reader.i16()? {
        VERSION => Ok(reader),
        version => Err(DecodeError::Version(version)),
    }
}

/// A number in the tagged field, left out where it is zero.
fn encode_tagged_i64(value: &mut Writer, number: i64) {
    value.uvarint(u32::from(number != 0));
    if number != 0 {
        value.tagged(TAG, |content| content.i64(number));
    }
}

fn decode_tagged_i64(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    let mut number = 0;
    reader.tagged_fields(|tag, content| {
        if tag == TAG {
            number = content.i64()?;
        }
        Ok(())
    })?;
    Ok(number)
}

fn encode_epoch(value: &mut Writer, epoch: &Epoch) {
    value.i32(epoch.epoch);
    encode_tagged_i64(value, epoch.metadata_hash);
}

fn decode_epoch(value: &[u8]) -> Result<Epoch, DecodeError> {
    let mut reader = open(value)?;
    Ok(Epoch { epoch: reader.i32()?, metadata_hash: decode_tagged_i64(&mut reader)? })
}

pub(super) fn encode_target_epoch(value: &mut Writer, target: &TargetEpoch) {
    value.i32(target.epoch);
    encode_tagged_i64(value, target.at.0);
}

pub(super) fn decode_target_epoch(value: &[u8]) -> Result<TargetEpoch, DecodeError> {
    let mut reader = open(value)?;
    Ok(TargetEpoch { epoch: reader.i32()?, at: Timestamp(decode_tagged_i64(&mut reader)?) })
}

fn encode_member(value: &mut Writer, member: &Subscription) {
    value.compact_nullable_str(member.instance.as_ref().map(InstanceId::as_str));
    value.compact_nullable_str(member.rack.as_deref());
    value.compact_str(member.client_id.as_str());
    value.compact_str(member.client_host.as_str());
    value.compact_count(member.topics.len());
    member.topics.iter().for_each(|topic| value.compact_str(topic));
    value.compact_nullable_str(member.pattern.as_deref());
    value.i32(member.rebalance_timeout_ms);
    value.compact_nullable_str(member.assignor.as_deref());
    value.uvarint(u32::from(member.classic.is_some()));
    if let Some(classic) = &member.classic {
        value.tagged(TAG, |content| encode_classic(content, classic));
    }
}

fn encode_classic(value: &mut Writer, classic: &ClassicFace) {
    // A structure that may be null says first that it is not.
    value.i8(1);
    value.i32(classic.session_timeout_ms);
    value.compact_count(classic.protocols.len());
    for protocol in classic.protocols.iter() {
        value.compact_str(protocol.name.as_str());
        value.compact_bytes(&protocol.metadata);
        value.uvarint(0);
    }
    value.uvarint(0);
}

fn decode_member(value: &[u8]) -> Result<Subscription, DecodeError> {
    let mut reader = open(value)?;
    let instance = reader.nullable_str(true)?.map(InstanceId::new).transpose()?;
    let rack = reader.nullable_str(true)?.map(Arc::from);
    let client_id = ClientId::new(reader.str(true)?)?;
    let client_host = ClientHost::new(reader.str(true)?)?;
    let topics = (0..reader.count(true)?).map(|_| Ok(reader.str(true)?.into())).collect::<Result<_, DecodeError>>()?;
    let pattern = reader.nullable_str(true)?.map(Arc::from);
    let rebalance_timeout_ms = reader.i32()?;
    let assignor = reader.nullable_str(true)?.map(Arc::from);
    let mut classic = None;
    reader.tagged_fields(|tag, content| {
        if tag == TAG {
            classic = decode_classic(content)?;
        }
        Ok(())
    })?;
    let topics = Arc::new(topics);
    Ok(Subscription {
        instance,
        rack,
        client_id,
        client_host,
        topics,
        pattern,
        rebalance_timeout_ms,
        assignor,
        classic,
    })
}

fn decode_classic(reader: &mut Reader<'_>) -> Result<Option<ClassicFace>, DecodeError> {
    if reader.i8()? < 0 {
        return Ok(None);
    }
    let session_timeout_ms = reader.i32()?;
    let mut protocols = Vec::new();
    for _ in 0..reader.count(true)? {
        let name = ProtocolName::new(reader.str(true)?)?;
        protocols.push(Protocol { name, metadata: reader.bytes(true)? });
        reader.tagged_fields(|_, _| Ok(()))?;
    }
    reader.tagged_fields(|_, _| Ok(()))?;
    Ok(Some(ClassicFace { session_timeout_ms, protocols: protocols.into() }))
}

pub(super) fn encode_target(value: &mut Writer, target: &Target) {
    write_target(value, target);
    value.uvarint(0);
}

pub(super) fn write_target(value: &mut Writer, target: &Target) {
    value.compact_count(target.len());
    for (topic, partitions) in target {
        value.uuid(topic.0);
        value.compact_count(partitions.len());
        partitions.iter().for_each(|partition| value.i32(*partition));
        value.uvarint(0);
    }
}

pub(super) fn decode_target(value: &[u8]) -> Result<Target, DecodeError> {
    let mut reader = open(value)?;
    let target = read_target(&mut reader)?;
    reader.tagged_fields(|_, _| Ok(()))?;
    Ok(target)
}

pub(super) fn read_target(reader: &mut Reader<'_>) -> Result<Target, DecodeError> {
    let mut target = Target::new();
    for _ in 0..reader.count(true)? {
        let topic = TopicId(reader.uuid()?);
        let partitions = (0..reader.count(true)?).map(|_| reader.i32()).collect::<Result<BTreeSet<_>, _>>()?;
        reader.tagged_fields(|_, _| Ok(()))?;
        target.insert(topic, partitions);
    }
    Ok(target)
}

fn encode_current(value: &mut Writer, current: &Current) {
    value.i32(current.epoch);
    value.i32(current.previous_epoch);
    value.i8(current.state.to_wire());
    encode_assigned(value, &current.assigned);
    encode_assigned(value, &current.revoking);
    value.uvarint(0);
}

fn encode_assigned(value: &mut Writer, assigned: &Assigned) {
    value.compact_count(assigned.len());
    for (topic, partitions) in assigned {
        value.uuid(topic.0);
        value.compact_count(partitions.len());
        partitions.keys().for_each(|partition| value.i32(*partition));
        value.uvarint(1);
        value.tagged(TAG, |content| {
            content.compact_count(partitions.len());
            partitions.values().for_each(|epoch| content.i32(*epoch));
        });
    }
}

fn decode_current(value: &[u8]) -> Result<Current, DecodeError> {
    let mut reader = open(value)?;
    let epoch = reader.i32()?;
    let previous_epoch = reader.i32()?;
    let state = MemberState::from_wire(reader.i8()?);
    let assigned = decode_assigned(&mut reader, epoch)?;
    let revoking = decode_assigned(&mut reader, epoch)?;
    reader.tagged_fields(|_, _| Ok(()))?;
    Ok(Current { epoch, previous_epoch, state, assigned, revoking })
}

/// Records of old have no epochs of the partitions: then the member's counts.
fn decode_assigned(reader: &mut Reader<'_>, member_epoch: i32) -> Result<Assigned, DecodeError> {
    let mut assigned = Assigned::new();
    for _ in 0..reader.count(true)? {
        let topic = TopicId(reader.uuid()?);
        let partitions = (0..reader.count(true)?).map(|_| reader.i32()).collect::<Result<Vec<_>, _>>()?;
        let mut epochs = Vec::new();
        reader.tagged_fields(|tag, content| {
            if tag == TAG {
                epochs = (0..content.count(true)?).map(|_| content.i32()).collect::<Result<Vec<_>, _>>()?;
            }
            Ok(())
        })?;
        let with_epochs = partitions.iter().enumerate();
        let with_epochs = with_epochs.map(|(at, partition)| (*partition, *epochs.get(at).unwrap_or(&member_epoch)));
        assigned.insert(topic, with_epochs.collect::<BTreeMap<_, _>>());
    }
    Ok(assigned)
}

fn encode_pattern(value: &mut Writer, resolved: &Resolved) {
    value.compact_count(resolved.topics.len());
    resolved.topics.iter().for_each(|topic| value.compact_str(topic));
    value.i64(resolved.version);
    value.i64(resolved.at.0);
    value.uvarint(0);
}

fn decode_pattern(value: &[u8]) -> Result<Resolved, DecodeError> {
    let mut reader = open(value)?;
    let topics = (0..reader.count(true)?).map(|_| Ok(reader.str(true)?.into())).collect::<Result<_, DecodeError>>()?;
    let version = reader.i64()?;
    let at = Timestamp(reader.i64()?);
    reader.tagged_fields(|_, _| Ok(()))?;
    Ok(Resolved { topics: Arc::new(topics), version, at })
}
