use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{GroupId as WireGroupId, OffsetDeleteRequest, TopicName as WireTopicName};
use millstream_core::coordinator::group::{
    CommitError, CommitPartitionError, CommittedTopic, DeletePartitionError, DeletedOffsets, Fetched, FetchedOffset,
    FetchedTopic, OffsetDeleteError,
};
use millstream_core::types::{LeaderEpoch, Offset, TopicId, TopicName};
use uuid::Uuid;

use super::*;
use crate::coordinator::CoordinatorError;
use crate::protocol::StrBytes;
use crate::protocol::encode_response;
use crate::protocol::offset_commit::{OffsetCommitPartition, OffsetCommitRequest, OffsetCommitTopic};
use crate::protocol::offset_fetch::{
    OffsetFetchGroup, OffsetFetchGroupResponse, OffsetFetchResponse, OffsetFetchTopic,
};

const ORDERS: TopicId = TopicId(Uuid::from_u128(7));

/// One topic, `orders`, with three partitions.
fn find(topic: &TopicRef) -> Result<Found, ResponseError> {
    let orders = Found { id: ORDERS, name: TopicName::new("orders").unwrap(), partition_count: 3 };
    match topic {
        TopicRef::Name(name) if &**name == "orders" => Ok(orders),
        TopicRef::Id(id) if *id == ORDERS.0 => Ok(orders),
        TopicRef::Name(_) => Err(ResponseError::UnknownTopicOrPartition),
        TopicRef::Id(_) => Err(ResponseError::UnknownTopicId),
    }
}

/// By name or by id, as the version has it.
fn topic(version: i16, name: &'static str) -> TopicRef {
    match (version >= 10, name) {
        (false, name) => TopicRef::Name(StrBytes::from_static_str(name)),
        (true, "orders") => TopicRef::Id(ORDERS.0),
        (true, _) => TopicRef::Id(Uuid::from_u128(99)),
    }
}

fn partition(index: i32, metadata: Option<&str>) -> OffsetCommitPartition {
    OffsetCommitPartition {
        index,
        committed_offset: 5,
        committed_leader_epoch: -1,
        committed_metadata: metadata.map(|text| StrBytes::from_string(text.to_owned())),
    }
}

fn commit_request(version: i16) -> OffsetCommitRequest {
    let of_orders = vec![partition(3, None), partition(0, None), partition(1, Some("note")), partition(-1, None)];
    OffsetCommitRequest {
        group_id: StrBytes::from_static_str("g"),
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![
            OffsetCommitTopic { topic: topic(version, "missing"), partitions: vec![partition(0, None)] },
            OffsetCommitTopic { topic: topic(version, "orders"), partitions: of_orders },
        ],
        ..OffsetCommitRequest::default()
    }
}

fn codes(response: &crate::protocol::offset_commit::OffsetCommitResponse) -> Vec<Vec<(i32, i16)>> {
    let of_topic = |topic: &crate::protocol::offset_commit::OffsetCommitTopicResponse| {
        topic.partitions.iter().map(|p| (p.index, p.error_code)).collect()
    };
    response.topics.iter().map(of_topic).collect()
}

#[test]
fn a_commit_is_put_for_the_partitions_that_are_there() {
    for version in 2..=10 {
        let asked = commit_request(version);
        let plan = commit::from_wire(&asked, &find).unwrap();
        let [put] = &plan.commit.topics[..] else { panic!("one topic: {:?}", plan.commit) };
        assert_eq!((put.name.as_str(), put.id), ("orders", ORDERS));
        let put: Vec<_> = put.partitions.iter().map(|p| (p.partition, &*p.metadata, p.leader_epoch)).collect();
        assert_eq!(put, [(0, "", None), (1, "note", None)], "null is no text");
        assert_eq!((plan.commit.member, plan.commit.retention_ms), (None, None));
        let committed = CommittedTopic {
            name: TopicName::new("orders").unwrap(),
            id: ORDERS,
            partitions: vec![(0, Ok(())), (1, Err(CommitPartitionError::MetadataTooLarge))],
        };
        let done = commit::to_wire(&asked, &plan.verdicts, Ok(Ok(vec![committed])), version);
        let unknown = if version >= 10 { 100 } else { 3 };
        assert_eq!(codes(&done), [vec![(0, unknown)], vec![(3, 3), (0, 0), (1, 12), (-1, 3)]], "in the order asked");
        let gone = Ok(Err(CommitError::GroupNotFound));
        let refused = commit::to_wire(&asked, &plan.verdicts, gone, version);
        let code = if version >= 9 { 69 } else { 22 };
        assert_eq!(codes(&refused), [vec![(0, unknown)], vec![(3, 3), (0, code), (1, code), (-1, 3)]]);
        let loading = commit::to_wire(&asked, &plan.verdicts, Err(CoordinatorError::LoadInProgress), version);
        assert_eq!(codes(&loading)[1], [(3, 3), (0, 14), (1, 14), (-1, 3)]);
        for body in [&done, &refused, &loading] {
            encode_response(8, version, 1, body).unwrap();
        }
    }
}

