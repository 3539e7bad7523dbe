//! What is stored of a streams group (KIP-1071), key types 17 and 19 to 23. Values are version 0, with compact lengths and
//! tagged fields; keys are not flexible. Type 18 was the topics' metadata, before any release wrote it.
//!
//! 17 `StreamsGroupMetadata`: group => epoch i32, hash of the topics i64; tag 0: the topology's epoch that they were
//!    found to fit i32; tag 1: settings of the last assignment.
//! 19 `StreamsGroupMemberMetadata`: group, member => what the member said of itself.
//! 20 `StreamsGroupTargetAssignmentMetadata`: group => epoch i32; tag 0: time i64.
//! 21 `StreamsGroupTargetAssignmentMember`: group, member => what the member shall have.
//! 22 `StreamsGroupCurrentMemberAssignment`: group, member => epochs, state, what it has, what it is to give up.
//! 23 `StreamsGroupTopology`: group => the topology.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::consumer::TargetEpoch;
use super::super::ids::{ClientHost, ClientId, GroupId, InstanceId, MemberId};
use super::super::streams::{
    ClientTags, Endpoint, HeldTasks, NOT_VALIDATED, StreamsCurrent, StreamsEpoch, StreamsMemberState,
    StreamsSubscription, TaskSet, Tasks, TasksSince, Topology,
};
use super::consumer::{VERSION, decode_target_epoch, encode_target_epoch, open};
use super::topology::{decode_topology, encode_topology};
use crate::coordinator::wire::{DecodeError, Reader, Writer};

const GROUP: i16 = 17;
const MEMBER: i16 = 19;
const TARGET_EPOCH: i16 = 20;
const TARGET: i16 = 21;
const CURRENT: i16 = 22;
const TOPOLOGY: i16 = 23;

/// Tags of `StreamsGroupMetadata`.
const VALIDATED_TAG: u32 = 0;
const CONFIGS_TAG: u32 = 1;
/// Of the active tasks of a member: the epochs at which it got them.
const EPOCHS_TAG: u32 = 0;

/// One change of a streams group. No value: a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamsChange {
    Group(Option<StreamsEpoch>),
    Member(MemberId, Option<Arc<StreamsSubscription>>),
    TargetEpoch(Option<TargetEpoch>),
    Target(MemberId, Option<Arc<Tasks>>),
    Current(MemberId, Option<StreamsCurrent>),
    Topology(Option<Arc<Topology>>),
}

/// The key of such a change on the bytes that hold it.
pub(in crate::coordinator::group) struct StreamsKeyRef<'a> {
    kind: i16,
    pub group: &'a str,
    /// Empty where the group is all.
    member: &'a str,
}

impl<'a> StreamsKeyRef<'a> {
    pub fn is_kind(kind: i16) -> bool {
        matches!(kind, GROUP | MEMBER..=TOPOLOGY)
    }

    /// After the type was read.
    pub fn decode(kind: i16, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let group = reader.str(false)?;
        let member = if matches!(kind, MEMBER | TARGET | CURRENT) { reader.str(false)? } else { "" };
        Ok(Self { kind, group, member })
    }

    pub fn change(&self, value: Option<&[u8]>) -> Result<StreamsChange, DecodeError> {
        let member = || MemberId::new(self.member);
        Ok(match self.kind {
            GROUP => StreamsChange::Group(value.map(decode_epoch).transpose()?),
            MEMBER => StreamsChange::Member(member()?, value.map(decode_member).transpose()?.map(Arc::new)),
            TARGET_EPOCH => StreamsChange::TargetEpoch(value.map(decode_target_epoch).transpose()?),
            TARGET => StreamsChange::Target(member()?, value.map(decode_target).transpose()?.map(Arc::new)),
            CURRENT => StreamsChange::Current(member()?, value.map(decode_current).transpose()?),
            _ => StreamsChange::Topology(value.map(decode_topology).transpose()?.map(Arc::new)),
        })
    }
}

impl StreamsChange {
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Group(value) => value.is_none(),
            Self::Member(_, value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Current(_, value) => value.is_none(),
            Self::Topology(value) => value.is_none(),
        }
    }

    pub(super) fn encode_key(&self, group: &GroupId) -> Bytes {
        let (kind, member) = match self {
            Self::Group(_) => (GROUP, None),
            Self::Member(member, _) => (MEMBER, Some(member)),
            Self::TargetEpoch(_) => (TARGET_EPOCH, None),
            Self::Target(member, _) => (TARGET, Some(member)),
            Self::Current(member, _) => (CURRENT, Some(member)),
            Self::Topology(_) => (TOPOLOGY, None),
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
            Self::Target(_, tasks) => encode_target(&mut value, tasks.as_ref()?),
            Self::Current(_, current) => encode_current(&mut value, current.as_ref()?),
            Self::Topology(topology) => encode_topology(&mut value, topology.as_ref()?),
        }
        Some(value.finish())
    }
}

