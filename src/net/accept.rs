//! Accepting connections, within the limits and through bad times.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use super::bind::Bound;
use super::connection::{Connection, End, Shared};
use super::frame::FrameError;
use super::limits::{Counts, IpPlace, Place};
use super::notices::Notices;
use super::socket::Socket;
use super::tls::{HandshakeError, TlsStream};
use crate::api::{Refused, Session};
use crate::telemetry::{Escaped, Metrics};
use crate::tls::TlsListener;

/// Wait after an accept that failed for want of descriptors or memory: doubled up to the last.
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
const BACK_OFF_LAST: Duration = Duration::from_secs(1);

/// One listener's accept loop, and what it gives to its connections.
pub(super) struct Acceptor {
    pub bound: Bound,
    /// Set on a listener that speaks TLS.
    pub tls: Option<Arc<TlsListener>>,
    pub shared: Arc<Shared>,
    pub counts: Arc<Counts>,
    pub notices: Arc<Notices>,
    pub metrics: Arc<Metrics>,
    pub next_id: Arc<AtomicU64>,
    pub stop: watch::Receiver<bool>,
    pub dismissals: watch::Receiver<()>,
    /// Held by every connection: the server waits until the last is dropped.
    pub alive: mpsc::Sender<()>,
}

/// What a connection gives back when it ends.
struct Places {
    _place: Place,
    _ip: IpPlace,
    _alive: mpsc::Sender<()>,
}

impl Acceptor {
    /// Accepts until the node stops.
    pub(super) async fn run(self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            // An error means that whoever could stop us is gone: that is a stop, too.
            _ = stop.wait_for(|stopping| *stopping) => {}
            () = self.accept_all() => {}
        }
    }

    async fn accept_all(&self) {
        let mut back_off = BACK_OFF_FIRST;
        loop {
            let listener = &self.bound.listener.name;
            if self.counts.is_full(listener) && self.notices.is_first(self.bound.address.ip(), "full", 0) {
                warn!(listener, "as many connections as max.connections and descriptors allow, further ones wait");
            }
            let place = self.counts.place(listener).await;
            match self.bound.socket.accept().await {
                Ok((socket, peer)) => {
                    back_off = BACK_OFF_FIRST;
                    self.admit(socket, peer, place);
                }
                Err(e) if is_shortage(&e) => {
                    warn!(listener = self.bound.listener.name, error = %e, "cannot accept, will retry");
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF_LAST);
                }
                // The client is gone already.
                Err(e) => debug!(listener = self.bound.listener.name, error = %e, "accept failed"),
            }
        }
    }

    fn admit(&self, socket: TcpStream, peer: SocketAddr, place: Place) {
        let Some(ip) = self.counts.try_ip_place(peer.ip()) else {
            self.metrics.connections_closed.with_label_values(&["per_ip"]).inc();
            if self.notices.is_first(peer.ip(), "per_ip", 0) {
                warn!(%peer, "connection refused: max.connections.per.ip");
            }
            return;
        };
        let places = Places { _place: place, _ip: ip, _alive: self.alive.clone() };
        let local = match socket.set_nodelay(true).and_then(|()| socket.local_addr()) {
            Ok(local) => local,
            Err(e) => {
                debug!(%peer, error = %e, "connection was gone at once");
                return;
            }
        };
        if local.ip() == peer.ip()
            && let Some(bytes) = self.shared.local_send_buffer_bytes
            && let Err(error) = setsockopt(&socket, sockopt::SndBuf, &usize::try_from(bytes).unwrap_or(usize::MAX))
        {
            debug!(%peer, %error, "the send buffer stays as it is");
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let session = Session::new(id, Arc::clone(&self.bound.listener), local, peer);
        let mut dismissals = self.dismissals.clone();
        // Those before do not concern it.
        dismissals.mark_unchanged();
        let (socket, tls) = match &self.tls {
            None => (Socket::Plain(socket), None),
            Some(tls) => match TlsStream::new(socket, tls.current()) {
                Ok(stream) => (Socket::Tls(Box::new(stream)), Some(Arc::clone(tls))),
                Err(error) => return warn!(%peer, %error, "no TLS for a new connection"),
            },
        };
        let connection = Connection::new(Arc::clone(&self.shared), socket, tls, session, self.stop.clone(), dismissals);
        let (metrics, notices) = (Arc::clone(&self.metrics), Arc::clone(&self.notices));
        tokio::spawn(serve(connection, places, metrics, notices));
    }
}