#[test]
fn what_a_commit_says_of_itself_is_kept() {
    let mut asked = commit_request(4);
    asked.retention_time_ms = 0;
    asked.member_id = StrBytes::from_static_str("m");
    asked.group_instance_id = Some(StrBytes::from_static_str("i"));
    asked.generation_id_or_member_epoch = 4;
    asked.topics[1].partitions[1].committed_leader_epoch = 0;
    let plan = commit::from_wire(&asked, &find).unwrap();
    assert_eq!((plan.commit.retention_ms, plan.commit.generation.0), (Some(0), 4));
    assert_eq!(plan.commit.member.unwrap().as_str(), "m");
    assert_eq!(plan.commit.instance.unwrap().as_str(), "i");
    assert_eq!(plan.commit.topics[0].partitions[0].leader_epoch, Some(LeaderEpoch(0)));
}

/// A partition takes 18 bytes in the request, and its record repeats the group's name.
#[test]
fn a_commit_whose_records_would_be_out_of_proportion_is_refused_as_one() {
    let mut asked = commit_request(9);
    asked.group_id = StrBytes::from_string("g".repeat(30_000));
    asked.topics[1].partitions = vec![partition(0, None); 1_000];
    let plan = commit::from_wire(&asked, &find).unwrap();
    assert!(plan.commit.topics.is_empty());
    let refused = commit::to_wire(&asked, &plan.verdicts, Ok(Ok(Vec::new())), 9);
    assert_eq!(codes(&refused)[0], [(0, 3)]);
    assert!(codes(&refused)[1].iter().all(|code| *code == (0, 28)));
    asked.group_id = StrBytes::from_static_str("g");
    assert_eq!(commit::from_wire(&asked, &find).unwrap().commit.topics[0].partitions.len(), 1_000);
}

fn fetch_group(version: i16, topics: Option<Vec<OffsetFetchTopic>>) -> OffsetFetchGroup {
    let member_epoch = if version >= 9 { 3 } else { -1 };
    OffsetFetchGroup { group_id: StrBytes::from_static_str("g"), member_id: None, member_epoch, topics }
}

fn respond(version: i16, topics: Vec<crate::protocol::offset_fetch::OffsetFetchTopicResponse>) {
    let group = OffsetFetchGroupResponse { group_id: StrBytes::from_static_str("g"), topics, error_code: 0 };
    encode_response(9, version, 1, &OffsetFetchResponse { throttle_time_ms: 0, groups: vec![group] }).unwrap();
}

fn found(offset: i64) -> Fetched {
    Fetched::Offset(FetchedOffset {
        offset: Offset(offset),
        leader_epoch: Some(LeaderEpoch(2)),
        metadata: "note".into(),
    })
}

