//! A broker process on ports and a data directory of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::PATIENCE;
use super::wire::Wire;

pub const BINARY: &str = env!("CARGO_BIN_EXE_millstream");

/// What every test counts on; an external broker must be set up so too.
pub(super) const SETTINGS: &[&str] = &[
    "num.partitions=4",
    "auto.create.topics.enable=true",
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=1000",
    "offsets.topic.num.partitions=8",
];

/// A broker under test. Ends its process and removes its data when dropped.
pub struct Broker {
    own: Option<Own>,
    bootstrap: String,
}

struct Own {
    data: TempDir,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    first_listener: String,
    admin: String,
    process: Option<Process>,
}

struct Process {
    admin: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// How a start that was expected to fail did so.
pub struct Refusal {
    pub code: Option<i32>,
    pub stderr: String,
}

impl Broker {
    /// A broker with the settings all tests count on; the external one when the environment names it.
    pub fn start() -> Broker {
        Broker::start_with(&[])
    }

    /// As `start`, with settings that an external broker must have, too.
    pub fn start_with(settings: &[&str]) -> Broker {
        match std::env::var("MILLSTREAM_TEST_BOOTSTRAP") {
            Ok(bootstrap) => Broker { own: None, bootstrap },
            Err(_) => Broker::spawn(settings),
        }
    }

    /// A process that the test may configure, kill and restart; None where the broker is an external one.
    pub fn own(settings: &[&str]) -> Option<Broker> {
        if std::env::var_os("MILLSTREAM_TEST_BOOTSTRAP").is_some() {
            eprintln!("SKIP: needs a broker process of its own");
            return None;
        }
        Some(Broker::spawn(settings))
    }

    /// As `own`, on the listeners that the test names.
    pub fn own_listening(listeners: &str, settings: &[&str]) -> Option<Broker> {
        Broker::own_in(listeners, settings, &[])
    }

    /// The same with variables of the environment.
    pub fn own_in(listeners: &str, settings: &[&str], environment: &[(&str, &str)]) -> Option<Broker> {
        if std::env::var_os("MILLSTREAM_TEST_BOOTSTRAP").is_some() {
            eprintln!("SKIP: needs a broker process of its own");
            return None;
        }
        let data = TempDir::new().expect("temporary directory");
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let first_listener = listeners.split_once("://").expect("NAME://HOST:PORT").0.to_owned();
        let mut own =
            Own { data, settings, environment, first_listener, admin: "127.0.0.1:0".to_owned(), process: None };
        match own.launch(listeners) {
            Ok(bootstrap) => Some(Broker { own: Some(own), bootstrap }),
            Err(refusal) => panic!("the broker did not start ({:?}):\n{}", refusal.code, refusal.stderr),
        }
    }

    fn spawn(settings: &[&str]) -> Broker {
        let data = TempDir::new().expect("temporary directory");
        Broker::spawn_in(data, settings)
    }

    /// As `own`, with its data below a directory that the test chose (a small file system, say).
    pub fn own_below(parent: &Path, settings: &[&str]) -> Broker {
        Broker::spawn_in(TempDir::new_in(parent).expect("temporary directory"), settings)
    }

    fn spawn_in(data: TempDir, settings: &[&str]) -> Broker {
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        let mut own = Own {
            data,
            settings,
            environment: Vec::new(),
            first_listener: "PLAINTEXT".to_owned(),
            admin: String::new(),
            process: None,
        };
        // A port below the range that the kernel hands to clients: a client that reconnects while the broker is away
        // would otherwise, once in a while, be given that very port and be connected to itself.
        let mut last = None;
        for _ in 0..20 {
            let (kafka, admin) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
            own.admin = admin;
            match own.launch(&kafka) {
                Ok(bootstrap) => return Broker { own: Some(own), bootstrap },
                Err(refusal) if refusal.stderr.contains("in use") => last = Some(refusal.stderr),
                Err(refusal) => panic!("the broker did not start ({:?}):\n{}", refusal.code, refusal.stderr),
            }
        }
        panic!("no free port: {last:?}");
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Where each of its listeners is, in their order.
    pub fn addresses(&self) -> Vec<String> {
        let log = self.log();
        let ready = log.lines().find(|line| line.contains("kafka=")).expect("the ready line");
        let list = &ready[ready.find("kafka=").expect("addresses") + "kafka=".len()..];
        let list: String = list.chars().take_while(|c| !c.is_whitespace()).collect();
        list.trim_matches('"').split(',').map(str::to_owned).collect()
    }

    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    pub fn admin(&self) -> &str {
        &self.process_owner().process.as_ref().expect("running").admin
    }

    pub fn data_dir(&self) -> PathBuf {
        self.process_owner().data.path().to_owned()
    }

    /// A new raw connection.
    pub fn wire(&self) -> Wire {
        Wire::connect(&self.bootstrap)
    }

    /// GET of a path of the admin port; gives the status and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.admin(), path)
    }

