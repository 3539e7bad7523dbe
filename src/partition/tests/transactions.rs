//! Transactions in a partition: after deletions, compactions, snapshots, crashes and failovers at any point between two
//! markers what is known of them equals a replay of the full log (issue 5.2).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;

use millstream_core::partition::{ProducerError, TxnEnd};
use millstream_core::record::{Marker, marker_of};
use millstream_core::types::{ProducerEpoch, ProducerId, Sequence};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::cleaner::Cleaned;
use super::faults::eventually;
use super::replicas::Cluster;
use super::*;

/// What a batch was, as the log has it.
#[derive(Clone, Debug)]
enum Written {
    Data { producer: i64, is_transactional: bool, key: String, value: String },
    End { producer: i64, commit: bool },
}

/// The full log, and who writes to it.
#[derive(Default)]
struct Story {
    /// By offset: each is one record or one marker.
    log: BTreeMap<i64, Written>,
    /// By producer: epoch and next sequence.
    next: BTreeMap<i64, (i16, i32)>,
    values: usize,
}

/// What a reader of the full log knows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    last_stable: i64,
    open: BTreeMap<i64, i64>,
    epochs: BTreeMap<i64, i16>,
}

impl Story {
    fn known(&self, end: i64) -> Known {
        let mut known = Known::default();
        for (at, written) in &self.log {
            match written {
                Written::Data { producer, is_transactional: true, .. } => {
                    known.open.entry(*producer).or_insert(*at);
                }
                Written::Data { .. } => {}
                Written::End { producer, .. } => {
                    known.open.remove(producer);
                }
            }
        }
        known.epochs = self.next.iter().map(|(id, (epoch, _))| (*id, *epoch)).collect();
        known.last_stable = known.open.values().copied().min().unwrap_or(end);
        known
    }

    /// Offset, key and value of what readers of committed records are to see.
    fn committed(&self, last_stable: i64) -> Vec<(i64, String, String)> {
        let mut waiting: BTreeMap<i64, Vec<(i64, String, String)>> = BTreeMap::new();
        let mut seen = Vec::new();
        for (at, written) in &self.log {
            match written.clone() {
                Written::Data { producer, is_transactional: true, key, value } => {
                    waiting.entry(producer).or_default().push((*at, key, value));
                }
                Written::Data { key, value, .. } => seen.push((*at, key, value)),
                Written::End { producer, commit } => {
                    seen.extend(waiting.remove(&producer).unwrap_or_default().into_iter().filter(|_| commit));
                }
            }
        }
        seen.retain(|(at, ..)| *at < last_stable);
        seen.sort();
        seen
    }

