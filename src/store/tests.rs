use millstream_core::partition::{
    AbortedTransaction, AbortedTransactions, BatchKind, BatchSequence, LeaderEpochs, Producers,
};
use millstream_core::replica::{HardState, Membership};
use millstream_core::types::{
    Offset, PartitionId, PeerId, ProducerEpoch, ProducerId, RaftIndex, RaftTerm, Sequence, Timestamp, TopicId,
};
use uuid::Uuid;

use super::*;

fn id(topic: u128, partition: i32) -> PartitionId {
    PartitionId { topic: TopicId(Uuid::from_u128(topic)), partition }
}

fn checkpoint() -> Checkpoint<'static> {
    let mut epochs = LeaderEpochs::default();
    epochs.note(RaftTerm(2), RaftIndex(2), Offset(0));
    epochs.note(RaftTerm(5), RaftIndex(9), Offset(70));
    let mut producers = Producers::default();
    producers.replay(&BatchSequence {
        producer_id: ProducerId(4),
        epoch: ProducerEpoch(1),
        first_sequence: Sequence(0),
        last_sequence: Sequence(9),
        first_offset: Offset(60),
        last_offset: Offset(69),
        timestamp: Timestamp(1),
        kind: BatchKind::Transactional,
    });
    let mut aborted = AbortedTransactions::default();
    aborted.push(AbortedTransaction {
        producer_id: ProducerId(5),
        first_offset: Offset(9),
        last_offset: Offset(12),
        last_stable: Offset(13),
    });
    Checkpoint {
        log: vec![1, 2, 3],
        log_start: Offset(8),
        applied: RaftIndex(9),
        epochs,
        producers: std::borrow::Cow::Owned(producers),
        aborted: std::borrow::Cow::Owned(aborted),
    }
}

#[test]
fn what_is_written_is_found_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (id(1, 0), id(1, 1));
    let hard_state = HardState { term: RaftTerm(3), vote: PeerId(1), commit: RaftIndex(77) };
    let end = SyncedEnd { last_index: RaftIndex(9), next_offset: Offset(70) };
    let membership = Membership { learners: vec![PeerId(7)], ..Membership::of_voters([PeerId(1), PeerId(2)]) };
    {
        let store = Store::open(dir.path()).unwrap();
        store.set_directory_id(Uuid::from_u128(42)).unwrap();
        let mut batch = Batch::default();
        batch.put_hard_state(a, &hard_state);
        batch.put_checkpoint(a, &checkpoint());
        batch.put_synced_end(a, end);
        batch.put_membership(a, &membership, RaftIndex(9));
        batch.put_segment(a, Offset(256), b"second");
        batch.put_segment(a, Offset(0), b"first");
        batch.put_segment(b, Offset(0), b"other");
        batch.put_metadata(b"topic", b"value");
        batch.put_metadata_applied(Offset(12));
        batch.apply_coordinator_record(a, b"group", Some(b"state"));
        batch.apply_coordinator_record(a, b"gone", Some(b"x"));
        batch.apply_coordinator_record(a, b"gone", None);
        batch.put_coordinator_applied(a, Offset(5));
        store.write(batch, Durability::Synced).unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.directory_id().unwrap(), Some(Uuid::from_u128(42)));
    assert_eq!(store.hard_state(a).unwrap(), Some(hard_state));
    assert_eq!(store.hard_state(b).unwrap(), None);
    assert_eq!(store.checkpoint(a).unwrap(), Some(checkpoint()));
    assert_eq!(store.synced_end(a).unwrap(), Some(end));
    assert_eq!(store.membership(a).unwrap(), Some((membership, RaftIndex(9))));
    assert_eq!(store.membership(b).unwrap(), None);
    assert_eq!(store.segments(a).unwrap(), [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(store.metadata().unwrap(), (Offset(12), vec![(b"topic".to_vec(), b"value".to_vec())]));
    assert_eq!(store.coordinator_applied(a).unwrap(), Offset(5));
    let mut records = Vec::new();
    store
        .coordinator_records(a, |k, v| {
            records.push((k.to_vec(), v.to_vec()));
            Ok::<_, StoreError>(())
        })
        .unwrap();
    assert_eq!(records, [(b"group".to_vec(), b"state".to_vec())]);

    let mut batch = Batch::default();
    store.forget_partition(&mut batch, a).unwrap();
    store.write(batch, Durability::Buffered).unwrap();
    assert_eq!(store.checkpoint(a).unwrap(), None);
    assert_eq!(store.membership(a).unwrap(), None);
    assert!(store.segments(a).unwrap().is_empty());
    assert_eq!(store.segments(b).unwrap().len(), 1);
}

#[test]
fn damaged_values_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut batch = Batch::default();
    for kind in [kind::HARD_STATE, kind::CHECKPOINT, kind::SYNCED_END, kind::COORDINATOR_APPLIED, kind::MEMBERSHIP] {
        batch.inner.put(partition_key(kind, id(1, 0)), b"short");
    }
    batch.inner.put([kind::IDENTITY], b"short");
    batch.inner.put([kind::METADATA], b"short");
    store.write(batch, Durability::Buffered).unwrap();
    assert!(store.hard_state(id(1, 0)).is_err());
    assert!(store.checkpoint(id(1, 0)).is_err());
    assert!(store.synced_end(id(1, 0)).is_err());
    assert!(store.coordinator_applied(id(1, 0)).is_err());
    assert!(store.membership(id(1, 0)).is_err());
    assert!(store.directory_id().is_err());
    assert!(store.metadata().is_err());
}

