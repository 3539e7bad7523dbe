//! The command line as people and scripts use it: what it prints, what it leaves behind, how it fails.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use crate::harness::broker::{BINARY, Broker};
use crate::harness::client::config;
use crate::harness::{eventually, now_ms, topics, unique};

/// How a command ended.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `millstream ARGS` to its end.
pub fn run(args: &[&str], input: &str) -> Done {
    let mut command = Command::new(BINARY);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // A command may end before it has read everything.
    if let Err(error) = child.stdin.take().expect("stdin").write_all(input.as_bytes()) {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    }
    let output = child.wait_with_output().expect("wait");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn cli_with_input(broker: &Broker, args: &[&str], input: &str) -> Done {
    let args: Vec<_> = args.iter().copied().chain(["--brokers", broker.bootstrap()]).collect();
    run(&args, input)
}

pub fn cli(broker: &Broker, args: &[&str]) -> Done {
    cli_with_input(broker, args, "")
}

/// The standard output of a command that must not fail.
#[track_caller]
pub fn shown(broker: &Broker, args: &[&str]) -> String {
    let done = cli(broker, args);
    assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
    done.stdout
}

/// The same for a program.
#[track_caller]
pub fn json(broker: &Broker, args: &[&str]) -> Value {
    let args: Vec<_> = args.iter().copied().chain(["--format", "json"]).collect();
    serde_json::from_str(&shown(broker, &args)).expect("one JSON document")
}

#[track_caller]
pub fn produce(broker: &Broker, args: &[&str], input: &str) {
    let args: Vec<_> = ["topic", "produce"].iter().chain(args).copied().collect();
    let done = cli_with_input(broker, &args, input);
    assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
}

/// A failure with this exit code, one line of explanation that holds all of `words`, and nothing else on stderr.
#[track_caller]
pub fn fails(broker: &Broker, args: &[&str], code: i32, words: &[&str]) {
    let done = cli(broker, args);
    assert_eq!(done.code, Some(code), "{args:?}: {}{}", done.stdout, done.stderr);
    if code == 1 {
        assert_eq!(done.stderr.lines().count(), 1, "{args:?}: {}", done.stderr);
        assert!(done.stderr.starts_with("millstream: "), "{}", done.stderr);
    }
    for word in words {
        assert!(done.stderr.contains(word), "{args:?}: no {word:?} in: {}", done.stderr);
    }
}

#[test]
fn cli_topics_live_and_die() {
    let broker = Broker::start();
    let (stem, other) = (unique("life"), unique("life"));
    let first = format!("{stem}.a");
    let created = json(&broker, &["topic", "create", &first, &other, "-p", "3", "-r", "1", "-c", "retention.ms=12345"]);
    assert_eq!(created["topics"][0]["status"], "created");
    assert_eq!(created["topics"][1]["partitions"], 3);
    assert_eq!(json(&broker, &["topic", "create", &first, "--if-not-exists"])["topics"][0]["status"], "exists");
    fails(&broker, &["topic", "create", &first], 1, &["TOPIC_ALREADY_EXISTS", "--if-not-exists"]);

    let listed = json(&broker, &["topic", "list", &format!("{stem}*")]);
    assert_eq!(listed["topics"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["topics"][0]["name"], *first);
    assert_eq!(listed["topics"][0]["topic_id"], created["topics"][0]["topic_id"]);
    let table = shown(&broker, &["topic", "list", &first]);
    let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells, [vec!["NAME", "PARTITIONS", "REPLICATION"], vec![&first, "3", "1"]]);

    let altered = json(&broker, &["topic", "alter", &first, "--set", "retention.ms=777", "--partitions", "5"]);
    assert_eq!(altered["topics"][0]["status"], "altered");
    let described = eventually("five partitions", || {
        let described = json(&broker, &["topic", "describe", &first]);
        (described["topics"][0]["partitions"].as_array().map(Vec::len) == Some(5)).then_some(described)
    });
    let topic = &described["topics"][0];
    let configs = topic["configs"].as_array().expect("settings");
    let retention = configs.iter().find(|setting| setting["name"] == "retention.ms").expect("retention.ms");
    assert_eq!((&retention["value"], &retention["source"]), (&"777".into(), &"dynamic_topic_config".into()));
    assert_eq!(
        (&topic["partitions"][4]["start_offset"], &topic["partitions"][4]["end_offset"]),
        (&0.into(), &0.into())
    );
    json(&broker, &["topic", "alter", &first, "--delete", "retention.ms"]);
    let settings = json(&broker, &["config", "describe", "--topic", &first]);
    let is_set = |setting: &Value| setting["name"] == "retention.ms";
    assert!(!settings["configs"].as_array().expect("settings").iter().any(is_set));
    fails(&broker, &["topic", "alter", &first, "--set", "no.such=1"], 1, &["INVALID_CONFIG", "no.such"]);
    fails(&broker, &["topic", "alter", &first, "--partitions", "2"], 1, &["INVALID_PARTITIONS"]);

    fails(&broker, &["topic", "delete", &format!("{stem}*")], 1, &["--yes"]);
    assert_eq!(json(&broker, &["topic", "delete", &format!("{stem}*"), "--yes"])["topics"][0]["status"], "deleted");
    assert_eq!(json(&broker, &["topic", "delete", &other])["topics"][0]["name"], *other);
    eventually("the topic is gone", || (cli(&broker, &["topic", "describe", &first]).code == Some(1)).then_some(()));
    fails(&broker, &["topic", "delete", &first], 1, &["UNKNOWN_TOPIC_OR_PARTITION"]);
    json(&broker, &["topic", "delete", &first, "--if-exists"]);
}

#[test]
fn cli_records_come_back_as_they_went() {
    let broker = Broker::start();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = unique("records");
        json(&broker, &["topic", "create", &topic, "-p", "4"]);
        let lines: Vec<_> = (0..500).map(|number| format!("key-{}\tvalue {number} ü", number % 50)).collect();
        produce(&broker, &[&topic, "-K", "\\t", "-z", codec, "-H", "trace=1", "-H", "empty"], &lines.join("\n"));
        let printed = shown(&broker, &["topic", "consume", &topic, "-f", "%k\\t%v\\n"]);
        let mut back: Vec<_> = printed.lines().collect();
        let mut sent: Vec<_> = lines.iter().map(String::as_str).collect();
        // Order holds within a key, since a key has one partition.
        back.sort_by_key(|line| line.split('\t').next());
        sent.sort_by_key(|line| line.split('\t').next());
        assert_eq!(back, sent, "{codec}");
        let one = shown(&broker, &["topic", "consume", &topic, "-n", "1", "-f", "%t %S %K [%h] %%\\n"]);
        assert!(one.starts_with(&format!("{topic} ")) && one.ends_with(" [trace=1,empty=NULL] %\n"), "{one}");
    }
}

