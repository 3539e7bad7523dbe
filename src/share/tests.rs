//! Share-partitions over real partitions, with a share coordinator in memory that can be slow or fail.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::config::TopicConfig;
use millstream_core::record::{BatchBuilder, BatchHeader};
use millstream_core::share::{
    AckType, Acknowledgement, AcquireMode, DeliveryState, OffsetReset, Open, Opened, SessionKey, ShareLimits,
    ShareSettings, StateBatch, StateWrite,
};
use millstream_core::types::{
    LeaderEpoch, LogMark, NodeId, Offset, PartitionId, PeerId, Timestamp, TopicId, TopicName, TopicPartition,
};
use tempfile::TempDir;
use tokio::sync::watch;
use uuid::Uuid;

use super::*;
use crate::log::{DataDir, FlushConfig};
use crate::partition::{Identity, Partition, Partitions, PartitionsConfig, ToOpen};
use crate::store::Store;

const LIMITS: ShareLimits = ShareLimits { delivery_count: 3, in_flight: 100, lock_ms: 60_000, may_renew: true };
const SETTINGS: ShareSettings = ShareSettings { limits: LIMITS, reset: OffsetReset::Earliest, read_committed: false };
/// Longest that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn id(partition: i32) -> PartitionId {
    PartitionId { topic: TopicId(Uuid::from_u128(7)), partition }
}

fn key(group: &str, member: &str) -> SessionKey {
    SessionKey { group: group.into(), member: member.into() }
}

#[derive(Default)]
struct Kept {
    start: Option<Offset>,
    states: BTreeMap<i64, (DeliveryState, i16)>,
    delivery_complete: i32,
}

/// A share coordinator.
struct States {
    kept: Mutex<HashMap<ShareKey, Kept>>,
    /// What the next writes end in, if not well.
    fails: Mutex<Option<ShareError>>,
    /// Writes wait until it is true.
    flows: watch::Sender<bool>,
    /// Writes that went well.
    writes: AtomicUsize,
}

impl States {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            fails: Mutex::default(),
            flows: watch::Sender::new(true),
            writes: AtomicUsize::new(0),
        })
    }

    fn fail_with(&self, error: Option<ShareError>) {
        *self.fails.lock().unwrap() = error;
    }

    /// What is written of a share-partition: its start, the rest by offset, and how many are done with.
    fn kept(&self, group: &str) -> (i64, Vec<(i64, DeliveryState, i16)>, i32) {
        let kept = self.kept.lock().unwrap();
        let key = ShareKey { group: group.into(), id: id(0) };
        let Some(kept) = kept.get(&key) else { return (-1, Vec::new(), -1) };
        let states = kept.states.iter().map(|(at, (state, count))| (*at, *state, *count)).collect();
        (kept.start.map_or(-1, |start| start.0), states, kept.delivery_complete)
    }
}

struct Shared(Arc<States>);

impl ShareStates for Shared {
    fn read(&self, key: ShareKey, _: LeaderEpoch) -> Answer<ReadState> {
        let kept = self.0.kept.lock().unwrap();
        let batch = |(at, (state, delivery_count)): (&i64, &(DeliveryState, i16))| StateBatch {
            first: Offset(*at),
            last: Offset(*at),
            state: *state,
            delivery_count: *delivery_count,
        };
        let (start, batches) = match kept.get(&key) {
            Some(kept) => (kept.start, kept.states.iter().map(batch).collect()),
            None => (None, Vec::new()),
        };
        Box::pin(async move { Ok(ReadState { state_epoch: 4, start, batches }) })
    }

    fn write(&self, key: ShareKey, _: LeaderEpoch, state_epoch: i32, write: StateWrite) -> Answer<()> {
        assert_eq!(state_epoch, 4);
        let states = Arc::clone(&self.0);
        Box::pin(async move {
            states.flows.subscribe().wait_for(|flows| *flows).await.expect("the coordinator is there");
            if let Some(error) = states.fails.lock().unwrap().clone() {
                return Err(error);
            }
            states.writes.fetch_add(1, Ordering::Relaxed);
            let mut kept = states.kept.lock().unwrap();
            let kept = kept.entry(key).or_default();
            kept.start = Some(write.start);
            kept.delivery_complete = write.delivery_complete;
            for batch in write.batches {
                let all = batch.first.0..=batch.last.0;
                kept.states.extend(all.map(|at| (at, (batch.state, batch.delivery_count))));
            }
            kept.states = kept.states.split_off(&write.start.0);
            Ok(())
        })
    }
}

struct Node {
    _dir: TempDir,
    partitions: Arc<Partitions>,
    shares: Arc<Shares>,
    states: Arc<States>,
    _stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
}

