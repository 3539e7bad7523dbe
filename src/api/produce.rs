//! Produce (0): validates batches, takes their places in the log, and answers when they are as safe as was asked.

mod check;
mod transaction;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use millstream_core::security::Operation;
use millstream_core::types::PartitionId;

use self::check::{Batch, Checked, Slot, last_of_each, refused};
use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::config::Listener;
use crate::partition::{Acks, Append, AppendError, AppendOutcome, Ticket};
use crate::protocol::TopicRef;
use crate::protocol::produce::{ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse};

/// How long after its request a client that has to go elsewhere is told so at the latest, though nobody is known to lead: a
/// leadership that is handed over is nobody's for some ms, and who is sent away without a name asks around.
const SUCCESSOR_WITHIN: Duration = Duration::from_millis(500);

/// Takes the places in the log; what is left to wait for is the outcome's future.
pub fn handle<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(start(context, Arc::clone(&session.listener), request))
}

async fn start(context: &Arc<Context>, listener: Arc<Listener>, request: Request) -> Outcome {
    let asked: ProduceRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    let acks = match asked.acks {
        -1 => Some(Acks::All),
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        _ => None,
    };
    let Some(acks) = acks else {
        return Outcome::reply(&request.header, &refuse_all(&asked, ResponseError::InvalidRequiredAcks));
    };
    // From its arrival on, also for a request that is answered behind others.
    let arrived = Instant::now();
    let access = request.access;
    if let Some(id) = asked.transactional_id.as_deref().filter(|_| check::is_any_transactional(&asked))
        && let Err(error) = access.check(Operation::Write, Resource::TransactionalId(id))
    {
        return Outcome::reply(&request.header, &refuse_all(&asked, error));
    }
    let deadline =
        (acks == Acks::All).then(|| arrived + Duration::from_millis(u64::try_from(asked.timeout_ms).unwrap_or(0)));
    let size_bytes = request.body.len();
    let (version, transactional_id) = (request.header.version, asked.transactional_id.clone());
    let mut checked = Checked::of(context, &access, version, asked, acks, size_bytes).await;
    if checked.is_transactional() {
        // Before the next request of the connection: the producer's batches stay in order.
        checked.verify(context, transactional_id.as_deref().unwrap_or_default(), version).await;
    }
    let Checked { topics, batches } = checked;
    // What was built anew may be larger than what came.
    let sound_bytes = batches.iter().map(|batch| batch.bytes.len()).sum::<usize>();
    let admitted = context.partitions.admit(size_bytes.max(sound_bytes)).await;
    let ticket = Ticket::new(batches.len(), Some(admitted));
    let appends = batches.into_iter().enumerate().filter_map(|(place, batch)| {
        let Batch { id, header, bytes, acks, guard, is_refused } = batch;
        if is_refused {
            // Its slot says why.
            ticket.fill(place, Err(AppendError::NotLeader));
            return None;
        }
        Some(Append { id, header, bytes, acks, guard, ticket: Arc::clone(&ticket), place })
    });
    context.partitions.append(appends.collect()).await;
    let header = request.header;
    let context = Arc::clone(context);
    Outcome::Later(Box::pin(async move {
        wait(&ticket, deadline).await;
        let mut body = respond(topics, &ticket);
        if acks != Acks::None {
            await_leaders(&body, &context, arrived + SUCCESSOR_WITHIN).await;
        }
        name_leaders(&mut body, &context, &listener);
        if acks != Acks::None {
            return Outcome::reply(&header, &body);
        }
        // A client that wants no answers learns of an error by the end of the connection, as with Kafka.
        let refused = body.topics.iter().flat_map(|t| &t.partitions).find(|p| p.error_code != 0);
        match refused {
            Some(p) => Outcome::Close(format!("produce with acks=0 was refused with error {}", p.error_code)),
            None => Outcome::NoReply,
        }
    }))
}

async fn wait(ticket: &Ticket, deadline: Option<Instant>) {
    match deadline {
        // What is late is answered as timed out; it may still be committed.
        Some(deadline) => drop(tokio::time::timeout_at(deadline.into(), ticket.completed()).await),
        None => ticket.completed().await,
    }
}

fn refuse_all(asked: &ProduceRequest, error: ResponseError) -> ProduceResponse {
    let topics = last_of_each(asked).into_iter().map(|(topic, partitions)| ProduceTopicResponse {
        topic: topic.clone(),
        partitions: partitions.into_iter().map(|p| refused(p.index, error, None)).collect(),
    });
    ProduceResponse { topics: topics.collect(), ..ProduceResponse::default() }
}

fn respond(topics: Vec<(TopicRef, Vec<Slot>)>, ticket: &Ticket) -> ProduceResponse {
    let mut outcomes = ticket.take();
    let topics = topics.into_iter().map(|(topic, slots)| {
        let partitions = slots.into_iter().map(|slot| match slot {
            Slot::Refused(response) => response,
            Slot::Pending { place, index, log_append_time_ms } => {
                let outcome = outcomes.get_mut(place).and_then(Option::take);
                appended(index, log_append_time_ms, outcome)
            }
        });
        ProduceTopicResponse { topic, partitions: partitions.collect() }
    });
    ProduceResponse { topics: topics.collect(), ..ProduceResponse::default() }
}

fn is_led_elsewhere(row: &ProducePartitionResponse) -> bool {
    row.error_code == ResponseError::NotLeaderOrFollower.code()
}

/// Waits until it is known who leads what this node does not.
async fn await_leaders(body: &ProduceResponse, context: &Context, until: Instant) {
    let mut changes = context.partitions.leaders().changes();
    let is_unknown = |topic: &TopicRef, index| {
        let topic = context.find(topic).map(|topic| topic.id);
        topic.is_ok_and(|topic| context.lead(PartitionId { topic, partition: index }).leader.is_none())
    };
    let is_any_unknown = || {
        let elsewhere = |topic: &ProduceTopicResponse| {
            let mut rows = topic.partitions.iter().filter(|row| is_led_elsewhere(row));
            rows.any(|row| is_unknown(&topic.topic, row.index))
        };
        body.topics.iter().any(elsewhere)
    };
    while is_any_unknown() && matches!(tokio::time::timeout_at(until.into(), changes.changed()).await, Ok(Ok(()))) {}
}

/// Where this node does not lead, the client is told who does (KIP-951).
fn name_leaders(body: &mut ProduceResponse, context: &Context, listener: &Listener) {
    for topic in &mut body.topics {
        for partition in topic.partitions.iter_mut().filter(|row| is_led_elsewhere(row)) {
            partition.current_leader =
                context.point_to_leader(listener, &topic.topic, partition.index, &mut body.node_endpoints);
        }
    }
}

fn appended(index: i32, log_append_time_ms: i64, outcome: Option<AppendOutcome>) -> ProducePartitionResponse {
    match outcome {
        Some(Ok(appended)) => ProducePartitionResponse {
            index,
            error_code: 0,
            base_offset: appended.base_offset.0,
            log_append_time_ms,
            log_start_offset: appended.log_start.0,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        },
        Some(Err(error)) => refused(index, errors::of_append(&error), Some(error.to_string())),
        None => refused(index, ResponseError::RequestTimedOut, None),
    }
}
