use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::config::ConfigMap;
use crate::types::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const ID: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
const CLIENT: Client<'static> = Client {
    connection: 1,
    instance_id: "EjRWeJq83vAP7cuph2VDIQ",
    id: Some("billing-7"),
    software_name: "librdkafka",
    software_version: "2.12.1",
    address: "10.0.0.7",
    port: "4711",
};

fn subscription(settings: &[(&str, &str)]) -> Subscription {
    let settings: ConfigMap = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Subscription::of(&settings).expect("settings of a subscription")
}

fn wanted(metrics: &[&str], interval_ms: i32) -> Wanted {
    Wanted { metrics: metrics.iter().map(|name| (*name).to_owned()).collect(), interval_ms }
}

fn with(subscriptions: &[&[(&str, &str)]]) -> Instances {
    let mut instances = Instances::default();
    instances.set_subscriptions(subscriptions.iter().map(|settings| subscription(settings)).collect());
    instances
}

fn push(instances: &Instances, wanted: &Wanted) -> Push {
    assert!(instances.has(ID));
    Push { subscription_id: wanted.id(ID), terminating: false, is_codec_known: true, len: 10 }
}

fn after(ms: i64) -> Timestamp {
    NOW.plus_ms(ms)
}

#[test]
fn who_is_not_meant_is_asked_for_nothing() {
    let mut instances = with(&[&[("metrics", "a."), ("match", "client_id=other.*")]]);
    let told = instances.get(NOW, ID, &CLIENT).expect("told");
    assert_eq!(*told, wanted(&[], 300_000));
}

#[test]
fn subscriptions_add_up() {
    let mut instances = with(&[
        &[("metrics", "b.,a."), ("interval.ms", "5000")],
        &[("metrics", "a.,c."), ("interval.ms", "1000"), ("match", "client_id=billing-[0-9],client_source_port=4711")],
        &[("metrics", "d."), ("interval.ms", "100"), ("match", "client_id=billing")],
        &[("metrics", "e."), ("match", "client_software_name=lib.*,client_source_address=10\\.0\\.0\\.8")],
    ]);
    assert_eq!(*instances.get(NOW, ID, &CLIENT).expect("told"), wanted(&["a.", "b.", "c."], 1_000));
    let nameless = Client { id: None, ..CLIENT };
    assert_eq!(*instances.get(NOW, Uuid::from_u128(2), &nameless).expect("told"), wanted(&["a.", "b."], 5_000));
    instances.set_subscriptions(vec![subscription(&[("metrics", "a.")]), subscription(&[("metrics", "*")])]);
    let told = instances.get(NOW, ID, &CLIENT).expect("another question at once: the subscriptions are new");
    assert_eq!(*told, wanted(&["*"], 300_000));
    assert!(told.asks_for("anything"));
    assert!(wanted(&["a.b"], 1).asks_for("a.bc") && !wanted(&["a.b"], 1).asks_for("a.c"));
}

/// The numbers are those of Kafka's formula, so that a client sees no difference where the order of names is the same.
#[test]
fn the_id_of_what_is_asked_for() {
    let crc = |text: &str| crate::record::crc32c(text.as_bytes());
    let hash = (0x1234_5678_u32 ^ 0x9abc_def0) ^ (0x0fed_cba9 ^ 0x8765_4321);
    assert_eq!(wanted(&["b", "a"], 500).id(ID), (crc("[a, b]500") ^ hash).cast_signed());
    assert_eq!(wanted(&[], 300_000).id(ID), (crc("[]300000") ^ hash).cast_signed());
    assert_ne!(wanted(&["a"], 500).id(ID), wanted(&["a"], 501).id(ID));
}

#[test]
fn a_question_before_the_interval_is_over_is_refused() {
    let mut instances = with(&[&[("metrics", "*"), ("interval.ms", "1000")]]);
    assert!(instances.get(NOW, ID, &CLIENT).is_ok());
    assert_eq!(instances.get(after(999), ID, &CLIENT), Err(TooEarly));
    assert!(instances.get(after(1_000), ID, &CLIENT).is_ok());
}

