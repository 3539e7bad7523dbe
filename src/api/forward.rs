//! Requests that only the leader of the metadata can carry out. One that comes to another node goes there whole, and the
//! response comes back as it is (Kafka's Envelope, KIP-590).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, ApiKey, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    ElectLeadersRequest, ListPartitionReassignmentsRequest, UpdateFeaturesRequest,
};
use millstream_core::types::NodeId;
use tokio::time::Instant;

use super::dispatch::Here;
use super::sasl::Login;
use super::{Context, Dispatcher, Outcome, Request, Service, Session};
use crate::controller::{Answer, ControllerError, Envelope, Forwarded, ProducerIdError, encode_block};
use crate::protocol::client::{decode_response, encode_request};
use crate::protocol::{Encode, Part, RequestBody, Response, decode_request_header};
use crate::rpc::{Inbound, Rpc, kind};

/// How long the leader is looked for when the request does not say how long its client waits.
const PATIENCE: Duration = Duration::from_secs(30);
/// And at least.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// Bytes before a frame, which say how long it is.
const PREFIX_LEN: usize = 4;
/// How long the leader tries to make topics that another node needs.
const TOPICS_PATIENCE: Duration = Duration::from_secs(10);

/// What one node may ask another for in its own name.
const OF_NODES: [ApiKey; 8] = [
    ApiKey::ListOffsets,
    ApiKey::AddPartitionsToTxn,
    ApiKey::WriteTxnMarkers,
    ApiKey::InitializeShareGroupState,
    ApiKey::ReadShareGroupState,
    ApiKey::WriteShareGroupState,
    ApiKey::DeleteShareGroupState,
    ApiKey::ReadShareGroupStateSummary,
];
/// How long another node may take for that.
const NODE_PATIENCE: Duration = Duration::from_secs(30);

impl Context {
    /// Has another node carry out a request of this one. `None`: nobody knows whether it did.
    pub(super) async fn ask_node<T: RequestBody + Encode>(
        &self,
        node: NodeId,
        version: i16,
        request: &T,
    ) -> Option<T::Response> {
        let frame = encode_request(version, 0, Some("millstream"), request);
        let frame = frame.inspect_err(|e| tracing::error!(error = %e, "a request to another node")).ok()?;
        let envelope = Envelope::Own(frame.slice(PREFIX_LEN..));
        let answered = self.controller.ask_node(node, &envelope, NODE_PATIENCE).await;
        let answered = answered.inspect_err(|e| tracing::debug!(%node, error = %e, "a node was not asked")).ok()?;
        let response = answered.get(PREFIX_LEN..).map(|response| answered.slice_ref(response))?;
        let decoded = decode_response::<T>(version, &response);
        decoded
            .inspect_err(|e| tracing::warn!(%node, error = %e, "the answer of another node"))
            .ok()
            .map(|(_, body)| body)
    }
}

/// Carries a request out here or, where another node decides, there. The handler says it when none does in time.
pub(super) async fn forward(
    here: Here,
    context: &Arc<Context>,
    session: &mut Session,
    frame: Bytes,
    request: Request,
) -> Outcome {
    // Most often it is: nothing is to be decoded then.
    if context.controller.is_here() || !here.is_for_controller(&request) {
        return here.run(context, session, request).await;
    }
    let deadline = Instant::now() + patience(&request);
    match ask(context, session, frame, deadline).await {
        Ok(Forwarded::Here) | Err(_) => here.run(context, session, request).await,
        Ok(Forwarded::Done(response)) => Outcome::Reply(Response::whole(response)),
        Ok(Forwarded::Close(reason)) => Outcome::Close(reason),
    }
}

/// Has the node that decides carry out a request; gives the whole frame of the response.
pub(super) async fn ask(
    context: &Context,
    session: &Session,
    frame: Bytes,
    deadline: Instant,
) -> Result<Forwarded, ControllerError> {
    let envelope = Envelope::Request {
        listener: session.listener.name.clone(),
        client: session.peer.to_string(),
        principal: session.principal.to_string(),
        frame,
    };
    context.controller.forward(&envelope.encode(), deadline).await
}

fn patience(request: &Request) -> Duration {
    let timeout_ms = match ApiKey::try_from(request.header.api_key) {
        Ok(ApiKey::CreateTopics) => request.decode::<CreateTopicsRequest>().map(|asked| asked.timeout_ms).ok(),
        Ok(ApiKey::DeleteTopics) => request.decode::<DeleteTopicsRequest>().map(|asked| asked.timeout_ms).ok(),
        Ok(ApiKey::CreatePartitions) => request.decode::<CreatePartitionsRequest>().map(|asked| asked.timeout_ms).ok(),
        Ok(ApiKey::UpdateFeatures) => request.decode::<UpdateFeaturesRequest>().map(|asked| asked.timeout_ms).ok(),
        Ok(ApiKey::ElectLeaders) => request.decode::<ElectLeadersRequest>().map(|asked| asked.timeout_ms).ok(),
        Ok(ApiKey::AlterPartitionReassignments) => {
            request.decode::<AlterPartitionReassignmentsRequest>().map(|asked| asked.timeout_ms).ok()
        }
        Ok(ApiKey::ListPartitionReassignments) => {
            request.decode::<ListPartitionReassignmentsRequest>().map(|asked| asked.timeout_ms).ok()
        }
        _ => None,
    };
    let wanted = timeout_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    wanted.unwrap_or(PATIENCE).clamp(PATIENCE_MIN, PATIENCE)
}

