//! What Kafka 4.3.1 answered to the same values, but where a test says that we differ.

use super::describe::{ConfigEntry, ConfigSource};
use super::*;
use crate::record::{Compression, TimestampType};

fn map(pairs: &[(&str, &str)]) -> ConfigMap {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn broker(pairs: &[(&str, &str)]) -> BrokerConfig {
    BrokerConfig::new(map(pairs)).expect("settings that go together")
}

fn topic_refusal(name: &str, text: &str) -> String {
    check_topic(&map(&[(name, text)]), &BrokerConfig::default()).expect_err("refused").to_string()
}

fn entry<'a>(entries: &'a [ConfigEntry], name: &str) -> &'a ConfigEntry {
    entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("{name} is missing"))
}

fn synonyms(entry: &ConfigEntry) -> Vec<(ConfigSource, &str, &str)> {
    entry.synonyms.iter().map(|s| (s.source, s.name.as_str(), s.value.as_deref().unwrap_or("(secret)"))).collect()
}

#[test]
fn the_tables_are_whole() {
    let visible = |table: &[ConfigDef]| table.iter().filter(|def| !def.hidden).count();
    // Kafka describes 340 of its own; thirteen more are ours or of its authorizer.
    assert_eq!(visible(&BROKER_CONFIGS), 353);
    assert_eq!(visible(&TOPIC_CONFIGS), 34);
    assert_eq!((GROUP_CONFIGS.len(), CLIENT_METRICS_CONFIGS.len()), (17, 3));
    for def in BROKER_CONFIGS.iter().chain(TOPIC_CONFIGS.iter()).chain(GROUP_CONFIGS.iter()) {
        assert!(def.documentation.ends_with(['.', '>']) || def.documentation.ends_with("..."), "{}", def.name);
        for synonym in topic_synonyms(def.name) {
            assert!(broker_config(synonym.name).is_some(), "{}", synonym.name);
        }
    }
    for def in GROUP_CONFIGS.iter() {
        assert!(group_synonym(def.name).is_none_or(|name| broker_config(&name).is_some()), "{}", def.name);
    }
}

