//! The records of `__share_group_state`, in Kafka's own format. Keys are not flexible, values are, and have version 0.
//!
//! Key: type i16, group string, topic id, partition i32. Type 0, `ShareSnapshotValue`: snapshot epoch i32, state epoch
//! i32, leader epoch i32, start offset i64, times of creation and of the last write i64, state batches (first and last
//! offset i64, state i8, delivery count i16). Type 1, `ShareUpdateValue`: the same without state epoch and times. Tag 0 of
//! both: records that are done with, i32.

use super::state::{NOT_COUNTED, ShareState, ShareStateKey};
use crate::coordinator::group::GroupId;
use crate::coordinator::wire::{Reader, Writer};
use crate::coordinator::{DecodeError, EncodedRecord};
use crate::share::{DeliveryState, StateBatch};
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId};

/// The types of keys (`CoordinatorRecordType`).
const SNAPSHOT: i16 = 0;
const UPDATE: i16 = 1;
const VERSION: i16 = 0;
const DELIVERY_COMPLETE_TAG: u32 = 0;
/// "None" on the wire, of offsets and epochs.
const NONE: i64 = -1;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `None`: forgotten.
    Snapshot(ShareStateKey, Option<ShareState>),
    Update(ShareStateKey, Update),
}

/// What is to be merged into a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Update {
    /// Of the snapshot.
    pub snapshot_epoch: i32,
    pub leader_epoch: Option<LeaderEpoch>,
    pub start: Option<Offset>,
    pub delivery_complete: i32,
    pub batches: Vec<StateBatch>,
}

pub(super) fn encode(of: &ShareStateKey, to: Option<&ShareState>) -> EncodedRecord {
    let mut key = Writer::default();
    key.i16(SNAPSHOT);
    key.str(of.group.as_str());
    key.uuid(of.topic.0);
    key.i32(of.partition);
    EncodedRecord { key: key.finish(), value: to.map(encode_snapshot) }
}

fn encode_snapshot(state: &ShareState) -> bytes::Bytes {
    let mut value = Writer::default();
    value.i16(VERSION);
    value.i32(state.snapshot_epoch);
    value.i32(state.state_epoch);
    value.i32(state.leader_epoch.0);
    value.i64(state.start.map_or(NONE, |start| start.0));
    value.i64(state.created_at.0);
    value.i64(state.written_at.0);
    value.compact_count(state.batches.len());
    for batch in &state.batches {
        value.i64(batch.first.0);
        value.i64(batch.last.0);
        value.i8(batch.state.number());
        value.i16(batch.delivery_count);
        value.uvarint(0);
    }
    if state.delivery_complete == NOT_COUNTED {
        value.uvarint(0);
    } else {
        value.uvarint(1);
        value.tagged(DELIVERY_COMPLETE_TAG, |field| field.i32(state.delivery_complete));
    }
    value.finish()
}

/// `None` for a record of another kind.
pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Change>, DecodeError> {
    let mut reader = Reader::new(key);
    let kind = reader.i16()?;
    if !matches!(kind, SNAPSHOT | UPDATE) {
        return Ok(None);
    }
    let group = GroupId::new(reader.str(false)?)?;
    let key = ShareStateKey { group, topic: TopicId(reader.uuid()?), partition: reader.i32()? };
    Ok(match (kind, value) {
        (SNAPSHOT, value) => Some(Change::Snapshot(key, value.map(decode_snapshot).transpose()?)),
        (_, Some(value)) => Some(Change::Update(key, decode_update(value)?)),
        // A change that is taken away leaves what it made.
        (_, None) => None,
    })
}

fn open(value: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::new(value);
    match reader.i16()? {
        VERSION => Ok(reader),
        other => Err(DecodeError::Version(other)),
    }
}

fn decode_snapshot(value: &[u8]) -> Result<ShareState, DecodeError> {
    let mut reader = open(value)?;
    Ok(ShareState {
        snapshot_epoch: reader.i32()?,
        state_epoch: reader.i32()?,
        leader_epoch: LeaderEpoch(reader.i32()?),
        start: offset(&mut reader)?,
        created_at: Timestamp(reader.i64()?),
        written_at: Timestamp(reader.i64()?),
        batches: decode_batches(&mut reader)?,
        delivery_complete: decode_delivery_complete(&mut reader)?,
    })
}

fn decode_update(value: &[u8]) -> Result<Update, DecodeError> {
    let mut reader = open(value)?;
    Ok(Update {
        snapshot_epoch: reader.i32()?,
        leader_epoch: Some(reader.i32()?).filter(|epoch| i64::from(*epoch) != NONE).map(LeaderEpoch),
        start: offset(&mut reader)?,
        batches: decode_batches(&mut reader)?,
        delivery_complete: decode_delivery_complete(&mut reader)?,
    })
}

fn offset(reader: &mut Reader<'_>) -> Result<Option<Offset>, DecodeError> {
    Ok(Some(reader.i64()?).filter(|offset| *offset != NONE).map(Offset))
}

fn decode_batches(reader: &mut Reader<'_>) -> Result<Vec<StateBatch>, DecodeError> {
    let mut batches = Vec::new();
    for _ in 0..reader.count(true)? {
        let (first, last) = (Offset(reader.i64()?), Offset(reader.i64()?));
        let number = reader.i8()?;
        let state = DeliveryState::of_number(number).ok_or(DecodeError::State(number))?;
        batches.push(StateBatch { first, last, state, delivery_count: reader.i16()? });
        reader.tagged_fields(|_, _| Ok(()))?;
    }
    Ok(batches)
}

fn decode_delivery_complete(reader: &mut Reader<'_>) -> Result<i32, DecodeError> {
    let mut delivery_complete = NOT_COUNTED;
    reader.tagged_fields(|tag, field| {
        if tag == DELIVERY_COMPLETE_TAG {
            delivery_complete = field.i32()?;
        }
        Ok(())
    })?;
    Ok(delivery_complete)
}
