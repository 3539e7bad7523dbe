//! Brings written bytes to the disk: one flush at a time for a data directory, and while it runs the next gathers.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::error;

use super::config::{FlushConfig, FlushMethod};
use super::partition_dir::{SegmentFile, sync_dir};

/// Called when a round is on disk.
pub(super) type Done = Box<dyn FnOnce() + Send>;

/// What the flusher has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushStats {
    /// Flushes; many submissions may share one.
    pub rounds: u64,
    /// Submissions.
    pub submissions: u64,
    /// Files synced one by one.
    pub files: u64,
    /// Rounds done by `syncfs`.
    pub filesystem_rounds: u64,
    /// Time that syncs took, in sum.
    pub busy: Duration,
}

#[derive(Default)]
struct Counters {
    rounds: AtomicU64,
    submissions: AtomicU64,
    files: AtomicU64,
    filesystem_rounds: AtomicU64,
    busy_us: AtomicU64,
}

/// Written since the last flush.
#[derive(Default)]
pub struct Dirty {
    pub files: Vec<Arc<SegmentFile>>,
    /// Bytes written to them.
    pub bytes: u64,
}

impl Dirty {
    /// Adds another log's.
    pub fn extend(&mut self, other: Dirty) {
        self.files.extend(other.files);
        self.bytes += other.bytes;
    }
}

/// A round of at least so many bytes says that many write at once: the next one gathers for a while.
pub(super) const GATHERS_FROM_BYTES: u64 = 256 << 10;
/// How long a round gathers at most. A fixed cost a round (waking, submitting, the device's flush) is shared by more
/// bytes: at 64 KiB a batch from 80 requests in flight it takes an eighth off the CPU time, for some 2 ms more until the
/// acknowledgement.
const GATHERS_FOR: Duration = Duration::from_micros(1500);
/// Bytes that are worth a round at once.
pub(super) const GATHERED_BYTES: u64 = 4 << 20;
/// A round by `syncfs` that takes longer waits for what others have written to the file system.
const FILESYSTEM_SLOW: Duration = Duration::from_millis(50);
/// How long rounds then go by files, up to `FILES_SLOW_MAX` of them.
const FILESYSTEM_RESTS: Duration = Duration::from_secs(10);
const FILES_SLOW_MAX: usize = 32;

/// What waits for the next round. Bounded by what its submitters have written: a partition's uncommitted bytes are.
#[derive(Default)]
struct Pending {
    dirty: Dirty,
    done: Vec<Done>,
    /// Bytes from which on a submission wakes the flusher; `None` while it runs a round.
    wakes_at: Option<u64>,
    closed: bool,
}

struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
    counters: Counters,
}

