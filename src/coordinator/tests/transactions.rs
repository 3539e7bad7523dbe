//! Offsets that are committed with transactions: in memory, over crashes, and on a node that only follows.

use millstream_core::coordinator::group::Fetched;
use millstream_core::partition::{ProducerError, TxnEnd};
use millstream_core::types::{ProducerEpoch, ProducerId, Sequence};

use super::super::Transaction;
use super::super::load::materialise;
use super::*;

fn end(producer: i64, commit: bool) -> TxnEnd {
    TxnEnd {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        commit,
        coordinator_epoch: 0,
        transaction_version: 1,
    }
}

impl Node {
    /// As if the transaction's coordinator knew of it.
    fn transaction(&self, of: &str, producer: i64) -> Transaction {
        let partition = self.partitions.get(id(self.groups.partition_for(of).unwrap())).unwrap();
        let (producer, epoch) = (ProducerId(producer), ProducerEpoch(0));
        let guard =
            self.runtime.block_on(partition.begin_verification((producer, epoch, Sequence(-1)), false)).unwrap();
        Transaction { producer, epoch, guard }
    }

    fn ask_in(&self, of: &str, transaction: Transaction, offset: i64) -> Result<Reply, CoordinatorError> {
        let home = self.groups.partition_for(of).unwrap();
        let as_plain = commit(of, 0, offset, "in a transaction");
        let command = move |token| match as_plain(token) {
            Command::OffsetCommit(commit) => Command::TransactionalCommit(commit),
            other => other,
        };
        let ask = || async { self.groups.ask_in(home, transaction, command.clone()).await?.reply().await };
        self.runtime.block_on(loaded(ask))
    }

    fn commit_in(&self, of: &str, producer: i64, offset: i64) {
        // Loaded, else a guard would be lost on the way.
        self.listed();
        let reply = self.ask_in(of, self.transaction(of, producer), offset);
        assert!(matches!(reply, Ok(Reply::OffsetCommit(Ok(_)))), "{reply:?}");
    }

    fn end(&self, of: &str, producer: i64, commit: bool) {
        let home = self.groups.partition_for(of).unwrap();
        self.listed();
        self.runtime.block_on(self.groups.end_transaction(home, end(producer, commit))).unwrap();
    }

    fn is_stable(&self, of: &str) -> bool {
        let any = fetch(of, 0);
        let stable = move |token| match any(token) {
            Command::OffsetFetch(fetch) => Command::OffsetFetch(OffsetFetch { require_stable: true, ..fetch }),
            other => other,
        };
        let Reply::OffsetFetch(Ok(topics)) = self.ask(of, stable) else { panic!("a fetch") };
        topics[0].partitions[0].1 != Fetched::Unstable
    }

    fn offset(&self, of: &str) -> Option<i64> {
        self.committed(of, 0).map(|(offset, _)| offset)
    }
}

#[test]
fn offsets_count_from_the_marker_on_that_commits_them() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    node.commit_in("group", 7, 5);
    assert_eq!((node.offset("group"), node.is_stable("group")), (None, false));
    node.end("group", 7, true);
    assert_eq!((node.offset("group"), node.is_stable("group")), (Some(5), true));
    node.commit_in("group", 7, 6);
    node.end("group", 7, false);
    assert_eq!((node.offset("group"), node.is_stable("group")), (Some(5), true));
    // A marker that comes again changes nothing.
    node.end("group", 7, true);
    assert_eq!(node.offset("group"), Some(5));
}

/// Crashes between any two steps; what is stored is written again and again.
#[test]
fn a_crash_at_any_step_changes_nothing() {
    #[derive(Clone, Copy, Debug)]
    enum Step {
        In(i64, i64),
        Plain(i64),
        End(i64, bool),
    }
    let steps = [
        (Step::In(7, 5), None, false),
        (Step::In(8, 6), None, false),
        (Step::Plain(10), Some(10), false),
        (Step::In(9, 11), Some(10), false),
        (Step::End(7, true), Some(10), false),
        (Step::End(9, true), Some(11), false),
        (Step::End(8, true), Some(11), true),
        (Step::In(7, 12), Some(11), false),
        (Step::End(7, false), Some(11), true),
        (Step::In(8, 13), Some(11), false),
        (Step::End(8, true), Some(13), true),
    ];
    for crashes in [0b000_0000_0000, 0b111_1111_1111, 0b010_1010_1010, 0b101_0101_0101, 0b000_1000_1000] {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::start(dir.path(), true);
        for (n, (step, offset, is_stable)) in steps.into_iter().enumerate() {
            match step {
                Step::In(producer, offset) => node.commit_in("group", producer, offset),
                Step::Plain(offset) => node.commit("group", 0, offset),
                Step::End(producer, commit) => node.end("group", producer, commit),
            }
            if crashes & 1 << n != 0 {
                drop(node);
                node = Node::start(dir.path(), false);
            }
            let found = (node.offset("group"), node.is_stable("group"));
            assert_eq!(found, (offset, is_stable), "crashes {crashes:b}, after step {n}, {step:?}");
        }
    }
}

#[test]
fn what_a_follower_stores_tells_what_is_decided() {
    let dir = tempfile::tempdir().unwrap();
    let home;
    {
        let node = Node::start(dir.path(), true);
        home = id(node.groups.partition_for("group").unwrap());
        node.commit_in("group", 7, 5);
        node.commit("group", 0, 4);
        node.commit_in("group", 8, 6);
        node.end("group", 8, true);
        // Forgotten, and read from the log as another node does.
        let mut batch = crate::store::Batch::default();
        node.groups.store().forget_partition(&mut batch, home).unwrap();
        node.groups.store().write(batch, crate::store::Durability::Buffered).unwrap();
        let partition = node.partitions.get(home).unwrap();
        let mut next = Offset(0);
        while next < partition.high_watermark() {
            next = materialise(&partition, node.groups.store()).unwrap();
        }
    }
    let node = Node::start(dir.path(), false);
    assert_eq!((node.offset("group"), node.is_stable("group")), (Some(6), false));
    node.end("group", 7, true);
    assert_eq!((node.offset("group"), node.is_stable("group")), (Some(6), true));
}

#[test]
fn a_transaction_that_is_not_verified_or_of_the_past_commits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), true);
    node.listed();
    let unverified = Transaction { guard: None, ..node.transaction("group", 7) };
    let refused = node.ask_in("group", unverified, 5);
    let expected = ProducerError::NotInTransaction { producer_id: ProducerId(7) };
    assert_eq!(refused, Err(CoordinatorError::Producer(expected)));
    let late = node.transaction("group", 7);
    node.end("group", 7, false);
    assert_eq!(node.ask_in("group", late, 5), Err(CoordinatorError::Producer(expected)));
    assert_eq!((node.offset("group"), node.is_stable("group")), (None, true));
    let fenced = TxnEnd { producer_epoch: ProducerEpoch(-1), ..end(7, true) };
    let home = node.groups.partition_for("group").unwrap();
    let refused = node.runtime.block_on(node.groups.end_transaction(home, fenced));
    assert!(matches!(refused, Err(CoordinatorError::Producer(ProducerError::StaleEpoch { .. }))));
}
