//! Several nodes on one machine, each a process on ports and a data directory of its own.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::broker::{BINARY, SETTINGS, free_port, get, memory_bytes, metric, signal, spawn, tail, wait_ready};
use super::net::Net;
use super::power::{self, Unsynced};
use super::topics::{METADATA, metadata_request};
use super::wire::Wire;
use super::{PATIENCE, eventually};

/// Nodes, numbered from 1. Ends their processes and removes their data when dropped.
pub struct Nodes {
    dir: TempDir,
    nodes: Vec<Node>,
    settings: Vec<String>,
    /// Whether they run on disks that lose what was not synced.
    on_power: bool,
    /// Where each has a network of its own.
    net: Option<Net>,
}

struct Node {
    data: PathBuf,
    kafka: String,
    admin: String,
    rpc: String,
    seeds: Vec<usize>,
    /// Its own, beside those of all.
    settings: Vec<String>,
    process: Option<Process>,
}

struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    lines: Receiver<String>,
}

impl Nodes {
    /// So many nodes, the seeds of each in this order; none is started. None where the broker is an external one.
    pub fn new(seeds: usize, settings: &[&str]) -> Option<Self> {
        if std::env::var_os("MILLSTREAM_TEST_BOOTSTRAP").is_some() {
            eprintln!("SKIP: needs processes of its own");
            return None;
        }
        Some(Self::make(seeds, settings, None))
    }

    fn make(seeds: usize, settings: &[&str], net: Option<Net>) -> Self {
        let dir = TempDir::new().expect("temporary directory");
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        let mut nodes = Self { dir, nodes: Vec::new(), settings, on_power: false, net };
        for _ in 0..seeds {
            nodes.add((1..=seeds).collect());
        }
        nodes
    }

    /// As `new`, all started and ready.
    pub fn started(count: usize, settings: &[&str]) -> Option<Self> {
        let mut nodes = Self::new(count, settings)?;
        nodes.start_all();
        Some(nodes)
    }

    /// The same, on disks from which `lose_power` takes what was not synced.
    pub fn started_on_power(count: usize, settings: &[&str]) -> Option<Self> {
        let mut nodes = Self::new(count, settings)?;
        nodes.on_power = true;
        nodes.start_all();
        Some(nodes)
    }

    /// The same, each in a network of its own. None also where such networks cannot be made.
    pub fn started_apart(count: usize, settings: &[&str]) -> Option<Self> {
        if std::env::var_os("MILLSTREAM_TEST_BOOTSTRAP").is_some() {
            eprintln!("SKIP: needs processes of its own");
            return None;
        }
        let mut nodes = Self::make(count, settings, Some(Net::make(count)?));
        nodes.start_all();
        Some(nodes)
    }

    /// The networks of `started_apart`.
    pub fn net(&self) -> &Net {
        self.net.as_ref().expect("networks of their own")
    }

    /// Starts those that do not run, and waits until they are ready.
    pub fn start_all(&mut self) {
        let down: Vec<usize> = (1..=self.nodes.len()).filter(|id| self.node(*id).process.is_none()).collect();
        down.iter().for_each(|id| self.spawn(*id));
        down.iter().for_each(|id| self.await_ready(*id));
    }

    /// One more, with these seeds; gives its number.
    pub fn add(&mut self, seeds: Vec<usize>) -> usize {
        let id = self.nodes.len() + 1;
        let host = self.net.as_ref().map_or_else(|| "127.0.0.1".to_owned(), |net| net.address(id));
        let address = || format!("{host}:{}", free_port());
        let data = self.dir.path().canonicalize().expect("a path").join(id.to_string());
        self.nodes.push(Node {
            data,
            kafka: address(),
            admin: address(),
            rpc: address(),
            seeds,
            settings: Vec::new(),
            process: None,
        });
        id
    }

    /// Puts the data of a node that was not started yet below another directory.
    pub fn put_below(&mut self, id: usize, parent: &Path) {
        self.node_mut(id).data = parent.join(id.to_string());
    }

    /// A setting of one node, from its next start on.
    pub fn set(&mut self, id: usize, setting: String) {
        self.node_mut(id).settings.push(setting);
    }

    /// Gives a node that does not run other addresses.
    pub fn move_away(&mut self, id: usize) {
        let address = || format!("127.0.0.1:{}", free_port());
        let node = self.node_mut(id);
        (node.kafka, node.admin, node.rpc) = (address(), address(), address());
    }

    /// Starts a node and does not wait.
    pub fn spawn(&mut self, id: usize) {
        self.spawn_as(id, id);
    }

