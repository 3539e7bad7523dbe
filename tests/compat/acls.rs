//! CreateAcls, DescribeAcls, DeleteAcls: which lists there are, and what they let a user do, over restarts and on every node.

use std::collections::BTreeSet;

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreateAclsRequest, CreateTopicsRequest, DeleteAclsRequest, DeleteTopicsRequest, DescribeAclsRequest,
    DescribeAclsResponse,
};

use crate::authorization::requests::idempotent;
use crate::harness::broker::{Broker, run_refused};
use crate::harness::login::Credentials;
use crate::harness::nodes::Nodes;
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, topics, unique};

const AUTHORIZER: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer";
const ADMINS: &str = "super.users=User:ANONYMOUS;User:admin";
const LISTENERS: &str = "PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0";
const USERS: [(&str, &str); 1] =
    [("MILLSTREAM_BOOTSTRAP_USERS", "admin:admin-secret,alice:alice-secret,bob:bob-secret")];

/// Numbers of the wire.
const ANY: i8 = 1;
const TOPIC: i8 = 2;
const CLUSTER: i8 = 4;
const MATCH: i8 = 2;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const ALL: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const ALTER: i8 = 7;
const DESCRIBE: i8 = 8;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const INVALID_REQUEST: i16 = 42;
const SECURITY_DISABLED: i16 = 54;

fn broker(settings: &[&str]) -> Option<Broker> {
    Broker::own_in(LISTENERS, &[&[AUTHORIZER, ADMINS], settings].concat(), &USERS)
}

fn logged_in(address: &str, user: &str) -> Wire {
    let mut wire = Wire::connect(address);
    let password = format!("{user}-secret");
    let login = Credentials { mechanism: "SCRAM-SHA-256", user, password: &password };
    assert_eq!(login.log_in(&mut wire).error_code, 0);
    wire
}

/// One that can be started again: on one listener, where everybody logs in.
fn lasting() -> Option<(Broker, Wire)> {
    let broker = Broker::own_in("SASL_PLAINTEXT://127.0.0.1:0", &[AUTHORIZER, ADMINS], &USERS)?;
    let admin = user(&broker, "admin");
    Some((broker, admin))
}

fn user(broker: &Broker, user: &str) -> Wire {
    logged_in(broker.addresses().last().expect("an address"), user)
}

fn acl(name: &str, principal: &str, operation: i8) -> AclCreation {
    AclCreation::default()
        .with_resource_type(TOPIC)
        .with_resource_pattern_type(LITERAL)
        .with_resource_name(text(name))
        .with_principal(text(principal))
        .with_host(text("*"))
        .with_operation(operation)
        .with_permission_type(ALLOW)
}

#[track_caller]
fn create(wire: &mut Wire, acls: &[AclCreation]) {
    let made = wire.call(3, &CreateAclsRequest::default().with_creations(acls.to_vec()));
    assert!(made.results.iter().all(|row| row.error_code == 0), "{made:?}");
}

fn any() -> DescribeAclsRequest {
    DescribeAclsRequest::default()
        .with_resource_type_filter(ANY)
        .with_pattern_type_filter(ANY)
        .with_resource_name_filter(None)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY)
}

fn listed(told: &DescribeAclsResponse) -> BTreeSet<(String, i8, String, i8)> {
    assert_eq!(told.error_code, 0, "{told:?}");
    let of = |resource: &kafka_protocol::messages::describe_acls_response::DescribeAclsResource| {
        let acl = |acl: &kafka_protocol::messages::describe_acls_response::AclDescription| {
            (resource.resource_name.to_string(), resource.pattern_type, acl.principal.to_string(), acl.operation)
        };
        resource.acls.iter().map(acl).collect::<Vec<_>>()
    };
    told.resources.iter().flat_map(of).collect()
}

fn delete(wire: &mut Wire, principal: &str) -> usize {
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(ANY)
        .with_pattern_type_filter(ANY)
        .with_resource_name_filter(None)
        .with_principal_filter(Some(text(principal)))
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY);
    let told = wire.call(3, &DeleteAclsRequest::default().with_filters(vec![filter]));
    assert_eq!(told.filter_results[0].error_code, 0);
    told.filter_results[0].matching_acls.len()
}

