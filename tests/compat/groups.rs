//! The classic group protocol: FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, ListGroups,
//! DescribeGroups, DeleteGroups.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponse;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolSubscription, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId,
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::Encodable;

use crate::harness::broker::Broker;
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, topics, unique};

pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const ILLEGAL_GENERATION: i16 = 22;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const REBALANCE_IN_PROGRESS: i16 = 27;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE_ID: i16 = 82;

/// The versions in which the tests speak where the version does not matter.
const JOIN: i16 = 7;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 5;

pub fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// Waits until the coordinator of a group can be found (its topic is made on the first call) and serves.
#[track_caller]
pub fn coordinator(wire: &mut Wire, name: &str) {
    eventually("the coordinator", || {
        let found = wire.call(2, &FindCoordinatorRequest::default().with_key(text(name)).with_key_type(0));
        assert!([0, COORDINATOR_NOT_AVAILABLE].contains(&found.error_code), "error {}", found.error_code);
        (found.error_code == 0).then_some(())
    });
    eventually("the coordinator has loaded", || {
        let response = wire.call(5, &DescribeGroupsRequest::default().with_groups(vec![group(name)]));
        assert!([0, 14, 15, 16].contains(&response.groups[0].error_code), "error {}", response.groups[0].error_code);
        (response.groups[0].error_code == 0).then_some(())
    });
}

/// A consumer's subscription as it stands in the metadata of a join.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut out = BytesMut::from(&[0, 0][..]);
    let topics = topics.iter().map(|t| text(t)).collect();
    ConsumerProtocolSubscription::default().with_topics(topics).encode(&mut out, 0).expect("a subscription");
    out.freeze()
}

pub fn join(name: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    let protocol = |p: &str| JoinGroupRequestProtocol::default().with_name(text(p)).with_metadata(subscription(&[p]));
    JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range"), protocol("roundrobin")])
}

/// The leader's share is "mine", that of each other member its id.
pub fn sync(name: &str, generation: i32, member: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let share = |id: &str| if id == member { Bytes::from("mine") } else { Bytes::from(id.to_owned()) };
    let assignment =
        |id: &str| SyncGroupRequestAssignment::default().with_member_id(text(id)).with_assignment(share(id));
    let assignments = joined.members.iter().map(|m| assignment(&m.member_id)).collect();
    SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_assignments(assignments)
}

/// A group of one stable member; gives its id and generation.
#[track_caller]
pub fn stable(wire: &mut Wire, name: &str, instance: Option<&str>) -> (String, i32) {
    coordinator(wire, name);
    let asked = wire.call(JOIN, &join(name, "", instance));
    let joined = match instance {
        None => {
            assert_eq!(asked.error_code, MEMBER_ID_REQUIRED);
            assert!(!asked.member_id.is_empty());
            wire.call(JOIN, &join(name, &asked.member_id, None))
        }
        Some(_) => asked,
    };
    assert_eq!(joined.error_code, 0);
    let member = joined.member_id.to_string();
    let mut request = sync(name, joined.generation_id, &member, &joined).with_group_instance_id(instance.map(text));
    request.protocol_type = Some(text("consumer"));
    request.protocol_name = joined.protocol_name.clone();
    let synced = wire.call(SYNC, &request);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"mine"[..]));
    (member, joined.generation_id)
}

fn beat(name: &str, generation: i32, member: &str) -> HeartbeatRequest {
    HeartbeatRequest::default().with_group_id(group(name)).with_generation_id(generation).with_member_id(text(member))
}

fn leave(name: &str, member: &str, instance: Option<&str>) -> LeaveGroupRequest {
    let member = MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text));
    LeaveGroupRequest::default().with_group_id(group(name)).with_members(vec![member])
}

