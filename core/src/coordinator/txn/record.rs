//! The records of `__transaction_state`, in Kafka's own format: `TransactionLogKey` and `TransactionLogValue`.
//!
//! Key: type i16 = 0, transactional id string. Value: version i16, then producer id i64, producer epoch i16, timeout
//! i32, status i8, partitions as an array? of topic string and partition numbers as an array of i32, time of the last
//! update i64, time of the start i64. Version 1 is the same with compact lengths and tagged fields: 0 = previous producer
//! id i64, 1 = next producer id i64, 2 = client's transaction version i16.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::state::{Transaction, TransactionState, TransactionVersion, TransactionalId};
use crate::coordinator::wire::{Reader, Writer};
use crate::coordinator::{DecodeError, EncodedRecord};
use crate::types::{ProducerEpoch, ProducerId, Timestamp, TopicName, TopicPartition};

/// The type of key (`CoordinatorRecordType.TRANSACTION_LOG`).
const TRANSACTION_LOG: i16 = 0;
const PREVIOUS_PRODUCER_ID_TAG: u32 = 0;
const NEXT_PRODUCER_ID_TAG: u32 = 1;
const CLIENT_VERSION_TAG: u32 = 2;
/// "None" on the wire, of ids and epochs.
const NONE: i64 = -1;

/// `version`: the cluster's level, which says what others can read.
pub(super) fn encode(id: &TransactionalId, to: Option<&Transaction>, version: TransactionVersion) -> EncodedRecord {
    let mut key = Writer::default();
    key.i16(TRANSACTION_LOG);
    key.str(id.as_str());
    EncodedRecord { key: key.finish(), value: to.map(|transaction| encode_value(transaction, version)) }
}

fn encode_value(transaction: &Transaction, version: TransactionVersion) -> bytes::Bytes {
    // What a client of the second version does cannot be carried on without the tagged fields.
    let flexible = version >= TransactionVersion::V1 || transaction.client_version.bumps_epoch();
    let mut value = Writer::default();
    value.i16(i16::from(flexible));
    value.i64(transaction.producer_id.0);
    value.i16(transaction.producer_epoch.0);
    value.i32(transaction.timeout_ms);
    value.i8(transaction.state.number());
    encode_partitions(&mut value, transaction, flexible);
    value.i64(transaction.updated_at.0);
    value.i64(transaction.started_at.unwrap_or(Timestamp::NONE).0);
    if flexible {
        encode_tags(&mut value, transaction);
    }
    value.finish()
}

/// By topic; none at all, which is not the same as no partitions, before there was a transaction.
fn encode_partitions(value: &mut Writer, transaction: &Transaction, flexible: bool) {
    if transaction.state == TransactionState::Empty {
        return if flexible { value.uvarint(0) } else { value.i32(-1) };
    }
    let mut topics: BTreeMap<&TopicName, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in transaction.partitions.iter() {
        topics.entry(topic).or_default().push(*partition);
    }
    value.array_len(topics.len(), flexible);
    for (topic, partitions) in topics {
        if flexible {
            value.compact_str(topic.as_str())
        } else {
            value.str(topic.as_str())
        }
        value.array_len(partitions.len(), flexible);
        partitions.into_iter().for_each(|partition| value.i32(partition));
        if flexible {
            value.uvarint(0);
        }
    }
}

fn encode_tags(value: &mut Writer, transaction: &Transaction) {
    let ids = [
        (PREVIOUS_PRODUCER_ID_TAG, transaction.previous_producer_id),
        (NEXT_PRODUCER_ID_TAG, transaction.next_producer_id),
    ];
    let given = ids.into_iter().filter_map(|(tag, id)| Some((tag, id?)));
    let client_version = Some(transaction.client_version).filter(|version| *version != TransactionVersion::V0);
    value.uvarint(given.clone().map(|_| 1).chain(client_version.map(|_| 1)).sum());
    for (tag, id) in given {
        value.uvarint(tag);
        value.uvarint(8);
        value.i64(id.0);
    }
    if let Some(version) = client_version {
        value.uvarint(CLIENT_VERSION_TAG);
        value.uvarint(2);
        value.i16(version.0);
    }
}

/// `None` for a record of another kind. The inner `None` is a tombstone.
pub(super) fn decode(
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<Option<(TransactionalId, Option<Transaction>)>, DecodeError> {
    let mut reader = Reader::new(key);
    if reader.i16()? != TRANSACTION_LOG {
        return Ok(None);
    }
    let id = TransactionalId::new(reader.str(false)?)?;
    Ok(Some((id, value.map(decode_value).transpose()?)))
}

fn decode_value(value: &[u8]) -> Result<Transaction, DecodeError> {
    let mut reader = Reader::new(value);
    let flexible = match reader.i16()? {
        0 => false,
        1 => true,
        other => return Err(DecodeError::Version(other)),
    };
    let producer_id = ProducerId(reader.i64()?);
    let producer_epoch = ProducerEpoch(reader.i16()?);
    let timeout_ms = reader.i32()?;
    let status = reader.i8()?;
    let state = TransactionState::ALL.into_iter().find(|state| state.number() == status);
    let partitions = decode_partitions(&mut reader, flexible)?;
    let updated_at = Timestamp(reader.i64()?);
    let started_at = Timestamp(reader.i64()?);
    let mut transaction = Transaction {
        state: state.ok_or(DecodeError::State(status))?,
        producer_id,
        previous_producer_id: None,
        next_producer_id: None,
        producer_epoch,
        last_producer_epoch: None,
        timeout_ms,
        partitions: Arc::new(partitions),
        started_at: Some(started_at).filter(|at| *at != Timestamp::NONE),
        updated_at,
        client_version: TransactionVersion::V0,
    };
    if flexible {
        reader.tagged_fields(|tag, field| decode_tag(tag, field, &mut transaction))?;
    }
    Ok(transaction)
}

fn decode_tag(tag: u32, field: &mut Reader<'_>, transaction: &mut Transaction) -> Result<(), DecodeError> {
    let given = |id: i64| Some(id).filter(|id| *id != NONE).map(ProducerId);
    match tag {
        PREVIOUS_PRODUCER_ID_TAG => transaction.previous_producer_id = given(field.i64()?),
        NEXT_PRODUCER_ID_TAG => transaction.next_producer_id = given(field.i64()?),
        CLIENT_VERSION_TAG => transaction.client_version = TransactionVersion(field.i16()?),
        _ => {}
    }
    Ok(())
}

fn decode_partitions(reader: &mut Reader<'_>, flexible: bool) -> Result<BTreeSet<TopicPartition>, DecodeError> {
    let mut partitions = BTreeSet::new();
    for _ in 0..reader.nullable_count(flexible)?.unwrap_or(0) {
        let topic = TopicName::new(reader.str(flexible)?)?;
        for _ in 0..reader.count(flexible)? {
            partitions.insert(TopicPartition { topic: topic.clone(), partition: reader.i32()? });
        }
        if flexible {
            reader.tagged_fields(|_, _| Ok(()))?;
        }
    }
    Ok(partitions)
}
