//! The share-partitions of a node and the sessions that fetch from them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use millstream_core::share::{Left, Open, Opened, SessionKey, ShareSessionError, ShareSessions, ShareSettings};
use millstream_core::types::{PartitionId, Timestamp};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::ShareError;
use super::cell::{Cell, Phase};
use super::states::{ShareKey, ShareStates};
use super::timers::{self, Timers};
use crate::partition::{Leadership, Partition, Partitions};
use crate::telemetry::spawn_essential;

/// A group's settings as they are now.
pub type SettingsOf = Arc<dyn Fn(&str) -> ShareSettings + Send + Sync>;

type Cells = HashMap<Arc<str>, HashMap<PartitionId, Arc<Cell>>>;

/// All share-partitions whose partitions this node leads, as far as members fetch from them.
pub struct Shares {
    partitions: Arc<Partitions>,
    settings: SettingsOf,
    states: OnceLock<Arc<dyn ShareStates>>,
    /// A leaf, as are the sessions: never held over an await.
    cells: Mutex<Cells>,
    sessions: Mutex<ShareSessions>,
    pub(super) timers: Arc<Timers>,
    started: Instant,
    /// Connections may end outside of it.
    pub(super) runtime: Handle,
}

/// The end of a client's connection, for what it holds here. Dropped when the connection is gone.
pub struct Connection {
    shares: Weak<Shares>,
    number: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(shares) = self.shares.upgrade() {
            shares.disconnected(self.number);
        }
    }
}

impl Shares {
    /// `sessions_max` is `group.share.max.share.sessions`.
    pub fn new(partitions: Arc<Partitions>, settings: SettingsOf, sessions_max: usize) -> Arc<Self> {
        let shares = Arc::new(Self {
            partitions,
            settings,
            states: OnceLock::new(),
            cells: Mutex::default(),
            sessions: Mutex::new(ShareSessions::new(sessions_max)),
            timers: Arc::default(),
            started: Instant::now(),
            runtime: Handle::current(),
        });
        drop(spawn_essential("share", timers::run(Arc::downgrade(&shares))));
        shares
    }

    /// The way to the share coordinators; before it is there nothing can be loaded.
    pub fn connect(&self, states: Arc<dyn ShareStates>) {
        assert!(self.states.set(states).is_ok(), "connected once");
    }

    /// Keeps the sessions of a connection for as long as what it gives lives.
    pub fn connection(self: &Arc<Self>, number: u64) -> Connection {
        Connection { shares: Arc::downgrade(self), number }
    }

    /// A fetch begins.
    pub fn open(&self, open: &Open<'_>) -> Result<Opened, ShareSessionError> {
        self.sessions().open(open)
    }

    /// A request that only acknowledges begins. True: then [`Self::close`].
    pub fn acknowledges(&self, key: &SessionKey, epoch: i32) -> Result<bool, ShareSessionError> {
        self.sessions().acknowledges(key, epoch)
    }

    /// Of the partitions that a fetch found something of, with whether there are records or an error: which are told.
    pub fn tells(&self, key: &SessionKey, found: &[(PartitionId, bool, bool)]) -> Vec<bool> {
        let mut sessions = self.sessions();
        found.iter().map(|(id, has_records, is_error)| sessions.tells(key, *id, *has_records, *is_error)).collect()
    }

    /// Closes a member's session and gives its records back. Nothing is waited for.
    pub fn close(self: &Arc<Self>, key: &SessionKey) {
        let left = self.sessions().close(key);
        left.iter().for_each(|left| self.release(left));
    }

    fn disconnected(self: &Arc<Self>, connection: u64) {
        let left: Vec<Left> = self.sessions().disconnected(connection);
        left.iter().for_each(|left| self.release(left));
    }

    /// Sessions, and partitions in all of them.
    pub fn session_counts(&self) -> (usize, usize) {
        let sessions = self.sessions();
        (sessions.len(), sessions.partitions())
    }