fn reads(wire: &mut Wire, topic: &str) -> i16 {
    topics::fetch(wire, topic, 0, 0).error_code
}

#[test]
fn describe_acls() {
    let Some(broker) = broker(&[]) else { return };
    let mut admin = broker.wire();
    assert_eq!(listed(&admin.call(3, &any())), BTreeSet::new());
    let prefixed = acl("pay", "User:alice", WRITE).with_resource_pattern_type(PREFIXED);
    let every = acl("*", "User:bob", READ);
    create(&mut admin, &[acl("payments", "User:alice", READ), prefixed, every, acl("other", "User:bob", ALL)]);
    for version in 1..=3 {
        assert_eq!(listed(&admin.call(version, &any())).len(), 4, "version {version}");
    }
    let about = any().with_resource_name_filter(Some(text("payments")));
    let names = |told| listed(&told).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    assert_eq!(names(admin.call(3, &about)), ["payments"]);
    assert_eq!(names(admin.call(3, &about.with_pattern_type_filter(MATCH))), ["*", "pay", "payments"]);
    assert_eq!(names(admin.call(3, &any().with_principal_filter(Some(text("User:bob"))))), ["*", "other"]);
    assert_eq!(names(admin.call(3, &any().with_operation(WRITE))), ["pay"]);
    assert_eq!(admin.call(3, &any().with_operation(99)).error_code, INVALID_REQUEST);
    assert_eq!(admin.call(3, &any().with_pattern_type_filter(0)).error_code, INVALID_REQUEST);
}

#[test]
fn create_acls() {
    let Some((mut broker, mut admin)) = lasting() else { return };
    let topic = topics::topic(&mut admin, 1);
    let mut alice = user(&broker, "alice");
    assert_eq!(reads(&mut alice, &topic), TOPIC_AUTHORIZATION_FAILED);
    create(&mut admin, &[acl(&topic, "User:alice", READ)]);
    assert_eq!(reads(&mut alice, &topic), 0, "from the answer on, on a connection that was there");
    let bad = [
        acl(&topic, "alice", READ),
        acl("", "User:alice", READ),
        acl(&topic, "User:alice", READ).with_resource_type(ANY),
        acl(&topic, "User:alice", ANY),
        acl(&topic, "User:alice", READ).with_resource_pattern_type(MATCH),
        acl(&topic, "User:alice", READ).with_permission_type(ANY),
        acl("my-cluster", "User:alice", READ).with_resource_type(CLUSTER),
        acl(&topic, "User:alice", READ).with_host(text("10.0.0.0/64")),
    ];
    let good = acl("good", "User:alice", READ);
    let asked = [&bad[..], &[good]].concat();
    let told = admin.call(3, &CreateAclsRequest::default().with_creations(asked));
    let codes: Vec<i16> = told.results.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [vec![INVALID_REQUEST; bad.len()], vec![0]].concat(), "{told:?}");
    let log = broker.log();
    broker.kill();
    broker.restart();
    assert_eq!(reads(&mut user(&broker, "alice"), &topic), 0);
    assert_eq!(reads(&mut user(&broker, "bob"), &topic), TOPIC_AUTHORIZATION_FAILED);
    let made = format!(
        "api=CreateAcls change=\"access control list made\" of=\"ALLOW User:alice from * READ on TOPIC:LITERAL:{topic}\""
    );
    assert!(log.contains(&made), "{log}");
    let denied = format!(
        "denied principal=\"User:alice\" host=127.0.0.1 api=Fetch operation=\"READ\" resource=\"TOPIC\" name=\"{topic}\""
    );
    assert!(log.contains(&denied), "{log}");
    assert!(broker.metric("millstream_denials_total") > 0.0);
}

