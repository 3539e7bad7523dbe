//! Compacts, one partition at a time, the dirtiest first. The work is done away from the shards, which only say what
//! is due and take the result in.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_core::config::BrokerConfig;
use millstream_core::types::PartitionId;
use tokio::sync::{oneshot, watch};

use super::append::answer;
use super::ask::Ask;
use super::handle::Leadership;
use super::keep::put_events;
use super::registry::Partitions;
use super::shard::Shard;
use crate::log::{Compacted, CompactionJob, CompactionLimits, KnownProducers, ReadError};
use crate::store::{self, Durability};

/// Below, a map of keys would not even hold those of one batch (Kafka `CleanerConfig`, 1 MiB a thread).
const DEDUPE_BUFFER_BYTES_MIN: usize = 1 << 20;

/// How the cleaner works. May change while it does: a compaction under way goes on as it began.
#[derive(Clone, Copy, Debug)]
pub struct CleanerConfig {
    /// `log.cleaner.backoff.ms`: how long it rests when nothing is due. Short: costs a look at every partition.
    pub backoff: Duration,
    /// `log.cleaner.dedupe.buffer.size`, bytes. Small: a long dirty part takes several rounds.
    pub dedupe_buffer_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`, read and written together. Low: garbage stays long; high: compactions
    /// take the disk from clients.
    pub bytes_per_second_max: f64,
}

impl CleanerConfig {
    /// From the settings in force.
    pub fn of(broker: &BrokerConfig) -> Self {
        let backoff = u64::try_from(broker.integer("log.cleaner.backoff.ms")).unwrap_or(0);
        let buffer = usize::try_from(broker.integer("log.cleaner.dedupe.buffer.size"));
        Self {
            // Zero would spin.
            backoff: Duration::from_millis(backoff.max(10)),
            dedupe_buffer_bytes: buffer.unwrap_or(0).max(DEDUPE_BUFFER_BYTES_MIN),
            bytes_per_second_max: broker.double("log.cleaner.io.max.bytes.per.second"),
        }
    }
}

/// As long as one is there a compaction has files in the partition's directory, and a halted replica is not opened
/// again: it would take a finished output for the log's, and delete what it stands for. Set: it shall end.
pub(super) type Compacting = Arc<AtomicBool>;

/// A compaction that a shard gives out.
pub(super) struct Due {
    pub id: PartitionId,
    pub incarnation: u64,
    pub job: CompactionJob,
    pub producers: KnownProducers,
    pub compacting: Compacting,
}

/// A compaction that comes back.
pub(super) struct Done {
    pub id: PartitionId,
    pub incarnation: u64,
    pub compacted: Compacted,
    /// Below `compacted`: dropped after it.
    pub compacting: Compacting,
}

impl Partitions {
    /// Starts the cleaner; it ends with the partitions.
    pub fn start_cleaner(self: &Arc<Self>, config: watch::Receiver<CleanerConfig>) {
        tokio::spawn(clean(Arc::downgrade(self), config));
    }
}

async fn clean(partitions: Weak<Partitions>, mut config: watch::Receiver<CleanerConfig>) {
    // Damaged: left alone until the next start, as Kafka does.
    let mut uncleanable = HashSet::new();
    loop {
        let now = *config.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep(now.backoff) => {}
            // Maybe it rests for less now. An error means that it changes no more.
            Ok(()) = config.changed() => continue,
        }
        // Work on while there is something due.
        let mut except = uncleanable.clone();
        loop {
            let now = *config.borrow();
            let Some(partitions) = partitions.upgrade() else { return };
            match partitions.compact_one(&now, &except).await {
                Cleaned::Nothing => break,
                Cleaned::One => {}
                Cleaned::Later(id) => drop(except.insert(id)),
                Cleaned::Failed(id) => {
                    except.insert(id);
                    uncleanable.insert(id);
                }
            }
        }
    }
}

/// What a round came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cleaned {
    Nothing,
    One,
    /// Its files could not be read or written just now, for want of room, say.
    Later(PartitionId),
    /// It is damaged.
    Failed(PartitionId),
}

impl Partitions {
    pub(super) async fn compact_one(&self, config: &CleanerConfig, except: &HashSet<PartitionId>) -> Cleaned {
        let mut dirtiest: Option<Due> = None;
        for shard in self.shards() {
            let (reply, due) = oneshot::channel();
            let ask = Ask::PlanCompaction { config: *config, except: except.clone(), reply };
            if shard.send(ask).await.is_err() {
                return Cleaned::Nothing;
            }
            let ratio = |due: &Due| due.job.dirty_ratio();
            if let Ok(Some(due)) = due.await
                && dirtiest.as_ref().is_none_or(|best| ratio(&due) > ratio(best))
            {
                dirtiest = Some(due);
            }
        }
        let Some(Due { id, incarnation, job, producers, compacting }) = dirtiest else { return Cleaned::Nothing };
        // It may write as much as it reads. What room there is else is for others.
        if !self.has_room_for(job.size_bytes()) {
            tracing::warn!(partition = %id, "no room for a compaction, it is tried again later");
            return Cleaned::Later(id);
        }
        // The mark goes with the work: it goes on when nobody waits for it any more.
        let ran = tokio::task::spawn_blocking(move || (job.run(&producers), compacting)).await;
        let (ran, compacting) = ran.expect("compaction does not panic");
        let compacted: Compacted = match ran {
            Ok(compacted) => compacted,
            Err(ReadError::Gone { .. }) => return Cleaned::One,
            Err(e @ ReadError::Corrupt { .. }) => {
                tracing::error!(partition = %id, error = %e, "compaction failed, the partition is left alone");
                return Cleaned::Failed(id);
            }
            Err(e) => {
                tracing::warn!(partition = %id, error = %e, "compaction failed, it is tried again later");
                return Cleaned::Later(id);
            }
        };
        tracing::info!(
            partition = %id,
            bytes_before = compacted.bytes_before,
            bytes_after = compacted.bytes_after,
            "compacted"
        );
        let (reply, installed) = oneshot::channel();
        let done = Box::new(Done { id, incarnation, compacted, compacting });
        if self.shard(id).send(Ask::InstallCompacted { done, reply }).await.is_err() {
            return Cleaned::Nothing;
        }
        match installed.await {
            Ok(true) => Cleaned::One,
            // It is not the same replica any more; what it has now is looked at next time.
            Ok(false) | Err(_) => Cleaned::Nothing,
        }
    }
}

impl Shard {
    /// The dirtiest log of this shard. What its compaction rests on is synced before it is given out: entries up to
    /// the checkpoint lose their indexes.
    pub(super) fn plan_compaction(
        &mut self,
        config: CleanerConfig,
        except: &HashSet<PartitionId>,
        reply: oneshot::Sender<Option<Due>>,
    ) {
        let now = (self.shared.clock)();
        let mut dirtiest: Option<Due> = None;
        for (id, owned) in &self.owned {
            let leading = owned.shared.leadership() == Leadership::Leading
                && !except.contains(id)
                && !self.shared.snapshots.is_offered(*id)
                && !is_compacting(&self.compacting, *id);
            let Some(group) = owned.group.as_ref().filter(|_| leading) else { continue };
            let limits = CompactionLimits {
                end: owned.shared.last_stable(),
                applied: owned.applied,
                now,
                dedupe_buffer_bytes: config.dedupe_buffer_bytes,
                bytes_per_second_max: config.bytes_per_second_max,
            };
            let Some(job) = group.log().compaction_plan(limits) else { continue };
            if dirtiest.as_ref().is_none_or(|best| job.dirty_ratio() > best.job.dirty_ratio()) {
                let aborted = owned.shared.aborted().iter().copied().collect();
                let producers = KnownProducers { last: owned.producers.last_records(), aborted };
                let (id, incarnation, compacting) = (*id, owned.incarnation, job.cancelled());
                dirtiest = Some(Due { id, incarnation, job, producers, compacting });
            }
        }
        if let Some(due) = &dirtiest
            && !self.sync_checkpoint(due.id)
        {
            dirtiest = None;
        }
        if let Some(due) = &dirtiest {
            self.compacting.retain(|_, compacting| compacting.strong_count() > 0);
            self.compacting.insert(due.id, Arc::downgrade(&due.compacting));
        }
        answer(reply, dirtiest);
    }

    /// Nobody will take its result.
    pub(super) fn cancel_compaction(&self, id: PartitionId) {
        if let Some(compacting) = self.compacting.get(&id).and_then(Weak::upgrade) {
            compacting.store(true, Ordering::Relaxed);
        }
    }

    fn sync_checkpoint(&mut self, id: PartitionId) -> bool {
        let mut batch = store::Batch::default();
        let Some(owned) = self.owned.get_mut(&id) else { return false };
        owned.put_checkpoint_again(&mut batch);
        if owned.kept.checkpoint() != owned.applied {
            return false;
        }
        tokio::task::block_in_place(|| self.shared.write(batch, Durability::Synced))
    }

    pub(super) fn install_compacted(&mut self, done: Done, reply: oneshot::Sender<bool>) {
        let Done { id, incarnation, compacted, compacting: _until_installed } = done;
        let owned = self.owned.get_mut(&id).filter(|o| o.incarnation == incarnation);
        let Some(owned) = owned else { return answer(reply, false) };
        let Some(group) = &mut owned.group else { return answer(reply, false) };
        // Their markers stay until a later compaction, before which a checkpoint without them is synced: readers that were
        // told of a transaction always come to its marker.
        owned.shared.write_aborted().remove(&compacted.gone);
        let events = group.log_mut().install_compacted(compacted);
        group.log_was_cut();
        let mut batch = store::Batch::default();
        put_events(&mut batch, id, &events);
        self.shared.write(batch, Durability::Buffered);
        answer(reply, true);
    }
}

/// Whether a compaction has files in the partition's directory.
pub(super) fn is_compacting(compacting: &HashMap<PartitionId, Weak<AtomicBool>>, id: PartitionId) -> bool {
    compacting.get(&id).is_some_and(|compacting| compacting.strong_count() > 0)
}
