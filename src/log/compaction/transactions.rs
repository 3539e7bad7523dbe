//! Which records were aborted, and which markers nobody needs any more (Kafka `CleanedTransactionMetadata`).

use std::collections::{HashMap, HashSet};

use millstream_core::partition::{AbortedTransaction, LastRecord};
use millstream_core::record::{BatchHeader, Marker, marker_of};
use millstream_core::types::{Offset, ProducerId};

/// What the partition knows of its producers when a compaction begins.
#[derive(Clone, Debug, Default)]
pub struct KnownProducers {
    /// The last record of each: its batch stays, for its epoch and sequence numbers, if need be empty.
    pub last: HashMap<ProducerId, LastRecord>,
    pub aborted: Vec<AbortedTransaction>,
}

/// A walk through the batches of a log, from the first to the last.
pub(super) struct Transactions {
    /// Those that are yet to come, the first one last.
    to_come: Vec<AbortedTransaction>,
    aborted: HashMap<ProducerId, Aborted>,
    /// Producers with a batch since their last marker that was not aborted.
    with_batches: HashSet<ProducerId>,
    /// Markers of aborted transactions that nothing else is left of.
    pub gone: Vec<Offset>,
}

/// Whether a marker is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A batch of its transaction is there.
    Batches,
    /// Readers may still be told of its transaction until it is known that they need not.
    Listed,
    Nothing,
}

struct Aborted {
    transaction: AbortedTransaction,
    has_batches: bool,
}

impl Transactions {
    /// For the batches from `from` on.
    pub fn new(known: &KnownProducers, from: Offset) -> Self {
        let mut to_come: Vec<_> = known.aborted.iter().filter(|aborted| aborted.last_offset >= from).copied().collect();
        to_come.sort_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
        Self { to_come, aborted: HashMap::new(), with_batches: HashSet::new(), gone: Vec::new() }
    }

    fn come_to(&mut self, header: &BatchHeader) {
        while let Some(transaction) = self.to_come.pop_if(|next| next.first_offset <= header.last_offset()) {
            self.aborted.insert(transaction.producer_id, Aborted { transaction, has_batches: false });
        }
    }

    /// Takes the next batch, which is no marker. True: its records were aborted.
    pub fn batch(&mut self, header: &BatchHeader) -> bool {
        self.come_to(header);
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            // Never beyond its marker, should that be missing.
            Some(aborted) if header.base_offset < aborted.transaction.last_offset => {
                aborted.has_batches = true;
                true
            }
            _ => {
                self.with_batches.insert(header.producer_id);
                false
            }
        }
    }

    /// Takes the next batch, a marker.
    pub fn marker(&mut self, header: &BatchHeader, batch: &[u8]) -> Need {
        self.come_to(header);
        let id = header.producer_id;
        match marker_of(header, batch) {
            Some((Marker::Abort, _)) => {
                let ended = self.aborted.remove(&id);
                // A batch that was not known to be aborted needs its marker all the more.
                if self.with_batches.remove(&id) || ended.as_ref().is_some_and(|aborted| aborted.has_batches) {
                    return Need::Batches;
                }
                let Some(aborted) = ended else { return Need::Nothing };
                self.gone.push(aborted.transaction.last_offset);
                Need::Listed
            }
            Some((Marker::Commit, _)) if self.with_batches.remove(&id) => Need::Batches,
            Some((Marker::Commit, _)) => Need::Nothing,
            None => Need::Batches,
        }
    }
}