#[test]
fn delete_acls() {
    let Some((mut broker, mut admin)) = lasting() else { return };
    let topic = topics::topic(&mut admin, 1);
    create(&mut admin, &[acl(&topic, "User:alice", READ), acl(&topic, "User:bob", READ), acl("x", "User:bob", ALL)]);
    let mut bob = user(&broker, "bob");
    assert_eq!(reads(&mut bob, &topic), 0);
    assert_eq!((delete(&mut admin, "User:bob"), delete(&mut admin, "User:bob")), (2, 0));
    assert_eq!(reads(&mut bob, &topic), TOPIC_AUTHORIZATION_FAILED);
    broker.kill();
    broker.restart();
    assert_eq!(reads(&mut user(&broker, "bob"), &topic), TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(reads(&mut user(&broker, "alice"), &topic), 0);
}

#[test]
fn denials_prefixes_wildcards_and_hosts_count() {
    let Some(broker) = broker(&[]) else { return };
    let mut admin = broker.wire();
    let topic = topics::topic(&mut admin, 1);
    let mut alice = user(&broker, "alice");
    let stem = &topic[..3];
    let everyone = acl(stem, "User:*", READ).with_resource_pattern_type(PREFIXED);
    let never = acl(&topic, "User:alice", ALL).with_permission_type(DENY);
    let here = acl("*", "User:alice", READ).with_host(text("127.0.0.0/8"));
    let elsewhere = acl("*", "User:alice", READ).with_host(text("10.0.0.0/8"));
    let nowhere = acl("*", "User:alice", READ).with_host(text("10.1.2.3"));
    for (acls, expected) in [
        (vec![everyone.clone()], 0),
        (vec![everyone.clone(), never], TOPIC_AUTHORIZATION_FAILED),
        (vec![everyone.with_operation(WRITE)], TOPIC_AUTHORIZATION_FAILED),
        (vec![here], 0),
        (vec![elsewhere, nowhere], TOPIC_AUTHORIZATION_FAILED),
    ] {
        create(&mut admin, &acls);
        assert_eq!(reads(&mut alice, &topic), expected, "{acls:?}");
        delete(&mut admin, "User:alice");
        delete(&mut admin, "User:*");
    }
}

/// Nobody learns which topics there are by asking for them.
#[test]
fn what_is_there_and_what_is_not_look_alike() {
    let Some(broker) = broker(&[]) else { return };
    let (there, missing) = (topics::topic(&mut broker.wire(), 1), unique("missing"));
    let mut alice = user(&broker, "alice");
    let told = topics::metadata(&mut alice, &[&there, &missing]);
    for (row, name) in told.topics.iter().zip([&there, &missing]) {
        let told = (row.error_code, row.topic_id.is_nil(), row.partitions.len(), row.is_internal);
        assert_eq!(told, (TOPIC_AUTHORIZATION_FAILED, true, 0, false), "{name}");
    }
    let mut told_of = |name: &str| {
        let listed = topics::list_offset(&mut alice, name, 0, -1);
        let fetched = topics::fetch(&mut alice, name, 0, 0);
        let written = topics::produce(&mut alice, name, 0, crate::harness::batch::Batch::of(&["a"]).build());
        [listed.error_code, fetched.error_code, written.error_code]
    };
    assert_eq!(told_of(&there), [TOPIC_AUTHORIZATION_FAILED; 3]);
    assert_eq!(told_of(&missing), [TOPIC_AUTHORIZATION_FAILED; 3]);
    // And none comes into being.
    assert_eq!(topics::metadata_of_all(&mut broker.wire()).topics.iter().filter(|t| !t.is_internal).count(), 1);
}

/// A topic is made on demand for whom may create it only.
#[test]
fn who_may_not_create_a_topic_makes_none_by_asking() {
    let Some(broker) = broker(&[]) else { return };
    let (name, mut admin) = (unique("made"), broker.wire());
    let mut alice = user(&broker, "alice");
    create(&mut admin, &[acl(&name, "User:alice", DESCRIBE)]);
    let mut ask = || {
        let asked = topics::metadata_request(&[&name]).with_allow_auto_topic_creation(true);
        alice.call(topics::METADATA, &asked).topics[0].error_code
    };
    assert_eq!(ask(), TOPIC_AUTHORIZATION_FAILED);
    create(&mut admin, &[acl(&name, "User:alice", CREATE)]);
    eventually("the topic is made", || (ask() == 0).then_some(()));
}

/// Who may write somewhere may be idempotent (KIP-679).
#[test]
fn idempotent_producers_need_a_topic_to_write_to() {
    let Some(broker) = broker(&[]) else { return };
    let mut alice = user(&broker, "alice");
    assert!(idempotent(&mut alice).contains("error_code: 31"));
    let prefixed = acl("pay", "User:alice", WRITE).with_resource_pattern_type(PREFIXED);
    create(&mut broker.wire(), &[prefixed]);
    assert!(idempotent(&mut alice).contains("error_code: 0"));
}

#[test]
fn what_no_list_is_about_may_be_open() {
    let Some(broker) = broker(&["allow.everyone.if.no.acl.found=true"]) else { return };
    let mut admin = broker.wire();
    let topic = topics::topic(&mut admin, 1);
    let mut alice = user(&broker, "alice");
    assert_eq!(reads(&mut alice, &topic), 0);
    create(&mut admin, &[acl(&topic, "User:bob", READ)]);
    assert_eq!(reads(&mut alice, &topic), TOPIC_AUTHORIZATION_FAILED, "now one is");
}

#[test]
fn without_an_authorizer_there_are_no_lists() {
    let Some(broker) = Broker::own_in(LISTENERS, &[], &USERS) else { return };
    let mut alice = user(&broker, "alice");
    let topic = topics::topic(&mut alice, 1);
    assert_eq!(reads(&mut alice, &topic), 0);
    assert_eq!(alice.call(3, &any()).error_code, SECURITY_DISABLED);
    let made = alice.call(3, &CreateAclsRequest::default().with_creations(vec![acl("a", "User:a", READ)]));
    assert_eq!(made.results[0].error_code, SECURITY_DISABLED);
    let filters = vec![DeleteAclsFilter::default().with_resource_type_filter(ANY).with_pattern_type_filter(ANY)];
    let deleted = alice.call(3, &DeleteAclsRequest::default().with_filters(filters));
    assert_eq!(deleted.filter_results[0].error_code, SECURITY_DISABLED);
}

#[test]
fn super_users_are_principals() {
    let refusal = run_refused(&["start", "--set", AUTHORIZER, "--set", "super.users=User:admin;alice"]);
    let expected = "super.users=\"User:admin;alice\": not allowed, must be principals separated by semicolons";
    assert!(refusal.stderr.contains(expected), "{}", refusal.stderr);
}

/// Lists are those of the cluster: made by any node, they count on each, for what is decided elsewhere, too.
#[test]
fn lists_count_on_every_node() {
    let Some(nodes) = Nodes::started(3, &[AUTHORIZER, "allow.everyone.if.no.acl.found=true"]) else { return };
    let (topic, other) = (unique("there"), unique("never"));
    let made = CreateTopicsRequest::default().with_topics(vec![topics::creatable(&topic, 1, &[])]);
    assert_eq!(nodes.wire(1).call(7, &made.with_timeout_ms(30_000)).topics[0].error_code, 0);
    let admins = |operation| acl("kafka-cluster", "User:ANONYMOUS", operation).with_resource_type(CLUSTER);
    create(&mut nodes.wire(1), &[admins(ALTER), admins(DESCRIBE)]);
    for (node, name) in [(2, &topic), (3, &other)] {
        let made = CreateAclsRequest::default()
            .with_creations(vec![acl(name, "User:ANONYMOUS", ALL).with_permission_type(DENY)]);
        eventually("the list is made", || (nodes.wire(node).call(3, &made).results[0].error_code == 0).then_some(()));
    }
    for node in 1..=3 {
        let mut wire = nodes.wire(node);
        eventually("the list counts", || {
            let told = topics::metadata(&mut wire, &[&topic]).topics.remove(0);
            (told.error_code == TOPIC_AUTHORIZATION_FAILED && told.partitions.is_empty()).then_some(())
        });
        let made = CreateTopicsRequest::default().with_topics(vec![topics::creatable(&other, 1, &[])]);
        let told = wire.call(7, &made.with_timeout_ms(30_000));
        assert_eq!(told.topics[0].error_code, TOPIC_AUTHORIZATION_FAILED, "{told:?}");
        let state = DeleteTopicState::default().with_name(Some(topics::name(&topic)));
        let told = wire.call(6, &DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(30_000));
        assert_eq!(told.responses[0].error_code, TOPIC_AUTHORIZATION_FAILED, "{told:?}");
    }
}