    /// Takes up what is committed since, before anything can delete it.
    fn learn(&mut self, p: &Partition) {
        let mut next = Offset(self.log.last_key_value().map_or(0, |(at, _)| at + 1));
        while next < p.high_watermark() {
            let bytes = p.read_bytes(next, 1 << 20).unwrap();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let header = BatchHeader::parse_checked(rest).unwrap();
                let (whole, after) = rest.split_at(header.size_bytes());
                (rest, next) = (after, header.next_offset());
                self.log.insert(header.base_offset.0, self::written(&header, whole));
                if header.is_idempotent() {
                    let of_producer = self.next.entry(header.producer_id.0).or_default();
                    of_producer.0 = header.producer_epoch.0;
                    of_producer.1 = if header.is_control() { of_producer.1 } else { header.last_sequence().0 + 1 };
                }
            }
        }
    }

    /// What comes of it, if anything does, `learn` tells.
    async fn data(&mut self, node: &Node, partition: i32, producer: Option<i64>, key: u32) {
        self.values += 1;
        let (key, value) = (format!("key {key}"), format!("value {} {}", self.values, "x".repeat(60)));
        let mut builder = BatchBuilder::new();
        let mut guard = None;
        if let Some(id) = producer {
            let (epoch, sequence) = self.next.get(&id).copied().unwrap_or_default();
            let (id, epoch, sequence) = (ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
            guard = node.get(partition).begin_verification((id, epoch, sequence), false).await.unwrap_or_default();
            builder = builder.producer(id, epoch, sequence).transactional(true);
        }
        builder.push(Timestamp(1000), Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        let appended = node.produce_with(partition, builder.finish(), guard).await;
        assert!(matches!(appended, Ok(_) | Err(AppendError::NotLeader)) || guard.is_none(), "{appended:?}");
    }

    async fn end(&mut self, node: &Node, partition: i32, producer: i64, commit: bool) {
        let epoch = self.next.get(&producer).map_or(0, |(epoch, _)| *epoch);
        let ended = node.get(partition).write_marker(end(producer, epoch, commit)).await;
        assert!(matches!(ended, Ok(()) | Err(AppendError::NotLeader)), "{ended:?}");
    }
}

fn written(header: &BatchHeader, whole: &[u8]) -> Written {
    let producer = header.producer_id.0;
    if let Some((marker, _)) = marker_of(header, whole) {
        return Written::End { producer, commit: marker == Marker::Commit };
    }
    let mut scratch = Vec::new();
    let body = batch_body(header, whole, 10_000, &mut scratch).unwrap();
    let record = RecordIter::new(header, body).next().unwrap().unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let is_transactional = header.is_transactional();
    Written::Data { producer, is_transactional, key: text(record.key), value: text(record.value) }
}

fn end(producer: i64, epoch: i16, commit: bool) -> TxnEnd {
    TxnEnd {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        commit,
        coordinator_epoch: 1,
        transaction_version: 1,
    }
}

impl Node {
    async fn produce_with(
        &self,
        partition: i32,
        bytes: Bytes,
        guard: Option<millstream_core::partition::Guard>,
    ) -> AppendOutcome {
        let header = BatchHeader::parse(&bytes).unwrap();
        let ticket = Ticket::new(1, None);
        let append =
            Append { id: id(partition), header, bytes, acks: Acks::All, guard, ticket: ticket.clone(), place: 0 };
        self.partitions.append(vec![append]).await;
        ticket.completed().await;
        ticket.take().remove(0).unwrap()
    }
}

fn ask(from: Offset, isolation: Isolation) -> ReadAsk {
    ReadAsk {
        from,
        // A few batches at a time.
        max_bytes: 600,
        at_least_one: true,
        current_epoch: None,
        last_fetched_epoch: None,
        may_block: true,
        from_follower: true,
        isolation,
    }
}

/// What a consumer of committed records sees, from the log start on, by the rules of Kafka's.
fn consume(p: &Partition) -> Vec<(i64, String, String)> {
    let (mut seen, mut next) = (Vec::new(), p.log_start());
    loop {
        let read = p.read(&ask(next, Isolation::ReadCommitted)).unwrap();
        let Some(slice) = read.slice else { return seen };
        let mut bytes = vec![0; slice.len];
        slice.file.read_exact_at(&mut bytes, slice.position).unwrap();
        let mut to_come = read.aborted.unwrap();
        assert!(to_come.is_sorted_by_key(|aborted| aborted.first_offset));
        to_come.reverse();
        let mut left_out = BTreeSet::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse_checked(rest).unwrap();
            let (whole, after) = rest.split_at(header.size_bytes());
            (rest, next) = (after, header.next_offset());
            while let Some(aborted) = to_come.pop_if(|aborted| aborted.first_offset <= header.last_offset()) {
                left_out.insert(aborted.producer_id);
            }
            if header.is_control() {
                if marker_of(&header, whole).is_some_and(|(marker, _)| marker == Marker::Abort) {
                    left_out.remove(&header.producer_id);
                }
            } else if !header.is_transactional() || !left_out.contains(&header.producer_id) {
                let mut scratch = Vec::new();
                let body = batch_body(&header, whole, 10_000, &mut scratch).unwrap();
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                let records = RecordIter::new(&header, body).map(Result::unwrap);
                seen.extend(records.map(|r| (r.offset.0, text(r.key), text(r.value))));
            }
        }
    }
}

fn latest(seen: Vec<(i64, String, String)>) -> BTreeMap<String, (i64, String)> {
    seen.into_iter().map(|(at, key, value)| (key, (at, value))).collect()
}

/// Compares a replica that has all with the story.
async fn check(p: &Partition, story: &Story, is_compacted: bool, when: &str) {
    let end = p.high_watermark();
    assert_eq!(end.0, story.log.last_key_value().map_or(0, |(at, _)| at + 1), "{when}");
    let known = story.known(end.0);
    let log_start = p.log_start();
    assert_eq!(p.last_stable().0, known.last_stable.max(log_start.0), "{when}");
    let producers = p.producers().await.unwrap();
    let open = producers.iter().filter_map(|p| Some((p.producer_id.0, p.transaction_start?.0))).collect();
    let epochs = producers.iter().map(|p| (p.producer_id.0, p.epoch.0)).collect();
    assert_eq!(Known { last_stable: known.last_stable, open, epochs }, known, "{when}");
    let (found, expected) = (consume(p), story.committed(p.last_stable().0));
    if is_compacted {
        assert_eq!(latest(found), latest(expected), "{when}");
    } else {
        let expected: Vec<_> = expected.into_iter().filter(|(at, ..)| *at >= log_start.0).collect();
        assert_eq!(found, expected, "{when}");
    }
}

