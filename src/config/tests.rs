//! What wins over what, and what each mistake is told.

use std::fs;

use millstream_core::types::NodeId;
use tempfile::TempDir;

use super::*;

fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn with_file(name: &str, text: &str) -> Result<Config, ConfigError> {
    let (_dir, path) = file(name, text);
    load(&Flags { config: Some(path), ..Flags::default() }, [], "host")
}

fn with_set(set: &[&str]) -> Result<Config, ConfigError> {
    load(&Flags { set: set.iter().map(|s| (*s).to_owned()).collect(), ..Flags::default() }, [], "host")
}

fn refusal(result: Result<Config, ConfigError>) -> String {
    let text = result.unwrap_err().to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    text
}

#[test]
fn a_node_started_without_settings_serves_this_machine_only() {
    let config = with_set(&[]).unwrap();
    assert_eq!(config.broker.node_id(), NodeId(1));
    assert_eq!(config.data_dir, PathBuf::from("millstream-data"));
    assert_eq!(config.admin.to_string(), "127.0.0.1:9644");
    let listeners: Vec<_> =
        config.listeners.iter().map(|l| format!("{}://{} {}", l.name, l.bind, l.advertised)).collect();
    assert_eq!(listeners, ["PLAINTEXT://127.0.0.1:9092 127.0.0.1:9092"]);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn an_older_name_of_a_setting_has_its_effect() {
    let config = with_set(&["broker.id=2"]).unwrap();
    assert_eq!((config.broker.node_id(), config.warnings), (NodeId(2), Vec::new()));
}

#[test]
fn a_conflict_names_the_setting_its_value_and_where_it_comes_from() {
    for (setting, named) in [
        ("log.retention.ms=0", "log.retention.ms=\"0\": "),
        ("log.retention.hours=0", "log.retention.hours=\"0\": "),
        ("log.roll.ms=0", "log.roll.ms=\"0\": "),
        ("max.connections.per.ip=0", "max.connections.per.ip=\"0\": "),
        ("group.consumer.heartbeat.interval.ms=90000", "group.consumer.heartbeat.interval.ms=\"90000\": "),
    ] {
        let refused = with_set(&[setting]).unwrap_err().to_string();
        assert!(refused.starts_with(named) && refused.ends_with("(--set)"), "{refused}");
    }
}

#[test]
fn flags_win_over_environment_over_file() {
    let (_dir, path) =
        file("m.yaml", "num.partitions: 2\nlog.segment.bytes: 2097152\nlog.retention.ms: 2\nbroker.id: 2");
    let flags = Flags {
        config: Some(path.clone()),
        node_id: Some("4".to_owned()),
        set: vec!["num.partitions=4".to_owned()],
        ..Flags::default()
    };
    let environment =
        [("MILLSTREAM_NUM_PARTITIONS", "3"), ("MILLSTREAM_LOG_SEGMENT_BYTES", "3145728"), ("PATH", "/bin")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = load(&flags, environment, "host").unwrap();
    assert_eq!(config.broker.integer("num.partitions"), 4);
    assert_eq!(config.broker.integer("log.segment.bytes"), 3_145_728);
    assert_eq!(config.broker.integer("log.retention.ms"), 2);
    assert_eq!(config.broker.node_id(), NodeId(4));
    assert_eq!(config.sources.get("log.retention.ms"), Some(&Source::File { path, line: None }));
    assert_eq!(
        config.sources.get("log.segment.bytes"),
        Some(&Source::Environment("MILLSTREAM_LOG_SEGMENT_BYTES".to_owned()))
    );
}

#[test]
fn the_last_set_of_a_key_holds_and_holds_over_its_flag() {
    let flags = Flags {
        data: Some("a".to_owned()),
        set: ["log.dirs=b", "log.dirs=c"].map(str::to_owned).to_vec(),
        ..Flags::default()
    };
    assert_eq!(load(&flags, [], "host").unwrap().data_dir, PathBuf::from("c"));
}

#[test]
fn a_listen_flag_replaces_the_listeners_of_a_file() {
    let text = "listeners: INSIDE://10.0.0.1:1,OUTSIDE://10.0.0.1:2\nadvertised.listeners: OUTSIDE://example.com:2\n\
                listener.security.protocol.map: INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,PLAINTEXT:PLAINTEXT\n";
    let (_dir, path) = file("m.yml", text);
    let mut flags = Flags { config: Some(path), ..Flags::default() };
    assert_eq!(load(&flags, [], "host").unwrap().listeners.len(), 2);
    flags.listen = Some("127.0.0.1:9093".to_owned());
    let config = load(&flags, [], "host").unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].advertised.to_string(), "127.0.0.1:9093");
}

