//! Joins the partitions of this node with those of the others.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::types::NodeId;
use tracing::warn;
use uuid::Uuid;

use crate::partition::{Answer, Links, Partitions, Post};
use crate::rpc::{Inbound, Lane, Rpc, kind};
use crate::telemetry::Seldom;

/// How often the silence of nodes is looked at.
const LOOK_AFTER: Duration = Duration::from_millis(100);
/// A node that is silent for longer wakes the groups that have replicas there.
const SILENT_FROM: Duration = Duration::from_millis(300);

/// How long an answer is waited for. A snapshot that takes longer is offered again, and found under way or installed.
const ANSWER_AFTER_MAX: Duration = Duration::from_secs(60);

/// The ways from the partitions to other nodes.
pub(super) fn links(rpc: &Arc<Rpc>) -> Links {
    let (sends, calls) = (Arc::clone(rpc), Arc::clone(rpc));
    let outlet = Arc::new(move |to, post, parts| {
        let (lane, kind) = match post {
            Post::Urgent => (Lane::Heartbeat, kind::RAFT),
            Post::Raft => (Lane::Append, kind::RAFT),
            Post::Leaders => (Lane::Append, kind::LEADERS),
            Post::Sleep => (Lane::Heartbeat, kind::SLEEP),
        };
        sends.send(to, lane, kind, parts)
    });
    let caller = Arc::new(move |to, body| {
        let rpc = calls.clone();
        let call = async move { rpc.call(to, kind::SNAPSHOT, body, ANSWER_AFTER_MAX).await.map_err(|e| e.to_string()) };
        Box::pin(call) as Answer
    });
    Links { outlet, caller }
}

/// Lets the partitions hear the others, and know which of them are alive.
pub(super) fn connect(rpc: &Arc<Rpc>, partitions: &Arc<Partitions>) {
    let odd = Arc::new(Seldom::default());
    for (kind, post) in [(kind::RAFT, Post::Raft), (kind::LEADERS, Post::Leaders), (kind::SLEEP, Post::Sleep)] {
        let (partitions, odd) = (Arc::downgrade(partitions), odd.clone());
        rpc.on_message(kind, move |inbound| Box::pin(deliver(partitions.clone(), post, inbound, odd.clone())));
    }
    let asked = Arc::downgrade(partitions);
    rpc.on_call(kind::SNAPSHOT, move |inbound| Box::pin(answer(asked.clone(), inbound)));
    tokio::spawn(follow_the_living(Arc::clone(rpc), Arc::downgrade(partitions)));
}

async fn deliver(partitions: Weak<Partitions>, post: Post, inbound: Inbound, odd: Arc<Seldom>) {
    let Some(partitions) = partitions.upgrade() else { return };
    if let Err(e) = partitions.deliver(inbound.from, post, inbound.body).await
        && let Some(left_out) = odd.may_say(Instant::now())
    {
        warn!(node = %inbound.from, error = %e, left_out, "what a node's partitions say is not understood");
    }
}

async fn answer(partitions: Weak<Partitions>, inbound: Inbound) -> Result<Bytes, String> {
    let partitions = partitions.upgrade().ok_or("the node stops")?;
    partitions.answer(inbound.from, inbound.body).await
}

async fn follow_the_living(rpc: Arc<Rpc>, partitions: Weak<Partitions>) {
    let mut changes = rpc.alive_changes();
    let mut boots: HashMap<NodeId, Uuid> = HashMap::new();
    loop {
        {
            let Some(partitions) = partitions.upgrade() else { return };
            let nodes = partitions.nodes();
            let (living, dead): (Vec<NodeId>, Vec<NodeId>) =
                nodes.iter().copied().partition(|node| rpc.is_alive(*node));
            let silent = nodes.into_iter().filter(|node| rpc.silent_for(*node) > SILENT_FROM);
            partitions.set_silent(silent.collect()).await;
            partitions.set_dead(HashSet::from_iter(dead)).await;
            for node in living {
                let Some(boot) = rpc.boot_id(node) else { continue };
                if boots.insert(node, boot) != Some(boot) {
                    partitions.greet(node, boot).await;
                }
            }
        }
        if let Ok(Err(_)) = tokio::time::timeout(LOOK_AFTER, changes.changed()).await {
            return;
        }
    }
}
