//! ShareFetch: acknowledges, reads what can be acquired, and tells of both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use millstream_core::security::Operation;
use millstream_core::share::{AcquireMode, Open, Opened, SessionKey, ShareSessionError};
use millstream_core::types::{PartitionId, TopicId};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::acknowledge::{Ended, Started, acknowledge, lock_ms, outcomes};
use super::{keep_with, session_key};
use crate::api::{Access, BoxFuture, Context, Outcome, Request, Session, errors};
use crate::config::Listener;
use crate::protocol::share_fetch::{
    AcquiredRecords, ShareFetchPartitionResponse, ShareFetchRequest, ShareFetchResponse, ShareFetchTopicResponse,
    encode_share_fetch_response,
};
use crate::protocol::{Part, RequestHeader, TopicRef};
use crate::share::{FetchAsk, Given};

/// Longest that a fetch waits, whatever it asks for: it holds a place in the connection's line.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Partitions that share fetches of all connections may wait for. Who finds no place does not wait.
const WAITED_FOR_MAX: usize = 1_000_000;
static WAITED_FOR: Semaphore = Semaphore::const_new(WAITED_FOR_MAX);

pub fn handle<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(start(context, session, request)))
}

fn start(context: &Arc<Context>, session: &mut Session, request: Request) -> Outcome {
    let asked: ShareFetchRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    let (header, access) = (request.header, request.access);
    let checked = session_key(context, &access, asked.group_id.as_ref(), asked.member_id.as_ref());
    let (key, mode) = match checked.and_then(|key| Ok((key, acquire_mode(&asked)?))) {
        Ok(checked) => checked,
        Err(error) => return refuse(&header, error),
    };
    let (partitions, forgotten) = named(&asked);
    let acknowledges =
        asked.topics.iter().flat_map(|topic| &topic.partitions).any(|partition| !partition.acknowledgements.is_empty());
    keep_with(context, session);
    let open = Open {
        key: &key,
        epoch: asked.share_session_epoch,
        partitions: &partitions,
        forgotten: &forgotten,
        acknowledges,
        connection: session.connection_id,
    };
    let stopping = context.stopping.clone();
    let max_wait = Duration::from_millis(u64::try_from(asked.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    let opened = match context.shares.open(&open) {
        Ok(opened) => opened,
        Err(error @ ShareSessionError::LimitReached) => {
            return Outcome::Later(Box::pin(refuse_later(header, errors::of_share_session(error), max_wait, stopping)));
        }
        Err(error) => return refuse(&header, errors::of_share_session(error)),
    };
    // The acknowledgements have their place before anything is acquired.
    let started = match acknowledges {
        true => acknowledge(context, &access, &key, &asked.topics, (header.version, asked.is_renew_ack)),
        false => Vec::new(),
    };
    let fetches = match &opened {
        // The time that a fetch takes may be longer than that of the locks that are prolonged.
        _ if renews(&asked) => Vec::new(),
        Opened::New(all) | Opened::On(all) => rotated(all, asked.share_session_epoch),
        Opened::Final => Vec::new(),
    };
    let place = place(fetches.len());
    let max_wait = if place.is_some() { max_wait } else { Duration::ZERO };
    let budget = usize::try_from(asked.max_bytes).unwrap_or(0).min(context.fetch_bytes_max);
    let ask = FetchAsk {
        key,
        partitions: Vec::new(),
        max_bytes: budget,
        min_bytes: usize::try_from(asked.min_bytes).unwrap_or(0).min(budget),
        max_records: i64::from(asked.max_records),
        batch_size: i64::from(asked.batch_size),
        mode,
        max_wait,
    };
    let work = Work { opened, fetches, ask, started, access };
    let (context, listener) = (Arc::clone(context), Arc::clone(&session.listener));
    Outcome::Later(Box::pin(async move {
        let _place = place;
        let body = work.carry_out(&context, &listener, stopping).await;
        reply(&header, body)
    }))
}

fn reply(header: &RequestHeader, body: ShareFetchResponse) -> Outcome {
    match encode_share_fetch_response(header.version, header.correlation_id, body) {
        Ok(response) => Outcome::Reply(response),
        Err(e) => Outcome::Close(format!("response cannot be encoded: {e}")),
    }
}

fn refuse(header: &RequestHeader, error: ResponseError) -> Outcome {
    reply(header, ShareFetchResponse { error_code: error.code(), ..ShareFetchResponse::default() })
}

/// A client that comes again at once would gain nothing.
async fn refuse_later(
    header: RequestHeader,
    error: ResponseError,
    after: Duration,
    mut stopping: watch::Receiver<bool>,
) -> Outcome {
    // Either way it is refused.
    drop(tokio::time::timeout(after, stopping.wait_for(|stop| *stop)).await);
    refuse(&header, error)
}

/// A place for a fetch that waits for so many partitions.
fn place(partitions: usize) -> Option<SemaphorePermit<'static>> {
    WAITED_FOR.try_acquire_many(u32::try_from(partitions).ok()?).ok()
}

fn renews(asked: &ShareFetchRequest) -> bool {
    asked.is_renew_ack
}

/// How records are acquired. A request that renews asks for nothing else.
fn acquire_mode(asked: &ShareFetchRequest) -> Result<AcquireMode, ResponseError> {
    let nothing = [asked.max_bytes, asked.min_bytes, asked.max_records, asked.max_wait_ms];
    if renews(asked) && nothing.iter().any(|number| *number != 0) {
        return Err(ResponseError::InvalidRequest);
    }
    match asked.share_acquire_mode {
        0 => Ok(AcquireMode::BatchOptimized),
        1 => Ok(AcquireMode::RecordLimit),
        _ => Err(ResponseError::InvalidRequest),
    }
}

/// The partitions that a request adds to its session, and those it forgets.
fn named(asked: &ShareFetchRequest) -> (Vec<PartitionId>, Vec<PartitionId>) {
    let id = |topic, partition| PartitionId { topic: TopicId(topic), partition };
    let mut added = Vec::new();
    for topic in &asked.topics {
        added.extend(topic.partitions.iter().map(|partition| id(topic.topic_id, partition.index)));
    }
    let mut forgotten = Vec::new();
    for topic in &asked.forgotten_topics {
        forgotten.extend(topic.partitions.iter().map(|partition| id(topic.topic_id, *partition)));
    }
    (added, forgotten)
}

/// Each fetch of a session begins with another partition (Kafka `PartitionRotateStrategy`).
fn rotated(all: &[PartitionId], epoch: i32) -> Vec<PartitionId> {
    let mut all = all.to_vec();
    if !all.is_empty() {
        let by = usize::try_from(epoch).unwrap_or(0) % all.len();
        all.rotate_left(by);
    }
    all
}

/// What is left to do of a request that has its place in line.
struct Work {
    opened: Opened,
    fetches: Vec<PartitionId>,
    /// Yet without partitions.
    ask: FetchAsk,
    started: Vec<Started>,
    access: Access,
}

impl Work {
    async fn carry_out(
        self,
        context: &Arc<Context>,
        listener: &Listener,
        mut stopping: watch::Receiver<bool>,
    ) -> ShareFetchResponse {
        let Self { opened, fetches, mut ask, started, access } = self;
        let key = ask.key.clone();
        let mut found: Vec<(PartitionId, Result<Given, ResponseError>)> = Vec::new();
        for id in fetches {
            let topic = access.find(context, Operation::Read, &TopicRef::Id(id.topic.0));
            match topic.and_then(|topic| context.partition(&topic, id.partition)) {
                Ok(partition) => ask.partitions.push(partition),
                Err(error) => found.push((id, Err(error))),
            }
        }
        if !ask.partitions.is_empty() && ask.max_records > 0 && ask.max_bytes > 0 {
            let fetched = Arc::clone(&context.shares).fetch(ask, &mut stopping).await;
            let of_share = |error| errors::of_share(&error);
            found.extend(fetched.into_iter().map(|fetched| (fetched.id, fetched.given.map_err(of_share))));
        }
        let ended = outcomes(started).await;
        let tells = match opened {
            Opened::On(_) => tells(context, &key, &found),
            Opened::New(_) | Opened::Final => vec![true; found.len()],
        };
        let told = found.into_iter().zip(tells).filter(|(_, tells)| *tells).map(|(found, _)| found);
        let mut body = respond(told, ended);
        if matches!(opened, Opened::Final) {
            context.shares.close(&key);
        }
        body.acquisition_lock_timeout_ms = lock_ms(context, &key);
        name_leaders(&mut body, context, listener);
        body
    }
}

fn tells(context: &Context, key: &SessionKey, found: &[(PartitionId, Result<Given, ResponseError>)]) -> Vec<bool> {
    let of = |(id, given): &(PartitionId, Result<Given, ResponseError>)| {
        (*id, given.as_ref().is_ok_and(|given| given.records.is_some()), given.is_err())
    };
    context.shares.tells(key, &found.iter().map(of).collect::<Vec<_>>())
}

fn respond(
    found: impl Iterator<Item = (PartitionId, Result<Given, ResponseError>)>,
    acknowledged: Vec<Ended>,
) -> ShareFetchResponse {
    let mut topics: Vec<ShareFetchTopicResponse> = Vec::new();
    let mut places: BTreeMap<PartitionId, (usize, usize)> = BTreeMap::new();
    let mut topic_places: BTreeMap<TopicId, usize> = BTreeMap::new();
    let mut put = |id: PartitionId, fill: &mut dyn FnMut(&mut ShareFetchPartitionResponse)| {
        let at = *topic_places.entry(id.topic).or_insert_with(|| {
            topics.push(ShareFetchTopicResponse { topic_id: id.topic.0, partitions: Vec::new() });
            topics.len() - 1
        });
        let Some(topic) = topics.get_mut(at) else { return };
        let (_, place) = *places.entry(id).or_insert_with(|| {
            let partition = ShareFetchPartitionResponse { index: id.partition, ..Default::default() };
            topic.partitions.push(partition);
            (at, topic.partitions.len() - 1)
        });
        topic.partitions.get_mut(place).into_iter().for_each(fill);
    };
    for (id, given) in found {
        put(id, &mut |partition| match &given {
            Ok(given) => {
                partition.records = given.records.iter().cloned().map(Part::File).collect();
                let to_wire = |a: &millstream_core::share::Acquired| AcquiredRecords {
                    first_offset: a.first.0,
                    last_offset: a.last.0,
                    delivery_count: a.delivery_count,
                };
                partition.acquired = given.acquired.iter().map(to_wire).collect();
            }
            Err(error) => partition.error_code = error.code(),
        });
    }
    for ended in acknowledged {
        let id = PartitionId { topic: TopicId(ended.topic), partition: ended.index };
        put(id, &mut |partition| {
            partition.acknowledge_error_code = ended.error.map_or(0, |error| error.code());
            partition.acknowledge_error_message = ended.message.clone();
        });
    }
    ShareFetchResponse { topics, ..ShareFetchResponse::default() }
}

/// Where this node does not lead, the client is told who does.
fn name_leaders(response: &mut ShareFetchResponse, context: &Context, listener: &Listener) {
    let not_leader = ResponseError::NotLeaderOrFollower.code();
    for topic in &mut response.topics {
        for partition in topic.partitions.iter_mut().filter(|partition| partition.error_code == not_leader) {
            let id = TopicRef::Id(topic.topic_id);
            partition.current_leader =
                context.point_to_leader(listener, &id, partition.index, &mut response.node_endpoints);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_renews_fetches_nothing_and_modes_are_known() {
        let asked = |is_renew_ack, max_wait_ms, share_acquire_mode| ShareFetchRequest {
            is_renew_ack,
            max_wait_ms,
            share_acquire_mode,
            ..ShareFetchRequest::default()
        };
        assert_eq!(acquire_mode(&asked(true, 0, 0)), Ok(AcquireMode::BatchOptimized));
        assert_eq!(acquire_mode(&asked(false, 500, 1)), Ok(AcquireMode::RecordLimit));
        for bad in [asked(true, 1, 0), asked(false, 0, 2), asked(false, 0, -1)] {
            assert_eq!(acquire_mode(&bad), Err(ResponseError::InvalidRequest), "{bad:?}");
        }
    }

    #[test]
    fn each_fetch_begins_with_another_partition() {
        let topic = TopicId(uuid::Uuid::nil());
        let all: Vec<_> = (0..3).map(|partition| PartitionId { topic, partition }).collect();
        let order = |epoch| rotated(&all, epoch).iter().map(|id| id.partition).collect::<Vec<_>>();
        assert_eq!((order(0), order(1), order(5)), (vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1]));
        assert!(rotated(&[], 4).is_empty());
    }

    #[test]
    fn acknowledgements_stand_beside_what_was_fetched() {
        let id = |topic: u128, partition| PartitionId { topic: TopicId(uuid::Uuid::from_u128(topic)), partition };
        let ended =
            |topic: u128, index, error| Ended { topic: uuid::Uuid::from_u128(topic), index, error, message: None };
        let found = vec![(id(1, 0), Ok(Given::default())), (id(2, 0), Err(ResponseError::UnknownTopicId))];
        let acknowledged = vec![ended(1, 0, Some(ResponseError::InvalidRecordState)), ended(1, 5, None)];
        let response = respond(found.into_iter(), acknowledged);
        let told: Vec<_> = response
            .topics
            .iter()
            .flat_map(|t| {
                t.partitions.iter().map(|p| (t.topic_id.as_u128(), p.index, p.error_code, p.acknowledge_error_code))
            })
            .collect();
        assert_eq!(told, [(1, 0, 0, 121), (1, 5, 0, 0), (2, 0, 100, 0)]);
    }
}
