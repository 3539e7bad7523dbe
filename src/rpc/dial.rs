//! Connections to the others: one per node and lane, kept up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::types::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use super::calls::{self, CallError, Pending};
use super::frame::{FrameReader, OutFrame};
use super::hello::{Hello, HelloReply, Purpose, Refusal, RefusalCode, VERSIONS};
use super::queue::Queue;
use super::stream::{self, Stream};
use super::{LANES, Lane, Shared, kind};
use crate::config::HostPort;

/// How often a connection looks whether the other node is still heard of.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// Longest answer to a hello.
const HELLO_BYTES_MAX: usize = 4 * 1024;

/// Another node, and what waits for it.
pub(super) struct Peer {
    pub node: NodeId,
    pub address: HostPort,
    lanes: [Queue; 3],
    pub pending: Pending,
    /// Grows when the other node dials us: it can be dialled, too.
    returned: watch::Sender<u64>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// A refusal was said already.
    is_refusal_told: AtomicBool,
}

impl Peer {
    /// Starts dialling.
    pub fn start(shared: &Arc<Shared>, node: NodeId, address: HostPort) -> Arc<Self> {
        let queue = || Queue::new(shared.config.queue_bytes_max);
        let peer = Arc::new(Self {
            node,
            address,
            lanes: [queue(), queue(), queue()],
            pending: Pending::default(),
            returned: watch::channel(0).0,
            tasks: Mutex::default(),
            is_refusal_told: AtomicBool::new(false),
        });
        let start = |lane: &Lane| {
            let (runtime, lane) = (shared.runtime_of(*lane), *lane);
            runtime.spawn(keep_up(shared.clone(), peer.clone(), lane)).abort_handle()
        };
        *peer.tasks.lock().unwrap_or_else(PoisonError::into_inner) = LANES.iter().map(start).collect();
        peer
    }

    pub fn lane(&self, lane: Lane) -> &Queue {
        let [heartbeat, append, bulk] = &self.lanes;
        match lane {
            Lane::Heartbeat => heartbeat,
            Lane::Append => append,
            Lane::Bulk => bulk,
        }
    }

    /// The other node is there: dialled at once, where it is not connected.
    pub fn returned(&self) {
        self.returned.send_modify(|times| *times += 1);
    }

    /// Closes the connections.
    pub fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
    }
}

/// Fails the calls of a connection that is gone.
struct Failing<'a>(&'a Pending);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.fail_all();
    }
}

