//! A node makes itself known to its cluster, at every start; a new one is taken in by that.
//!
//! Question: cluster id (length u8, bytes), then the `RegisterNode` command. Answer: status u8; 0, done: the version of
//! the metadata that knows the node u64, its peer id u64, then the answerer's `meta.properties`, which names the
//! founders; 1, ask the leader of the metadata: its address, if it is known.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::controller::{Command, Node, take_in_node};
use millstream_core::forming::Founder;
use millstream_core::types::{NodeId, PeerId};
use tracing::{info, warn};

use super::{FIRST_WARNING, WARN_EVERY};
use crate::config::{DataDirectory, HostPort, Meta};
use crate::controller::{Controller, ControllerError};
use crate::rpc::{CallError, RefusalCode, Rpc, kind};

const DONE: u8 = 0;
const ELSEWHERE: u8 = 1;
/// For one answer; it takes a commit.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Nodes that are asked in one round.
const ASKED_MAX: usize = 8;
/// How often a node that hears of no leader asks the others for one.
const ASK_AROUND_EVERY: Duration = Duration::from_secs(1);
/// Between attempts of a node that nobody leads.
const AGAIN_AFTER: Duration = Duration::from_millis(25);

/// The cluster knows the node.
pub(super) struct Taken {
    pub version: u64,
    pub peer: PeerId,
    pub founders: Vec<Founder>,
}

enum Answer {
    Done(Taken),
    Elsewhere(Option<HostPort>),
}

/// Another live node has the number of the one that asked.
pub(super) fn is_twin(error: &CallError) -> bool {
    matches!(error, CallError::Hello(refusal) if refusal.code == RefusalCode::SameNode)
}

/// Asks members to be taken in, and those that they name.
pub(super) async fn ask_in(
    rpc: &Rpc,
    members: VecDeque<HostPort>,
    cluster_id: &str,
    registration: &Node,
) -> Result<Taken, CallError> {
    let question = question(cluster_id, registration);
    let mut to_ask = members;
    let mut reason = CallError::Refused("no node leads the metadata".to_owned());
    for _ in 0..ASKED_MAX {
        let Some(address) = to_ask.pop_front() else { break };
        let answered = rpc.call_address(&address, kind::REGISTER, question.clone(), ANSWER_WITHIN).await;
        match answered.and_then(|answer| decode(answer, cluster_id)) {
            Ok(Answer::Done(taken)) => return Ok(taken),
            // The leader first, then whoever is left.
            Ok(Answer::Elsewhere(leader)) => to_ask.extend(leader),
            Err(e) => reason = e,
        }
    }
    Err(reason)
}

/// Registers the node, which has its place, with whoever leads the metadata, and returns when this node has read that. One
/// that was unregistered is told by nobody who leads: it asks those whom it knew, as one that comes anew.
pub(super) async fn make_known(rpc: Option<&Arc<Rpc>>, controller: &Controller, registration: Node) {
    let started = Instant::now();
    let mut warned = None;
    let mut asked_around = started;
    let mut changes = controller.changes();
    loop {
        let (node, is_alive) = (registration.clone(), living(rpc.map_or_else(Weak::new, Arc::downgrade)));
        let problem = match controller.change(move |image| take_in_node(image, node, is_alive)).await {
            Ok(Ok(_)) => return,
            Ok(Err(taken)) => taken.to_string(),
            Err(ControllerError::NotController { leader: Some(leader) }) if let Some(rpc) = rpc => {
                let cluster_id = rpc.cluster_id().unwrap_or_default();
                let question = question(&cluster_id, &registration);
                let answered = rpc.call(leader, kind::REGISTER, question, ANSWER_WITHIN).await;
                match answered.and_then(|answer| decode(answer, &cluster_id)) {
                    Ok(Answer::Done(taken)) => return read_up_to(controller, taken.version).await,
                    Ok(Answer::Elsewhere(_)) => format!("node {leader} does not lead the metadata any more"),
                    Err(e) => format!("node {leader}, which leads the metadata: {e}"),
                }
            }
            Err(ControllerError::NotController { leader: None }) if asked_around.elapsed() >= ASK_AROUND_EVERY => {
                let asked = match rpc {
                    Some(rpc) => ask_around(rpc, controller, &registration).await,
                    None => Err(ControllerError::NotAvailable.to_string()),
                };
                asked_around = Instant::now();
                match asked {
                    Ok(taken) => return read_up_to(controller, taken.version).await,
                    Err(problem) => problem,
                }
            }
            Err(e) => e.to_string(),
        };
        let is_due = warned.map_or(started.elapsed() >= FIRST_WARNING, |at: Instant| at.elapsed() >= WARN_EVERY);
        if is_due {
            warned = Some(Instant::now());
            let silent = rpc.map(|rpc| silent_nodes(rpc, controller)).unwrap_or_default();
            warn!(reason = problem, nodes_not_heard_of = silent, "waiting to be known to the cluster");
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            _ = changes.changed() => {}
        }
    }
}

