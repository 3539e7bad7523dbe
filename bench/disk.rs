//! What a flush round costs on this machine: N files, S bytes appended to each, then made durable in three ways.
//!
//! `cargo run --example disk -- [DIRECTORY] [SECONDS A ROW AND WAY]` prints a markdown table. The number of
//! files from which on `syncfs` wins is what `FlushConfig::files_max` should be.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{fdatasync, syncfs};

/// Threads of the parallel way, as `FlushConfig::threads`.
const THREADS: usize = 8;
/// Files and bytes a file of each row.
const ROWS: [(usize, usize); 10] = [
    (1, 4 << 10),
    (1, 64 << 10),
    (1, 1 << 20),
    (4, 64 << 10),
    (12, 64 << 10),
    (16, 4 << 10),
    (32, 4 << 10),
    (32, 64 << 10),
    (100, 4 << 10),
    (1000, 4 << 10),
];
/// A file starts anew at this size, so that the disk does not fill up.
const FILE_LEN_MAX: u64 = 64 << 20;

#[derive(Clone, Copy)]
enum Way {
    Sequential,
    Threads,
    Syncfs,
}

struct Files {
    root: File,
    files: Vec<File>,
    bytes: Vec<u8>,
    len: u64,
}

impl Files {
    fn create(dir: &Path, count: usize, size: usize) -> io::Result<Self> {
        let make = |n| OpenOptions::new().write(true).create(true).truncate(true).open(dir.join(format!("{n}")));
        let files = (0..count).map(make).collect::<io::Result<Vec<_>>>()?;
        let root = File::open(dir)?;
        syncfs(&root)?;
        // Not all alike, should the device compress.
        let bytes = (0..size).map(|n| ((n * 2_654_435_761) >> 13) as u8).collect();
        Ok(Self { root, files, bytes, len: 0 })
    }

    /// Appends to every file; not a part of what is measured.
    fn write(&mut self) -> io::Result<()> {
        if self.len + self.bytes.len() as u64 > FILE_LEN_MAX {
            self.len = 0;
            self.files.iter().try_for_each(|file| file.set_len(0))?;
            syncfs(&self.root)?;
        }
        self.files.iter().try_for_each(|file| file.write_all_at(&self.bytes, self.len))?;
        self.len += self.bytes.len() as u64;
        Ok(())
    }

    fn sync(&self, way: Way) -> io::Result<()> {
        match way {
            Way::Sequential => self.files.iter().try_for_each(|file| Ok(fdatasync(file)?)),
            Way::Syncfs => Ok(syncfs(&self.root)?),
            Way::Threads => thread::scope(|scope| {
                let share = self.files.len().div_ceil(THREADS);
                let work = |files: &[File]| files.iter().try_for_each(|file| Ok(fdatasync(file)?));
                let workers: Vec<_> = self
                    .files
                    .chunks(share)
                    .map(|files| scope.spawn(move || -> io::Result<()> { work(files) }))
                    .collect();
                workers.into_iter().try_for_each(|worker| worker.join().expect("a worker panicked"))
            }),
        }
    }
}

/// Median time of a round, milliseconds.
fn measure(dir: &Path, (count, size): (usize, usize), way: Way, budget: Duration) -> io::Result<f64> {
    fs::create_dir_all(dir)?;
    let mut files = Files::create(dir, count, size)?;
    let started = Instant::now();
    let mut rounds = Vec::new();
    while rounds.len() < 3 || (started.elapsed() < budget && rounds.len() < 2000) {
        files.write()?;
        let begin = Instant::now();
        files.sync(way)?;
        rounds.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    drop(files);
    fs::remove_dir_all(dir)?;
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[rounds.len() / 2])
}

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let dir = args.next().map_or_else(env::temp_dir, PathBuf::from).join("millstream-bench-disk");
    let seconds = args.next().and_then(|seconds| seconds.parse().ok()).unwrap_or(2.0);
    let budget = Duration::from_secs_f64(seconds);
    println!("| files | bytes each | fdatasync, ms | {THREADS} threads, ms | syncfs, ms | best, MB/s |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for row in ROWS {
        let mut times = [0.0; 3];
        for (time, way) in times.iter_mut().zip([Way::Sequential, Way::Threads, Way::Syncfs]) {
            *time = measure(&dir, row, way, budget)?;
        }
        let best = times.iter().copied().fold(f64::INFINITY, f64::min);
        let megabytes = (row.0 * row.1) as f64 / 1e6;
        let [sequential, threads, filesystem] = times;
        let rate = megabytes / best * 1e3;
        println!("| {} | {} | {sequential:.2} | {threads:.2} | {filesystem:.2} | {rate:.0} |", row.0, row.1);
    }
    Ok(())
}