#[test]
fn a_push_is_judged_in_order() {
    let mut instances = with(&[&[("metrics", "*"), ("interval.ms", "1000")]]);
    let told = instances.get(NOW, ID, &CLIENT).expect("told");
    let good = push(&instances, &told);
    let mut judge = |ms: i64, id: Uuid, push: Push| instances.push(after(ms), id, &CLIENT, &push, 100).map(drop);
    for reserved in [0, 1] {
        assert_eq!(judge(0, Uuid::from_u128(reserved), good), Err(PushRefused::ReservedId));
    }
    let bad = Push { subscription_id: !good.subscription_id, is_codec_known: false, len: 101, ..good };
    assert_eq!(judge(1, ID, good), Ok(()), "the first after a question comes when it likes");
    assert_eq!(judge(500, ID, bad), Err(PushRefused::TooEarly));
    assert_eq!(judge(1_001, ID, bad), Err(PushRefused::UnknownSubscription));
    let bad = Push { subscription_id: good.subscription_id, ..bad };
    assert_eq!(judge(2_001, ID, bad), Err(PushRefused::UnknownCodec));
    let bad = Push { is_codec_known: true, ..bad };
    assert_eq!(judge(3_001, ID, bad), Err(PushRefused::TooLarge));
    assert_eq!(judge(4_001, ID, Push { len: 100, ..good }), Ok(()));
    assert_eq!(judge(4_002, ID, Push { terminating: true, ..good }), Ok(()), "the last one needs no interval");
    assert_eq!(judge(9_000, ID, good), Err(PushRefused::Ended));
    assert_eq!(judge(9_001, ID, good), Ok(()), "what ended was the push before");
}

/// A client that was told that it is wrong asks again at once, and is answered.
#[test]
fn what_a_new_question_mends_may_be_asked_at_once() {
    for (refused, is_codec_known, flip, mends) in [
        (PushRefused::UnknownSubscription, true, 1, true),
        (PushRefused::UnknownCodec, false, 0, true),
        (PushRefused::TooLarge, true, 0, false),
    ] {
        let mut instances = with(&[&[("metrics", "*"), ("interval.ms", "1000")]]);
        let told = instances.get(NOW, ID, &CLIENT).expect("told");
        let good = push(&instances, &told);
        let bad = Push { subscription_id: good.subscription_id ^ flip, is_codec_known, len: 11, ..good };
        assert_eq!(instances.push(after(1), ID, &CLIENT, &bad, 10), Err(refused));
        assert_eq!(instances.get(after(2), ID, &CLIENT).is_ok(), mends, "{refused}");
        assert_eq!(instances.get(after(3), ID, &CLIENT), Err(TooEarly), "once");
    }
}

/// A push to a node that has never seen the client: it may be right all the same.
#[test]
fn an_unknown_client_may_push() {
    let mut instances = with(&[&[("metrics", "*")]]);
    let good =
        Push { subscription_id: wanted(&["*"], 300_000).id(ID), terminating: false, is_codec_known: true, len: 1 };
    assert!(instances.push(NOW, ID, &CLIENT, &good, 10).is_ok());
    assert_eq!(instances.push(after(1), ID, &CLIENT, &good, 10), Err(PushRefused::TooEarly));
}

#[test]
fn clients_go_with_their_connection_or_when_they_are_silent() {
    let mut instances = with(&[&[("metrics", "*"), ("interval.ms", "30000")]]);
    let (a, b) = (Uuid::from_u128(10), Uuid::from_u128(11));
    let on = |connection| Client { connection, ..CLIENT };
    assert!(instances.get(NOW, a, &on(1)).is_ok() && instances.get(NOW, b, &on(2)).is_ok());
    instances.disconnected(1);
    assert!(!instances.has(a) && instances.has(b));
    assert_eq!(instances.count(after(89_999)), 1);
    assert!(instances.get(after(89_999), b, &on(3)).is_ok(), "it lives on, by another connection");
    instances.disconnected(3);
    assert!(instances.has(b), "which did not bring it");
    assert_eq!(instances.count(after(89_999 + 90_000)), 0);
    instances.disconnected(2);
}

