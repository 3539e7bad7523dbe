//! TLS listeners: what is written and read, who is let in, certificates that change while the node runs, and peers that
//! speak something else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use kafka_protocol::messages::ProduceRequest;
use tempfile::TempDir;

use crate::harness::batch::Batch;
use crate::harness::broker::{Broker, run_refused};
use crate::harness::tls::{Authority, Certificate, TlsClient, Validity, write};
use crate::harness::topics;
use crate::harness::wire::Wire;
use crate::harness::{PATIENCE, eventually};

const SSL: &str = "SSL://127.0.0.1:0";

/// A broker with a TLS listener, and the files that it was set up with.
struct Setup {
    broker: Broker,
    authority: Authority,
    keystore: PathBuf,
    directory: TempDir,
}

/// `None`: the broker is an external one. `settings` may name files of the directory as `DIR/...`.
fn setup(settings: &[&str], files: &[(&str, &str)]) -> Option<Setup> {
    setup_by(Authority::new("the issuer"), settings, files)
}

fn setup_by(authority: Authority, settings: &[&str], files: &[(&str, &str)]) -> Option<Setup> {
    let directory = TempDir::new().expect("temporary directory");
    let keystore = write(directory.path(), "broker.pem", &issue(&authority, "broker").pem());
    for (name, text) in files {
        write(directory.path(), name, text);
    }
    let dir = directory.path().to_str().expect("a path");
    let mut all = vec![format!("ssl.keystore.location={dir}/broker.pem")];
    all.extend(settings.iter().map(|setting| setting.replace("DIR", dir)));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let broker = Broker::own_listening(SSL, &all)?;
    Some(Setup { broker, authority, keystore, directory })
}

fn issue(authority: &Authority, name: &str) -> Certificate {
    authority.issue(name, "tests", 1, Validity::Good)
}

/// Whether a client is let in and served: TLS 1.3 tells a client what is wrong with it only after its handshake.
fn is_served(client: &TlsClient, address: &str) -> bool {
    let mut stream = client.stream(address);
    let mut head = [0; 4];
    // ApiVersions, version 0.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    stream.sock.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.write_all(&request).and_then(|()| stream.read_exact(&mut head)).is_ok()
}