/// A small file system in memory; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where this process may not mount.
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "millstream-test"]).arg(dir.path());
        if !mount.output().is_ok_and(|output| output.status.success()) {
            eprintln!("SKIP: a file system cannot be mounted here");
            return None;
        }
        Some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "umount");
    }
}

#[test]
fn a_store_on_a_full_disk_takes_writes_again_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let store = Store::open(&disk.0.path().join("kv")).unwrap();
    let put = |n: u32, durability| {
        let mut batch = Batch::default();
        batch.put_metadata(&n.to_be_bytes(), &[7; 10_000]);
        store.write(batch, durability)
    };
    put(0, Durability::Synced).unwrap();
    let filler = disk.0.path().join("filler");
    let full = std::fs::write(&filler, vec![0; 64 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let refused = (1..10_000).find_map(|n| put(n, Durability::Synced).err().map(|e| (n, e)));
    let Some((n, StoreError::NoSpace(_))) = refused else { panic!("{refused:?}") };
    assert!(matches!(put(n, Durability::Buffered), Err(StoreError::NoSpace(_))));
    std::fs::remove_file(filler).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while let Err(e) = put(n, Durability::Synced) {
        assert!(matches!(e, StoreError::NoSpace(_)), "{e}");
        assert!(std::time::Instant::now() < until, "still: {e}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(store);
    let store = Store::open(&disk.0.path().join("kv")).unwrap();
    let (_, entities) = store.metadata().unwrap();
    assert_eq!(entities.len(), usize::try_from(n).unwrap() + 1, "all that was taken is there");
}

/// The write-ahead log of a closed store; asserts that there is one.
fn write_ahead_log(dir: &std::path::Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs.remove(0)
}

#[test]
fn a_torn_end_with_holes_is_cut_and_damage_to_what_was_synced_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let put = |store: &Store, term: u64, durability| {
        let mut batch = Batch::default();
        batch.put_hard_state(id(1, 0), &HardState { term: RaftTerm(term), vote: PeerId(1), commit: RaftIndex(1) });
        store.write(batch, durability).unwrap();
    };
    let term = |store: &Store| store.hard_state(id(1, 0)).unwrap().map(|state| state.term.0);
    let store = Store::open(dir.path()).unwrap();
    (1..=10).for_each(|n| put(&store, n, Durability::Synced));
    let synced = std::fs::metadata(write_ahead_log(dir.path())).unwrap().len() as usize;
    (11..=1_000).for_each(|n| put(&store, n, Durability::Buffered));
    drop(store);
    let path = write_ahead_log(dir.path());
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.len() > synced + 20_000);
    let keep = tempfile::tempdir().unwrap();
    let kept = |name: &std::path::Path| keep.path().join(name.file_name().unwrap());
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    for file in &files {
        std::fs::copy(file, kept(file)).unwrap();
    }
    let open_with = |log: &[u8]| {
        std::fs::remove_dir_all(dir.path()).unwrap();
        std::fs::create_dir(dir.path()).unwrap();
        for file in &files {
            std::fs::copy(kept(file), file).unwrap();
        }
        std::fs::write(&path, log).unwrap();
        Store::open(dir.path())
    };
    // A block that did not reach the disk, before others that did.
    let mut holed = whole.clone();
    holed[synced + 4_000..synced + 8_096].fill(0);
    let found = term(&open_with(&holed).unwrap()).unwrap();
    assert!((10..1_000).contains(&found), "{found}");
    let mut rotten = whole.clone();
    rotten[synced / 2] ^= 1;
    assert!(matches!(open_with(&rotten), Err(StoreError::Lost { synced: 10, .. })));
    assert_eq!(term(&open_with(&whole).unwrap()), Some(1_000));
}
