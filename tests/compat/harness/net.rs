//! A network of its own for each node (`ip netns`), in which links are cut, one way or both, and made slow (`tc tbf`). Each
//! pair of nodes has a link; the tests' clients have one to each node, which stays.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The networks of some nodes, numbered from 1. They go when this is dropped.
pub struct Net {
    count: usize,
    /// Begins every name: networks and links of one machine have their names in common.
    stem: String,
    /// The first three numbers of all addresses.
    prefix: String,
}

impl Net {
    /// None, and why is said, where this process may not make networks.
    pub fn make(count: usize) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed) % 200);
        let stem = format!("ms{}x{number}", process % 100_000);
        let prefix = format!("10.{}.{}", 100 + process % 100, number);
        let net = Self { count, stem, prefix };
        if let Err(why) = net.build() {
            eprintln!(
                "SKIP: NETWORK FAULTS ARE NOT TESTED, for networks cannot be made here (root and iproute2 are needed): {why}"
            );
            return None;
        }
        Some(net)
    }

    fn build(&self) -> Result<(), String> {
        for id in 1..=self.count {
            let (space, address) = (self.space(id), self.address(id));
            run(&["netns", "add", &space])?;
            self.inside(id, &["link", "set", "lo", "up"])?;
            self.inside(id, &["addr", "add", &format!("{address}/32"), "dev", "lo"])?;
            let (here, clients) = (format!("{}c{id}", self.stem), self.clients());
            run(&["link", "add", &here, "type", "veth", "peer", "name", "c", "netns", &space])?;
            run(&["addr", "add", &format!("{clients}/32"), "dev", &here])?;
            run(&["link", "set", &here, "up"])?;
            run(&["route", "add", &address, "dev", &here, "src", &clients])?;
            self.inside(id, &["link", "set", "c", "up"])?;
            self.inside(id, &["route", "add", &clients, "dev", "c", "src", &address])?;
        }
        for (a, b) in self.pairs().filter(|(a, b)| a < b) {
            let (space_a, space_b) = (self.space(a), self.space(b));
            let (to_a, to_b) = (link(a), link(b));
            run(&["link", "add", &to_b, "netns", &space_a, "type", "veth", "peer", "name", &to_a, "netns", &space_b])?;
            for (here, there) in [(a, b), (b, a)] {
                self.inside(here, &["link", "set", &link(there), "up"])?;
                let (own, other) = (self.address(here), self.address(there));
                self.inside(here, &["route", "add", &other, "dev", &link(there), "src", &own])?;
            }
        }
        Ok(())
    }

    /// Where a node listens.
    pub fn address(&self, id: usize) -> String {
        format!("{}.{id}", self.prefix)
    }

    fn clients(&self) -> String {
        format!("{}.254", self.prefix)
    }

    /// The network namespace of a node.
    pub fn space(&self, id: usize) -> String {
        format!("{}n{id}", self.stem)
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.count;
        (1..=count).flat_map(move |a| (1..=count).map(move |b| (a, b))).filter(|(a, b)| a != b)
    }

    fn inside(&self, id: usize, arguments: &[&str]) -> Result<(), String> {
        let space = self.space(id);
        run(&[&["-n", space.as_str()], arguments].concat())
    }

    fn shape(&self, from: usize, to: usize, how: &[&str]) {
        let (space, to) = (self.space(from), link(to));
        let outcome =
            command("tc", &[&["-n", space.as_str(), "qdisc", "replace", "dev", to.as_str(), "root"], how].concat());
        outcome.unwrap_or_else(|why| panic!("{why}"));
    }

    /// What this node sends to that one is lost without a word.
    pub fn cut(&self, from: usize, to: usize) {
        // No packet is small enough.
        self.shape(from, to, &["tbf", "rate", "8bit", "burst", "1", "limit", "1"]);
    }

    /// The node and the others hear nothing of each other. Clients still reach it.
    pub fn isolate(&self, id: usize) {
        self.pairs().filter(|(a, b)| *a == id || *b == id).for_each(|(a, b)| self.cut(a, b));
    }

    /// Every link between nodes carries so much.
    pub fn slow_down(&self, rate: &str) {
        self.pairs().for_each(|(a, b)| self.shape(a, b, &["tbf", "rate", rate, "burst", "32kbit", "latency", "300ms"]));
    }

    /// All links between nodes are as they were.
    pub fn heal(&self) {
        self.pairs().for_each(|(a, b)| self.shape(a, b, &["pfifo", "limit", "1000"]));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for id in 1..=self.count {
            // The links go with the networks.
            if let Err(why) = run(&["netns", "del", &self.space(id)]) {
                eprintln!("{why}");
            }
        }
    }
}

/// Of the link to a node, in the networks of the others.
fn link(to: usize) -> String {
    format!("to{to}")
}

fn run(arguments: &[&str]) -> Result<(), String> {
    command("ip", arguments)
}

fn command(program: &str, arguments: &[&str]) -> Result<(), String> {
    let told = |why: &str| format!("{program} {}: {why}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().map_err(|e| told(&e.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(told(String::from_utf8_lossy(&output.stderr).trim())) }
}
