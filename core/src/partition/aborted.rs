//! The aborted transactions of a partition: what readers of committed records must leave out (Kafka
//! `TransactionIndex`, one for the whole log).

use super::producers::{DecodeError, take};
use crate::types::{Offset, ProducerId};

/// Bytes of one as encoded.
const ENCODED_LEN: usize = 32;

/// A transaction that was aborted (`AbortedTxn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    /// Of its first record.
    pub first_offset: Offset,
    /// Of its marker.
    pub last_offset: Offset,
    /// The last stable offset right after the marker: transactions that end later begin there or beyond.
    pub last_stable: Offset,
}

/// All of them whose markers are in the log, in the order of their markers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AbortedTransactions {
    list: Vec<AbortedTransaction>,
}

impl AbortedTransactions {
    /// Adds one; its marker comes after those of all others. One that is there already changes nothing.
    pub fn push(&mut self, aborted: AbortedTransaction) {
        if self.list.last().is_none_or(|last| last.last_offset < aborted.last_offset) {
            self.list.push(aborted);
        }
    }

    /// Those that have a record or their marker in `from..end`, by first offset.
    pub fn overlapping(&self, from: Offset, end: Offset) -> Vec<AbortedTransaction> {
        let mut found = Vec::new();
        for aborted in &self.list[self.list.partition_point(|aborted| aborted.last_offset < from)..] {
            if aborted.first_offset < end {
                found.push(*aborted);
            }
            if aborted.last_stable >= end {
                break;
            }
        }
        found.sort_by_key(|aborted| aborted.first_offset);
        found
    }

    /// Forgets those whose markers lie before the log.
    pub fn trim_to(&mut self, log_start: Offset) {
        self.list.drain(..self.list.partition_point(|aborted| aborted.last_offset < log_start));
    }

    /// Forgets those with these markers, in rising order: compaction left nothing of them.
    pub fn remove(&mut self, markers: &[Offset]) {
        if !markers.is_empty() {
            self.list.retain(|aborted| markers.binary_search(&aborted.last_offset).is_err());
        }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// By the order of their markers.
    pub fn iter(&self) -> impl Iterator<Item = &AbortedTransaction> {
        self.list.iter()
    }

    /// Layout, big endian: count u32, then each: producer id i64, first offset i64, last offset i64, last stable offset
    /// i64.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // More than 2^32 do not fit into memory.
        out.extend_from_slice(&(self.list.len() as u32).to_be_bytes());
        out.reserve(self.list.len() * ENCODED_LEN);
        for aborted in &self.list {
            for n in [aborted.producer_id.0, aborted.first_offset.0, aborted.last_offset.0, aborted.last_stable.0] {
                out.extend_from_slice(&n.to_be_bytes());
            }
        }
    }

    /// Takes what `encode` wrote from the start of `input`.
    pub fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut decoded = Self::default();
        for _ in 0..u32::from_be_bytes(take(input)?) {
            let mut n = || take(input).map(i64::from_be_bytes);
            let aborted = AbortedTransaction {
                producer_id: ProducerId(n()?),
                first_offset: Offset(n()?),
                last_offset: Offset(n()?),
                last_stable: Offset(n()?),
            };
            decoded.push(aborted);
        }
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(id: i64, first: i64, last: i64, stable: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(id),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable: Offset(stable),
        }
    }

    fn some() -> AbortedTransactions {
        let mut all = AbortedTransactions::default();
        for one in [aborted(1, 5, 9, 3), aborted(2, 10, 12, 3), aborted(3, 3, 20, 21), aborted(1, 30, 35, 36)] {
            all.push(one);
            all.push(one);
        }
        all
    }

    fn ids(found: Vec<AbortedTransaction>) -> Vec<(i64, i64)> {
        found.into_iter().map(|a| (a.producer_id.0, a.first_offset.0)).collect()
    }

    #[test]
    fn a_reader_is_told_what_overlaps_by_first_offset() {
        let all = some();
        assert_eq!(all.len(), 4);
        assert_eq!(ids(all.overlapping(Offset(0), Offset(36))), [(3, 3), (1, 5), (2, 10), (1, 30)]);
        assert_eq!(ids(all.overlapping(Offset(10), Offset(11))), [(3, 3), (2, 10)]);
        assert_eq!(ids(all.overlapping(Offset(0), Offset(4))), [(3, 3)]);
        assert_eq!(ids(all.overlapping(Offset(21), Offset(30))), []);
        assert_eq!(ids(all.overlapping(Offset(20), Offset(21))), [(3, 3)], "its marker");
        assert_eq!(ids(all.overlapping(Offset(36), Offset(99))), []);
    }

    #[test]
    fn what_is_gone_is_forgotten_and_the_rest_reads_back() {
        let mut all = some();
        all.trim_to(Offset(10));
        all.remove(&[Offset(20), Offset(21)]);
        assert_eq!(ids(all.overlapping(Offset(0), Offset(99))), [(2, 10), (1, 30)]);
        let mut bytes = Vec::new();
        all.encode(&mut bytes);
        let mut rest = &bytes[..];
        assert_eq!(AbortedTransactions::decode(&mut rest), Ok(all));
        assert!(rest.is_empty());
        assert_eq!(AbortedTransactions::decode(&mut &bytes[..bytes.len() - 1]), Err(DecodeError));
    }
}
