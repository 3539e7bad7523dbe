//! Disks that are full or do not answer, under a whole shard.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::channel;

use millstream_core::replica::Message;
use nix::errno::Errno;
use tokio::sync::{mpsc, oneshot};

use super::super::ask::{Ask, MAILBOX_MAX, tell_flushed};
use super::super::cleaner::{Cleaned, Done, Due};
use super::super::leaders::LeaderInfo;
use super::super::log_config::log_config;
use super::super::open::{Opening, Replica};
use super::super::shard::{Shard, system_clock};
use super::super::shared::Shared;
use super::super::wire::Incoming;
use super::replicas::Cluster;
use super::*;
use crate::log::faults::{Fault, set};
use crate::log::{Dirty, ReadError};
use crate::raft;

const BALLAST: u64 = 1 << 20;

/// As `Node::start`, with one shard, and nothing opened yet.
fn node(dir: &Path) -> (Node, Arc<Store>) {
    let store = Arc::new(Store::open(&dir.join("kv")).unwrap());
    let data = DataDir::open(dir, FlushConfig { ballast_bytes: BALLAST, ..FlushConfig::default() }).unwrap();
    let config =
        PartitionsConfig { shards: 1, producer_id_expiration_ms: 86_400_000, replica_lag_max: Duration::from_secs(30) };
    (
        Node {
            partitions: Partitions::start(
                data,
                store.clone(),
                Identity { peer: PeerId(1), node: NodeId(1), boot: Uuid::nil() },
                None,
                config,
            ),
        },
        store,
    )
}

async fn open(node: &Node, partitions: std::ops::Range<i32>, newborn: bool) -> usize {
    let outcomes = node.partitions.open(partitions.map(|p| to_open(p, newborn)).collect()).await;
    outcomes.iter().filter(|outcome| outcome.failed.is_some()).count()
}

