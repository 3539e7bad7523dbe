use proptest::prelude::*;

use super::super::acl::{AclHost, PatternFilter};
use super::*;

fn acl(pattern: PatternType, name: &str, permission: Permission, principal: &str, operation: Operation) -> Acl {
    let host = AclHost::new(WILDCARD).expect("a host");
    Acl {
        pattern: AclPattern { resource: ResourceType::Topic, pattern, name: name.into() },
        entry: AclEntry { principal: principal.into(), host, operation, permission },
    }
}

fn acls(all: &[Acl]) -> Acls {
    let mut acls = Acls::default();
    all.iter().for_each(|acl| acls.insert(acl));
    acls
}

fn alice() -> Requester<'static> {
    Requester { principal: "User:alice", host: IpAddr::from([192, 0, 2, 1]) }
}

const ALICE: &str = "User:alice";
use Operation::{Alter, Describe, Read, Write};
use PatternType::{Literal, Prefixed};
use Permission::{Allow, Deny};

fn verdict(all: &[Acl], operation: Operation, name: &str) -> Verdict {
    acls(all).verdict(alice(), operation, ResourceType::Topic, name)
}

/// The stories of Kafka's `StandardAuthorizerTest`.
#[test]
fn lists_decide_as_with_kafka() {
    let topic = [acl(Literal, "foo", Allow, ALICE, Read)];
    assert_eq!(verdict(&topic, Read, "foo"), Verdict::Allowed);
    assert_eq!(verdict(&topic, Describe, "foo"), Verdict::Allowed, "implied");
    assert_eq!(verdict(&topic, Write, "foo"), Verdict::Denied, "listed, but not for this");
    assert_eq!(verdict(&topic, Read, "fo"), Verdict::NotListed);
    assert_eq!(verdict(&topic, Read, "food"), Verdict::NotListed);
    let denied = [acl(Prefixed, "fo", Deny, EVERYONE, Read), acl(Literal, "foo", Allow, ALICE, Read)];
    assert_eq!(verdict(&denied, Read, "foo"), Verdict::Denied, "a denial outweighs");
    assert_eq!(verdict(&denied, Describe, "foo"), Verdict::Allowed, "a denial implies nothing");
    let every = [acl(Literal, WILDCARD, Allow, EVERYONE, Operation::All), acl(Literal, "foo", Deny, ALICE, Alter)];
    assert_eq!(verdict(&every, Alter, "bar"), Verdict::Allowed);
    assert_eq!(verdict(&every, Alter, "foo"), Verdict::Denied);
    assert_eq!(verdict(&every, Write, "foo"), Verdict::Allowed);
    let others = [acl(Literal, "foo", Allow, "User:bob", Read)];
    assert_eq!(verdict(&others, Read, "foo"), Verdict::Denied, "others' lists are about it");
    let star = [acl(Prefixed, WILDCARD, Allow, ALICE, Read)];
    assert_eq!(verdict(&star, Read, "foo"), Verdict::NotListed, "a prefix is no wildcard");
    assert_eq!(verdict(&star, Read, "*foo"), Verdict::Allowed);
}

#[test]
fn hosts_count() {
    let mut one = acl(Literal, "foo", Allow, ALICE, Read);
    one.entry.host = AclHost::new("192.0.2.0/24").expect("a range");
    let all = acls(&[one]);
    let from = |host: [u8; 4]| {
        let requester = Requester { host: IpAddr::from(host), ..alice() };
        all.verdict(requester, Read, ResourceType::Topic, "foo")
    };
    assert_eq!((from([192, 0, 2, 77]), from([192, 0, 3, 1])), (Verdict::Allowed, Verdict::Denied));
}

/// The stories of Kafka's `AuthorizerTest` about `authorizeByResourceType`.
#[test]
fn any_resource_of_a_type_may_do() {
    let any = |all: &[Acl]| acls(all).any_allowed(alice(), Write, ResourceType::Topic);
    assert!(!any(&[]));
    assert!(any(&[acl(Literal, "a", Allow, ALICE, Write)]));
    assert!(any(&[acl(Prefixed, "a", Allow, EVERYONE, Operation::All)]));
    assert!(any(&[acl(Literal, "*", Allow, ALICE, Write), acl(Literal, "a", Deny, ALICE, Write)]));
    assert!(!any(&[acl(Literal, "*", Allow, ALICE, Write), acl(Literal, "*", Deny, ALICE, Write)]));
    assert!(!any(&[acl(Literal, "a", Allow, ALICE, Write), acl(Literal, "a", Deny, ALICE, Operation::All)]));
    assert!(!any(&[acl(Literal, "ab", Allow, ALICE, Write), acl(Prefixed, "a", Deny, ALICE, Write)]));
    assert!(!any(&[acl(Prefixed, "ab", Allow, ALICE, Write), acl(Prefixed, "ab", Deny, EVERYONE, Write)]));
    assert!(any(&[acl(Prefixed, "a", Allow, ALICE, Write), acl(Prefixed, "ab", Deny, ALICE, Write)]));
    assert!(any(&[acl(Prefixed, "a", Allow, ALICE, Write), acl(Literal, "a", Deny, ALICE, Write)]));
    assert!(!any(&[acl(Literal, "a", Allow, ALICE, Read)]));
}

#[test]
fn what_is_taken_away_is_gone() {
    let one = acl(Literal, "foo", Allow, ALICE, Read);
    let other = acl(Literal, "foo", Allow, ALICE, Write);
    let mut all = acls(&[one.clone(), other.clone(), one.clone()]);
    assert_eq!((all.len(), all.has(&one)), (2, true));
    let before = all.clone();
    all.remove(&one);
    all.remove(&one);
    assert_eq!((all.len(), all.has(&one), before.len()), (1, false, 2));
    all.remove(&other);
    assert!(all.is_empty());
    assert_eq!(all.verdict(alice(), Read, ResourceType::Topic, "foo"), Verdict::NotListed);
}

#[test]
fn filters_pick_entries() {
    let all = acls(&[acl(Literal, "a", Allow, ALICE, Read), acl(Prefixed, "a", Deny, "User:bob", Write)]);
    let anything = AclFilter {
        resource: None,
        pattern: PatternFilter::Any,
        name: None,
        principal: None,
        host: None,
        operation: None,
        permission: None,
    };
    let count = |filter: &AclFilter| all.filtered(filter).iter().map(|(_, entries)| entries.len()).sum::<usize>();
    assert_eq!(count(&anything), 2);
    assert_eq!(count(&AclFilter { principal: Some(ALICE.into()), ..anything.clone() }), 1);
    assert_eq!(count(&AclFilter { operation: Some(Write), ..anything.clone() }), 1);
    assert_eq!(count(&AclFilter { permission: Some(Allow), operation: Some(Write), ..anything.clone() }), 0);
    assert_eq!(count(&AclFilter { host: Some("*".into()), ..anything }), 2);
}

proptest! {
    /// The search by prefixes finds what a look at every list finds.
    #[test]
    fn prefixes_are_found(names in prop::collection::btree_set("[aäb]{1,5}", 0..12), name in "[aäb]{0,7}") {
        let prefixed: Vec<Acl> = names.iter().map(|name| acl(Prefixed, name, Allow, ALICE, Read)).collect();
        let all = acls(&prefixed);
        let found = all.about(ResourceType::Topic, &name).count();
        prop_assert_eq!(found, names.iter().filter(|prefix| name.starts_with(&***prefix)).count());
    }
}
