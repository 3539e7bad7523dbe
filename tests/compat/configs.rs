//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources.

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
};

use crate::harness::broker::Broker;
use crate::harness::topics;
use crate::harness::wire::{API_VERSIONS, Wire, software};
use crate::harness::{eventually, text, unique};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;

/// Where a value comes from.
const FROM_TOPIC: i8 = 1;
const FROM_DEFAULT: i8 = 5;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Every topic config of Kafka 4.3.
const TOPIC_CONFIGS: &[&str] = &[
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

fn ask(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|k| text(k)).collect()));
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

/// All configs of a resource (2: topic, 4: broker).
pub fn describe(wire: &mut Wire, kind: i8, name: &str) -> Vec<DescribeConfigsResourceResult> {
    let response = wire.call(4, &ask(kind, name, None).with_include_synonyms(true).with_include_documentation(true));
    assert_eq!(response.results[0].error_code, 0, "{:?}", response.results[0].error_message);
    response.results[0].configs.clone()
}

fn config(wire: &mut Wire, kind: i8, name: &str, key: &str) -> DescribeConfigsResourceResult {
    let found = describe(wire, kind, name).into_iter().find(|c| &*c.name == key);
    found.unwrap_or_else(|| panic!("no {key}"))
}

fn node(wire: &mut Wire) -> String {
    topics::metadata(wire, &[]).brokers[0].node_id.0.to_string()
}

#[test]
fn describe_configs() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("retention.ms", "4242")]);
    let node = node(&mut wire);
    for version in wire.versions::<DescribeConfigsRequest>() {
        let response = wire.call(version, &ask(TOPIC, &topic, Some(&["retention.ms", "cleanup.policy"])));
        let result = &response.results[0];
        assert_eq!((result.error_code, result.resource_type, &*result.resource_name), (0, TOPIC, &*topic));
        let mut found: Vec<_> = result
            .configs
            .iter()
            .map(|c| (c.name.to_string(), c.value.as_deref().map(str::to_owned), c.config_source))
            .collect();
        found.sort();
        let row = |key: &str, value: &str, source| (key.to_owned(), Some(value.to_owned()), source);
        let expected = [row("cleanup.policy", "delete", FROM_DEFAULT), row("retention.ms", "4242", FROM_TOPIC)];
        assert_eq!(found, expected, "version {version}");
        for (kind, name, expected) in [
            (TOPIC, unique("missing"), UNKNOWN_TOPIC_OR_PARTITION),
            (TOPIC, "a b".to_owned(), INVALID_TOPIC),
            (BROKER, "977".to_owned(), INVALID_REQUEST),
            (BROKER, "x".to_owned(), INVALID_REQUEST),
            (99, "x".to_owned(), INVALID_REQUEST),
        ] {
            let response = wire.call(version, &ask(kind, &name, None));
            assert_eq!(response.results[0].error_code, expected, "resource type {kind}, name {name:?}");
        }
        let of_broker = wire.call(version, &ask(BROKER, &node, Some(&["num.partitions"])));
        assert_eq!(of_broker.results[0].configs[0].value.as_deref(), Some("4"));
    }
}