/// The threads. Dropping it finishes what was submitted.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flusher {
    /// `root`: a descriptor of the data directory, opened before anything is written, so that `syncfs` reports errors.
    pub fn start(root: Arc<File>, config: FlushConfig, syncfs_tells_errors: bool) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { pending: Mutex::default(), wake: Condvar::new(), counters: Counters::default() });
        let rounds = Rounds {
            shared: shared.clone(),
            root,
            config,
            syncfs_tells_errors,
            workers: Workers { threads: Vec::new(), jobs: None },
            filesystem_rests_until: None,
        };
        let thread = thread::Builder::new().name("flush".into()).spawn(move || rounds.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub fn submit(&self, dirty: Dirty, done: Done) {
        self.shared.counters.submissions.fetch_add(1, Ordering::Relaxed);
        let mut pending = self.shared.lock();
        pending.dirty.extend(dirty);
        pending.done.push(done);
        let wakes = pending.wakes_at.is_some_and(|from| pending.dirty.bytes >= from);
        drop(pending);
        if wakes {
            self.shared.wake.notify_one();
        }
    }

    pub fn stats(&self) -> FlushStats {
        let c = &self.shared.counters;
        FlushStats {
            rounds: c.rounds.load(Ordering::Relaxed),
            submissions: c.submissions.load(Ordering::Relaxed),
            files: c.files.load(Ordering::Relaxed),
            filesystem_rounds: c.filesystem_rounds.load(Ordering::Relaxed),
            busy: Duration::from_micros(c.busy_us.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        // The last handle may go in a `done` of the flusher itself, which cannot wait for its own end.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id())
            && thread.join().is_err()
        {
            error!("the flusher panicked");
        }
    }
}

/// The thread that runs the rounds.
struct Rounds {
    shared: Arc<Shared>,
    root: Arc<File>,
    config: FlushConfig,
    syncfs_tells_errors: bool,
    workers: Workers,
    /// `auto` takes no `syncfs` until then: the last one was slow.
    filesystem_rests_until: Option<Instant>,
}

impl Rounds {
    fn run(mut self) {
        let mut gathers = false;
        while let Some((dirty, done)) = self.next_round(gathers) {
            gathers = dirty.bytes >= GATHERS_FROM_BYTES;
            let started = Instant::now();
            if let Err(e) = self.sync(dirty.files) {
                // The kernel may have dropped the pages: what is on disk is not known any more.
                error!(error = %e, "a sync failed, the process stops");
                std::process::abort();
            }
            let counters = &self.shared.counters;
            let busy_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            counters.busy_us.fetch_add(busy_us, Ordering::Relaxed);
            counters.rounds.fetch_add(1, Ordering::Relaxed);
            for done in done {
                // One that panics must not take the flushes of all others with it.
                if catch_unwind(AssertUnwindSafe(done)).is_err() {
                    error!("what was to follow a flush panicked");
                }
            }
        }
    }

    /// What there is to sync. `gathers`: the round before was large, so this one will be, too.
    fn next_round(&self, gathers: bool) -> Option<(Dirty, Vec<Done>)> {
        let wait = |pending, timeout| {
            let waited = self.shared.wake.wait_timeout(pending, timeout);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        let mut pending = self.shared.lock();
        if gathers {
            pending.wakes_at = Some(GATHERED_BYTES);
            let until = Instant::now() + GATHERS_FOR;
            while pending.dirty.bytes < GATHERED_BYTES && !pending.closed {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                pending = wait(pending, left);
            }
        }
        pending.wakes_at = Some(0);
        while pending.done.is_empty() {
            if pending.closed {
                return None;
            }
            pending = self.shared.wake.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        pending.wakes_at = None;
        Some((std::mem::take(&mut pending.dirty), std::mem::take(&mut pending.done)))
    }

    fn sync(&mut self, mut files: Vec<Arc<SegmentFile>>) -> io::Result<()> {
        let mut seen = HashSet::with_capacity(files.len());
        files.retain(|file| seen.insert(Arc::as_ptr(file)));
        // Taken before the sync, so that what is made during it waits for the next.
        let dirs: HashSet<PathBuf> = files.iter().flat_map(|file| file.dir.take_unsynced()).collect();
        let counters = &self.shared.counters;
        if self.by_filesystem(files.len()) {
            counters.filesystem_rounds.fetch_add(1, Ordering::Relaxed);
            let started = Instant::now();
            nix::unistd::syncfs(&*self.root)?;
            let now = Instant::now();
            if now - started > FILESYSTEM_SLOW {
                self.filesystem_rests_until = Some(now + FILESYSTEM_RESTS);
            }
            return Ok(());
        }
        counters.files.fetch_add(files.len() as u64, Ordering::Relaxed);
        for dir in dirs {
            sync_dir(&dir)?;
        }
        self.workers.sync(files, self.config.threads)
    }

    fn by_filesystem(&self, files: usize) -> bool {
        let rests = self.filesystem_rests_until.is_some_and(|until| Instant::now() < until);
        match self.config.method {
            FlushMethod::File => false,
            FlushMethod::Filesystem => files > 0,
            FlushMethod::Auto => self.syncfs_tells_errors && takes_filesystem(files, self.config.files_max, rests),
        }
    }
}

/// Whether `auto` takes `syncfs` for so many files.
pub(super) fn takes_filesystem(files: usize, files_max: usize, rests: bool) -> bool {
    files > files_max.max(if rests { FILES_SLOW_MAX } else { 0 })
}

/// Threads that sync files at the flusher's side.
struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// Jobs go in here, one a file of the round.
    jobs: Option<Jobs>,
}

struct Jobs {
    sender: Sender<Job>,
    receiver: Arc<Mutex<Receiver<Job>>>,
}

struct Job {
    file: Arc<SegmentFile>,
    answer: Sender<io::Result<()>>,
}

fn fdatasync(file: &SegmentFile) -> io::Result<()> {
    Ok(nix::unistd::fdatasync(&*file.file)?)
}

impl Workers {
    /// Syncs all, in parallel when they are several. The caller's thread does its share.
    fn sync(&mut self, mut files: Vec<Arc<SegmentFile>>, threads: usize) -> io::Result<()> {
        let Some(own) = files.pop() else { return Ok(()) };
        let helpers = files.len().min(threads.saturating_sub(1));
        if helpers == 0 {
            files.push(own);
            return files.iter().try_for_each(|file| fdatasync(file));
        }
        let Jobs { sender, receiver: queue } = self.jobs.get_or_insert_with(|| {
            let (sender, receiver) = channel();
            Jobs { sender, receiver: Arc::new(Mutex::new(receiver)) }
        });
        while self.threads.len() < helpers {
            let queue = queue.clone();
            let name = format!("flush-{}", self.threads.len() + 1);
            self.threads.push(thread::Builder::new().name(name).spawn(move || work(&queue))?);
        }
        let (answer, answers) = channel();
        let sent = files.len();
        for file in files {
            sender.send(Job { file, answer: answer.clone() }).map_err(io::Error::other)?;
        }
        let mut result = fdatasync(&own);
        // Help while there is something left, then wait for the rest.
        while let Some(job) = next_job_now(queue) {
            answer_job(job);
        }
        for _ in 0..sent {
            result = result.and(answers.recv().map_err(io::Error::other)?);
        }
        result
    }
}

fn next_job_now(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    // A worker that waits for a job holds the lock: then there is none left.
    queue.try_lock().ok()?.try_recv().ok()
}

fn answer_job(job: Job) {
    let result = fdatasync(&job.file);
    // Nobody waits any more when the flusher ended; then nothing rests on the answer.
    drop(job.answer.send(result));
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => answer_job(job),
            Err(_) => return,
        }
    }
}
