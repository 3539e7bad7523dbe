//! Transaction coordinators over real partitions, with a cluster that is not there: where partitions lead, and what
//! becomes of markers, is for the test to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use millstream_core::coordinator::txn::{
    AddPartitions, Command, DescribeTransactions, EndTransaction, InitProducerId, Producer, Reply, TransactionConfig,
    TransactionState, TransactionVersion, TransactionalId,
};
use millstream_core::types::ProducerId;

use super::*;
use crate::coordinator::{End, Outcome, Outside, Place, Transactions, Written};

/// Nothing here takes as long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What each partition answers, one after the other; in the end `Done`.
#[derive(Default)]
struct FakeCluster {
    answers: Mutex<BTreeMap<TopicPartition, Vec<Option<Written>>>>,
    gone: Mutex<BTreeSet<TopicPartition>>,
    written: Mutex<Vec<(TopicPartition, bool)>>,
}

impl Outside for FakeCluster {
    fn place(&self, partition: &TopicPartition) -> Place {
        match self.gone.lock().unwrap().contains(partition) {
            true => Place::Gone,
            false => Place::At(NodeId(partition.partition % 2)),
        }
    }

    fn write(&self, node: NodeId, end: End) -> Outcome<Vec<(TopicPartition, Written)>> {
        let mut answers = self.answers.lock().unwrap();
        let mut told = Vec::new();
        for partition in end.partitions {
            assert_eq!(node, NodeId(partition.partition % 2));
            let next = answers.get_mut(&partition).filter(|left| !left.is_empty()).map(|left| left.remove(0));
            // None: the answer does not come.
            let Some(written) = next.unwrap_or(Some(Written::Done)) else { continue };
            if written == Written::Done {
                self.written.lock().unwrap().push((partition.clone(), end.markers.commit));
            }
            told.push((partition, written));
        }
        Box::pin(std::future::ready(told))
    }

    fn caught_up(&self) -> Outcome<()> {
        Box::pin(std::future::ready(()))
    }

    fn producer_id(&self) -> Outcome<Option<ProducerId>> {
        Box::pin(std::future::ready(Some(ProducerId(2_000))))
    }
}

struct Coordinators {
    node: Node,
    transactions: Arc<Transactions>,
}

fn id_of(name: &str) -> TransactionalId {
    TransactionalId::new(name).unwrap()
}

fn partition(number: i32) -> TopicPartition {
    TopicPartition { topic: TopicName::new("orders").unwrap(), partition: number }
}

impl Coordinators {
    fn start(dir: &Path, newborn: bool) -> Self {
        let node = Node::start_unfollowed(dir, newborn);
        let config = TransactionConfig { timeout_interval_ms: 20, ..TransactionConfig::default() };
        let transactions = Transactions::new(node.partitions.clone(), node.groups.store().clone(), config);
        transactions.set_version(TransactionVersion::V2);
        node.runtime.block_on(async { transactions.follow(TOPIC, COUNT) });
        Self { node, transactions }
    }

