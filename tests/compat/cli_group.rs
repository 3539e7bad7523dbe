//! `millstream topic consume --group`: one member, several, and what is left when they go.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cli::{json_if_done, produce, shown};
use crate::harness::broker::{BINARY, Broker};
use crate::harness::{eventually, topics, unique};

/// What one run prints, sorted.
#[track_caller]
fn consume(broker: &Broker, topic: &str, group: &str, more: &[&str]) -> Vec<String> {
    let args: Vec<_> = ["topic", "consume", topic, "--group", group].iter().chain(more).copied().collect();
    let mut lines: Vec<String> = shown(broker, &args).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("value {n:03}")).collect()
}

fn write(broker: &Broker, topic: &str, range: std::ops::Range<usize>) {
    for line in numbers(range) {
        // Over all partitions, by their keys.
        produce(broker, &[topic, "-k", &line], &format!("{line}\n"));
    }
}

#[test]
fn cli_a_group_goes_on_where_it_was() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 3);
    let group = unique("group");
    write(&broker, &topic, 0..10);
    let some = consume(&broker, &topic, &group, &["-n", "4"]);
    assert_eq!(some.len(), 4);
    let mut all = [some, consume(&broker, &topic, &group, &[])].concat();
    all.sort();
    assert_eq!(all, numbers(0..10), "what was printed, and no more, was committed");
    assert_eq!(consume(&broker, &topic, &group, &[]), Vec::<String>::new());
    write(&broker, &topic, 10..13);
    assert_eq!(consume(&broker, &topic, &group, &["--from", "end"]), numbers(10..13), "--from is for new partitions");
    let described = json_if_done(&broker, &["group", "describe", &group]).expect("the group");
    assert_eq!((&described["groups"][0]["state"], &described["groups"][0]["lag"]), (&"Empty".into(), &0.into()));
    assert_eq!(consume(&broker, &topic, &unique("late"), &["--from", "end"]), Vec::<String>::new());
}

/// A consumer that goes on until it is told to stop.
struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    fn start(broker: &Broker, topic: &str, group: &str) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["topic", "consume", topic, "-g", group, "--follow", "--brokers", broker.bootstrap()]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("stdout");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                kept.lock().expect("lines").push(line);
            }
        });
        Self { child, lines }
    }

    fn count(&self) -> usize {
        self.lines.lock().expect("lines").len()
    }

    #[track_caller]
    fn end(mut self, signal: Signal) -> Vec<String> {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("pid")), signal).expect("signal");
        assert_eq!(self.child.wait().expect("wait").code(), Some(0));
        std::mem::take(&mut self.lines.lock().expect("lines"))
    }
}

/// Waits until the group is stable with these numbers of partitions.
#[track_caller]
fn await_shares(broker: &Broker, group: &str, wanted: &[usize]) {
    eventually("the shares", || {
        let described = json_if_done(broker, &["group", "describe", group])?;
        let described = &described["groups"][0];
        let shares = described["members"].as_array()?.iter().map(|member| member["assignment"].as_array());
        let mut shares: Vec<usize> = shares.map(|share| share.map_or(0, Vec::len)).collect();
        shares.sort_unstable();
        (described["state"] == "Stable" && shares == wanted).then_some(())
    });
}

#[test]
fn cli_members_of_a_group_share_and_take_over() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 3);
    let group = unique("group");
    let first = Follower::start(&broker, &topic, &group);
    await_shares(&broker, &group, &[3]);
    write(&broker, &topic, 0..10);
    eventually("the first prints all", || (first.count() == 10).then_some(()));
    let second = Follower::start(&broker, &topic, &group);
    await_shares(&broker, &group, &[1, 2]);
    write(&broker, &topic, 10..30);
    eventually("both print", || (first.count() + second.count() == 30).then_some(()));
    let mut lines = first.end(Signal::SIGTERM);
    assert!((11..30).contains(&lines.len()), "each has its share: {}", lines.len());
    await_shares(&broker, &group, &[3]);
    write(&broker, &topic, 30..40);
    eventually("the second goes on alone", || (lines.len() + second.count() == 40).then_some(()));
    lines.extend(second.end(Signal::SIGINT));
    lines.sort();
    assert_eq!(lines, numbers(0..40), "each once");
    let described: Value = json_if_done(&broker, &["group", "describe", &group]).expect("the group");
    assert_eq!((&described["groups"][0]["state"], &described["groups"][0]["lag"]), (&"Empty".into(), &0.into()));
}

#[test]
fn cli_share_groups_are_described_reset_and_deleted() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let (group, topic) = (unique("readers"), topics::topic(&mut wire, 2));
    topics::write(&mut wire, &topic, 0, &["a", "b", "c"]);
    let done = |args: &[&str]| json_if_done(&broker, &[&["share-group"], args].concat());
    assert_eq!(done(&["describe", &group]), None, "there is no such group");
    let dry = done(&["reset", &group, "--to", "-1", "--topic", &topic]).expect("a plan");
    assert_eq!((&dry["executed"], &dry["offsets"][0]["new_offset"]), (&false.into(), &2.into()));
    assert_eq!(done(&["describe", &group]), None, "nothing was changed");
    let reset = done(&["reset", &group, "--to", "-1", "--topic", &topic, "--execute"]).expect("it has no members");
    assert_eq!((&reset["offsets"][0]["new_offset"], &reset["offsets"][0]["error"]), (&2.into(), &Value::Null));
    let described = done(&["describe", &group]).expect("the group");
    let described = &described["groups"][0];
    assert_eq!((&described["state"], &described["assignor"]), (&"Empty".into(), &"simple".into()));
    let first = &described["offsets"][0];
    assert_eq!(
        (&first["start_offset"], &first["end_offset"], &first["lag"]),
        (&2.into(), &3.into(), &1.into()),
        "{described}"
    );
    let epoch = crate::share_groups::joined(&mut wire, &group, "m", &topic);
    assert!(epoch > 1);
    let described = done(&["describe", &group]).expect("the group");
    assert_eq!(described["groups"][0]["members"][0]["assignment"], format!("{topic}:0,1"));
    assert_eq!(done(&["delete", &group]), None, "it has a member");
    assert_eq!(done(&["delete-offsets", &group, "--topic", &topic]), None, "it has a member");
    assert_eq!(wire.call(1, &crate::share_groups::beat(&group, "m", -1)).error_code, 0);
    let deleted = done(&["delete-offsets", &group, "--topic", &topic]).expect("deleted");
    assert_eq!(deleted["topics"][0]["status"], "deleted");
    let is_listed = || {
        let listed = done(&["list"]).expect("a list");
        listed["groups"].as_array().expect("groups").iter().any(|row| row["group"] == group.as_str())
    };
    assert!(is_listed());
    assert!(done(&["delete", &group]).is_some());
    assert!(!is_listed());
}
