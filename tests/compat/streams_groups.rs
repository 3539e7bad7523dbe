//! Streams groups (KIP-1071) as raw requests meet them: StreamsGroupHeartbeat, StreamsGroupDescribe, and what other
//! requests make of such groups.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, CreateTopicsRequest, DeleteGroupsRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, ListGroupsRequest, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::StrBytes;
use millstream::protocol::streams_group::{
    DescribedGroup, PartitionsOf, StreamsGroupDescribeRequest, StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
};

use crate::cli::json_if_done;
use crate::groups::{coordinator, group, stable};
use crate::harness::broker::Broker;
use crate::harness::streams_member::{beat, call, join, topology};
use crate::harness::topics::{self, name};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};

const UNKNOWN_MEMBER_ID: i16 = 25;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const FENCED_MEMBER_EPOCH: i16 = 110;
const STREAMS_INVALID_TOPOLOGY: i16 = 130;

/// Codes of a heartbeat's status.
const MISSING_SOURCE_TOPICS: i8 = 1;
const MISSING_INTERNAL_TOPICS: i8 = 3;

/// Groups are assigned to at once; an external broker must be set up so, too.
pub const AT_ONCE: &[&str] = &["group.streams.initial.rebalance.delay.ms=0", "group.streams.assignment.interval.ms=0"];

fn tasks(of: &[(&str, &[i32])]) -> Option<Vec<PartitionsOf>> {
    let one = |(id, partitions): &(&str, &[i32])| PartitionsOf { name: text(id), partitions: partitions.to_vec() };
    Some(of.iter().map(one).collect())
}

/// A member that does at once what it is told.
struct Member {
    group: String,
    name: String,
    epoch: i32,
    has: Vec<PartitionsOf>,
}

impl Member {
    #[track_caller]
    fn joined(wire: &mut Wire, of: &str, name: &str, topic: &str) -> Self {
        let answer = call(wire, &join(of, name, topology(of, topic)));
        assert_eq!(answer.error_code, 0, "{answer:?}");
        let mut member = Self { group: of.to_owned(), name: name.to_owned(), epoch: 0, has: Vec::new() };
        member.note(&answer);
        member
    }

    fn note(&mut self, answer: &StreamsGroupHeartbeatResponse) {
        self.epoch = answer.member_epoch;
        if let Some(active) = &answer.active_tasks {
            self.has.clone_from(active);
        }
    }

    #[track_caller]
    fn beats(&mut self, wire: &mut Wire) -> StreamsGroupHeartbeatResponse {
        let beat = StreamsGroupHeartbeatRequest {
            active_tasks: Some(self.has.clone()),
            standby_tasks: Some(Vec::new()),
            warmup_tasks: Some(Vec::new()),
            ..beat(&self.group, &self.name, self.epoch)
        };
        let answer = call(wire, &beat);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        self.note(&answer);
        answer
    }

    fn count(&self) -> usize {
        self.has.iter().map(|of| of.partitions.len()).sum()
    }
}

fn describe(wire: &mut Wire, of: &str) -> DescribedGroup {
    let asked = StreamsGroupDescribeRequest { group_ids: vec![text(of)], include_authorized_operations: false };
    call(wire, &asked).groups.remove(0)
}

#[test]
fn streams_group_heartbeat() {
    let broker = Broker::start_with(AT_ONCE);
    let mut wire = broker.wire();
    let (of, topic) = (unique("app"), topics::topic(&mut wire, 2));
    coordinator(&mut wire, &of);
    let first = call(&mut wire, &join(&of, "m1", topology(&of, &topic)));
    assert_eq!((first.error_code, first.heartbeat_interval_ms), (0, 5_000), "{first:?}");
    let status = first.status.expect("there is one");
    assert_eq!(status.iter().map(|row| row.status_code).collect::<Vec<_>>(), [MISSING_INTERNAL_TOPICS], "{status:?}");
    // The broker makes them: with the partitions that were asked for, or as many as the topics that are read.
    for (name, partitions) in [("again", 3), ("changelog", 3)] {
        topics::await_topic(&mut wire, &format!("{of}-{name}"), partitions);
    }
    let mut one = Member { group: of.clone(), name: "m1".to_owned(), epoch: first.member_epoch, has: Vec::new() };
    eventually("it has every task", || {
        one.beats(&mut wire);
        (one.count() == 5).then_some(())
    });
    let mut sorted = one.has.clone();
    sorted.sort_by_key(|of| of.name.to_string());
    assert_eq!(Some(sorted), tasks(&[("0", &[0, 1]), ("1", &[0, 1, 2])]));
    let config =
        DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text(&format!("{of}-changelog")));
    let told = wire.call(4, &DescribeConfigsRequest::default().with_resources(vec![config]));
    let policy =
        told.results[0].configs.iter().find(|row| *row.name == *"cleanup.policy").expect("every setting is told");
    assert_eq!(policy.value, Some(text("compact")));
    // A second one comes: nobody has a task that another has not given up.
    let mut two = Member::joined(&mut wire, &of, "m2", &topic);
    eventually("they share the tasks", || {
        one.beats(&mut wire);
        two.beats(&mut wire);
        let all: Vec<(StrBytes, i32)> = [&one, &two]
            .iter()
            .flat_map(|member| &member.has)
            .flat_map(|of| of.partitions.iter().map(|partition| (of.name.clone(), *partition)))
            .collect();
        let once: std::collections::BTreeSet<_> =
            all.iter().map(|(id, partition)| (id.to_string(), partition)).collect();
        assert_eq!(once.len(), all.len(), "{all:?}");
        (all.len() == 5 && one.count() >= 2 && two.count() >= 2).then_some(())
    });
    let told = describe(&mut wire, &of);
    assert_eq!((&*told.group_state, told.members.len()), ("Stable", 2), "{told:?}");
    for member in [&one, &two] {
        let left = call(&mut wire, &beat(&of, &member.name, -1));
        assert_eq!((left.error_code, left.member_epoch), (0, -1));
    }
}

