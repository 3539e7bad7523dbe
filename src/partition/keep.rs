//! What a shard keeps up over time: synced ends, checkpoints, deletion behind the log start, and replicas that
//! are to be opened again.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_core::types::{Offset, PartitionId, RaftIndex};
use tokio::time::Instant;

use super::cleaner::is_compacting;
use super::handle::Leadership;
use super::shard::{Owned, Shard};
use super::shared::Shared;
use crate::log::LogEvent;
use crate::store::{self, Durability, SyncedEnd};

/// How often the synced end of a partition is written at most.
const SYNCED_END_EVERY: Duration = Duration::from_millis(100);

/// How old a checkpoint gets, and how much is read again at a start.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
const CHECKPOINT_EVERY_BYTES: u64 = 16 << 20;
/// Bytes of a producer in a checkpoint: five batches.
const PRODUCER_BYTES: u64 = 155;
/// Bytes of an aborted transaction.
const ABORTED_BYTES: u64 = 32;
/// 200 KB/s of checkpoints in the long run.
const CHECKPOINT_MICROS_A_BYTE: u64 = 5;
/// Or an eighth of what is written to the log.
const CHECKPOINT_SHARE: u64 = 8;

/// What was written to the store about a partition, and when.
pub(super) struct Kept {
    synced_end: RaftIndex,
    synced_end_at: Option<Instant>,
    checkpoint: RaftIndex,
    checkpoint_at: Option<Instant>,
    /// Bytes committed since the checkpoint.
    written_bytes: u64,
    delete_due: bool,
}

impl Kept {
    pub fn new() -> Self {
        Self {
            synced_end: RaftIndex(0),
            synced_end_at: None,
            checkpoint: RaftIndex(0),
            checkpoint_at: None,
            written_bytes: 0,
            delete_due: false,
        }
    }

    /// The last entry that the store knows as applied.
    pub fn checkpoint(&self) -> RaftIndex {
        self.checkpoint
    }

    /// So much more is committed, to be read again at a start.
    pub fn committed(&mut self, bytes: u64) {
        self.written_bytes += bytes;
    }

    /// The log is about to be cut from an entry on: the store must not say that it was synced beyond that. False: the
    /// store could not be written.
    pub fn lower_synced_end(&mut self, shared: &Shared, id: PartitionId, index: RaftIndex, offset: Offset) -> bool {
        let last_index = RaftIndex(index.0 - 1);
        if self.synced_end <= last_index && self.synced_end_at.is_some() {
            return true;
        }
        let mut batch = store::Batch::default();
        batch.put_synced_end(id, SyncedEnd { last_index, next_offset: offset });
        let is_written = tokio::task::block_in_place(|| shared.write(batch, Durability::Synced));
        if is_written {
            self.synced_end = last_index;
        }
        is_written
    }

    /// The log start moved: segments before it can go.
    pub fn delete_is_due(&mut self) {
        self.delete_due = true;
    }
}

/// Whether a checkpoint is due: 5 s or 16 MiB after the last, and later where it is large, so that checkpoints of very
/// many producers neither hold up the loop nor fill the store. What a start has to read again grows along.
fn is_checkpoint_due(since: Duration, written_bytes: u64, producers: usize, aborted: usize) -> bool {
    let size_bytes = producers as u64 * PRODUCER_BYTES + aborted as u64 * ABORTED_BYTES;
    since >= CHECKPOINT_EVERY.max(Duration::from_micros(size_bytes * CHECKPOINT_MICROS_A_BYTE))
        || written_bytes >= CHECKPOINT_EVERY_BYTES.max(size_bytes * CHECKPOINT_SHARE)
}

/// Adds what the store has to learn of a log.
pub(super) fn put_events(batch: &mut store::Batch, id: PartitionId, events: &[LogEvent]) {
    for event in events {
        match event {
            LogEvent::SegmentClosed(meta) => batch.put_segment(id, meta.base_offset, &meta.encode()),
            LogEvent::SegmentRemoved(base_offset) => batch.delete_segment(id, *base_offset),
        }
    }
}

