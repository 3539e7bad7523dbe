//! What is stored has Kafka's form, byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::super::consumer::{Epoch, TargetEpoch};
use super::super::super::ids::{ClientHost, ClientId, GroupId, MemberId};
use super::super::super::record::{Record, ShareChange};
use super::super::{ShareCurrent, SharePartitions, ShareSubscription, TopicPartitions};
use super::names;
use crate::types::{Timestamp, TopicId};

fn topic(byte: u8) -> TopicId {
    TopicId(uuid::Uuid::from_bytes([byte; 16]))
}

fn holds(change: ShareChange, key: &[u8], value: &[u8]) {
    let record = Record::Share { group: GroupId::new("g").unwrap(), change };
    let encoded = record.encode();
    assert_eq!((&encoded.key[..], encoded.value.as_deref()), (key, Some(value)), "{record:?}");
    assert_eq!(Record::decode(key, Some(value)).unwrap().as_ref(), Some(&record));
    for end in 0..value.len() {
        assert!(Record::decode(key, value.get(..end)).is_err(), "{record:?} cut at {end}");
    }
}

#[test]
fn records_have_kafkas_form() {
    let member = || MemberId::new("m").unwrap();
    let of_member = |kind: u8| [0, kind, 0, 1, b'g', 0, 1, b'm'];
    let of_group = |kind: u8| [0, kind, 0, 1, b'g'];
    let said = ShareSubscription {
        rack: Some("r".into()),
        client_id: ClientId::new("c").unwrap(),
        client_host: ClientHost::new("/h").unwrap(),
        topics: names(&["a", "b"]),
    };
    let value = [0, 0, 2, b'r', 2, b'c', 3, b'/', b'h', 3, 2, b'a', 2, b'b', 0];
    holds(ShareChange::Member(member(), Some(Arc::new(said))), &of_member(10), &value);
    let epoch = Epoch { epoch: 3, metadata_hash: 258 };
    holds(ShareChange::Group(Some(epoch)), &of_group(11), &[0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2, 0]);
    let target_epoch = TargetEpoch { epoch: 4, at: Timestamp(5) };
    let value = [0, 0, 0, 0, 0, 4, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5];
    holds(ShareChange::TargetEpoch(Some(target_epoch)), &of_group(12), &value);
    let target = BTreeMap::from([(topic(7), BTreeSet::from([1]))]);
    let value = [&[0, 0, 2][..], &[7; 16], &[2, 0, 0, 0, 1, 0, 0]].concat();
    holds(ShareChange::Target(member(), Some(Arc::new(target.clone()))), &of_member(13), &value);
    let current = ShareCurrent { epoch: 4, previous_epoch: 3, assigned: target };
    let value = [&[0, 0, 0, 0, 0, 4, 0, 0, 0, 3, 0, 2][..], &[7; 16], &[2, 0, 0, 0, 1, 0, 0]].concat();
    holds(ShareChange::Current(member(), Some(current)), &of_member(14), &value);
    let of = |index| TopicPartitions { name: "a".into(), partitions: BTreeSet::from([index]) };
    let partitions = SharePartitions {
        initializing: BTreeMap::from([(topic(7), of(1))]),
        initialized: BTreeMap::from([(topic(8), of(2))]),
        deleting: BTreeMap::from([(topic(9), "d".into())]),
    };
    let listed = |byte, index| [&[2][..], &[byte; 16], &[2, b'a', 2, 0, 0, 0, index, 0]].concat();
    let value = [&[0, 0][..], &listed(7, 1), &listed(8, 2), &[2], &[9; 16], &[2, b'd', 0, 0]].concat();
    holds(ShareChange::Partitions(Some(Arc::new(partitions))), &of_group(15), &value);
}
