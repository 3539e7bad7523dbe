//! GetTelemetrySubscriptions, PushTelemetry: what clients tell of themselves, and what `/metrics` shows of it (KIP-714).

use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, IncrementalAlterConfigsRequest,
    ListConfigResourcesRequest, PushTelemetryRequest,
};
use millstream_core::record::{Compression, compress};
use uuid::Uuid;

use crate::harness::broker::Broker;
use crate::harness::client::Producer;
use crate::harness::nodes::Nodes;
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};

const INVALID_REQUEST: i16 = 42;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;
const THROTTLING_QUOTA_EXCEEDED: i16 = 89;
const UNKNOWN_SUBSCRIPTION_ID: i16 = 117;
const TELEMETRY_TOO_LARGE: i16 = 118;

fn get(wire: &mut Wire, id: Uuid) -> GetTelemetrySubscriptionsResponse {
    wire.call(0, &GetTelemetrySubscriptionsRequest::default().with_client_instance_id(id))
}

/// What a client is asked that nobody knows yet.
fn get_anew(wire: &mut Wire) -> GetTelemetrySubscriptionsResponse {
    let told = get(wire, Uuid::nil());
    assert_eq!(told.error_code, 0);
    told
}

fn push(wire: &mut Wire, told: &GetTelemetrySubscriptionsResponse, codec: Compression, body: &[u8]) -> i16 {
    wire.call(0, &of(told, codec, body)).error_code
}

fn of(told: &GetTelemetrySubscriptionsResponse, codec: Compression, body: &[u8]) -> PushTelemetryRequest {
    let mut metrics = Vec::new();
    match codec {
        Compression::None => metrics.extend_from_slice(body),
        codec => compress(codec, None, body, &mut metrics),
    }
    PushTelemetryRequest::default()
        .with_client_instance_id(told.client_instance_id)
        .with_subscription_id(told.subscription_id)
        .with_compression_type(codec.id().cast_signed())
        .with_metrics(metrics.into())
}

fn subscribe(wire: &mut Wire, name: &str, settings: &[(&str, &str)]) -> i16 {
    const CLIENT_METRICS: i8 = 16;
    let config = |(name, value): &(&str, &str)| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(0).with_value(Some(text(value)))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(text(name))
        .with_configs(settings.iter().map(config).collect());
    wire.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource])).responses[0].error_code
}

/// Waits until new clients are asked for these metrics.
fn await_asked(wire: &mut Wire, metrics: &[&str]) -> GetTelemetrySubscriptionsResponse {
    eventually("the subscription is known", || {
        let told = get_anew(wire);
        (told.requested_metrics.iter().map(|name| &**name).collect::<Vec<_>>() == metrics).then_some(told)
    })
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let (mut bytes, mut len) = (vec![number << 3 | 2], content.len());
    while len >= 0x80 {
        bytes.push(u8::try_from(len & 0x7f).expect("seven bits") | 0x80);
        len >>= 7;
    }
    bytes.push(u8::try_from(len).expect("seven bits"));
    [bytes, content.to_vec()].concat()
}

/// OpenTelemetry's gauge with one attribute.
fn gauge(name: &str, label: &str, value: f64) -> Vec<u8> {
    let pair = [field(1, b"topic"), field(2, &field(1, label.as_bytes()))].concat();
    let point = [field(7, &pair), vec![4 << 3 | 1], value.to_le_bytes().to_vec()].concat();
    field(2, &[field(1, name.as_bytes()), field(5, &field(1, &point))].concat())
}

fn body(metrics: &[Vec<u8>]) -> Vec<u8> {
    field(1, &field(2, &metrics.concat()))
}