impl Owned {
    fn put_synced_end(&mut self, now: Instant, batch: &mut store::Batch) {
        let Some(end) = self.group.as_ref().and_then(|g| g.synced()) else { return };
        let last_index = RaftIndex(end.next_index.0 - 1);
        if last_index > self.kept.synced_end {
            batch.put_synced_end(self.shared.id, SyncedEnd { last_index, next_offset: end.next_offset });
            self.kept.synced_end = last_index;
            self.kept.synced_end_at = Some(now);
        }
    }

    /// Adds a checkpoint even if the last one says the same: to be synced.
    pub fn put_checkpoint_again(&mut self, batch: &mut store::Batch) {
        self.kept.checkpoint = RaftIndex(0);
        self.put_checkpoint(batch);
    }

    /// Adds a checkpoint if one is due. True when nothing is left to be saved.
    fn put_due_checkpoint(&mut self, now: Instant, batch: &mut store::Batch) -> bool {
        // The first after a start is not measured by the last: it can wait as any other.
        let at = *self.kept.checkpoint_at.get_or_insert(now);
        let aborted = self.shared.aborted().len();
        if !is_checkpoint_due(now.duration_since(at), self.kept.written_bytes, self.producers.len(), aborted) {
            return false;
        }
        let is_all = self.put_checkpoint(batch);
        if self.kept.written_bytes == 0 {
            self.kept.checkpoint_at = Some(now);
        }
        is_all
    }

    /// Adds a checkpoint at the end of what is synced and applied. True when nothing is left to be saved.
    fn put_checkpoint(&mut self, batch: &mut store::Batch) -> bool {
        let Some(group) = &self.group else { return true };
        let Some(end) = group.settled(self.applied) else { return false };
        if self.applied > self.kept.checkpoint {
            let mut epochs = group.epochs().clone();
            epochs.truncate_from(end.next_index);
            let log_start = self.shared.log_start();
            epochs.trim_to(log_start, group.log().first_index());
            let aborted = self.shared.aborted();
            let checkpoint = store::Checkpoint {
                log: end.encode(),
                log_start,
                applied: self.applied,
                epochs,
                producers: Cow::Borrowed(&self.producers),
                aborted: Cow::Borrowed(&aborted),
            };
            batch.put_checkpoint(self.shared.id, &checkpoint);
            self.kept.written_bytes = 0;
            batch.put_hard_state(self.shared.id, &self.hard_state);
            self.kept.checkpoint = self.applied;
        }
        group.log().last_index() == self.applied
    }
}

impl Shard {
    /// After a flush: the synced end, not too often.
    pub(super) fn keep_synced_end(&mut self, id: PartitionId, now: Instant, batch: &mut store::Batch) {
        if let Some(owned) = self.owned.get_mut(&id)
            && owned.kept.synced_end_at.is_none_or(|at| now.duration_since(at) >= SYNCED_END_EVERY)
        {
            owned.put_synced_end(now, batch);
        }
    }

    /// Once a second: checkpoints of what changed, deletion, halted replicas.
    pub(super) fn tick(&mut self) {
        if self.shared.dir.is_full() {
            self.give_way(Instant::now());
            tokio::task::block_in_place(|| self.shared.dir.look_for_room());
        } else {
            self.gave_way_at = None;
        }
        self.save(false);
        self.delete();
        self.look_after_hurt(Instant::now());
        if !self.halted.is_empty() {
            tokio::task::block_in_place(|| self.reopen());
        }
    }

    fn save(&mut self, all: bool) {
        let now = Instant::now();
        let mut batch = store::Batch::default();
        let owned = &mut self.owned;
        self.unsaved.retain(|id| {
            let Some(owned) = owned.get_mut(id) else { return false };
            owned.put_synced_end(now, &mut batch);
            let is_saved =
                if all { owned.put_checkpoint(&mut batch) } else { owned.put_due_checkpoint(now, &mut batch) };
            !is_saved || owned.kept.delete_due
        });
        self.shared.write(batch, Durability::Buffered);
    }

    /// At a clean stop: everything is flushed and applied already.
    pub(super) fn save_all(&mut self) {
        self.save(true);
    }

