//! Replicas whose leader's log no longer reaches back to where they end.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use millstream_core::partition::{LeaderEpochs, Producers};
use millstream_core::replica::{Membership, SnapshotMeta};
use millstream_core::types::{RaftIndex, RaftTerm};

use super::super::snapshot::Offer;
use super::faults::eventually;
use super::replicas::Cluster;
use super::*;
use crate::log::{Incoming, LogStart};
use crate::raft::{Replacement, put_replacement};
use crate::store::{Checkpoint, Durability};

fn compact(segment_bytes: i32) -> Arc<TopicConfig> {
    let segment_bytes = segment_bytes.try_into().unwrap();
    let cleanup = CleanupPolicy { compact: true, delete: false };
    Arc::new(TopicConfig { segment_bytes, cleanup, ..TopicConfig::default() })
}

fn keyed(key: i64, value: &str) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(1000 + key), Some(format!("key {key}").as_bytes()), Some(value.as_bytes()), &[]);
    builder.finish()
}

/// All that can be read, from the log start on.
fn log_bytes(partition: &Partition) -> Vec<u8> {
    let (mut found, mut next) = (Vec::new(), partition.log_start());
    while next < partition.high_watermark() {
        let bytes = partition.read_bytes(next, 1 << 20).unwrap();
        assert!(!bytes.is_empty(), "nothing at {next}");
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse_checked(rest).unwrap();
            (rest, next) = (&rest[header.size_bytes()..], header.next_offset());
        }
        found.extend_from_slice(&bytes);
    }
    found
}

/// Waits until a replica is as far as another, and compares them.
async fn same(cluster: &Cluster, partition: i32, nodes: [i32; 2]) {
    let [one, other] = nodes.map(|node| cluster.node(node).get(partition));
    eventually("the replica has all", || other.high_watermark() == one.high_watermark()).await;
    eventually("the log starts at the same offset", || other.log_start() == one.log_start()).await;
    assert!(log_bytes(&one) == log_bytes(&other), "replicas of {partition} differ");
}

async fn produce(cluster: &Cluster, node: i32, partition: i32, count: i64) {
    for n in 0..count {
        cluster.node(node).produce(partition, batch(&format!("record {n}"), 1), Acks::All).await.unwrap();
    }
}