#[test]
fn who_was_not_heard_of_for_longest_makes_room() {
    let mut instances = with(&[]);
    let id = |n: usize| Uuid::from_u128(100 + n as u128);
    for n in 0..INSTANCES_MAX {
        instances.get(NOW, id(n), &CLIENT).expect("told");
    }
    assert_eq!(instances.get(after(1), id(0), &CLIENT), Err(TooEarly), "which is heard of, too");
    for n in INSTANCES_MAX..INSTANCES_MAX + 10 {
        instances.get(after(2), id(n), &CLIENT).expect("told");
    }
    assert_eq!(instances.count(after(2)), INSTANCES_MAX);
    assert!(instances.has(id(0)) && !instances.has(id(1)) && !instances.has(id(10)) && instances.has(id(11)));
}

/// `MetricsData` as clients write it.
mod body {
    pub fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    pub fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
        [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
    }

    pub fn int(number: u64, value: u64) -> Vec<u8> {
        [varint(number << 3), varint(value)].concat()
    }

    pub fn fixed(number: u64, bits: u64) -> Vec<u8> {
        [varint(number << 3 | 1), bits.to_le_bytes().to_vec()].concat()
    }

    pub fn double(number: u64, value: f64) -> Vec<u8> {
        fixed(number, value.to_bits())
    }

    pub fn pair(number: u64, key: &str, value: &str) -> Vec<u8> {
        bytes(number, &[bytes(1, key.as_bytes()), bytes(2, &bytes(1, value.as_bytes()))].concat())
    }

    /// One resource, one scope.
    pub fn of(resource: &[u8], metrics: &[Vec<u8>]) -> Vec<u8> {
        let metrics: Vec<u8> = metrics.iter().flat_map(|metric| bytes(2, metric)).collect();
        bytes(1, &[bytes(1, resource), bytes(2, &metrics)].concat())
    }

    fn metric(name: &str, kind: u64, data: &[u8]) -> Vec<u8> {
        [bytes(kind, data), bytes(1, name.as_bytes()), bytes(3, b"1")].concat()
    }

    pub fn gauge(name: &str, labels: &[(&str, &str)], value: f64) -> Vec<u8> {
        metric(name, 5, &bytes(1, &point(labels, &double(4, value))))
    }

    /// Temporality 1: delta, 2: cumulative.
    pub fn sum(name: &str, labels: &[(&str, &str)], value: i64, temporality: u64) -> Vec<u8> {
        let point = bytes(1, &point(labels, &fixed(6, value.cast_unsigned())));
        metric(name, 7, &[point, int(2, temporality), int(3, 1)].concat())
    }

    fn point(labels: &[(&str, &str)], value: &[u8]) -> Vec<u8> {
        let labels: Vec<u8> = labels.iter().flat_map(|(key, value)| pair(7, key, value)).collect();
        [labels, fixed(3, 1), value.to_vec()].concat()
    }

    pub fn histogram(name: &str, counts: &[u64], bounds: &[f64], temporality: u64) -> Vec<u8> {
        let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        let total = fixed(4, 6);
        let bounds: Vec<u8> = bounds.iter().flat_map(|bound| bound.to_le_bytes()).collect();
        let point = [total, double(5, 1.5), bytes(6, &counts), bytes(7, &bounds), pair(9, "topic", "t")].concat();
        metric(name, 9, &[int(2, temporality), bytes(1, &point)].concat())
    }
}

const WHO: WhoPushed<'static> = WhoPushed {
    instance: ID,
    instance_id: "EjRWeJq83vAP7cuph2VDIQ",
    client_id: "billing-7",
    software_name: "librdkafka",
    software_version: "2.12.1",
    address: "10.0.0.7",
    is_last: false,
};

fn take(series: &mut Series, ms: i64, metrics: &[Vec<u8>]) -> Taken {
    take_of(series, ms, &WHO, metrics)
}

