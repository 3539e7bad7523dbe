//! The log goes to stderr. Where nobody takes it, the broker goes on without.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::broker::{BINARY, Broker, free_port};
use crate::harness::eventually;
use crate::harness::wire::{API_VERSIONS, Wire, software};

/// A broker that logs a line per request to `stderr`; gives its address.
fn start(data: &TempDir, stderr: Stdio) -> (Child, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(BINARY);
    command.arg("start").arg("--data").arg(data.path().join("data"));
    command.args(["--listen", &address, "--admin", "127.0.0.1:0", "--set", "logging.level=debug"]);
    let child = command.stdin(Stdio::null()).stderr(stderr).spawn().expect("the binary starts");
    (child, address)
}

#[track_caller]
fn serves_and_ends_well(mut child: Child, address: &str) {
    for _ in 0..3 {
        assert_eq!(Wire::connect(address).call(API_VERSIONS, &software()).error_code, 0);
    }
    assert!(child.try_wait().expect("wait").is_none(), "it goes on");
    kill(Pid::from_raw(i32::try_from(child.id()).expect("pid")), Signal::SIGTERM).expect("signal");
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}

#[test]
fn a_full_stderr_costs_the_log_and_nothing_else() {
    let Some(_own) = Broker::own(&[]) else { return };
    let data = TempDir::new().expect("temporary directory");
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let (mut child, address) = start(&data, full.into());
    eventually("the broker listens", || {
        assert!(child.try_wait().expect("wait").is_none(), "it goes on");
        TcpStream::connect(&address).ok()
    });
    serves_and_ends_well(child, &address);
}

#[test]
fn a_stderr_that_nobody_reads_any_more_costs_the_log_and_nothing_else() {
    let Some(_own) = Broker::own(&[]) else { return };
    let data = TempDir::new().expect("temporary directory");
    let (mut child, address) = start(&data, Stdio::piped());
    let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("ready") && line.contains("kafka=")));
    drop(lines);
    serves_and_ends_well(child, &address);
}