async fn ask_around(rpc: &Rpc, controller: &Controller, registration: &Node) -> Result<Taken, String> {
    let known: VecDeque<HostPort> = controller.look(|now| {
        let others = now.image.nodes().filter(|node| node.id != registration.id);
        others.filter_map(|node| HostPort::parse(&node.rpc_address)).collect()
    });
    let cluster_id = rpc.cluster_id().unwrap_or_default();
    ask_in(rpc, known, &cluster_id, registration).await.map_err(|e| e.to_string())
}

async fn read_up_to(controller: &Controller, version: u64) {
    while !controller.reach(version, WARN_EVERY).await {
        let own = controller.look(|now| now.image.version());
        warn!(read = own, wanted = version, "reading the metadata takes long");
    }
}

fn silent_nodes(rpc: &Rpc, controller: &Controller) -> String {
    let silent = controller.look(|now| {
        let silent = now.image.nodes().filter(|node| !rpc.is_alive(node.id));
        silent.map(|node| format!("{} at {}", node.id, node.rpc_address)).collect::<Vec<_>>()
    });
    silent.join(", ")
}

/// Takes others in from now on, as far as this node leads the metadata.
pub(super) fn answer_others(rpc: &Arc<Rpc>, directory: &Arc<DataDirectory>, controller: &Arc<Controller>) {
    let (directory, controller) = (Arc::clone(directory), Arc::downgrade(controller));
    let others = Arc::downgrade(rpc);
    rpc.on_call(kind::REGISTER, move |inbound| {
        let (directory, controller, is_alive) = (Arc::clone(&directory), controller.clone(), living(others.clone()));
        Box::pin(async move {
            let controller = controller.upgrade().ok_or("this node stops")?;
            let mut body = inbound.body;
            let length = usize::from(body.try_get_u8().map_err(|e| e.to_string())?);
            let asked = (body.len() >= length).then(|| body.split_to(length)).ok_or("a question that is cut")?;
            let meta = Meta { contacts: Vec::new(), ..directory.meta() };
            if meta.standing.formed().is_none_or(|(id, _)| id.as_bytes() != asked) {
                return Err(format!("node {} is of another cluster", meta.node));
            }
            let Ok(Command::RegisterNode(node)) = Command::decode(&body) else {
                return Err("a registration that is not understood".to_owned());
            };
            if node.id != inbound.from {
                return Err(format!("node {} cannot register node {}", inbound.from, node.id));
            }
            take_in(&controller, &meta, node, is_alive).await
        })
    });
}

/// Who is heard of.
fn living(rpc: Weak<Rpc>) -> impl Fn(NodeId) -> bool + Send + 'static {
    move |node| rpc.upgrade().is_some_and(|rpc| rpc.is_alive(node))
}

async fn take_in(
    controller: &Controller,
    meta: &Meta,
    node: Node,
    is_alive: impl Fn(NodeId) -> bool + Send + 'static,
) -> Result<Bytes, String> {
    let mut out = BytesMut::new();
    let id = node.id;
    match controller.change(move |image| take_in_node(image, node, is_alive)).await {
        Ok(Err(taken)) => {
            warn!(node = %id, reason = %taken, "a node was not taken in");
            return Err(taken.to_string());
        }
        Ok(Ok(peer)) => {
            info!(node = %id, %peer, "a node has started");
            out.put_u8(DONE);
            out.put_u64(controller.look(|now| now.image.version()));
            out.put_u64(peer.0);
            out.put_slice(meta.to_text().as_bytes());
        }
        Err(ControllerError::NotController { leader }) => {
            let address = |node: &Arc<Node>| node.rpc_address.clone();
            let known = leader.and_then(|leader| controller.look(|now| now.image.node(leader).map(address)));
            out.put_u8(ELSEWHERE);
            out.put_slice(known.unwrap_or_default().as_bytes());
        }
        Err(e @ ControllerError::NotAvailable) => return Err(e.to_string()),
    }
    Ok(out.freeze())
}

fn question(cluster_id: &str, registration: &Node) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(u8::try_from(cluster_id.len()).expect("cluster ids are short"));
    out.put_slice(cluster_id.as_bytes());
    out.put_slice(&Command::RegisterNode(registration.clone()).encode());
    out.freeze()
}

fn decode(mut answer: Bytes, cluster_id: &str) -> Result<Answer, CallError> {
    let odd = || CallError::Refused("an answer that is not understood".to_owned());
    match answer.try_get_u8().map_err(|_| odd())? {
        DONE => {
            let version = answer.try_get_u64().map_err(|_| odd())?;
            let peer = answer.try_get_u64().ok().filter(|peer| *peer > 0).ok_or_else(odd)?;
            let meta = std::str::from_utf8(&answer).ok().and_then(Meta::from_text).ok_or_else(odd)?;
            let formed = meta.standing.formed().filter(|(id, _)| *id == cluster_id);
            let founders = formed.ok_or_else(odd)?.1.to_vec();
            Ok(Answer::Done(Taken { version, peer: PeerId(peer), founders }))
        }
        ELSEWHERE => {
            let text = std::str::from_utf8(&answer).map_err(|_| odd())?;
            Ok(Answer::Elsewhere(HostPort::parse(text)))
        }
        _ => Err(odd()),
    }
}