#[test]
fn find_coordinator() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let name = unique("group");
    coordinator(&mut wire, &name);
    let node = topics::metadata(&mut wire, &[]).brokers[0].clone();
    for version in wire.versions::<FindCoordinatorRequest>() {
        if version < 4 {
            let found = wire.call(version, &FindCoordinatorRequest::default().with_key(text(&name)));
            assert_eq!(
                (found.error_code, found.node_id, found.port),
                (0, node.node_id, node.port),
                "version {version}"
            );
            continue;
        }
        let keys = vec![text(&name), text(&unique("other"))];
        let found = wire.call(version, &FindCoordinatorRequest::default().with_coordinator_keys(keys.clone()));
        assert_eq!(found.coordinators.len(), 2);
        for (coordinator, key) in found.coordinators.iter().zip(&keys) {
            assert_eq!((coordinator.error_code, &coordinator.key), (0, key));
            assert_eq!((coordinator.node_id, coordinator.port), (node.node_id, node.port), "version {version}");
        }
    }
    let unknown = wire.call(2, &FindCoordinatorRequest::default().with_key(text(&name)).with_key_type(77));
    assert_eq!(unknown.error_code, INVALID_REQUEST);
}

#[test]
fn join_group() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<JoinGroupRequest>() {
        let name = unique("group");
        coordinator(&mut wire, &name);
        let mut joined = wire.call(version, &join(&name, "", None));
        if version >= 4 {
            assert_eq!(joined.error_code, MEMBER_ID_REQUIRED, "version {version}");
            joined = wire.call(version, &join(&name, &joined.member_id, None));
        }
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.protocol_name, Some(text("range")), "the first that all know");
        if version >= 7 {
            assert_eq!(joined.protocol_type, Some(text("consumer")));
        }
        let members: Vec<_> = joined.members.iter().map(|m| (&m.member_id, &m.metadata[..])).collect();
        assert_eq!(members, [(&joined.member_id, &subscription(&["range"])[..])]);
        assert!(!joined.skip_assignment);
    }
}

/// What a member says of itself is bytes to the broker: any will do. (Kafka gives no answer to these.)
#[test]
fn a_member_whose_metadata_is_no_subscription_is_served() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    for metadata in [&b""[..], b"x", b"garbage of any kind", &[0xff; 40]] {
        let name = unique("group");
        coordinator(&mut wire, &name);
        let mut request = join(&name, "", None);
        for protocol in &mut request.protocols {
            protocol.metadata = Bytes::from_static(metadata);
        }
        let asked = wire.call(JOIN, &request);
        let joined = wire.call(JOIN, &request.with_member_id(asked.member_id));
        assert_eq!((joined.error_code, &joined.members[0].metadata[..]), (0, metadata));
    }
}

#[test]
fn join_group_refuses_what_cannot_be() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let name = unique("group");
    let (member, _) = stable(&mut wire, &name, None);
    let fresh = unique("fresh");
    coordinator(&mut wire, &fresh);
    for (what, request, expected) in [
        ("session timeout too short", join(&fresh, "", None).with_session_timeout_ms(10), INVALID_SESSION_TIMEOUT),
        (
            "session timeout too long",
            join(&fresh, "", None).with_session_timeout_ms(86_400_000),
            INVALID_SESSION_TIMEOUT,
        ),
        ("negative session timeout", join(&fresh, "", None).with_session_timeout_ms(-1), INVALID_SESSION_TIMEOUT),
        ("empty group", join("", "", None), INVALID_GROUP_ID),
        ("empty protocol type", join(&fresh, "", None).with_protocol_type(text("")), INCONSISTENT_GROUP_PROTOCOL),
        ("no protocols", join(&fresh, "", None).with_protocols(vec![]), INCONSISTENT_GROUP_PROTOCOL),
        ("an unknown member", join(&name, "nobody", None), UNKNOWN_MEMBER_ID),
        ("a member of a group that is not", join(&fresh, "nobody", None), UNKNOWN_MEMBER_ID),
        (
            "another protocol type",
            join(&name, &member, None).with_protocol_type(text("connect")),
            INCONSISTENT_GROUP_PROTOCOL,
        ),
    ] {
        assert_eq!(wire.call(JOIN, &request).error_code, expected, "{what}");
    }
    let mut strange = join(&name, "", None);
    strange.protocols[0].name = text("strange");
    strange.protocols.truncate(1);
    assert_eq!(wire.call(JOIN, &strange).error_code, INCONSISTENT_GROUP_PROTOCOL, "no common protocol");
}

