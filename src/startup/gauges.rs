//! What the rooms measure, brought to `/metrics`: flushes and partitions when they are asked for, groups now and then.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::time::MissedTickBehavior;

use crate::coordinator::{Groups, ShareStateCoordinators, Transactions};
use crate::partition::{Leadership, Partitions};
use crate::share::Shares;

/// How often groups and offsets are counted: it looks at each of them.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Registers everything, and starts counting.
pub(super) fn start(
    registry: &Registry,
    partitions: &Arc<Partitions>,
    groups: &Arc<Groups>,
    transactions: &Arc<Transactions>,
    share_states: &Arc<ShareStateCoordinators>,
    shares: &Arc<Shares>,
) {
    let rooms = Rooms { partitions: Arc::downgrade(partitions), measured: Measured::new(), reading: Mutex::new(()) };
    registry.register(Box::new(rooms)).expect("every name is registered once");
    let by_state = IntGaugeVec::new(opts("groups", "Consumer groups, by state."), &["state"]);
    let by_state = by_state.expect("names and labels are constants");
    let offsets = gauge("committed_offsets", "Committed offsets of all groups.");
    registry.register(Box::new(by_state.clone())).expect("every name is registered once");
    registry.register(Box::new(offsets.clone())).expect("every name is registered once");
    tokio::spawn(count_groups(Arc::downgrade(groups), by_state, offsets));
    let ids = gauge("transactional_ids", "Transactional ids that this node coordinates.");
    let ongoing = gauge("transactions_ongoing", "Transactions under way that this node coordinates.");
    registry.register(Box::new(ids.clone())).expect("every name is registered once");
    registry.register(Box::new(ongoing.clone())).expect("every name is registered once");
    tokio::spawn(count_transactions(Arc::downgrade(transactions), ids, ongoing));
    let sessions = gauge("share_sessions", "Members of share groups that fetch from this node.");
    let share_partitions = gauge("share_partitions", "Partitions that share groups read from this node, once a group.");
    registry.register(Box::new(sessions.clone())).expect("every name is registered once");
    registry.register(Box::new(share_partitions.clone())).expect("every name is registered once");
    let states = gauge("share_states", "Partitions of share groups whose state this node keeps, once a group.");
    registry.register(Box::new(states.clone())).expect("every name is registered once");
    tokio::spawn(count_share_states(Arc::downgrade(share_states), states));
    tokio::spawn(count_shares(Arc::downgrade(shares), sessions, share_partitions));
}

async fn count_shares(shares: Weak<Shares>, sessions: IntGauge, share_partitions: IntGauge) {
    let mut interval = tokio::time::interval(COUNT_EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(shares) = shares.upgrade() else { return };
        sessions.set(count_of(shares.session_counts().0));
        share_partitions.set(count_of(shares.count()));
    }
}

async fn count_share_states(share_states: Weak<ShareStateCoordinators>, states: IntGauge) {
    let mut interval = tokio::time::interval(COUNT_EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(share_states) = share_states.upgrade() else { return };
        states.set(count_of(share_states.counts().await));
    }
}

async fn count_transactions(transactions: Weak<Transactions>, ids: IntGauge, ongoing: IntGauge) {
    let mut interval = tokio::time::interval(COUNT_EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(transactions) = transactions.upgrade() else { return };
        let counts = transactions.counts().await;
        ids.set(count_of(counts.ids));
        ongoing.set(count_of(counts.ongoing));
    }
}

async fn count_groups(groups: Weak<Groups>, by_state: IntGaugeVec, offsets: IntGauge) {
    let mut interval = tokio::time::interval(COUNT_EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(groups) = groups.upgrade() else { return };
        let counts = groups.counts().await;
        for (state, count) in counts.groups {
            by_state.with_label_values(&[state]).set(count_of(count));
        }
        offsets.set(count_of(counts.offsets));
    }
}

/// What is read at each scrape.
struct Rooms {
    partitions: Weak<Partitions>,
    measured: Measured,
    /// Held by a scrape: two at a time must not add the same twice.
    reading: Mutex<()>,
}

struct Measured {
    rounds: IntCounter,
    submissions: IntCounter,
    busy: Counter,
    partitions: IntGauge,
    offline: IntGauge,
}

impl Measured {
    fn new() -> Self {
        let counter = |name, help| IntCounter::with_opts(opts(name, help)).expect("names are constants");
        Self {
            rounds: counter("flush_rounds_total", "Flushes of the data directory; many writes may share one."),
            submissions: counter("flush_submissions_total", "Writes that waited for a flush."),
            busy: Counter::with_opts(opts("flush_busy_seconds_total", "Time in which the disk was synced."))
                .expect("names are constants"),
            partitions: gauge("partitions", "Partitions of this node."),
            offline: gauge(
                "partitions_offline",
                "Partitions that cannot be used: their files are damaged, lost, or in want of room.",
            ),
        }
    }

    fn read(&self, partitions: &Partitions) {
        let stats = partitions.flush_stats();
        self.rounds.inc_by(stats.rounds.saturating_sub(self.rounds.get()));
        self.submissions.inc_by(stats.submissions.saturating_sub(self.submissions.get()));
        self.busy.inc_by((stats.busy.as_secs_f64() - self.busy.get()).max(0.0));
        let all = partitions.all();
        let offline = all.iter().filter(|partition| partition.leadership() == Leadership::Offline).count();
        self.partitions.set(count_of(all.len()));
        self.offline.set(count_of(offline));
    }

    fn collectors(&self) -> [&dyn Collector; 5] {
        [&self.rounds, &self.submissions, &self.busy, &self.partitions, &self.offline]
    }
}

impl Collector for Rooms {
    fn desc(&self) -> Vec<&Desc> {
        self.measured.collectors().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(partitions) = self.partitions.upgrade() {
            self.measured.read(&partitions);
        }
        self.measured.collectors().into_iter().flat_map(Collector::collect).collect()
    }
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::with_opts(opts(name, help)).expect("names are constants")
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("millstream")
}

fn count_of(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
