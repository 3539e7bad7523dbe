use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::config::{BrokerConfig, CleanupPolicy, TopicConfig};
use millstream_core::record::{BatchBuilder, BatchHeader, RecordIter, batch_body};
use millstream_core::types::{
    LeaderEpoch, LogMark, NodeId, Offset, PartitionId, PeerId, Timestamp, TopicId, TopicName, TopicPartition,
};
use uuid::Uuid;

use super::*;
use crate::log::{DataDir, FlushConfig};
use crate::store::Store;

fn id(partition: i32) -> PartitionId {
    PartitionId { topic: TopicId(Uuid::from_u128(7)), partition }
}

fn to_open(partition: i32, newborn: bool) -> ToOpen {
    let name = TopicPartition { topic: TopicName::new("orders").unwrap(), partition };
    ToOpen {
        id: id(partition),
        name,
        config: Arc::new(TopicConfig { segment_bytes: 1000, ..TopicConfig::default() }),
        newborn,
        voters: vec![PeerId(1)],
        since: LogMark::default(),
        members: None,
        preferred: true,
    }
}

mod answers;
mod faults;
mod replicas;
mod snapshots;
mod transactions;

/// A node's partitions over a directory; dropping it without `stop` is a crash of the process.
struct Node {
    partitions: Arc<Partitions>,
}

impl Node {
    async fn start(dir: &Path, newborn: bool) -> Self {
        let store = Arc::new(Store::open(&dir.join("kv")).unwrap());
        let data = DataDir::open(dir, FlushConfig::default()).unwrap();
        let config = PartitionsConfig {
            shards: 2,
            producer_id_expiration_ms: 86_400_000,
            replica_lag_max: Duration::from_secs(30),
        };
        let partitions = Partitions::start(
            data,
            store,
            Identity { peer: PeerId(1), node: NodeId(1), boot: Uuid::nil() },
            None,
            config,
        );
        let outcomes = partitions.open((0..3).map(|p| to_open(p, newborn)).collect()).await;
        assert!(outcomes.iter().all(|o| o.failed.is_none()), "{outcomes:?}");
        Self { partitions }
    }

    fn get(&self, partition: i32) -> Arc<Partition> {
        self.partitions.get(id(partition)).unwrap()
    }

    async fn produce(&self, partition: i32, bytes: Bytes, acks: Acks) -> AppendOutcome {
        let header = BatchHeader::parse(&bytes).unwrap();
        let ticket = Ticket::new(1, None);
        let append = Append { id: id(partition), header, bytes, acks, guard: None, ticket: ticket.clone(), place: 0 };
        self.partitions.append(vec![append]).await;
        ticket.completed().await;
        ticket.take().remove(0).unwrap()
    }
}

fn batch(text: &str, count: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    for n in 0..count {
        builder.push(Timestamp(1000 + n), None, Some(text.as_bytes()), &[]);
    }
    builder.finish()
}