#[test]
fn a_fetch_is_answered_as_asked_in_every_version() {
    for version in 1..=10 {
        let topics = vec![
            OffsetFetchTopic { topic: topic(version, "no topic!"), partitions: vec![4] },
            OffsetFetchTopic { topic: topic(version, "orders"), partitions: vec![1, 0, 1, 8] },
        ];
        let plan = fetch::from_wire(&fetch_group(version, Some(topics)), true, &find).unwrap();
        let put = plan.fetch.topics.clone().unwrap();
        assert_eq!(
            (put.len(), put[0].name.as_str(), put[0].id, &put[0].partitions[..]),
            (1, "orders", ORDERS, &[1, 0, 8][..])
        );
        let fetched = FetchedTopic {
            name: TopicName::new("orders").unwrap(),
            id: ORDERS,
            partitions: vec![(1, found(11)), (0, Fetched::Nothing), (8, Fetched::Unstable)],
        };
        let answered = fetch::to_wire(plan, vec![fetched], version, &find);
        let rows: Vec<Vec<(i32, i64, i32, i16)>> = answered
            .iter()
            .map(|t| {
                let row = |p: &crate::protocol::offset_fetch::OffsetFetchPartitionResponse| {
                    (p.index, p.committed_offset, p.committed_leader_epoch, p.error_code)
                };
                t.partitions.iter().map(row).collect()
            })
            .collect();
        let unknown = if version >= 10 { 100 } else { 0 };
        assert_eq!(rows, [vec![(4, -1, -1, unknown)], vec![(1, 11, 2, 0), (0, -1, -1, 0), (8, -1, -1, 88)]]);
        assert_eq!(answered[1].topic, topic(version, "orders"));
        let notes: Vec<_> = answered[1].partitions.iter().map(|p| p.metadata.as_deref()).collect();
        assert_eq!(notes, [Some("note"), Some(""), Some("")]);
        respond(version, answered);
    }
}

/// A topic that is gone is still known by its name to those who ask for names.
#[test]
fn everything_that_is_committed_is_said_by_name_or_by_id() {
    for version in 2..=10 {
        let plan = fetch::from_wire(&fetch_group(version, None), false, &find).unwrap();
        assert_eq!(plan.fetch.topics, None);
        let fetched = |name: &str| FetchedTopic {
            name: TopicName::new(name).unwrap(),
            id: TopicId::ZERO,
            partitions: vec![(0, found(1))],
        };
        let answered = fetch::to_wire(plan, vec![fetched("gone"), fetched("orders")], version, &find);
        let named: Vec<_> = answered.iter().map(|t| t.topic.clone()).collect();
        let expected = match version {
            10 => vec![topic(10, "orders")],
            _ => vec![topic(version, "gone"), topic(version, "orders")],
        };
        assert_eq!(named, expected);
        respond(version, answered);
    }
    let named = vec![OffsetFetchTopic { topic: topic(9, "gone"), partitions: vec![0] }];
    let plan = fetch::from_wire(&fetch_group(9, Some(named)), false, &find).unwrap();
    let put = plan.fetch.topics.unwrap();
    assert_eq!((put[0].name.as_str(), put[0].id), ("gone", TopicId::ZERO));
}

fn delete_request() -> OffsetDeleteRequest {
    let topic = |name: &'static str, partitions: &[i32]| {
        let partitions = partitions.iter().map(|p| OffsetDeleteRequestPartition::default().with_partition_index(*p));
        OffsetDeleteRequestTopic::default()
            .with_name(WireTopicName(StrBytes::from_static_str(name)))
            .with_partitions(partitions.collect())
    };
    OffsetDeleteRequest::default().with_group_id(WireGroupId(StrBytes::from_static_str("g"))).with_topics(vec![
        topic("orders", &[0, 3, 0]),
        topic("missing", &[1]),
        topic("orders", &[2]),
    ])
}

#[test]
fn offsets_are_deleted_of_the_partitions_that_are_there() {
    let delete::Plan { delete, refused } = delete::from_wire(&delete_request(), &find).unwrap();
    assert_eq!(delete.topics, [(TopicName::new("orders").unwrap(), vec![0, 2])]);
    let deleted = DeletedOffsets {
        name: TopicName::new("orders").unwrap(),
        partitions: vec![(0, Ok(())), (2, Err(DeletePartitionError::Subscribed))],
    };
    let done = delete::to_wire(refused, Ok(Ok(vec![deleted])));
    let rows: Vec<_> = done
        .topics
        .iter()
        .map(|t| (t.name.to_string(), t.partitions.iter().map(|p| (p.partition_index, p.error_code)).collect()))
        .collect::<Vec<(String, Vec<(i32, i16)>)>>();
    assert_eq!(rows, [("missing".to_owned(), vec![(1, 3)]), ("orders".to_owned(), vec![(3, 3), (0, 0), (2, 86)])]);
    encode_response(47, 0, 1, &done).unwrap();
}

#[test]
fn an_error_of_the_group_stands_alone_at_the_top() {
    let delete::Plan { refused, .. } = delete::from_wire(&delete_request(), &find).unwrap();
    let done = delete::to_wire(refused, Ok(Err(OffsetDeleteError::GroupNotFound)));
    assert_eq!((done.error_code, done.topics.len()), (69, 0));
}
