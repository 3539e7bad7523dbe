//! The process's own numbers under the names that Prometheus' dashboards expect, read from /proc at each scrape.

use std::fmt::Write;
use std::fs;

/// Clock ticks a second in /proc (`USER_HZ`): 100 on every Linux that user space sees.
const USER_HZ: f64 = 100.0;

/// Appends `process_*`. A number that cannot be read is left out.
pub(super) fn render(text: &mut String) {
    if let Some(stat) = Stat::read() {
        gauge(text, "process_threads", "Threads.", stat.threads);
        metric(text, "process_cpu_seconds_total", "CPU time, user and system.", "counter", stat.cpu_seconds);
    }
    if let Some(bytes) = resident_bytes() {
        gauge(text, "process_resident_memory_bytes", "Resident memory.", bytes);
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        gauge(text, "process_open_fds", "Open file descriptors.", fds.count() as f64);
    }
}

struct Stat {
    cpu_seconds: f64,
    threads: f64,
}

impl Stat {
    /// Fields of proc(5) `stat`, counted behind the command's name, which may contain anything.
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<f64> = fields.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
        Some(Self { cpu_seconds: (fields.get(11)? + fields.get(12)?) / USER_HZ, threads: *fields.get(17)? })
    }
}

/// `VmRSS` of proc(5) `status`.
fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    metric(text, name, help, "gauge", value);
}

fn metric(text: &mut String, name: &str, help: &str, kind: &str, value: f64) {
    // Writing to a String cannot fail.
    let _infallible = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_and_threads() {
        assert!(resident_bytes().unwrap() > 100_000.0);
        assert!(Stat::read().unwrap().threads >= 1.0);
    }
}
