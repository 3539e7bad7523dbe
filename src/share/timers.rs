//! When locks on records end: one row of times for all share-partitions of a node, and one task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use millstream_core::types::Timestamp;
use tokio::sync::Notify;

use super::cell::{Cell, Inner, Phase};
use super::shares::Shares;

/// How often share-partitions are looked at whose partitions may be led elsewhere now. They cost memory only.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The times at which share-partitions want to be looked at.
#[derive(Default)]
pub(super) struct Timers {
    due: Mutex<Due>,
    sooner: Notify,
}

#[derive(Default)]
struct Due {
    /// By time and order of entry.
    cells: BTreeMap<(Timestamp, u64), Weak<Cell>>,
    entered: u64,
}

impl Timers {
    /// Sees to it that the share-partition is looked at when its first lock ends.
    pub(super) fn arm(&self, cell: &Arc<Cell>, inner: &mut Inner) {
        let Phase::Active { share, .. } = &inner.phase else { return };
        let Some(at) = share.next_deadline().filter(|at| inner.timer_at.is_none_or(|armed| *at < armed)) else {
            return;
        };
        inner.timer_at = Some(at);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.entered += 1;
        let key = (at, due.entered);
        due.cells.insert(key, Arc::downgrade(cell));
        if due.cells.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.sooner.notify_one();
        }
    }

    /// There is something to sweep.
    pub(super) fn wake(&self) {
        self.sooner.notify_one();
    }

    fn next(&self) -> Option<Timestamp> {
        let due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.cells.first_key_value().map(|((at, _), _)| *at)
    }

    fn take(&self, now: Timestamp) -> Vec<(Timestamp, Weak<Cell>)> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let later = due.cells.split_off(&(Timestamp(now.0 + 1), 0));
        std::mem::replace(&mut due.cells, later).into_iter().map(|((at, _), cell)| (at, cell)).collect()
    }
}

/// Takes records back when their locks end, until the node stops.
pub(super) async fn run(shares: Weak<Shares>) {
    let mut swept = tokio::time::Instant::now();
    loop {
        let Some(now_shares) = shares.upgrade() else { return };
        let now = now_shares.now();
        for (at, cell) in now_shares.timers.take(now) {
            if let Some(cell) = cell.upgrade() {
                now_shares.expire(&cell, at);
            }
        }
        if swept.elapsed() >= SWEEP_EVERY {
            now_shares.sweep();
            swept = tokio::time::Instant::now();
        }
        let until_lock = now_shares
            .timers
            .next()
            .map(|at| Duration::from_millis(u64::try_from(at.0.saturating_sub(now_shares.now().0)).unwrap_or(0)));
        let until_sweep = (!now_shares.is_idle()).then_some(SWEEP_EVERY);
        let pause = until_lock.into_iter().chain(until_sweep).min();
        // Not held while asleep: the node may stop.
        let timers = Arc::clone(&now_shares.timers);
        drop(now_shares);
        tokio::select! {
            () = timers.sooner.notified() => {}
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}
