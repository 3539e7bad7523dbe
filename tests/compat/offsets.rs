//! OffsetCommit, OffsetFetch, OffsetDelete.

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest};
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use crate::groups::{coordinator, group, stable};
use crate::harness::broker::Broker;
use crate::harness::flex::{Reader, Writer};
use crate::harness::topics::{self, name};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const ILLEGAL_GENERATION: i16 = 22;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const GROUP_ID_NOT_FOUND: i16 = 69;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
const UNKNOWN_TOPIC_ID: i16 = 100;

pub fn commit(of: &str, topic: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(text("note")));
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(vec![topic])
}

fn outcome(wire: &mut Wire, version: i16, request: &OffsetCommitRequest) -> i16 {
    wire.call(version, request).topics[0].partitions[0].error_code
}

/// What is committed for one partition: offset, epoch and metadata.
pub fn committed(wire: &mut Wire, of: &str, topic: &str, partition: i32) -> (i64, i32, String) {
    let asked = OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
    let response = wire.call(5, &OffsetFetchRequest::default().with_group_id(group(of)).with_topics(Some(vec![asked])));
    assert_eq!(response.error_code, 0);
    let found = &response.topics[0].partitions[0];
    assert_eq!(found.error_code, 0);
    (found.committed_offset, found.committed_leader_epoch, found.metadata.as_deref().unwrap_or_default().to_owned())
}

#[test]
fn offset_commit() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    for version in wire.versions::<OffsetCommitRequest>() {
        let simple = unique("simple");
        coordinator(&mut wire, &simple);
        assert_eq!(outcome(&mut wire, version, &commit(&simple, &topic, 1, 42)), 0, "version {version}");
        assert_eq!(committed(&mut wire, &simple, &topic, 1), (42, -1, "note".to_owned()));
        assert_eq!(outcome(&mut wire, version, &commit(&simple, &topic, 1, 7)), 0, "backward, as it is asked for");
        assert_eq!(committed(&mut wire, &simple, &topic, 1).0, 7);
        if version >= 6 {
            let mut request = commit(&simple, &topic, 0, 5);
            request.topics[0].partitions[0].committed_leader_epoch = 3;
            assert_eq!(outcome(&mut wire, version, &request), 0);
            assert_eq!(committed(&mut wire, &simple, &topic, 0).1, 3);
        }
        let mut long = commit(&simple, &topic, 1, 8);
        long.topics[0].partitions[0].committed_metadata = Some(text(&"m".repeat(4_097)));
        assert_eq!(outcome(&mut wire, version, &long), OFFSET_METADATA_TOO_LARGE);
        assert_eq!(outcome(&mut wire, version, &commit(&simple, &unique("missing"), 0, 1)), UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(outcome(&mut wire, version, &commit(&simple, &topic, 9, 1)), UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(committed(&mut wire, &simple, &topic, 1).0, 7);
        let empty_name = outcome(&mut wire, version, &commit("", &topic, 0, 1));
        assert!([0, INVALID_GROUP_ID].contains(&empty_name), "error {empty_name}");
        // Of a group with members only they may commit, in the present generation.
        let managed = unique("managed");
        let (member, generation) = stable(&mut wire, &managed, None);
        let by = |member: &str, generation| {
            commit(&managed, &topic, 0, 11).with_member_id(text(member)).with_generation_id_or_member_epoch(generation)
        };
        assert_eq!(outcome(&mut wire, version, &by(&member, generation)), 0, "version {version}");
        assert_eq!(outcome(&mut wire, version, &by(&member, generation + 1)), ILLEGAL_GENERATION);
        assert_eq!(outcome(&mut wire, version, &by("nobody", generation)), UNKNOWN_MEMBER_ID);
        assert_eq!(outcome(&mut wire, version, &by("", -1)), UNKNOWN_MEMBER_ID, "from outside");
    }
}

/// A commit of a generation in a group that is not there.
#[test]
fn a_commit_of_a_member_of_no_group_is_refused() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    for version in wire.versions::<OffsetCommitRequest>() {
        let missing = unique("missing");
        coordinator(&mut wire, &missing);
        let request =
            commit(&missing, &topic, 0, 1).with_member_id(text("nobody")).with_generation_id_or_member_epoch(3);
        let expected = if version >= 9 { GROUP_ID_NOT_FOUND } else { ILLEGAL_GENERATION };
        assert_eq!(outcome(&mut wire, version, &request), expected, "version {version}");
    }
}

