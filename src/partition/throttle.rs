//! What those who catch up may take (KIP-73): `leader.replication.throttled.rate` of what this node gives to replicas that
//! are not in sync, `follower.replication.throttled.rate` of what this node's own such replicas are given, where the topic's
//! lists of throttled replicas name them. Replicas in sync are never held up: they do not read the log for what they lack.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::types::NodeId;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::handle::Partition;
use super::registry::Partitions;
use super::shared::Shared;
use super::snapshot::room;

/// Bytes that a throttled transfer takes at a time, but for one batch: they wait in memory until there is room for them.
pub(super) const THROTTLED_BYTES: usize = 128 << 10;
/// Throttled reads of a node's logs that wait at a time; the others wait unread.
const READS_MAX: usize = 16;
/// How long another node is let wait for room here. It asks again.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// Bytes by the second. Who takes some goes on at once; the next waits until they are paid for.
pub(super) struct Throttle {
    account: Mutex<Account>,
    rate_changed: Notify,
}

struct Account {
    /// `u64::MAX`: without limit.
    bytes_per_second: u64,
    owed_bytes: f64,
    settled_at: Instant,
}

impl Default for Throttle {
    fn default() -> Self {
        let account = Account { bytes_per_second: u64::MAX, owed_bytes: 0.0, settled_at: Instant::now() };
        Self { account: Mutex::new(account), rate_changed: Notify::new() }
    }
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes effect at once, also on those who wait.
    pub fn set_rate(&self, bytes_per_second: u64) {
        let mut account = self.lock();
        account.settle(Instant::now());
        account.bytes_per_second = bytes_per_second;
        drop(account);
        self.rate_changed.notify_waiters();
    }

    /// Ends when all that was taken before is paid for, and takes this.
    pub async fn take(&self, bytes: usize) {
        loop {
            let mut changed = std::pin::pin!(self.rate_changed.notified());
            // From here on a change is not missed.
            changed.as_mut().enable();
            let Some(wait) = self.lock().take(bytes, Instant::now()) else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }
}

impl Account {
    fn settle(&mut self, now: Instant) {
        let paid = now.duration_since(self.settled_at).as_secs_f64() * self.bytes_per_second as f64;
        self.owed_bytes = (self.owed_bytes - paid).max(0.0);
        self.settled_at = now;
    }

    /// `None`: taken; else how long to wait before the next try.
    fn take(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        self.settle(now);
        if self.bytes_per_second == u64::MAX {
            self.owed_bytes = 0.0;
            return None;
        }
        if self.bytes_per_second > 0 && self.owed_bytes < 1.0 {
            self.owed_bytes += bytes as f64;
            return None;
        }
        let seconds = self.owed_bytes / self.bytes_per_second as f64;
        // At no rate at all it is tried again now and then.
        Some(Duration::from_secs_f64(seconds.clamp(0.001, 1.0)))
    }
}

/// Of one node.
pub(super) struct Throttles {
    /// `leader.replication.throttled.rate`.
    pub leader: Throttle,
    /// `follower.replication.throttled.rate`.
    pub follower: Throttle,
    reads: Semaphore,
}

impl Default for Throttles {
    fn default() -> Self {
        Self { leader: Throttle::default(), follower: Throttle::default(), reads: Semaphore::new(READS_MAX) }
    }
}

impl Partitions {
    /// `leader.replication.throttled.rate` and `follower.replication.throttled.rate`, bytes a second; `u64::MAX`: no limit.
    pub fn set_throttled_rates(&self, leader: u64, follower: u64) {
        self.shared().throttles.leader.set_rate(leader);
        self.shared().throttles.follower.set_rate(follower);
    }
}

impl Partition {
    /// Whether a node's replica gives only so much to those who catch up, when it leads.
    pub(super) fn throttles_leader(&self, node: NodeId) -> bool {
        self.config().leader_throttled.has(self.id.partition, node)
    }

    /// Whether a node's replica takes only so much, as long as it is not in sync.
    pub(super) fn throttles_follower(&self, node: NodeId) -> bool {
        self.config().follower_throttled.has(self.id.partition, node)
    }
}

/// Who limits what goes to a replica that is not in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub by_leader: bool,
    /// The follower's node limits it.
    pub by_follower: Option<NodeId>,
}

impl Limits {
    /// Those of what goes to one of these nodes, all of which wait for the same. None if one of them is not limited.
    pub fn of(partition: &Partition, own: NodeId, to: &[NodeId]) -> Option<Self> {
        let by_leader = partition.throttles_leader(own);
        let (first, others) = to.split_first()?;
        let limited = |node: &NodeId| partition.throttles_follower(*node);
        let by_follower = Some(*first).filter(|_| limited(first) && others.iter().all(limited));
        (by_leader || by_follower.is_some()).then_some(Self { by_leader, by_follower })
    }

    /// Reads and waits until what was read may go. False: not now.
    pub async fn pass<T: Send + 'static>(
        self,
        shared: &Arc<Shared>,
        read: impl FnOnce() -> T + Send + 'static,
        bytes_of: impl FnOnce(&T) -> usize,
    ) -> Option<T> {
        let _place = shared.throttles.reads.acquire().await.expect("never closed");
        let read = tokio::task::spawn_blocking(read).await.expect("a read does not panic");
        let bytes = bytes_of(&read);
        if self.by_leader {
            shared.throttles.leader.take(bytes).await;
        }
        if let Some(node) = self.by_follower {
            let caller = shared.caller.clone()?;
            caller(node, room(bytes)).await.ok()?;
        }
        Some(read)
    }
}

/// Answers a leader that wants to send a replica here what it lacks.
pub(super) async fn give_room(shared: &Shared, bytes: usize) -> Result<(), String> {
    let taken = tokio::time::timeout(ROOM_WITHIN, shared.throttles.follower.take(bytes)).await;
    taken.map_err(|_| "no room within the limit now".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_paid_for_before_more_is() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut account = Account { bytes_per_second: 1000, owed_bytes: 0.0, settled_at: start };
        assert_eq!(account.take(500, at(0)), None);
        assert_eq!(account.take(500, at(100)), Some(Duration::from_millis(400)));
        assert_eq!(account.take(500, at(500)), None);
        assert_eq!(account.take(9000, at(1100)), None, "nothing is saved up");
        assert_eq!(account.take(1, at(1100)), Some(Duration::from_secs(1)), "it looks again now and then");
        account.settle(at(2100));
        account.bytes_per_second = 8_000_000;
        assert_eq!(account.take(1, at(2101)), None);
        account.bytes_per_second = 0;
        assert_eq!(account.take(1, at(9000)), Some(Duration::from_secs(1)));
        account.bytes_per_second = u64::MAX;
        assert_eq!((account.take(1 << 30, at(9000)), account.take(1, at(9000))), (None, None));
    }

    #[tokio::test]
    async fn a_new_rate_holds_for_those_who_wait() {
        let throttle = Arc::new(Throttle::default());
        throttle.set_rate(1);
        throttle.take(1 << 20).await;
        let waits = tokio::spawn({
            let throttle = throttle.clone();
            async move { throttle.take(1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        // At the rate of before it would take days.
        throttle.set_rate(1 << 30);
        waits.await.unwrap();
    }
}