    /// The sum of a metric over its labels, in the process's own words.
    pub fn metric(&self, name: &str) -> f64 {
        metric(self.admin(), name)
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(&mut self) {
        let mut process = self.process_owner_mut().process.take().expect("running");
        process.child.kill().expect("kill");
        process.child.wait().expect("wait");
    }

    /// Starts the process again on the same data and addresses; returns how long it took to be ready.
    pub fn restart(&mut self) -> Duration {
        // Of several listeners the first comes back.
        let bootstrap = format!("{}://{}", self.process_owner().first_listener, self.bootstrap);
        let started = Instant::now();
        if let Err(refusal) = self.process_owner_mut().launch(&bootstrap) {
            panic!("the broker did not come back ({:?}):\n{}", refusal.code, refusal.stderr);
        }
        started.elapsed()
    }

    /// Starts the process again, which the test expects to be refused.
    pub fn restart_refused(&mut self) -> Refusal {
        // Of several listeners the first comes back.
        let bootstrap = format!("{}://{}", self.process_owner().first_listener, self.bootstrap);
        match self.process_owner_mut().launch(&bootstrap) {
            Ok(_) => panic!("the broker started"),
            Err(refusal) => refusal,
        }
    }

    /// SIGTERM, then waits for the end.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let mut process = self.process_owner_mut().process.take().expect("running");
        let started = Instant::now();
        signal(&process.child, Signal::SIGTERM);
        loop {
            if let Some(status) = process.child.try_wait().expect("wait") {
                return (status, started.elapsed());
            }
            if started.elapsed() > PATIENCE {
                process.child.kill().expect("kill");
                panic!("no end after SIGTERM:\n{}", tail(&process.log));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGHUP: look at your files.
    pub fn hang_up(&self) {
        signal(&self.process_owner().process.as_ref().expect("running").child, Signal::SIGHUP);
    }

    /// Whether the process is still there.
    pub fn is_alive(&mut self) -> bool {
        match &mut self.process_owner_mut().process {
            Some(process) => process.child.try_wait().expect("wait").is_none(),
            None => false,
        }
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        memory_bytes(self.process_owner().process.as_ref().expect("running").child.id(), "VmRSS:")
    }

    /// What the broker wrote to stderr since its last start.
    pub fn log(&self) -> String {
        self.process_owner().process.as_ref().map(|p| tail(&p.log)).unwrap_or_default()
    }

    fn process_owner(&self) -> &Own {
        self.own.as_ref().expect("a process of our own")
    }

    fn process_owner_mut(&mut self) -> &mut Own {
        self.own.as_mut().expect("a process of our own")
    }
}

impl Own {
    /// Starts the process and waits for its `ready` line; gives the address it serves.
    fn launch(&mut self, kafka: &str) -> Result<String, Refusal> {
        let data = self.data.path().join("data");
        let mut command = Command::new(BINARY);
        command.arg("start").arg("--data").arg(&data).args(["--listen", kafka, "--admin", &self.admin]);
        for setting in SETTINGS.iter().copied().chain(self.settings.iter().map(String::as_str)) {
            command.args(["--set", setting]);
        }
        let (child, log, lines) = spawn_in(command, &self.environment);
        let mut process = Process { child, log, admin: String::new() };
        match wait_ready(&lines) {
            Some(ready) => {
                process.admin = address(&ready, "admin=");
                self.process = Some(process);
                Ok(address(&ready, "kafka="))
            }
            None => {
                if process.child.try_wait().expect("wait").is_none() {
                    process.child.kill().expect("kill");
                }
                let code = process.child.wait().expect("wait").code();
                Err(Refusal { code, stderr: tail(&process.log) })
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(mut process) = self.own.as_mut().and_then(|own| own.process.take()) else { return };
        if std::thread::panicking() {
            eprintln!("--- the broker's log ends with:\n{}", tail(&process.log));
        }
        process.child.kill().expect("kill");
        process.child.wait().expect("wait");
    }
}

/// Runs the binary with any arguments to its end, or until it says `ready`, which is an error here.
pub fn run_refused(args: &[&str]) -> Refusal {
    let mut command = Command::new(BINARY);
    command.args(args);
    let (mut child, log, lines) = spawn(command);
    if let Some(ready) = wait_ready(&lines) {
        child.kill().expect("kill");
        child.wait().expect("wait");
        panic!("the broker started: {ready}");
    }
    let code = child.wait().expect("wait").code();
    Refusal { code, stderr: tail(&log) }
}

pub fn spawn(command: Command) -> (Child, Arc<Mutex<Vec<String>>>, Receiver<String>) {
    spawn_in(command, &[])
}

fn spawn_in(
    mut command: Command,
    environment: &[(String, String)],
) -> (Child, Arc<Mutex<Vec<String>>>, Receiver<String>) {
    // Variables of the tests would be taken for settings.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MILLSTREAM_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let stderr = child.stderr.take().expect("stderr");
    let log = Arc::new(Mutex::new(Vec::new()));
    let (tx, rx) = channel();
    let kept = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            kept.lock().expect("log").push(line.clone());
            // Nobody listens any more once the broker is ready.
            drop(tx.send(line));
        }
    });
    (child, log, rx)
}

/// The `ready` line, or None when the process ended before it.
pub(super) fn wait_ready(lines: &Receiver<String>) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("ready") && line.contains("kafka=") => return Some(line),
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return None,
        }
    }
}

