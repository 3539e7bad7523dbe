//! Records as Kafka writes them, byte for byte.

use super::super::record::{Change, Update, decode, encode};
use super::{batch, key};
use crate::coordinator::DecodeError;
use crate::coordinator::share_state::{NOT_COUNTED, Shard, ShareState};
use crate::types::{LeaderEpoch, Offset, Timestamp};

fn state() -> ShareState {
    ShareState {
        snapshot_epoch: 3,
        state_epoch: 7,
        leader_epoch: LeaderEpoch(5),
        start: Some(Offset(10)),
        delivery_complete: 2,
        created_at: Timestamp(8),
        written_at: Timestamp(9),
        batches: vec![batch("10-11:0:1"), batch("12-13:2:1")],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A change of `g:1:2`, as Kafka writes it.
fn update(snapshot_epoch: i32, leader_epoch: i32, start: i64, last: i64) -> (Vec<u8>, Vec<u8>) {
    let mut key = encode(&super::key("g:1:2"), None).key.to_vec();
    key[1] = 1;
    let mut value = vec![0, 0];
    value.extend(snapshot_epoch.to_be_bytes());
    value.extend(leader_epoch.to_be_bytes());
    value.extend(start.to_be_bytes());
    value.push(2);
    value.extend(14_i64.to_be_bytes());
    value.extend(last.to_be_bytes());
    value.extend([2, 0, 1, 0]);
    value.extend([1, 0, 4, 0, 0, 0, 6]);
    (key, value)
}

#[test]
fn a_key_is_its_type_the_group_the_topic_and_the_partition() {
    let record = encode(&key("g:1:2"), None);
    let expected = ["0000", "0001", "67", "00000000000000000000000000000001", "00000002"];
    assert_eq!((hex(&record.key), record.value), (expected.concat(), None));
    assert_eq!(decode(&record.key, None), Ok(Some(Change::Snapshot(key("g:1:2"), None))));
}

#[test]
fn a_snapshot_is_all_there_is_to_say() {
    let record = encode(&key("g:1:2"), Some(&state()));
    let value = record.value.unwrap();
    let expected = [
        "0000",             // version
        "00000003",         // snapshot epoch
        "00000007",         // state epoch
        "00000005",         // leader epoch
        "000000000000000a", // start
        "0000000000000008", // created
        "0000000000000009", // written
        "03",
        "000000000000000a",
        "000000000000000b",
        "00",
        "0001",
        "00",
        "000000000000000c",
        "000000000000000d",
        "02",
        "0001",
        "00",
        "01",
        "0004",
        "00000002", // done with
    ];
    assert_eq!(hex(&value), expected.concat());
    assert_eq!(decode(&record.key, Some(&value)), Ok(Some(Change::Snapshot(key("g:1:2"), Some(state())))));
}

#[test]
fn what_is_not_known_is_minus_one_or_not_there() {
    let state = ShareState { start: None, delivery_complete: NOT_COUNTED, batches: Vec::new(), ..state() };
    let record = encode(&key("g:1:2"), Some(&state));
    let value = record.value.unwrap();
    assert_eq!(hex(&value[14..22]), "ffffffffffffffff");
    assert_eq!(hex(&value[38..]), "0100");
    assert_eq!(decode(&record.key, Some(&value)), Ok(Some(Change::Snapshot(key("g:1:2"), Some(state)))));
}

#[test]
fn a_change_is_merged_into_its_snapshot_and_into_no_other() {
    let mut shard = Shard::default();
    let record = encode(&key("g:1:2"), Some(&state()));
    shard.replay_encoded(&record.key, record.value.as_deref()).unwrap();
    let (at, value) = update(3, -1, -1, 15);
    let read = Update {
        snapshot_epoch: 3,
        leader_epoch: None,
        start: None,
        delivery_complete: 6,
        batches: vec![batch("14-15:2:1")],
    };
    assert_eq!(decode(&at, Some(&value)), Ok(Some(Change::Update(key("g:1:2"), read))));
    shard.replay_encoded(&at, Some(&value)).unwrap();
    let changed = ShareState { delivery_complete: 6, batches: vec![batch("10-11:0:1"), batch("12-15:2:1")], ..state() };
    assert_eq!(shard.get(&key("g:1:2")), Some(&changed));
    let (at, value) = update(3, 6, 12, 15);
    shard.replay_encoded(&at, Some(&value)).unwrap();
    let changed = ShareState {
        leader_epoch: LeaderEpoch(6),
        start: Some(Offset(12)),
        batches: vec![batch("12-15:2:1")],
        ..changed
    };
    assert_eq!(shard.get(&key("g:1:2")), Some(&changed));
    let (at, value) = update(2, 9, 14, 20);
    shard.replay_encoded(&at, Some(&value)).unwrap();
    assert_eq!(shard.get(&key("g:1:2")), Some(&changed), "it is of an earlier snapshot");
    shard.replay_encoded(&at, None).unwrap();
    assert_eq!(shard.get(&key("g:1:2")), Some(&changed));
}

#[test]
fn what_is_not_ours_is_passed_over_and_what_is_damaged_is_told() {
    assert_eq!(decode(&[0, 2, 0, 0], Some(&[])), Ok(None));
    assert_eq!(decode(&[0], None), Err(DecodeError::Short));
    let record = encode(&key("g:1:2"), Some(&state()));
    let value = record.value.unwrap();
    assert_eq!(decode(&record.key, Some(&[0, 1])), Err(DecodeError::Version(1)));
    let mut odd = value.to_vec();
    odd[55] = 3;
    assert_eq!(decode(&record.key, Some(&odd)), Err(DecodeError::State(3)));
    for len in 0..value.len() {
        assert!(decode(&record.key, Some(&value[..len])).is_err(), "{len} bytes");
    }
    for len in 0..record.key.len() {
        assert!(decode(&record.key[..len], Some(&value)).is_err(), "{len} bytes");
    }
}