pub(super) fn no_tags(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    reader.tagged_fields(|_, _| Ok(()))
}

fn encode_epoch(value: &mut Writer, of: &StreamsEpoch) {
    value.i32(of.epoch);
    value.i64(of.metadata_hash);
    let is_validated = of.validated_topology_epoch != NOT_VALIDATED;
    value.uvarint(u32::from(is_validated) + u32::from(!of.configs.is_empty()));
    if is_validated {
        value.tagged(VALIDATED_TAG, |content| content.i32(of.validated_topology_epoch));
    }
    if !of.configs.is_empty() {
        value.tagged(CONFIGS_TAG, |content| encode_pairs(content, &of.configs));
    }
}

fn decode_epoch(value: &[u8]) -> Result<StreamsEpoch, DecodeError> {
    let mut reader = open(value)?;
    let (epoch, metadata_hash) = (reader.i32()?, reader.i64()?);
    let (mut validated_topology_epoch, mut configs) = (NOT_VALIDATED, BTreeMap::new());
    reader.tagged_fields(|tag, content| {
        match tag {
            VALIDATED_TAG => validated_topology_epoch = content.i32()?,
            CONFIGS_TAG => configs = decode_pairs(content)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(StreamsEpoch { epoch, metadata_hash, validated_topology_epoch, configs: Arc::new(configs) })
}

fn encode_pairs(value: &mut Writer, pairs: &BTreeMap<Arc<str>, Arc<str>>) {
    value.compact_count(pairs.len());
    for (key, of) in pairs {
        value.compact_str(key);
        value.compact_str(of);
        value.uvarint(0);
    }
}

fn decode_pairs(reader: &mut Reader<'_>) -> Result<BTreeMap<Arc<str>, Arc<str>>, DecodeError> {
    let mut pairs = BTreeMap::new();
    for _ in 0..reader.nullable_count(true)?.unwrap_or(0) {
        let key = reader.str(true)?.into();
        pairs.insert(key, reader.str(true)?.into());
        no_tags(reader)?;
    }
    Ok(pairs)
}

fn encode_member(value: &mut Writer, said: &StreamsSubscription) {
    value.compact_nullable_str(said.instance.as_ref().map(InstanceId::as_str));
    value.compact_nullable_str(said.rack.as_deref());
    value.compact_str(said.client_id.as_str());
    value.compact_str(said.client_host.as_str());
    value.i32(said.rebalance_timeout_ms);
    value.i32(said.topology_epoch);
    value.compact_str(&said.process);
    // A structure that may be null says first whether it is.
    value.i8(if said.endpoint.is_some() { 1 } else { -1 });
    if let Some(endpoint) = &said.endpoint {
        value.compact_str(&endpoint.host);
        value.i16(endpoint.port.cast_signed());
        value.uvarint(0);
    }
    encode_pairs(value, &said.tags);
    value.uvarint(0);
}

fn decode_member(value: &[u8]) -> Result<StreamsSubscription, DecodeError> {
    let mut reader = open(value)?;
    let instance = reader.nullable_str(true)?.map(InstanceId::new).transpose()?;
    let rack = reader.nullable_str(true)?.map(Arc::from);
    let client_id = ClientId::new(reader.str(true)?)?;
    let client_host = ClientHost::new(reader.str(true)?)?;
    let (rebalance_timeout_ms, topology_epoch) = (reader.i32()?, reader.i32()?);
    let process = reader.str(true)?.into();
    let endpoint = match reader.i8()? {
        ..0 => None,
        _ => Some(decode_endpoint(&mut reader)?),
    };
    let tags: Arc<ClientTags> = Arc::new(decode_pairs(&mut reader)?);
    no_tags(&mut reader)?;
    Ok(StreamsSubscription {
        instance,
        rack,
        client_id,
        client_host,
        rebalance_timeout_ms,
        topology_epoch,
        process,
        endpoint,
        tags,
    })
}

fn decode_endpoint(reader: &mut Reader<'_>) -> Result<Endpoint, DecodeError> {
    let host = reader.str(true)?.into();
    let port = reader.i16()?.cast_unsigned();
    no_tags(reader)?;
    Ok(Endpoint { host, port })
}

fn encode_target(value: &mut Writer, tasks: &Tasks) {
    encode_tasks(value, &tasks.active);
    encode_tasks(value, &tasks.standby);
    encode_tasks(value, &tasks.warmup);
    value.uvarint(0);
}

fn decode_target(value: &[u8]) -> Result<Tasks, DecodeError> {
    let mut reader = open(value)?;
    let active = decode_tasks(&mut reader)?;
    let standby = decode_tasks(&mut reader)?;
    let warmup = decode_tasks(&mut reader)?;
    no_tags(&mut reader)?;
    Ok(Tasks { active, standby, warmup })
}

fn encode_tasks(value: &mut Writer, tasks: &TaskSet) {
    value.compact_count(tasks.len());
    for (subtopology, partitions) in tasks {
        value.compact_str(subtopology);
        value.compact_count(partitions.len());
        partitions.iter().for_each(|partition| value.i32(*partition));
        value.uvarint(0);
    }
}

fn decode_tasks(reader: &mut Reader<'_>) -> Result<TaskSet, DecodeError> {
    let mut tasks = TaskSet::new();
    for _ in 0..reader.count(true)? {
        let subtopology = reader.str(true)?.into();
        let partitions = (0..reader.count(true)?).map(|_| reader.i32()).collect::<Result<_, _>>()?;
        no_tags(reader)?;
        tasks.insert(subtopology, partitions);
    }
    Ok(tasks)
}

fn encode_current(value: &mut Writer, current: &StreamsCurrent) {
    value.i32(current.epoch);
    value.i32(current.previous_epoch);
    value.i8(current.state.to_wire());
    for tasks in [&current.assigned, &current.revoking] {
        encode_active(value, &tasks.active);
        encode_tasks(value, &tasks.standby);
        encode_tasks(value, &tasks.warmup);
    }
    value.uvarint(0);
}

fn encode_active(value: &mut Writer, tasks: &TasksSince) {
    value.compact_count(tasks.len());
    for (subtopology, partitions) in tasks {
        value.compact_str(subtopology);
        value.compact_count(partitions.len());
        partitions.keys().for_each(|partition| value.i32(*partition));
        value.uvarint(1);
        value.tagged(EPOCHS_TAG, |content| {
            content.compact_count(partitions.len());
            partitions.values().for_each(|epoch| content.i32(*epoch));
        });
    }
}

fn decode_current(value: &[u8]) -> Result<StreamsCurrent, DecodeError> {
    let mut reader = open(value)?;
    let (epoch, previous_epoch) = (reader.i32()?, reader.i32()?);
    let state = StreamsMemberState::from_wire(reader.i8()?);
    let mut held = || {
        let active = decode_active(&mut reader, epoch)?;
        let standby = decode_tasks(&mut reader)?;
        let warmup = decode_tasks(&mut reader)?;
        Ok::<_, DecodeError>(HeldTasks { active, standby, warmup })
    };
    let (assigned, revoking) = (held()?, held()?);
    no_tags(&mut reader)?;
    Ok(StreamsCurrent { epoch, previous_epoch, state, assigned, revoking })
}

/// Records of old have no epochs of the tasks: then the member's counts.
fn decode_active(reader: &mut Reader<'_>, member_epoch: i32) -> Result<TasksSince, DecodeError> {
    let mut tasks = TasksSince::new();
    for _ in 0..reader.count(true)? {
        let subtopology = reader.str(true)?.into();
        let partitions = (0..reader.count(true)?).map(|_| reader.i32()).collect::<Result<Vec<_>, _>>()?;
        let mut epochs = Vec::new();
        reader.tagged_fields(|tag, content| {
            if tag == EPOCHS_TAG {
                let count = content.nullable_count(true)?.unwrap_or(0);
                epochs = (0..count).map(|_| content.i32()).collect::<Result<Vec<_>, _>>()?;
            }
            Ok(())
        })?;
        let of = |at: usize| epochs.get(at).filter(|_| epochs.len() == partitions.len()).unwrap_or(&member_epoch);
        let since = partitions.iter().enumerate().map(|(at, partition)| (*partition, *of(at)));
        tasks.insert(subtopology, since.collect());
    }
    Ok(tasks)
}
