//! Which operation on which resource each API asks for: a user who lacks it is refused in Kafka's way, one who has it and
//! nothing else is served. The table is that of docs/SECURITY.md; Apache Kafka 4.3.1 passes the test, too.

pub mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, CreateTopicsRequest, DeleteAclsRequest, DescribeAclsRequest};
use millstream_core::security::{Operation, ResourceType};
use uuid::Uuid;

use crate::groups::coordinator;
use crate::harness::broker::Broker;
use crate::harness::login::Credentials;
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, topics, txn, unique};
use crate::offsets::commit;

const AUTHORIZER: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer";
const SUPER_USERS: &str = "super.users=User:ANONYMOUS;User:admin";
const LISTENERS: &str = "PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0";
const MECHANISMS: &str = "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512";
const USERS: [(&str, &str); 1] = [("MILLSTREAM_BOOTSTRAP_USERS", "admin:admin-secret,alice:alice-secret")];
/// Of the wire.
const ANY: i8 = 1;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const ALLOW: i8 = 3;
const ALICE: &str = "User:alice";

/// What the codes of refusals are.
const TOPIC: i16 = 29;
const GROUP: i16 = 30;
const CLUSTER: i16 = 31;
const TRANSACTIONAL_ID: i16 = 53;
const REFUSALS: [i16; 4] = [TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID];

/// A broker where only super users may do anything without being listed: one of the test's own, or an Apache Kafka with
/// SASL_PLAINTEXT ten ports above PLAINTEXT (`allow.everyone.if.no.acl.found=false`).
pub struct Setup {
    broker: Option<Broker>,
    open: String,
    sasl: String,
}

impl Setup {
    fn start() -> Self {
        let settings = [AUTHORIZER, SUPER_USERS, MECHANISMS, "share.coordinator.state.topic.num.partitions=1"];
        if let Some(broker) = Broker::own_in(LISTENERS, &settings, &USERS) {
            let addresses = broker.addresses();
            let [open, sasl] = &addresses[..] else { panic!("two listeners: {addresses:?}") };
            let (open, sasl) = (open.clone(), sasl.clone());
            return Self { broker: Some(broker), open, sasl };
        }
        let open = std::env::var("MILLSTREAM_TEST_BOOTSTRAP").expect("a broker");
        let (host, port) = open.rsplit_once(':').expect("HOST:PORT");
        let sasl = format!("{host}:{}", port.parse::<u16>().expect("a port") + 10);
        Self { broker: None, open, sasl }
    }

    fn admin(&self) -> Wire {
        Wire::connect(&self.open)
    }

    fn alice(&self) -> Wire {
        let mut wire = Wire::connect(&self.sasl);
        let alice = Credentials { mechanism: "PLAIN", user: "alice", password: "alice-secret" };
        assert_eq!(alice.log_in(&mut wire).error_code, 0);
        wire
    }
}

/// An operation on a resource, by the numbers of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    operation: i8,
    resource: i8,
}

const fn on_topic(operation: i8) -> Right {
    Right { operation, resource: 2 }
}
const fn on_group(operation: i8) -> Right {
    Right { operation, resource: 3 }
}
const fn on_cluster(operation: i8) -> Right {
    Right { operation, resource: 4 }
}
const fn on_transactional_id(operation: i8) -> Right {
    Right { operation, resource: 5 }
}

const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const DELETE: i8 = 6;
const ALTER: i8 = 7;
const DESCRIBE: i8 = 8;
const CLUSTER_ACTION: i8 = 9;
const DESCRIBE_CONFIGS: i8 = 10;
const ALTER_CONFIGS: i8 = 11;
const IDEMPOTENT_WRITE: i8 = 12;

impl Right {
    /// Kafka's code for whom it lacks.
    fn refusal(self) -> i16 {
        match self.resource {
            2 => TOPIC,
            3 => GROUP,
            4 => CLUSTER,
            _ => TRANSACTIONAL_ID,
        }
    }

    fn words(self) -> String {
        let operation = Operation::of_number(self.operation).expect("an operation");
        let resource = ResourceType::of_number(self.resource).expect("a type");
        format!("{operation} {resource}")
    }