/// murmur2 of these keys modulo 7, as the Java client places them.
#[test]
fn cli_keys_have_the_partitions_of_the_java_client() {
    let broker = Broker::start();
    let topic = unique("keys");
    json(&broker, &["topic", "create", &topic, "-p", "7"]);
    let hashes = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("abc", 479_470_107),
        ("a-little-bit-long-string", -985_981_536),
    ];
    let lines: Vec<_> = hashes.iter().map(|(key, _)| format!("{key}=v")).collect();
    produce(&broker, &[&topic, "--key-separator", "="], &lines.join("\n"));
    let printed = shown(&broker, &["topic", "consume", &topic, "-f", "%k %p\\n"]);
    for (key, hash) in hashes {
        let line = format!("{key} {}", (hash & i32::MAX) % 7);
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in {printed}");
    }
}

#[test]
fn cli_consume_finds_its_place() {
    let broker = Broker::start();
    let topic = unique("places");
    json(&broker, &["topic", "create", &topic, "-p", "2"]);
    let lines: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    produce(&broker, &[&topic, "-p", "1"], &lines.join("\n"));
    let read = |args: &[&str]| {
        let args: Vec<_> = ["topic", "consume", &topic, "-f", "%v "].iter().chain(args).copied().collect();
        shown(&broker, &args)
    };
    assert_eq!(read(&[]), "0 1 2 3 4 5 6 7 8 9 ");
    assert_eq!(read(&["--from", "end"]), "");
    assert_eq!(read(&["--from", "7"]), "7 8 9 ");
    assert_eq!(read(&["--from", "-2"]), "8 9 ");
    assert_eq!(read(&["--from", "2", "--to", "5"]), "2 3 4 ");
    assert_eq!(read(&["-n", "3"]), "0 1 2 ");
    assert_eq!(read(&["-p", "0"]), "");
    assert_eq!(read(&["--from", "-1h", "--to", "@0"]), "");
    assert_eq!(read(&["--from", "-1h"]), "0 1 2 3 4 5 6 7 8 9 ");
    assert_eq!(read(&["--from", "2020-01-01T00:00:00Z", "-n", "1"]), "0 ");
    assert_eq!(read(&["--from", &format!("@{}", now_ms() + 3_600_000)]), "");
    let line = shown(&broker, &["topic", "consume", &topic, "--from", "4", "-n", "1", "--format", "json"]);
    let record: Value = serde_json::from_str(&line).expect("a JSON object a line");
    let expected = [("partition", 1.into()), ("offset", 4.into()), ("value", "4".into()), ("key", Value::Null)];
    for (name, value) in expected {
        assert_eq!(record[name], value, "{name}");
    }
    fails(&broker, &["topic", "consume", &topic, "-p", "2"], 1, &["no partition 2"]);
}