#[test]
fn describe_configs_knows_every_topic_config() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("max.message.bytes", "2000000")]);
    let described = describe(&mut wire, TOPIC, &topic);
    let names: Vec<_> = described.iter().map(|c| c.name.to_string()).collect();
    for key in TOPIC_CONFIGS {
        assert!(names.iter().any(|n| n == key), "{key} is missing");
    }
    for config in &described {
        assert!(config.documentation.as_ref().is_some_and(|d| d.len() > 10), "{} is documented", &*config.name);
        assert!((1..=9).contains(&config.config_type), "{} has a type", &*config.name);
        assert!(!config.read_only && !config.is_sensitive, "{}", &*config.name);
    }
    let find = |key: &str| described.iter().find(|c| &*c.name == key).expect("config");
    let synonyms = |key: &str| -> Vec<_> {
        find(key)
            .synonyms
            .iter()
            .map(|s| (s.name.to_string(), s.value.as_deref().map(str::to_owned), s.source))
            .collect()
    };
    let row = |key: &str, value: &str, source| (key.to_owned(), Some(value.to_owned()), source);
    assert_eq!(
        synonyms("max.message.bytes"),
        [row("max.message.bytes", "2000000", FROM_TOPIC), row("message.max.bytes", "1048588", FROM_DEFAULT)]
    );
    assert_eq!(synonyms("cleanup.policy"), [row("log.cleanup.policy", "delete", FROM_DEFAULT)]);
    // boolean 1, string 2, int 3, long 5, double 6, list 7
    for (key, kind) in [
        ("preallocate", 1),
        ("compression.type", 2),
        ("max.message.bytes", 3),
        ("retention.ms", 5),
        ("min.cleanable.dirty.ratio", 6),
        ("cleanup.policy", 7),
    ] {
        assert_eq!(find(key).config_type, kind, "type of {key}");
    }
    for (key, value) in [
        ("retention.ms", "604800000"),
        ("retention.bytes", "-1"),
        ("segment.bytes", "1073741824"),
        ("segment.ms", "604800000"),
        ("compression.type", "producer"),
        ("message.timestamp.type", "CreateTime"),
        ("min.cleanable.dirty.ratio", "0.5"),
        ("min.insync.replicas", "1"),
        ("delete.retention.ms", "86400000"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("max.compaction.lag.ms", "9223372036854775807"),
        ("index.interval.bytes", "4096"),
    ] {
        assert_eq!(find(key).value.as_deref(), Some(value), "default of {key}");
    }
}

#[test]
fn describe_configs_of_the_broker() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let node = node(&mut wire);
    let described = describe(&mut wire, BROKER, &node);
    assert!(described.len() > 200, "only {} broker configs", described.len());
    for (key, value) in [
        ("num.partitions", "4"),
        ("message.max.bytes", "1048588"),
        ("auto.create.topics.enable", "true"),
        ("log.retention.hours", "168"),
        ("offsets.retention.minutes", "10080"),
        ("socket.request.max.bytes", "104857600"),
        ("group.initial.rebalance.delay.ms", "0"),
    ] {
        let config = described.iter().find(|c| &*c.name == key).unwrap_or_else(|| panic!("no {key}"));
        assert_eq!(config.value.as_deref(), Some(value), "{key}");
        assert!(config.documentation.as_ref().is_some_and(|d| d.len() > 10), "{key} is documented");
    }
}

fn alter(kind: i8, name: &str, configs: &[(&str, Option<&str>)]) -> AlterConfigsRequest {
    let config = |(k, v): &(&str, Option<&str>)| AlterableConfig::default().with_name(text(k)).with_value(v.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.iter().map(config).collect());
    AlterConfigsRequest::default().with_resources(vec![resource])
}

/// AlterConfigs replaces all that was set.
#[test]
fn alter_configs() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<AlterConfigsRequest>() {
        let topic = topics::topic_with(&mut wire, 1, &[("retention.ms", "1000")]);
        let mut outcome = |request: &AlterConfigsRequest| wire.call(version, request).responses[0].error_code;
        let change = alter(TOPIC, &topic, &[("max.message.bytes", Some("5000"))]);
        assert_eq!(outcome(&change.clone().with_validate_only(true)), 0);
        assert_eq!(outcome(&alter(TOPIC, &topic, &[("replication_factor", Some("3"))])), INVALID_CONFIG);
        assert_eq!(outcome(&alter(TOPIC, &topic, &[("retention.ms", Some("never"))])), INVALID_CONFIG);
        assert_eq!(outcome(&alter(TOPIC, &unique("missing"), &[])), UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(
            config(&mut wire, TOPIC, &topic, "retention.ms").value.as_deref(),
            Some("1000"),
            "nothing changed yet"
        );
        assert_eq!(wire.call(version, &change).responses[0].error_code, 0);
        eventually("the new value", || {
            (config(&mut wire, TOPIC, &topic, "max.message.bytes").value.as_deref() == Some("5000")).then_some(())
        });
        let reset = config(&mut wire, TOPIC, &topic, "retention.ms");
        assert_eq!((reset.value.as_deref(), reset.config_source), (Some("604800000"), FROM_DEFAULT));
    }
}