impl Node {
    async fn start(settings: ShareSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let partitions = open(dir.path()).await;
        let states = States::new();
        let shares = shares(&partitions, &states, settings);
        let (stop, stopping) = watch::channel(false);
        Self { _dir: dir, partitions, shares, states, _stop: stop, stopping }
    }

    fn partition(&self) -> Arc<Partition> {
        self.partitions.get(id(0)).expect("it is open")
    }

    /// Appends a batch of so many records.
    async fn produce(&self, count: i64) {
        let mut builder = BatchBuilder::new();
        (0..count).for_each(|n| builder.push(Timestamp(1000 + n), None, Some(b"value"), &[]));
        let bytes: Bytes = builder.finish();
        let partition = self.partition();
        let epoch = partition.leading_epoch().expect("it leads");
        let header = BatchHeader::parse(&bytes).unwrap();
        let (_, committed) = partition.append_internal(epoch, header, bytes).await.unwrap();
        committed.await.unwrap().unwrap();
    }

    fn ask(&self, key: &SessionKey, max_records: i64) -> FetchAsk {
        FetchAsk {
            key: key.clone(),
            partitions: vec![self.partition()],
            max_bytes: 1 << 20,
            min_bytes: 1,
            max_records,
            batch_size: max_records,
            mode: AcquireMode::RecordLimit,
            max_wait: PATIENCE,
        }
    }

    /// First and last offset and delivery count of what the member gets of at most so many records.
    async fn fetch(&self, key: &SessionKey, max_records: i64) -> Result<Vec<(i64, i64, i16)>, ShareError> {
        self.fetch_as(self.ask(key, max_records)).await
    }

    async fn fetch_as(&self, ask: FetchAsk) -> Result<Vec<(i64, i64, i16)>, ShareError> {
        let mut stopping = self.stopping.clone();
        let fetch = Arc::clone(&self.shares).fetch(ask, &mut stopping);
        let mut fetched = tokio::time::timeout(2 * PATIENCE, fetch).await.expect("in time");
        let Some(of_partition) = fetched.pop() else { return Ok(Vec::new()) };
        let given = of_partition.given?;
        assert_eq!(given.records.is_some(), !given.acquired.is_empty());
        Ok(given.acquired.iter().map(|a| (a.first.0, a.last.0, a.delivery_count)).collect())
    }

    /// A look without waiting. The share-partition must be loaded.
    async fn look(&self, key: &SessionKey) -> Vec<(i64, i64, i16)> {
        let ask = FetchAsk { max_wait: Duration::ZERO, ..self.ask(key, 100) };
        self.fetch_as(ask).await.expect("it is led here")
    }

    /// The group begins to read, and gets nothing yet.
    async fn load(&self, key: &SessionKey) {
        let ask = FetchAsk { max_wait: Duration::ZERO, ..self.ask(key, 0) };
        self.fetch_as(ask).await.expect("it is led here");
        let cell = self.shares.find(&key.group, id(0)).expect("it is known now");
        eventually("it is loaded", || cell.plan(&LIMITS, 1) != Ok(None)).await;
    }

    fn acknowledge(&self, key: &SessionKey, first: i64, last: i64, ack: AckType) -> Acknowledging {
        let acknowledgement = Acknowledgement { first: Offset(first), last: Offset(last), types: vec![ack] };
        self.shares.acknowledge(key, id(0), &[acknowledgement])
    }

    fn open_session(&self, key: &SessionKey, connection: u64) {
        let open = Open { key, epoch: 0, partitions: &[id(0)], forgotten: &[], acknowledges: false, connection };
        assert_eq!(self.shares.open(&open), Ok(Opened::New(vec![id(0)])));
    }
}

async fn open(dir: &Path) -> Arc<Partitions> {
    let store = Arc::new(Store::open(&dir.join("kv")).unwrap());
    let data = DataDir::open(dir, FlushConfig::default()).unwrap();
    let config =
        PartitionsConfig { shards: 1, producer_id_expiration_ms: 86_400_000, replica_lag_max: Duration::from_secs(30) };
    let identity = Identity { peer: PeerId(1), node: NodeId(1), boot: Uuid::nil() };
    let partitions = Partitions::start(data, store, identity, None, config);
    let to_open = ToOpen {
        id: id(0),
        name: TopicPartition { topic: TopicName::new("orders").unwrap(), partition: 0 },
        config: Arc::new(TopicConfig::default()),
        newborn: true,
        voters: vec![PeerId(1)],
        since: LogMark::default(),
        members: None,
        preferred: true,
    };
    let outcomes = partitions.open(vec![to_open]).await;
    assert!(outcomes.iter().all(|outcome| outcome.failed.is_none()), "{outcomes:?}");
    partitions
}

