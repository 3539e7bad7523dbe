use bytes::Bytes;
use millstream_core::coordinator::group::{
    ClientHost, ClientId, DescribedMember, GroupState, InstanceId, MemberId, ProtocolName, ProtocolType,
};

use super::*;
use crate::protocol::encode_response;

fn id(name: &str) -> GroupId {
    GroupId::new(name).unwrap()
}

#[test]
fn groups_are_listed_in_every_version() {
    for version in 0..=5 {
        let group = |name: &str, protocol_type: Option<&str>, state| ListedGroup {
            group: id(name),
            protocol_type: protocol_type.map(|name| ProtocolType::new(name).unwrap()),
            state,
            kind: GroupKind::Classic,
        };
        let rows = vec![group("a", Some("consumer"), "Stable"), group("b", None, "PreparingRebalance")];
        let listed = list_to_wire(Ok(rows), version);
        let loading = list_to_wire(Err(CoordinatorError::LoadInProgress), version);
        for body in [&listed, &loading] {
            encode_response(16, version, 1, body).unwrap();
        }
        assert_eq!((loading.error_code, loading.groups.len()), (14, 0));
        let rows: Vec<_> = listed.groups.iter().map(|g| (&**g.group_id, &*g.protocol_type)).collect();
        assert_eq!(rows, [("a", "consumer"), ("b", "")]);
        let told: Vec<_> = listed.groups.iter().map(|g| (&*g.group_state, &*g.group_type)).collect();
        assert_eq!(told[1].0, if version >= 4 { "PreparingRebalance" } else { "" });
        assert_eq!(told[0].1, if version >= 5 { "classic" } else { "" });
    }
}

#[test]
fn a_filter_keeps_what_can_matter() {
    let names = |names: &[&'static str]| names.iter().map(|name| StrBytes::from_static_str(name)).collect::<Vec<_>>();
    let list = |states: &[&'static str], types: &[&'static str]| {
        let asked = ListGroupsRequest::default().with_states_filter(names(states)).with_types_filter(names(types));
        let list = list_from_wire(&asked);
        (list.states, list.types)
    };
    assert_eq!(list(&[], &[]), (vec![], vec![]));
    let many = list(&["Stable", "stable", " EMPTY", "nonsense", "other"], &["consumers", "Classic"]);
    assert_eq!(many, (vec![" empty".to_owned(), "stable".to_owned()], vec!["classic".to_owned()]));
    assert_eq!(list(&["nonsense", "more"], &["share"]), (vec!["nonsense".to_owned()], vec!["share".to_owned()]));
}

fn described() -> DescribedGroup {
    let member = DescribedMember {
        member: MemberId::new("m").unwrap(),
        instance: Some(InstanceId::new("i").unwrap()),
        client_id: ClientId::new("c").unwrap(),
        client_host: ClientHost::new("/1.2.3.4").unwrap(),
        metadata: Bytes::from_static(b"wants"),
        assignment: Bytes::from_static(b"has"),
    };
    DescribedGroup {
        state: GroupState::Stable,
        protocol_type: Some(ProtocolType::new("consumer").unwrap()),
        protocol: Some(ProtocolName::new("range").unwrap()),
        members: vec![member],
    }
}

#[test]
fn groups_are_described_in_every_version() {
    for version in 0..=6 {
        let operations = if version >= 3 { 3400 } else { i32::MIN };
        let there = describe_to_wire(&id("g"), Some(described()), version, operations);
        let missing = describe_to_wire(&id("gone"), None, version, operations);
        let body = DescribeGroupsResponse::default().with_groups(vec![there.clone(), missing.clone()]);
        encode_response(15, version, 1, &body).unwrap();
        assert_eq!(
            (&*there.group_state, &*there.protocol_type, &*there.protocol_data),
            ("Stable", "consumer", "range")
        );
        let member = &there.members[0];
        assert_eq!((&*member.client_id, &*member.client_host), ("c", "/1.2.3.4"));
        assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (&b"wants"[..], &b"has"[..]));
        assert_eq!(member.group_instance_id.is_some(), version >= 4);
        assert_eq!(there.authorized_operations, operations);
        assert_eq!(&*missing.group_state, "Dead");
        let expected = if version >= 6 { (69, Some("Group gone not found.")) } else { (0, None) };
        assert_eq!((missing.error_code, missing.error_message.as_deref()), expected, "version {version}");
    }
    assert_eq!(describe_to_wire(&id("g"), Some(described()), 6, i32::MIN).authorized_operations, i32::MIN);
}

#[test]
fn a_deletion_says_what_became_of_each_group() {
    let rows = [Ok(()), Err(DeleteGroupError::NonEmpty), Err(DeleteGroupError::GroupNotFound)];
    let codes: Vec<i16> = rows
        .into_iter()
        .map(|result| delete_to_wire(&id("g"), result.err().map(errors::of_delete_group)).error_code)
        .collect();
    assert_eq!(codes, [0, 68, 69]);
}

#[test]
fn a_group_that_is_named_twice_is_meant_once() {
    let named = ["b", "a", "b"].map(|name| kafka_protocol::messages::GroupId(StrBytes::from_static_str(name)));
    assert_eq!(group_ids(&named).unwrap().into_iter().collect::<Vec<_>>(), [id("a"), id("b")]);
}