#[test]
fn cli_produce_says_where_records_went() {
    let broker = Broker::start();
    let topic = unique("where");
    json(&broker, &["topic", "create", &topic, "-p", "1", "-c", "cleanup.policy=compact"]);
    let sent = json(&broker, &["topic", "produce", &topic, "-k", "a", "-v", "1", "-v", "2"]);
    let expected = serde_json::json!({ "partition": 0, "records": 2, "first_offset": 0, "last_offset": 1 });
    assert_eq!((&sent["records"], &sent["partitions"][0]), (&2.into(), &expected));
    json(&broker, &["topic", "produce", &topic, "-k", "a", "--tombstone", "--acks", "1"]);
    let printed = shown(&broker, &["topic", "consume", &topic, "-f", "%o %k %v %S\\n"]);
    assert_eq!(printed, "0 a 1 1\n1 a 2 1\n2 a  -1\n");
    fails(&broker, &["topic", "produce", &topic, "-v", "no key"], 1, &["INVALID_RECORD"]);
    fails(&broker, &["topic", "produce", &topic, "-v", "x", "-p", "9"], 1, &["no partition 9"]);
    fails(&broker, &["topic", "produce", &unique("missing"), "-v", "x"], 1, &["UNKNOWN_TOPIC_OR_PARTITION"]);
    let done = cli_with_input(&broker, &["topic", "produce", &topic, "-K", ":"], "a:3\nnonsense\n");
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("line 2 has no key separator"), "{}", done.stderr);
    assert_eq!(shown(&broker, &["topic", "consume", &topic, "--from", "3", "-f", "%v\\n"]), "3\n", "line 1 was sent");
}

