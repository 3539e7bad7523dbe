//! How nodes talk to each other: messages that may be lost, calls with an answer, and who is alive.
//!
//! Every ordered pair of nodes has three connections, dialled by the one that sends: heartbeats and what is urgent;
//! appends; bulk and calls. Heartbeats are sent and read on a thread of their own, so that a node which is busy does
//! not look dead. What the messages say is the business of those who register handlers.

mod accept;
mod alive;
mod calls;
mod dial;
mod frame;
mod hello;
pub mod kind;
mod queue;
mod room;
mod stream;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::types::{DirectoryId, NodeId};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

pub use self::calls::CallError;
pub use self::hello::{Refusal, RefusalCode};

use self::alive::Alive;
use self::dial::Peer;
use self::frame::OutFrame;
use crate::config::HostPort;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which connection a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What must never wait behind data. Messages are dropped when the receiver does not keep up.
    Heartbeat,
    Append,
    /// Large transfers, and calls.
    Bulk,
}

const LANES: [Lane; 3] = [Lane::Heartbeat, Lane::Append, Lane::Bulk];

/// This process, as the others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    pub node: NodeId,
    /// Of the node's disk.
    pub directory: DirectoryId,
    /// New at every start.
    pub boot: Uuid,
}

/// A message, or a question.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub from: NodeId,
    pub kind: u8,
    /// Of the body's layout.
    pub version: u8,
    pub body: Bytes,
}

/// Times and sizes.
#[derive(Clone, Copy, Debug)]
pub struct RpcConfig {
    /// Between heartbeats. Longer: deaths are seen later; shorter: CPU time for nothing.
    pub beat_every: Duration,
    /// A node that is not heard of for longer is not alive.
    pub alive_max: Duration,
    /// Connections of a node that is silent for longer are closed and dialled again.
    pub silence_max: Duration,
    /// Between attempts to connect, at first and at most.
    pub redial_min: Duration,
    pub redial_max: Duration,
    pub connect_patience: Duration,
    pub hello_patience: Duration,
    /// Bytes that wait for one connection. Beyond: messages are dropped.
    pub queue_bytes_max: usize,
    /// Longest frame that is sent or accepted.
    pub frame_bytes_max: usize,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            beat_every: Duration::from_millis(100),
            alive_max: Duration::from_secs(1),
            silence_max: Duration::from_secs(3),
            redial_min: Duration::from_millis(50),
            redial_max: Duration::from_secs(1),
            // The first packet is sent again after a second: a second attempt is as good.
            connect_patience: Duration::from_millis(1_500),
            hello_patience: Duration::from_secs(3),
            queue_bytes_max: 16 << 20,
            frame_bytes_max: 64 << 20,
        }
    }
}

/// A port that is ours.
pub struct BoundRpc {
    listener: std::net::TcpListener,
    /// With the port that the system chose, where port 0 was asked for.
    pub address: SocketAddr,
}

/// Takes the port. Blocks for the look-up of a host name.
pub fn bind(address: &HostPort) -> io::Result<BoundRpc> {
    let listener = stream::listen(address)?;
    Ok(BoundRpc { address: listener.local_addr()?, listener })
}

type OnMessage = Arc<dyn Fn(Inbound) -> BoxFuture<'static, ()> + Send + Sync>;
type OnCall = Arc<dyn Fn(Inbound) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

/// What every connection uses.
struct Shared {
    local: Local,
    config: RpcConfig,
    cluster: RwLock<Option<Arc<str>>>,
    peers: RwLock<HashMap<NodeId, Arc<Peer>>>,
    on_message: RwLock<HashMap<u8, OnMessage>>,
    on_call: RwLock<HashMap<u8, OnCall>>,
    alive: Alive,
    /// Of the node: handlers run here.
    runtime: Handle,
    /// Of the thread of the heartbeats.
    beats: Handle,
    stop: watch::Sender<bool>,
}

/// The way to the other nodes, and theirs to this one. Ends when it is stopped.
pub struct Rpc {
    shared: Arc<Shared>,
}

impl Rpc {
    /// Serves the port and starts the heartbeats. Needs the runtime of the node to be entered: handlers run on it.
    pub fn start(bound: BoundRpc, local: Local, config: RpcConfig) -> io::Result<Arc<Self>> {
        let beats = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
        let shared = Arc::new(Shared {
            local,
            config,
            cluster: RwLock::default(),
            peers: RwLock::default(),
            on_message: RwLock::default(),
            on_call: RwLock::default(),
            alive: Alive::new(local.node, Instant::now(), config.alive_max),
            runtime: Handle::current(),
            beats: beats.handle().clone(),
            stop: watch::channel(false).0,
        });
        let rpc = Arc::new(Self { shared: shared.clone() });
        std::thread::Builder::new().name("millstream-rpc".to_owned()).spawn(move || {
            beats.block_on(beat(shared, bound.listener));
            beats.shutdown_background();
        })?;
        Ok(rpc)
    }

    /// From now on hellos name this cluster, and those of others must.
    pub fn set_cluster(&self, cluster_id: &str) {
        *self.shared.cluster.write().unwrap_or_else(PoisonError::into_inner) = Some(cluster_id.into());
    }

    /// The cluster that hellos name.
    pub fn cluster_id(&self) -> Option<Arc<str>> {
        self.shared.cluster_id()
    }