#[test]
fn sync_group() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<SyncGroupRequest>() {
        let name = unique("group");
        coordinator(&mut wire, &name);
        let asked = wire.call(JOIN, &join(&name, "", None));
        let joined = wire.call(JOIN, &join(&name, &asked.member_id, None));
        let mut request = sync(&name, joined.generation_id, &joined.member_id, &joined);
        if version >= 5 {
            request.protocol_type = Some(text("consumer"));
            request.protocol_name = Some(text("roundrobin"));
            assert_eq!(wire.call(version, &request).error_code, INCONSISTENT_GROUP_PROTOCOL, "not the one chosen");
            request.protocol_name = Some(text("range"));
        }
        let unknown = request.clone().with_member_id(text("nobody"));
        assert_eq!(wire.call(version, &unknown).error_code, UNKNOWN_MEMBER_ID);
        let old = request.clone().with_generation_id(joined.generation_id - 1);
        assert_eq!(wire.call(version, &old).error_code, ILLEGAL_GENERATION);
        let synced = wire.call(version, &request);
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"mine"[..]), "version {version}");
        if version >= 5 {
            assert_eq!((synced.protocol_type, synced.protocol_name), (Some(text("consumer")), Some(text("range"))));
        }
        let again = wire.call(version, &request);
        assert_eq!((again.error_code, &again.assignment[..]), (0, &b"mine"[..]), "a stable group says it again");
    }
}

#[test]
fn heartbeat() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let name = unique("group");
    let (member, generation) = stable(&mut wire, &name, None);
    for version in wire.versions::<HeartbeatRequest>() {
        let mut outcome = |request: HeartbeatRequest| wire.call(version, &request).error_code;
        assert_eq!(outcome(beat(&name, generation, &member)), 0, "version {version}");
        assert_eq!(outcome(beat(&name, generation + 1, &member)), ILLEGAL_GENERATION);
        assert_eq!(outcome(beat(&name, generation, "nobody")), UNKNOWN_MEMBER_ID);
        assert_eq!(outcome(beat(&unique("missing"), 1, "nobody")), UNKNOWN_MEMBER_ID);
        assert_eq!(outcome(beat("", 1, "nobody")), INVALID_GROUP_ID);
    }
}

/// Two members: the second one's join makes the first one's heartbeat say so, both join again, the leader assigns.
#[test]
fn a_second_member_starts_a_rebalance() {
    let broker = Broker::start();
    let (mut first, mut second) = (broker.wire(), broker.wire());
    let name = unique("group");
    let (one, generation) = stable(&mut first, &name, None);
    let asked = second.call(JOIN, &join(&name, "", None));
    let waiting = second.send(JOIN, &join(&name, &asked.member_id, None));
    eventually("the first member is told", || {
        let code = first.call(HEARTBEAT, &beat(&name, generation, &one)).error_code;
        assert!([0, REBALANCE_IN_PROGRESS].contains(&code), "error {code}");
        (code == REBALANCE_IN_PROGRESS).then_some(())
    });
    let led = first.call(JOIN, &join(&name, &one, None));
    let followed = second.receive::<JoinGroupRequest>(JOIN, waiting);
    assert_eq!((led.error_code, followed.error_code), (0, 0));
    assert_eq!((led.generation_id, followed.generation_id), (generation + 1, generation + 1));
    assert_eq!((&led.leader, &followed.leader), (&led.member_id, &led.member_id), "the leader stays");
    assert_eq!((led.members.len(), followed.members.len()), (2, 0), "only the leader hears of all");
    // The follower waits for the leader's assignment.
    let request = sync(&name, followed.generation_id, &followed.member_id, &followed);
    let waiting = second.send(3, &request);
    let mine = first.call(3, &sync(&name, led.generation_id, &one, &led));
    let theirs = second.receive::<SyncGroupRequest>(3, waiting);
    assert_eq!((mine.error_code, &mine.assignment[..]), (0, &b"mine"[..]));
    assert_eq!((theirs.error_code, &theirs.assignment[..]), (0, followed.member_id.as_bytes()));
    // The second one leaves: the first one is told again.
    assert_eq!(second.call(LEAVE, &leave(&name, &followed.member_id, None)).error_code, 0);
    let code = first.call(HEARTBEAT, &beat(&name, led.generation_id, &one)).error_code;
    assert_eq!(code, REBALANCE_IN_PROGRESS);
    let alone = first.call(JOIN, &join(&name, &one, None));
    assert_eq!((alone.error_code, alone.generation_id, alone.members.len()), (0, generation + 2, 1));
}