#[test]
fn records_go_in_and_come_out_over_every_version_of_tls() {
    let Some(setup) = setup(&["message.max.bytes=8000000"], &[]) else { return };
    let versions: [&'static rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
    for version in versions {
        let client = TlsClient::with_versions(&setup.authority, None, &[version]);
        let mut wire = client.connect(setup.broker.bootstrap());
        let topic = topics::topic(&mut wire, 1);
        // Below a record of TLS, about its size, and many of them; the last goes out of a file.
        let sizes = [1, 100, 16_383, 16_384, 16_385, 70_000, 1_000_000, 5_000_000];
        let values: Vec<String> = (b'a'..).zip(sizes).map(|(c, size)| char::from(c).to_string().repeat(size)).collect();
        for value in &values {
            topics::write(&mut wire, &topic, 0, &[value]);
        }
        assert!(topics::values(&mut wire, &topic, 0, 0) == values, "what was read is not what was written");
    }
}

#[test]
fn many_requests_wait_on_one_tls_connection() {
    let Some(setup) = setup(&[], &[]) else { return };
    let mut wire = TlsClient::new(&setup.authority, None).connect(setup.broker.bootstrap());
    let topic = topics::topic(&mut wire, 1);
    let request = topics::produce_request(&topic, 0, Batch::of(&["x".repeat(50_000).as_str()]).build());
    let sent: Vec<i32> = (0..200).map(|_| wire.send(9, &request)).collect();
    for correlation in sent {
        let response = wire.receive::<ProduceRequest>(9, correlation);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
}

#[test]
fn only_clients_with_a_certificate_get_in_where_it_is_required() {
    let authority = Authority::new("the issuer");
    let (good, expired, revoked) = (
        authority.issue("good", "tests", 2, Validity::Good),
        authority.issue("expired", "tests", 3, Validity::Expired),
        authority.issue("revoked", "tests", 4, Validity::Good),
    );
    let stranger = Authority::new("another issuer");
    let foreign = stranger.issue("good", "tests", 2, Validity::Good);
    let trusted = format!("{}{}", authority.pem(), authority.revoke(&[&revoked]));
    let clients = [
        ("none", TlsClient::new(&authority, None)),
        ("good", TlsClient::new(&authority, Some(&good))),
        ("foreign", TlsClient::new(&authority, Some(&foreign))),
        ("expired", TlsClient::new(&authority, Some(&expired))),
        ("revoked", TlsClient::new(&authority, Some(&revoked))),
    ];
    let expected: [(&str, &[&str]); 3] = [
        ("none", &["none", "good", "foreign", "expired", "revoked"]),
        ("requested", &["none", "good"]),
        ("required", &["good"]),
    ];
    let mut authority = Some(authority);
    for (mode, let_in) in expected {
        let client_auth = format!("ssl.client.auth={mode}");
        let settings = [client_auth.as_str(), "ssl.truststore.type=PEM", "ssl.truststore.location=DIR/trusted.pem"];
        let owner = authority.take().expect("an authority");
        let Some(setup) = setup_by(owner, &settings, &[("trusted.pem", &trusted)]) else { return };
        let served: Vec<&str> = clients
            .iter()
            .filter(|(_, client)| is_served(client, setup.broker.bootstrap()))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(served, let_in, "ssl.client.auth={mode}");
        authority = Some(setup.authority);
    }
}

#[test]
fn a_certificate_that_is_replaced_is_used_without_a_restart() {
    let Some(setup) = setup(&[], &[]) else { return };
    let before = TlsClient::new(&setup.authority, None);
    let mut open = before.connect(setup.broker.bootstrap());
    let topic = topics::topic(&mut open, 1);
    // Half a file: what was there before stays.
    let next = Authority::new("the next issuer");
    let renewed = issue(&next, "broker");
    std::fs::write(&setup.keystore, &renewed.certificate).expect("write");
    setup.broker.hang_up();
    eventually("the bad file is said", || setup.broker.log().contains("those before stay").then_some(()));
    assert!(is_served(&before, setup.broker.bootstrap()));
    // The whole of it, on SIGHUP.
    std::fs::write(&setup.keystore, renewed.pem()).expect("write");
    setup.broker.hang_up();
    let after = TlsClient::new(&next, None);
    eventually("the new certificate is shown", || is_served(&after, setup.broker.bootstrap()).then_some(()));
    assert!(!is_served(&before, setup.broker.bootstrap()));
    // Without it, after a while.
    std::fs::write(&setup.keystore, issue(&setup.authority, "broker").pem()).expect("write");
    eventually("the old certificate is shown again", || is_served(&before, setup.broker.bootstrap()).then_some(()));
    // A connection that was open before knows nothing of it.
    topics::write(&mut open, &topic, 0, &["still here"]);
    drop(setup.directory);
}

#[test]
fn who_speaks_something_else_is_told_apart_in_the_log() {
    let Some(setup) = setup(&[], &[]) else { return };
    let mut plain = Wire::connect(setup.broker.bootstrap());
    plain.send_raw(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    assert!(plain.is_closed());
    eventually("it is said", || setup.broker.log().contains("plaintext on a TLS port").then_some(()));
    let Some(broker) = Broker::own(&[]) else { return };
    assert!(!is_served(&TlsClient::new(&setup.authority, None), broker.bootstrap()));
    eventually("it is said", || broker.log().contains("TLS on a plaintext port").then_some(()));
}

/// Garbage in a handshake ends its connection, takes no memory, and holds up nobody.
#[test]
fn hostile_handshakes_end_and_nobody_else_notices() {
    let Some(setup) = setup(&[], &[]) else { return };
    let address = setup.broker.bootstrap();
    let client = TlsClient::new(&setup.authority, None);
    assert!(is_served(&client, address));
    let before = setup.broker.resident_bytes();
    let hello = [&[22_u8, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3][..], &[7; 16_000]].concat();
    let large = [&[22_u8, 3, 1, 0x40, 0][..], &[1, 0xff, 0xff, 0xff], &[0; 16_380]].concat();
    let records: [&[u8]; 6] = [
        &hello,
        &[22, 3, 1, 0xff, 0xff],
        &[22, 3, 1, 0, 0, 22, 3, 1, 0, 0],
        &[22, 3, 1, 0, 1, 0],
        &[22, 9, 9, 0, 5, 1, 1, 1, 1, 1],
        &large,
    ];
    let mut waiting = Vec::new();
    for round in 0..50 {
        for bytes in records {
            let mut stream = TcpStream::connect(address).expect("connect");
            // It may be closed while it is still being written to.
            let _cut: std::io::Result<()> = stream.write_all(bytes);
            if round < 10 {
                waiting.push(stream);
            }
        }
    }
    assert!(is_served(&client, address));
    let grown = setup.broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    // Whoever has not shaken hands in time is sent away.
    for mut stream in waiting {
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut rest = Vec::new();
        if let Err(e) = stream.read_to_end(&mut rest) {
            assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
}

#[test]
fn settings_that_cannot_be_used_end_the_start_and_say_why() {
    let directory = TempDir::new().expect("temporary directory");
    let dir = directory.path().to_str().expect("a path");
    let (authority, other) = (Authority::new("the issuer"), Authority::new("other"));
    let (own, foreign) = (issue(&authority, "broker"), issue(&other, "broker"));
    write(directory.path(), "good.pem", &own.pem());
    write(directory.path(), "no-key.pem", &own.certificate);
    write(directory.path(), "no-certificate.pem", &own.key);
    write(directory.path(), "other-key.pem", &format!("{}{}", own.certificate, foreign.key));
    write(directory.path(), "text.pem", "hello");
    let keystore = |name: &str| format!("ssl.keystore.location={dir}/{name}");
    let good = keystore("good.pem");
    for (settings, expected) in [
        (vec![], "ssl.keystore.location: needed"),
        (vec![keystore("missing.pem")], "ssl.keystore.location: cannot read"),
        (vec![keystore("text.pem")], "ssl.keystore.location: holds no certificate"),
        (vec![keystore("no-key.pem")], "ssl.keystore.location: holds no private key"),
        (vec![keystore("no-certificate.pem")], "ssl.keystore.location: holds no certificate"),
        (vec![keystore("other-key.pem")], "ssl.keystore.location: "),
        (vec![good.clone(), "ssl.keystore.type=JKS".to_owned()], "ssl.keystore.type: only PEM is read"),
        (vec![good.clone(), "ssl.client.auth=required".to_owned()], "ssl.truststore.location: needed"),
        (vec![good.clone(), "ssl.cipher.suites=TLS_NONE".to_owned()], "ssl.cipher.suites: none of these"),
        (vec![good.clone(), "ssl.enabled.protocols=SSLv3".to_owned()], "ssl.enabled.protocols: must be"),
        (
            vec![good.clone(), "ssl.principal.mapping.rules=RULE:a".to_owned()],
            "ssl.principal.mapping.rules: Invalid rule",
        ),
        (vec![good.clone(), "ssl.keystore.key=k".to_owned()], "ssl.keystore.location: either this"),
    ] {
        let data = format!("{dir}/data");
        let mut args = vec!["start", "--data", &data, "--listen", SSL, "--admin", "127.0.0.1:0"];
        for setting in &settings {
            args.extend(["--set", setting]);
        }
        let refusal = run_refused(&args);
        assert_eq!(refusal.code, Some(2), "{settings:?}: {}", refusal.stderr);
        assert!(refusal.stderr.contains(&format!("listener.name.ssl.{expected}")), "{settings:?}: {}", refusal.stderr);
        assert_eq!(refusal.stderr.lines().count(), 1, "{}", refusal.stderr);
    }
}

/// The listener's own settings hold over those of all listeners.
#[test]
fn each_listener_has_its_own_certificate() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let directory = TempDir::new().expect("temporary directory");
    write(directory.path(), "one.pem", &issue(&one, "broker").pem());
    let other_certificate = issue(&other, "broker");
    let dir = directory.path().to_str().expect("a path");
    let all = format!("ssl.keystore.location={dir}/one.pem");
    // As texts, in the place of the file.
    let key = format!("listener.name.outside.ssl.keystore.key={}", other_certificate.key);
    let chain = format!("listener.name.outside.ssl.keystore.certificate.chain={}", other_certificate.certificate);
    let none = "listener.name.outside.ssl.keystore.location=";
    let map = "listener.security.protocol.map=OUTSIDE:SSL,SSL:SSL";
    let Some(broker) = Broker::own_listening("OUTSIDE://127.0.0.1:0", &[map, &all, none, &key, &chain]) else { return };
    assert!(is_served(&TlsClient::new(&other, None), broker.bootstrap()));
    assert!(!is_served(&TlsClient::new(&one, None), broker.bootstrap()));
    let Some(broker) = Broker::own_listening(SSL, &[map, &all, none, &key, &chain]) else { return };
    assert!(is_served(&TlsClient::new(&one, None), broker.bootstrap()));
}

#[test]
fn a_private_key_may_be_encrypted() {
    let (authority, directory) = (Authority::new("the issuer"), TempDir::new().expect("temporary directory"));
    let keystore = write(directory.path(), "broker.pem", &issue(&authority, "broker").encrypted_pem("open sesame"));
    let keystore = format!("ssl.keystore.location={}", keystore.to_str().expect("a path"));
    let password = "ssl.key.password=open sesame";
    let Some(broker) = Broker::own_listening(SSL, &[&keystore, password]) else { return };
    assert!(is_served(&TlsClient::new(&authority, None), broker.bootstrap()));
    let data = directory.path().join("data");
    let data = data.to_str().expect("a path");
    for (password, expected) in [
        ("ssl.key.password=", "ssl.key.password is needed"),
        ("ssl.key.password=no", "ssl.key.password: does not open"),
    ] {
        let args = ["--data", data, "--listen", SSL, "--admin", "127.0.0.1:0", "--set", &keystore, "--set", password];
        let refusal = run_refused(&[&["start"][..], &args].concat());
        assert!(refusal.stderr.contains(expected), "{}", refusal.stderr);
    }
}

/// A connection that says nothing holds no place for long.
#[test]
fn a_client_that_never_shakes_hands_is_sent_away() {
    let Some(setup) = setup(&[], &[]) else { return };
    let mut silent = TcpStream::connect(setup.broker.bootstrap()).expect("connect");
    silent.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    assert_eq!(silent.read(&mut [0; 1]).expect("an end"), 0);
    eventually("it is said", || setup.broker.log().contains("not logged in in time").then_some(()));
}
