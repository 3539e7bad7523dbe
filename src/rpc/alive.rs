//! Which nodes are heard of.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::types::{DirectoryId, NodeId};
use tokio::sync::watch;
use uuid::Uuid;

use super::Local;

/// What is known of the others by their heartbeats.
pub(super) struct Alive {
    us: NodeId,
    since: Instant,
    silence_max: Duration,
    heard: Mutex<HashMap<NodeId, Heard>>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    directory: DirectoryId,
    boot: Uuid,
    /// As it was told last.
    is_alive: bool,
    /// Its connection of heartbeats has not ended.
    is_connected: bool,
}

impl Alive {
    /// `silence_max`: a node that is not heard of for longer counts as gone.
    pub fn new(us: NodeId, now: Instant, silence_max: Duration) -> Self {
        Self { us, since: now, silence_max, heard: Mutex::default(), changes: watch::channel(0).0 }
    }

    /// A sign of life.
    pub fn hear(&self, from: &Local, now: Instant) {
        let mut heard = self.lock();
        let news = Heard { at: now, directory: from.directory, boot: from.boot, is_alive: true, is_connected: true };
        let before = heard.insert(from.node, news);
        drop(heard);
        if before.is_none_or(|before| !before.is_alive || before.boot != from.boot) {
            self.changes.send_modify(|version| *version += 1);
        }
    }

    /// Looks whose time has run out.
    pub fn tick(&self, now: Instant) {
        let mut gone = false;
        for heard in self.lock().values_mut() {
            if heard.is_alive && now.saturating_duration_since(heard.at) > self.silence_max {
                heard.is_alive = false;
                gone = true;
            }
        }
        if gone {
            self.changes.send_modify(|version| *version += 1);
        }
    }

    pub fn silent_for(&self, node: NodeId, now: Instant) -> Duration {
        if node == self.us {
            return Duration::ZERO;
        }
        let at = self.lock().get(&node).map_or(self.since, |heard| heard.at);
        now.saturating_duration_since(at)
    }

    /// A node that was never heard of is not alive.
    pub fn is_alive(&self, node: NodeId, now: Instant) -> bool {
        let is_fresh = |heard: &Heard| now.saturating_duration_since(heard.at) <= self.silence_max;
        node == self.us || self.lock().get(&node).is_some_and(is_fresh)
    }

    pub fn boot_id(&self, node: NodeId) -> Option<Uuid> {
        self.lock().get(&node).map(|heard| heard.boot)
    }

    /// Whether a live process on another disk has this node's number. One disk has one process: the same disk under
    /// another boot id is a restart.
    pub fn has_rival(&self, of: &Local, now: Instant) -> bool {
        let is_rival = |heard: &Heard| {
            heard.is_connected
                && heard.directory != of.directory
                && now.saturating_duration_since(heard.at) <= self.silence_max
        };
        self.lock().get(&of.node).is_some_and(is_rival)
    }

    /// A connection of heartbeats has ended: its process is no rival of anyone any more.
    pub fn hung_up(&self, node: &Local) {
        let mut heard = self.lock();
        if let Some(heard) = heard.get_mut(&node.node).filter(|heard| heard.boot == node.boot) {
            heard.is_connected = false;
        }
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_come_and_go() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let local = |directory: u128, boot: u128| Local {
            node: NodeId(2),
            directory: DirectoryId(Uuid::from_u128(directory)),
            boot: Uuid::from_u128(boot),
        };
        let alive = Alive::new(NodeId(1), start, Duration::from_secs(1));
        let changes = alive.changes();
        assert!(alive.is_alive(NodeId(1), at(9_000)) && !alive.is_alive(NodeId(2), start));
        assert_eq!(alive.silent_for(NodeId(2), at(700)), Duration::from_millis(700));

        alive.hear(&local(5, 1), at(100));
        alive.hear(&local(5, 1), at(200));
        alive.tick(at(1_200));
        assert_eq!((alive.is_alive(NodeId(2), at(1_200)), *changes.borrow()), (true, 1));
        alive.tick(at(1_201));
        alive.tick(at(1_202));
        assert_eq!((alive.is_alive(NodeId(2), at(1_201)), *changes.borrow()), (false, 2));
        assert_eq!(alive.silent_for(NodeId(2), at(1_202)), Duration::from_millis(1_002));

        alive.hear(&local(5, 1), at(2_000));
        assert_eq!(*changes.borrow(), 3);
        assert!(!alive.has_rival(&local(5, 2), at(2_000)), "a restart");
        assert!(alive.has_rival(&local(6, 2), at(2_000)), "another disk");
        assert!(!alive.has_rival(&local(6, 2), at(3_001)), "the other one is gone");
        alive.hung_up(&local(5, 1));
        assert!(!alive.has_rival(&local(6, 2), at(2_000)), "the other one has hung up");

        alive.hear(&local(5, 2), at(2_100));
        assert_eq!((*changes.borrow(), alive.boot_id(NodeId(2))), (4, Some(Uuid::from_u128(2))));
    }
}