fn take_of(series: &mut Series, ms: i64, who: &WhoPushed<'_>, metrics: &[Vec<u8>]) -> Taken {
    let body = body::of(&body::pair(1, "group_id", "payers"), metrics);
    series.take(after(ms), who, &wanted(&["*"], 1_000), &body).expect("readable")
}

fn shown(series: &mut Series, ms: i64) -> Vec<String> {
    let mut text = String::new();
    series.render(after(ms), &mut text);
    text.lines().map(str::to_owned).collect()
}

const OWN: &str = r#"client_instance_id="EjRWeJq83vAP7cuph2VDIQ",client_id="billing-7""#;

fn value_of(series: &mut Series, ms: i64, start: &str) -> Option<String> {
    let start = start.replace("OWN", OWN);
    shown(series, ms).iter().find_map(|line| line.strip_prefix(&*start).map(|value| value.trim().to_owned()))
}

#[test]
fn what_was_pushed_is_shown() {
    let mut series = Series::default();
    let taken = take(
        &mut series,
        0,
        &[
            body::gauge("org.apache.kafka.producer.node.request.latency.avg", &[("node.id", "1")], 2.5),
            body::sum("org.apache.kafka.producer.connection.creation.total", &[], 3, 1),
            body::sum("other/thing", &[("client_id", "x"), ("0", "a\"\\\n\u{7}")], 9, 2),
        ],
    );
    assert_eq!(taken, Taken { points: 3, ..Taken::default() });
    assert_eq!(series.count(), 4);
    assert_eq!(
        shown(&mut series, 0),
        [
            "# TYPE millstream_client_info gauge".to_owned(),
            format!(
                "millstream_client_info{{{OWN},client_software_name=\"librdkafka\",client_software_version=\"2.12.1\",\
             client_source_address=\"10.0.0.7\",group_id=\"payers\"}} 1"
            ),
            "# TYPE millstream_client_other_thing counter".to_owned(),
            format!("millstream_client_other_thing{{{OWN},_0=\"a\\\"\\\\\\n\u{fffd}\"}} 9"),
            "# TYPE millstream_client_producer_connection_creation_total counter".to_owned(),
            format!("millstream_client_producer_connection_creation_total{{{OWN}}} 3"),
            "# TYPE millstream_client_producer_node_request_latency_avg gauge".to_owned(),
            format!("millstream_client_producer_node_request_latency_avg{{{OWN},node_id=\"1\"}} 2.5"),
        ]
    );
}

#[test]
fn differences_are_added_up_and_totals_are_not() {
    let mut series = Series::default();
    for (ms, value) in [(0, 5), (1_000, 7), (2_000, -100)] {
        take(&mut series, ms, &[body::sum("delta", &[], value, 1), body::sum("all", &[], value, 2)]);
    }
    assert_eq!(value_of(&mut series, 2_000, "millstream_client_delta{OWN}").as_deref(), Some("12"));
    assert_eq!(value_of(&mut series, 2_000, "millstream_client_all{OWN}").as_deref(), Some("-100"));
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
        take(&mut series, 3_000, &[body::gauge("g", &[], value)]);
        let text = value_of(&mut series, 3_000, "millstream_client_g{OWN}").expect("shown");
        assert!(["NaN", "+Inf", "-Inf", "1e300"].contains(&&*text), "{text}");
    }
}

#[test]
fn a_histogram_becomes_counters() {
    let mut series = Series::default();
    for ms in [0, 1_000] {
        take(&mut series, ms, &[body::histogram("h", &[1, 2, 3], &[0.5, 10.0], 1)]);
    }
    let lines: Vec<_> =
        shown(&mut series, 1_000).into_iter().filter(|line| line.starts_with("millstream_client_h")).collect();
    assert_eq!(
        lines,
        [
            format!("millstream_client_h_bucket{{{OWN},le=\"+Inf\",topic=\"t\"}} 12"),
            format!("millstream_client_h_bucket{{{OWN},le=\"0.5\",topic=\"t\"}} 2"),
            format!("millstream_client_h_bucket{{{OWN},le=\"10\",topic=\"t\"}} 6"),
            format!("millstream_client_h_count{{{OWN},topic=\"t\"}} 12"),
            format!("millstream_client_h_sum{{{OWN},topic=\"t\"}} 3"),
        ]
    );
    let mut series = Series::default();
    take(&mut series, 0, &[body::histogram("odd", &[1, 2], &[0.5, 0.1], 2)]);
    assert_eq!(series.count(), 3, "buckets that make no sense are left out");
}