fn change(kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> IncrementalAlterConfigsRequest {
    let config = |(key, operation, value): &(&str, i8, Option<&str>)| {
        incremental::AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    };
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(config).collect());
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

#[test]
fn incremental_alter_configs() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<IncrementalAlterConfigsRequest>() {
        let topic = topics::topic_with(&mut wire, 1, &[("retention.ms", "1000")]);
        let mut step = |changes: &[(&str, i8, Option<&str>)], key: &str, expected: &str| {
            let response = wire.call(version, &change(TOPIC, &topic, changes));
            assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
            eventually("the new value", || {
                (config(&mut wire, TOPIC, &topic, key).value.as_deref() == Some(expected)).then_some(())
            });
        };
        step(&[("max.message.bytes", SET, Some("6000"))], "max.message.bytes", "6000");
        step(&[("cleanup.policy", APPEND, Some("compact"))], "cleanup.policy", "delete,compact");
        step(&[("cleanup.policy", APPEND, Some("compact"))], "cleanup.policy", "delete,compact");
        step(&[("cleanup.policy", SUBTRACT, Some("delete"))], "cleanup.policy", "compact");
        step(&[("max.message.bytes", DELETE, None)], "max.message.bytes", "1048588");
        assert_eq!(config(&mut wire, TOPIC, &topic, "retention.ms").value.as_deref(), Some("1000"), "left alone");
        for (what, changes, expected) in [
            ("append to a number", vec![("retention.ms", APPEND, Some("1"))], INVALID_CONFIG),
            ("an unknown name", vec![("no.such", SET, Some("1"))], INVALID_CONFIG),
            ("a bad value", vec![("retention.ms", SET, Some("x"))], INVALID_CONFIG),
            ("no value", vec![("retention.ms", SET, None)], INVALID_REQUEST),
            ("a key twice", vec![("retention.ms", SET, Some("1")), ("retention.ms", SET, Some("2"))], INVALID_REQUEST),
        ] {
            let response = wire.call(version, &change(TOPIC, &topic, &changes));
            assert_eq!(response.responses[0].error_code, expected, "{what}");
        }
        if broker.is_own() {
            // Kafka says UNKNOWN_SERVER_ERROR here.
            let response = wire.call(version, &change(TOPIC, &topic, &[("retention.ms", 9, Some("1"))]));
            assert_eq!(response.responses[0].error_code, INVALID_REQUEST, "an unknown operation");
        }
        let response =
            wire.call(version, &change(TOPIC, &topic, &[("retention.ms", SET, Some("5"))]).with_validate_only(true));
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(config(&mut wire, TOPIC, &topic, "retention.ms").value.as_deref(), Some("1000"), "validate_only");
        let missing = wire.call(version, &change(TOPIC, &unique("missing"), &[("retention.ms", SET, Some("5"))]));
        assert_eq!(missing.responses[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    }
}

/// A config that takes effect at once: the next batch is judged by it.
#[test]
fn a_changed_topic_config_acts_at_once() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    const MESSAGE_TOO_LARGE: i16 = 10;
    let big = "x".repeat(2_000);
    topics::write(&mut wire, &topic, 0, &[&big]);
    let response = wire.call(1, &change(TOPIC, &topic, &[("max.message.bytes", SET, Some("1000"))]));
    assert_eq!(response.responses[0].error_code, 0);
    eventually("the limit", || {
        let batch = crate::harness::batch::Batch::of(&[&big]).build();
        (topics::produce(&mut wire, &topic, 0, batch).error_code == MESSAGE_TOO_LARGE).then_some(())
    });
}

/// Broker configs that may change while the broker runs; the cluster-wide default has an empty name.
#[test]
fn a_broker_config_changes_live() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let node = node(&mut wire);
    for (name, key, value) in [(&*node, "log.retention.ms", "3600000"), ("", "message.max.bytes", "2000000")] {
        let response = wire.call(1, &change(BROKER, name, &[(key, SET, Some(value))]));
        assert_eq!(response.responses[0].error_code, 0, "{key}: {:?}", response.responses[0].error_message);
        eventually("the new value", || {
            (config(&mut wire, BROKER, &node, key).value.as_deref() == Some(value)).then_some(())
        });
    }
    let topic = topics::topic(&mut wire, 1);
    let inherited = config(&mut wire, TOPIC, &topic, "max.message.bytes");
    // 3: a dynamic default of the cluster.
    assert_eq!((inherited.value.as_deref(), inherited.config_source), (Some("2000000"), 3));
    let fixed = wire.call(1, &change(BROKER, &node, &[("log.dirs", SET, Some("elsewhere"))]));
    assert_eq!(fixed.responses[0].error_code, INVALID_REQUEST);
}