fn read(partition: &Partition, from: i64) -> Bytes {
    partition.read_bytes(Offset(from), 1 << 20).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_batch_is_read_back_with_its_offset_and_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let p = node.get(0);
    assert!(p.is_leading());
    let sent = batch("hello", 3);
    let appended = node.produce(0, sent.clone(), Acks::All).await.unwrap();
    assert_eq!((appended.base_offset, appended.last_offset), (Offset(0), Offset(2)));
    let appended = node.produce(0, batch("again", 2), Acks::All).await.unwrap();
    assert_eq!(appended.base_offset, Offset(3));
    assert_eq!((p.high_watermark(), p.log_end()), (Offset(5), Offset(5)));
    let got = read(&p, 0);
    let header = BatchHeader::parse_checked(&got).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (Offset(0), p.leader_epoch()));
    assert_eq!(got[16..sent.len()], sent[16..], "the rest is untouched");
    let second = BatchHeader::parse_checked(&got[header.size_bytes()..]).unwrap();
    assert_eq!(second.base_offset, Offset(3));
    // An offset inside a batch gives the whole batch.
    assert_eq!(BatchHeader::parse(&read(&p, 4)).unwrap().base_offset, Offset(3));
    assert!(read(&p, 5).is_empty());
    let ask = ReadAsk {
        from: Offset(6),
        max_bytes: 100,
        at_least_one: true,
        current_epoch: None,
        last_fetched_epoch: None,
        may_block: true,
        from_follower: false,
        isolation: Isolation::ReadUncommitted,
    };
    assert!(matches!(p.read(&ask), Err(ReadRefused::OutOfRange { .. })));
    let fenced = ReadAsk { current_epoch: Some(LeaderEpoch(0)), ..ask };
    assert!(matches!(p.read(&fenced), Err(ReadRefused::FencedEpoch { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_of_the_leader_and_none_are_answered_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    assert_eq!(node.produce(1, batch("a", 1), Acks::Leader).await.unwrap().base_offset, Offset(0));
    assert_eq!(node.produce(1, batch("b", 1), Acks::None).await.unwrap().base_offset, Offset(1));
    assert_eq!(node.produce(1, batch("c", 1), Acks::All).await.unwrap().base_offset, Offset(2));
    assert_eq!(node.get(1).high_watermark(), Offset(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_is_there_after_a_restart_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    let before = {
        let node = Node::start(dir.path(), true).await;
        for n in 0..60 {
            let appended = node.produce(2, batch(&format!("record {n}"), 2), Acks::All).await.unwrap();
            assert_eq!(appended.base_offset, Offset(2 * n));
        }
        assert!(node.get(2).segment_count() > 3, "{} segments", node.get(2).segment_count());
        let epoch = node.get(2).leader_epoch();
        node.partitions.stop().await;
        epoch
    };
    let node = Node::start(dir.path(), false).await;
    let p = node.get(2);
    assert_eq!((p.log_start(), p.high_watermark()), (Offset(0), Offset(120)));
    assert!(p.leader_epoch() > before);
    let mut next = 0;
    while next < 120 {
        let bytes = read(&p, next);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse_checked(rest).unwrap();
            assert_eq!(header.base_offset, Offset(next));
            next = header.next_offset().0;
            rest = &rest[header.size_bytes()..];
        }
    }
    assert_eq!(node.produce(2, batch("more", 1), Acks::All).await.unwrap().base_offset, Offset(120));
    let old = p.end_offset_for_epoch(before, None).unwrap();
    assert_eq!(old, Some((before, Offset(120))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_moves_the_log_start_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    {
        let node = Node::start(dir.path(), true).await;
        for n in 0..40 {
            node.produce(0, batch(&format!("record {n}"), 1), Acks::All).await.unwrap();
        }
        let p = node.get(0);
        assert_eq!(p.trim(Offset(41)).await, Err(AppendError::OffsetOutOfRange));
        assert_eq!(p.trim(Offset(25)).await, Ok(Offset(25)));
        assert_eq!(p.trim(Offset(3)).await, Ok(Offset(25)), "the start never goes back");
        assert_eq!(p.log_start(), Offset(25));
        node.partitions.stop().await;
    }
    let node = Node::start(dir.path(), false).await;
    let p = node.get(0);
    assert_eq!((p.log_start(), p.high_watermark()), (Offset(25), Offset(40)));
    let earliest = p.list_offset(ListSpec::Earliest, Isolation::ReadUncommitted, None).unwrap().unwrap();
    assert_eq!(earliest.offset, Offset(25));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_waits_is_woken_by_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let wait = FetchWait::register(vec![node.get(0), node.get(1)]);
    let start = wait.mark();
    node.produce(1, batch("wake", 1), Acks::All).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), wait.woken(start, 1)).await.unwrap();
    let woken = wait.mark();
    node.produce(0, batch("too little", 1), Acks::All).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), wait.woken(woken, 1 << 20)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_partition_refuses_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let p = node.get(0);
    node.produce(0, batch("x", 1), Acks::All).await.unwrap();
    assert_eq!(node.partitions.remove(id(0)).await, Removed::Done);
    assert_eq!(node.partitions.remove(id(0)).await, Removed::Unknown);
    assert!(node.partitions.get(id(0)).is_none());
    assert_eq!(p.trim(Offset(1)).await, Err(AppendError::NotLeader));
    assert_eq!(node.produce(0, batch("y", 1), Acks::All).await, Err(AppendError::NotLeader));
    node.partitions.empty_trash().await;
    assert!(!dir.path().join("log").join(id(0).topic.to_string()).join("0").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_keeps_the_last_value_of_each_key_at_its_offset_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let compact = TopicConfig {
        segment_bytes: 1000,
        cleanup: CleanupPolicy { compact: true, delete: false },
        ..TopicConfig::default()
    };
    node.partitions.set_config(id(0), Arc::new(compact)).await;
    for n in 0..200 {
        let mut builder = BatchBuilder::new();
        let (key, value) = (format!("key {}", n % 5), format!("value {n}"));
        builder.push(Timestamp(1000 + n), Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        node.produce(0, builder.finish(), Acks::All).await.unwrap();
    }
    let before = node.get(0).size_bytes();
    let config = CleanerConfig::of(&BrokerConfig::default());
    let one = node.partitions.compact_one(&config, &HashSet::new()).await;
    assert_eq!(one, cleaner::Cleaned::One);
    assert!(node.get(0).size_bytes() < before / 3, "{} of {before} bytes are left", node.get(0).size_bytes());
    let kept = records(&node.get(0));
    node.partitions.stop().await;
    drop(node);
    let node = Node::start(dir.path(), false).await;
    assert_eq!(records(&node.get(0)), kept);
    assert_eq!(node.get(0).high_watermark(), Offset(200));
    for key in 0..5 {
        let key = format!("key {key}");
        let last = kept.iter().rev().find(|(_, k, _)| *k == key).unwrap();
        assert_eq!(last.2, format!("value {}", last.0), "offsets stay");
        assert!(last.0 >= 195);
    }
    assert!(kept.len() < 100);
}

/// Offset, key and value of every record, by reads from the log start on.
fn records(partition: &Partition) -> Vec<(i64, String, String)> {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let (mut found, mut next, mut scratch) = (Vec::new(), partition.log_start(), Vec::new());
    while next < partition.high_watermark() {
        let bytes = partition.read_bytes(next, 1 << 20).unwrap();
        let mut rest = &bytes[..];
        assert!(!rest.is_empty(), "nothing at {next}");
        while !rest.is_empty() {
            let header = BatchHeader::parse_checked(rest).unwrap();
            let (whole, after) = rest.split_at(header.size_bytes());
            let body = batch_body(&header, whole, 1 << 20, &mut scratch).unwrap();
            for record in RecordIter::new(&header, body).map(Result::unwrap) {
                found.push((record.offset.0, text(record.key), text(record.value)));
            }
            (rest, next) = (after, header.next_offset());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_finds_a_flipped_bit_in_a_closed_segment() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    for n in 0..60 {
        node.produce(0, batch(&format!("record {n}"), 2), Acks::All).await.unwrap();
    }
    let metrics = crate::telemetry::Metrics::new();
    let scrub = ScrubMetrics::new(&metrics);
    let ids: Vec<PartitionId> = node.partitions.all().iter().map(|p| p.id).collect();
    let find = |id| node.partitions.get(id);
    scrub.scrub(&ids, find, f64::MAX);
    assert!(metrics.render().contains("millstream_corrupt_segments 0\n"));
    let partition = dir.path().join("log").join(id(0).topic.to_string()).join("0");
    let path = partition.join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    scrub.scrub(&ids, find, f64::MAX);
    let text = metrics.render();
    assert!(text.contains("millstream_corrupt_segments 1\n"), "{text}");
    assert!(!text.contains("millstream_scrubbed_bytes_total 0\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_first_segment_is_missing_is_lost_and_stays_offline() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    for n in 0..60 {
        node.produce(0, batch(&format!("record {n}"), 2), Acks::All).await.unwrap();
    }
    node.partitions.stop().await;
    drop(node);
    let partition = dir.path().join("log").join(id(0).topic.to_string()).join("0");
    std::fs::remove_file(partition.join(format!("{:020}.log", 0))).unwrap();
    let store = Arc::new(Store::open(&dir.path().join("kv")).unwrap());
    let data = DataDir::open(dir.path(), FlushConfig::default()).unwrap();
    let config =
        PartitionsConfig { shards: 1, producer_id_expiration_ms: 86_400_000, replica_lag_max: Duration::from_secs(30) };
    let partitions =
        Partitions::start(data, store, Identity { peer: PeerId(1), node: NodeId(1), boot: Uuid::nil() }, None, config);
    let outcomes = partitions.open((0..3).map(|p| to_open(p, false)).collect()).await;
    let failed: Vec<i32> = outcomes.iter().filter(|o| o.failed.is_some()).map(|o| o.id.partition).collect();
    assert_eq!(failed, [0], "{outcomes:?}");
    assert_eq!(partitions.get(id(0)).unwrap().leadership(), Leadership::Offline);
    assert!(partitions.get(id(1)).unwrap().is_leading(), "the others serve");
}
