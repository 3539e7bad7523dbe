//! The replies of one connection, in request order: those that are there, and those still waited for.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::memory::{Lease, ReplyMemory};
use super::outgoing::Outgoing;
use super::socket::Socket;
use crate::api::Outcome;
use crate::protocol::Part;
use crate::telemetry::ApiMetrics;

/// Requests of one connection that are not answered yet. Full: the connection is not read.
const OUTSTANDING_MAX: usize = 1_000;
/// Bytes of those requests and of finished replies behind them. Full: the connection is not read.
const OUTSTANDING_BYTES_MAX: usize = 32 << 20;
/// Bytes of finished replies behind others that a connection may hold though those of all are too many.
const HELD_BYTES_FREE: usize = 256 * 1024;
/// Bytes that wait for the socket before the next finished reply is taken along. A client that does not read holds
/// this much and one reply.
const OUTGOING_BYTES_MAX: usize = 256 * 1024;

/// A request that was carried out or waits, for its reply to leave.
pub(super) struct Pending {
    pub outcome: Outcome,
    pub metrics: Arc<ApiMetrics>,
    pub request_bytes: usize,
    /// When the request had arrived whole.
    pub arrived: Instant,
    /// The request's memory.
    pub lease: Lease,
}

/// Why no more replies leave.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// All replies before have left.
    #[error("{0}")]
    Close(String),
}

/// The queue, and what is on its way to the socket.
pub(super) struct Replies {
    memory: Arc<ReplyMemory>,
    /// Bytes in memory of finished replies in the queue.
    held: usize,
    queue: VecDeque<Pending>,
    /// Requests and finished replies in the queue.
    bytes: usize,
    /// Requests in the queue that hold no memory of the common store.
    free_bytes: usize,
    outgoing: Outgoing,
    /// A reply that closes the connection stands in the queue: nothing after it counts.
    ends: bool,
    /// Set once that reply has come to the front.
    closing: Option<String>,
}

impl Replies {
    pub(super) fn new(memory: Arc<ReplyMemory>) -> Self {
        Self {
            memory,
            held: 0,
            queue: VecDeque::new(),
            bytes: 0,
            free_bytes: 0,
            outgoing: Outgoing::default(),
            ends: false,
            closing: None,
        }
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.bytes += weight(&pending);
        self.free_bytes += unpaid(&pending);
        self.hold(in_memory(&pending));
        self.ends |= matches!(pending.outcome, Outcome::Close(_) | Outcome::Last(..));
        self.queue.push_back(pending);
    }

    /// Whether the connection should not be read for now.
    pub(super) fn is_full(&self) -> bool {
        self.ends
            || self.closing.is_some()
            || self.queue.len() >= OUTSTANDING_MAX
            || self.bytes >= OUTSTANDING_BYTES_MAX
            // It is read again when its own replies leave: nobody has to wake it for others'.
            || self.held >= HELD_BYTES_FREE && self.memory.is_spent()
    }

    fn hold(&mut self, bytes: usize) {
        self.held += bytes;
        self.memory.hold(bytes);
    }

    fn give_back(&mut self, bytes: usize) {
        self.held -= bytes;
        self.memory.give_back(bytes);
    }

    /// Bytes of requests that hold no memory of the common store.
    pub(super) fn free_bytes(&self) -> usize {
        self.free_bytes
    }

    /// Whether everything asked has been answered.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.outgoing.is_empty()
    }

    /// Whether the client is the one to move: a reply waits for the socket.
    pub(super) fn waits_for_client(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Bytes that the socket took since the connection began.
    pub(super) fn sent(&self) -> u64 {
        self.outgoing.sent()
    }

    /// Moves replies towards the socket. Ready only with the end of the connection.
    pub(super) fn poll_drive(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<ReplyError> {
        loop {
            self.take_finished(cx);
            if self.outgoing.is_empty() {
                return match self.closing.take() {
                    Some(reason) => Poll::Ready(ReplyError::Close(reason)),
                    None => Poll::Pending,
                };
            }
            if let Err(e) = ready!(self.outgoing.poll_flush(cx, socket)) {
                return Poll::Ready(e.into());
            }
        }
    }

    /// Takes replies off the front while they are finished and the socket keeps up.
    fn take_finished(&mut self, cx: &mut Context<'_>) {
        while self.closing.is_none() && self.outgoing.bytes() < OUTGOING_BYTES_MAX {
            let Some(front) = self.queue.front_mut() else { return };
            if let Outcome::Later(future) = &mut front.outcome {
                let Poll::Ready(outcome) = future.as_mut().poll(cx) else { return };
                self.bytes -= front.request_bytes;
                front.outcome = outcome;
                self.bytes += weight(front);
                let held = in_memory(front);
                self.hold(held);
            }
            let Some(done) = self.queue.pop_front() else { return };
            self.give_back(in_memory(&done));
            self.bytes -= weight(&done);
            self.free_bytes -= unpaid(&done);
            self.finish(done);
        }
    }

    fn finish(&mut self, done: Pending) {
        let metrics = &done.metrics;
        metrics.requests.inc();
        metrics.request_bytes.inc_by(u64::try_from(done.request_bytes).unwrap_or_default());
        metrics.latency.observe(done.arrived.elapsed().as_secs_f64());
        match done.outcome {
            Outcome::Reply(response) => {
                metrics.response_bytes.inc_by(u64::try_from(response.size_bytes()).unwrap_or_default());
                self.outgoing.push(response);
            }
            Outcome::Last(response, reason) => {
                metrics.response_bytes.inc_by(u64::try_from(response.size_bytes()).unwrap_or_default());
                self.outgoing.push(response);
                self.closing = Some(reason);
            }
            Outcome::NoReply => {}
            Outcome::Close(reason) => self.closing = Some(reason),
            Outcome::Later(_) => self.closing = Some("a reply was put off twice".to_owned()),
        }
        drop(done.lease);
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.memory.give_back(self.held);
    }
}

/// Bytes of a finished reply but for its files.
fn in_memory(pending: &Pending) -> usize {
    let (Outcome::Reply(response) | Outcome::Last(response, _)) = &pending.outcome else { return 0 };
    let bytes = |part: &Part| if matches!(part, Part::Bytes(_)) { part.len() } else { 0 };
    response.parts().iter().map(bytes).sum()
}

/// What an entry of the queue holds, in bytes.
fn weight(pending: &Pending) -> usize {
    match &pending.outcome {
        Outcome::Reply(response) | Outcome::Last(response, _) => response.size_bytes(),
        Outcome::Later(_) => pending.request_bytes,
        Outcome::NoReply | Outcome::Close(_) => 0,
    }
}

fn unpaid(pending: &Pending) -> usize {
    if pending.lease.is_held() { 0 } else { pending.request_bytes }
}
