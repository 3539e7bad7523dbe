//! Looks for damage on disk before someone needs what is damaged: reads all closed segments again and again, slowly.

use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{io, thread};

use prometheus::{IntCounter, IntGauge};

use super::handle::Partition;
use super::registry::Partitions;
use crate::telemetry::Metrics;

/// How long it rests before each pass.
const REST: Duration = Duration::from_secs(3_600);

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

    /// One pass over all.
    pub(super) fn scrub(&self, partitions: &[Arc<Partition>], bytes_per_second_max: f64) {
        let mut corrupt = 0;
        for partition in partitions {
            let Some(view) = partition.view() else { continue };
            for place in view.scrub(bytes_per_second_max, &mut |bytes| self.read_bytes.inc_by(bytes)) {
                tracing::error!(partition = %partition.name, %place, "damaged segment");
                corrupt += 1;
            }
        }
        self.corrupt_segments.set(corrupt);
    }
}

impl Partitions {
    /// Starts the scrub, on a thread that ends with the partitions. `bytes_per_second_max`
    /// (`log.scrub.bytes.per.second`): 0 for none at all. Low: damage is found late; high: it takes the disk from
    /// clients.
    pub fn start_scrub(self: &Arc<Self>, bytes_per_second_max: u64, metrics: ScrubMetrics) -> io::Result<()> {
        if bytes_per_second_max == 0 {
            return Ok(());
        }
        let partitions = Arc::downgrade(self);
        let work = move || repeat(&partitions, bytes_per_second_max as f64, &metrics);
        thread::Builder::new().name("scrub".into()).spawn(work).map(drop)
    }
}

fn repeat(partitions: &Weak<Partitions>, bytes_per_second_max: f64, metrics: &ScrubMetrics) {
    loop {
        thread::sleep(REST);
        let Some(all) = partitions.upgrade().map(|partitions| partitions.all()) else { return };
        metrics.scrub(&all, bytes_per_second_max);
    }
}
