//! SASL listeners: SaslHandshake, SaslAuthenticate, DescribeUserScramCredentials, AlterUserScramCredentials; who gets in, who
//! does not, and what is served before.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::sasl_authenticate_response::SaslAuthenticateResponse;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest, SaslAuthenticateRequest,
};
use millstream_core::security::{ITERATIONS_MIN, ScramMechanism};

use crate::harness::broker::{Broker, run_refused};
use crate::harness::login::{Credentials, say, shake_hands};
use crate::harness::topics::{self, metadata_of_all};
use crate::harness::wire::{Wire, software};
use crate::harness::{PATIENCE, eventually, text, unique};

const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const ILLEGAL_SASL_STATE: i16 = 34;
const SASL_AUTHENTICATION_FAILED: i16 = 58;
const RESOURCE_NOT_FOUND: i16 = 91;
const DUPLICATE_RESOURCE: i16 = 92;
const UNACCEPTABLE_CREDENTIAL: i16 = 93;

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
const ALL: &str = "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512";
const LISTENERS: &str = "SASL_PLAINTEXT://127.0.0.1:0,PLAINTEXT://127.0.0.1:0";
const USERS: [(&str, &str); 1] = [("MILLSTREAM_BOOTSTRAP_USERS", "admin:admin-secret,alice:alice-secret")];

fn broker(settings: &[&str]) -> Option<Broker> {
    Broker::own_in(LISTENERS, &[settings, &[ALL]].concat(), &USERS)
}

fn alice(mechanism: &str) -> Credentials<'_> {
    Credentials { mechanism, user: "alice", password: "alice-secret" }
}

fn is_served(wire: &mut Wire) -> bool {
    wire.try_call(topics::METADATA, &topics::metadata_request(&[]), PATIENCE).is_some()
}

#[test]
fn sasl_authenticate() {
    let Some(broker) = broker(&[]) else { return };
    for mechanism in MECHANISMS {
        let mut wire = broker.wire();
        assert_eq!(wire.call(3, &software()).error_code, 0, "ApiVersions comes before");
        let answer = alice(mechanism).log_in(&mut wire);
        assert_eq!((answer.error_code, answer.session_lifetime_ms), (0, 0), "{mechanism}");
        let topic = topics::topic(&mut wire, 1);
        topics::write(&mut wire, &topic, 0, &["a"]);
        assert_eq!(topics::values(&mut wire, &topic, 0, 0), ["a"]);
        // Nobody asked for another login.
        assert_eq!(shake_hands(&mut wire, 1, mechanism).error_code, ILLEGAL_SASL_STATE);
        assert_eq!(say(&mut wire, b"x").error_code, ILLEGAL_SASL_STATE);
        assert!(is_served(&mut wire));
    }
}

#[test]
fn sasl_handshake() {
    let Some(broker) = broker(&[]) else { return };
    for version in 0..=1 {
        let mut wire = broker.wire();
        let shaken = shake_hands(&mut wire, version, "GSSAPI");
        let named: Vec<&str> = shaken.mechanisms.iter().map(|name| name.as_str()).collect();
        assert_eq!((shaken.error_code, named), (UNSUPPORTED_SASL_MECHANISM, MECHANISMS.to_vec()));
        assert!(wire.is_closed());
        assert_eq!(shake_hands(&mut broker.wire(), version, "PLAIN").error_code, 0);
    }
}

/// Clients from before Kafka 1.0 send their messages bare.
#[test]
fn messages_without_requests_around_them_are_understood() {
    let Some(broker) = broker(&[]) else { return };
    for mechanism in MECHANISMS {
        for (password, is_right) in [("alice-secret", true), ("wrong", false)] {
            let mut wire = broker.wire();
            assert_eq!(shake_hands(&mut wire, 0, mechanism).error_code, 0);
            let answer = Credentials { password, ..alice(mechanism) }.authenticate(&mut |message| {
                wire.send_frame(message);
                let answer = SaslAuthenticateResponse::default();
                match wire.read_frame() {
                    Ok(frame) => answer.with_auth_bytes(frame.into()),
                    Err(_) => answer.with_error_code(SASL_AUTHENTICATION_FAILED),
                }
            });
            assert_eq!(answer.error_code == 0, is_right, "{mechanism}");
            if is_right {
                assert!(is_served(&mut wire));
            }
        }
    }
}

