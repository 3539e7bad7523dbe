//! The process: its start and its end, its data directory, its settings, its admin port.

use std::collections::BTreeSet;

use tempfile::TempDir;

use crate::groups::{coordinator, stable};
use crate::harness::broker::{Broker, Refusal, run_refused};
use crate::harness::topics;
use crate::harness::wire::{API_VERSIONS, software};
use crate::harness::{eventually, unique};
use crate::offsets::commit;

#[test]
fn the_admin_port_tells_health_and_metrics() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["counted"]);
    assert_eq!(broker.get("/health/live").0, 200);
    assert_eq!(broker.get("/health/ready").0, 200);
    assert_eq!(broker.get("/no/such/page").0, 404);
    let (status, metrics) = broker.get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.lines().filter(|l| l.starts_with("# TYPE ")).count() >= 5, "{metrics}");
    for line in metrics.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let value = line.rsplit(' ').next().expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

/// Every metric is described, and those of the rooms count.
#[test]
fn metrics_are_described_and_count() {
    let listeners = "PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0";
    let Some(broker) = Broker::own_listening(listeners, &[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 3);
    for round in 1..=2_u32 {
        let before = broker.metric("millstream_flush_rounds_total");
        topics::write(&mut wire, &topic, 0, &["counted"]);
        assert!(broker.metric("millstream_flush_rounds_total") > before, "round {round}");
    }
    assert!(broker.metric("millstream_flush_submissions_total") >= broker.metric("millstream_flush_rounds_total"));
    assert!(broker.metric("millstream_flush_busy_seconds_total") > 0.0);
    let (member, _) = stable(&mut wire, &unique("group"), None);
    assert!(!member.is_empty());
    assert_eq!(broker.metric("millstream_partitions_offline"), 0.0);
    assert!(broker.metric("millstream_partitions") >= 3.0 + 8.0, "and those of the groups");
    let name = unique("committed");
    coordinator(&mut wire, &name);
    assert_eq!(wire.call(8, &commit(&name, &topic, 1, 5)).topics[0].partitions[0].error_code, 0);
    eventually("groups and offsets are counted", || {
        let counts = [broker.metric("millstream_groups"), broker.metric("millstream_committed_offsets")];
        (counts == [2.0, 1.0]).then_some(())
    });
    drop(broker.wire());
    let closed = || (broker.metric("millstream_connections_closed_total") > 0.0).then_some(());
    eventually("a closed connection is counted", closed);
    let (_, shown) = broker.get("/metrics");
    assert!(shown.contains("millstream_groups{state=\"Stable\"} 1\n"), "{shown}");
    let described = include_str!("../../docs/METRICS.md");
    let shown: BTreeSet<&str> =
        shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let described: BTreeSet<&str> =
        described.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(shown, described);
}

#[test]
fn an_idle_broker_is_small() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    assert_eq!(wire.call(API_VERSIONS, &software()).error_code, 0);
    assert!(broker.resident_bytes() < 64 << 20, "{} bytes", broker.resident_bytes());
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let Some(broker) = Broker::own(&[]) else { return };
    let data = broker.data_dir().join("data");
    let data = data.to_str().expect("path");
    let refusal = run_refused(&["start", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_refused(&refusal, &[data]);
    assert_eq!(broker.wire().call(API_VERSIONS, &software()).error_code, 0, "the first one goes on");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let Some(broker) = Broker::own(&[]) else { return };
    let data = TempDir::new().expect("temporary directory");
    let data = data.path().to_str().expect("path");
    let refusal = run_refused(&["start", "--data", data, "--listen", broker.bootstrap(), "--admin", "127.0.0.1:0"]);
    assert_refused(&refusal, &[broker.bootstrap(), "in use"]);
}

#[test]
fn wrong_settings_end_the_start_with_2_and_one_line() {
    let Some(_broker) = Broker::own(&[]) else { return };
    for (setting, named) in [
        ("num.partitions=zero", &["num.partitions", "zero"][..]),
        ("num.partitions=0", &["num.partitions", "0"]),
        ("log.segment.bytes=-1", &["log.segment.bytes", "-1"]),
        ("compression.type=zip", &["compression.type", "zip"]),
        ("auto.create.topics.enable=perhaps", &["auto.create.topics.enable", "perhaps"]),
        ("log.retention.ms=0", &["log.retention.ms=\"0\"", "greater than or equal to 1", "--set"]),
        ("log.retention.hours=0", &["log.retention.hours=\"0\"", "greater than or equal to 1", "--set"]),
        ("log.roll.ms=0", &["log.roll.ms=\"0\"", "greater than or equal to 1", "--set"]),
        ("max.connections.per.ip=0", &["max.connections.per.ip=\"0\"", "max.connections.per.ip.overrides", "--set"]),
        ("group.consumer.heartbeat.interval.ms=90000", &["group.consumer.heartbeat.interval.ms=\"90000\"", "--set"]),
        ("no.such.setting=1", &["no.such.setting"]),
        ("num.partitions", &["num.partitions"]),
    ] {
        let data = TempDir::new().expect("temporary directory");
        let data = data.path().join("data");
        let arguments = [
            "start",
            "--data",
            data.to_str().expect("path"),
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--set",
            setting,
        ];
        let refusal = run_refused(&arguments);
        assert_eq!(refusal.code, Some(2), "{setting}: {}", refusal.stderr);
        assert_refused(&refusal, named);
        assert_eq!(refusal.stderr.trim_end().lines().count(), 1, "{setting}: {}", refusal.stderr);
        assert!(!data.exists(), "{setting}: nothing was made");
    }
}

#[test]
fn a_configuration_file_is_read_in_both_forms() {
    let Some(_broker) = Broker::own(&[]) else { return };
    let directory = TempDir::new().expect("temporary directory");
    for (file, contents, named) in [
        ("bad.yaml", "num.partitions: many\n", &["num.partitions", "many"][..]),
        ("unknown.yaml", "no.such.setting: 1\n", &["no.such.setting"]),
        ("broken.yaml", "a: [1\n", &["broken.yaml"]),
        ("server.properties", "num.partitions=many\n", &["num.partitions", "many"]),
    ] {
        let path = directory.path().join(file);
        std::fs::write(&path, contents).expect("write");
        let refusal = run_refused(&["start", "--config", path.to_str().expect("path")]);
        assert_eq!(refusal.code, Some(2), "{file}: {}", refusal.stderr);
        assert_refused(&refusal, named);
    }
    let missing = directory.path().join("missing.yaml");
    let refusal = run_refused(&["start", "--config", missing.to_str().expect("path")]);
    assert_refused(&refusal, &["missing.yaml"]);
}

#[test]
fn a_data_directory_of_another_node_is_refused() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    broker.kill();
    let data = broker.data_dir().join("data");
    let data = data.to_str().expect("path");
    let arguments = ["start", "--node-id", "2", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let refusal = run_refused(&arguments);
    assert_eq!(refusal.code, Some(2), "{}", refusal.stderr);
    assert_refused(&refusal, &[data]);
    broker.restart();
}

#[test]
fn a_data_path_that_is_no_directory_is_refused() {
    let Some(_broker) = Broker::own(&[]) else { return };
    let directory = TempDir::new().expect("temporary directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory").expect("write");
    let file = file.to_str().expect("path");
    let refusal = run_refused(&["start", "--data", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_refused(&refusal, &[file]);
    let foreign = directory.path().join("foreign");
    std::fs::create_dir(&foreign).expect("directory");
    std::fs::write(foreign.join("holiday.jpg"), "somebody's").expect("write");
    std::fs::write(foreign.join("meta.properties"), "what is this\n").expect("write");
    let foreign = foreign.to_str().expect("path");
    let refusal = run_refused(&["start", "--data", foreign, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_refused(&refusal, &[foreign]);
}

/// A sole voter has nobody to ask: a directory of which half is gone is not started as if nothing had happened.
#[test]
fn a_half_wiped_data_directory_is_refused() {
    for half in ["kv", "meta.properties"] {
        let Some(mut broker) = Broker::own(&[]) else { return };
        let topic = topics::topic(&mut broker.wire(), 1);
        topics::write(&mut broker.wire(), &topic, 0, &["kept"]);
        broker.kill();
        let (path, aside) = (broker.data_dir().join("data").join(half), broker.data_dir().join("aside"));
        std::fs::rename(&path, &aside).unwrap_or_else(|e| panic!("{half}: {e}"));
        let refusal = broker.restart_refused();
        assert_eq!(refusal.code, Some(2), "{half}: {}", refusal.stderr);
        assert_refused(&refusal, &[half]);
        // Put back, it is whole again.
        if path.is_dir() {
            std::fs::remove_dir_all(&path).expect("remove");
        }
        std::fs::rename(&aside, &path).expect("rename");
        broker.restart();
        topics::await_topic(&mut broker.wire(), &topic, 1);
        assert_eq!(topics::values(&mut broker.wire(), &topic, 0, 0), ["kept"]);
    }
}

#[track_caller]
fn assert_refused(refusal: &Refusal, named: &[&str]) {
    assert!(refusal.code.is_some_and(|code| code != 0), "exit code {:?}: {}", refusal.code, refusal.stderr);
    for word in named {
        assert!(refusal.stderr.contains(word), "{word:?} is not named: {}", refusal.stderr);
    }
    assert!(!refusal.stderr.contains("panicked"), "{}", refusal.stderr);
}

#[test]
fn the_cluster_and_its_id_outlive_the_process() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let id = topics::metadata(&mut broker.wire(), &[]).cluster_id;
    let (status, _) = broker.stop();
    assert_eq!(status.code(), Some(0));
    broker.restart();
    assert_eq!(topics::metadata(&mut broker.wire(), &[]).cluster_id, id);
}
