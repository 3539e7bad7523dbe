use kafka_protocol::messages::GroupId as WireGroupId;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use millstream_core::coordinator::group::{JoinError, JoinedMember, LeaveMemberError};

use super::*;
use crate::config::{HostPort, Listener, SecurityProtocol};
use crate::protocol::encode_response;

fn session(client_id: &str, peer: &str) -> Session {
    let address = HostPort { host: "h".to_owned(), port: 1 };
    let listener = Listener {
        name: "L".to_owned(),
        protocol: SecurityProtocol::Plaintext,
        bind: address.clone(),
        advertised: address,
    };
    let mut session = Session::new(1, Arc::new(listener), "127.0.0.1:9092".parse().unwrap(), peer.parse().unwrap());
    session.client_id = client_id.to_owned();
    session
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn join_request() -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
    JoinGroupRequest::default()
        .with_group_id(WireGroupId(text("g")))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

fn joined() -> Joined {
    let member = |id: &str, instance: Option<&str>| JoinedMember {
        member: MemberId::new(id).unwrap(),
        instance: instance.map(|i| InstanceId::new(i).unwrap()),
        metadata: Bytes::from_static(b"m"),
    };
    Joined {
        member: MemberId::new("a").unwrap(),
        generation: Generation(3),
        protocol_type: Some(ProtocolType::new("consumer").unwrap()),
        protocol: Some(ProtocolName::new("range").unwrap()),
        leader: Some(MemberId::new("a").unwrap()),
        members: vec![member("a", Some("i")), member("b", None)],
        skip_assignment: true,
    }
}

#[test]
fn what_a_join_asks_for_depends_on_its_version() {
    let session = session("me", "10.0.0.9:5");
    let random = Uuid::from_u128(1);
    for version in 0..=9 {
        let join = join_from_wire(&join_request(), version, &session, random).unwrap();
        assert_eq!(join.rebalance_timeout_ms, if version == 0 { 10_000 } else { 60_000 });
        assert_eq!((join.known_member_required, join.skips_assignment), (version >= 4, version >= 9));
        assert_eq!((join.member, join.instance), (None, None), "an empty id is none");
        assert_eq!(join.fresh_member.as_str(), "me-00000000-0000-0000-0000-000000000001");
        assert_eq!((join.client_id.as_str(), join.client_host.as_str()), ("me", "/10.0.0.9"));
        assert_eq!((join.protocols[0].name.as_str(), &join.protocols[0].metadata[..]), ("range", &b"m"[..]));
    }
    let known = join_request().with_member_id(text("known")).with_group_instance_id(Some(text("inst")));
    let join = join_from_wire(&known, 5, &session, random).unwrap();
    assert_eq!(join.member.unwrap().as_str(), "known");
    assert_eq!(join.fresh_member.as_str(), "inst-00000000-0000-0000-0000-000000000001", "named by its instance");
}

#[test]
fn a_member_keeps_no_request_alive() {
    let frame = Bytes::from(vec![7; 1 << 20]);
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(frame.slice(..3));
    let request = join_request().with_protocols(vec![protocol]);
    let join = join_from_wire(&request, 5, &session("me", "10.0.0.9:5"), Uuid::nil()).unwrap();
    let share = SyncGroupRequestAssignment::default().with_member_id(text("m")).with_assignment(frame.slice(..3));
    let sync = sync_from_wire(&SyncGroupRequest::default().with_assignments(vec![share])).unwrap();
    drop(request);
    assert!(frame.is_unique(), "still held by {join:?} or {sync:?}");
}

#[test]
fn an_endless_client_id_still_makes_a_member_id() {
    let session = session(&"\u{20ac}".repeat(20_000), "10.0.0.9:5");
    let join = join_from_wire(&join_request(), 5, &session, Uuid::nil()).unwrap();
    assert!(join.client_id.as_str().len() <= TEXT_LEN_MAX);
    assert!(join.fresh_member.as_str().ends_with("-00000000-0000-0000-0000-000000000000"));
}

#[test]
fn hosts_are_written_as_java_does() {
    let host = |peer: &str| client_host(peer.parse().unwrap());
    assert_eq!(host("127.0.0.1"), "/127.0.0.1");
    assert_eq!(host("::1"), "/0:0:0:0:0:0:0:1");
    assert_eq!(host("2001:db8::10ff"), "/2001:db8:0:0:0:0:0:10ff");
    assert_eq!(host("::ffff:10.1.2.3"), "/10.1.2.3", "a mapped address is the old one");
}

#[test]
fn a_join_is_answered_in_every_version() {
    for version in 0..=9 {
        let done = join_to_wire(Ok(Ok(joined())), version);
        let member = Some(MemberId::new("x").unwrap());
        let refused = join_to_wire(Ok(Err(JoinRefused { error: JoinError::MemberIdRequired, member })), version);
        let lost = join_to_wire(Err(CoordinatorError::NotCoordinator), version);
        for body in [&done, &refused, &lost] {
            encode_response(11, version, 1, body).unwrap();
        }
        assert_eq!((done.error_code, done.generation_id, &*done.leader, &*done.member_id), (0, 3, "a", "a"));
        assert_eq!(done.protocol_name.as_deref(), Some("range"));
        assert_eq!((done.protocol_type.is_some(), done.skip_assignment), (version >= 7, version >= 9));
        assert_eq!(done.members.len(), 2);
        assert_eq!(done.members[0].group_instance_id.is_some(), version >= 5);
        let unnamed = if version >= 7 { None } else { Some("") };
        assert_eq!((refused.error_code, refused.generation_id, &*refused.member_id), (79, -1, "x"));
        assert_eq!((refused.protocol_name.as_deref(), &*refused.leader), (unnamed, ""));
        assert_eq!((lost.error_code, &*lost.member_id, lost.protocol_name.as_deref()), (16, "", unnamed));
    }
}

#[test]
fn a_sync_is_answered_in_every_version() {
    for version in 0..=5 {
        let synced = Synced {
            protocol_type: Some(ProtocolType::new("consumer").unwrap()),
            protocol: Some(ProtocolName::new("range").unwrap()),
            assignment: Bytes::from_static(b"share"),
        };
        let done = sync_to_wire(Ok(Ok(synced)), version);
        let refused = sync_to_wire(Ok(Err(SyncError::RebalanceInProgress)), version);
        for body in [&done, &refused] {
            encode_response(14, version, 1, body).unwrap();
        }
        assert_eq!((done.error_code, &done.assignment[..]), (0, &b"share"[..]));
        assert_eq!((done.protocol_type.is_some(), done.protocol_name.is_some()), (version >= 5, version >= 5));
        assert_eq!((refused.error_code, refused.assignment.len()), (27, 0));
    }
}

#[test]
fn a_heartbeat_while_the_coordinator_loads_is_taken() {
    assert_eq!(heartbeat_code(Ok(Ok(()))), 0);
    assert_eq!(heartbeat_code(Err(CoordinatorError::LoadInProgress)), 0);
    assert_eq!(heartbeat_code(Err(CoordinatorError::NotCoordinator)), 16);
    assert_eq!(heartbeat_code(Err(CoordinatorError::NotAvailable)), 15);
    assert_eq!(heartbeat_code(Ok(Err(HeartbeatError::IllegalGeneration))), 22);
}

#[test]
fn one_leaves_before_version_3_and_many_from_then_on() {
    let both =
        ["a", ""].map(|id| MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(Some(text("i"))));
    let request = LeaveGroupRequest::default()
        .with_group_id(WireGroupId(text("g")))
        .with_member_id(text("old"))
        .with_members(both.to_vec());
    let left = |id: Option<&str>, result| Left {
        member: id.map(|id| MemberId::new(id).unwrap()),
        instance: Some(InstanceId::new("i").unwrap()),
        result,
    };
    for version in 0..=5 {
        let leave = leave_from_wire(&request, version).unwrap();
        let ids: Vec<Option<&str>> = leave.members.iter().map(|m| m.member.as_ref().map(|id| id.as_str())).collect();
        let outcomes = vec![left(Some("a"), Err(LeaveMemberError::FencedInstance)), left(None, Ok(()))];
        let done = leave_to_wire(Ok(Ok(outcomes)), version);
        let refused = leave_to_wire(Ok(Err(LeaveError::InvalidGroupId)), version);
        for body in [&done, &refused] {
            encode_response(13, version, 1, body).unwrap();
        }
        assert_eq!((refused.error_code, refused.members.len()), (24, 0));
        if version < 3 {
            assert_eq!((ids, leave.members[0].instance.clone()), (vec![Some("old")], None));
            assert_eq!((done.error_code, done.members.len()), (82, 0), "the member's error stands at the top");
        } else {
            assert_eq!(ids, [Some("a"), None]);
            let codes: Vec<_> = done.members.iter().map(|m| (&*m.member_id, m.error_code)).collect();
            assert_eq!((done.error_code, codes), (0, vec![("a", 82), ("", 0)]));
        }
    }
}
