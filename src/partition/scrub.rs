//! Looks for damage on disk before someone needs what is damaged: reads all closed segments again and again, slowly.

use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{io, thread};

use millstream_core::config::BrokerConfig;
use millstream_core::types::PartitionId;
use prometheus::{IntCounter, IntGauge};

use super::ask::Ask;
use super::handle::Partition;
use super::registry::Partitions;
use crate::log::Scrub;
use crate::telemetry::Metrics;

/// How the scrub works. Seldom and slow: damage is found late; often and fast: it takes the disk from clients.
#[derive(Clone, Copy, Debug)]
pub struct ScrubConfig {
    /// `log.scrub.bytes.per.second`: 0 for no scrub at all.
    bytes_per_second_max: u64,
    /// `log.scrub.interval.ms`: the rest before each pass.
    rest: Duration,
}

impl ScrubConfig {
    pub fn of(broker: &BrokerConfig) -> Self {
        let number = |setting| u64::try_from(broker.integer(setting)).unwrap_or(0);
        Self {
            bytes_per_second_max: number("log.scrub.bytes.per.second"),
            rest: Duration::from_millis(number("log.scrub.interval.ms")),
        }
    }
}

/// What a scrub tells beside its lines in the log.
pub struct ScrubMetrics {
    read_bytes: IntCounter,
    corrupt_segments: IntGauge,
}

impl ScrubMetrics {
    /// # Panics
    /// When they are registered already.
    pub fn new(metrics: &Metrics) -> Self {
        let read = IntCounter::new("millstream_scrubbed_bytes_total", "Bytes of closed segments that were checked.");
        let corrupt = IntGauge::new("millstream_corrupt_segments", "Damaged segments that the last whole scrub found.");
        let this = Self { read_bytes: read.expect("a legal name"), corrupt_segments: corrupt.expect("a legal name") };
        metrics.registry().register(Box::new(this.read_bytes.clone())).expect("registered once");
        metrics.registry().register(Box::new(this.corrupt_segments.clone())).expect("registered once");
        this
    }

    /// One pass over the partitions. None of them is held while its files are read: one that is deleted gives its room
    /// back at once. `find`: `None` for one that is gone. Gives those with damage.
    pub(super) fn scrub(
        &self,
        ids: &[PartitionId],
        find: impl Fn(PartitionId) -> Option<Arc<Partition>>,
        bytes_per_second_max: f64,
    ) -> Vec<PartitionId> {
        let scrub = Scrub::new(bytes_per_second_max);
        let (mut corrupt, mut damaged) = (0, Vec::new());
        for id in ids {
            let found = find(*id).and_then(|p| Some((p.name.clone(), p.view()?.closed_segments())));
            let Some((name, segments)) = found else { continue };
            for segment in segments {
                let check = || scrub.check(&segment, &mut |bytes| self.read_bytes.inc_by(bytes));
                // The log may have been exchanged for another one, in which a file has the same name.
                let is_there =
                    || find(*id).and_then(|p| p.view()).is_some_and(|view| view.closed_segments().contains(&segment));
                if check().is_some()
                    && is_there()
                    && let Some(place) = check()
                {
                    tracing::error!(partition = %name, %place, "damaged segment");
                    corrupt += 1;
                    damaged.push(*id);
                }
            }
        }
        self.corrupt_segments.set(corrupt);
        damaged.dedup();
        damaged
    }
}

impl Partitions {
    /// Starts the scrub, on a thread that ends with the partitions.
    pub fn start_scrub(self: &Arc<Self>, config: ScrubConfig, metrics: ScrubMetrics) -> io::Result<()> {
        if config.bytes_per_second_max == 0 {
            return Ok(());
        }
        let partitions = Arc::downgrade(self);
        let work = move || repeat(&partitions, config, &metrics);
        thread::Builder::new().name("scrub".into()).spawn(work).map(drop)
    }
}

fn repeat(partitions: &Weak<Partitions>, config: ScrubConfig, metrics: &ScrubMetrics) {
    loop {
        thread::sleep(config.rest);
        let Some(all) = partitions.upgrade().map(|partitions| partitions.all()) else { return };
        let ids: Vec<PartitionId> = all.iter().map(|partition| partition.id).collect();
        drop(all);
        let damaged = metrics.scrub(&ids, |id| partitions.upgrade()?.get(id), config.bytes_per_second_max as f64);
        let Some(all) = partitions.upgrade() else { return };
        for id in damaged {
            // An error: the shard has ended.
            drop(all.shard(id).blocking_send(Ask::Damaged { id }));
        }
    }
}