#[test]
fn kafkas_own_file_is_taken_as_it_is() {
    // The lines that count of the file that Kafka ships for a combined node.
    let text = "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
                listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
                advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
                controller.listener.names=CONTROLLER\n\
                listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\\\n  SASL_SSL:SASL_SSL\n\
                num.network.threads=3\nsocket.send.buffer.bytes=102400\nlog.dirs=/tmp/kraft-combined-logs\n\
                num.partitions=1\nlog.retention.hours=168\nmy.own.thing=1\n";
    let config = with_file("server.properties", text).unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].advertised.to_string(), "localhost:9092");
    assert_eq!(config.data_dir, PathBuf::from("/tmp/kraft-combined-logs"));
    let [idle, unknown] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    for key in ["process.roles", "controller.quorum.bootstrap.servers", "num.network.threads"] {
        assert!(idle.contains(key), "{idle}");
    }
    assert!(!idle.contains("num.partitions"), "{idle}");
    assert_eq!(unknown, "unknown settings, left out: \"my.own.thing\"");
}

#[test]
fn an_unknown_key_is_refused_but_in_properties_and_environment() {
    assert_eq!(
        refusal(with_set(&["num.partition=3"])),
        "\"num.partition\": unknown key, did you mean num.partitions? (--set)"
    );
    let yaml = refusal(with_file("m.yaml", "num:\n  partitoins: 3\n"));
    assert!(yaml.starts_with("\"num.partitoins\": unknown key, did you mean num.partitions? (/"), "{yaml}");
    let environment = [("MILLSTREAM_NUM_PARTITION".to_owned(), "3".to_owned())];
    let config = load(&Flags::default(), environment, "host").unwrap();
    assert_eq!(config.warnings, ["unknown settings, left out: \"MILLSTREAM_NUM_PARTITION\""]);
}

#[test]
fn a_bad_value_names_key_value_and_what_is_allowed() {
    assert_eq!(
        refusal(with_set(&["num.partitions=many"])),
        "num.partitions=\"many\": not allowed, must be a whole number of 32 bits, at least 1 (--set)"
    );
    let bad = [
        "num.partitions=0",
        "listeners=PLAINTEXT",
        "listeners=PLAINTEXT://a:1,PLAINTEXT://a:2",
        "listeners=INSIDE://a:1",
        "advertised.listeners=PLAINTEXT://0.0.0.0:1",
        "log.dirs=a,b",
        "logging.format=xml",
        "admin.listener=nowhere",
        "node.id=-1",
        "log.roll.ms=0",
        "auto.create.topics.enable=yes",
        "log.retention.ms=0",
    ];
    for set in bad {
        let (key, _) = set.split_once('=').unwrap();
        let text = refusal(with_set(&[set]));
        assert!(text.contains(key) || key == "listeners" && text.contains("listener.security.protocol.map"), "{text}");
    }
    let line = refusal(with_file("server.properties", "a=1\n\nnum.partitions=x\n"));
    assert!(line.ends_with("server.properties:3)"), "{line}");
    let environment = [("MILLSTREAM_NUM_PARTITIONS".to_owned(), "x".to_owned())];
    assert!(refusal(load(&Flags::default(), environment, "host")).ends_with("(environment MILLSTREAM_NUM_PARTITIONS)"));
    assert_eq!(refusal(with_set(&["num.partitions"])), "--set \"num.partitions\": must be KEY=VALUE");
}