impl Dispatcher {
    /// Carries out from now on what other nodes forward to this one.
    pub fn serve_others(self: &Arc<Self>, rpc: &Rpc) {
        let dispatcher = Arc::clone(self);
        rpc.on_call(kind::FORWARD, move |inbound| {
            let dispatcher = Arc::clone(&dispatcher);
            Box::pin(async move {
                let envelope = Envelope::decode(inbound.body.clone()).map_err(|e| e.to_string())?;
                Ok(dispatcher.carry_out(&inbound, envelope).await.encode())
            })
        });
    }

    async fn carry_out(&self, inbound: &Inbound, envelope: Envelope) -> Answer {
        let context = self.context();
        if let Envelope::Transfer(leaderships) = &envelope {
            let begun = context.hand_over_own(leaderships).await.into_iter().map(u8::from).collect();
            return Answer::Done { version: 0, result: begun };
        }
        if let Envelope::Own(frame) = envelope {
            return match self.respond_to_node(frame).await {
                Ok(result) => Answer::Done { version: 0, result },
                Err(reason) => Answer::Close(reason),
            };
        }
        if context.controller.leader() != Some(context.node_id()) {
            return Answer::NotController;
        }
        let result = match envelope {
            Envelope::Request { listener, client, principal, frame } => {
                let session = self.session(inbound.from, &listener, &client, principal);
                match self.respond(session, frame).await {
                    Ok(response) => Ok(response),
                    Err(reason) => return Answer::Close(reason),
                }
            }
            Envelope::ProducerIds => match context.controller.allocate_producer_ids(inbound.from).await {
                Ok(block) => Ok(encode_block(Ok(block))),
                Err(ProducerIdError::Exhausted(exhausted)) => Ok(encode_block(Err(exhausted))),
                Err(ProducerIdError::Controller(error)) => Err(error),
            },
            Envelope::Topics(names) => {
                let missing = context.missing(&names);
                let making = context.create_topics(missing, false);
                match tokio::time::timeout(TOPICS_PATIENCE, making).await {
                    Ok(Ok(creations)) => {
                        super::topic_creation::log(creations);
                        Ok(Bytes::new())
                    }
                    Ok(Err(error)) => Err(error),
                    Err(_elapsed) => Err(ControllerError::NotAvailable),
                }
            }
            Envelope::Position => {
                Ok(Bytes::copy_from_slice(&context.controller.look(|now| now.image.version()).to_be_bytes()))
            }
            Envelope::Transfer(_) | Envelope::Own(_) => Ok(Bytes::new()),
        };
        match result {
            Ok(result) => Answer::Done { version: context.controller.look(|now| now.image.version()), result },
            Err(ControllerError::NotController { .. }) => Answer::NotController,
            Err(ControllerError::NotAvailable) => Answer::NotAvailable,
        }
    }

    /// A client of another node, as if it had come here.
    fn session(&self, from: NodeId, listener: &str, client: &str, principal: String) -> Session {
        let listeners = &self.context().listeners;
        let by_name = listeners.iter().find(|known| known.name == listener).or(listeners.first());
        let listener = Arc::clone(by_name.expect("a node listens somewhere"));
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let peer = client.parse().unwrap_or(unknown);
        Session {
            principal: principal.into(),
            login: Login::NotAsked,
            forwarded_by: Some(from),
            ..Session::new(0, listener, unknown, peer)
        }
    }

    /// Carries out a request that another node has, not a client of its.
    async fn respond_to_node(&self, frame: Bytes) -> Result<Bytes, String> {
        let (header, _) = decode_request_header(&frame).map_err(|e| e.to_string())?;
        if !OF_NODES.iter().any(|api| *api as i16 == header.api_key) {
            return Err(format!("api key {} is not for nodes", header.api_key));
        }
        let listener = Arc::clone(self.context().listeners.first().expect("a node listens somewhere"));
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let session = Session { is_node: true, ..Session::new(0, listener, unknown, unknown) };
        self.respond(session, frame).await
    }

    /// The whole frame of the response, or why the client's connection is to be closed.
    async fn respond(&self, mut session: Session, frame: Bytes) -> Result<Bytes, String> {
        let outcome = self.call(&mut session, frame).map_err(|e| e.to_string())?.outcome.await;
        let outcome = match outcome {
            Outcome::Later(rest) => rest.await,
            outcome => outcome,
        };
        match outcome {
            Outcome::Reply(response) => bytes_of(response),
            Outcome::Close(reason) | Outcome::Last(_, reason) => Err(reason),
            Outcome::Later(_) | Outcome::NoReply => Err("a request that is forwarded has an answer".to_owned()),
        }
    }
}

fn bytes_of(response: Response) -> Result<Bytes, String> {
    let mut bytes = BytesMut::with_capacity(response.size_bytes());
    for part in response.into_parts() {
        match part {
            Part::Bytes(part) => bytes.extend_from_slice(&part),
            Part::File(_) => return Err("a response that is forwarded holds no records".to_owned()),
        }
    }
    Ok(bytes.freeze())
}