fn compact() -> Arc<TopicConfig> {
    let cleanup = CleanupPolicy { compact: true, delete: false };
    let segment_bytes = 700;
    let config = TopicConfig { segment_bytes, cleanup, ..TopicConfig::default() };
    Arc::new(TopicConfig { min_cleanable_dirty_ratio: 0.01, delete_retention_ms: 0, ..config })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_knows_after_anything_what_its_log_tells() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::start(dir.path(), true).await;
        let mut stories = [Story::default(), Story::default()];
        for step in 0..90 {
            let (partition, dice) = ((rng.next_u32() % 2) as i32, rng.next_u32() % 100);
            let (producer, key) = (i64::from(rng.next_u32() % 4), rng.next_u32() % 6);
            let story = &mut stories[partition as usize];
            let when = format!("seed {seed}, step {step}, partition {partition}, dice {dice}");
            match dice {
                0..40 => story.data(&node, partition, Some(producer), key).await,
                40..50 => story.data(&node, partition, None, key).await,
                50..75 => story.end(&node, partition, producer, dice % 2 == 0).await,
                75..82 if partition == 0 => {
                    // Anywhere, in the midst of transactions, too.
                    let p = node.get(0);
                    let span = p.high_watermark().0 - p.log_start().0;
                    let to = p.log_start().plus(span * i64::from(rng.next_u32() % 101) / 100);
                    p.trim(to).await.unwrap();
                }
                75..82 => {
                    node.partitions.set_config(id(1), compact()).await;
                    let config = CleanerConfig::of(&BrokerConfig::default());
                    let cleaned = node.partitions.compact_one(&config, &HashSet::new()).await;
                    assert!(matches!(cleaned, Cleaned::One | Cleaned::Nothing), "{when}: {cleaned:?}");
                }
                82..92 => {
                    node.partitions.crash().await;
                    drop(node);
                    node = Node::start(dir.path(), false).await;
                }
                _ => {
                    node.partitions.stop().await;
                    drop(node);
                    node = Node::start(dir.path(), false).await;
                }
            }
            for (partition, story) in (0..).zip(&mut stories) {
                story.learn(&node.get(partition));
                check(&node.get(partition), story, partition == 1, &when).await;
            }
        }
        node.partitions.stop().await;
    }
}

/// Who leads, with all committed that it has.
async fn leads(cluster: &Cluster, partition: i32, away: Option<i32>) -> i32 {
    let found = std::sync::Mutex::new(0);
    let looks = || {
        let here = (1..=3).filter(|n| Some(*n) != away).map(|n| (n, cluster.node(n).get(partition)));
        // One that does not know yet that it leads no more has an older epoch.
        let newest = here
            .max_by_key(|(_, p)| (p.leader_epoch(), p.is_leading()))
            .filter(|(_, p)| p.is_leading() && p.high_watermark() == p.log_end());
        newest.is_some_and(|(n, _)| {
            *found.lock().unwrap() = n;
            true
        })
    };
    eventually("somebody leads and all that is there is committed", looks).await;
    found.into_inner().unwrap()
}