async fn serve(mut connection: Connection, places: Places, metrics: Arc<Metrics>, notices: Arc<Notices>) {
    let listener = connection.session().listener.name.clone();
    metrics.connections_accepted.with_label_values(&[&listener]).inc();
    let open = metrics.connections.with_label_values(&[&listener]);
    open.inc();
    debug!(connection = connection.session().connection_id, peer = %connection.session().peer, listener, "connected");
    let end = connection.run().await;
    open.dec();
    metrics.connections_closed.with_label_values(&[end.label()]).inc();
    tell(&connection, &end, &notices);
    drop(connection);
    drop(places);
}

/// Says why a connection ended, as loud as it deserves: what a client does wrong is said once for its address.
fn tell(connection: &Connection, end: &End, notices: &Notices) {
    let session = connection.session();
    let (id, peer, client_id) = (session.connection_id, session.peer, Escaped(&session.client_id));
    let is_first = |what, number| notices.is_first(peer.ip(), what, number);
    match end {
        End::Panic => {
            let api = connection.api();
            error!(connection = id, %peer, %client_id, ?api, "a request made its handler panic, connection closed");
        }
        End::Handler(reason) => {
            let api = connection.api();
            if is_first("handler", api.map_or(-1, |api| i32::from(api.0))) {
                warn!(connection = id, %peer, %client_id, ?api, reason = %Escaped(reason), "connection closed");
            }
        }
        End::Frame(e @ (FrameError::Http | FrameError::Tls | FrameError::Length(_))) => {
            let kind = match e {
                FrameError::Http => 1,
                FrameError::Tls => 2,
                _ => 3,
            };
            if is_first("frame", kind) {
                warn!(connection = id, %peer, listener = session.listener.name, error = %e, "not a Kafka client");
            }
        }
        End::Refused(refused) => {
            let number = match refused {
                Refused::Header(_) => -1,
                Refused::UnknownApi(key) => i32::from(*key),
                Refused::UnsupportedVersion { api, version } => i32::from(api.0) << 16 | i32::from(*version),
                Refused::NotForwarded(api) | Refused::NotLoggedIn(api) => i32::from(api.0),
            };
            if is_first("request", number) {
                info!(connection = id, %peer, %client_id, error = %refused, "connection closed");
            }
        }
        End::Handshake(HandshakeError::Io(_) | HandshakeError::Cut) => {
            debug!(connection = id, %peer, listener = session.listener.name, reason = %end, "connection closed");
        }
        End::Handshake(e) => {
            if is_first("handshake", i32::from(matches!(e, HandshakeError::Plaintext))) {
                warn!(connection = id, %peer, listener = session.listener.name, error = %Escaped(&e.to_string()), "TLS refused");
            }
        }
        End::Login => {
            if is_first("login", 0) {
                info!(connection = id, %peer, listener = session.listener.name, reason = %end, "connection closed");
            }
        }
        End::Stalled => info!(connection = id, %peer, %client_id, reason = %end, "connection closed"),
        End::Client | End::Idle | End::Stop | End::Dismissed | End::Io(_) | End::Frame(_) => {
            debug!(connection = id, %peer, %client_id, reason = %end, "connection closed");
        }
    }
}

/// No descriptors or no memory: waiting helps, trying at once does not.
fn is_shortage(e: &io::Error) -> bool {
    let shortages = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    e.raw_os_error().is_some_and(|code| shortages.contains(&Errno::from_raw(code)))
}
