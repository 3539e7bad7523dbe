//! One connection: one task that reads requests, carries them out in order and sends the replies in order.
//!
//! While a handler runs, or no request has come, replies that were waited for leave. Nothing here knows what a
//! request asks for.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::Sleep;

use super::frame::{Frame, FrameError, FrameReader, Progress};
use super::memory::{FREE_BYTES, FREE_BYTES_OF_CONNECTION, ReplyMemory, RequestMemory};
use super::replies::{Pending, Replies, ReplyError};
use super::socket::Socket;
use super::tls::HandshakeError;
use crate::api::{Call, Refused, Service, Session, logged_in};
use crate::protocol::Key;
use crate::tls::TlsListener;

/// The next look at a connection that may stand still for ever.
const LOOK_AT_LEAST: Duration = Duration::from_secs(3600);

/// What all connections of a node share.
pub(super) struct Shared {
    pub service: Arc<dyn Service>,
    pub memory: Arc<RequestMemory>,
    pub reply_memory: Arc<ReplyMemory>,
    /// `socket.request.max.bytes`.
    pub frame_bytes_max: usize,
    /// `connections.max.idle.ms`; `None`: for ever.
    pub idle_max: Option<Duration>,
    /// See `NetConfig::stall_max`.
    pub stall_max: Duration,
    /// `sasl.server.max.receive.size`: the same of a client that has not logged in.
    pub login_frame_bytes_max: usize,
    /// See `NetConfig::login_max`.
    pub login_max: Duration,
    /// See `NetConfig::local_send_buffer_bytes`.
    pub local_send_buffer_bytes: Option<u32>,
}

/// Why a connection ended. The names are those of the metric.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("closed by the client")]
    Client,
    #[error("nothing moved for too long")]
    Idle,
    #[error("a request stood still half sent, or nearly so")]
    Stalled,
    #[error("the node stops")]
    Stop,
    #[error("the node is cut off from most others")]
    Dismissed,
    #[error("{0}")]
    Io(std::io::Error),
    #[error("{0}")]
    Frame(FrameError),
    #[error("{0}")]
    Handshake(HandshakeError),
    #[error("not logged in in time")]
    Login,
    #[error("{0}")]
    Refused(Refused),
    #[error("{0}")]
    Handler(String),
    #[error("the handler panicked")]
    Panic,
}

impl End {
    /// The label of `connections_closed_total`.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Stop => "stop",
            Self::Dismissed => "dismissed",
            Self::Io(_) => "io",
            Self::Frame(_) => "frame",
            Self::Handshake(_) => "handshake",
            Self::Login => "login",
            Self::Refused(_) => "refused",
            Self::Handler(_) => "handler",
            Self::Panic => "panic",
        }
    }
}

/// One connection on its way through life.
pub(super) struct Connection {
    shared: Arc<Shared>,
    socket: Socket,
    /// Of the listener, if it has that.
    tls: Option<Arc<TlsListener>>,
    session: Session,
    reader: FrameReader,
    replies: Replies,
    watch: Watch,
    /// The API of the latest request, for the log.
    api: Option<Key>,
}

