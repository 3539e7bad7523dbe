//! Compacts, one partition at a time, the dirtiest first. The work is done away from the shards, which only say what
//! is due and take the result in.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_core::config::BrokerConfig;
use millstream_core::types::{Offset, PartitionId, ProducerId};
use tokio::sync::{oneshot, watch};

use super::append::answer;
use super::handle::Leadership;
use super::keep::put_events;
use super::registry::Partitions;
use super::shard::{Ask, Shard};
use crate::log::{Compacted, CompactionJob, CompactionLimits, ReadError};
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

/// A compaction that a shard gives out.
pub(super) struct Due {
    pub id: PartitionId,
    incarnation: u64,
    job: CompactionJob,
    /// Last offset of the last batch of each producer: it stays, empty if need be.
    producers: HashMap<ProducerId, Offset>,
}

/// A compaction that comes back.
pub(super) struct Done {
    id: PartitionId,
    incarnation: u64,
    compacted: Compacted,
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
        loop {
            let now = *config.borrow();
            let Some(partitions) = partitions.upgrade() else { return };
            match partitions.compact_one(&now, &uncleanable).await {
                Cleaned::Nothing => break,
                Cleaned::One => {}
                Cleaned::Failed(id) => {
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
    Failed(PartitionId),
}

impl Partitions {
    pub(super) async fn compact_one(&self, config: &CleanerConfig, uncleanable: &HashSet<PartitionId>) -> Cleaned {
        let mut dirtiest: Option<Due> = None;
        for shard in self.shards() {
            let (reply, due) = oneshot::channel();
            let ask = Ask::PlanCompaction { config: *config, except: uncleanable.clone(), reply };
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
        let Some(Due { id, incarnation, job, producers }) = dirtiest else { return Cleaned::Nothing };
        let ran = tokio::task::spawn_blocking(move || job.run(&producers)).await;
        let compacted: Compacted = match ran.expect("compaction does not panic") {
            Ok(compacted) => compacted,
            Err(ReadError::Gone { .. }) => return Cleaned::One,
            Err(e) => {
                tracing::error!(partition = %id, error = %e, "compaction failed, the partition is left alone");
                return Cleaned::Failed(id);
            }
        };
        tracing::info!(
            partition = %id,
            bytes_before = compacted.bytes_before,
            bytes_after = compacted.bytes_after,
            "compacted"
        );
        let (reply, installed) = oneshot::channel();
        let done = Box::new(Done { id, incarnation, compacted });
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
            let leading = owned.shared.leadership() == Leadership::Leading && !except.contains(id);
            let Some(group) = owned.group.as_ref().filter(|_| leading) else { continue };
            let limits = CompactionLimits {
                end: owned.shared.high_watermark(),
                applied: owned.applied,
                now,
                dedupe_buffer_bytes: config.dedupe_buffer_bytes,
                bytes_per_second_max: config.bytes_per_second_max,
            };
            let Some(job) = group.log().compaction_plan(limits) else { continue };
            if dirtiest.as_ref().is_none_or(|best| job.dirty_ratio() > best.job.dirty_ratio()) {
                let producers = owned.producers.last_offsets();
                dirtiest = Some(Due { id: *id, incarnation: owned.incarnation, job, producers });
            }
        }
        if let Some(due) = &dirtiest
            && !self.sync_checkpoint(due.id)
        {
            dirtiest = None;
        }
        answer(reply, dirtiest);
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
        let Done { id, incarnation, compacted } = done;
        let owned = self.owned.get_mut(&id).filter(|o| o.incarnation == incarnation);
        let Some(group) = owned.and_then(|o| o.group.as_mut()) else { return answer(reply, false) };
        let events = group.log_mut().install_compacted(compacted);
        let mut batch = store::Batch::default();
        put_events(&mut batch, id, &events);
        self.shared.write(batch, Durability::Buffered);
        answer(reply, true);
    }
}