/// The same answer, whatever was wrong, and then the end.
#[test]
fn who_fails_learns_nothing() {
    let Some(broker) = broker(&[]) else { return };
    for mechanism in MECHANISMS {
        let mut told = Vec::new();
        for (user, password) in
            [("alice", "wrong"), ("nobody", "alice-secret"), ("admin", "alice-secret"), ("a=b,c", "x")]
        {
            let mut wire = broker.wire();
            let began = Instant::now();
            let answer = Credentials { mechanism, user, password }.log_in(&mut wire);
            assert_eq!(answer.error_code, SASL_AUTHENTICATION_FAILED, "{mechanism} {user}");
            assert!(began.elapsed() >= Duration::from_millis(100), "a failure is answered late");
            assert!(wire.is_closed());
            told.push((answer.error_message, answer.auth_bytes));
        }
        told.dedup();
        assert_eq!(told.len(), 1, "{told:?}");
    }
    assert_eq!(broker.log().matches("alice-secret").count(), 0);
}

/// A user that does not exist gets a salt, and the same at each try.
#[test]
fn users_cannot_be_told_from_others_by_their_salts() {
    let Some(mut broker) = broker(&[]) else { return };
    let salt = |broker: &Broker, user: &str| {
        let mut wire = broker.wire();
        shake_hands(&mut wire, 1, "SCRAM-SHA-256");
        let answer = say(&mut wire, format!("n,,n={user},r=abc").as_bytes());
        assert_eq!(answer.error_code, 0);
        let said = String::from_utf8(answer.auth_bytes.to_vec()).expect("text");
        said.split_once(",s=").expect("a salt").1.to_owned()
    };
    let before = (salt(&broker, "nobody"), salt(&broker, "alice"));
    assert_eq!(before.0.len(), before.1.len());
    assert_eq!((salt(&broker, "nobody"), salt(&broker, "alice")), before);
    assert_ne!(salt(&broker, "nobody2"), before.0);
    broker.kill();
    broker.restart();
    assert_eq!((salt(&broker, "nobody"), salt(&broker, "alice")), before);
}

#[test]
fn nothing_is_served_before_a_login() {
    let Some(broker) = broker(&[]) else { return };
    let everything = broker.wire().advertised();
    for key in everything.keys().filter(|key| ![17, 18].contains(*key)) {
        let mut wire = broker.wire();
        wire.send_body(*key, everything[key].max, 1, &[]);
        assert!(wire.is_closed(), "API {key} before the handshake");
        if *key != 36 {
            let mut wire = broker.wire();
            shake_hands(&mut wire, 1, "PLAIN");
            wire.send_body(*key, everything[key].max, 1, &[]);
            assert!(wire.is_closed(), "API {key} in a login");
        }
    }
    // A frame that no login needs is not even read.
    let mut wire = broker.wire();
    wire.send_raw(&(600 * 1024_i32).to_be_bytes());
    assert!(wire.is_closed());
    let mut wire = broker.wire();
    assert_eq!(alice("PLAIN").log_in(&mut wire).error_code, 0);
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["x".repeat(700 * 1024).as_str()]);
}