#[test]
fn a_bad_value_is_refused_in_kafkas_words() {
    for (name, text, words) in [
        ("retention.ms", "x", "Invalid value x for configuration retention.ms: Not a number of type LONG"),
        ("retention.ms", "", "Invalid value  for configuration retention.ms: Not a number of type LONG"),
        ("retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
        ("segment.bytes", "5", "Invalid value 5 for configuration segment.bytes: Value must be at least 1048576"),
        (
            "min.cleanable.dirty.ratio",
            "1.5",
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        ),
        (
            "min.cleanable.dirty.ratio",
            "abc",
            "Invalid value abc for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE",
        ),
        (
            "cleanup.policy",
            "foo",
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        ("cleanup.policy", "delete,,compact", "Configuration 'cleanup.policy' values must not be empty."),
        (
            "compression.type",
            "Gzip",
            "Invalid value Gzip for configuration compression.type: String must be one of: uncompressed, zstd, lz4, \
             snappy, gzip, producer",
        ),
        (
            "compression.gzip.level",
            "0",
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
        ),
        (
            "preallocate",
            "yes",
            "Invalid value yes for configuration preallocate: Expected value to be either true or false",
        ),
        ("foo", "bar", "Unknown topic config name: foo"),
        (
            "remote.storage.enable",
            "true",
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
        ),
        (
            "follower.replication.throttled.replicas",
            "*, 1:1",
            "Invalid value [*, 1:1] for configuration follower.replication.throttled.replicas: \
             follower.replication.throttled.replicas must be the literal '*' or a list of replicas in the following \
             format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
    ] {
        assert_eq!(topic_refusal(name, text), words);
    }
}

#[test]
fn values_are_read_as_java_reads_them() {
    let fine = map(&[
        ("segment.bytes", " 2097152 "),
        ("cleanup.policy", ""),
        ("preallocate", "TRUE"),
        ("min.insync.replicas", "+5"),
        ("min.cleanable.dirty.ratio", "0.5d"),
        ("follower.replication.throttled.replicas", "1:1,2:3"),
        ("leader.replication.throttled.replicas", "*"),
        ("internal.segment.bytes", "1000"),
        ("compression.zstd.level", "-7"),
    ]);
    assert_eq!(check_topic(&fine, &BrokerConfig::default()), Ok(()));
    let shown = |name, text| topic_config(name).map(|def| def.parse(text).map(|v| v.to_string()));
    assert_eq!(shown("cleanup.policy", " delete , compact,delete"), Some(Ok("delete,compact".into())));
    assert_eq!(shown("min.cleanable.dirty.ratio", "1e-1"), Some(Ok("0.1".into())));
    assert_eq!(shown("min.cleanable.dirty.ratio", "1"), Some(Ok("1.0".into())));
    assert_eq!(shown("min.cleanable.dirty.ratio", "0.00001"), Some(Ok("1.0E-5".into())));
    // Kafka takes NaN; it passes every range and then decides nothing.
    assert!(shown("min.cleanable.dirty.ratio", "NaN").is_some_and(|v| v.is_err()));
    let most = broker_config("log.cleaner.io.max.bytes.per.second").and_then(ConfigDef::default_value);
    assert_eq!(most.map(|v| v.to_string()), Some("1.7976931348623157E308".into()));
}

#[test]
fn lists_that_must_hold_something_do() {
    let refusal = |name: &str, text| broker_config(name).map(|def| def.validate(text).map_err(|e| e.to_string()));
    assert_eq!(
        refusal("listeners", ""),
        Some(Err("Configuration 'listeners' must not be empty. Valid values include: any non-empty value".into()))
    );
    assert_eq!(
        refusal("process.roles", " "),
        Some(Err("Configuration 'process.roles' must not be empty. Valid values include: [broker, controller]".into()))
    );
    assert_eq!(refusal("group.consumer.migration.policy", "Upgrade"), Some(Ok(())));
    assert_eq!(refusal("seeds", "127.0.0.1:1,[::1]:2"), Some(Ok(())));
    for bad in ["127.0.0.1", ":1", "a:99999", "::1:1"] {
        assert!(refusal("admin.listener", bad).is_some_and(|r| r.is_err()), "{bad}");
    }
}

#[test]
fn a_topic_follows_its_own_then_the_brokers_settings() {
    let config = TopicConfig::default();
    assert_eq!((config.segment_bytes, config.segment_ms), (1 << 30, 604_800_000));
    assert_eq!((config.retention_ms, config.retention_bytes), (Some(604_800_000), None));
    assert_eq!((config.max_message_bytes, config.min_insync_replicas), (1_048_588, 1));
    assert_eq!(config.cleanup, CleanupPolicy { compact: false, delete: true });
    assert_eq!((config.compression, config.timestamp_type), (CompressionTarget::Producer, TimestampType::CreateTime));
    assert_eq!((config.timestamp_before_max_ms, config.timestamp_after_max_ms), (i64::MAX, 3_600_000));
    assert!(!config.write_caching);

    let broker = broker(&[
        ("log.roll.hours", "2"),
        ("log.retention.bytes", "-7"),
        ("log.cleanup.policy", "compact,delete"),
        ("compression.type", "zstd"),
        ("compression.zstd.level", "9"),
        ("message.max.bytes", "5000"),
    ]);
    let config = TopicConfig::resolve(&map(&[("write.caching", "true"), ("max.message.bytes", "100")]), &broker);
    assert_eq!((config.segment_ms, config.retention_bytes), (7_200_000, None));
    assert_eq!(config.cleanup, CleanupPolicy { compact: true, delete: true });
    assert_eq!(config.compression, CompressionTarget::Codec { codec: Compression::Zstd, level: 9 });
    assert_eq!((config.max_message_bytes, config.write_caching), (100, true));
}

#[test]
fn of_several_units_the_finest_counts() {
    let retention = |pairs: &[(&str, &str)]| TopicConfig::resolve(&ConfigMap::new(), &broker(pairs)).retention_ms;
    assert_eq!(retention(&[("log.retention.hours", "1")]), Some(3_600_000));
    assert_eq!(retention(&[("log.retention.hours", "1"), ("log.retention.minutes", "2")]), Some(120_000));
    assert_eq!(retention(&[("log.retention.minutes", "2"), ("log.retention.ms", "5")]), Some(5));
    assert_eq!(retention(&[("log.retention.hours", "-1")]), None);
    assert_eq!(retention(&[("log.retention.ms", "-1"), ("log.retention.hours", "1")]), None);
}

#[test]
fn a_change_while_running_beats_the_start_in_any_unit() {
    let started = broker(&[("log.retention.ms", "5"), ("log.retention.hours", "1")]);
    let all = started.with_dynamic(&map(&[("log.retention.ms", "7")]), &ConfigMap::new());
    assert_eq!(TopicConfig::resolve(&ConfigMap::new(), &all).retention_ms, Some(7));
    let one = started.with_dynamic(&map(&[("log.retention.ms", "7")]), &map(&[("log.retention.ms", "9")]));
    assert_eq!(TopicConfig::resolve(&ConfigMap::new(), &one).retention_ms, Some(9));
}

#[test]
fn what_cannot_change_while_running_is_passed_over() {
    let changed = broker(&[]).with_dynamic(
        &map(&[("num.partitions", "5"), ("message.max.bytes", "x")]),
        &map(&[("log.segment.bytes", "1048576"), ("listener.name.a.ssl.key.password", "p")]),
    );
    assert_eq!((changed.integer("num.partitions"), changed.integer("message.max.bytes")), (1, 1_048_588));
    assert_eq!(changed.integer("log.segment.bytes"), 1_048_576);
    assert_eq!(changed.raw("listener.name.a.ssl.key.password"), Some("p"));
}

#[test]
fn a_broker_does_not_start_on_settings_that_contradict() {
    let refusal = |pairs: &[(&str, &str)]| BrokerConfig::new(map(pairs)).expect_err("refused").to_string();
    assert_eq!(
        refusal(&[("num.partitions", "0")]),
        "Invalid value 0 for configuration num.partitions: Value must be at least 1"
    );
    assert_eq!(
        refusal(&[("node.id", "1"), ("broker.id", "2")]),
        "You must set `node.id` to the same value as `broker.id`."
    );
    assert_eq!(
        refusal(&[("log.retention.ms", "0")]),
        "log.retention.ms must be unlimited (-1) or, greater than or equal to 1"
    );
    assert_eq!(
        refusal(&[("group.consumer.heartbeat.interval.ms", "100000")]),
        "group.consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms"
    );
    assert_eq!(broker(&[("broker.id", "7")]).node_id().0, 7);
    assert_eq!(BrokerConfig::default().node_id().0, 1);
}

#[test]
fn changes_of_a_running_broker_follow_kafkas_rules() {
    let node = BrokerConfig::default();
    let refusal =
        |name, text, of_one| check_broker_change(&map(&[(name, text)]), of_one, &node).map_err(|e| e.to_string());
    for of_one in [true, false] {
        for (name, text, words) in [
            ("broker.id", "5", "Cannot update these configs dynamically: [broker.id]"),
            ("log.retention.hours", "5", "Cannot update these configs dynamically: [log.retention.hours]"),
            // Kafka opens and closes ports while it runs.
            ("listeners", "PLAINTEXT://:1", "Cannot update these configs dynamically: [listeners]"),
            (
                "ssl.keystore.location",
                "/x",
                "These security configs can be dynamically updated only per-listener using the listener prefix: \
                 [ssl.keystore.location]",
            ),
            ("log.retention.ms", "x", "Invalid value x for configuration log.retention.ms: Not a number of type LONG"),
            ("log.roll.ms", "0", "log.roll.ms must be greater than or equal to 1"),
            (
                "max.connections.per.ip.overrides",
                "a b:3",
                "max.connections.per.ip.overrides contains invalid addresses : a b",
            ),
            (
                "max.connections.per.ip",
                "0",
                "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
            ),
            ("max.connections", "0", "Invalid max.connections 0"),
            (
                "group.consumer.assignment.interval.ms",
                "999999",
                "group.consumer.assignment.interval.ms must be less than or equal to \
                 group.consumer.max.assignment.interval.ms",
            ),
            // Kafka keeps what it does not know, for its plugins.
            ("foo.bar", "1", "Unknown config name: foo.bar"),
        ] {
            assert_eq!(refusal(name, text, of_one), Err(words.to_owned()), "{name} {of_one}");
        }
        for (name, text) in [
            ("log.retention.ms", "-1"),
            ("log.cleanup.policy", ""),
            ("leader.replication.throttled.rate", "5"),
            ("max.connections.per.ip.overrides", "127.0.0.1:3,host:4"),
            ("log.segment.bytes", "1048576"),
            ("listener.name.a.max.connections", "5"),
        ] {
            assert_eq!(refusal(name, text, of_one), Ok(()), "{name} {of_one}");
        }
    }
    for name in ["sasl.jaas.config", "listener.name.plaintext.ssl.keystore.location"] {
        assert_eq!(refusal(name, "PLAINTEXT://:1", true), Ok(()), "{name}");
        let words =
            format!("Cannot update these configs at default cluster level, broker id must be specified: [{name}]");
        assert_eq!(refusal(name, "PLAINTEXT://:1", false), Err(words));
    }
}

#[test]
fn group_settings_stay_within_the_brokers_bounds() {
    let check = |name, text| check_group(&map(&[(name, text)]), &BrokerConfig::default()).map_err(|e| e.to_string());
    for (name, text, words) in [
        (
            "consumer.session.timeout.ms",
            "5",
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        (
            "consumer.session.timeout.ms",
            "x",
            "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT",
        ),
        ("foo", "1", "Unknown group config name: foo"),
        (
            "share.auto.offset.reset",
            "by_duration:x",
            "Invalid value by_duration:x for configuration share.auto.offset.reset: Invalid value `by_duration:x` for \
             configuration share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format \
             'by_duration:<PnDTnHnMn.nS>'.",
        ),
        (
            "streams.num.standby.replicas",
            "9",
            "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas",
        ),
    ] {
        assert_eq!(check(name, text), Err(words.to_owned()));
    }
    assert_eq!(check("consumer.session.timeout.ms", "50000"), Ok(()));
    for fine in ["earliest", "by_duration:PT1H", "by_duration:P2DT3H4M5.6S", "by_duration:P1D"] {
        assert_eq!(check("share.auto.offset.reset", fine), Ok(()), "{fine}");
    }
    for bad in ["by_duration:", "by_duration:P", "by_duration:PT", "by_duration:PT1H1H", "by_duration:PT1.5H", "none"] {
        assert!(check("share.auto.offset.reset", bad).is_err(), "{bad}");
    }
}

#[test]
fn client_metrics_settings_can_be_followed() {
    let check = |name, text| check_client_metrics(&map(&[(name, text)])).map_err(|e| e.to_string());
    assert_eq!(
        check("interval.ms", "5"),
        Err("Invalid value 5 for interval.ms, interval must be between 100 and 3600000 (1 hour)".into())
    );
    assert_eq!(check("match", "foo=a"), Err("Illegal client matching pattern: foo=a".into()));
    assert_eq!(check("foo", "x"), Err("Unknown client metrics configuration: foo".into()));
    for bad in ["client_id", "client_id=", "client_id==a", "client_id=a=b", "=a", "client_id=(", "client_id=a)(b"] {
        assert_eq!(check("match", bad), Err(format!("Illegal client matching pattern: {bad}")));
    }
    for fine in ["client_id=a.*,client_source_port=1", "client_id=a==", " client_id = a", "client_id=a,client_id=b", ""]
    {
        assert_eq!(check("match", fine), Ok(()), "{fine}");
    }
    for name in ["metrics", "match"] {
        assert_eq!(check(name, "client_id=a,"), Err(format!("Configuration '{name}' values must not be empty.")));
    }
    assert_eq!(check("metrics", "*"), Ok(()));
}

#[test]
fn a_topic_is_described_with_every_layer_behind_it() {
    let node = broker(&[("min.insync.replicas", "1")]).with_dynamic(
        &map(&[("min.insync.replicas", "2"), ("log.retention.ms", "6")]),
        &map(&[("log.cleanup.policy", "compact")]),
    );
    let own = map(&[("cleanup.policy", "delete"), ("retention.ms", "1000")]);
    let entries = describe::topic(&own, &node);
    assert_eq!(entries.len(), 34);

    let policy = entry(&entries, "cleanup.policy");
    assert_eq!((policy.value.as_deref(), policy.source), (Some("delete"), ConfigSource::Topic));
    assert_eq!(
        synonyms(policy),
        [
            (ConfigSource::Topic, "cleanup.policy", "delete"),
            (ConfigSource::DynamicBroker, "log.cleanup.policy", "compact"),
            (ConfigSource::Default, "log.cleanup.policy", "delete"),
        ]
    );
    let replicas = entry(&entries, "min.insync.replicas");
    assert_eq!((replicas.value.as_deref(), replicas.source), (Some("2"), ConfigSource::DynamicDefaultBroker));
    assert_eq!(
        synonyms(entry(&entries, "retention.ms")),
        [
            (ConfigSource::Topic, "retention.ms", "1000"),
            (ConfigSource::DynamicDefaultBroker, "log.retention.ms", "6"),
            (ConfigSource::Default, "log.retention.hours", "168"),
        ]
    );
    // Nothing is set under the first name, log.roll.ms: Kafka tells no synonym then.
    let roll = entry(&entries, "segment.ms");
    assert_eq!((roll.value.as_deref(), roll.source), (Some("604800000"), ConfigSource::Default));
    assert!(roll.synonyms.is_empty() && !roll.read_only && roll.kind == ConfigType::Long);
}

#[test]
fn a_created_topic_tells_where_its_defaults_come_from() {
    let node = broker(&[("log.retention.hours", "1")]);
    let entries = describe::created_topic(&map(&[("segment.bytes", " 2097152")]), &node);
    let told = |name| {
        let entry = entry(&entries, name);
        (entry.value.clone().unwrap_or_default(), entry.source, entry.synonyms.len())
    };
    assert_eq!(told("segment.bytes"), (" 2097152".into(), ConfigSource::Topic, 0));
    assert_eq!(told("retention.ms"), ("3600000".into(), ConfigSource::StaticBroker, 0));
    assert_eq!(told("flush.ms"), ("9223372036854775807".into(), ConfigSource::Default, 0));
}

#[test]
fn a_broker_is_described_without_its_secrets() {
    let given = [("node.id", "1"), ("log.dirs", "/d"), ("ssl.keystore.password", "s"), ("custom", "c")];
    let node = broker(&given).with_dynamic(
        &map(&[("log.segment.bytes", "1048576")]),
        &map(&[("listener.name.x.ssl.keystore.location", "/x"), ("leader.replication.throttled.rate", "5")]),
    );
    let entries = describe::broker(&node);
    let told = |name| {
        let entry = entry(&entries, name);
        (entry.value.as_deref(), entry.source, entry.read_only, entry.sensitive)
    };
    assert_eq!(told("node.id"), (Some("1"), ConfigSource::StaticBroker, true, false));
    assert_eq!(told("broker.id"), (Some("1"), ConfigSource::StaticBroker, true, false));
    assert_eq!(told("ssl.keystore.password"), (None, ConfigSource::StaticBroker, false, true));
    assert_eq!(told("custom"), (None, ConfigSource::StaticBroker, true, true));
    assert_eq!(told("log.retention.ms"), (None, ConfigSource::Default, false, false));
    assert_eq!(told("log.segment.bytes"), (Some("1048576"), ConfigSource::DynamicDefaultBroker, false, false));
    assert_eq!(told("leader.replication.throttled.rate"), (Some("5"), ConfigSource::DynamicBroker, false, false));
    assert_eq!(told("listener.name.x.ssl.keystore.location"), (Some("/x"), ConfigSource::DynamicBroker, true, false));
    assert_eq!(entry(&entries, "ssl.keystore.password").synonyms[0].value, None);
    // Both numbers of the node, three more that the table lists only when they are set.
    assert_eq!(entries.len(), 353 + 3);

    let of_all: Vec<_> = describe::all_brokers(&node).into_iter().map(|e| (e.name, e.synonyms.len())).collect();
    assert_eq!(of_all, [("log.segment.bytes".to_owned(), 1)]);
}

#[test]
fn groups_and_subscriptions_are_described() {
    let node = broker(&[("group.share.delivery.count.limit", "10")]);
    let entries = describe::group(&map(&[("consumer.session.timeout.ms", "50000")]), &node);
    let session = entry(&entries, "consumer.session.timeout.ms");
    assert_eq!(
        synonyms(session),
        [
            (ConfigSource::Group, "consumer.session.timeout.ms", "50000"),
            (ConfigSource::Default, "group.consumer.session.timeout.ms", "45000"),
        ]
    );
    let limit = entry(&entries, "share.delivery.count.limit");
    assert_eq!((limit.value.as_deref(), limit.source), (Some("10"), ConfigSource::StaticBroker));
    let reset = entry(&entries, "share.auto.offset.reset");
    assert_eq!(synonyms(reset), [(ConfigSource::Default, "share.auto.offset.reset", "latest")]);

    let entries = describe::client_metrics(&map(&[("metrics", "a, b")]));
    assert_eq!(synonyms(entry(&entries, "metrics")), [(ConfigSource::ClientMetrics, "metrics", "a,b")]);
    assert_eq!(entry(&entries, "interval.ms").value.as_deref(), Some("300000"));
}