    fn acl(self, things: &Things) -> AclCreation {
        let name = match self.resource {
            2 | 3 | 5 => things.name.as_str(),
            _ => "kafka-cluster",
        };
        AclCreation::default()
            .with_resource_type(self.resource)
            .with_resource_name(text(name))
            .with_resource_pattern_type(if self.resource == 4 { LITERAL } else { PREFIXED })
            .with_principal(text(ALICE))
            .with_host(text("*"))
            .with_operation(self.operation)
            .with_permission_type(ALLOW)
    }
}

/// What requests are about: one name for the topic, the group and the transactional id.
pub struct Things {
    name: String,
    topic_id: Uuid,
}

/// What an API needs.
pub struct Row {
    api: i16,
    name: String,
    /// Which of its requests, where it matters.
    of: &'static str,
    /// All of them, in the order in which they are looked at.
    needs: Vec<Right>,
    told: Told,
    ask: fn(&mut Wire, &Things) -> String,
}

/// How a refusal shows.
#[derive(Clone, Copy)]
enum Told {
    /// By the code of the resource.
    Code,
    /// By this one.
    As(i16),
    /// It is left out of the answer: this is in it only for whom may.
    LeftOut(fn(&Things) -> String),
}

const NEEDS_NOTHING: [(i16, &str); 5] = [
    (17, "SaslHandshake"),
    (18, "ApiVersions"),
    (36, "SaslAuthenticate"),
    (71, "GetTelemetrySubscriptions"),
    (72, "PushTelemetry"),
];

/// All codes of an answer, wherever they stand.
fn codes(answer: &str) -> BTreeSet<i16> {
    let after = answer.split("error_code: ").skip(1);
    let number = |rest: &str| {
        let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse::<i16>().expect("a code")
    };
    after.map(number).collect()
}

fn refusals(answer: &str) -> BTreeSet<i16> {
    codes(answer).into_iter().filter(|code| REFUSALS.contains(code)).collect()
}

fn grant(setup: &Setup, rights: &[Right], things: &Things) {
    let creations = rights.iter().map(|right| right.acl(things)).collect::<Vec<_>>();
    let count = creations.len();
    let mut wire = setup.admin();
    let made = wire.call(3, &CreateAclsRequest::default().with_creations(creations));
    assert!(made.results.iter().all(|row| row.error_code == 0), "{made:?}");
    eventually("the lists count", || (listed(&mut wire) == count).then_some(()));
}

/// How many lists there are of alice.
fn listed(wire: &mut Wire) -> usize {
    let any = DescribeAclsRequest::default()
        .with_resource_type_filter(ANY)
        .with_pattern_type_filter(ANY)
        .with_operation(ANY)
        .with_permission_type(ANY)
        .with_resource_name_filter(None)
        .with_host_filter(None)
        .with_principal_filter(Some(text(ALICE)));
    let told = wire.call(3, &any);
    assert_eq!(told.error_code, 0);
    told.resources.iter().map(|resource| resource.acls.len()).sum()
}

fn revoke_all(setup: &Setup) {
    let any = DeleteAclsFilter::default()
        .with_resource_type_filter(ANY)
        .with_pattern_type_filter(ANY)
        .with_operation(ANY)
        .with_permission_type(ANY)
        .with_resource_name_filter(None)
        .with_host_filter(None)
        .with_principal_filter(Some(text(ALICE)));
    let mut wire = setup.admin();
    let told = wire.call(3, &DeleteAclsRequest::default().with_filters(vec![any]));
    assert_eq!(told.filter_results[0].error_code, 0);
    eventually("the lists are gone", || (listed(&mut wire) == 0).then_some(()));
}

impl Row {
    /// As docs/SECURITY.md has it.
    fn line(&self) -> String {
        let rights: Vec<String> = self.needs.iter().map(|right| right.words()).collect();
        let of = if self.of == self.name { "" } else { self.of };
        let told = if matches!(self.told, Told::LeftOut(_)) { "left out" } else { "" };
        format!("| {} | {of} | {} | {told} |", self.name, rights.join(", "))
    }