    /// Where the others are: connections to all of them are kept up, those to others closed. This node may be among
    /// them.
    pub fn set_nodes(&self, nodes: HashMap<NodeId, HostPort>) {
        let mut peers = self.shared.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|node, peer| {
            let stays = nodes.get(node) == Some(&peer.address);
            if !stays {
                peer.stop();
            }
            stays
        });
        for (node, address) in nodes {
            if node != self.shared.local.node {
                peers.entry(node).or_insert_with(|| Peer::start(&self.shared, node, address));
            }
        }
    }

    /// Never waits. False: dropped, the node is not connected or too much waits for it. The parts are sent in a row,
    /// without a copy.
    pub fn send(&self, to: NodeId, lane: Lane, kind: u8, parts: Vec<Bytes>) -> bool {
        self.shared.send(to, lane, OutFrame::new(kind, parts))
    }

    /// Asks a node of the cluster.
    pub async fn call(&self, to: NodeId, kind: u8, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let peer = self.shared.peer(to).ok_or(CallError::NotConnected)?;
        let mut place = peer.pending.add();
        let question = calls::question(place.correlation, kind, body);
        if question.size_bytes() > self.shared.config.frame_bytes_max {
            return Err(CallError::Busy);
        }
        if !peer.lane(Lane::Bulk).push(question) {
            return Err(if self.is_alive(to) { CallError::Busy } else { CallError::NotConnected });
        }
        match tokio::time::timeout(timeout, &mut place.answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(CallError::Broken),
            Err(_) => Err(CallError::Timeout),
        }
    }

    /// Asks whoever is at an address, on a connection of its own: for what is said before nodes know each other
    /// (`kind::FORM`, `kind::REGISTER`).
    pub async fn call_address(
        &self,
        to: &HostPort,
        kind: u8,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let call = dial::call_address(&self.shared, to, kind, body);
        tokio::time::timeout(timeout, call).await.unwrap_or(Err(CallError::Timeout))
    }

    /// What becomes of messages of a kind. The connection is not read while the future runs; where the connection is
    /// given up meanwhile, the future is dropped, and the message counts as lost.
    pub fn on_message(&self, kind: u8, handler: impl Fn(Inbound) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        let mut handlers = self.shared.on_message.write().unwrap_or_else(PoisonError::into_inner);
        handlers.insert(kind, Arc::new(handler));
    }

    /// Who answers calls of a kind. An error is told in words. Many run side by side.
    pub fn on_call(
        &self,
        kind: u8,
        handler: impl Fn(Inbound) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync + 'static,
    ) {
        let mut handlers = self.shared.on_call.write().unwrap_or_else(PoisonError::into_inner);
        handlers.insert(kind, Arc::new(handler));
    }

    /// Heard of within a second. This node always is.
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.shared.alive.is_alive(node, Instant::now())
    }

    /// Whether messages go to a node, of those that were named. This node needs no connection.
    pub fn is_connected(&self, node: NodeId) -> bool {
        node == self.shared.local.node || self.shared.peer(node).is_some_and(|peer| peer.lane(Lane::Append).is_open())
    }

    /// Since it was heard of; of a node that never was, since this one started.
    pub fn silent_for(&self, node: NodeId) -> Duration {
        self.shared.alive.silent_for(node, Instant::now())
    }

    /// A number that grows when a node comes, goes, or has another boot id.
    pub fn alive_changes(&self) -> watch::Receiver<u64> {
        self.shared.alive.changes()
    }

    /// Of the process that was heard last. Another one: the node has started anew.
    pub fn boot_id(&self, node: NodeId) -> Option<Uuid> {
        match node == self.shared.local.node {
            true => Some(self.shared.local.boot),
            false => self.shared.alive.boot_id(node),
        }
    }

    /// Closes the port and all connections.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
        let mut peers = self.shared.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.drain().for_each(|(_, peer)| peer.stop());
    }
}

impl Shared {
    fn cluster_id(&self) -> Option<Arc<str>> {
        self.cluster.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    fn runtime_of(&self, lane: Lane) -> &Handle {
        match lane {
            Lane::Heartbeat => &self.beats,
            Lane::Append | Lane::Bulk => &self.runtime,
        }
    }

    fn send(&self, to: NodeId, lane: Lane, frame: OutFrame) -> bool {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let fits = frame.size_bytes() <= self.config.frame_bytes_max;
        fits && peers.get(&to).is_some_and(|peer| peer.lane(lane).push(frame))
    }

    async fn deliver(&self, message: Inbound) {
        let handler = self.on_message.read().unwrap_or_else(PoisonError::into_inner).get(&message.kind).cloned();
        match handler {
            Some(handler) => handler(message).await,
            // The node is starting, or the other one is newer.
            None => tracing::debug!(node = %message.from, kind = message.kind, "nobody takes messages of this kind"),
        }
    }

    async fn carry_out(&self, question: Inbound) -> Result<Bytes, String> {
        let handler = self.on_call.read().unwrap_or_else(PoisonError::into_inner).get(&question.kind).cloned();
        match handler {
            Some(handler) => handler(question).await,
            None => Err(format!("node {} does not answer calls of kind {} now", self.local.node, question.kind)),
        }
    }
}

/// The thread's work: accepts, and tells every node that this one lives.
async fn beat(shared: Arc<Shared>, listener: std::net::TcpListener) {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => drop(tokio::spawn(accept::accept(shared.clone(), listener))),
        Err(e) => return tracing::error!(error = %e, "the port of the nodes cannot be served"),
    }
    let mut stopping = shared.stop.subscribe();
    let mut ticks = tokio::time::interval(shared.config.beat_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let boot = Bytes::copy_from_slice(shared.local.boot.as_bytes());
    while !*stopping.borrow_and_update() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopping.changed() => continue,
        }
        shared.alive.tick(Instant::now());
        for peer in shared.peers.read().unwrap_or_else(PoisonError::into_inner).values() {
            // False: not connected.
            peer.lane(Lane::Heartbeat).push(OutFrame::new(kind::HEARTBEAT, vec![boot.clone()]));
        }
    }
}

#[cfg(test)]
mod tests;