/// What wakes a connection besides its socket and its replies.
struct Watch {
    stop: Pin<Box<dyn Future<Output = End> + Send>>,
    /// Nothing is read any more, and why.
    stopping: Option<End>,
    look: Pin<Box<Sleep>>,
    /// Bytes in both directions until `moved_at`.
    moved: u64,
    moved_at: Instant,
    /// When a client that has to log in must have done so.
    login_by: Option<Instant>,
    /// Since when the client has not moved on with a frame that holds memory.
    standing: Option<(Progress, Instant)>,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        socket: Socket,
        tls: Option<Arc<TlsListener>>,
        session: Session,
        mut stop: watch::Receiver<bool>,
        mut dismissals: watch::Receiver<()>,
    ) -> Self {
        let frame_bytes_max =
            if session.login.is_done() { shared.frame_bytes_max } else { shared.login_frame_bytes_max };
        let reader = FrameReader::new(Arc::clone(&shared.memory), frame_bytes_max);
        let stop = Box::pin(async move {
            tokio::select! {
                // An error means that whoever could stop us is gone: that is a stop, too.
                _ = stop.wait_for(|stopping| *stopping) => End::Stop,
                Ok(()) = dismissals.changed() => End::Dismissed,
            }
        });
        let now = Instant::now();
        let first_look = now + shared.idle_max.unwrap_or(LOOK_AT_LEAST);
        let look = Box::pin(tokio::time::sleep_until(first_look.into()));
        let login_by = (!session.login.is_done()).then(|| now + shared.login_max);
        let watch = Watch { stop, stopping: None, look, moved: 0, moved_at: now, login_by, standing: None };
        let replies = Replies::new(Arc::clone(&shared.reply_memory));
        Self { shared, socket, tls, session, reader, replies, watch, api: None }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The API of the latest request.
    pub(super) fn api(&self) -> Option<Key> {
        self.api
    }

    /// Serves until the connection ends. A panic ends this connection and nothing else.
    pub(super) async fn run(&mut self) -> End {
        let mut serving = Box::pin(self.serve());
        let caught =
            std::future::poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| serving.as_mut().poll(cx))) {
                Ok(polled) => polled,
                Err(_) => Poll::Ready(End::Panic),
            });
        caught.await
    }

    async fn serve(&mut self) -> End {
        if let Err(end) = self.shake_hands().await {
            return end;
        }
        loop {
            let frame = match std::future::poll_fn(|cx| self.poll_next(cx)).await {
                Ok(frame) => frame,
                Err(end) => return end,
            };
            match self.carry_out(frame).await {
                Ok(()) => {}
                Err(End::Refused(refused)) => return self.refuse(refused).await,
                Err(end) => return end,
            }
            tokio::task::consume_budget().await;
        }
    }

    /// TLS comes first, where the listener speaks it: the client's certificate says who it is.
    async fn shake_hands(&mut self) -> Result<(), End> {
        let Self { shared, socket, tls, session, watch, .. } = self;
        let (Socket::Tls(stream), Some(tls)) = (socket, tls) else { return Ok(()) };
        tokio::select! {
            biased;
            why = &mut watch.stop => return Err(why),
            shaken = std::future::poll_fn(|cx| stream.poll_handshake(cx)) => shaken.map_err(End::Handshake)?,
            () = tokio::time::sleep(shared.login_max) => return Err(End::Login),
        }
        if let Some(certificate) = stream.peer_certificate() {
            let user = tls.user(certificate).map_err(|subject| End::Handshake(HandshakeError::NoRule(subject)))?;
            session.principal = format!("User:{user}").into();
            logged_in(session, "TLS");
        }
        Ok(())
    }

    /// The next request; replies leave meanwhile.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, End>> {
        if let Poll::Ready(end) = self.replies.poll_drive(cx, &mut self.socket) {
            return Poll::Ready(Err(end.into()));
        }
        if self.watch.poll_stopping(cx) {
            if self.replies.is_empty()
                && let Some(why) = self.watch.stopping.take()
            {
                return Poll::Ready(Err(why));
            }
        } else if !self.replies.is_full() {
            let free_bytes = FREE_BYTES.min(FREE_BYTES_OF_CONNECTION.saturating_sub(self.replies.free_bytes()));
            match self.reader.poll_frame(cx, &mut self.socket, free_bytes) {
                Poll::Ready(Ok(frame)) => {
                    self.watch.standing = None;
                    return Poll::Ready(Ok(frame));
                }
                Poll::Ready(Err(FrameError::End)) => return Poll::Ready(Err(End::Client)),
                Poll::Ready(Err(FrameError::Io(e))) => return Poll::Ready(Err(End::Io(e))),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(End::Frame(e))),
                Poll::Pending => {}
            }
        }
        self.watch.note(self.reader.received() + self.replies.sent());
        // One that is not read cannot move on.
        self.watch.note_progress(self.reader.progress().filter(|_| !self.replies.is_full()));
        self.poll_look(cx).map(Err)
    }

    /// Runs the handler to the end of its first phase and puts the request in line.
    async fn carry_out(&mut self, frame: Frame) -> Result<(), End> {
        let arrived = Instant::now();
        let request_bytes = frame.bytes.len();
        let Self { shared, socket, session, replies, .. } = self;
        let called = shared.service.call(session, frame.bytes);
        let Call { api, metrics, outcome: mut running } = called.map_err(End::Refused)?;
        self.api = Some(api);
        let outcome = std::future::poll_fn(|cx| {
            if let Poll::Ready(end) = replies.poll_drive(cx, socket) {
                return Poll::Ready(Err(end));
            }
            running.as_mut().poll(cx).map(Ok)
        })
        .await?;
        drop(running);
        if self.watch.login_by.is_some() && session.login.is_done() {
            self.watch.login_by = None;
            self.reader.limit(shared.frame_bytes_max);
        }
        replies.push(Pending { outcome, metrics, request_bytes, arrived, lease: frame.lease });
        Ok(())
    }

    /// Ends the connection once what was asked before is answered.
    async fn refuse(&mut self, refused: Refused) -> End {
        let drained = std::future::poll_fn(|cx| match self.replies.poll_drive(cx, &mut self.socket) {
            Poll::Ready(end) => Poll::Ready(Some(end.into())),
            Poll::Pending if self.replies.is_empty() => Poll::Ready(None),
            Poll::Pending => self.poll_look(cx).map(Some),
        });
        drained.await.unwrap_or(End::Refused(refused))
    }

    /// Ends a connection on which nothing has moved, though the client could have moved it.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self { shared, replies, watch, .. } = self;
        // A reply that we owe is our delay, not the client's.
        let waits_for_us = !replies.is_empty() && !replies.waits_for_client();
        let stalled_at = watch.standing.map(|(_, since)| since + shared.stall_max);
        let idle_max = shared.idle_max.unwrap_or(LOOK_AT_LEAST);
        let idle_at = watch.moved_at + idle_max;
        let ends = [Some(idle_at), stalled_at, watch.login_by];
        let first = ends.into_iter().flatten().min().unwrap_or(idle_at);
        if watch.look.deadline() > first.into() {
            watch.look.as_mut().reset(first.into());
        }
        while watch.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if stalled_at.is_some_and(|at| at <= now) {
                return Poll::Ready(End::Stalled);
            }
            if watch.login_by.is_some_and(|at| at <= now) {
                return Poll::Ready(End::Login);
            }
            if !waits_for_us && shared.idle_max.is_some() && idle_at <= now {
                return Poll::Ready(End::Idle);
            }
            let next = ends.into_iter().flatten().filter(|at| *at > now).min();
            watch.look.as_mut().reset(next.unwrap_or(now + idle_max).into());
        }
        Poll::Pending
    }
}

impl From<ReplyError> for End {
    fn from(end: ReplyError) -> Self {
        match end {
            ReplyError::Io(e) => Self::Io(e),
            ReplyError::Close(reason) => Self::Handler(reason),
        }
    }
}

impl Watch {
    fn poll_stopping(&mut self, cx: &mut Context<'_>) -> bool {
        if self.stopping.is_none()
            && let Poll::Ready(why) = self.stop.as_mut().poll(cx)
        {
            self.stopping = Some(why);
        }
        self.stopping.is_some()
    }

    /// Takes down when bytes last moved in either direction.
    fn note(&mut self, moved: u64) {
        if moved != self.moved {
            self.moved = moved;
            self.moved_at = Instant::now();
        }
    }

    /// Takes down when a client with a frame that holds memory last moved on. A byte now and then is no progress.
    fn note_progress(&mut self, now: Option<Progress>) {
        let is_still = |(before, _): &(Progress, Instant)| {
            now.is_some_and(|now| now.received < before.received.saturating_add(before.step))
        };
        if !self.standing.as_ref().is_some_and(is_still) {
            self.standing = now.map(|progress| (progress, Instant::now()));
        }
    }
}