#[test]
fn what_is_no_login_ends_the_connection_and_takes_no_time() {
    let Some(broker) = broker(&["connection.failed.authentication.delay.ms=0"]) else { return };
    let long = "u".repeat(100_000);
    for mechanism in MECHANISMS {
        for message in ["", "\0", "n,,n=,r=", "n,,m=x,n=alice,r=abc", "p=tls-unique,,n=alice,r=abc", "\0alice\0", &long]
        {
            let mut wire = broker.wire();
            shake_hands(&mut wire, 1, mechanism);
            assert_eq!(say(&mut wire, message.as_bytes()).error_code, SASL_AUTHENTICATION_FAILED, "{message:.20}");
            assert!(wire.is_closed());
        }
    }
    // As long a name as fits: an answer all the same.
    let mut wire = broker.wire();
    let began = Instant::now();
    let answer = Credentials { mechanism: "SCRAM-SHA-512", user: &long, password: "x" }.log_in(&mut wire);
    assert_eq!(answer.error_code, SASL_AUTHENTICATION_FAILED);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_client_that_never_logs_in_is_sent_away() {
    let Some(broker) = broker(&[]) else { return };
    let mut silent = TcpStream::connect(broker.bootstrap()).expect("connect");
    silent.set_read_timeout(Some(PATIENCE)).expect("timeout");
    assert_eq!(silent.read(&mut [0; 1]).expect("an end"), 0);
    eventually("it is said", || broker.log().contains("not logged in in time").then_some(()));
}

/// KIP-368.
#[test]
fn a_login_runs_out_and_may_be_renewed_by_the_same_user_only() {
    let Some(broker) = broker(&["connections.max.reauth.ms=1500"]) else { return };
    let mut wire = broker.wire();
    assert_eq!(alice("SCRAM-SHA-256").log_in(&mut wire).session_lifetime_ms, 1500);
    // Too soon: once a second is enough.
    assert_eq!(shake_hands(&mut wire, 1, "SCRAM-SHA-256").error_code, ILLEGAL_SASL_STATE);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(alice("SCRAM-SHA-256").log_in(&mut wire).error_code, 0);
    std::thread::sleep(Duration::from_millis(1100));
    assert!(is_served(&mut wire), "the first login is over, the second is not");
    let admin = Credentials { mechanism: "SCRAM-SHA-256", user: "admin", password: "admin-secret" };
    assert_eq!(admin.log_in(&mut wire).error_code, SASL_AUTHENTICATION_FAILED);
    assert!(wire.is_closed());
    let mut wire = broker.wire();
    assert_eq!(alice("PLAIN").log_in(&mut wire).error_code, 0);
    std::thread::sleep(Duration::from_millis(1600));
    assert!(!is_served(&mut wire), "who does not log in again is sent away");
}

fn upsertion(user: &str, password: &str, mechanism: ScramMechanism, iterations: u32) -> ScramCredentialUpsertion {
    let salted = mechanism.salted_password(password.as_bytes(), b"salt", iterations);
    ScramCredentialUpsertion::default()
        .with_name(text(user))
        .with_mechanism(mechanism.number())
        .with_iterations(i32::try_from(iterations).expect("a number"))
        .with_salt(Bytes::from_static(b"salt"))
        .with_salted_password(salted.into())
}

#[test]
fn alter_user_scram_credentials() {
    let Some(broker) = broker(&[]) else { return };
    let mut wire = Wire::connect(&broker.addresses()[1]);
    let user = unique("user");
    let alter = |wire: &mut Wire, request: AlterUserScramCredentialsRequest| -> Vec<(String, i16)> {
        let answer = wire.call(0, &request);
        answer.results.iter().map(|row| (row.user.to_string(), row.error_code)).collect()
    };
    let upsert = |upsertions| AlterUserScramCredentialsRequest::default().with_upsertions(upsertions);
    let sha256 = |password| upsertion(&user, password, ScramMechanism::Sha256, ITERATIONS_MIN);
    assert_eq!(alter(&mut wire, upsert(vec![sha256("one")])), [(user.clone(), 0)]);
    let login =
        |mechanism, password| Credentials { mechanism, user: &user, password }.log_in(&mut broker.wire()).error_code;
    assert_eq!((login("SCRAM-SHA-256", "one"), login("PLAIN", "one")), (0, 0));
    assert_eq!(login("SCRAM-SHA-512", "one"), SASL_AUTHENTICATION_FAILED, "there is no credential for it");
    assert_eq!(alter(&mut wire, upsert(vec![sha256("two")])), [(user.clone(), 0)]);
    assert_eq!((login("SCRAM-SHA-256", "one"), login("SCRAM-SHA-256", "two")), (SASL_AUTHENTICATION_FAILED, 0));
    // Each by itself.
    let few = upsertion("few", "x", ScramMechanism::Sha256, 1);
    let answer = alter(&mut wire, upsert(vec![few, sha256("three"), sha256("four")]));
    assert_eq!(answer, [("few".to_owned(), UNACCEPTABLE_CREDENTIAL), (user.clone(), DUPLICATE_RESOURCE)]);
    let deletion = ScramCredentialDeletion::default().with_name(text(&user)).with_mechanism(1);
    let delete = AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]);
    assert_eq!(alter(&mut wire, delete.clone()), [(user.clone(), 0)]);
    assert_eq!(alter(&mut wire, delete), [(user.clone(), RESOURCE_NOT_FOUND)]);
    assert_eq!(login("SCRAM-SHA-256", "two"), SASL_AUTHENTICATION_FAILED);
}

