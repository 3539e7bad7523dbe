//! What the flusher promises.

use std::fs::File;
use std::process::Command;
use std::sync::mpsc::channel;

use super::super::partition_dir::PartitionDir;
use super::*;

fn segment_file(file: File) -> Arc<SegmentFile> {
    let dir = Arc::new(PartitionDir::new(PathBuf::from("/nonexistent")));
    Arc::new(SegmentFile { file: Arc::new(file), dir })
}

#[test]
fn every_submission_is_answered_whatever_the_method_and_the_number_of_files() {
    for method in [FlushMethod::Auto, FlushMethod::File, FlushMethod::Filesystem] {
        let root = tempfile::tempdir().unwrap();
        let config = FlushConfig { method, files_max: 4, threads: 3, ..FlushConfig::default() };
        let dir = DataDir::open(root.path(), config).unwrap();
        let (sender, receiver) = channel();
        for count in [0, 1, 2, 3, 8, 30] {
            let files = (0..count).map(|_| segment_file(tempfile::tempfile_in(root.path()).unwrap())).collect();
            let sender = sender.clone();
            dir.flush(files, Box::new(move || sender.send(count).unwrap()));
            assert_eq!(receiver.recv().unwrap(), count);
        }
        let stats = dir.flush_stats();
        assert_eq!((stats.rounds, stats.submissions), (6, 6));
        let by_filesystem = match method {
            FlushMethod::Auto => 2,
            FlushMethod::File => 0,
            FlushMethod::Filesystem => 5,
        };
        assert_eq!(stats.filesystem_rounds, by_filesystem);
    }
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
        vec![file.clone()],
        Box::new(move || {
            started.send(0).unwrap();
            release.recv().unwrap();
        }),
    );
    assert_eq!(receiver.recv().unwrap(), 0);
    for n in 1..=20 {
        let sender = sender.clone();
        dir.flush(vec![file.clone()], Box::new(move || sender.send(n).unwrap()));
    }
    held.send(()).unwrap();
    let answers: Vec<i32> = (0..20).map(|_| receiver.recv().unwrap()).collect();
    assert_eq!(answers, (1..=20).collect::<Vec<_>>());
    let stats = dir.flush_stats();
    assert_eq!((stats.rounds, stats.files), (2, 2), "one round, and the file once in it");
}

#[test]
fn what_was_submitted_is_answered_before_the_directory_closes() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
    let (sender, receiver) = channel();
    let last = dir.clone();
    dir.flush(
        Vec::new(),
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
    dir.flush(Vec::new(), Box::new(|| panic!("a test's panic")));
    let (sender, receiver) = channel();
    dir.flush(Vec::new(), Box::new(move || sender.send(()).unwrap()));
    receiver.recv().unwrap();
}

#[test]
fn new_directories_and_files_are_synced_with_the_first_flush() {
    let mut f = Fixture::new(LogConfig { segment_bytes: 400, ..LogConfig::default() });
    f.produce(&batch(1, 300, NOW));
    let files = f.log().dirty_files();
    assert_eq!(files.len(), 1);
    let unsynced = files[0].dir.take_unsynced();
    // The partition's, the topic's and `log/`.
    assert_eq!(unsynced.len(), 3, "{unsynced:?}");
    assert!(f.log().dirty_files().is_empty());
    f.produce(&batch(1, 300, NOW));
    f.produce(&batch(1, 300, NOW));
    let files = f.log().dirty_files();
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
        dir.flush(vec![segment_file(file)], Box::new(move || sender.send(()).unwrap()));
        receiver.recv().ok();
        std::process::exit(0);
    }
    let test = "log::tests::flush::a_failed_sync_stops_the_process";
    let child =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", test]).env(CHILD, "1").output().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&child.status);
    assert_eq!(signal, Some(nix::libc::SIGABRT), "{child:?}");
}