/// Version 10 names topics by their ids.
#[test]
fn offset_commit_and_fetch_by_topic_id() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let id = topics::topic_id(&mut wire, &topic);
    let simple = unique("simple");
    coordinator(&mut wire, &simple);
    for (id, expected) in [(id, 0), (Uuid::new_v4(), UNKNOWN_TOPIC_ID)] {
        let body = Writer::default().string(&simple).i32(-1).string("").null();
        let body = body.array(1).uuid(id).array(1).i32(0).i64(33).i32(-1).string("note").tags().tags().tags().bytes();
        let correlation = wire.send_body(OffsetCommitRequest::KEY, 10, 2, &body);
        let mut reader = Reader(wire.receive_body(1, correlation));
        reader.i32();
        assert_eq!(reader.array(), Some(1));
        assert_eq!(reader.uuid(), id);
        assert_eq!(reader.array(), Some(1));
        assert_eq!((reader.i32(), reader.i16()), (0, expected));
        for _ in 0..3 {
            reader.tags();
        }
        reader.end();
    }
    assert_eq!(committed(&mut wire, &simple, &topic, 0).0, 33);
    for (id, offset, expected) in [(id, 33, 0), (Uuid::new_v4(), -1, UNKNOWN_TOPIC_ID)] {
        let body = Writer::default().array(1).string(&simple).null().i32(-1);
        let body = body.array(1).uuid(id).array(1).i32(0).tags().tags().i8(0).tags().bytes();
        let correlation = wire.send_body(OffsetFetchRequest::KEY, 10, 2, &body);
        let mut reader = Reader(wire.receive_body(1, correlation));
        reader.i32();
        assert_eq!(reader.array(), Some(1));
        assert_eq!(reader.string().as_deref(), Some(&*simple));
        assert_eq!(reader.array(), Some(1));
        assert_eq!(reader.uuid(), id);
        assert_eq!(reader.array(), Some(1));
        assert_eq!((reader.i32(), reader.i64(), reader.i32()), (0, offset, -1));
        assert_eq!(reader.string().unwrap_or_default(), if expected == 0 { "note" } else { "" });
        assert_eq!(reader.i16(), expected);
        reader.tags();
        reader.tags();
        assert_eq!(reader.i16(), 0, "of the group");
        reader.tags();
        reader.tags();
        reader.end();
    }
}

#[test]
fn offset_fetch() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 3);
    let simple = unique("simple");
    coordinator(&mut wire, &simple);
    assert_eq!(outcome(&mut wire, 8, &commit(&simple, &topic, 0, 10)), 0);
    assert_eq!(outcome(&mut wire, 8, &commit(&simple, &topic, 2, 12)), 0);
    for version in wire.versions::<OffsetFetchRequest>() {
        let expected = vec![(0, 10, "note".to_owned(), 0), (1, -1, String::new(), 0), (2, 12, "note".to_owned(), 0)];
        let note =
            |m: &Option<_>| m.as_ref().map_or_else(String::new, |m: &kafka_protocol::protocol::StrBytes| m.to_string());
        if version < 8 {
            let asked =
                OffsetFetchRequestTopic::default().with_name(name(&topic)).with_partition_indexes(vec![0, 1, 2]);
            let request = OffsetFetchRequest::default().with_group_id(group(&simple));
            let response = wire.call(version, &request.clone().with_topics(Some(vec![asked])));
            let partitions = response.topics[0].partitions.iter();
            let mut found: Vec<_> =
                partitions.map(|p| (p.partition_index, p.committed_offset, note(&p.metadata), p.error_code)).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "version {version}");
            if version >= 2 {
                let all = wire.call(version, &request.with_topics(None));
                assert_eq!(
                    (all.error_code, all.topics.len(), all.topics[0].partitions.len()),
                    (0, 1, 2),
                    "version {version}"
                );
            }
            continue;
        }
        let asked = OffsetFetchRequestTopics::default().with_name(name(&topic)).with_partition_indexes(vec![0, 1, 2]);
        let of = |name: &str, topics| {
            let group = OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(topics);
            if version >= 9 { group.with_member_id(None).with_member_epoch(-1) } else { group }
        };
        let groups = vec![of(&simple, Some(vec![asked])), of(&unique("missing"), None)];
        let response = wire.call(version, &OffsetFetchRequest::default().with_groups(groups).with_require_stable(true));
        let partitions = response.groups[0].topics[0].partitions.iter();
        let mut found: Vec<_> =
            partitions.map(|p| (p.partition_index, p.committed_offset, note(&p.metadata), p.error_code)).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "version {version}");
        let missing = &response.groups[1];
        assert_eq!((missing.error_code, missing.topics.len()), (0, 0), "nothing of a group that is not");
        let all = wire.call(version, &OffsetFetchRequest::default().with_groups(vec![of(&simple, None)]));
        assert_eq!(all.groups[0].topics[0].partitions.len(), 2, "all that is committed");
    }
}