#[test]
fn a_login_that_cannot_be_offered_is_refused_and_not_passed_over() {
    let refused = refusal(with_set(&["listeners=SASL_PLAINTEXT://127.0.0.1:1", "sasl.enabled.mechanisms=GSSAPI"]));
    assert!(refused.contains("sasl.enabled.mechanisms") && refused.contains("PLAIN, SCRAM-SHA-256"), "{refused}");
}

#[test]
fn the_port_between_nodes_is_opened_where_it_or_seeds_are_named() {
    let rpc = |set: &[&str]| with_set(set).unwrap().rpc;
    assert_eq!(rpc(&[]), None);
    let settings = rpc(&["seeds=a:1,127.0.0.1:33145,[::1]:3"]).unwrap();
    let seeds: Vec<String> = settings.seeds.iter().map(HostPort::to_string).collect();
    assert_eq!(seeds, ["a:1", "127.0.0.1:33145", "[::1]:3"]);
    let told = |set: &[&str]| rpc(set).map(|r| format!("{} {}", r.listener, r.advertised)).unwrap();
    assert_eq!(told(&["seeds=a:1"]), "127.0.0.1:33145 127.0.0.1:33145");
    assert_eq!(told(&["rpc.listener=0.0.0.0:5"]), "0.0.0.0:5 host:5");
    assert_eq!(told(&["rpc.listener=0.0.0.0:5", "rpc.advertised=b:6"]), "0.0.0.0:5 b:6");
    let nowhere = refusal(with_set(&["rpc.listener=b:1", "rpc.advertised=0.0.0.0:6"]));
    assert!(nowhere.contains("rpc.advertised") && nowhere.contains("other nodes can connect to"), "{nowhere}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    assert!(refusal(with_file("m.toml", "")).ends_with("the name must end in .yaml, .yml or .properties"));
    assert!(refusal(with_file("m.yaml", "- a\n")).ends_with("the file must be one map of keys and values"));
    let missing = Flags { config: Some(PathBuf::from("/nonexistent/m.yaml")), ..Flags::default() };
    assert!(refusal(load(&missing, [], "host")).starts_with("/nonexistent/m.yaml: cannot be read"));
}

#[test]
fn the_example_file_names_what_has_an_effect_and_sets_the_defaults() {
    let path = PathBuf::from("config/millstream.yaml");
    let config = load(&Flags { config: Some(path.clone()), ..Flags::default() }, [], "host").unwrap();
    let plain = with_set(&[]).unwrap();
    assert_eq!((&config.listeners, &config.admin, &config.data_dir), (&plain.listeners, &plain.admin, &plain.data_dir));
    assert_eq!(config.warnings, Vec::<String>::new());
    // What is commented out is the default, or an example of a key that has none.
    let example = fs::read_to_string(path).unwrap();
    for line in example.lines() {
        let Some((key, value)) = line.strip_prefix("# ").and_then(|line| line.split_once(": ")) else { continue };
        let Some(def) = millstream_core::config::broker_config(key) else { continue };
        let default = def.default.unwrap_or_default();
        assert!(default.is_empty() || default == value, "{key}: {value} is not the default {default}");
        def.validate(value).unwrap();
    }
    let named: Vec<&str> =
        example.lines().filter_map(|line| Some(line.trim_start_matches("# ").split_once(':')?.0)).collect();
    for def in millstream_core::config::broker_configs().iter().filter(|def| def.used) {
        assert!(named.contains(&def.name), "{} has an effect and is not in config/millstream.yaml", def.name);
    }
}