/// Nodes hear of each other, but for one: groups that sleep wake.
async fn hear(cluster: &Cluster, away: Option<i32>) {
    for node in 1..=3 {
        let others = (1..=3).filter(|other| *other != node);
        let silent = others.filter(|other| away.is_some_and(|away| away == node || away == *other));
        cluster.node(node).partitions.set_silent(silent.map(NodeId).collect()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_know_the_same_after_failovers_and_snapshots_at_any_point_between_markers() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut cluster = Cluster::start().await;
    let mut stories = [Story::default(), Story::default()];
    // Away, so that what others trim and compact meanwhile comes to it as a snapshot.
    let mut away: Option<i32> = None;
    for step in 0..120 {
        let (partition, dice) = ((rng.next_u32() % 2) as i32, rng.next_u32() % 100);
        let (producer, key) = (i64::from(rng.next_u32() % 3), rng.next_u32() % 4);
        let leader = leads(&cluster, partition, away).await;
        let (node, story) = (cluster.node(leader), &mut stories[partition as usize]);
        let when = format!("step {step}, partition {partition}, dice {dice}");
        match dice {
            0..45 => story.data(node, partition, Some(producer), key).await,
            45..75 => story.end(node, partition, producer, dice % 2 == 0).await,
            75..82 if partition == 0 => {
                let p = node.get(0);
                drop(p.trim(p.high_watermark().min(p.log_start().plus(12))).await);
            }
            75..82 => {
                for n in 1..=3 {
                    cluster.node(n).partitions.set_config(id(1), compact()).await;
                }
                let config = CleanerConfig::of(&BrokerConfig::default());
                let cleaned = cluster.node(leader).partitions.compact_one(&config, &HashSet::new()).await;
                assert!(!matches!(cleaned, Cleaned::Failed(_)), "{when}: {cleaned:?}");
            }
            82..88 if away.is_none() => {
                away = Some(leader);
                cluster.net.isolate(leader, true);
                hear(&cluster, away).await;
            }
            88..94 if away.is_none() => {
                cluster.kill(leader).await;
                cluster.start_node(leader, false).await;
                hear(&cluster, Some(leader)).await;
                hear(&cluster, None).await;
            }
            _ => {
                if let Some(node) = away.take() {
                    cluster.net.isolate(node, false);
                    hear(&cluster, None).await;
                }
            }
        }
        for (partition, story) in (0..).zip(&mut stories) {
            let p = cluster.node(leads(&cluster, partition, away).await).get(partition);
            story.learn(&p);
            check(&p, story, partition == 1, &when).await;
        }
    }
    if let Some(node) = away.take() {
        cluster.net.isolate(node, false);
        hear(&cluster, None).await;
    }
    for (partition, story) in (0..).zip(&stories) {
        let leader = cluster.node(leads(&cluster, partition, None).await).get(partition);
        for n in 1..=3 {
            let p = cluster.node(n).get(partition);
            let has_all = || {
                p.high_watermark() == leader.high_watermark()
                    && p.log_start() == leader.log_start()
                    && p.last_stable() == leader.last_stable()
            };
            eventually("the replica has all", has_all).await;
            eventually("it may be read", || p.feeds_consumers() || p.is_leading()).await;
            check(&p, story, partition == 1, &format!("at the end, node {n}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_committed_records_waits_for_the_marker() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let p = node.get(0);
    let mut story = Story::default();
    story.data(&node, 0, Some(1), 0).await;
    assert!(p.read(&ask(Offset(0), Isolation::ReadCommitted)).unwrap().slice.is_none());
    assert!(p.read(&ask(Offset(0), Isolation::ReadUncommitted)).unwrap().slice.is_some());
    let list = |isolation| p.list_offset(ListSpec::Latest, isolation, None).unwrap().unwrap().offset;
    assert_eq!((list(Isolation::ReadCommitted), list(Isolation::ReadUncommitted)), (Offset(0), Offset(1)));
    let wait = FetchWait::register(vec![p.clone()]);
    let mark = wait.mark();
    story.end(&node, 0, 1, true).await;
    // More than the marker has is waited for.
    wait.woken(mark, 400).await;
    assert!(p.read(&ask(Offset(0), Isolation::ReadCommitted)).unwrap().slice.is_some());
    assert_eq!(list(Isolation::ReadCommitted), Offset(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_of_the_past_are_refused_and_the_guard_of_an_ended_transaction_is_void() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true).await;
    let p = node.get(0);
    let (id, epoch) = (ProducerId(5), ProducerEpoch(3));
    let build = |sequence| {
        let mut builder = BatchBuilder::new().producer(id, epoch, Sequence(sequence)).transactional(true);
        builder.push(Timestamp(1), Some(b"k"), Some(b"v"), &[]);
        builder.finish()
    };
    let guard = p.begin_verification((id, epoch, Sequence(0)), false).await.unwrap();
    p.write_marker(end(5, 3, false)).await.unwrap();
    let refused = node.produce_with(0, build(0), guard).await;
    assert_eq!(refused, Err(AppendError::Producer(ProducerError::NotInTransaction { producer_id: id })));
    let fenced = p.write_marker(end(5, 2, false)).await;
    assert!(matches!(fenced, Err(AppendError::Producer(ProducerError::StaleEpoch { .. }))), "{fenced:?}");
    let fenced = p.write_marker(TxnEnd { coordinator_epoch: 0, ..end(5, 3, false) }).await;
    assert!(matches!(fenced, Err(AppendError::Producer(ProducerError::CoordinatorFenced { .. }))), "{fenced:?}");
    let guard = p.begin_verification((id, epoch, Sequence(0)), false).await.unwrap();
    node.produce_with(0, build(0), guard).await.unwrap();
    let again = node.produce_with(0, build(0), None).await.unwrap();
    assert_eq!(again.base_offset, Offset(1), "a retry is answered as the first");
}