#[test]
fn clients_that_do_not_agree_spoil_nothing() {
    let mut series = Series::default();
    take(&mut series, 0, &[body::gauge("x", &[], 1.0)]);
    let other = WhoPushed { instance: Uuid::from_u128(77), instance_id: "B", client_id: "", ..WHO };
    take_of(&mut series, 0, &other, &[body::sum("x", &[], 2, 1)]);
    let lines = shown(&mut series, 0);
    assert!(lines.contains(&"# TYPE millstream_client_x untyped".to_owned()), "{lines:?}");
    assert!(lines.contains(&"millstream_client_x{client_instance_id=\"B\"} 2".to_owned()), "{lines:?}");
    let types: Vec<_> = lines.iter().filter(|line| line.starts_with('#')).collect();
    assert_eq!(types.len(), types.iter().collect::<BTreeSet<_>>().len(), "each family once");
}

#[test]
fn what_nobody_asked_for_is_not_kept() {
    let mut series = Series::default();
    let body = body::of(&[], &[body::gauge("a.b", &[], 1.0), body::gauge("b", &[], 1.0)]);
    let taken = series.take(NOW, &WHO, &wanted(&["a."], 1_000), &body).expect("readable");
    assert_eq!((taken.points, taken.unasked, series.count()), (1, 1, 2));
    let mut none = Series::default();
    assert_eq!(none.take(NOW, &WHO, &wanted(&[], 1_000), &body).expect("readable").unasked, 2);
    assert_eq!((none.count(), shown(&mut none, 0).len()), (0, 0));
}

#[test]
fn names_and_labels_that_cannot_be_shown_are_dropped() {
    let mut series = Series::default();
    let long = "x".repeat(600);
    let many: Vec<(String, &str)> = (0..13).map(|n| (format!("l{n}"), "v")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let taken = take(
        &mut series,
        0,
        &[
            body::gauge("", &[], 1.0),
            body::gauge(&long, &[], 1.0),
            body::gauge("a", &[("k", &long)], 1.0),
            body::gauge("a", &[(&long, "v")], 1.0),
            body::gauge("a", &[("", "v")], 1.0),
            body::gauge("a", &[("__name__", "v")], 1.0),
            body::gauge("a", &[("a.b", "v"), ("a_b", "w")], 1.0),
            body::gauge("a", &many, 1.0),
        ],
    );
    assert_eq!((taken.unfit, taken.points, series.count()), (8, 0, 0));
}

#[test]
fn series_have_an_end() {
    let mut series = Series::default();
    let many = |n: usize| -> Vec<_> { (0..n).map(|n| body::gauge("g", &[("n", &n.to_string())], 1.0)).collect() };
    let taken = take(&mut series, 0, &many(SERIES_PER_CLIENT_MAX + 5));
    assert_eq!((taken.points, taken.too_many, series.count()), (1_000, 6, SERIES_PER_CLIENT_MAX));
    for n in 0..SERIES_MAX / SERIES_PER_CLIENT_MAX + 3 {
        let instance_id = n.to_string();
        let who = WhoPushed { instance: Uuid::from_u128(1_000 + n as u128), instance_id: &instance_id, ..WHO };
        take_of(&mut series, 0, &who, &many(SERIES_PER_CLIENT_MAX));
    }
    assert_eq!(series.count(), SERIES_MAX);
    let taken = take(&mut series, 1, &many(1));
    assert_eq!((taken.points, series.count()), (1, SERIES_MAX), "those that are there go on");
    assert_eq!(shown(&mut series, 60_001).len(), 0, "all of them go");
    assert_eq!(series.count(), 0);
}

#[test]
fn series_go_when_their_client_is_silent() {
    let mut series = Series::default();
    let body = body::of(&[], &[body::gauge("g", &[], 1.0)]);
    let slow = wanted(&["*"], 100_000);
    series.take(NOW, &WHO, &slow, &body).expect("readable");
    assert_eq!(shown(&mut series, 299_999).len(), 4);
    assert_eq!(shown(&mut series, 300_000).len(), 0);
    series.take(NOW, &WhoPushed { is_last: true, ..WHO }, &slow, &body).expect("readable");
    assert_eq!(shown(&mut series, 59_999).len(), 4, "the last push is there to be read");
    assert_eq!(shown(&mut series, 60_000).len(), 0);
}

#[test]
fn half_a_push_is_none() {
    let mut series = Series::default();
    let good = body::of(&[], &[body::gauge("a", &[("k", "v")], 1.0)]);
    for bad in [
        [good.clone(), vec![0x0b]].concat(),
        [good.clone(), vec![0x0a, 0x7f]].concat(),
        [good.clone(), vec![0x00]].concat(),
        [good.clone(), vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]].concat(),
        good[..good.len() - 1].to_vec(),
        body::of(&[], &[body::bytes(1, b"\xff\xfe")]),
        body::of(&[], &[body::bytes(9, &body::bytes(1, &body::bytes(6, b"123")))]),
    ] {
        assert_eq!(series.take(NOW, &WHO, &wanted(&["*"], 1_000), &bad), Err(Malformed), "{bad:x?}");
    }
    assert_eq!(series.count(), 0);
    assert!(series.take(NOW, &WHO, &wanted(&["*"], 1_000), &[]).is_ok());
}