fn shares(partitions: &Arc<Partitions>, states: &Arc<States>, settings: ShareSettings) -> Arc<Shares> {
    let shares = Shares::new(Arc::clone(partitions), Arc::new(move |_: &str| settings), 10);
    shares.connect(Arc::new(Shared(Arc::clone(states))));
    shares
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let all = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_lent_once_and_are_done_with_when_that_is_written() {
    let node = Node::start(SETTINGS).await;
    let (a, b) = (key("g", "a"), key("g", "b"));
    node.produce(6).await;
    assert_eq!(node.fetch(&a, 4).await, Ok(vec![(0, 3, 1)]));
    assert_eq!(node.fetch(&b, 4).await, Ok(vec![(4, 5, 1)]));
    assert_eq!(node.acknowledge(&b, 0, 3, AckType::Accept).outcome().await, refused(AcknowledgeError::NotAcquired));
    assert_eq!(node.acknowledge(&a, 0, 9, AckType::Accept).outcome().await, refused(AcknowledgeError::OutOfRange));
    node.states.flows.send_replace(false);
    let accepted = node.acknowledge(&a, 0, 3, AckType::Accept);
    let Acknowledging::Written(mut outcome) = accepted else { panic!("it is to be written") };
    assert!(outcome.try_recv().is_err(), "nothing is written yet");
    assert_eq!(node.acknowledge(&a, 0, 0, AckType::Accept).outcome().await, refused(AcknowledgeError::NotAcquired));
    node.states.flows.send_replace(true);
    assert_eq!(outcome.await, Ok(Ok(())));
    let states = (0..4).map(|at| (at, DeliveryState::Acknowledged, 1)).collect();
    assert_eq!(node.states.kept("g"), (0, states, 4));
    // The start goes with the next write.
    assert_eq!(node.acknowledge(&b, 4, 4, AckType::Reject).outcome().await, Ok(()));
    assert_eq!(node.states.kept("g"), (4, vec![(4, DeliveryState::Archived, 1)], 1));
    assert_eq!(node.look(&a).await, []);
    // Another group reads all of it.
    assert_eq!(node.fetch(&key("h", "a"), 10).await, Ok(vec![(0, 5, 1)]));
}

fn refused(error: AcknowledgeError) -> Result<(), ShareError> {
    Err(ShareError::Refused(error))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_what_is_produced_and_what_is_given_back() {
    let node = Arc::new(Node::start(SETTINGS).await);
    let wait = |member: &'static str| {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.fetch(&key("g", member), 10).await })
    };
    let waiting = wait("a");
    node.produce(3).await;
    assert_eq!(waiting.await.unwrap(), Ok(vec![(0, 2, 1)]));
    let waiting = wait("b");
    assert_eq!(node.acknowledge(&key("g", "a"), 1, 1, AckType::Release).outcome().await, Ok(()));
    assert_eq!(waiting.await.unwrap(), Ok(vec![(1, 1, 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_ends_gives_records_to_others_until_they_are_given_up() {
    let limits = ShareLimits { lock_ms: 30, ..LIMITS };
    let node = Node::start(ShareSettings { limits, ..SETTINGS }).await;
    node.produce(1).await;
    let mut counts = Vec::new();
    for member in ["a", "b", "a"] {
        let given = node.fetch(&key("g", member), 10).await.unwrap();
        counts.extend(given.iter().map(|(_, _, count)| *count));
    }
    assert_eq!(counts, [1, 2, 3]);
    eventually("the record is given up", || node.states.kept("g").1 == [(0, DeliveryState::Archived, 3)]).await;
    assert_eq!(node.acknowledge(&key("g", "a"), 0, 0, AckType::Accept).outcome().await, Ok(()), "it is gone");
    node.produce(1).await;
    assert_eq!(node.fetch(&key("g", "a"), 10).await, Ok(vec![(1, 1, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_leaves_records_with_the_member() {
    let node = Node::start(SETTINGS).await;
    let a = key("g", "a");
    node.produce(2).await;
    node.fetch(&a, 10).await.unwrap();
    node.states.fail_with(Some(ShareError::CoordinatorNotAvailable));
    let outcome = node.acknowledge(&a, 0, 1, AckType::Accept).outcome().await;
    assert_eq!(outcome, Err(ShareError::CoordinatorNotAvailable));
    assert_eq!(node.look(&key("g", "b")).await, []);
    node.states.fail_with(None);
    assert_eq!(node.acknowledge(&a, 0, 1, AckType::Accept).outcome().await, Ok(()));
    // Fenced, the share-partition is forgotten, and read anew.
    node.produce(1).await;
    assert_eq!(node.fetch(&a, 10).await, Ok(vec![(2, 2, 1)]));
    node.states.fail_with(Some(ShareError::NotLeader));
    assert_eq!(node.acknowledge(&a, 2, 2, AckType::Accept).outcome().await, Err(ShareError::NotLeader));
    eventually("it is forgotten", || node.shares.count() == 0).await;
    assert_eq!(node.acknowledge(&a, 2, 2, AckType::Accept).outcome().await, Err(ShareError::UnknownPartition));
    node.states.fail_with(None);
    assert_eq!(node.fetch(&a, 10).await, Ok(vec![(2, 2, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_cut_off_gives_back_what_it_has_and_the_last_one_frees_the_memory() {
    let node = Node::start(SETTINGS).await;
    let (a, b) = (key("g", "a"), key("g", "b"));
    node.produce(4).await;
    let (of_a, of_b) = (node.shares.connection(1), node.shares.connection(2));
    node.open_session(&a, 1);
    node.open_session(&b, 2);
    assert_eq!(node.fetch(&a, 4).await, Ok(vec![(0, 3, 1)]));
    drop(of_a);
    assert_eq!(node.shares.session_counts(), (1, 1));
    assert_eq!(node.fetch(&b, 4).await, Ok(vec![(0, 3, 2)]));
    assert_eq!(node.acknowledge(&b, 0, 1, AckType::Accept).outcome().await, Ok(()));
    drop(of_b);
    eventually("nothing is remembered", || node.shares.count() == 0).await;
    let given_back = |at| (at, DeliveryState::Available, 2);
    assert_eq!(node.states.kept("g"), (2, [2, 3].map(given_back).to_vec(), 0));
    // Who comes next finds what was kept. A record comes alone the last time.
    assert_eq!(node.fetch(&a, 4).await, Ok(vec![(2, 2, 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_group_begins_and_what_is_deleted() {
    for (reset, first) in [
        (OffsetReset::Earliest, 0),
        (OffsetReset::Latest, 3),
        // Its records are of 1970.
        (OffsetReset::ByDuration(1_000), 3),
        (OffsetReset::ByDuration(i64::MAX), 0),
    ] {
        let node = Node::start(ShareSettings { reset, ..SETTINGS }).await;
        let a = key("g", "a");
        node.produce(3).await;
        node.load(&a).await;
        node.produce(2).await;
        assert_eq!(node.fetch(&a, 10).await, Ok(vec![(first, 4, 1)]), "{reset:?}");
        // A deletion is found out by the next fetch of what is gone.
        node.produce(2).await;
        assert_eq!(node.acknowledge(&a, first, 4, AckType::Release).outcome().await, Ok(()));
        node.partition().trim(Offset(6)).await.unwrap();
        assert_eq!(node.fetch(&a, 10).await, Ok(vec![]), "{reset:?}");
        assert_eq!(node.fetch(&a, 10).await, Ok(vec![(6, 6, 1)]), "{reset:?}");
        assert_eq!(node.acknowledge(&a, first, 4, AckType::Accept).outcome().await, Ok(()), "records that are gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_of_many_are_written_together_in_their_order() {
    let node = Node::start(SETTINGS).await;
    let a = key("g", "a");
    node.produce(20).await;
    node.fetch(&a, 20).await.unwrap();
    node.states.flows.send_replace(false);
    let written: Vec<_> = (0..20).map(|at| node.acknowledge(&a, at, at, AckType::Accept)).collect();
    node.states.flows.send_replace(true);
    for one in written {
        assert_eq!(one.outcome().await, Ok(()));
    }
    assert!(node.states.writes.load(Ordering::Relaxed) <= 3, "the first alone, the rest with few");
    assert_eq!(node.look(&a).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_batches_are_cut_out_of_what_was_read() {
    let node = Node::start(SETTINGS).await;
    let a = key("g", "a");
    for _ in 0..4 {
        node.produce(2).await;
    }
    node.fetch(&a, 8).await.unwrap();
    assert_eq!(node.acknowledge(&a, 3, 4, AckType::Release).outcome().await, Ok(()));
    let fetched = Arc::clone(&node.shares).fetch(node.ask(&key("g", "b"), 8), &mut node.stopping.clone()).await;
    let given = fetched.first().unwrap().given.clone().unwrap();
    let range = given.records.expect("records");
    let mut bytes = vec![0; range.len];
    std::os::unix::fs::FileExt::read_exact_at(&*range.file, &mut bytes, range.position).unwrap();
    let first = BatchHeader::parse_checked(&bytes).unwrap();
    let second = BatchHeader::parse_checked(&bytes[first.size_bytes()..]).unwrap();
    assert_eq!((first.base_offset, second.base_offset), (Offset(2), Offset(4)));
    assert_eq!(first.size_bytes() + second.size_bytes(), range.len);
}