fn delete(of: &str, topic: &str, partition: i32) -> OffsetDeleteRequest {
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(partition);
    let topic = OffsetDeleteRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    OffsetDeleteRequest::default().with_group_id(group(of)).with_topics(vec![topic])
}

#[test]
fn offset_delete() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let simple = unique("simple");
    coordinator(&mut wire, &simple);
    assert_eq!(wire.call(0, &delete(&simple, &topic, 0)).error_code, GROUP_ID_NOT_FOUND);
    assert_eq!(outcome(&mut wire, 8, &commit(&simple, &topic, 0, 10)), 0);
    let gone = wire.call(0, &delete(&simple, &topic, 0));
    assert_eq!((gone.error_code, gone.topics[0].partitions[0].error_code), (0, 0));
    assert_eq!(committed(&mut wire, &simple, &topic, 0).0, -1);
    // What a member of the group subscribes to stays.
    let managed = unique("managed");
    let (member, generation) = subscribed(&mut wire, &managed, &topic);
    let by_member =
        commit(&managed, &topic, 0, 3).with_member_id(text(&member)).with_generation_id_or_member_epoch(generation);
    assert_eq!(outcome(&mut wire, 8, &by_member), 0);
    let kept = wire.call(0, &delete(&managed, &topic, 0));
    assert_eq!((kept.error_code, kept.topics[0].partitions[0].error_code), (0, GROUP_SUBSCRIBED_TO_TOPIC));
    assert_eq!(committed(&mut wire, &managed, &topic, 0).0, 3);
}

/// A stable group whose member subscribes to a topic in the consumer protocol's own encoding.
fn subscribed(wire: &mut Wire, of: &str, topic: &str) -> (String, i32) {
    coordinator(wire, of);
    let mut request = crate::groups::join(of, "", None);
    for protocol in &mut request.protocols {
        protocol.metadata = crate::groups::subscription(&[topic]);
    }
    let asked = wire.call(7, &request);
    let joined = wire.call(7, &request.with_member_id(asked.member_id));
    assert_eq!(joined.error_code, 0);
    let synced = wire.call(3, &crate::groups::sync(of, joined.generation_id, &joined.member_id, &joined));
    assert_eq!(synced.error_code, 0);
    (joined.member_id.to_string(), joined.generation_id)
}

#[test]
fn committed_offsets_survive_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let groups: Vec<_> = (0..20).map(|i| unique(&format!("group{i}"))).collect();
    for (i, of) in (0..).zip(&groups) {
        coordinator(&mut wire, of);
        assert_eq!(outcome(&mut wire, 8, &commit(of, &topic, 0, i)), 0);
    }
    for round in 0..3 {
        broker.kill();
        broker.restart();
        let mut wire = broker.wire();
        for (i, of) in (0..).zip(&groups) {
            coordinator(&mut wire, of);
            assert_eq!(committed(&mut wire, of, &topic, 0), (i, -1, "note".to_owned()), "round {round}");
        }
    }
}

/// Offsets of a topic go with it.
#[test]
fn offsets_of_a_deleted_topic_are_gone() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let (kept, deleted) = (topics::topic(&mut wire, 1), topics::topic(&mut wire, 1));
    let simple = unique("simple");
    coordinator(&mut wire, &simple);
    for topic in [&kept, &deleted] {
        assert_eq!(outcome(&mut wire, 8, &commit(&simple, topic, 0, 4)), 0);
    }
    let request = kafka_protocol::messages::DeleteTopicsRequest::default().with_timeout_ms(30_000);
    assert_eq!(wire.call(5, &request.with_topic_names(vec![name(&deleted)])).responses[0].error_code, 0);
    eventually("its offset is gone", || {
        let all = wire.call(5, &OffsetFetchRequest::default().with_group_id(group(&simple)).with_topics(None));
        let names: Vec<_> = all.topics.iter().map(|t| t.name.0.to_string()).collect();
        (names == [kept.clone()]).then_some(())
    });
}