/// A topic inherits what the broker's configuration file or flags say.
#[test]
fn a_topic_inherits_the_brokers_static_config() {
    let Some(broker) = Broker::own(&["log.retention.ms=86400000"]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let retention = config(&mut wire, TOPIC, &topic, "retention.ms");
    // 4: static broker config.
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("86400000"), 4));
}

#[test]
fn list_config_resources() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let node = node(&mut wire);
    // Version 0 lists client metrics resources, of which there are none.
    let metrics = wire.call(0, &ListConfigResourcesRequest::default());
    assert_eq!((metrics.error_code, metrics.config_resources.len()), (0, 0));
    let all = wire.call(1, &ListConfigResourcesRequest::default());
    assert_eq!(all.error_code, 0);
    let has =
        |kind, name: &str| all.config_resources.iter().any(|r| r.resource_type == kind && &*r.resource_name == name);
    assert!(has(TOPIC, &topic) && has(BROKER, &node), "{:?}", all.config_resources);
    let topics_only = wire.call(1, &ListConfigResourcesRequest::default().with_resource_types(vec![TOPIC]));
    assert!(topics_only.config_resources.iter().all(|r| r.resource_type == TOPIC));
    assert!(topics_only.config_resources.iter().any(|r| *r.resource_name == *topic));
    const UNSUPPORTED_VERSION: i16 = 35;
    let unknown = wire.call(1, &ListConfigResourcesRequest::default().with_resource_types(vec![99]));
    assert_eq!(unknown.error_code, UNSUPPORTED_VERSION);
}

const BROKER_LOGGER: i8 = 8;

/// The levels of the log, by module; `root` is that of all others.
#[test]
fn levels_of_the_log_change_live() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let node = node(&mut wire);
    let level = |wire: &mut Wire, logger: &str| config(wire, BROKER_LOGGER, &node, logger);
    let root = level(&mut wire, "root");
    // 6: a dynamic setting of a broker's loggers.
    assert_eq!((root.value.as_deref(), root.config_source, root.read_only), (Some("INFO"), 6, false));
    const MODULE: &str = "millstream.api";
    assert!(!broker.log().contains("DEBUG"));
    let response = wire.call(1, &change(BROKER_LOGGER, &node, &[(MODULE, SET, Some("DEBUG"))]));
    assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
    assert_eq!(level(&mut wire, MODULE).value.as_deref(), Some("DEBUG"));
    eventually("a line of that level", || broker.log().contains("DEBUG").then_some(()));
    assert_eq!(wire.call(1, &change(BROKER_LOGGER, &node, &[(MODULE, DELETE, None)])).responses[0].error_code, 0);
    assert_eq!(level(&mut wire, MODULE).value.as_deref(), Some("INFO"));
    for (what, name, changes, expected) in [
        ("nobody's logger", &*node, ("no.such", SET, Some("INFO")), INVALID_CONFIG),
        ("no level", &node, ("root", SET, Some("LOUD")), INVALID_CONFIG),
        ("nothing is above the root", &node, ("root", DELETE, None), INVALID_REQUEST),
        ("a level is no list", &node, ("root", APPEND, Some("INFO")), INVALID_REQUEST),
        ("another node", "977", ("root", SET, Some("INFO")), INVALID_REQUEST),
    ] {
        let response = wire.call(1, &change(BROKER_LOGGER, name, &[changes]));
        assert_eq!(response.responses[0].error_code, expected, "{what}");
    }
    let older = wire.call(1, &alter(BROKER_LOGGER, &node, &[("root", Some("INFO"))]));
    assert_eq!(older.responses[0].error_code, INVALID_REQUEST, "AlterConfigs knows no loggers");
}

