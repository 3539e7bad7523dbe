//! Leaders tell all nodes that they lead, and which of their followers are in sync.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::types::{NodeId, PartitionId};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::leaders::LeaderInfo;
use super::shared::{Post, Shared};
use super::wire::encode_leaders;

/// What changes within this time is told at once.
const GATHERS_FOR: Duration = Duration::from_millis(10);
/// How often a node that could not be told is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often everything is told to everybody: a connection that breaks loses what was on its way.
pub(super) const EVERYTHING_EVERY: Duration = Duration::from_secs(5);
/// Partitions in one frame.
const FRAME_PARTITIONS: usize = 10_000;

/// What is to be told.
#[derive(Default)]
pub(super) struct Announcements {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    /// News for everybody.
    news: HashMap<PartitionId, LeaderInfo>,
    /// Nodes that must be told everything.
    unaware: HashSet<NodeId>,
}

impl Announcements {
    fn with<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This node leads a partition, or its followers in sync are others than before.
    pub fn tell_all(&self, id: PartitionId, info: LeaderInfo) {
        self.with(|waiting| waiting.news.insert(id, info));
        self.wake.notify_one();
    }

    /// A node came up: it knows nothing.
    pub fn tell_everything_to(&self, node: NodeId) {
        self.with(|waiting| waiting.unaware.insert(node));
        self.wake.notify_one();
    }
}

/// Tells what there is to tell, until the shards have ended.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut everything_at = Instant::now() + EVERYTHING_EVERY;
    loop {
        let news = shared.announcements.wake.notified();
        match tokio::time::timeout_at(everything_at, news).await {
            Ok(()) => tokio::time::sleep(GATHERS_FOR).await,
            Err(_) => {
                everything_at = Instant::now() + EVERYTHING_EVERY;
                let others = others(&shared);
                shared.announcements.with(|waiting| waiting.unaware.extend(others));
            }
        }
        loop {
            tell(&shared);
            if shared.announcements.with(|waiting| waiting.unaware.is_empty()) {
                break;
            }
            let news = shared.announcements.wake.notified();
            drop(tokio::time::timeout_at(Instant::now() + AGAIN_AFTER, news).await);
        }
    }
}

fn tell(shared: &Shared) {
    let Some(outlet) = &shared.outlet else { return };
    let Waiting { news, mut unaware } = shared.announcements.with(std::mem::take);
    let others = others(shared);
    unaware.retain(|node| others.contains(node));
    let news: Vec<_> = news.into_iter().collect();
    let boot = shared.identity.boot;
    for frame in frames(boot, &news) {
        for node in &others {
            if !outlet(*node, Post::Leaders, vec![frame.clone()]) {
                unaware.insert(*node);
            }
        }
    }
    let dead = shared.dead.load();
    let reachable: Vec<NodeId> = unaware.iter().copied().filter(|node| !dead.contains(node)).collect();
    if !reachable.is_empty() {
        let all = frames(boot, &shared.leaders.of_node(shared.identity.node));
        for node in reachable {
            if all.iter().all(|frame| outlet(node, Post::Leaders, vec![frame.clone()])) {
                unaware.remove(&node);
            }
        }
    }
    // A dead node is told when it comes back.
    unaware.retain(|node| !dead.contains(node));
    shared.announcements.with(|waiting| waiting.unaware.extend(unaware));
}

fn others(shared: &Shared) -> HashSet<NodeId> {
    let peers = shared.peers.load();
    peers.nodes().filter(|node| *node != shared.identity.node).collect()
}

fn frames(boot: Uuid, told: &[(PartitionId, LeaderInfo)]) -> Vec<Bytes> {
    let frame = |told: &[(PartitionId, LeaderInfo)]| encode_leaders(boot, told.iter().map(|(id, info)| (*id, info)));
    told.chunks(FRAME_PARTITIONS).map(frame).collect()
}
