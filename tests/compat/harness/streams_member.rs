//! What a member of a streams group says (KIP-1071), and requests that the crate does not know.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::Decodable;
use millstream::protocol::streams_group::{KeyValue, StreamsGroupHeartbeatRequest, Subtopology, TopicInfo, Topology};
use millstream::protocol::{Decode, Encode, RequestBody};

use super::text;
use super::wire::Wire;

/// The version of the header of both requests, and of that of their answers.
const HEADERS: (i16, i16) = (2, 1);

fn encoded<R: Encode>(request: &R) -> BytesMut {
    let mut body = BytesMut::new();
    request.encode_body(0, &mut body).expect("the request can be encoded");
    body
}

/// Sends a request that the crate does not know, and waits for its answer.
#[track_caller]
pub fn call<R: RequestBody + Encode>(wire: &mut Wire, request: &R) -> R::Response
where
    R::Response: Decode,
{
    let correlation = wire.send_body(R::KEY, 0, HEADERS.0, &encoded(request));
    let answer = wire.receive_body(HEADERS.1, correlation);
    <R::Response as Decode>::decode_body(0, answer).expect("the answer can be decoded")
}

/// As `call`; None when the connection ends first or nothing comes in `patience`.
pub fn try_call<R: RequestBody + Encode>(wire: &mut Wire, request: &R, patience: Duration) -> Option<R::Response>
where
    R::Response: Decode,
{
    wire.set_patience(patience);
    wire.send_body(R::KEY, 0, HEADERS.0, &encoded(request));
    let mut answer = Bytes::from(wire.read_frame().ok()?);
    ResponseHeader::decode(&mut answer, HEADERS.1).expect("header");
    Some(<R::Response as Decode>::decode_body(0, answer).expect("the answer can be decoded"))
}

/// One part reads the topic and writes a repartition topic of three partitions; the other reads that, and keeps state.
pub fn topology(of: &str, topic: &str) -> Topology {
    let own = |name: &str, partitions| TopicInfo {
        name: text(&format!("{of}-{name}")),
        partitions,
        replication_factor: -1,
        topic_configs: vec![KeyValue { key: text("cleanup.policy"), value: text("compact") }],
    };
    let reads = Subtopology {
        subtopology_id: text("0"),
        source_topics: vec![text(topic)],
        repartition_sink_topics: vec![text(&format!("{of}-again"))],
        ..Subtopology::default()
    };
    let counts = Subtopology {
        subtopology_id: text("1"),
        repartition_source_topics: vec![own("again", 3)],
        state_changelog_topics: vec![own("changelog", 0)],
        ..Subtopology::default()
    };
    Topology { epoch: 0, subtopologies: vec![reads, counts] }
}

pub fn join(of: &str, member: &str, topology: Topology) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        rebalance_timeout_ms: 30_000,
        topology: Some(topology),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some(text(&format!("process-of-{member}"))),
        ..beat(of, member, 0)
    }
}

pub fn beat(of: &str, member: &str, epoch: i32) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        group_id: text(of),
        member_id: text(member),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        ..StreamsGroupHeartbeatRequest::default()
    }
}