/// Limits of connections hold for those to come, and are there again after a restart.
#[test]
fn limits_of_connections_change_live() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let response = wire.call(1, &change(BROKER, "", &[("max.connections.per.ip", SET, Some("2"))]));
    assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
    let mut open = Vec::new();
    let is_refused = |broker: &Broker, open: &mut Vec<Wire>| {
        let mut next = broker.wire();
        next.send(API_VERSIONS, &software());
        let refused = next.read_frame().is_err();
        open.push(next);
        refused
    };
    eventually("the limit", || {
        open.clear();
        (!is_refused(&broker, &mut open) && is_refused(&broker, &mut open)).then_some(())
    });
    drop((wire, open));
    broker.stop();
    broker.restart();
    eventually("the limit after a restart", || {
        let mut open = Vec::new();
        let first = (0..2).all(|_| !is_refused(&broker, &mut open));
        (first && is_refused(&broker, &mut open)).then_some(())
    });
}

/// Groups and client metrics subscriptions have settings whether they are there or not.
#[test]
fn groups_and_subscriptions_have_settings() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    const CLIENT_METRICS: i8 = 16;
    const GROUP: i8 = 32;
    for (kind, name, key, value, source) in [
        (GROUP, unique("group"), "consumer.session.timeout.ms", "50000", 8),
        (CLIENT_METRICS, unique("metrics"), "interval.ms", "30000", 7),
    ] {
        let before = config(&mut wire, kind, &name, key);
        assert_eq!(before.config_source, FROM_DEFAULT);
        let response = wire.call(1, &change(kind, &name, &[(key, SET, Some(value))]));
        assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
        eventually("the new value", || {
            let now = config(&mut wire, kind, &name, key);
            ((now.value.as_deref(), now.config_source) == (Some(value), source)).then_some(())
        });
        let listed = |wire: &mut Wire| {
            let asked = ListConfigResourcesRequest::default().with_resource_types(vec![kind]);
            wire.call(1, &asked).config_resources.iter().any(|r| *r.resource_name == *name)
        };
        eventually("its name in the list", || listed(&mut wire).then_some(()));
        assert_eq!(wire.call(1, &change(kind, &name, &[(key, DELETE, None)])).responses[0].error_code, 0);
        eventually("the end of its name in the list", || (!listed(&mut wire)).then_some(()));
        let unknown = wire.call(1, &change(kind, &name, &[("no.such", SET, Some("1"))]));
        let expected = if kind == GROUP { INVALID_CONFIG } else { INVALID_REQUEST };
        assert_eq!(unknown.responses[0].error_code, expected);
    }
}

/// Acknowledged before it is on disk, and read once it is.
#[test]
fn a_topic_with_write_caching_takes_and_gives_records() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("write.caching", "true")]);
    for value in ["a", "b"] {
        topics::write(&mut wire, &topic, 0, &[value]);
    }
    eventually("both records", || (topics::values(&mut wire, &topic, 0, 0) == ["a", "b"]).then_some(()));
    broker.stop();
    broker.restart();
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &topic, 1);
    assert_eq!(topics::values(&mut wire, &topic, 0, 0), ["a", "b"], "a clean stop flushes");
}

/// While the controller decides, nobody else's request is decided.
#[test]
fn too_many_changes_at_once_are_refused() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    const POLICY_VIOLATION: i16 = 44;
    let names: Vec<String> = (0..10_001).map(|n| format!("name.{n}")).collect();
    let changes: Vec<_> = names.iter().map(|name| (name.as_str(), DELETE, None)).collect();
    assert_eq!(wire.call(1, &change(TOPIC, &topic, &changes)).responses[0].error_code, POLICY_VIOLATION);
    assert_eq!(wire.call(1, &change(TOPIC, &topic, &changes[1..])).responses[0].error_code, 0);
}
