//! Connections from the others: hello, then what they have to say is handed on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{debug, warn};

use super::calls::{self, Question};
use super::dial::watch_over;
use super::frame::{Frame, FrameError, FrameReader, OutFrame};
use super::hello::{Hello, HelloReply, Purpose, judge};
use super::queue::Queue;
use super::room::{Place, Room};
use super::stream::{self, Stream};
use super::{Inbound, Lane, Local, Shared, kind};

/// Connections of nodes that are served. Beyond: a hello is refused.
const LANES_MAX: usize = 4_096;
/// Connections for a question or two. Beyond: one is closed for another.
const VISITS_MAX: usize = 512;
/// Connections that have not said hello. Beyond: the same.
const STRANGERS_MAX: usize = 256;
/// Calls on the way on one connection. Beyond: it is not read.
const CALLS_MAX: usize = 64;
/// Urgent messages of one node that wait for their handlers. Beyond: dropped, as the net may drop them.
const URGENT_MAX: usize = 1_024;
/// Longest frame before a hello, and of nodes that are not of the cluster.
const STRANGER_BYTES_MAX: usize = 64 * 1024;
/// How long a visitor may say nothing.
const VISIT_PATIENCE: Duration = Duration::from_secs(30);
/// After an accept that failed: descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever: whoever says nothing must not keep out those who have something to say.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let rooms = Rooms {
        lanes: Arc::new(Semaphore::new(LANES_MAX)),
        visits: Room::new(VISITS_MAX),
        strangers: Room::new(STRANGERS_MAX),
    };
    loop {
        match listener.accept().await {
            Ok((stream, address)) => drop(tokio::spawn(serve(shared.clone(), stream, address, rooms.clone()))),
            Err(e) => {
                warn!(error = %e, "a connection of another node could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How many of each kind there may be.
#[derive(Clone)]
struct Rooms {
    lanes: Arc<Semaphore>,
    visits: Arc<Room>,
    strangers: Arc<Room>,
}

/// What a guest sits on.
enum Seat {
    Lane(#[expect(dead_code, reason = "given back when it is dropped")] OwnedSemaphorePermit),
    Visit(Place),
}

impl Rooms {
    /// An error: there is none left.
    fn seat(&self, purpose: Purpose, address: SocketAddr) -> Result<Seat, String> {
        match purpose {
            Purpose::Visit => Ok(Seat::Visit(self.visits.enter(address.ip()))),
            Purpose::Lane(_) => {
                let seat = self.lanes.clone().try_acquire_owned();
                seat.map(Seat::Lane).map_err(|_| "too many connections".to_owned())
            }
        }
    }
}

impl Seat {
    /// Returns when the guest has to go.
    async fn is_lost(&mut self) {
        match self {
            Self::Lane(_) => std::future::pending().await,
            Self::Visit(place) => place.is_lost().await,
        }
    }
}

/// A connection whose node may talk.
struct Guest {
    stream: Stream,
    reader: FrameReader,
    from: Local,
    is_member: bool,
    seat: Seat,
}

async fn serve(shared: Arc<Shared>, stream: Stream, address: SocketAddr, rooms: Rooms) {
    let mut waiting = rooms.strangers.enter(address.ip());
    let welcome = tokio::time::timeout(shared.config.hello_patience, welcome(&shared, stream, address, &rooms));
    let welcomed = tokio::select! {
        welcomed = welcome => welcomed.unwrap_or_else(|_| Err("no hello".to_owned())),
        () = waiting.is_lost() => Err("no hello, and others wait".to_owned()),
    };
    drop(waiting);
    let (guest, purpose) = match welcomed {
        Ok(welcomed) => welcomed,
        Err(reason) => return debug!(%address, reason, "connection refused"),
    };
    if purpose == Purpose::Lane(Lane::Heartbeat) {
        let (node, reason) = (guest.from.node, urgent(&shared, guest).await);
        return debug!(%node, %address, reason, "connection of heartbeats ended");
    }
    // This is the thread of the heartbeats; handlers run where the rest of the node does.
    match hand_over(guest, &shared) {
        Ok(guest) => {
            let runtime = shared.runtime.clone();
            drop(runtime.spawn(async move {
                let (node, reason) = (guest.from.node, talk(&shared, guest, purpose).await);
                debug!(%node, %address, ?purpose, reason, "connection ended");
            }));
        }
        Err(e) => debug!(%address, error = %e, "connection ended"),
    }
}

fn hand_over(guest: Guest, shared: &Shared) -> std::io::Result<Guest> {
    let stream = guest.stream.into_std()?;
    let _entered = shared.runtime.enter();
    Ok(Guest { stream: Stream::from_std(stream)?, ..guest })
}

/// Hears the hello and answers it.
async fn welcome(
    shared: &Shared,
    mut stream: Stream,
    address: SocketAddr,
    rooms: &Rooms,
) -> Result<(Guest, Purpose), String> {
    stream::tune(&stream).map_err(|e| e.to_string())?;
    let mut reader = FrameReader::new(STRANGER_BYTES_MAX);
    let mut frame = reader.next(&mut stream).await.map_err(|e| e.to_string())?;
    let hello = (frame.kind == kind::HELLO).then(|| Hello::decode(&mut frame.body)).flatten();
    let hello = hello.ok_or("the first frame is no hello")?;
    let cluster_id = shared.cluster_id();
    let rival = shared.alive.has_rival(&hello.from, Instant::now());
    let judged = judge(&hello, &shared.local, cluster_id.as_deref(), rival);
    let (version, refusal) = match &judged {
        Ok(agreed) => (agreed.version, None),
        Err(refusal) => (0, Some(refusal.clone())),
    };
    let reply = HelloReply { refusal, version, from: shared.local };
    let reply = OutFrame::new(kind::HELLO_REPLY, vec![reply.encode()]).to_bytes();
    stream.write_all(&reply).await.map_err(|e| e.to_string())?;
    let agreed = judged.map_err(|refusal| refusal.words)?;
    let seat = rooms.seat(hello.purpose, address)?;
    if agreed.is_member {
        reader.set_frame_bytes_max(shared.config.frame_bytes_max);
    }
    if let Purpose::Lane(lane) = hello.purpose {
        if lane == Lane::Heartbeat {
            shared.alive.hear(&hello.from, Instant::now());
        }
        // Whoever dials can be dialled.
        if let Some(peer) = shared.peer(hello.from.node) {
            peer.returned();
        }
    }
    let guest = Guest { stream, reader, from: hello.from, is_member: agreed.is_member, seat };
    Ok((guest, hello.purpose))
}

/// The connection of heartbeats. It is read whatever the rest of the node is busy with: messages that come beside them
/// wait elsewhere, and are dropped when too many do.
async fn urgent(shared: &Arc<Shared>, guest: Guest) -> String {
    let Guest { mut stream, mut reader, from, seat: _seat, .. } = guest;
    let (waiting, mut messages) = mpsc::channel::<Inbound>(URGENT_MAX);
    let handlers = shared.clone();
    drop(shared.runtime.spawn(async move {
        while let Some(message) = messages.recv().await {
            handlers.deliver(message).await;
        }
    }));
    let reason = loop {
        let frame = match tokio::time::timeout(shared.config.silence_max, reader.next(&mut stream)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(e)) => break e.to_string(),
            Err(_) => break "the other node is silent".to_owned(),
        };
        shared.alive.hear(&from, Instant::now());
        if frame.kind != kind::HEARTBEAT && waiting.try_send(inbound(&from, frame)).is_err() {
            debug!(node = %from.node, "too many urgent messages wait, one is dropped");
        }
    };
    shared.alive.hung_up(&from);
    reason
}

/// Any other connection: each message is handled before the next is read; calls are carried out side by side.
async fn talk(shared: &Arc<Shared>, guest: Guest, purpose: Purpose) -> String {
    let Guest { mut stream, mut reader, from, is_member, mut seat } = guest;
    // Bounded by the calls that are on the way.
    let answers = Arc::new(Queue::new(usize::MAX));
    let _open = answers.open();
    let (mut read, mut write) = stream.split();
    let mut stopping = shared.stop.subscribe();
    let listen = async {
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        loop {
            let frame = match purpose {
                Purpose::Visit => match tokio::time::timeout(VISIT_PATIENCE, reader.next(&mut read)).await {
                    Ok(frame) => frame,
                    Err(_) if calls.available_permits() < CALLS_MAX => continue,
                    Err(_) => return "nothing was asked".to_owned(),
                },
                Purpose::Lane(_) => reader.next(&mut read).await,
            };
            if let Err(reason) = take(shared, &from, is_member, frame, &calls, &answers).await {
                return reason;
            }
        }
    };
    tokio::select! {
        reason = listen => reason,
        error = answers.write_to(&mut write) => error.to_string(),
        reason = watch_over(shared, from.node, None), if purpose != Purpose::Visit => reason.to_owned(),
        () = seat.is_lost() => "others wait".to_owned(),
        _ = stopping.changed() => "this node stops".to_owned(),
    }
}

/// Hands a frame on. An error ends the connection.
async fn take(
    shared: &Arc<Shared>,
    from: &Local,
    is_member: bool,
    frame: Result<Frame, FrameError>,
    calls: &Arc<Semaphore>,
    answers: &Arc<Queue>,
) -> Result<(), String> {
    let frame = frame.map_err(|e| e.to_string())?;
    if frame.kind != kind::CALL {
        if !is_member {
            return Err("a message from a node that is not in the cluster".to_owned());
        }
        shared.deliver(inbound(from, frame)).await;
        return Ok(());
    }
    let question = Question::decode(frame.body).ok_or("a call that is none")?;
    if !is_member && !kind::is_for_strangers(question.kind) {
        return Err("a call from a node that is not in the cluster".to_owned());
    }
    let Question { correlation, kind, version, body } = question;
    let inbound = Inbound { from: from.node, kind, version, body };
    let permit = calls.clone().acquire_owned().await.map_err(|e| e.to_string())?;
    let (handlers, answers) = (shared.clone(), answers.clone());
    drop(tokio::spawn(async move {
        let outcome = handlers.carry_out(inbound).await;
        // Its place is free when the answer is with the kernel: who asks and does not read is not read any more.
        let mut answer = calls::answer(correlation, outcome);
        answer.permit = Some(permit);
        // False: the asker is gone.
        answers.push(answer);
    }));
    Ok(())
}

fn inbound(from: &Local, frame: Frame) -> Inbound {
    Inbound { from: from.node, kind: frame.kind, version: frame.version, body: frame.body }
}
