//! ApiVersions: what the broker says it can do, and that `docs/PROTOCOL.md` says the same.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Decodable, Request, VersionRange};

use crate::harness::broker::Broker;
use crate::harness::text;
use crate::harness::wire::{API_VERSIONS, Wire, software};

const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;

#[test]
fn api_versions() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<ApiVersionsRequest>() {
        let response = wire.call(version, &software());
        assert_eq!(response.error_code, 0, "version {version}");
        let own = response.api_keys.iter().find(|k| k.api_key == ApiVersionsRequest::KEY).expect("its own row");
        assert_eq!((own.min_version, own.max_version), (0, 4), "version {version}");
        let mut keys: Vec<_> = response.api_keys.iter().map(|k| k.api_key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), response.api_keys.len(), "a key is listed once");
    }
}

/// The raw ranges that clients choose features by.
#[test]
fn ranges_are_those_which_clients_need() {
    let broker = Broker::start();
    let advertised = broker.wire().advertised();
    for (key, min, max) in [
        // Produce from 0 although only 3 and later are served: else librdkafka stops compressing.
        (0, 0, 13),
        (1, 4, 18),
        (2, 1, 11),
        (3, 0, 13),
        (8, 2, 10),
        (9, 1, 10),
        (10, 0, 6),
        (11, 0, 9),
        (12, 0, 4),
        (13, 0, 5),
        (14, 0, 5),
        (15, 0, 6),
        (16, 0, 5),
        (17, 0, 1),
        (18, 0, 4),
        (19, 2, 7),
        (20, 1, 6),
        (21, 0, 2),
        (22, 0, 5),
        (23, 2, 4),
        (32, 1, 4),
        (33, 0, 2),
        (34, 1, 2),
        (35, 1, 5),
        (36, 0, 2),
        (37, 0, 3),
        (42, 0, 2),
        (44, 0, 1),
        (47, 0, 0),
        (55, 0, 2),
        (57, 0, 2),
        (60, 0, 2),
        (61, 0, 0),
        (74, 0, 1),
        (75, 0, 0),
    ] {
        assert_eq!(advertised.get(&key), Some(&VersionRange { min, max }), "API {key}");
    }
}

#[test]
fn an_unknown_api_versions_version_is_answered_in_version_0() {
    let broker = Broker::start();
    for version in [5, 99, i16::MAX, -1] {
        let mut wire = broker.wire();
        let correlation = wire.send_body(ApiVersionsRequest::KEY, version, 2, &[2, b'x', 2, b'1', 0]);
        let mut body = wire.receive_body(0, correlation);
        let response = ApiVersionsResponse::decode(&mut body, 0).expect("a body of version 0");
        assert_eq!(body.remaining(), 0);
        assert_eq!(response.error_code, UNSUPPORTED_VERSION);
        let own = response.api_keys.iter().find(|k| k.api_key == ApiVersionsRequest::KEY).expect("its own row");
        assert_eq!((own.min_version, own.max_version), (0, 4));
        // The connection goes on.
        assert_eq!(wire.call(API_VERSIONS, &software()).error_code, 0);
    }
}

#[test]
fn a_software_name_that_is_no_name_is_refused() {
    let broker = Broker::start();
    for (name, expected) in
        [("ok-1.0", 0), ("", INVALID_REQUEST), ("-x", INVALID_REQUEST), ("a b", INVALID_REQUEST), ("a\nb", 42)]
    {
        let request =
            ApiVersionsRequest::default().with_client_software_name(text(name)).with_client_software_version(text("1"));
        assert_eq!(broker.wire().call(API_VERSIONS, &request).error_code, expected, "name {name:?}");
    }
}

/// The header of an ApiVersions answer has no tagged fields in any version, and the body stands right behind it.
#[test]
fn the_answers_header_is_version_0_and_a_client_id_may_be_missing() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for client in [&[0xff, 0xff][..], &[0, 0]] {
        let frame = [&[0, 18, 0, 3, 0, 0, 0, 7][..], client, &[0, 2, b'x', 2, b'1', 0]].concat();
        wire.send_frame(&frame);
        let mut answer = Bytes::from(wire.read_frame().expect("an answer"));
        assert_eq!(answer.get_i32(), 7);
        assert_eq!(ApiVersionsResponse::decode(&mut answer, 3).expect("a body").error_code, 0);
        assert_eq!(answer.remaining(), 0);
    }
}

/// `docs/PROTOCOL.md` names every API with its versions and the test that shows it; it is compared with what the broker
/// says, and with the tests that there are.
#[test]
fn the_document_names_what_is_served() {
    let Some(broker) = Broker::own(&[]) else { return };
    let documented = documented();
    let served: BTreeMap<i16, (i16, i16)> =
        broker.wire().advertised().into_iter().map(|(key, range)| (key, (range.min, range.max))).collect();
    let ranges: BTreeMap<i16, (i16, i16)> = documented.iter().map(|row| (row.key, row.versions)).collect();
    assert_eq!(ranges, served, "docs/PROTOCOL.md and ApiVersions");
    for row in &documented {
        let (module, test) = row.test.split_once("::").expect("module::test");
        let path = format!("tests/compat/{module}.rs");
        let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(source.contains(&format!("fn {test}()")), "API {} names {}, which is not there", row.key, row.test);
    }
}

/// Each test that a document names in `module::test` is there.
#[test]
fn the_documents_name_tests_that_exist() {
    for document in ["docs/ARCHITECTURE.md", "docs/PROTOCOL.md"] {
        let text = std::fs::read_to_string(document).expect("the document");
        for name in text.split('`').skip(1).step_by(2) {
            let Some((module, test)) = name.split_once("::") else { continue };
            // Other modules are those of the crates.
            let Ok(source) = std::fs::read_to_string(format!("tests/compat/{module}.rs")) else { continue };
            assert!(source.contains(&format!("fn {test}()")), "{document} names {name}, which is not there");
        }
    }
}

struct Row {
    key: i16,
    versions: (i16, i16),
    test: String,
}

/// The rows `| key | name | min-max | `module::test` | ... |`.
fn documented() -> Vec<Row> {
    let document = std::fs::read_to_string("docs/PROTOCOL.md").expect("docs/PROTOCOL.md");
    let rows = document.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let key = cells.get(1)?.parse().ok()?;
        let (min, max) = cells.get(3)?.split_once('-').unwrap_or((cells[3], cells[3]));
        let versions = (min.parse().expect("min"), max.parse().expect("max"));
        Some(Row { key, versions, test: cells.get(4)?.trim_matches('`').to_owned() })
    });
    rows.collect()
}

/// Answers come in the order of the requests, however many are on the way.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    let sent: Vec<_> = (0..200).map(|i| wire.send(i % 5, &software())).collect();
    for (i, correlation) in sent.into_iter().enumerate() {
        let version = i16::try_from(i % 5).expect("small");
        assert_eq!(wire.receive::<ApiVersionsRequest>(version, correlation).error_code, 0);
    }
}