/// Dials for ever, less often while it does not help.
async fn keep_up(shared: Arc<Shared>, peer: Arc<Peer>, lane: Lane) {
    let mut returned = peer.returned.subscribe();
    let mut pause = shared.config.redial_min;
    loop {
        returned.mark_unchanged();
        match connect(&shared, &peer, lane).await {
            Ok(connection) => {
                pause = shared.config.redial_min;
                let ended = converse(&shared, &peer, lane, connection).await;
                debug!(node = %peer.node, ?lane, reason = ended, "connection ended");
            }
            Err(reason) => debug!(node = %peer.node, address = %peer.address, ?lane, reason, "not connected"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = returned.changed() => {}
        }
        pause = (pause * 2).min(shared.config.redial_max);
    }
}

/// A connection on which both have said hello.
struct Connection {
    stream: Stream,
    reader: FrameReader,
    boot: uuid::Uuid,
}

async fn connect(shared: &Shared, peer: &Peer, lane: Lane) -> Result<Connection, String> {
    let (to, purpose) = (Some(peer.node), Purpose::Lane(lane));
    match dial(shared, &peer.address, to, purpose).await {
        Ok((stream, reader, reply)) => {
            if peer.is_refusal_told.swap(false, Ordering::Relaxed) {
                info!(node = %peer.node, address = %peer.address, "the other node talks to this one again");
            }
            Ok(Connection { stream, reader, boot: reply.from.boot })
        }
        Err(DialError::Refused(refusal)) => {
            // A cluster that forms: the other node is about to take its place.
            let is_passing = refusal.code == RefusalCode::NotFormed;
            if !is_passing && !peer.is_refusal_told.swap(true, Ordering::Relaxed) {
                warn!(node = %peer.node, address = %peer.address, reason = %refusal, "the other node refuses to talk");
            }
            Err(refusal.words)
        }
        Err(DialError::Failed(reason)) => Err(reason),
    }
}

/// Why nobody is there to talk to.
enum DialError {
    Refused(Refusal),
    Failed(String),
}

/// Connects and says hello.
async fn dial(
    shared: &Shared,
    address: &HostPort,
    to: Option<NodeId>,
    purpose: Purpose,
) -> Result<(Stream, FrameReader, HelloReply), DialError> {
    let failed = |e: &dyn std::fmt::Display| DialError::Failed(e.to_string());
    let mut stream = stream::connect(address, shared.config.connect_patience).await.map_err(|e| failed(&e))?;
    let mut reader = FrameReader::new(HELLO_BYTES_MAX);
    let cluster_id = shared.cluster_id().map(|id| id.to_string());
    let hello = Hello { versions: VERSIONS, purpose, from: shared.local, to, cluster_id };
    let greet = async {
        stream.write_all(&OutFrame::new(kind::HELLO, vec![hello.encode()]).to_bytes()).await.map_err(|e| failed(&e))?;
        let mut frame = reader.next(&mut stream).await.map_err(|e| failed(&e))?;
        let reply = (frame.kind == kind::HELLO_REPLY).then(|| HelloReply::decode(&mut frame.body)).flatten();
        reply.ok_or_else(|| failed(&"what is there does not speak the protocol between nodes"))
    };
    let greeted = tokio::time::timeout(shared.config.hello_patience, greet).await;
    let mut reply = greeted.map_err(|_| failed(&"no answer to the hello"))??;
    if let Some(refusal) = reply.refusal.take() {
        return Err(DialError::Refused(refusal));
    }
    reader.set_frame_bytes_max(shared.config.frame_bytes_max);
    Ok((stream, reader, reply))
}

/// Sends what waits until the connection or the other node is gone; gives the reason.
async fn converse(shared: &Shared, peer: &Peer, lane: Lane, connection: Connection) -> String {
    let Connection { mut stream, mut reader, boot } = connection;
    let queue = peer.lane(lane);
    let _open = queue.open();
    let _failing = (lane == Lane::Bulk).then_some(Failing(&peer.pending));
    let (mut read, mut write) = stream.split();
    tokio::select! {
        error = queue.write_to(&mut write) => error.to_string(),
        reason = read_answers(&mut reader, &mut read, &peer.pending) => reason,
        reason = watch_over(shared, peer.node, Some(boot)) => reason.to_owned(),
    }
}

/// What comes back on a connection that we dialled: answers to calls, and its end.
async fn read_answers(reader: &mut FrameReader, stream: &mut (impl AsyncRead + Unpin), pending: &Pending) -> String {
    loop {
        match reader.next(stream).await {
            Ok(frame) if frame.kind == kind::CALL_REPLY => match calls::decode_answer(frame.body) {
                Some((correlation, outcome)) => pending.finish(correlation, outcome),
                None => return "an answer that is none".to_owned(),
            },
            // A newer node may have more to say.
            Ok(_) => {}
            Err(e) => return e.to_string(),
        }
    }
}

/// Ends when the other node has not been heard of for long, or is known to be another process than `boot`.
pub(super) async fn watch_over(shared: &Shared, node: NodeId, boot: Option<uuid::Uuid>) -> &'static str {
    let since = Instant::now();
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let silent_for = shared.alive.silent_for(node, Instant::now());
        if silent_for > shared.config.silence_max && since.elapsed() > shared.config.silence_max {
            return "the other node is silent";
        }
        // One that was heard of after this connection began: older news are of the process before.
        let is_news = silent_for < since.elapsed();
        if is_news && boot.is_some_and(|boot| shared.alive.boot_id(node).is_some_and(|known| known != boot)) {
            return "the other node was started anew";
        }
    }
}

/// One call on a connection of its own.
pub(super) async fn call_address(
    shared: &Shared,
    address: &HostPort,
    asked: u8,
    body: Bytes,
) -> Result<Bytes, CallError> {
    let (mut stream, mut reader, _) = dial(shared, address, None, Purpose::Visit).await.map_err(|e| match e {
        DialError::Refused(refusal) => CallError::Hello(refusal),
        DialError::Failed(reason) => {
            debug!(%address, reason, "not connected");
            CallError::NotConnected
        }
    })?;
    write_frame(&mut stream, &calls::question(1, asked, body)).await?;
    loop {
        let frame = reader.next(&mut stream).await.map_err(|_| CallError::Broken)?;
        if frame.kind == kind::CALL_REPLY {
            return calls::decode_answer(frame.body).ok_or(CallError::Broken)?.1;
        }
    }
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &OutFrame) -> Result<(), CallError> {
    stream.write_all(&frame.to_bytes()).await.map_err(|_| CallError::Broken)
}