    /// Asks again as long as the coordinator loads.
    fn ask(&self, name: &str, command: impl Fn(ReplyToken) -> Command + Clone + Send + 'static) -> Reply {
        let began = std::time::Instant::now();
        loop {
            let asked = async { self.transactions.ask_for(name, command.clone()).await?.reply().await };
            match self.node.runtime.block_on(asked) {
                Ok(reply) => return reply,
                Err(e) => assert!(began.elapsed() < PATIENCE, "{e}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn init(&self, name: &'static str, timeout_ms: i32) -> Producer {
        let init = move |token| {
            let fresh = Some(ProducerId(1_000));
            Command::InitProducerId(InitProducerId { token, id: id_of(name), timeout_ms, expected: None, fresh })
        };
        let Reply::InitProducerId(Ok(producer)) = self.ask(name, init) else { panic!("it begins") };
        producer
    }

    fn add(&self, name: &'static str, producer: Producer, partitions: std::ops::Range<i32>) {
        let add = move |token| {
            let (id, partitions) = (id_of(name), partitions.clone().map(partition).collect());
            let client_version = TransactionVersion::V2;
            Command::AddPartitions(AddPartitions { token, id, producer, partitions, client_version })
        };
        assert_eq!(self.ask(name, add), Reply::AddPartitions(Ok(())));
    }

    fn commit(&self, name: &'static str, producer: Producer) {
        let end = move |token| {
            let (id, commit, client_version) = (id_of(name), true, TransactionVersion::V2);
            Command::EndTransaction(EndTransaction { token, id, producer, commit, client_version, fresh: None })
        };
        assert!(matches!(self.ask(name, end), Reply::EndTransaction(Ok(Some(_)))));
    }

    fn state(&self, name: &'static str) -> TransactionState {
        let describe =
            move |token| Command::DescribeTransactions(DescribeTransactions { token, ids: vec![id_of(name)] });
        let Reply::DescribeTransactions(described) = self.ask(name, describe) else { panic!("a description") };
        described[0].1.as_ref().expect("it is known").state
    }

    fn await_state(&self, name: &'static str, state: TransactionState) {
        let began = std::time::Instant::now();
        while self.state(name) != state {
            assert!(began.elapsed() < PATIENCE, "still not {state:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(self) {
        self.node.runtime.block_on(self.transactions.stop());
        self.node.stop();
    }
}

#[test]
fn markers_are_written_until_each_partition_has_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let coordinators = Coordinators::start(dir.path(), true);
    let cluster = Arc::new(FakeCluster::default());
    cluster.answers.lock().unwrap().extend([
        (partition(0), vec![Some(Written::NotNow), None, Some(Written::NotNow)]),
        (partition(1), vec![None]),
        (partition(2), vec![Some(Written::Overtaken)]),
    ]);
    cluster.gone.lock().unwrap().insert(partition(3));
    coordinators.transactions.connect(cluster.clone());
    let producer = coordinators.init("t", 60_000);
    coordinators.add("t", producer, 0..5);
    coordinators.commit("t", producer);
    coordinators.await_state("t", TransactionState::CompleteCommit);
    let mut written = cluster.written.lock().unwrap().clone();
    written.sort();
    assert_eq!(written, [(partition(0), true), (partition(1), true), (partition(4), true)]);
    coordinators.stop();
}

#[test]
fn what_was_decided_is_carried_on_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let coordinators = Coordinators::start(dir.path(), true);
    let producer = coordinators.init("t", 60_000);
    coordinators.add("t", producer, 0..2);
    // Nobody can be told: it stays prepared.
    coordinators.commit("t", producer);
    assert_eq!(coordinators.state("t"), TransactionState::PrepareCommit);
    drop(coordinators);
    let coordinators = Coordinators::start(dir.path(), false);
    assert_eq!(coordinators.state("t"), TransactionState::PrepareCommit);
    let cluster = Arc::new(FakeCluster::default());
    coordinators.transactions.connect(cluster.clone());
    coordinators.await_state("t", TransactionState::CompleteCommit);
    assert_eq!(cluster.written.lock().unwrap().len(), 2);
    coordinators.stop();
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_partitions_told() {
    let dir = tempfile::tempdir().unwrap();
    let coordinators = Coordinators::start(dir.path(), true);
    let cluster = Arc::new(FakeCluster::default());
    coordinators.transactions.connect(cluster.clone());
    let producer = coordinators.init("t", 1);
    coordinators.add("t", producer, 0..1);
    coordinators.await_state("t", TransactionState::CompleteAbort);
    assert_eq!(*cluster.written.lock().unwrap(), [(partition(0), false)]);
    coordinators.stop();
}

#[test]
fn another_coordinator_is_not_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let coordinators = Coordinators::start(dir.path(), true);
    let cluster = Arc::new(FakeCluster::default());
    cluster.answers.lock().unwrap().insert(partition(0), vec![Some(Written::Fenced)]);
    coordinators.transactions.connect(cluster.clone());
    let producer = coordinators.init("t", 60_000);
    coordinators.add("t", producer, 0..1);
    coordinators.commit("t", producer);
    coordinators.init("u", 60_000);
    assert_eq!(coordinators.state("t"), TransactionState::PrepareCommit, "the other one completes it");
    coordinators.stop();
}