#[test]
fn cli_group_is_described_reset_and_deleted() {
    let broker = Broker::start();
    let (topic, group) = (unique("offsets"), unique("group"));
    json(&broker, &["topic", "create", &topic, "-p", "2"]);
    produce(&broker, &[&topic, "-p", "0"], "a\nb\nc\n");
    produce(&broker, &[&topic, "-p", "1"], "d\n");
    fails(&broker, &["group", "describe", &group], 1, &["GROUP_ID_NOT_FOUND"]);
    let offsets = |document: &Value| -> Vec<(i64, Option<i64>, i64)> {
        let rows = document["offsets"].as_array().expect("offsets");
        let number = |value: &Value| value.as_i64().expect("a number");
        rows.iter().map(|r| (number(&r["partition"]), r["old_offset"].as_i64(), number(&r["new_offset"]))).collect()
    };
    let dry = json(&broker, &["group", "reset", &group, "--to", "end", "--topic", &topic]);
    assert_eq!((&dry["executed"], offsets(&dry)), (&false.into(), vec![(0, None, 3), (1, None, 1)]));
    fails(&broker, &["group", "describe", &group], 1, &["GROUP_ID_NOT_FOUND"]);
    json(&broker, &["group", "reset", &group, "--to", "end", "--topic", &topic, "--execute"]);
    let first = format!("{topic}:0");
    let reset = json(&broker, &["group", "reset", &group, "--to", "1", "--topic", &first, "--execute"]);
    assert_eq!(offsets(&reset), [(0, Some(3), 1)]);
    let back = json(&broker, &["group", "reset", &group, "--to", "-1h", "--all-topics", "--dry-run"]);
    assert_eq!(offsets(&back), [(0, Some(1), 0), (1, Some(1), 0)]);
    let far = cli(&broker, &["group", "reset", &group, "--to", "99", "--topic", &first]);
    assert!(far.code == Some(0) && far.stderr.contains("99 is outside of 0 to 3"), "{}", far.stderr);
    fails(
        &broker,
        &["group", "reset", &group, "--to", "start", "--topic", &format!("{topic}:7")],
        1,
        &["no partition 7"],
    );

    let described = json(&broker, &["group", "describe", &group]);
    let described = &described["groups"][0];
    assert_eq!((&described["state"], &described["lag"]), (&"Empty".into(), &2.into()));
    assert_eq!(described["offsets"][0]["committed_offset"], 1);
    let listed = json(&broker, &["group", "list", "--state", "empty"]);
    let is_listed =
        |listed: &Value| listed["groups"].as_array().expect("groups").iter().any(|row| row["group"] == *group);
    assert!(is_listed(&listed));
    assert_eq!(json(&broker, &["group", "delete", &group])["groups"][0]["status"], "deleted");
    assert!(!is_listed(&json(&broker, &["group", "list"])));
    fails(&broker, &["group", "delete", &group], 1, &["GROUP_ID_NOT_FOUND"]);
}

#[test]
fn cli_group_with_members_is_shown_and_left_alone() {
    let broker = Broker::start();
    let (topic, group) = (unique("held"), unique("held"));
    json(&broker, &["topic", "create", &topic, "-p", "2"]);
    let settings = [("group.id", &*group), ("client.id", "reader"), ("session.timeout.ms", "6000")];
    let consumer = BaseConsumer::from_config(&config(broker.bootstrap(), &settings)).expect("consumer");
    consumer.subscribe(&[&topic]).expect("subscribe");
    let held = eventually("an assignment", || {
        // What comes does not matter: polling keeps the member alive.
        drop(consumer.poll(Duration::from_millis(100)));
        let described = json_if_done(&broker, &["group", "describe", &group])?;
        let assignment = described["groups"][0]["members"][0]["assignment"].as_array()?.len();
        (assignment == 2).then_some(described)
    });
    let member = &held["groups"][0]["members"][0];
    assert_eq!((&held["groups"][0]["state"], &member["client_id"]), (&"Stable".into(), &"reader".into()));
    assert_eq!(held["groups"][0]["offsets"][1]["member_id"], member["member_id"]);
    let reset = ["group", "reset", &group, "--to", "start", "--topic", &topic, "--execute"];
    fails(&broker, &reset, 1, &["it has a member (reader at ", "stop its consumers"]);
    fails(&broker, &["group", "delete", &group], 1, &["NON_EMPTY_GROUP", "stop its consumers"]);
}

pub fn json_if_done(broker: &Broker, args: &[&str]) -> Option<Value> {
    let args: Vec<_> = args.iter().copied().chain(["--format", "json"]).collect();
    let done = cli(broker, &args);
    if done.code == Some(0) { serde_json::from_str(&done.stdout).ok() } else { None }
}