    fn check(&self, setup: &Setup) -> Result<(), String> {
        let name = unique("thing");
        let mut admin = setup.admin();
        let topic = CreateTopicsRequest::default().with_topics(vec![topics::creatable(&name, 1, &[])]);
        assert_eq!(admin.call(7, &topic.with_timeout_ms(30_000)).topics[0].error_code, 0);
        topics::await_topic(&mut admin, &name, 1);
        // A group and a transactional id of this name are there, too.
        coordinator(&mut admin, &name);
        assert_eq!(admin.call(8, &commit(&name, &name, 0, 0)).topics[0].partitions[0].error_code, 0);
        txn::find(&mut admin, &name);
        txn::init(&mut admin, &name);
        let topic_id = topics::topic_id(&mut admin, &name);
        let things = Things { name, topic_id };
        if self.of.ends_with("ShareGroupOffsets") {
            coordinator(&mut admin, &format!("{}-share", things.name));
            requests::make_share_group(&mut admin, &things);
        }
        let told =
            (0..self.needs.len()).map(|lacking| self.lacks(setup, &things, lacking)).collect::<Result<Vec<_>, _>>();
        told?;
        grant(setup, &self.needs, &things);
        let answer = (self.ask)(&mut setup.alice(), &things);
        revoke_all(setup);
        let who = format!("{} ({})", self.of, self.api);
        if !refusals(&answer).is_empty() {
            return Err(format!("{who}: refused with all rights: {answer}"));
        }
        match self.told {
            Told::LeftOut(part) if !answer.contains(&part(&things)) => Err(format!("{who}: not told: {answer}")),
            _ => Ok(()),
        }
    }

    /// Refused without this one right, though all others are there.
    fn lacks(&self, setup: &Setup, things: &Things, lacking: usize) -> Result<(), String> {
        let others: Vec<Right> =
            self.needs.iter().enumerate().filter(|(at, _)| *at != lacking).map(|(_, right)| *right).collect();
        if !others.is_empty() {
            grant(setup, &others, things);
        }
        let answer = (self.ask)(&mut setup.alice(), things);
        revoke_all(setup);
        let right = self.needs[lacking];
        let who = format!("{} ({}) without {right:?}", self.of, self.api);
        match self.told {
            Told::Code | Told::As(_) => {
                let expected = if let Told::As(code) = self.told { code } else { right.refusal() };
                match refusals(&answer) {
                    told if told == BTreeSet::from([expected]) => Ok(()),
                    told => Err(format!("{who}: {told:?}, expected {expected}: {answer}")),
                }
            }
            Told::LeftOut(part) if answer.contains(&part(things)) => Err(format!("{who}: told all the same: {answer}")),
            Told::LeftOut(_) if !refusals(&answer).is_empty() => Err(format!("{who}: not left out, refused: {answer}")),
            Told::LeftOut(_) => Ok(()),
        }
    }
}

#[test]
fn every_api_asks_for_the_operation_that_kafka_asks_for() {
    let setup = Setup::start();
    let rows = requests::rows();
    // A row without an answer does not hide the others.
    let check = |row: &Row| match catch_unwind(AssertUnwindSafe(|| row.check(&setup))) {
        Ok(checked) => checked.err(),
        Err(_panic) => {
            revoke_all(&setup);
            Some(format!("{} ({}): no answer", row.of, row.api))
        }
    };
    let problems: Vec<String> = rows.iter().filter_map(check).collect();
    assert!(problems.is_empty(), "{} of {} rows:\n{}", problems.len(), rows.len(), problems.join("\n\n"));
    // What is written down is what is looked at.
    let described = include_str!("../../docs/SECURITY.md");
    let unwritten: Vec<String> = rows.iter().map(Row::line).filter(|line| !described.contains(line)).collect();
    assert!(unwritten.is_empty(), "not in docs/SECURITY.md:\n{}", unwritten.join("\n"));
    // No API is forgotten.
    if setup.broker.is_some() {
        let mut tabled: BTreeSet<i16> = rows.iter().map(|row| row.api).collect();
        tabled.extend(NEEDS_NOTHING.map(|(api, _)| api));
        let served: BTreeMap<i16, _> = setup.admin().advertised();
        let missing: Vec<i16> = served.into_keys().filter(|api| !tabled.contains(api)).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
    }
}