    /// Share-partitions in memory.
    pub fn count(&self) -> usize {
        self.cells().values().map(HashMap::len).sum()
    }

    pub fn settings(&self, group: &str) -> ShareSettings {
        (self.settings)(group)
    }

    /// Milliseconds since the start: what locks on records are measured by.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    pub(super) fn states(&self) -> Result<&Arc<dyn ShareStates>, ShareError> {
        self.states.get().ok_or(ShareError::CoordinatorNotAvailable)
    }

    fn sessions(&self) -> MutexGuard<'_, ShareSessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, group: &str, id: PartitionId) -> Option<Arc<Cell>> {
        self.cells().get(group)?.get(&id).cloned()
    }

    /// The share-partition, which is loaded if nobody has fetched from it yet.
    pub(super) fn get(self: &Arc<Self>, group: &Arc<str>, partition: &Arc<Partition>) -> Result<Arc<Cell>, ShareError> {
        let Some(epoch) = partition.leading_epoch() else {
            return Err(match partition.leadership() {
                Leadership::Offline => ShareError::Storage,
                Leadership::Starting | Leadership::Leading | Leadership::Following => ShareError::NotLeader,
            });
        };
        let mut cells = self.cells();
        let of_group = cells.entry(Arc::clone(group)).or_default();
        let known = of_group.get(&partition.id).cloned();
        let is_this = |cell: &Arc<Cell>| Arc::ptr_eq(&cell.partition, partition) && cell.epoch == epoch;
        if let Some(cell) = known.clone().filter(is_this) {
            drop(cells);
            cell.lock().is_leaving = false;
            return Ok(cell);
        }
        let key = ShareKey { group: Arc::clone(group), id: partition.id };
        let cell = Cell::new(key, Arc::clone(partition), epoch);
        of_group.insert(partition.id, Arc::clone(&cell));
        drop(cells);
        known.iter().for_each(|before| self.end(before, ShareError::NotLeader));
        drop(self.runtime.spawn(Arc::clone(self).load(Arc::clone(&cell))));
        self.timers.wake();
        Ok(cell)
    }

    /// Forgets a share-partition. What is in its queue fails.
    pub(super) fn end(&self, cell: &Arc<Cell>, error: ShareError) {
        let mut cells = self.cells();
        if let Some(of_group) = cells.get_mut(&cell.key.group)
            && of_group.get(&cell.key.id).is_some_and(|known| Arc::ptr_eq(known, cell))
        {
            of_group.remove(&cell.key.id);
            if of_group.is_empty() {
                cells.remove(&cell.key.group);
            }
        }
        drop(cells);
        let mut inner = cell.lock();
        if !matches!(inner.phase, Phase::Ended(_)) {
            inner.phase = Phase::Ended(error);
        }
        drop(inner);
        cell.waiters.wake();
    }

    /// Nobody of the group has a session here: its share-partitions need no memory (Kafka `onGroupEmpty`), once what
    /// they have to say is written.
    pub(super) fn group_left(&self, group: &str) {
        let all: Vec<_> = self.cells().get(group).map(|cells| cells.values().cloned().collect()).unwrap_or_default();
        for cell in all {
            let mut inner = cell.lock();
            inner.is_leaving = true;
            let is_quiet = inner.is_quiet();
            drop(inner);
            if is_quiet {
                self.end(&cell, ShareError::UnknownPartition);
            }
        }
    }

    /// Forgets share-partitions whose partitions are led elsewhere now, or are gone.
    pub(super) fn sweep(&self) {
        let all: Vec<_> = self.cells().values().flat_map(|cells| cells.values().cloned()).collect();
        for cell in all {
            let is_there = self.partitions.get(cell.key.id).is_some_and(|now| Arc::ptr_eq(&now, &cell.partition));
            if !is_there || !cell.is_current() {
                self.end(&cell, ShareError::NotLeader);
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.cells().is_empty()
    }
}
