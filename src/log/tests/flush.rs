//! What the flusher promises.

use std::fs::File;
use std::process::Command;
use std::sync::mpsc::channel;

use super::super::flusher::{Dirty, GATHERED_BYTES, GATHERS_FROM_BYTES, takes_filesystem};
use super::super::partition_dir::{PartitionDir, SegmentFile};
use super::*;

fn segment_file(file: File) -> Arc<SegmentFile> {
    let dir = Arc::new(PartitionDir::new(PathBuf::from("/nonexistent")));
    Arc::new(SegmentFile { file: Arc::new(file), dir })
}

fn dirty(file: &Arc<SegmentFile>, bytes: u64) -> Dirty {
    Dirty { files: vec![file.clone()], bytes }
}

#[test]
fn every_submission_is_answered_whatever_the_method_and_the_number_of_files() {
    for method in [FlushMethod::Auto, FlushMethod::File, FlushMethod::Filesystem] {
        let root = tempfile::tempdir().unwrap();
        let config = FlushConfig { method, files_max: 4, threads: 3, ..FlushConfig::default() };
        let dir = DataDir::open(root.path(), config).unwrap();
        let (sender, receiver) = channel();
        for count in [0, 1, 2, 3, 4, 40] {
            let files = (0..count).map(|_| segment_file(tempfile::tempfile_in(root.path()).unwrap())).collect();
            let sender = sender.clone();
            dir.flush(Dirty { files, bytes: 0 }, Box::new(move || sender.send(count).unwrap()));
            assert_eq!(receiver.recv().unwrap(), count);
        }
        let stats = dir.flush_stats();
        assert_eq!((stats.rounds, stats.submissions), (6, 6));
        let by_filesystem = match method {
            FlushMethod::Auto => 1,
            FlushMethod::File => 0,
            FlushMethod::Filesystem => 5,
        };
        assert_eq!(stats.filesystem_rounds, by_filesystem);
    }
}

#[test]
fn a_slow_file_system_is_flushed_by_files_for_a_while() {
    let takes = |rests| [4, 5, 32, 33].map(|files| takes_filesystem(files, 4, rests));
    assert_eq!(takes(false), [false, true, true, true]);
    assert_eq!(takes(true), [false, false, false, true]);
}

#[test]
fn submissions_gather_while_a_flush_runs() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
    let file = segment_file(tempfile::tempfile_in(root.path()).unwrap());
    let (held, release) = channel::<()>();
    let (sender, receiver) = channel();
    let started = sender.clone();
    // The first round's answer holds the flusher, so that the rest comes together.
    dir.flush(
        dirty(&file, 0),
        Box::new(move || {
            started.send(0).unwrap();
            release.recv().unwrap();
        }),
    );
    assert_eq!(receiver.recv().unwrap(), 0);
    for n in 1..=20 {
        let sender = sender.clone();
        dir.flush(dirty(&file, 0), Box::new(move || sender.send(n).unwrap()));
    }
    held.send(()).unwrap();
    let answers: Vec<i32> = (0..20).map(|_| receiver.recv().unwrap()).collect();
    assert_eq!(answers, (1..=20).collect::<Vec<_>>());
    let stats = dir.flush_stats();
    assert_eq!((stats.rounds, stats.files), (2, 2), "one round, and the file once in it");
}

#[test]
fn after_a_large_round_the_next_gathers_until_it_is_large_too() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
    let file = segment_file(tempfile::tempfile_in(root.path()).unwrap());
    let (sender, receiver) = channel();
    let submit = |bytes| {
        let sender = sender.clone();
        dir.flush(dirty(&file, bytes), Box::new(move || sender.send(bytes).unwrap()));
    };
    submit(GATHERS_FROM_BYTES);
    receiver.recv().unwrap();
    // A little work waits a while for more, and is done when none comes.
    submit(1);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert_eq!(dir.flush_stats().rounds, 2);
    // Enough of it waits for nothing.
    submit(GATHERED_BYTES);
    submit(GATHERED_BYTES + 1);
    assert_eq!((receiver.recv().unwrap(), receiver.recv().unwrap()), (GATHERED_BYTES, GATHERED_BYTES + 1));
}

#[test]
fn what_was_submitted_is_answered_before_the_directory_closes() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
    let (sender, receiver) = channel();
    let last = dir.clone();
    dir.flush(
        Dirty::default(),
        Box::new(move || {
            // The last handle goes on the flusher's own thread.
            drop(last);
            sender.send(()).unwrap();
        }),
    );
    drop(dir);
    receiver.recv().unwrap();
}

#[test]
fn a_panic_in_an_answer_leaves_the_flusher_alive() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
    dir.flush(Dirty::default(), Box::new(|| panic!("a test's panic")));
    let (sender, receiver) = channel();
    dir.flush(Dirty::default(), Box::new(move || sender.send(()).unwrap()));
    receiver.recv().unwrap();
}

#[test]
fn new_directories_and_files_are_synced_with_the_first_flush() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 400, ..LogConfig::default() });
    f.produce(&batch(1, 300, NOW));
    let files = f.log().take_dirty().files;
    assert_eq!(files.len(), 1);
    let unsynced = files[0].dir.take_unsynced();
    // The partition's, the topic's and `log/`.
    assert_eq!(unsynced.len(), 3, "{unsynced:?}");
    assert!(f.log().take_dirty().files.is_empty());
    f.produce(&batch(1, 300, NOW));
    f.produce(&batch(1, 300, NOW));
    let files = f.log().take_dirty().files;
    assert_eq!(files.len(), 2, "the segment that was closed, and the active one; the first has nothing new");
    assert_eq!(files[0].dir.take_unsynced(), [f.path()]);
}

const CHILD: &str = "MILLSTREAM_TEST_FAILED_SYNC";

#[test]
fn a_failed_sync_stops_the_process() {
    if std::env::var_os(CHILD).is_some() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
        // A pipe cannot be synced.
        let (reader, _writer) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let (sender, receiver) = channel();
        dir.flush(dirty(&segment_file(file), 0), Box::new(move || sender.send(()).unwrap()));
        receiver.recv().ok();
        std::process::exit(0);
    }
    let test = "log::tests::flush::a_failed_sync_stops_the_process";
    let child =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", test]).env(CHILD, "1").output().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&child.status);
    assert_eq!(signal, Some(nix::libc::SIGABRT), "{child:?}");
}
