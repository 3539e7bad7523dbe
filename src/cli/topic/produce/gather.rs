//! Gathers records into one batch a partition.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_core::record::{BATCH_HEADER_LEN, BatchBuilder, Compression};
use millstream_core::types::{ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::cli::partitioner::partition_of_key;

/// Bytes gathered over all partitions before they are sent.
const GATHERED_BYTES_MAX: usize = 8 << 20;
/// Most bytes that a record takes besides its key, value and headers: sizes, deltas, attributes.
const RECORD_OVERHEAD_MAX: usize = 37;
/// The same for a header.
const HEADER_OVERHEAD_MAX: usize = 10;

/// A header's name and value.
pub type Header = (String, Option<String>);

/// Who writes, for brokers to drop what they get twice (KIP-98).
#[derive(Clone, Copy, Debug)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// A batch to be sent.
pub struct Batch {
    pub bytes: Bytes,
    pub record_count: i32,
}

/// What is the same for all records.
pub struct Gathering {
    pub compression: Compression,
    pub headers: Vec<Header>,
    /// Largest batch before compression, in bytes. A larger record goes alone.
    pub batch_size_bytes_max: usize,
    /// Number of partitions.
    pub partitions: i32,
    /// All records go there.
    pub partition: Option<i32>,
}

pub struct Gatherer {
    options: Gathering,
    producer: Option<Producer>,
    batches: BTreeMap<i32, BatchBuilder>,
    gathered_bytes: usize,
    /// The next sequence of each partition.
    sequences: BTreeMap<i32, Sequence>,
    /// Takes records without key until its batch is full (KIP-480).
    sticky: i32,
}

impl Gatherer {
    /// `first` is any number: it chooses the first partition of records without key.
    pub fn new(options: Gathering, producer: Option<Producer>, first: u32) -> Self {
        let sticky = i32::try_from(i64::from(first) % i64::from(options.partitions.max(1))).unwrap_or(0);
        Self { options, producer, batches: BTreeMap::new(), gathered_bytes: 0, sequences: BTreeMap::new(), sticky }
    }

    /// Adds a record; false when the gathered ones have to be sent before.
    pub fn push(&mut self, now: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
        let size = self.size_bytes(key, value);
        let partition = match (self.options.partition, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, self.options.partitions),
            (None, None) => self.sticky_partition(size),
        };
        if self.gathered_bytes > GATHERED_BYTES_MAX || !self.fits(partition, size) {
            return false;
        }
        let headers: Vec<_> =
            self.options.headers.iter().map(|(n, v)| (n.as_bytes(), v.as_ref().map(String::as_bytes))).collect();
        let batch = self.batches.entry(partition).or_insert_with(|| {
            let batch = BatchBuilder::new().compression(self.options.compression, None);
            let sequence = self.sequences.get(&partition).copied().unwrap_or_default();
            match self.producer {
                Some(producer) => batch.producer(producer.id, producer.epoch, sequence),
                None => batch,
            }
        });
        batch.push(now, key, value, &headers);
        self.gathered_bytes += size;
        true
    }

    /// The batches so far, by partition. The next records go into new ones.
    pub fn take(&mut self) -> BTreeMap<i32, Batch> {
        self.gathered_bytes = 0;
        self.sticky = (self.sticky + 1) % self.options.partitions.max(1);
        let mut taken = BTreeMap::new();
        for (partition, batch) in std::mem::take(&mut self.batches) {
            let record_count = batch.record_count();
            let sequence = self.sequences.entry(partition).or_default();
            *sequence = sequence.plus(record_count);
            taken.insert(partition, Batch { bytes: batch.finish(), record_count });
        }
        taken
    }

    fn size_bytes(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
        let header = |(name, value): &Header| name.len() + value.as_ref().map_or(0, String::len) + HEADER_OVERHEAD_MAX;
        let headers: usize = self.options.headers.iter().map(header).sum();
        RECORD_OVERHEAD_MAX + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers
    }

    fn fits(&self, partition: i32, size: usize) -> bool {
        let Some(batch) = self.batches.get(&partition) else { return true };
        batch.size_bytes().max(BATCH_HEADER_LEN) + size <= self.options.batch_size_bytes_max
    }

    /// The same partition as before, or the next one when its batch is full.
    fn sticky_partition(&mut self, size: usize) -> i32 {
        if !self.fits(self.sticky, size) {
            self.sticky = (self.sticky + 1) % self.options.partitions.max(1);
        }
        self.sticky
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::record::BatchHeader;

    use super::*;

    fn gatherer(partitions: i32, partition: Option<i32>) -> Gatherer {
        let options = Gathering {
            compression: Compression::None,
            headers: vec![("h".to_owned(), None)],
            batch_size_bytes_max: 400,
            partitions,
            partition,
        };
        let producer = Producer { id: ProducerId(9), epoch: ProducerEpoch(0) };
        Gatherer::new(options, Some(producer), 7)
    }

    #[test]
    fn records_without_key_fill_one_partition_after_another() {
        let mut gatherer = gatherer(3, None);
        let mut pushed = 0;
        while gatherer.push(Timestamp(1), None, Some(&[0; 60])) {
            pushed += 1;
        }
        let batches = gatherer.take();
        assert_eq!(batches.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(batches.values().map(|batch| batch.record_count).sum::<i32>(), pushed);
        assert!(batches.values().all(|batch| batch.bytes.len() <= 400));
        assert!(gatherer.push(Timestamp(1), None, Some(&[0; 60])), "there is room again");
    }

    #[test]
    fn a_key_stays_with_its_partition_and_a_large_record_goes_alone() {
        let mut gatherer = gatherer(12, None);
        assert!(gatherer.push(Timestamp(1), Some(b"foobar"), Some(&[0; 1000])));
        assert!(!gatherer.push(Timestamp(1), Some(b"foobar"), None), "its batch is full");
        let batches = gatherer.take();
        assert_eq!(batches.keys().copied().collect::<Vec<_>>(), [partition_of_key(b"foobar", 12)]);
    }

    #[test]
    fn sequences_go_on_from_batch_to_batch() {
        let mut gatherer = gatherer(3, Some(1));
        for expected in [0, 2, 4] {
            assert!(gatherer.push(Timestamp(1), None, Some(b"a")));
            assert!(gatherer.push(Timestamp(1), None, Some(b"b")));
            let batches = gatherer.take();
            let header = BatchHeader::parse_checked(&batches[&1].bytes).expect("sound");
            assert_eq!((header.base_sequence, header.producer_id), (Sequence(expected), ProducerId(9)));
        }
    }
}
