//! Vectors are bytes that Kafka 4.3.1's own classes (`StreamsGroupHeartbeatRequestData` and the others) wrote.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};

use super::super::allocated::allocated_by;
use super::super::decode::Decode;
use super::super::encode::Encode;
use super::super::samples::{body, check_codec_beyond_the_crate, damage, with_seeds};
use super::super::{guard, shape};
use super::*;

const BEAT: &str = concat!(
    "0267026d000000070000000502690272000493e00100000004020373300203696e0204692e2a02046c6f670000000000",
    "0302026b02760000020573696e6b02047265700000010200000100020200000200010300020003000000020373300300",
    "000001000000020001000270010268ffff0002026b0276000203733000000001000000000000000900010100",
);
const LEAVE: &str = "0267026dffffffff000000000000ffffffffff00000000ff0000000000";
const BEATEN: &str = concat!(
    "00000000006e0265026d0000000800001388000000060000000702030264000203733003000000010000000200010000",
    "0000090202682384000203696e020000000300010000",
);
const ASK: &str = "03026702680100";
const DESCRIBED: &str = concat!(
    "0000000003000000026707537461626c6500000002000000010100000004020373300203696e020573696e6b02046c6f",
    "6700000002000302026b0276000001000002026d000000020002720263032f31000000040270ff02026b027600020373",
    "300000000100000000000000090001020373300200000001000101000101020373300200000001000001000000014800",
    "0045036e6f0268010000000000000000ff01800000000000",
);

fn unhex(text: &str) -> Bytes {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Both ways between the value and Kafka's bytes.
fn check<T: Decode + Encode + PartialEq + Debug>(value: &T, kafkas: &str) {
    let kafkas = unhex(kafkas);
    let mut ours = BytesMut::new();
    value.encode_body(0, &mut ours).expect("it can be said");
    assert_eq!(ours, kafkas);
    assert_eq!(T::decode_body(0, kafkas).as_ref(), Ok(value));
}

fn key_value() -> KeyValue {
    KeyValue { key: "k".into(), value: "v".into() }
}

fn tasks(partitions: &[i32]) -> PartitionsOf {
    PartitionsOf { name: "s0".into(), partitions: partitions.to_vec() }
}

fn offset() -> TaskOffset {
    TaskOffset { subtopology_id: "s0".into(), partition: 1, offset: 9 }
}

fn topic(name: &'static str, partitions: i32, replication_factor: i16, topic_configs: Vec<KeyValue>) -> TopicInfo {
    TopicInfo { name: name.into(), partitions, replication_factor, topic_configs }
}

#[test]
fn heartbeats_are_kafkas() {
    let subtopology = Subtopology {
        subtopology_id: "s0".into(),
        source_topics: vec!["in".into()],
        source_topic_regex: vec!["i.*".into()],
        state_changelog_topics: vec![topic("log", 0, 3, vec![key_value()])],
        repartition_sink_topics: vec!["sink".into()],
        repartition_source_topics: vec![topic("rep", 258, 0, vec![])],
        copartition_groups: vec![CopartitionGroup {
            source_topics: vec![0],
            source_topic_regex: vec![1],
            repartition_source_topics: vec![2, 3],
        }],
    };
    let beat = StreamsGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        member_epoch: 7,
        endpoint_information_epoch: 5,
        instance_id: Some("i".into()),
        rack_id: Some("r".into()),
        rebalance_timeout_ms: 300_000,
        topology: Some(Topology { epoch: 4, subtopologies: vec![subtopology] }),
        active_tasks: Some(vec![tasks(&[1, 2])]),
        standby_tasks: Some(vec![]),
        warmup_tasks: None,
        process_id: Some("p".into()),
        user_endpoint: Some(Endpoint { host: "h".into(), port: 65_535 }),
        client_tags: Some(vec![key_value()]),
        task_offsets: Some(vec![offset()]),
        task_end_offsets: Some(vec![]),
        shutdown_application: true,
    };
    check(&beat, BEAT);
    let leave = StreamsGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        member_epoch: -1,
        rebalance_timeout_ms: -1,
        ..Default::default()
    };
    check(&leave, LEAVE);
}

