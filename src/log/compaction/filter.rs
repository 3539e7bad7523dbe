//! What stays of one batch (`Cleaner.cleanInto`, `MemoryRecords.filterTo`).

use std::collections::HashMap;

use bytes::Bytes;
use millstream_core::partition::LastRecord;
use millstream_core::record::{BATCH_HEADER_LEN, BatchBuilder, BatchHeader, Record, RecordIter, batch_body};
use millstream_core::types::{Offset, ProducerId, Timestamp};

use super::super::timestamps::INFLATED_MAX;
use super::offset_map::OffsetMap;
use super::transactions::{Need, Transactions};

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Whole,
    /// Without some records, or with its delete horizon set, or empty.
    Rewritten(Bytes),
    Nothing,
}

pub(super) struct Filter<'a> {
    pub map: &'a OffsetMap,
    /// Records from here on are not in the map: they stay.
    pub map_end: Offset,
    pub now: Timestamp,
    pub delete_retention_ms: i64,
    /// The last record of each live producer: its batch stays, for its sequence numbers, if need be empty.
    pub producers: &'a HashMap<ProducerId, LastRecord>,
    /// Last offset of the last batch of all: it stays, so that readers get past the hole before the end.
    pub last_offset: Option<Offset>,
    pub transactions: Transactions,
}

/// What a look at all records tells.
#[derive(Default)]
struct Seen {
    kept: usize,
    gone: usize,
    tombstones: bool,
}

impl Filter<'_> {
    /// Takes the batches of a log in their order. `batch`: whole and checked. The error says what is wrong with its records.
    pub fn apply(&mut self, header: &BatchHeader, batch: &[u8], scratch: &mut Vec<u8>) -> Result<Kept, String> {
        if header.is_control() {
            let need = self.transactions.marker(header, batch);
            return self.apply_to_marker(header, batch, need);
        }
        let is_aborted = self.transactions.batch(header);
        if header.base_offset >= self.map_end {
            return Ok(Kept::Whole);
        }
        let body = batch_body(header, batch, INFLATED_MAX, scratch).map_err(|e| e.to_string())?;
        let seen = self.look(header, body, is_aborted)?;
        let new_horizon = seen.tombstones && !header.has_delete_horizon();
        match (seen.kept, seen.gone) {
            (0, _) if !self.is_needed(header) => Ok(Kept::Nothing),
            (0, 0) => Ok(Kept::Whole),
            (1.., 0) if !new_horizon => Ok(Kept::Whole),
            _ => self.rewrite(header, body, new_horizon, is_aborted).map(Kept::Rewritten),
        }
    }

    /// A marker that no batch needs any more first gets its horizon, and goes when that is over. The last of a producer
    /// stays, whole: only it has the producer's epoch.
    fn apply_to_marker(&self, header: &BatchHeader, batch: &[u8], need: Need) -> Result<Kept, String> {
        if need == Need::Batches {
            return Ok(Kept::Whole);
        }
        if !header.has_delete_horizon() {
            let body = batch.get(BATCH_HEADER_LEN..).unwrap_or_default();
            return self.rewrite(header, body, true, false).map(Kept::Rewritten);
        }
        let is_expired = need == Need::Nothing && self.now >= header.base_timestamp;
        Ok(if is_expired && !self.is_needed(header) { Kept::Nothing } else { Kept::Whole })
    }

    fn look(&self, header: &BatchHeader, body: &[u8], is_aborted: bool) -> Result<Seen, String> {
        let mut seen = Seen::default();
        let mut last_delta = -1;
        for record in RecordIter::new(header, body) {
            let record = record.map_err(|e| e.to_string())?;
            if record.offset_delta <= last_delta || record.offset_delta > header.last_offset_delta {
                return Err(format!("offset delta {} follows {last_delta}", record.offset_delta));
            }
            last_delta = record.offset_delta;
            if !is_aborted && self.keeps(header, &record) {
                seen.kept += 1;
                seen.tombstones |= record.value.is_none();
            } else {
                seen.gone += 1;
            }
        }
        Ok(seen)
    }

    fn keeps(&self, header: &BatchHeader, record: &Record<'_>) -> bool {
        if record.offset >= self.map_end {
            return true;
        }
        if header.is_control() {
            return true;
        }
        // Written before the topic was compacted; Kafka drops these too.
        let Some(key) = record.key else { return false };
        let superseded = self.map.get(key).is_some_and(|last| record.offset < last);
        let expired = record.value.is_none() && header.has_delete_horizon() && self.now >= header.base_timestamp;
        !superseded && !expired
    }

    fn is_needed(&self, header: &BatchHeader) -> bool {
        let last = header.last_offset();
        let of_producer = self.producers.get(&header.producer_id).is_some_and(|record| match record.data {
            Some(data) => data == last,
            None => header.is_control() && header.producer_epoch == record.epoch,
        });
        header.is_idempotent() && of_producer || self.last_offset == Some(last)
    }

    fn rewrite(&self, header: &BatchHeader, body: &[u8], new_horizon: bool, is_aborted: bool) -> Result<Bytes, String> {
        let codec = header.compression().map_err(|e| e.to_string())?;
        let mut builder = BatchBuilder::like(header, codec);
        if new_horizon {
            builder = builder.delete_horizon(Some(self.now.plus_ms(self.delete_retention_ms)));
        }
        for record in RecordIter::new(header, body) {
            let record = record.map_err(|e| e.to_string())?;
            if !is_aborted && self.keeps(header, &record) {
                builder.push_record(record.offset_delta, &record);
            }
        }
        Ok(builder.finish_with(header.max_timestamp))
    }
}