/// The shard looks once a second.
pub(super) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A partition with many keys twice, in many segments.
async fn fill_compacted(node: &Node) {
    let compact = TopicConfig {
        segment_bytes: 1000,
        cleanup: CleanupPolicy { compact: true, delete: false },
        ..TopicConfig::default()
    };
    node.partitions.set_config(id(0), Arc::new(compact)).await;
    for n in 0..200 {
        let mut builder = BatchBuilder::new();
        let (key, value) = (format!("key {}", n % 100), format!("value {n}"));
        builder.push(Timestamp(1000 + n), Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        node.produce(0, builder.finish(), Acks::All).await.unwrap();
    }
}

async fn plan(node: &Node) -> Due {
    let (reply, due) = oneshot::channel();
    let config = CleanerConfig::of(&BrokerConfig::default());
    let ask = Ask::PlanCompaction { config, except: HashSet::new(), reply };
    node.partitions.shard(id(0)).send(ask).await.ok().unwrap();
    due.await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_replica_is_not_opened_again_while_its_compaction_has_files_there() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = node(dir.path());
    assert_eq!(open(&node, 0..2, true).await, 0);
    fill_compacted(&node).await;
    let before = records(&node.get(0));
    let Due { id: due, incarnation, job, producers, compacting } = plan(&node).await;
    assert_eq!(due, id(0));
    let compacted = job.run(&producers).unwrap();
    {
        let _broken = set(dir.path(), Fault::Write(Errno::EIO));
        for partition in 0..2 {
            assert_eq!(node.produce(partition, batch("lost", 1), Acks::All).await, Err(AppendError::Storage));
        }
    }
    // Both are looked at in one go.
    eventually("the other partition leads again", || node.get(1).is_leading()).await;
    assert_eq!(node.get(0).leadership(), Leadership::Offline);
    let (reply, installed) = oneshot::channel();
    let shard = node.partitions.shard(id(0));
    let done = Box::new(Done { id: due, incarnation, compacted, compacting });
    shard.send(Ask::InstallCompacted { done, reply }).await.ok().unwrap();
    assert!(!installed.await.unwrap());
    eventually("the partition leads again", || node.get(0).is_leading()).await;
    assert_eq!(records(&node.get(0)), before);
    let config = CleanerConfig::of(&BrokerConfig::default());
    assert_eq!(node.partitions.compact_one(&config, &HashSet::new()).await, Cleaned::One);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compaction_of_a_halted_replica_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = node(dir.path());
    open(&node, 0..1, true).await;
    fill_compacted(&node).await;
    let Due { job, producers, compacting, .. } = plan(&node).await;
    {
        let _broken = set(dir.path(), Fault::Write(Errno::EIO));
        assert_eq!(node.produce(0, batch("lost", 1), Acks::All).await, Err(AppendError::Storage));
    }
    assert!(matches!(job.run(&producers), Err(ReadError::Gone { .. })));
    drop(compacting);
    eventually("the partition leads again", || node.get(0).is_leading()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_halted_while_its_group_sleeps_is_replaced() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    fill_compacted(cluster.node(leader)).await;
    while !cluster.is_quiet().await {}
    // It is not opened again meanwhile, and its node lives.
    let compaction = plan(cluster.node(leader)).await;
    {
        let _broken = set(cluster.dir(leader), Fault::Write(Errno::EIO));
        assert_eq!(cluster.node(leader).produce(0, batch("lost", 1), Acks::All).await, Err(AppendError::Storage));
    }
    let other = cluster.leader(0, leader).await;
    assert_eq!(cluster.node(other).produce(0, batch("x", 1), Acks::All).await.unwrap().base_offset, Offset(200));
    assert_eq!(cluster.node(leader).get(0).leadership(), Leadership::Offline);
    drop(compaction);
    cluster.agree(0, 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_replica_refuses_however_much_was_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = node(dir.path());
    open(&node, 0..1, true).await;
    let _broken = set(dir.path(), Fault::Write(Errno::EIO));
    let bytes = batch(&"x".repeat(1_000_000), 1);
    let header = BatchHeader::parse(&bytes).unwrap();
    let ticket = Ticket::new(40, None);
    let place = |place| Append {
        id: id(0),
        header,
        bytes: bytes.clone(),
        acks: Acks::All,
        guard: None,
        ticket: ticket.clone(),
        place,
    };
    node.partitions.append((0..39).map(place).collect()).await;
    node.partitions.append(vec![place(39)]).await;
    tokio::time::timeout(Duration::from_secs(20), ticket.completed()).await.unwrap();
    assert!(ticket.take().into_iter().all(|outcome| outcome.is_some_and(|outcome| outcome.is_err())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_without_room_is_done_later() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = node(dir.path());
    open(&node, 0..1, true).await;
    fill_compacted(&node).await;
    let config = CleanerConfig::of(&BrokerConfig::default());
    {
        let _full = set(dir.path(), Fault::Room(0));
        assert_eq!(node.partitions.compact_one(&config, &HashSet::new()).await, Cleaned::Later(id(0)));
    }
    assert_eq!(node.partitions.compact_one(&config, &HashSet::new()).await, Cleaned::One);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_could_not_be_made_is_made_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = node(dir.path());
    {
        let _full = set(dir.path(), Fault::Room(0));
        assert_eq!(open(&node, 0..2, true).await, 2);
        assert_eq!(node.get(0).leadership(), Leadership::Offline);
        assert_eq!(node.produce(0, batch("x", 1), Acks::All).await, Err(AppendError::Storage));
    }
    eventually("both lead", || node.get(0).is_leading() && node.get(1).is_leading()).await;
    assert_eq!(node.produce(0, batch("x", 1), Acks::All).await.unwrap().base_offset, Offset(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_records_and_takes_them_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = node(dir.path());
    open(&node, 0..2, true).await;
    // More than is set aside.
    let large = batch(&"x".repeat(200_000), 1);
    let mut taken = 0;
    {
        let _full = set(dir.path(), Fault::Room(0));
        assert_eq!(node.produce(0, large.clone(), Acks::All).await, Err(AppendError::Storage));
        assert!(node.get(0).is_leading(), "refused before anything was written");
        assert!(!dir.path().join("ballast").exists(), "what is kept free is given up");
        assert_eq!(node.produce(1, batch("x", 1), Acks::All).await, Err(AppendError::Storage), "so all must wait");
    }
    eventually("there is room again", || dir.path().join("ballast").exists()).await;
    for partition in 0..2 {
        assert_eq!(node.produce(partition, large.clone(), Acks::All).await.unwrap().base_offset, Offset(taken));
    }
    taken += 1;
    // Room was found, but the write fails: the replica halts, and is opened again.
    {
        let _full = set(dir.path(), Fault::Write(Errno::ENOSPC));
        assert_eq!(node.produce(0, batch("x", 1), Acks::All).await, Err(AppendError::Storage));
        assert_eq!(node.get(0).leadership(), Leadership::Offline);
    }
    eventually("it leads again, with room", || node.get(0).is_leading() && dir.path().join("ballast").exists()).await;
    assert_eq!(node.produce(0, large, Acks::All).await.unwrap().base_offset, Offset(taken));
    assert_eq!(node.get(0).high_watermark(), Offset(taken + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_waits_for_room_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (node, store) = node(dir.path());
    store.full.store(true, Ordering::Relaxed);
    let opening = open(&node, 0..1, true);
    tokio::pin!(opening);
    // The ballast goes with the first write that finds no room.
    tokio::select! {
        _ = &mut opening => panic!("led without a stored vote"),
        () = eventually("the ballast is given up", || !dir.path().join("ballast").exists()) => {}
    }
    store.full.store(false, Ordering::Relaxed);
    assert_eq!(opening.await, 0);
    assert!(node.get(0).is_leading());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_trimmed_before_a_crash_is_deleted_after_it() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (node, store) = node(dir.path());
        open(&node, 0..1, true).await;
        for n in 0..40 {
            node.produce(0, batch(&format!("record {n}"), 1), Acks::All).await.unwrap();
        }
        // Nothing is deleted when the store does not take the new start.
        store.full.store(true, Ordering::Relaxed);
        assert_eq!(node.get(0).trim(Offset(40)).await, Ok(Offset(40)));
        assert!(node.get(0).segment_count() > 3);
        // The end stores it, and has no time for deletions.
        store.full.store(false, Ordering::Relaxed);
        node.partitions.stop().await;
        let checkpoint = store.checkpoint(id(0)).unwrap().unwrap();
        assert_eq!(checkpoint.log_start, Offset(40));
    }
    let (node, _) = node(dir.path());
    open(&node, 0..1, false).await;
    eventually("the segments are gone", || node.get(0).segment_count() == 1).await;
    assert_eq!((node.get(0).log_start(), node.get(0).high_watermark()), (Offset(40), Offset(40)));
}

/// What a shard without a task uses.
fn shared(dir: &Path) -> Arc<Shared> {
    shared_with_clock(dir, system_clock)
}

fn shared_with_clock(dir: &Path, clock: fn() -> Timestamp) -> Arc<Shared> {
    Arc::new(Shared {
        dir: DataDir::open(dir, FlushConfig::default()).unwrap(),
        store: Arc::new(Store::open(&dir.join("kv")).unwrap()),
        identity: Identity { peer: PeerId(1), node: NodeId(1), boot: Uuid::nil() },
        outlet: None,
        caller: None,
        snapshots: Arc::default(),
        throttles: crate::partition::throttle::Throttles::default(),
        peers: Default::default(),
        leaders: Default::default(),
        dead: Default::default(),
        silent: Default::default(),
        announcements: Default::default(),
        replica_lag_max: Duration::from_secs(30),
        clock,
        producer_id_expiration_ms: 0.into(),
    })
}

/// A shard without a task, and on it a newborn replica of the first of these peers.
fn shard_with(shared: &Arc<Shared>, voters: &[u64]) -> Shard {
    let (me, mailbox) = mpsc::channel(MAILBOX_MAX);
    let mut shard = Shard::new(shared.clone(), mailbox);
    let ToOpen { name, config, since, .. } = to_open(0, true);
    let handle = Arc::new(Partition::new(id(0), name, config.clone(), me));
    let voters = voters.iter().copied().map(PeerId).collect();
    let (member, config) = (raft::Member { peer: PeerId(1), voters, since }, log_config(&config));
    let recovered = raft::create(&shared.dir, &shared.store, id(0), config.clone(), &member).unwrap();
    let replica = Replica::Recovered(Box::new(recovered));
    let (reply, _) = oneshot::channel();
    shard.open(vec![Opening { shared: handle, config, replica, member, members: None, stands: false }], reply);
    shard
}

/// Opens the halted replica once nothing of it is on its way to the store.
async fn reopened(shard: &mut Shard) {
    for _ in 0..1000 {
        shard.reopen();
        if shard.owned[&id(0)].group.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it stays offline");
}

/// The second peer leads in term 5, and what it begins with is committed.
fn begins_to_lead() -> Incoming {
    let (append, to, from, term, term_before, before, commit) = (1_u8, 1, 2, 5, 1, 1, 2);
    let mut bytes = vec![append];
    bytes.extend([to, from, term, term_before, before, commit, 0, 0, 0, 0].map(u64::to_be_bytes).concat());
    let (reject, context_len, entries, index, data_len) = (0_u8, 0_u32, 1_u32, 2_u64, 0_u32);
    bytes.push(reject);
    bytes.extend([context_len, entries].map(u32::to_be_bytes).concat());
    bytes.extend([index, term].map(u64::to_be_bytes).concat());
    bytes.extend(data_len.to_be_bytes());
    Incoming { id: id(0), message: Message::decode(&bytes).unwrap(), batches: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_replica_begins_anew_when_the_leader_must_know_that_the_others_have_all_and_it_is_its_turn() {
    static CLOCK_MS: AtomicI64 = AtomicI64::new(0);
    let dir = tempfile::tempdir().unwrap();
    let shared = shared_with_clock(dir.path(), || Timestamp(CLOCK_MS.load(Ordering::Relaxed)));
    let mut shard = shard_with(&shared, &[1, 2, 3]);
    // A new leader takes all for in sync, as long as they may lag: 30 s.
    let info = LeaderInfo { isr: [1, 2, 3].map(NodeId).into(), ..LeaderInfo::of(NodeId(2), LeaderEpoch(5)) };
    shared.leaders.note(Uuid::nil(), [(id(0), info)]);
    let begun = tokio::time::Instant::now();
    let is_open_at = |shard: &mut Shard, seconds| {
        shard.turn();
        shard.look_after_hurt(begun + Duration::from_secs(seconds));
        shard.owned[&id(0)].group.is_some()
    };
    shard.is_damaged(id(0));
    assert!(is_open_at(&mut shard, 0) && is_open_at(&mut shard, 50), "nobody leads");
    shard.step(vec![begins_to_lead()]);
    assert!(is_open_at(&mut shard, 51) && is_open_at(&mut shard, 85));
    for others_turn in [2_000, 3_999, 4_000, 11_999, 14_000] {
        CLOCK_MS.store(others_turn, Ordering::Relaxed);
        assert!(is_open_at(&mut shard, 87), "{others_turn}");
    }
    CLOCK_MS.store(12_000, Ordering::Relaxed);
    assert!(!is_open_at(&mut shard, 87));
    reopened(&mut shard).await;
    assert!(shard.owned[&id(0)].group.as_ref().unwrap().replica().is_held() && shard.hurt.is_empty());
    // The scrub had read the log of before.
    shard.is_damaged(id(0));
    assert!(shard.hurt.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_replica_that_is_halted_for_something_else_keeps_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let mut shard = shard_with(&shared, &[1, 2, 3]);
    shard.step(vec![begins_to_lead()]);
    shard.turn();
    eventually("its term is stored", || shared.store.hard_state(id(0)).unwrap().is_some()).await;
    shard.turn();
    shard.is_damaged(id(0));
    // As of a full disk.
    shard.halt(id(0));
    reopened(&mut shard).await;
    let group = shard.owned[&id(0)].group.as_ref().unwrap();
    assert!(!group.replica().is_held() && group.log().last_index().0 == 2, "it learns anew");
    assert!(!shared.dir.has_damaged(id(0)) && shard.hurt.contains_key(&id(0)), "it is still to be looked after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_replica_is_not_opened_again_while_its_vote_is_on_its_way_to_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let mut shard = shard_with(&shared, &[1]);
    // It stands for election: its vote finds no room, and is tried again a second later.
    shared.store.full.store(true, Ordering::Relaxed);
    shard.turn();
    eventually("the store was full", || shared.dir.is_full()).await;
    shared.store.full.store(false, Ordering::Relaxed);
    shard.halt(id(0));
    shard.reopen();
    let is_open = |shard: &Shard| shard.owned[&id(0)].group.is_some();
    assert!(!is_open(&shard), "what is written later would undo what it says by then");
    eventually("the vote is stored", || shared.store.hard_state(id(0)).unwrap().is_some()).await;
    let stored = shared.store.hard_state(id(0)).unwrap().unwrap();
    reopened(&mut shard).await;
    assert!(shard.owned[&id(0)].group.as_ref().unwrap().term() > stored.term);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_holds_up_no_flush() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let (me, mailbox) = mpsc::channel(MAILBOX_MAX);
    let shard = Shard::new(shared.clone(), mailbox);
    while me.try_send(Ask::Retain).is_ok() {}
    shared.dir.flush(Dirty::default(), tell_flushed(shard.told_to.clone(), Vec::new()));
    let (flushed, done) = channel();
    shared.dir.flush(Dirty::default(), Box::new(move || flushed.send(()).unwrap()));
    done.recv_timeout(Duration::from_secs(20)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_16_mib_of_a_partition_wait_for_their_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, _) = node(dir.path());
    let store = Arc::new(Store::open(&dir.path().join("kv2")).unwrap());
    let data = DataDir::open(dir.path(), FlushConfig { ballast_bytes: BALLAST, ..FlushConfig::default() }).unwrap();
    let config =
        PartitionsConfig { shards: 1, producer_id_expiration_ms: 86_400_000, replica_lag_max: Duration::from_secs(30) };
    node.partitions = Partitions::start(
        data.clone(),
        store,
        Identity { peer: PeerId(1), node: NodeId(1), boot: Uuid::nil() },
        None,
        config,
    );
    open(&node, 0..1, true).await;
    node.partitions.set_config(id(0), Arc::new(TopicConfig::default())).await;
    // The flusher is held, so nothing commits.
    let (release, held) = channel::<()>();
    data.flush(Dirty::default(), Box::new(move || held.recv().unwrap_or_default()));
    let bytes = batch(&"x".repeat(1_000_000), 1);
    let header = BatchHeader::parse(&bytes).unwrap();
    let ticket = Ticket::new(40, None);
    for place in 0..40 {
        let append = Append {
            id: id(0),
            header,
            bytes: bytes.clone(),
            acks: Acks::All,
            guard: None,
            ticket: ticket.clone(),
            place,
        };
        node.partitions.append(vec![append]).await;
    }
    // Asked after them all.
    node.get(0).producers().await.unwrap();
    node.get(0).producers().await.unwrap();
    let most = i64::try_from(super::super::append::UNCOMMITTED_BYTES_MAX / bytes.len() as u64).unwrap();
    // The last alone is little: its write may wait for the flush.
    let end = node.get(0).log_end().0;
    assert!((most - 1..=most).contains(&end), "{end} of {most}");
    release.send(()).unwrap();
    ticket.completed().await;
    let offsets: Vec<Offset> = ticket.take().into_iter().map(|o| o.unwrap().unwrap().base_offset).collect();
    assert_eq!(offsets, (0..40).map(Offset).collect::<Vec<_>>());
}