#[test]
fn answers_to_heartbeats_are_kafkas() {
    let beaten = StreamsGroupHeartbeatResponse {
        error_code: 110,
        error_message: Some("e".into()),
        member_id: "m".into(),
        member_epoch: 8,
        heartbeat_interval_ms: 5_000,
        acceptable_recovery_lag: 6,
        task_offset_interval_ms: 7,
        status: Some(vec![Status { status_code: 3, status_detail: "d".into() }]),
        active_tasks: Some(vec![tasks(&[1, 2])]),
        standby_tasks: Some(vec![]),
        warmup_tasks: None,
        endpoint_information_epoch: 9,
        partitions_by_user_endpoint: Some(vec![EndpointToPartitions {
            user_endpoint: Endpoint { host: "h".into(), port: 9092 },
            active_partitions: vec![PartitionsOf { name: "in".into(), partitions: vec![3] }],
            standby_partitions: vec![],
        }]),
    };
    check(&beaten, BEATEN);
}

#[test]
fn descriptions_are_kafkas() {
    let ask =
        StreamsGroupDescribeRequest { group_ids: vec!["g".into(), "h".into()], include_authorized_operations: true };
    check(&ask, ASK);
    let subtopology = DescribedSubtopology {
        subtopology_id: "s0".into(),
        source_topics: vec!["in".into()],
        repartition_sink_topics: vec!["sink".into()],
        state_changelog_topics: vec![topic("log", 2, 3, vec![key_value()])],
        repartition_source_topics: vec![],
    };
    let member = DescribedMember {
        member_id: "m".into(),
        member_epoch: 2,
        instance_id: None,
        rack_id: Some("r".into()),
        client_id: "c".into(),
        client_host: "/1".into(),
        topology_epoch: 4,
        process_id: "p".into(),
        user_endpoint: None,
        client_tags: vec![key_value()],
        task_offsets: vec![offset()],
        task_end_offsets: vec![],
        assignment: Assignment { active_tasks: vec![tasks(&[1])], ..Default::default() },
        target_assignment: Assignment { warmup_tasks: vec![tasks(&[1])], ..Default::default() },
        is_classic: true,
    };
    let found = DescribedGroup {
        group_id: "g".into(),
        group_state: "Stable".into(),
        group_epoch: 2,
        assignment_epoch: 1,
        topology: Some(DescribedTopology { epoch: 4, subtopologies: Some(vec![subtopology]) }),
        members: vec![member],
        authorized_operations: 328,
        ..Default::default()
    };
    let missing = DescribedGroup {
        error_code: 69,
        error_message: Some("no".into()),
        group_id: "h".into(),
        authorized_operations: i32::MIN,
        ..Default::default()
    };
    check(&StreamsGroupDescribeResponse { groups: vec![found, missing] }, DESCRIBED);
}

#[test]
fn what_the_table_calls_well_formed_comes_back() {
    check_codec_beyond_the_crate::<StreamsGroupHeartbeatRequest>(shape::request(88), 0);
    check_codec_beyond_the_crate::<StreamsGroupHeartbeatResponse>(shape::response(88), 0);
    check_codec_beyond_the_crate::<StreamsGroupDescribeRequest>(shape::request(89), 0);
    check_codec_beyond_the_crate::<StreamsGroupDescribeResponse>(shape::response(89), 0);
}

/// Our decoder refuses what the guard does, if at another byte: the guard walks numbers in one step.
fn agrees_with_the_guard<T: Decode>(key: i16) {
    let api = shape::request(key).expect("in the table");
    with_seeds(500, |rng| {
        let damaged = damage(&body(api, 0, rng).0, rng);
        let walked = guard::check_request(key, 0, &damaged);
        assert_eq!(T::decode_body(0, damaged.clone()).is_ok(), walked.is_ok(), "{damaged:?}: {walked:?}");
    });
}

#[test]
fn damaged_requests_are_refused_as_the_guard_refuses_them() {
    agrees_with_the_guard::<StreamsGroupHeartbeatRequest>(88);
    agrees_with_the_guard::<StreamsGroupDescribeRequest>(89);
}

#[test]
fn a_count_beyond_the_frame_takes_no_memory() {
    // The subtopologies after the topology's epoch: 4,294,967,294 of them.
    let mut hostile = unhex(BEAT).to_vec();
    let at = 2 + 2 + 4 + 4 + 2 + 2 + 4 + 1 + 4;
    assert_eq!(hostile[at], 2, "one subtopology");
    hostile.splice(at..=at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    let hostile = Bytes::from(hostile);
    let (refused, allocated) = allocated_by(|| StreamsGroupHeartbeatRequest::decode_body(0, hostile.clone()));
    assert!(refused.is_err(), "{refused:?}");
    assert!(allocated < 4_096, "{allocated} bytes");
}