#[test]
fn streams_group_heartbeats_that_are_refused() {
    let broker = Broker::start_with(AT_ONCE);
    let mut wire = broker.wire();
    let (of, topic) = (unique("app"), topics::topic(&mut wire, 2));
    coordinator(&mut wire, &of);
    let code = |wire: &mut Wire, request: &StreamsGroupHeartbeatRequest| call(wire, request).error_code;
    assert_eq!(code(&mut wire, &beat(&of, "m1", 1)), GROUP_ID_NOT_FOUND);
    assert_eq!(code(&mut wire, &beat(&of, "m1", 0)), INVALID_REQUEST, "it says nothing of itself");
    assert_eq!(code(&mut wire, &join(&of, "", topology(&of, &topic))), INVALID_REQUEST);
    let fixed = StreamsGroupHeartbeatRequest { instance_id: Some(text("i")), ..join(&of, "m1", topology(&of, &topic)) };
    assert_eq!(code(&mut wire, &fixed), INVALID_REQUEST, "there are no static members yet");
    for bad in ["__consumer_offsets", "no topic"] {
        assert_eq!(code(&mut wire, &join(&of, "m1", topology(&of, bad))), STREAMS_INVALID_TOPOLOGY, "{bad}");
    }
    let mut counted = topology(&of, &topic);
    counted.subtopologies[1].state_changelog_topics[0].partitions = 3;
    assert_eq!(code(&mut wire, &join(&of, "m1", counted)), STREAMS_INVALID_TOPOLOGY);
    // A topic that is not there holds the group up, and says so.
    let waiting = call(&mut wire, &join(&of, "m1", topology(&of, "not-there")));
    let status = waiting.status.clone().expect("there is one");
    assert_eq!((waiting.error_code, status[0].status_code), (0, MISSING_SOURCE_TOPICS), "{waiting:?}");
    assert_eq!(&*describe(&mut wire, &of).group_state, "NotReady");
    let epoch = waiting.member_epoch;
    assert_eq!(code(&mut wire, &beat(&of, "m1", epoch + 1)), FENCED_MEMBER_EPOCH);
    assert_eq!(code(&mut wire, &beat(&of, "m2", epoch)), UNKNOWN_MEMBER_ID);
    assert_eq!(code(&mut wire, &beat(&of, "m1", -3)), INVALID_REQUEST);
    let created = topics::creatable("not-there", 1, &[]);
    wire.call(7, &CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![created]));
    let mut member = Member { group: of.clone(), name: "m1".to_owned(), epoch, has: Vec::new() };
    eventually("the topic has come", || {
        member.beats(&mut wire);
        (member.count() == 4).then_some(())
    });
    // What is a group of another kind is no streams group, and the other way round.
    let classic = unique("classic");
    stable(&mut wire, &classic, None);
    assert_eq!(code(&mut wire, &join(&classic, "m1", topology(&classic, &topic))), GROUP_ID_NOT_FOUND);
    let consumer = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(&of))
        .with_member_id(text("c"))
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![name(&topic)]))
        .with_topic_partitions(Some(Vec::new()));
    assert_eq!(wire.call(1, &consumer).error_code, GROUP_ID_NOT_FOUND);
}