fn address(ready: &str, field: &str) -> String {
    let rest = &ready[ready.find(field).expect("the ready line names the address") + field.len()..];
    rest.chars().take_while(|c| !c.is_whitespace() && *c != '"' && *c != ',').collect()
}

pub fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("pid");
    kill(Pid::from_raw(pid), signal).expect("signal");
}

/// A line of `/proc/PID/status`, in bytes.
pub(super) fn memory_bytes(pid: u32, kind: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status of the process");
    let line = status.lines().find(|l| l.starts_with(kind)).expect("a line of that name");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
}

pub(super) fn tail(log: &Mutex<Vec<String>>) -> String {
    let log = log.lock().expect("log");
    log[log.len().saturating_sub(60)..].join("\n")
}

/// A port below the kernel's range for clients that nobody listens on now, and that no other run of the tests on this
/// machine is given while this one lasts.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let start = u16::try_from(std::process::id() % 19_000).expect("below 19,000");
    let marks = std::env::temp_dir().join("millstream-test-ports");
    std::fs::create_dir_all(&marks).expect("a folder");
    loop {
        let port = 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let mark = File::create(marks.join(port.to_string())).expect("a file");
        if mark.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            TAKEN.lock().expect("ports").push(mark);
            return port;
        }
    }
}

/// GET of a path of an admin port; gives the status and the body.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// The sum of a metric over its labels, or its value where the labels are given with it.
pub fn metric(address: &str, name: &str) -> f64 {
    let (_, text) = get(address, "/metrics");
    let value = |line: &str| -> Option<f64> {
        let labels = line.strip_prefix(name)?;
        let value = labels.rsplit(' ').next()?;
        labels.starts_with([' ', '{']).then(|| value.parse().expect("a number"))
    };
    text.lines().filter_map(value).sum::<f64>()
}