async fn trim(cluster: &Cluster, node: i32, partition: i32, offset: i64) {
    let p = cluster.node(node).get(partition);
    assert_eq!(p.trim(Offset(offset)).await, Ok(Offset(offset)));
    // Once a second.
    eventually("segments are deleted", || p.view().unwrap().first_offset() > Offset(offset - 30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_while_the_leader_trimmed_gets_a_snapshot_and_goes_on() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    let late = leader % 3 + 1;
    produce(&cluster, leader, 0, 5).await;
    cluster.net.isolate(late, true);
    produce(&cluster, leader, 0, 145).await;
    trim(&cluster, leader, 0, 120).await;
    // The first offer is lost.
    cluster.net.calls_to_fail.store(1, Ordering::Relaxed);
    cluster.net.isolate(late, false);
    same(&cluster, 0, [leader, late]).await;
    let p = cluster.node(late).get(0);
    assert!(p.view().unwrap().first_offset() > Offset(5), "what it had is gone");
    assert!(cluster.net.calls.load(Ordering::Relaxed) >= 2);
    // Whoever folds the log begins anew.
    assert_eq!((p.replacements(), p.unless_replaced(0, || ()), p.unless_replaced(1, || ())), (1, None, Some(())));
    produce(&cluster, leader, 0, 20).await;
    same(&cluster, 0, [leader, late]).await;
    // It is as good as any other: it starts again, and leads.
    cluster.kill(late).await;
    cluster.start_node(late, false).await;
    same(&cluster, 0, [leader, late]).await;
    assert_eq!(cluster.node(late).get(0).log_start(), Offset(120));
    let leads = || cluster.node(late).get(0).is_leading();
    for _ in 0..100 {
        let from = cluster.leader(0, 0).await;
        if leads() {
            break;
        }
        cluster.node(from).partitions.transfer(id(0), NodeId(late)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eventually("it leads", leads).await;
    produce(&cluster, late, 0, 20).await;
    same(&cluster, 0, [late, leader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_while_the_leader_compacted_fetches_the_compacted_segments() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    let late = leader % 3 + 1;
    for node in 1..=3 {
        cluster.node(node).partitions.set_config(id(0), compact(2_500_000)).await;
    }
    let put = async |key: i64, n: i64| {
        let value = format!("{n} {}", "x".repeat(20_000));
        cluster.node(leader).produce(0, keyed(key, &value), Acks::All).await.unwrap();
    };
    put(0, 0).await;
    cluster.net.isolate(late, true);
    for n in 1..400 {
        put(n % 150, n).await;
    }
    let node = cluster.node(leader);
    let config = CleanerConfig::of(&BrokerConfig::default());
    let cleaned = node.partitions.compact_one(&config, &HashSet::new()).await;
    assert_eq!(cleaned, super::super::cleaner::Cleaned::One);
    // Some pieces are lost: those that came are not fetched again.
    cluster.net.calls_to_fail.store(2, Ordering::Relaxed);
    cluster.net.isolate(late, false);
    same(&cluster, 0, [leader, late]).await;
    assert!(cluster.net.calls.load(Ordering::Relaxed) > 4, "more than a piece");
    let kept = records(&cluster.node(late).get(0));
    assert!(kept.len() < 350 && kept == records(&node.get(0)));
    for n in 400..420 {
        put(n, n).await;
    }
    same(&cluster, 0, [leader, late]).await;
    cluster.kill(late).await;
    cluster.start_node(late, false).await;
    same(&cluster, 0, [leader, late]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_to_a_trimmed_group_becomes_a_voter() {
    let cluster = Cluster::start().await;
    let group = 7;
    for node in [1, 2] {
        let voters = [1, 2].map(PeerId).into();
        let open = ToOpen { voters, preferred: node == 1, ..to_open(group, true) };
        cluster.node(node).partitions.open(vec![open]).await;
    }
    eventually("it leads", || cluster.node(1).get(group).is_leading()).await;
    produce(&cluster, 1, group, 150).await;
    trim(&cluster, 1, group, 130).await;
    let open = ToOpen { voters: [1, 2].map(PeerId).into(), preferred: false, ..to_open(group, true) };
    cluster.node(3).partitions.open(vec![open]).await;
    let members = Members { voters: [1, 2, 3].map(PeerId).into(), learners: Vec::new(), moves: 0 };
    for node in 1..=3 {
        cluster.node(node).partitions.set_members(id(group), members.clone()).await;
    }
    eventually("it votes", || {
        cluster.node(1).partitions.leaders().get(id(group)).is_some_and(|l| l.voters == members.voters)
    })
    .await;
    same(&cluster, group, [1, 3]).await;
    // Two of three are enough, the newcomer among them.
    cluster.net.isolate(2, true);
    produce(&cluster, 1, group, 10).await;
    same(&cluster, group, [1, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_killed_at_any_moment_catches_up_after_its_start() {
    let mut cluster = Cluster::start().await;
    let mut end = 0;
    for milliseconds in [0, 40, 150, 400] {
        let leader = cluster.leader(0, 0).await;
        let late = leader % 3 + 1;
        cluster.net.isolate(late, true);
        produce(&cluster, leader, 0, 60).await;
        end += 60;
        trim(&cluster, leader, 0, end - 10).await;
        cluster.net.isolate(late, false);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        cluster.kill(late).await;
        cluster.start_node(late, false).await;
        let leader = cluster.leader(0, 0).await;
        same(&cluster, 0, [leader, leader % 3 + 1]).await;
        same(&cluster, 0, [leader, (leader + 1) % 3 + 1]).await;
    }
}

/// What a leader would offer of a log that begins at offset 90, with index 21.
fn offer(from: u64, to: u64, term: u64) -> Offer<'static> {
    let voters = Membership::of_voters([1, 2, 3].map(PeerId));
    let (index, entry_term) = (RaftIndex(20), RaftTerm(1));
    let meta = SnapshotMeta { index, term: entry_term, membership: voters, membership_index: RaftIndex(1) };
    let start = LogStart { next_index: index.next(), prev_term: entry_term, base_offset: Offset(90) };
    let checkpoint = Checkpoint {
        log: start.checkpoint().encode(),
        log_start: Offset(90),
        applied: index,
        epochs: LeaderEpochs::default(),
        producers: Cow::Owned(Producers::default()),
        aborted: Cow::default(),
    };
    let (from, to, number) = (PeerId(from), PeerId(to), Uuid::new_v4());
    Offer { id: id(0), number, term: RaftTerm(term), from, to, meta, segments: Vec::new(), checkpoint }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_nobody_needs_changes_nothing() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(0, 0).await;
    let other = leader % 3 + 1;
    produce(&cluster, leader, 0, 30).await;
    same(&cluster, 0, [leader, other]).await;
    let before = log_bytes(&cluster.node(other).get(0));
    let ask = async |at: i32, offer: Offer<'static>| {
        cluster.node(at).partitions.answer(NodeId(offer.from.0 as i32), offer.encode()).await
    };
    let peer = |node: i32| u64::from(node.unsigned_abs());
    let (from, to) = (peer(leader), peer(other));
    assert_eq!(ask(other, offer(from, to, 1000)).await, Ok(Bytes::new()), "it has all that");
    let refused = [
        (leader, offer(to, from, 1000), "leads"),
        (other, offer(from, to, 1), "past"),
        (other, offer(from, from, 1000), "not for this one"),
        (other, offer(99, to, 1000), "not of that node"),
        (other, Offer { id: id(77), ..offer(from, to, 1000) }, "not here"),
    ];
    for (at, offer, why) in refused {
        let words = ask(at, offer).await.unwrap_err();
        assert!(words.contains(why), "{words}");
    }
    let node = &cluster.node(other).partitions;
    assert!(node.answer(NodeId(leader), Bytes::from_static(b"\x01\x01what?")).await.is_err());
    assert_eq!(log_bytes(&cluster.node(other).get(0)), before);
    produce(&cluster, leader, 0, 5).await;
    same(&cluster, 0, [leader, other]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_a_directory_in_the_midst_of_an_install_is_not_newborn() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&dir.path().join("kv")).unwrap());
    let data = DataDir::open(dir.path(), FlushConfig::default()).unwrap();
    let offer = offer(2, 1, 5);
    Incoming::begin(&data, id(0), false).unwrap().finish(&offer.segments, offer.start()).unwrap();
    let by =
        Replacement { term: offer.term, meta: &offer.meta, checkpoint: &offer.checkpoint, segments: &offer.segments };
    store.write(put_replacement(&store, id(0), &by).unwrap(), Durability::Synced).unwrap();
    data.make_way(id(0)).unwrap();
    let config =
        PartitionsConfig { shards: 1, producer_id_expiration_ms: 86_400_000, replica_lag_max: Duration::from_secs(30) };
    let identity = Identity { peer: PeerId(1), node: NodeId(1), boot: Uuid::nil() };
    let partitions = Partitions::start(data, store.clone(), identity, None, config);
    let voters = [1, 2, 3].map(PeerId).into();
    let outcomes = partitions.open(vec![ToOpen { voters, ..to_open(0, true) }]).await;
    assert!(outcomes[0].failed.is_none(), "{outcomes:?}");
    let p = partitions.get(id(0)).unwrap();
    assert_eq!((p.log_start(), p.log_end()), (Offset(90), Offset(90)));
    assert_eq!(store.hard_state(id(0)).unwrap().unwrap().term, RaftTerm(5));
}