#[test]
fn a_silent_member_is_removed() {
    let broker = Broker::start();
    let (mut first, mut second) = (broker.wire(), broker.wire());
    let name = unique("group");
    coordinator(&mut first, &name);
    let short =
        |member: &str| join(&name, member, None).with_session_timeout_ms(1_000).with_rebalance_timeout_ms(1_500);
    let asked = first.call(JOIN, &short(""));
    let joined = first.call(JOIN, &short(&asked.member_id));
    assert_eq!(first.call(3, &sync(&name, joined.generation_id, &joined.member_id, &joined)).error_code, 0);
    // The first one says nothing any more; the second one gets the group for itself.
    let asked = second.call(JOIN, &short(""));
    let alone = second.call(JOIN, &short(&asked.member_id));
    assert_eq!((alone.error_code, alone.members.len(), &alone.leader), (0, 1, &alone.member_id));
    let late = first.call(HEARTBEAT, &beat(&name, joined.generation_id, &joined.member_id));
    assert_eq!(late.error_code, UNKNOWN_MEMBER_ID);
}

#[test]
fn leave_group() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<LeaveGroupRequest>() {
        let name = unique("group");
        let (member, _) = stable(&mut wire, &name, None);
        if version < 3 {
            let request =
                |member: &str| LeaveGroupRequest::default().with_group_id(group(&name)).with_member_id(text(member));
            assert_eq!(wire.call(version, &request("nobody")).error_code, UNKNOWN_MEMBER_ID);
            assert_eq!(wire.call(version, &request(&member)).error_code, 0);
        } else {
            let both = ["nobody", &member].map(|m| MemberIdentity::default().with_member_id(text(m)));
            let request = LeaveGroupRequest::default().with_group_id(group(&name)).with_members(both.to_vec());
            let left = wire.call(version, &request);
            let outcomes: Vec<_> = left.members.iter().map(|m| m.error_code).collect();
            assert_eq!((left.error_code, outcomes), (0, vec![UNKNOWN_MEMBER_ID, 0]), "version {version}");
        }
        let described = wire.call(5, &DescribeGroupsRequest::default().with_groups(vec![group(&name)]));
        assert_eq!((&*described.groups[0].group_state, described.groups[0].members.len()), ("Empty", 0));
    }
}

/// A static member that comes back within its session takes its place again, without a rebalance (KIP-345).
#[test]
fn a_static_member_that_comes_back_keeps_its_place() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let name = unique("group");
    let (old, generation) = stable(&mut wire, &name, Some("instance"));
    let back = wire.call(9, &join(&name, "", Some("instance")));
    assert_eq!((back.error_code, back.generation_id), (0, generation), "no rebalance");
    assert_ne!(&*back.member_id, &*old, "under a new member id");
    assert!(back.skip_assignment, "the leader of before keeps the assignment (KIP-814)");
    let mut request = sync(&name, generation, &back.member_id, &back).with_group_instance_id(Some(text("instance")));
    request.assignments.clear();
    let synced = wire.call(3, &request);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"mine"[..]), "its share of before");
    // The old one is fenced.
    let fenced = beat(&name, generation, &old).with_group_instance_id(Some(text("instance")));
    assert_eq!(wire.call(HEARTBEAT, &fenced).error_code, FENCED_INSTANCE_ID);
    let unknown = leave(&name, "", Some("nobody"));
    assert_eq!(wire.call(LEAVE, &unknown).members[0].error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(
        wire.call(LEAVE, &leave(&name, "", Some("instance"))).members[0].error_code,
        0,
        "an admin removes it by name"
    );
}

