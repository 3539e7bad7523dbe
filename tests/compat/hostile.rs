//! Bytes that no client sends: each gets an answer or a closed connection, and the broker goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchResponse, MetadataRequest, MetadataResponse, ProduceResponse, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Request};

use crate::harness::broker::Broker;
use crate::harness::flex::Writer;
use crate::harness::text;
use crate::harness::topics::{self, name};
use crate::harness::wire::{API_VERSIONS, software};

/// The header of a request: key, version, correlation id 1, no client id.
fn header(key: i16, version: i16) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(key.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend([0, 0, 0, 1, 0xff, 0xff]);
    out
}

#[track_caller]
fn assert_closed(broker: &Broker, what: &str, frame: &[u8]) {
    let mut wire = broker.wire();
    wire.send_frame(frame);
    assert!(wire.is_closed(), "{what}: not closed");
    assert_eq!(broker.wire().call(API_VERSIONS, &software()).error_code, 0, "{what}: the broker goes on");
}

#[track_caller]
fn assert_raw_closed(broker: &Broker, what: &str, bytes: &[u8]) {
    let mut wire = broker.wire();
    wire.send_raw(bytes);
    assert!(wire.is_closed(), "{what}: not closed");
    assert_eq!(broker.wire().call(API_VERSIONS, &software()).error_code, 0, "{what}: the broker goes on");
}