    /// Deletes segments before the log start. The checkpoint that says so is synced first: a log that begins after
    /// the stored log start would be taken for lost.
    fn delete(&mut self) {
        let due: Vec<PartitionId> =
            self.unsaved.iter().copied().filter(|id| self.owned.get(id).is_some_and(|o| o.kept.delete_due)).collect();
        if due.is_empty() {
            return;
        }
        let mut batch = store::Batch::default();
        for id in &due {
            if let Some(owned) = self.owned.get_mut(id) {
                owned.put_checkpoint_again(&mut batch);
            }
        }
        if !tokio::task::block_in_place(|| self.shared.write(batch, Durability::Synced)) {
            return;
        }
        let mut batch = store::Batch::default();
        for id in due {
            let Some(owned) = self.owned.get_mut(&id) else { continue };
            let log_start = owned.shared.log_start();
            let applied = owned.kept.checkpoint;
            let Some(group) = &mut owned.group else { continue };
            let log = group.log_mut();
            match tokio::task::block_in_place(|| log.delete_segments_below(log_start, applied)) {
                Ok(events) => {
                    put_events(&mut batch, id, &events);
                    group.log_was_cut();
                    let log = group.log();
                    // Entries that are not yet applied, or no room to close the active segment: later.
                    owned.kept.delete_due = log.ends_segments_below(log_start);
                }
                Err(e) => {
                    tracing::error!(partition = %owned.shared.name, error = %e, "deletion of old segments failed");
                    self.halt(id);
                }
            }
        }
        self.shared.write(batch, Durability::Buffered);
    }

    /// Opens halted replicas again from disk.
    pub(super) fn reopen(&mut self) {
        let mut opened = Vec::new();
        for id in self.halted.clone() {
            // A term or a vote of before would be written over a later one.
            let is_storing = |owned: &Owned| owned.hard_state_on_its_way.strong_count() > 0;
            if is_compacting(&self.compacting, id) || self.owned.get(&id).is_some_and(is_storing) {
                continue;
            }
            let Some(recovered) = self.recover_hurt(id) else { continue };
            match recovered {
                Ok(recovered) => opened.push((id, recovered)),
                Err(e) if e.is_final() => {
                    tracing::error!(partition = %id, error = %e, "partition is damaged and stays offline");
                    self.halted.remove(&id);
                }
                Err(e) => tracing::warn!(partition = %id, error = %e, "partition stays offline"),
            }
        }
        if opened.is_empty() {
            return;
        }
        // Raft takes what the log holds for persisted.
        self.shared.dir.sync_all_blocking();
        for (id, recovered) in opened {
            self.halted.remove(&id);
            self.replace(id, recovered);
        }
    }

    /// Forgets idle producers.
    pub(super) fn expire_producers(&mut self) {
        let now = (self.shared.clock)();
        let expiration_ms = self.shared.producer_id_expiration_ms.load(Ordering::Relaxed);
        for owned in self.owned.values_mut() {
            owned.producers.expire(now, expiration_ms);
        }
    }

    /// Applies `retention.*`.
    pub(super) fn retain(&mut self) {
        let now = (self.shared.clock)();
        let mut trims = Vec::new();
        for (id, owned) in &mut self.owned {
            let Some(group) = owned.group.as_mut().filter(|_| owned.shared.leadership() == Leadership::Leading) else {
                continue;
            };
            let wanted = group.log().offset_for_retention(now, owned.shared.high_watermark());
            if let Some(offset) = wanted.filter(|o| *o > owned.shared.log_start()) {
                trims.push((*id, offset));
            }
        }
        for (id, offset) in trims {
            let (reply, _) = tokio::sync::oneshot::channel();
            self.trim(id, offset, reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_of_many_producers_are_rare() {
        let seconds = Duration::from_secs;
        assert!(!is_checkpoint_due(seconds(4), 1 << 20, 10, 0));
        assert!(is_checkpoint_due(seconds(5), 0, 10, 0));
        assert!(is_checkpoint_due(seconds(0), 16 << 20, 10, 0));
        assert!(!is_checkpoint_due(seconds(60), 100 << 20, 100_000, 0));
        assert!(!is_checkpoint_due(seconds(70), 0, 100_000, 0));
        assert!(is_checkpoint_due(seconds(78), 0, 100_000, 0));
        assert!(!is_checkpoint_due(seconds(70), 0, 0, 500_000));
        assert!(is_checkpoint_due(seconds(0), 124 << 20, 100_000, 0));
    }
}
