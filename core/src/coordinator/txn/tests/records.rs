//! Records as Kafka writes them, byte for byte.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::world::{id, partition};
use crate::coordinator::DecodeError;
use crate::coordinator::txn::record::{decode, encode};
use crate::coordinator::txn::{Transaction, TransactionState, TransactionVersion};
use crate::types::{ProducerEpoch, ProducerId, Timestamp};

fn transaction() -> Transaction {
    Transaction {
        state: TransactionState::PrepareCommit,
        producer_id: ProducerId(5),
        previous_producer_id: Some(ProducerId(5)),
        next_producer_id: Some(ProducerId(6)),
        producer_epoch: ProducerEpoch(3),
        last_producer_epoch: None,
        timeout_ms: 60_000,
        partitions: Arc::new(BTreeSet::from([partition("t-0"), partition("t-2"), partition("u-1")])),
        started_at: Some(Timestamp(9)),
        updated_at: Timestamp(10),
        client_version: TransactionVersion::V2,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_key_is_its_type_and_the_id() {
    let record = encode(&id("tx"), None, TransactionVersion::V2);
    assert_eq!((hex(&record.key).as_str(), record.value), ("000000027478", None));
}

#[test]
fn the_flexible_version_has_tagged_fields() {
    let record = encode(&id("tx"), Some(&transaction()), TransactionVersion::V2);
    let value = record.value.unwrap();
    let expected = [
        "0001",             // version
        "0000000000000005", // producer id
        "0003",             // epoch
        "0000ea60",         // timeout
        "02",               // PrepareCommit
        "03",               // two topics
        "0274",
        "03",
        "00000000",
        "00000002",
        "00",
        "0275",
        "02",
        "00000001",
        "00",
        "000000000000000a", // last update
        "0000000000000009", // start
        "03",
        "0008",
        "0000000000000005",
        "0108",
        "0000000000000006",
        "0202",
        "0002",
    ];
    assert_eq!(hex(&value), expected.concat());
    assert_eq!(decode(&record.key, Some(&value)).unwrap(), Some((id("tx"), Some(transaction()))));
}

#[test]
fn the_first_version_has_none() {
    let old = Transaction { client_version: TransactionVersion::V0, ..transaction() };
    let record = encode(&id("tx"), Some(&old), TransactionVersion::V0);
    let value = record.value.unwrap();
    let expected = [
        "0000",
        "0000000000000005",
        "0003",
        "0000ea60",
        "02",
        "00000002",
        "000174",
        "00000002",
        "00000000",
        "00000002",
        "000175",
        "00000001",
        "00000001",
        "000000000000000a",
        "0000000000000009",
    ];
    assert_eq!(hex(&value), expected.concat());
    let read = Transaction { previous_producer_id: None, next_producer_id: None, ..old };
    assert_eq!(decode(&record.key, Some(&value)).unwrap(), Some((id("tx"), Some(read))));
}

#[test]
fn before_a_transaction_there_are_no_partitions_rather_than_none() {
    let empty = Transaction::first(ProducerId(1), 1_000, Timestamp(7));
    for (version, partitions) in [(TransactionVersion::V0, "ffffffff"), (TransactionVersion::V1, "00")] {
        let record = encode(&id("tx"), Some(&empty), version);
        let value = hex(&record.value.clone().unwrap());
        assert_eq!(value.get(34..34 + partitions.len()), Some(partitions), "{value}");
        let (_, read) = decode(&record.key, record.value.as_deref()).unwrap().unwrap();
        assert_eq!(read.unwrap().partitions, empty.partitions);
    }
}

#[test]
fn what_is_not_ours_is_passed_over_and_what_is_damaged_is_told() {
    assert_eq!(decode(&[0, 1, 0, 0], Some(&[])), Ok(None));
    assert_eq!(decode(&[0], None), Err(DecodeError::Short));
    let record = encode(&id("tx"), Some(&transaction()), TransactionVersion::V2);
    let value = record.value.unwrap();
    assert_eq!(decode(&record.key, Some(&[0, 2])), Err(DecodeError::Version(2)));
    let mut odd = value.to_vec();
    odd[16] = 7;
    assert_eq!(decode(&record.key, Some(&odd)), Err(DecodeError::State(7)));
    for len in 0..value.len() {
        assert!(decode(&record.key, Some(&value[..len])).is_err(), "{len} bytes");
    }
}

#[test]
fn a_field_that_is_not_known_yet_is_passed_over() {
    let record = encode(&id("tx"), Some(&Transaction::first(ProducerId(1), 1, Timestamp(1))), TransactionVersion::V2);
    let mut value = record.value.clone().unwrap().to_vec();
    let tags = value.len() - 11;
    assert_eq!(value[tags], 1, "the previous id alone");
    value[tags] = 2;
    value.extend([3, 2, 0, 9]);
    assert_eq!(decode(&record.key, Some(&value)).unwrap(), decode(&record.key, record.value.as_deref()).unwrap());
}
