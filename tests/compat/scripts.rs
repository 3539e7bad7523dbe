//! What the README tells people to run: `scripts/cluster`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use tempfile::TempDir;

use crate::harness::broker::{BINARY, free_port, signal, spawn};
use crate::harness::client::{Producer, admin, consume_all, wait};
use crate::harness::wire::Wire;
use crate::harness::{eventually, topics, unique};

/// The script while it runs; told to end when dropped.
struct Cluster {
    script: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    fn start(directory: &Path, ports: &[u16]) -> Self {
        // Who runs the tests in the background has SIGINT ignored, which no shell below can change.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(std::path::absolute("scripts/cluster").expect("the script"));
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        command.args(["--set", "num.partitions=2"]).current_dir(directory);
        command.env("CLUSTER_PROGRAM", BINARY).env("CLUSTER_PORTS", ports.join(" "));
        let (script, log, _) = spawn(command);
        Self { script, log }
    }

    /// The processes of the nodes, as the script tells them.
    fn nodes(&self) -> Vec<Pid> {
        let told = eventually("the script names its processes", || {
            let log = self.log.lock().expect("log");
            log.iter().find_map(|line| Some(line.strip_prefix("cluster: ")?.split_once("processes ")?.1.to_owned()))
        });
        let numbers = told.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
        numbers.map(|number| Pid::from_raw(number.parse().expect("a number"))).collect()
    }

    /// As Ctrl-C or a service manager does.
    fn stop(mut self, by: Signal) -> ExitStatus {
        signal(&self.script, by);
        eventually("the script ends", || self.script.try_wait().expect("wait"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the script says:\n{}", self.log.lock().expect("log").join("\n"));
        }
        if self.script.try_wait().expect("wait").is_none() {
            signal(&self.script, Signal::SIGTERM);
            self.script.wait().expect("wait");
        }
    }
}

/// Each node knows all three.
fn await_formed(kafka: &[u16]) {
    for port in kafka {
        eventually("three brokers are there", || {
            let mut wire = Wire::try_connect(&format!("127.0.0.1:{port}"))?;
            (topics::metadata(&mut wire, &[]).brokers.len() == 3).then_some(())
        });
    }
}

/// Sends these numbers, and finds all up to them.
fn write_and_read(bootstrap: &str, topic: &str, numbers: std::ops::Range<usize>) {
    let end = numbers.end;
    let producer = Producer::new(bootstrap, &[("enable.idempotence", "true")]);
    numbers.for_each(|number| producer.send(number, topic, Some(0), None, number.to_string().as_bytes()));
    assert!(producer.flush().iter().all(|delivery| delivery.result.is_ok()));
    let found = consume_all(bootstrap, topic, 1).remove(&0).expect("records");
    let expected: Vec<_> = (0..end).map(|number| number.to_string().into_bytes()).collect();
    assert_eq!(found.into_iter().map(|record| record.value).collect::<Vec<_>>(), expected);
}

/// Three nodes in one command; one of them is killed; the script is interrupted and run again.
#[test]
fn three_nodes_on_this_machine_in_one_command() {
    if std::env::var_os("MILLSTREAM_TEST_BOOTSTRAP").is_some() {
        return eprintln!("SKIP: needs processes of its own");
    }
    let directory = TempDir::new().expect("temporary directory");
    let ports: Vec<u16> = std::iter::repeat_with(free_port).take(9).collect();
    let bootstrap = ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let topic = unique("cluster");

    let cluster = Cluster::start(directory.path(), &ports);
    await_formed(&ports[..3]);
    let new = [NewTopic::new(&topic, 1, TopicReplication::Fixed(3))];
    let created = wait(admin(&bootstrap).create_topics(&new, &AdminOptions::new())).expect("an answer");
    assert!(created[0].is_ok(), "{created:?}");
    write_and_read(&bootstrap, &topic, 0..100);
    let nodes = cluster.nodes();
    assert_eq!(nodes.len(), 3);
    kill(nodes[1], Signal::SIGKILL).expect("kill");
    write_and_read(&bootstrap, &topic, 100..200);
    assert!(cluster.stop(Signal::SIGINT).success());
    check_gone(&nodes, &ports);
    (1..=3).for_each(|id| assert!(directory.path().join(format!("millstream-data/{id}/meta.properties")).is_file()));

    // The same data are served again.
    let cluster = Cluster::start(directory.path(), &ports);
    await_formed(&ports[..3]);
    write_and_read(&bootstrap, &topic, 200..300);
    let nodes = cluster.nodes();
    assert!(cluster.stop(Signal::SIGTERM).success());
    check_gone(&nodes, &ports);
}

/// Nothing is left but the data.
fn check_gone(nodes: &[Pid], ports: &[u16]) {
    for node in nodes {
        assert!(kill(*node, None).is_err(), "process {node} is still there");
    }
    for port in ports {
        assert!(TcpListener::bind(("127.0.0.1", *port)).is_ok(), "somebody listens on port {port}");
    }
}
