use proptest::prelude::*;

use super::super::ids::{ClientHost, ClientId, Generation, InstanceId, MemberId, ProtocolName, ProtocolType};
use super::*;
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId, TopicName};

fn key() -> OffsetKey {
    OffsetKey { group: GroupId::new("grp").unwrap(), topic: TopicName::new("top").unwrap(), partition: 7 }
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        offset: Offset(0x0102_0304),
        leader_epoch: Some(LeaderEpoch(5)),
        metadata: "hé".into(),
        committed_at: Timestamp(0x0a0b),
        expires_at: None,
        topic_id: TopicId::ZERO,
    }
}

fn generation() -> GroupMetadata {
    GroupMetadata {
        protocol_type: Some(ProtocolType::new("consumer").unwrap()),
        generation: Generation(3),
        protocol: Some(ProtocolName::new("range").unwrap()),
        leader: Some(MemberId::new("m1").unwrap()),
        state_since: Some(Timestamp(9)),
        members: vec![StoredMember {
            id: MemberId::new("m1").unwrap(),
            instance: None,
            client_id: ClientId::new("c").unwrap(),
            client_host: ClientHost::new("/h").unwrap(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(b"sub"),
            assignment: Bytes::from_static(b"as"),
        }],
    }
}

#[test]
fn an_offset_has_kafkas_bytes() {
    let record = Record::OffsetCommit { key: key(), value: Some(committed()) };
    let encoded = record.encode();
    assert_eq!(&encoded.key[..], b"\0\x01\0\x03grp\0\x03top\0\0\0\x07");
    let value = encoded.value.unwrap();
    assert_eq!(&value[..], b"\0\x04\0\0\0\0\x01\x02\x03\x04\0\0\0\x05\x04h\xc3\xa9\0\0\0\0\0\0\x0a\x0b\0");
}

#[test]
fn an_offset_with_a_topic_id_has_kafkas_bytes() {
    let topic_id = TopicId(uuid::Uuid::from_bytes([0x11; 16]));
    let encoded = CommittedOffset { topic_id, leader_epoch: None, metadata: "".into(), ..committed() }.encode();
    let head = b"\0\x04\0\0\0\0\x01\x02\x03\x04\xff\xff\xff\xff\x01\0\0\0\0\0\0\x0a\x0b\x01\x00\x10";
    assert_eq!(&encoded[..], [&head[..], &[0x11; 16]].concat());
}

#[test]
fn an_offset_that_expires_has_kafkas_bytes() {
    let encoded = CommittedOffset { expires_at: Some(Timestamp(0x0c0d)), ..committed() }.encode();
    assert_eq!(&encoded[..], b"\0\x01\0\0\0\0\x01\x02\x03\x04\0\x03h\xc3\xa9\0\0\0\0\0\0\x0a\x0b\0\0\0\0\0\0\x0c\x0d");
}

#[test]
fn a_generation_has_kafkas_bytes() {
    let record = Record::GroupMetadata { group: GroupId::new("grp").unwrap(), value: Some(generation()) };
    let encoded = record.encode();
    assert_eq!(&encoded.key[..], b"\0\x02\0\x03grp");
    let parts: [&[u8]; 11] = [
        b"\0\x03\0\x08consumer\0\0\0\x03",
        b"\0\x05range\0\x02m1",
        b"\0\0\0\0\0\0\0\x09",
        b"\0\0\0\x01",
        b"\0\x02m1\xff\xff",
        b"\0\x01c",
        b"\0\x02/h",
        b"\0\x04\x93\xe0",
        b"\0\0\xaf\xc8",
        b"\0\0\0\x03sub",
        b"\0\0\0\x02as",
    ];
    assert_eq!(&encoded.value.unwrap()[..], parts.concat());
}

#[test]
fn an_empty_group_has_kafkas_bytes() {
    let empty = GroupMetadata {
        protocol_type: None,
        generation: Generation(0),
        protocol: None,
        leader: None,
        state_since: Some(Timestamp(1)),
        members: Vec::new(),
    };
    assert_eq!(&empty.encode()[..], b"\0\x03\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\0\0\0\0");
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Written by Apache Kafka 4.3.1: a new group, its first generation with one static member, and two commits.
#[test]
fn what_kafka_wrote_is_read_and_written_as_it_was() {
    let group = "000200026767";
    let stable = concat!(
        "00030008636f6e73756d657200000001000572616e67650029696e73742d34623537643033632d613161312d343434362d38336266",
        "2d613735323430623937623163000001a203fa9754000000010029696e73742d34623537643033632d613161312d343434362d3833",
        "62662d6137353234306239376231630004696e73740010636f6e736f6c652d636f6e73756d6572000a2f3132372e302e302e310004",
        "93e00000afc80000001c0003000000010006676f6c64656effffffff00000000ffffffffffff0000001e0003000000010006676f6c",
        "64656e000000020000000000000001ffffffff"
    );
    let written = [
        (group, "0003000000000000ffffffff000001a203fa974200000000"),
        (group, stable),
        (
            "0001000267670006676f6c64656e00000001",
            "0004000000000000000a0000000001000001a203fa98770100100289eb8885744608bb64f4f8e8572d17",
        ),
        (
            "0001000267670006676f6c64656e00000000",
            "00040000000000000000ffffffff01000001a203fa98770100100289eb8885744608bb64f4f8e8572d17",
        ),
    ];
    for (key, value) in written {
        let (key, value) = (bytes(key), bytes(value));
        let record = Record::decode(&key, Some(&value)).unwrap().unwrap();
        let encoded = record.encode();
        assert_eq!((&encoded.key[..], encoded.value.as_deref()), (&key[..], Some(&value[..])), "{record:?}");
    }
    let Ok(Some(Record::GroupMetadata { value: Some(value), .. })) =
        Record::decode(&bytes(group), Some(&bytes(stable)))
    else {
        panic!("a generation is read");
    };
    let member = &value.members[0];
    assert_eq!(member.instance.as_ref().map(InstanceId::as_str), Some("inst"));
    assert_eq!((member.rebalance_timeout_ms, member.session_timeout_ms), (300_000, 45_000));
}

#[test]
fn offsets_of_all_versions_are_read() {
    let old = CommittedOffset { leader_epoch: None, ..committed() };
    let v0 = b"\0\0\0\0\0\0\x01\x02\x03\x04\0\x03h\xc3\xa9\0\0\0\0\0\0\x0a\x0b";
    assert_eq!(CommittedOffset::decode(v0).unwrap(), old);
    let mut v2 = v0.to_vec();
    v2[1] = 2;
    assert_eq!(CommittedOffset::decode(&v2).unwrap(), old);
    let mut v1 = v0.to_vec();
    v1[1] = 1;
    v1.extend_from_slice(&(-1_i64).to_be_bytes());
    assert_eq!(CommittedOffset::decode(&v1).unwrap(), old);
    let v3 = b"\0\x03\0\0\0\0\x01\x02\x03\x04\0\0\0\x05\0\x03h\xc3\xa9\0\0\0\0\0\0\x0a\x0b";
    assert_eq!(CommittedOffset::decode(v3).unwrap(), committed());
    // A tag of later versions is passed over.
    let v4 = b"\0\x04\0\0\0\0\x01\x02\x03\x04\0\0\0\x05\x04h\xc3\xa9\0\0\0\0\0\0\x0a\x0b\x01\x09\x02zz";
    assert_eq!(CommittedOffset::decode(v4).unwrap(), committed());
    assert_eq!(CommittedOffset::decode(b"\0\x05"), Err(DecodeError::Version(5)));
    // A key of old is as good as one of now.
    let legacy = Record::decode(b"\0\0\0\x03grp\0\x03top\0\0\0\x07", Some(v0)).unwrap();
    assert_eq!(legacy, Some(Record::OffsetCommit { key: key(), value: Some(old) }));
}

#[test]
fn generations_of_all_versions_are_read() {
    let member = |timeouts: &[u8], instance: &[u8]| {
        [b"\0\x02m1", instance, b"\0\x01c\0\x02/h", timeouts, b"\0\0\0\x03sub\0\0\0\x02as"].concat()
    };
    let head = |version: u8, since: &[u8]| {
        let start = b"\0\x08consumer\0\0\0\x03\0\x05range\0\x02m1";
        [&[0, version], &start[..], since, b"\0\0\0\x01"].concat()
    };
    let since = 9_i64.to_be_bytes();
    let both = b"\0\x04\x93\xe0\0\0\xaf\xc8";
    let mut expected = generation();
    let v2 = [head(2, &since), member(both, b"")].concat();
    assert_eq!(GroupMetadata::decode(&v2).unwrap(), expected);
    expected.state_since = None;
    let v1 = [head(1, b""), member(both, b"")].concat();
    assert_eq!(GroupMetadata::decode(&v1).unwrap(), expected);
    expected.members[0].rebalance_timeout_ms = 45_000;
    let v0 = [head(0, b""), member(b"\0\0\xaf\xc8", b"")].concat();
    assert_eq!(GroupMetadata::decode(&v0).unwrap(), expected);

    let mut v4 = b"\0\x04\x09consumer\0\0\0\x03\x06range\x03m1".to_vec();
    v4.extend_from_slice(&since);
    v4.extend_from_slice(b"\x02\x03m1\x02i\x02c\x03/h\0\x04\x93\xe0\0\0\xaf\xc8\x04sub\x03as\0\0");
    let mut expected = generation();
    expected.members[0].instance = Some(InstanceId::new("i").unwrap());
    assert_eq!(GroupMetadata::decode(&v4).unwrap(), expected);
}

#[test]
fn records_of_other_groups_are_passed_over() {
    // Type 18 was taken away before it was released.
    assert_eq!(Record::decode(b"\0\x12\0\x01g", Some(b"\0\0\0\0\0\x01\0")).unwrap(), None);
}

#[test]
fn bad_bytes_are_refused() {
    assert_eq!(Record::decode(b"", None), Err(DecodeError::Short));
    assert_eq!(Record::decode(b"\0\x02\0\x09g", None), Err(DecodeError::Short));
    assert_eq!(Record::decode(b"\0\x02\xff\xff", None), Err(DecodeError::Null));
    assert_eq!(Record::decode(b"\0\x02\xff\xfe", None), Err(DecodeError::Length));
    assert_eq!(Record::decode(b"\0\x02\0\x01\xff", None), Err(DecodeError::Utf8));
    assert!(matches!(Record::decode(b"\0\x01\0\x01g\0\x01 \0\0\0\0", None), Err(DecodeError::Topic(_))));
    // An array that claims more members than there are bytes.
    let huge = b"\0\x00\0\0\0\0\0\0\xff\xff\xff\xff\x7f\xff\xff\xff";
    assert_eq!(GroupMetadata::decode(huge), Err(DecodeError::Short));
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Zé/ .-]{0,12}"
}

fn some_record() -> impl Strategy<Value = Record> {
    let offset = (text(), "[a-z]{1,5}", any::<i32>(), prop::option::of(some_offset())).prop_map(
        |(group, topic, partition, value)| Record::OffsetCommit {
            key: OffsetKey { group: GroupId::new(&group).unwrap(), topic: TopicName::new(&topic).unwrap(), partition },
            value,
        },
    );
    let group = (text(), prop::option::of(some_generation()))
        .prop_map(|(group, value)| Record::GroupMetadata { group: GroupId::new(&group).unwrap(), value });
    prop_oneof![offset, group]
}

fn some_offset() -> impl Strategy<Value = CommittedOffset> {
    (any::<i64>(), prop::option::of(0..i32::MAX), text(), any::<i64>(), prop::option::of(0..i64::MAX), any::<u128>())
        .prop_map(|(offset, epoch, metadata, committed_at, expires_at, id)| CommittedOffset {
            offset: Offset(offset),
            // A record with an expiry has no room for these two.
            leader_epoch: epoch.filter(|_| expires_at.is_none()).map(LeaderEpoch),
            topic_id: TopicId(uuid::Uuid::from_u128(if expires_at.is_some() { 0 } else { id })),
            metadata: metadata.into(),
            committed_at: Timestamp(committed_at),
            expires_at: expires_at.map(Timestamp),
        })
}

fn some_generation() -> impl Strategy<Value = GroupMetadata> {
    let member = (text(), prop::option::of(text()), text(), 0..i32::MAX, any::<i32>(), any::<[u8; 3]>());
    let members = prop::collection::vec(member, 0..4);
    (text(), any::<i32>(), prop::option::of(text()), prop::option::of(0..i64::MAX), members).prop_map(
        |(name, generation, protocol, since, members)| GroupMetadata {
            protocol_type: (!name.is_empty()).then(|| ProtocolType::new(&name).unwrap()),
            generation: Generation(generation),
            protocol: protocol.map(|name| ProtocolName::new(&name).unwrap()),
            leader: members.first().map(|(id, ..)| MemberId::new(id).unwrap()),
            state_since: since.map(Timestamp),
            members: members
                .into_iter()
                .map(|(id, instance, client, rebalance, session, bytes)| StoredMember {
                    id: MemberId::new(&id).unwrap(),
                    instance: instance.map(|text| InstanceId::new(&text).unwrap()),
                    client_id: ClientId::new(&client).unwrap(),
                    client_host: ClientHost::new("/127.0.0.1").unwrap(),
                    rebalance_timeout_ms: rebalance,
                    session_timeout_ms: session,
                    subscription: Bytes::copy_from_slice(&bytes),
                    assignment: Bytes::copy_from_slice(&bytes[1..]),
                })
                .collect(),
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(record in some_record()) {
        let encoded = record.encode();
        prop_assert_eq!(Record::decode(&encoded.key, encoded.value.as_deref()), Ok(Some(record)));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(kind in 0..4_u8, key: Vec<u8>, version in 0..6_u8, value: Vec<u8>) {
        let key = [&[0, kind], &key[..]].concat();
        let value = [&[0, version], &value[..]].concat();
        let _decoded = Record::decode(&key, Some(&value));
        let _offset = CommittedOffset::decode(&value);
        let _generation = GroupMetadata::decode(&value);
    }

    #[test]
    fn a_cut_record_is_refused(record in some_record(), cut in 1..20_usize) {
        let encoded = record.encode();
        let end = encoded.key.len().saturating_sub(cut);
        prop_assert!(Record::decode(&encoded.key[..end], encoded.value.as_deref()).is_err());
    }
}