#[test]
fn describe_user_scram_credentials() {
    let Some(broker) = broker(&[]) else { return };
    let mut wire = Wire::connect(&broker.addresses()[1]);
    let all = wire.call(0, &DescribeUserScramCredentialsRequest::default().with_users(None));
    let users: Vec<&str> = all.results.iter().map(|row| row.user.as_str()).collect();
    assert_eq!((all.error_code, users), (0, vec!["admin", "alice"]));
    let infos: Vec<(i8, i32)> = all.results[0].credential_infos.iter().map(|i| (i.mechanism, i.iterations)).collect();
    assert_eq!(infos, [(1, 4096), (2, 4096)]);
    let name = |user: &str| UserName::default().with_name(text(user));
    let asked = DescribeUserScramCredentialsRequest::default().with_users(Some(vec![name("alice"), name("nobody")]));
    let codes: Vec<i16> = wire.call(0, &asked).results.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [0, RESOURCE_NOT_FOUND]);
}

/// Users of PLAIN as Kafka's own file has them.
#[test]
fn users_of_plain_stand_in_the_settings() {
    let jaas = "listener.name.sasl_plaintext.plain.sasl.jaas.config=\
                org.apache.kafka.common.security.plain.PlainLoginModule required user_carol=\"carol-secret\";";
    let Some(broker) = broker(&[jaas]) else { return };
    let login =
        |user, password| Credentials { mechanism: "PLAIN", user, password }.log_in(&mut broker.wire()).error_code;
    assert_eq!((login("carol", "carol-secret"), login("alice", "alice-secret")), (0, 0));
    assert_eq!((login("carol", "alice-secret"), login("carol", "")), (58, 58));
}

#[test]
fn settings_that_cannot_be_used_end_the_start() {
    let data = tempfile::TempDir::new().expect("temporary directory");
    let data = data.path().join("data");
    let data = data.to_str().expect("a path");
    let start =
        ["start", "--data", data, "--listen", "SASL_PLAINTEXT://127.0.0.1:0", "--admin", "127.0.0.1:0", "--set"];
    let refusal = run_refused(&[&start[..], &["sasl.enabled.mechanisms=GSSAPI"]].concat());
    assert_eq!(refusal.code, Some(2));
    assert!(refusal.stderr.contains("some of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"), "{}", refusal.stderr);
}

/// The plaintext listener beside it asks nobody.
#[test]
fn a_listener_without_logins_says_so() {
    let Some(broker) = broker(&[]) else { return };
    let mut wire = Wire::connect(&broker.addresses()[1]);
    assert!(metadata_of_all(&mut wire).brokers.len() == 1);
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"x"));
    assert_eq!(wire.call(2, &request).error_code, ILLEGAL_SASL_STATE);
}