#[test]
fn get_telemetry_subscriptions() {
    let Some(broker) = Broker::own(&["telemetry.max.bytes=4711"]) else { return };
    let mut wire = broker.wire();
    let told = get_anew(&mut wire);
    assert_eq!((told.push_interval_ms, told.telemetry_max_bytes, told.delta_temporality), (300_000, 4_711, true));
    assert_eq!((told.accepted_compression_types, told.requested_metrics.len()), (vec![4, 3, 1, 2], 0));
    assert!(!told.client_instance_id.is_nil());
    let again = get(&mut wire, told.client_instance_id);
    assert_eq!((again.error_code, again.client_instance_id), (THROTTLING_QUOTA_EXCEEDED, Uuid::nil()));

    for (settings, expected) in [
        (&[("interval.ms", "99")][..], INVALID_REQUEST),
        (&[("no.such", "1")], INVALID_REQUEST),
        (&[("match", "client_id=(")], 40),
        (&[("metrics", "b,a"), ("interval.ms", "2000"), ("match", "client_id=com.*,client_source_address=127.*")], 0),
    ] {
        assert_eq!(subscribe(&mut wire, "mine", settings), expected, "{settings:?}");
    }
    assert_eq!(subscribe(&mut wire, "theirs", &[("metrics", "c"), ("match", "client_id=other")]), 0);
    let new = await_asked(&mut wire, &["a", "b"]);
    assert_eq!(new.push_interval_ms, 2_000);
    let known = get(&mut wire, told.client_instance_id);
    assert_eq!((known.error_code, known.client_instance_id), (0, told.client_instance_id), "subscriptions are new");
    assert_ne!(known.subscription_id, told.subscription_id);
    let listed = wire.call(0, &ListConfigResourcesRequest::default());
    let names: Vec<_> = listed.config_resources.iter().map(|resource| resource.resource_name.to_string()).collect();
    assert_eq!((listed.error_code, names), (0, vec!["mine".to_owned(), "theirs".to_owned()]));
}

#[test]
fn push_telemetry() {
    let Some(broker) = Broker::own(&["telemetry.max.bytes=5000"]) else { return };
    let mut wire = broker.wire();
    assert_eq!(subscribe(&mut wire, "all", &[("metrics", "org.apache.kafka."), ("interval.ms", "3600000")]), 0);
    let told = await_asked(&mut wire, &["org.apache.kafka."]);
    let good = body(&[gauge("org.apache.kafka.x.avg", "a\"b", 2.5), gauge("unasked", "a", 1.0)]);
    assert_eq!(push(&mut wire, &told, Compression::None, &good), 0, "the first push comes when it likes");
    assert_eq!(push(&mut wire, &told, Compression::None, &good), THROTTLING_QUOTA_EXCEEDED);
    let last = of(&told, Compression::None, &good).with_terminating(true);
    assert_eq!(wire.call(0, &last).error_code, 0, "the last push, too");
    assert_eq!(wire.call(0, &last).error_code, INVALID_REQUEST, "there is none after the last");
    let (_, shown) = broker.get("/metrics");
    let id = shown.lines().find_map(|line| line.strip_prefix("millstream_client_x_avg{client_instance_id=\""));
    let rest = id.expect("shown").split_once('"').expect("an id").1;
    assert_eq!(rest, ",client_id=\"compat\",topic=\"a\\\"b\"} 2.5");
    assert!(shown.contains("# TYPE millstream_client_x_avg gauge\n"), "{shown}");
    assert!(!shown.contains("unasked{") && shown.contains("points_dropped_total{reason=\"unasked\"} 2\n"), "{shown}");

    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let told = get_anew(&mut wire);
        assert_eq!(push(&mut wire, &told, codec, &good), 0, "{codec:?}");
    }
    let large = vec![0; 5_001];
    type Change = fn(PushTelemetryRequest) -> PushTelemetryRequest;
    let cases: [(&str, i16, &[u8], Change); 8] = [
        ("nobody", INVALID_REQUEST, &good, |push| push.with_client_instance_id(Uuid::nil())),
        ("a reserved id", INVALID_REQUEST, &good, |push| push.with_client_instance_id(Uuid::from_u128(1))),
        ("another subscription", UNKNOWN_SUBSCRIPTION_ID, &good, |push| {
            let other = push.subscription_id ^ 1;
            push.with_subscription_id(other)
        }),
        ("no codec", UNSUPPORTED_COMPRESSION_TYPE, &good, |push| push.with_compression_type(5)),
        ("no codec either", UNSUPPORTED_COMPRESSION_TYPE, &good, |push| push.with_compression_type(-1)),
        ("too large", TELEMETRY_TOO_LARGE, &large, |push| push),
        ("no metrics", INVALID_RECORD, b"\x0a\x7f", |push| push),
        ("not compressed", INVALID_RECORD, &good, |push| push.with_compression_type(4)),
    ];
    for (what, expected, body, change) in cases {
        let told = get_anew(&mut wire);
        assert_eq!(wire.call(0, &change(of(&told, Compression::None, body))).error_code, expected, "{what}");
        let again = get(&mut wire, told.client_instance_id).error_code;
        let mends = [UNKNOWN_SUBSCRIPTION_ID, UNSUPPORTED_COMPRESSION_TYPE].contains(&expected);
        assert_eq!(again, if mends { 0 } else { THROTTLING_QUOTA_EXCEEDED }, "{what}: asked again");
    }
    let told = get_anew(&mut wire);
    assert_eq!(push(&mut wire, &told, Compression::None, b""), 0, "nothing is something");
    assert!(broker.metric("millstream_telemetry_instances") >= 10.0);
}