    /// The same, under a `node.id` that may be another's.
    pub fn spawn_as(&mut self, id: usize, number: usize) {
        let seeds: Vec<&str> = self.node(id).seeds.iter().map(|seed| self.node(*seed).rpc.as_str()).collect();
        let node = self.node(id);
        assert!(node.process.is_none(), "node {id} runs");
        let mut command = match &self.net {
            // It becomes the node: the process is the same.
            Some(net) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &net.space(id), BINARY]);
                command
            }
            None => Command::new(BINARY),
        };
        command.arg("start").arg("--node-id").arg(number.to_string()).arg("--data").arg(&node.data);
        command.args(["--listen", &node.kafka, "--admin", &node.admin, "--rpc", &node.rpc]);
        if !seeds.is_empty() {
            command.args(["--seeds", &seeds.join(",")]);
        }
        let settings = self.settings.iter().chain(&node.settings).map(String::as_str);
        for setting in SETTINGS.iter().copied().chain(settings) {
            command.args(["--set", setting]);
        }
        if self.on_power {
            command.env("LD_PRELOAD", power::layer()).env("POWER_DATA", &node.data);
            command.env("POWER_IMAGE", power::image_of(&node.data));
        }
        let (child, log, lines) = spawn(command);
        self.node_mut(id).process = Some(Process { child, log, lines });
    }

    /// Waits until the port between nodes is open: from then on the node asks its seeds.
    pub fn await_port(&self, id: usize) {
        eventually("the port between nodes is open", || TcpStream::connect(&self.node(id).rpc).ok());
    }

    pub fn await_ready(&mut self, id: usize) {
        let process = self.node(id).process.as_ref().expect("running");
        if wait_ready(&process.lines).is_none() {
            panic!("node {id} is not ready:\n{}", tail(&process.log));
        }
    }

    /// Waits for a node to end by itself.
    pub fn await_end(&mut self, id: usize) -> (ExitStatus, String) {
        let mut process = self.node_mut(id).process.take().expect("running");
        let started = Instant::now();
        loop {
            if let Some(status) = process.child.try_wait().expect("wait") {
                return (status, tail(&process.log));
            }
            if started.elapsed() > PATIENCE {
                process.child.kill().expect("kill");
                panic!("node {id} does not end:\n{}", tail(&process.log));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn is_running(&self, id: usize) -> bool {
        self.node(id).process.is_some()
    }

    /// SIGKILL.
    pub fn kill(&mut self, id: usize) {
        let mut process = self.node_mut(id).process.take().expect("running");
        process.child.kill().expect("kill");
        process.child.wait().expect("wait");
    }

    /// All that run die in one moment, and their disks keep what was synced, and of the rest what is said here.
    pub fn lose_power(&mut self, unsynced: Unsynced, chance: &mut StdRng) {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                process.child.kill().expect("kill");
            }
        }
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                process.child.wait().expect("wait");
            }
            power::lose(&node.data, unsynced, chance);
        }
    }

    /// SIGSTOP: the process stands still, its connections stay open.
    pub fn pause(&self, id: usize) {
        let child = &self.node(id).process.as_ref().expect("running").child;
        signal(child, Signal::SIGSTOP);
        // Its threads stop one after the other.
        eventually("the process stands still", || {
            let mut threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).ok()?;
            threads.all(|thread| thread.is_ok_and(|thread| stands_still(&thread.path()))).then_some(())
        });
    }

    pub fn resume(&self, id: usize) {
        signal(&self.node(id).process.as_ref().expect("running").child, Signal::SIGCONT);
    }

    /// SIGTERM.
    pub fn terminate(&self, id: usize) {
        signal(&self.node(id).process.as_ref().expect("running").child, Signal::SIGTERM);
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self, id: usize) -> (ExitStatus, String) {
        self.terminate(id);
        self.await_end(id)
    }

    /// Waits until the log of a node says this.
    #[track_caller]
    pub fn await_log(&self, id: usize, words: &str) {
        eventually(words, || self.log(id).contains(words).then_some(()));
    }

    /// The end of what a node wrote to stderr since it was started.
    pub fn log(&self, id: usize) -> String {
        self.node(id).process.as_ref().map(|process| tail(&process.log)).unwrap_or_default()
    }

    pub fn data_dir(&self, id: usize) -> &PathBuf {
        &self.node(id).data
    }

    /// A value in `meta.properties`.
    pub fn meta(&self, id: usize, key: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.node(id).data.join("meta.properties")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    pub fn wire(&self, id: usize) -> Wire {
        Wire::connect(&self.node(id).kafka)
    }

    /// Partitions of a topic as a node tells them; None while it is not there, or not ready to tell.
    pub fn told_of(&self, id: usize, topic: &str) -> Option<Vec<MetadataResponsePartition>> {
        let mut wire = Wire::try_connect(self.kafka(id))?;
        let told = wire.try_call(METADATA, &metadata_request(&[topic]), Duration::from_secs(1))?;
        told.topics.into_iter().next().filter(|topic| topic.error_code == 0).map(|topic| topic.partitions)
    }

    /// Memory of a node's own, in bytes: without the pages of its files.
    pub fn memory_bytes(&self, id: usize) -> u64 {
        memory_bytes(self.node(id).process.as_ref().expect("running").child.id(), "RssAnon:")
    }

    /// Where a node's clients connect.
    pub fn kafka(&self, id: usize) -> &str {
        &self.node(id).kafka
    }

    /// Where a node listens to the others.
    pub fn rpc(&self, id: usize) -> &str {
        &self.node(id).rpc
    }

    /// A page of a node's admin port: the code and the text.
    pub fn get(&self, id: usize, path: &str) -> (u16, String) {
        get(&self.node(id).admin, path)
    }

    /// A metric of a node, summed over the labels that `name` leaves open.
    pub fn metric(&self, id: usize, name: &str) -> f64 {
        metric(&self.node(id).admin, name)
    }

    /// Of all nodes, with commas between.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(|node| node.kafka.as_str()).collect::<Vec<_>>().join(",")
    }

    fn node(&self, id: usize) -> &Node {
        &self.nodes[id - 1]
    }

    fn node_mut(&mut self, id: usize) -> &mut Node {
        &mut self.nodes[id - 1]
    }
}

/// Whether a thread is stopped.
fn stands_still(thread: &Path) -> bool {
    let state = std::fs::read_to_string(thread.join("stat"));
    state.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')))
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (node, id) in self.nodes.iter_mut().zip(1..) {
            let Some(mut process) = node.process.take() else { continue };
            if std::thread::panicking() {
                eprintln!("--- the log of node {id} ends with:\n{}", tail(&process.log));
            }
            process.child.kill().expect("kill");
            process.child.wait().expect("wait");
        }
    }
}