#[test]
fn cli_cluster_and_settings() {
    let broker = Broker::start();
    let cluster = json(&broker, &["cluster", "describe", "--apis"]);
    let (host, port) = broker.bootstrap().rsplit_once(':').expect("host:port");
    let own = &cluster["brokers"][0];
    assert_eq!((own["host"].as_str(), own["port"].to_string()), (Some(host), port.to_owned()));
    assert!(cluster["apis"].as_array().expect("APIs").iter().any(|api| api["name"] == "Produce"));
    assert!(shown(&broker, &["cluster", "describe"]).contains("Cluster id"));
    let id = own["id"].to_string();
    let settings = json(&broker, &["config", "describe", "--broker", &id, "--all"]);
    let is_partitions = |row: &Value| row["name"] == "num.partitions" && row["value"] == "4";
    assert!(settings["configs"].as_array().expect("settings").iter().any(is_partitions));
    let topic = unique("settings");
    json(&broker, &["topic", "create", &topic]);
    json(&broker, &["config", "alter", "--topic", &topic, "--append", "cleanup.policy=compact"]);
    let settings = json(&broker, &["config", "describe", "--topic", &topic]);
    let policy =
        settings["configs"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == "cleanup.policy"));
    assert_eq!(policy.expect("cleanup.policy")["value"], "delete,compact");
    fails(&broker, &["config", "describe", "--broker", "4711"], 1, &["broker 4711 is not part of the cluster"]);
}

#[test]
fn cli_failures_say_what_why_and_what_to_do() {
    let broker = Broker::start();
    fails(&broker, &["topic", "consume", &unique("none")], 1, &["UNKNOWN_TOPIC_OR_PARTITION", "topic list"]);
    fails(&broker, &["topic", "describe", "none-*-at-all"], 1, &["no topic matches"]);
    for usage in [
        &["topic", "create", "a b"][..],
        &["topic", "create"],
        &["topic", "consume", "a", "--from", "yesterday"],
        &["topic", "consume", "a", "-f", "%y"],
        &["topic", "alter", "a"],
        &["group", "reset", "g", "--to", "start"],
        &["topic", "list", "--timeout", "0"],
        &["nonsense"],
    ] {
        fails(&broker, usage, 2, &[]);
    }
    // Port 1 is nobody's.
    let Done { code, stderr, .. } = run(&["topic", "list", "-b", "127.0.0.1:1", "--timeout", "5"], "");
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("127.0.0.1:1: ") && stderr.contains("MILLSTREAM_BROKERS"), "{stderr}");
}

#[test]
fn cli_a_closed_pipe_is_quiet() {
    let broker = Broker::start();
    let topic = unique("pipe");
    json(&broker, &["topic", "create", &topic, "-p", "1"]);
    let lines: String = (0..20_000).map(|number| format!("{number} of many lines that fill every pipe\n")).collect();
    produce(&broker, &[&topic], &lines);
    let script =
        format!("{} topic consume {topic} -b {} | head -n 1; echo ${{PIPESTATUS[0]}}", BINARY, broker.bootstrap());
    let mut bash = Command::new("bash");
    let output = bash.args(["-c", &script]).stdin(Stdio::null()).output().expect("bash");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&output.stdout), "0 of many lines that fill every pipe\n0\n");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_damaged_segment_is_told_by_its_place_and_the_exit_code() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let topic = topics::topic(&mut broker.wire(), 1);
    topics::write(&mut broker.wire(), &topic, 0, &["kept", "lost"]);
    let id = topics::topic_id(&mut broker.wire(), &topic);
    broker.kill();
    let partition = broker.data_dir().join("data").join("log").join(id.to_string()).join("0");
    let files = std::fs::read_dir(&partition).expect("directory").map(|entry| entry.expect("entry").path());
    let segment = files.into_iter().find(|file| file.extension().is_some_and(|x| x == "log")).expect("a segment");
    let path = segment.to_str().expect("path");
    let whole = run(&["debug", "log", path], "");
    assert_eq!((whole.code, whole.stderr.as_str()), (Some(0), ""), "{}", whole.stdout);
    let mut bytes = std::fs::read(&segment).expect("read");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&segment, bytes).expect("write");
    let damaged = run(&["debug", "log", path], "");
    assert_eq!(damaged.code, Some(1), "{}", damaged.stdout);
    let line = damaged.stdout.lines().last().expect("a line");
    assert!(line.contains("BAD: "), "{line}");
    let position = line.split_whitespace().next().expect("a position");
    assert!(
        damaged.stderr.ends_with(&format!("is damaged: no whole frame at position {position}\n")),
        "{}",
        damaged.stderr
    );
}