/// Bombs, thousands of series and names that are none: bounded, and the page can still be read.
#[test]
fn a_hostile_push_hurts_nobody() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    assert_eq!(subscribe(&mut wire, "all", &[("metrics", "*"), ("interval.ms", "100")]), 0);
    await_asked(&mut wire, &["*"]);
    let before = broker.resident_bytes();
    let zeros = vec![0; 200 << 20];
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let told = get_anew(&mut wire);
        let bomb = of(&told, codec, &zeros);
        assert!(bomb.metrics.len() < 1 << 20);
        assert_eq!(wire.call(0, &bomb).error_code, INVALID_RECORD, "{codec:?}");
    }
    drop(zeros);
    // A megabyte of empty messages.
    let told = get_anew(&mut wire);
    assert_eq!(push(&mut wire, &told, Compression::Zstd, &[0x0a, 0].repeat(500_000)), 0);
    for client in 0..30 {
        let told = get_anew(&mut wire);
        let name =
            |n: usize| if n.is_multiple_of(2) { format!("{client} \n# TYPE x\"{{{n}}} 1") } else { "same".into() };
        let metrics: Vec<_> = (0..1_500).map(|n| gauge(&name(n), &format!("{n}\n\"}} 1\n{n}"), f64::NAN)).collect();
        assert_eq!(push(&mut wire, &told, Compression::Zstd, &body(&metrics)), 0);
    }
    let (status, shown) = broker.get("/metrics");
    assert_eq!(status, 200);
    assert_eq!(broker.metric("millstream_telemetry_series"), 20_000.0);
    for line in shown.lines().filter(|line| !line.starts_with("# ")) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok() && (series.ends_with('}') || !series.contains('{')), "{line}");
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 150 << 20, "grown by {grown} bytes");
}

/// A client of users tells of itself by default, and its numbers are on the page.
#[test]
fn a_real_client_is_shown() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let settings = [("metrics", "org.apache.kafka.producer."), ("interval.ms", "200"), ("match", "client_id=mine-.*")];
    assert_eq!(subscribe(&mut wire, "producers", &settings), 0);
    eventually("the subscription is known", || {
        let asked = wire.call(0, &ListConfigResourcesRequest::default());
        (asked.config_resources.len() == 1).then_some(())
    });
    let topic = unique("told");
    let producer = Producer::new(broker.bootstrap(), &[("client.id", "mine-1"), ("enable.metrics.push", "true")]);
    producer.send(0, &topic, None, None, b"value");
    assert!(producer.flush().iter().all(|delivery| delivery.result.is_ok()));
    let lines = eventually("the client is shown", || {
        let (_, shown) = broker.get("/metrics");
        let of_client: Vec<_> =
            shown.lines().filter(|line| line.contains("client_id=\"mine-1\"")).map(str::to_owned).collect();
        of_client
            .iter()
            .any(|line| line.starts_with("millstream_client_producer_connection_creation_total{"))
            .then_some(of_client)
    });
    let info = lines.iter().find(|line| line.starts_with("millstream_client_info{")).expect("who it is");
    assert!(info.contains("client_software_name=\"librdkafka\"") && info.contains("127.0.0.1"), "{info}");
}

/// Subscriptions are metadata: each node asks the same, by the same id.
#[test]
fn three_nodes_ask_alike() {
    let Some(nodes) = Nodes::started(3, &[]) else { return };
    let settings = [("metrics", "b.,a."), ("interval.ms", "1000"), ("match", "client_id=compat")];
    // Any node takes it: it is carried to where the metadata is led.
    assert_eq!(subscribe(&mut nodes.wire(2), "s", &settings), 0);
    let id = Uuid::from_u128(0x4711);
    let mut ids = Vec::new();
    for node in 1..=3 {
        let mut wire = nodes.wire(node);
        await_asked(&mut wire, &["a.", "b."]);
        let told = get(&mut wire, id);
        assert_eq!((told.error_code, told.push_interval_ms), (0, 1_000));
        ids.push(told.subscription_id);
        // What one node told holds on the others.
        let told = told.with_client_instance_id(id).with_subscription_id(ids[0]);
        assert_eq!(push(&mut wire, &told, Compression::Zstd, &body(&[gauge("a.b", "t", 1.0)])), 0, "node {node}");
        let (_, shown) = nodes.get(node, "/metrics");
        assert!(shown.contains("millstream_client_a_b{"), "node {node}: {shown}");
    }
    assert_eq!(ids, vec![ids[0]; 3]);
}
