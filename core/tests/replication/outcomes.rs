//! What became of each transaction, as its client heard it and as readers of committed records see it.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::partition::AbortedTransactions;
use millstream_core::replica::{BatchDescriptor, Entry};
use millstream_core::types::{Offset, ProducerId, RaftTerm};

use super::chance::Chance;
use super::cluster::Cluster;
use super::items::{Data, Item};
use super::stage::{Leadership, PARTITIONS};
use super::writers::descriptor;

#[derive(Default)]
struct Transaction {
    writes: Vec<(usize, Data)>,
    asked_to_commit: bool,
    told: Option<bool>,
}

#[derive(Default)]
struct Reader {
    position: Offset,
    seen: Vec<Data>,
    /// The newest leadership that was read from, and its last stable offset.
    newest: (RaftTerm, Offset),
}

#[derive(Default)]
pub struct Outcomes {
    transactions: Vec<Transaction>,
    writers: BTreeMap<(usize, Data), usize>,
    readers: [Reader; PARTITIONS],
    pub fenced: usize,
}

impl Outcomes {
    pub fn begin(&mut self) -> usize {
        self.transactions.push(Transaction::default());
        self.transactions.len() - 1
    }

    /// A new batch. Nobody else has its producer, epoch and sequence.
    pub fn writes(&mut self, transaction: usize, partition: usize, data: Data) {
        let before = self.writers.insert((partition, data), transaction);
        assert_eq!(before, None, "{data:?} belongs to two transactions");
        self.transactions[transaction].writes.push((partition, data));
    }

    pub fn asks_commit(&mut self, transaction: usize) {
        self.transactions[transaction].asked_to_commit = true;
    }

    pub fn told(&mut self, transaction: usize, commit: bool) {
        self.transactions[transaction].told = Some(commit);
    }

    /// Transactions whose clients heard that they were committed, and aborted.
    pub fn counts(&self) -> (usize, usize) {
        let count = |outcome| self.transactions.iter().filter(|t| t.told == Some(outcome)).count();
        (count(true), count(false))
    }

    /// Reads some of what a leader shows of committed transactions.
    pub fn read(&mut self, partition: usize, cluster: &Cluster, at: Leadership, chance: &mut Chance) {
        let to = self.last_stable(partition, cluster, at.node, at.term);
        let position = self.readers[partition - 1].position;
        if to > position {
            let most = 1 + chance.below(20) as i64;
            self.fetch(partition, cluster, at.node, to.min(position.plus(most)));
        }
    }

    pub fn read_all(&mut self, partition: usize, cluster: &Cluster, leader: usize) {
        let term = cluster.nodes[leader].leads().expect("it leads");
        let to = self.last_stable(partition, cluster, leader, term);
        let node = &cluster.nodes[leader];
        assert_eq!(Some(to), node.log.end_at(node.applied), "nothing is undecided");
        self.fetch(partition, cluster, leader, to);
    }

    /// Never beyond a transaction that is under way, and never back.
    fn last_stable(&mut self, partition: usize, cluster: &Cluster, node: usize, term: RaftTerm) -> Offset {
        let node = &cluster.nodes[node];
        let high_watermark = node.log.end_at(node.applied).expect("what is applied is there");
        let last_stable = node.producers.last_stable_offset(high_watermark).expect("all is folded in");
        let applied = cluster.checks.committed().iter().take_while(|entry| entry.index <= node.applied);
        assert_eq!(last_stable, first_undecided(applied).unwrap_or(high_watermark), "partition {partition}");
        let newest = &mut self.readers[partition - 1].newest;
        if term >= newest.0 {
            assert!(last_stable >= newest.1, "last stable offset {last_stable} after {}", newest.1);
            *newest = (term, last_stable);
        }
        last_stable
    }

    /// As a client reads: what is of a transaction that the list calls aborted is left out up to its marker.
    fn fetch(&mut self, partition: usize, cluster: &Cluster, node: usize, to: Offset) {
        let mut aborted = AbortedTransactions::default();
        cluster.nodes[node].producers.clone().take_aborted().into_iter().for_each(|a| aborted.push(a));
        let reader = &mut self.readers[partition - 1];
        let mut list = aborted.overlapping(reader.position, to).into_iter().peekable();
        let mut left_out: BTreeSet<ProducerId> = BTreeSet::new();
        let batches = cluster.checks.committed().iter().filter_map(descriptor);
        let position = reader.position;
        for batch in batches.filter(|b| b.base_offset >= position && end_of(b) <= to) {
            reader.position = end_of(batch);
            while let Some(begun) = list.next_if(|a| a.first_offset < end_of(batch)) {
                left_out.insert(begun.producer_id);
            }
            match Item::of(batch.crc) {
                Some(Item::Data(data)) if !left_out.contains(&ProducerId(data.producer)) => reader.seen.push(data),
                Some(Item::End { producer, commit: false, .. }) => _ = left_out.remove(&ProducerId(producer)),
                _ => {}
            }
        }
    }

    /// What was committed is seen once and whole, what was not never; and nobody heard otherwise.
    pub fn assert_whole(&self) {
        let mut seen = BTreeSet::new();
        for (place, reader) in self.readers.iter().enumerate() {
            for data in &reader.seen {
                assert!(seen.insert((place + 1, *data)), "{data:?} is seen twice");
            }
        }
        for (number, transaction) in self.transactions.iter().enumerate() {
            let Transaction { writes, asked_to_commit, told } = transaction;
            let count = writes.iter().filter(|write| seen.contains(write)).count();
            assert!(count == 0 || count == writes.len(), "{count} of transaction {number} are seen: {writes:?}");
            match told {
                Some(true) => assert_eq!(count, writes.len(), "transaction {number} was committed: {writes:?}"),
                _ if !asked_to_commit => assert_eq!(count, 0, "transaction {number} was not: {writes:?}"),
                _ => {}
            }
        }
    }
}

fn end_of(batch: &BatchDescriptor) -> Offset {
    batch.base_offset.plus(i64::from(batch.count))
}

/// Where the first transaction begins that has no marker.
fn first_undecided<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<Offset> {
    let mut open: BTreeMap<i64, Offset> = BTreeMap::new();
    for batch in entries.filter_map(descriptor) {
        match Item::of(batch.crc) {
            Some(Item::Data(data)) => _ = open.entry(data.producer).or_insert(batch.base_offset),
            Some(Item::End { producer, .. }) => _ = open.remove(&producer),
            _ => {}
        }
    }
    open.values().min().copied()
}