#[test]
fn list_groups() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let name = unique("group");
    let (member, _) = stable(&mut wire, &name, None);
    for version in wire.versions::<ListGroupsRequest>() {
        let listed = wire.call(version, &ListGroupsRequest::default());
        assert_eq!(listed.error_code, 0);
        let found = listed.groups.iter().find(|g| g.group_id == group(&name)).expect("the group");
        assert_eq!(&*found.protocol_type, "consumer");
        if version >= 4 {
            assert_eq!(&*found.group_state, "Stable");
            let mut filtered = |state: &str| {
                let listed = wire.call(version, &ListGroupsRequest::default().with_states_filter(vec![text(state)]));
                listed.groups.iter().any(|g| g.group_id == group(&name))
            };
            assert!(filtered("Stable") && filtered("stable") && !filtered("Empty") && !filtered("nonsense"));
        }
        if version >= 5 {
            assert_eq!(&*found.group_type, "classic");
            let mut filtered = |kind: &str| {
                let listed = wire.call(version, &ListGroupsRequest::default().with_types_filter(vec![text(kind)]));
                listed.groups.iter().any(|g| g.group_id == group(&name))
            };
            assert!(filtered("classic") && filtered("Classic") && !filtered("consumer"));
        }
    }
    assert_eq!(wire.call(LEAVE, &leave(&name, &member, None)).error_code, 0);
    let empty = wire.call(4, &ListGroupsRequest::default().with_states_filter(vec![text("Empty")]));
    assert!(empty.groups.iter().any(|g| g.group_id == group(&name)));
}

#[test]
fn describe_groups() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let name = unique("group");
    let (member, _) = stable(&mut wire, &name, Some("the instance"));
    let missing = unique("missing");
    for version in wire.versions::<DescribeGroupsRequest>() {
        let request = DescribeGroupsRequest::default().with_groups(vec![group(&name), group(&missing)]);
        let described = wire.call(version, &request);
        // In any order.
        let find =
            |name: &str| described.groups.iter().find(|g| g.group_id == group(name)).expect("each that was asked for");
        let (found, absent) = (find(&name), find(&missing));
        assert_eq!(found.error_code, 0);
        assert_eq!(
            (&*found.group_state, &*found.protocol_type, &*found.protocol_data),
            ("Stable", "consumer", "range")
        );
        assert_eq!(found.members.len(), 1);
        assert_eq!((&*found.members[0].member_id, &*found.members[0].client_id), (&*member, "compat"));
        assert!(found.members[0].client_host.contains("127.0.0.1"), "{}", &*found.members[0].client_host);
        assert_eq!(&found.members[0].member_assignment[..], b"mine");
        assert_eq!(found.members[0].member_metadata, subscription(&["range"]));
        if version >= 4 {
            assert_eq!(found.members[0].group_instance_id, Some(text("the instance")));
        }
        let expected = if version >= 6 { GROUP_ID_NOT_FOUND } else { 0 };
        assert_eq!((absent.error_code, &*absent.group_state), (expected, "Dead"), "version {version}");
    }
}

#[test]
fn delete_groups() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<DeleteGroupsRequest>() {
        let name = unique("group");
        let (member, _) = stable(&mut wire, &name, None);
        let delete = |wire: &mut Wire, name: &str| {
            let deleted = wire.call(version, &DeleteGroupsRequest::default().with_groups_names(vec![group(name)]));
            assert_eq!(deleted.results[0].group_id, group(name));
            deleted.results[0].error_code
        };
        assert_eq!(delete(&mut wire, &name), NON_EMPTY_GROUP, "version {version}");
        assert_eq!(wire.call(LEAVE, &leave(&name, &member, None)).error_code, 0);
        assert_eq!(delete(&mut wire, &name), 0);
        assert_eq!(delete(&mut wire, &name), GROUP_ID_NOT_FOUND);
        // A group may have the empty name where a client has committed to it.
        let nameless = delete(&mut wire, "");
        assert!([0, INVALID_GROUP_ID, GROUP_ID_NOT_FOUND].contains(&nameless), "error {nameless}");
    }
}

/// A group is there after a crash: its member goes on with its heartbeats in the same generation.
#[test]
fn groups_survive_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let name = unique("group");
    let (member, generation) = stable(&mut broker.wire(), &name, None);
    broker.kill();
    broker.restart();
    let mut wire = broker.wire();
    coordinator(&mut wire, &name);
    assert_eq!(wire.call(HEARTBEAT, &beat(&name, generation, &member)).error_code, 0);
    let described = wire.call(5, &DescribeGroupsRequest::default().with_groups(vec![group(&name)]));
    assert_eq!((&*described.groups[0].group_state, described.groups[0].members.len()), ("Stable", 1));
    assert_eq!(&described.groups[0].members[0].member_assignment[..], b"mine");
}