#[test]
fn absurd_lengths_close_the_connection() {
    let broker = Broker::start();
    for length in [-1, i32::MIN, i32::MAX, 104_857_601] {
        assert_raw_closed(&broker, &format!("length {length}"), &i32::to_be_bytes(length));
    }
    assert_raw_closed(&broker, "HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_raw_closed(&broker, "a TLS hello", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0x55, 0x55]);
    assert_raw_closed(&broker, "SSH", b"SSH-2.0-OpenSSH_9.2\r\n");
}

#[test]
fn frames_too_short_for_a_header_close_the_connection() {
    let broker = Broker::start();
    for length in 0..8 {
        assert_closed(&broker, &format!("{length} bytes"), &header(18, 0)[..length]);
    }
    assert_closed(&broker, "a client id longer than the frame", &[0, 3, 0, 0, 0, 0, 0, 1, 0x7f, 0xff]);
}

#[test]
fn unknown_apis_and_versions_close_the_connection() {
    let broker = Broker::start();
    // 4-7 were removed with ZooKeeper; 93 is yet to come.
    for key in [-1, 4, 5, 6, 7, 93, 1_000, i16::MAX, i16::MIN] {
        assert_closed(&broker, &format!("API {key}"), &[&header(key, 0)[..], &[0; 16]].concat());
    }
    for (key, version) in [(0, 2), (0, 14), (0, -1), (1, 3), (1, 19), (3, 14), (3, i16::MAX), (3, i16::MIN), (19, 1)] {
        assert_closed(
            &broker,
            &format!("API {key} version {version}"),
            &[&header(key, version)[..], &[0; 64]].concat(),
        );
    }
}

/// Counts that would reserve gigabytes if they were believed.
#[test]
fn counts_beyond_the_frame_close_the_connection() {
    let broker = Broker::start();
    let huge = [0x7f, 0xff, 0xff, 0xff];
    assert_closed(&broker, "Metadata v1, 2^31 topics", &[&header(3, 1)[..], &huge].concat());
    assert_closed(&broker, "Metadata v1, a few too many", &[&header(3, 1)[..], &[0, 0, 0, 9, 0, 1, b'a']].concat());
    let flexible = |version, body: Writer| [&header(3, version)[..], &[0], &body.bytes()].concat();
    assert_closed(&broker, "Metadata v9, 2^31 topics", &flexible(9, Writer::default().varint(u32::MAX)));
    assert_closed(
        &broker,
        "Metadata v9, a name beyond the frame",
        &flexible(9, Writer::default().array(1).varint(1_000)),
    );
    assert_closed(
        &broker,
        "a varint without an end",
        &[&header(3, 9)[..], &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat(),
    );
    assert_closed(&broker, "tags beyond the frame", &[&header(3, 9)[..], &[0x85, 0x80, 0x80, 0x80, 0x08, 1]].concat());
    let tag = Writer::default().null().i8(0).i8(0).i8(0).varint(1).varint(0).varint(u32::MAX >> 1);
    assert_closed(&broker, "a tagged field beyond the frame", &flexible(9, tag));
    assert_closed(&broker, "a body cut short", &flexible(9, Writer::default().array(2).string("a").tags()));
    let produce = [&header(0, 3)[..], &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1], &huge].concat();
    assert_closed(&broker, "Produce v3, 2^31 topics", &produce);
    let fetch = [&header(1, 4)[..], &[0xff; 4], &[0; 13], &huge].concat();
    assert_closed(&broker, "Fetch v4, 2^31 topics", &fetch);
    let join = [&header(11, 0)[..], &[0, 1, b'g', 0, 0, 0x27, 0x10, 0, 0, 0, 0], &huge].concat();
    assert_closed(&broker, "JoinGroup v0, 2^31 protocols", &join);
}

#[test]
fn a_null_where_none_may_be_closes_the_connection() {
    let broker = Broker::start();
    // CreateTopics v2, one topic with a null name.
    assert_closed(&broker, "a null name", &[&header(19, 2)[..], &[0, 0, 0, 1, 0xff, 0xff], &[0; 24]].concat());
    // FindCoordinator v0 with a null key.
    assert_closed(&broker, "a null key", &[&header(10, 0)[..], &[0xff, 0xff]].concat());
}

/// It is read as other characters, which no topic has in its name.
#[test]
fn text_that_is_not_utf_8_is_a_name_like_any_other() {
    const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    const INVALID_TOPIC: i16 = 17;
    let broker = Broker::start();
    let mut wire = broker.wire();
    let bad = [0, 2, 0xc3, 0x28];
    let correlation = wire.send_body(3, 1, 1, &[&[0, 0, 0, 1][..], &bad].concat());
    let metadata = MetadataResponse::decode(&mut wire.receive_body(0, correlation), 1).expect("a response");
    assert_eq!(metadata.topics[0].error_code, INVALID_TOPIC);
    // One partition, of which nothing is known.
    let produce = [&[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1][..], &bad, &[0, 0, 0, 1], &[0; 4], &[0; 4]].concat();
    let correlation = wire.send_body(0, 3, 1, &produce);
    let produced = ProduceResponse::decode(&mut wire.receive_body(0, correlation), 3).expect("a response");
    assert_eq!(produced.responses[0].partition_responses[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let head = [&[0xff; 4][..], &[0; 8], &[0, 0, 1, 0], &[0], &[0, 0, 0, 1]].concat();
    let fetch = [&head[..], &bad, &[0, 0, 0, 1], &[0; 4], &[0; 8], &[0, 0, 1, 0]].concat();
    let correlation = wire.send_body(1, 4, 1, &fetch);
    let fetched = FetchResponse::decode(&mut wire.receive_body(0, correlation), 4).expect("a response");
    assert_eq!(fetched.responses[0].partitions[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

/// Announced bytes cost nothing: memory grows with what arrives. (Kafka is served nobody any more after this.)
#[test]
fn announced_frames_that_never_come_take_no_memory() {
    let Some(broker) = Broker::own(&[]) else { return };
    let before = broker.resident_bytes();
    let lazy: Vec<_> = (0..40)
        .map(|_| {
            let mut wire = broker.wire();
            wire.send_raw(&104_857_600i32.to_be_bytes());
            wire.send_raw(&[0, 3, 0, 1]);
            wire
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(broker.wire().call(API_VERSIONS, &software()).error_code, 0);
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for {} announcements", lazy.len());
}

/// A frame that comes byte by byte is a frame like any other.
#[test]
fn a_slow_sender_is_served() {
    let broker = Broker::start();
    let frame = [&header(18, 0)[..]].concat();
    let mut stream = TcpStream::connect(broker.bootstrap()).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
    for byte in (frame.len() as u32).to_be_bytes().into_iter().chain(frame) {
        stream.write_all(&[byte]).expect("write");
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
}

/// A client that never reads its answers is stopped by its own window, not by the broker's memory.
#[test]
fn a_client_that_never_reads_takes_no_memory() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &[&"x".repeat(500_000)]);
    let before = broker.resident_bytes();
    let deaf = TcpStream::connect(broker.bootstrap()).expect("connect");
    deaf.set_nonblocking(true).expect("non-blocking");
    let mut body = bytes::BytesMut::new();
    kafka_protocol::protocol::Encodable::encode(&topics::fetch_request(&topic, 0, 0), &mut body, 12).expect("fetch");
    let frame = [&header(1, 12)[..], &[0], &body].concat();
    let message = [&(frame.len() as u32).to_be_bytes()[..], &frame].concat();
    // 2,000 answers of 500 kB: until the kernel takes no more.
    for _ in 0..2_000 {
        if (&deaf).write(&message).map_or(true, |n| n < message.len()) {
            break;
        }
    }
    for _ in 0..20 {
        assert_eq!(broker.wire().call(API_VERSIONS, &software()).error_code, 0);
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes for answers that nobody reads");
}

/// A request of many names is answered within reason. (Kafka does not, within a minute.)
#[test]
fn a_million_topic_names_are_answered() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = |i: u32| MetadataRequestTopic::default().with_name(Some(name(&format!("t{i}"))));
    let request = MetadataRequest::default()
        .with_topics(Some((0..1_000_000).map(topic).collect()))
        .with_allow_auto_topic_creation(false);
    let sent = wire.send(9, &request);
    assert_eq!(broker.wire().call(API_VERSIONS, &software()).error_code, 0, "others are served meanwhile");
    assert_eq!(wire.receive::<MetadataRequest>(9, sent).topics.len(), 1_000_000);
}

/// Every API with random bytes as its body: an answer or a closed connection, and the broker goes on.
#[test]
fn noise_in_every_api_does_no_harm() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let advertised = broker.wire().advertised();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (key, range) in advertised {
        for version in range.min..=range.max {
            for length in [0, 1, 5, 40, 200] {
                let noise: Vec<u8> = (0..length).map(|_| (random() & random()) as u8).collect();
                let mut wire = broker.wire();
                wire.set_patience(Duration::from_millis(40));
                wire.send_frame(&[&header(key, version)[..], &noise].concat());
                drop(wire.read_frame());
            }
        }
        assert!(broker.is_alive(), "API {key}: {}", broker.log());
    }
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    assert_eq!(topics::write(&mut wire, &topic, 0, &["still there"]), 0);
}

/// More connections than an address may have: the one too many is closed, the others go on.
#[test]
fn connections_of_an_address_are_limited() {
    let Some(broker) = Broker::own(&["max.connections.per.ip=10"]) else { return };
    let mut within: Vec<_> = (0..10).map(|_| broker.wire()).collect();
    for wire in &mut within {
        assert_eq!(wire.call(API_VERSIONS, &software()).error_code, 0);
    }
    assert!(broker.wire().is_closed());
    drop(within.pop());
    crate::harness::eventually("a place is free again", || {
        let mut wire = broker.wire();
        wire.send(API_VERSIONS, &software());
        wire.read_frame().is_ok().then_some(())
    });
}

#[test]
fn idle_connections_are_closed() {
    let Some(broker) = Broker::own(&["connections.max.idle.ms=500"]) else { return };
    let mut wire = broker.wire();
    assert_eq!(wire.call(API_VERSIONS, &software()).error_code, 0);
    assert!(wire.is_closed());
    let mut silent = broker.wire();
    assert!(silent.is_closed(), "one that never said anything too");
}

/// SASL on a listener without it: an answer, and the connection goes on.
#[test]
fn sasl_is_refused_where_there_is_none() {
    const ILLEGAL_SASL_STATE: i16 = 34;
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<SaslHandshakeRequest>() {
        let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        assert_eq!(wire.call(version, &request).error_code, ILLEGAL_SASL_STATE, "handshake {version}");
    }
    for version in wire.versions::<SaslAuthenticateRequest>() {
        let request = SaslAuthenticateRequest::default().with_auth_bytes((&b"\0admin\0secret"[..]).into());
        assert_eq!(wire.call(version, &request).error_code, ILLEGAL_SASL_STATE, "authenticate {version}");
    }
    assert_eq!(wire.call(API_VERSIONS, &software()).error_code, 0);
}

/// The request after a bad one on the same connection is never read.
#[test]
fn nothing_is_served_after_a_bad_frame() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let bad = [&header(3, 1)[..], &[0x7f, 0xff, 0xff, 0xff]].concat();
    wire.send_frame(&bad);
    wire.send(API_VERSIONS, &software());
    assert!(wire.is_closed(), "API {}", ApiVersionsRequest::KEY);
}