/// A megabyte of the smallest messages there are, at each depth.
#[test]
fn many_empty_messages_take_no_memory() {
    let empty = body::bytes(1, &[]).repeat(500_000);
    let as_points = body::of(&[], &[body::bytes(5, &empty)]);
    let as_attributes = body::of(&[], &[body::bytes(5, &body::bytes(1, &body::bytes(7, &[]).repeat(500_000)))]);
    let mut series = Series::default();
    for body in [empty, as_points, as_attributes] {
        let taken = series.take(NOW, &WHO, &wanted(&["*"], 1_000), &body).expect("readable");
        assert_eq!((taken, series.count()), (Taken::default(), 0));
    }
}

proptest! {
    /// Whatever comes, what is shown can be read by Prometheus, and each series stands there once.
    #[test]
    fn any_bytes_are_taken_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        names in proptest::collection::vec((".{0,12}", ".{0,8}", ".{0,8}", any::<f64>(), 0_u64..3), 0..6),
        cut in any::<prop::sample::Index>(),
        flip in any::<u8>(),
    ) {
        let mut series = Series::default();
        let _refused = series.take(NOW, &WHO, &wanted(&["*"], 1_000), &bytes);
        let mut metrics: Vec<_> = names.iter().map(|(name, key, text, value, _)| body::gauge(name, &[(key, text)], *value)).collect();
        metrics.extend(names.iter().map(|(name, key, text, _, t)| body::sum(name, &[(key, text), ("k", "v")], 1, *t)));
        metrics.push(body::histogram("h", &[1, 2], &[0.5], 1));
        let mut body = body::of(&bytes, &metrics);
        prop_assert!(series.take(NOW, &WHO, &wanted(&["*"], 1_000), &body::of(&[], &metrics)).is_ok());
        let at = cut.index(body.len());
        body[at] ^= flip;
        let _refused = series.take(NOW, &WHO, &wanted(&["*"], 1_000), &body);
        let lines = shown(&mut series, 0);
        let mut seen = BTreeSet::new();
        for line in &lines {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                prop_assert!(seen.insert(family.split(' ').next().unwrap_or_default().to_owned()), "{line}");
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a value");
            prop_assert!(seen.insert(series.to_owned()), "{line}");
            prop_assert!(value.parse::<f64>().is_ok(), "{line}");
            prop_assert!(series.starts_with("millstream_client_") && series.ends_with("\"}"), "{line}");
            let name = series.split('{').next().expect("a name");
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        }
    }
}