#[test]
fn streams_group_describe() {
    let broker = Broker::start_with(AT_ONCE);
    let mut wire = broker.wire();
    let (of, topic) = (unique("app"), topics::topic(&mut wire, 2));
    coordinator(&mut wire, &of);
    assert_eq!(describe(&mut wire, &of).error_code, GROUP_ID_NOT_FOUND);
    let mut member = Member::joined(&mut wire, &of, "m", &topic);
    eventually("it has every task", || {
        member.beats(&mut wire);
        (member.count() == 5).then_some(())
    });
    let told = describe(&mut wire, &of);
    assert_eq!((told.error_code, &*told.group_state, told.members.len()), (0, "Stable", 1), "{told:?}");
    assert_eq!((told.group_epoch, told.assignment_epoch), (member.epoch, member.epoch));
    assert_eq!(told.authorized_operations, i32::MIN);
    let row = &told.members[0];
    assert_eq!((&*row.member_id, row.member_epoch, &*row.process_id), ("m", member.epoch, "process-of-m"));
    assert_eq!(row.assignment, row.target_assignment);
    assert_eq!(Some(row.assignment.active_tasks.clone()), tasks(&[("0", &[0, 1]), ("1", &[0, 1, 2])]));
    let parts = told.topology.expect("it has one").subtopologies.expect("it has some");
    assert_eq!(parts.iter().map(|part| part.subtopology_id.to_string()).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(parts[0].source_topics, [text(&topic)]);
    assert_eq!(parts[1].state_changelog_topics[0].partitions, 3, "as it was configured");
    let listed = wire.call(5, &ListGroupsRequest::default().with_types_filter(vec![text("streams")]));
    let row = listed.groups.iter().find(|row| *row.group_id == text(&of)).expect("it is listed");
    assert_eq!((&*row.group_type, &*row.group_state, &*row.protocol_type), ("streams", "Stable", "streams"));
    let classic = wire.call(5, &DescribeGroupsRequest::default().with_groups(vec![group(&of)]));
    assert_eq!(&*classic.groups[0].group_state, "Dead");
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(&of)]);
    assert_eq!(wire.call(2, &delete).results[0].error_code, NON_EMPTY_GROUP);
    assert_eq!(call(&mut wire, &beat(&of, "m", -1)).error_code, 0);
    assert_eq!(&*describe(&mut wire, &of).group_state, "Empty");
    assert_eq!(wire.call(2, &delete).results[0].error_code, 0);
    assert_eq!(describe(&mut wire, &of).error_code, GROUP_ID_NOT_FOUND);
}

#[test]
fn streams_groups_need_their_feature() {
    // The level is of the whole cluster: other tests need it as it is.
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let (of, topic) = (unique("app"), topics::topic(&mut wire, 1));
    coordinator(&mut wire, &of);
    let level = |level, upgrade_type| {
        let update = FeatureUpdateKey::default()
            .with_feature(text("streams.version"))
            .with_max_version_level(level)
            .with_upgrade_type(upgrade_type);
        UpdateFeaturesRequest::default().with_feature_updates(vec![update]).with_timeout_ms(30_000)
    };
    assert_eq!(wire.call(2, &level(0, 2)).error_code, 0);
    assert_eq!(call(&mut wire, &join(&of, "m", topology(&of, &topic))).error_code, UNSUPPORTED_VERSION);
    assert_eq!(describe(&mut wire, &of).error_code, UNSUPPORTED_VERSION);
    assert_eq!(wire.call(2, &level(1, 1)).error_code, 0);
    assert_eq!(call(&mut wire, &join(&of, "m", topology(&of, &topic))).error_code, 0);
}

#[test]
fn cli_streams_groups_are_described_reset_and_deleted() {
    let Some(broker) = Broker::own(AT_ONCE) else { return };
    let mut wire = broker.wire();
    let (of, topic) = (unique("app"), topics::topic(&mut wire, 2));
    topics::write(&mut wire, &topic, 0, &["a", "b", "c"]);
    coordinator(&mut wire, &of);
    let done = |args: &[&str]| json_if_done(&broker, &[&["group"], args].concat());
    assert_eq!(done(&["describe", &of]), None, "there is no such group");
    let mut member = Member::joined(&mut wire, &of, "m", &topic);
    eventually("it has every task", || {
        member.beats(&mut wire);
        (member.count() == 5).then_some(())
    });
    let described = done(&["describe", &of]).expect("the group");
    let described = &described["groups"][0];
    assert_eq!((&described["type"], &described["state"]), (&"streams".into(), &"Stable".into()));
    let row = &described["members"][0];
    assert_eq!((&row["member_id"], &row["assignment"]), (&"m".into(), &serde_json::Value::Null), "{described}");
    let active = serde_json::json!([
        { "subtopology": "0", "partitions": [0, 1] },
        { "subtopology": "1", "partitions": [0, 1, 2] },
    ]);
    assert_eq!(row["tasks"]["active"], active);
    let reset = ["reset", &of, "--to", "-1", "--topic", &topic, "--execute"];
    assert_eq!((done(&reset), done(&["delete", &of])), (None, None), "it has a member");
    assert_eq!(call(&mut wire, &beat(&of, "m", -1)).error_code, 0);
    let offsets = done(&reset).expect("it has no members any more");
    assert_eq!((&offsets["offsets"][0]["new_offset"], &offsets["executed"]), (&2.into(), &true.into()));
    let described = done(&["describe", &of]).expect("the group");
    let described = &described["groups"][0];
    assert_eq!((&described["state"], &described["lag"]), (&"Empty".into(), &1.into()), "{described}");
    let is_listed = || {
        let listed = done(&["list"]).expect("a list");
        let rows = listed["groups"].as_array().expect("groups").clone();
        rows.iter().any(|row| row["group"] == of.as_str() && row["type"] == "streams")
    };
    assert!(is_listed());
    assert!(done(&["delete", &of]).is_some());
    assert!(!is_listed());
}
