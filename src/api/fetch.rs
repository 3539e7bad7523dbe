//! Fetch (1): reads what is committed, waits until there is enough of it, and tells what changed.

mod nearby;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use millstream_core::fetch::{Answer, Ask, AskKey, Opened, Session as FetchSession, SessionRequest, TopicKey};
use millstream_core::security::Operation;
use millstream_core::types::{LeaderEpoch, NodeId, Offset};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use self::nearby::Nearby;
use super::find::Found;
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors, now};
use crate::config::Listener;
use crate::partition::{FetchWait, Isolation, Partition, Read, ReadAsk, ReadRefused};
use crate::protocol::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartitionResponse, FetchResponse, FetchTopicResponse,
    encode_fetch_response,
};
use crate::protocol::{FileRange, Part, RequestHeader, StrBytes, TopicRef};

/// From this version on topics go by id.
const TOPIC_ID_FROM: i16 = 13;
/// From this version on consumers know of replicas that they may read from (KIP-392).
const FOLLOWERS_FROM: i16 = 11;
/// Longest that a fetch waits, whatever it asks for: it holds a place in the connection's line.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Partitions that fetches of all connections may wait for: each takes some 200 bytes, where the request had 16 for it.
/// Who finds no place does not wait, and is answered with what there is.
const WAITED_FOR_MAX: usize = 1_000_000;
static WAITED_FOR: Semaphore = Semaphore::const_new(WAITED_FOR_MAX);

pub fn handle<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(start(context, &session.listener, &request)))
}

fn start(context: &Arc<Context>, listener: &Arc<Listener>, request: &Request) -> Outcome {
    let asked: FetchRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    let (max_wait, min_bytes) = (asked.max_wait_ms, asked.min_bytes);
    // Kafka's `FetchParams.fetchOnlyLeader`.
    let replica = if asked.replica_state.replica_id.0 >= 0 { asked.replica_state.replica_id } else { asked.replica_id };
    let from_follower = request.header.version >= FOLLOWERS_FROM && replica.0 < 0;
    let isolation = Isolation::from_wire(asked.isolation_level);
    let rack = asked.rack_id.clone();
    let budget = usize::try_from(asked.max_bytes).unwrap_or(0).min(context.fetch_bytes_max);
    let opened = context.fetch_sessions.lock().unwrap_or_else(PoisonError::into_inner).open(
        now(),
        session_request(request.header.version, asked),
        rand::random(),
    );
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let body = FetchResponse { error_code: errors::of_fetch_session(error).code(), ..FetchResponse::default() };
            return reply(&request.header, body);
        }
    };
    let (asks, follow) = match opened {
        Opened::Full(asks) => (asks, Follow::None),
        Opened::Created { id, session } => {
            let asks = session.lock().unwrap_or_else(PoisonError::into_inner).asks();
            (asks, Follow::New { id, session })
        }
        Opened::Incremental { id, session } => {
            let asks = session.lock().unwrap_or_else(PoisonError::into_inner).asks();
            (asks, Follow::On { id, session })
        }
    };
    let reads = resolve(context, &request.access, replica.0 >= 0, asks);
    let mut fetch = Fetch { reads, budget, follow, from_follower, isolation };
    let rack = if from_follower { rack.as_str() } else { "" };
    let nearby = Nearby::look(context, listener, rack, &fetch.reads);
    if nearby.is_empty() {
        fetch.read(false);
    }
    // More than fits will never come.
    let min_bytes = usize::try_from(min_bytes).unwrap_or(0).min(budget);
    let place = place(&WAITED_FOR, fetch.reads.len());
    let may_wait = max_wait > 0 && place.is_some();
    if nearby.is_empty() && (!may_wait && !fetch.is_cold() || fetch.is_complete(min_bytes)) {
        return reply(&request.header, fetch.respond(context, listener));
    }
    let max_wait = u64::try_from(max_wait).ok().filter(|_| may_wait);
    let wait = Duration::from_millis(max_wait.unwrap_or(0)).min(WAIT_MAX);
    let deadline = Instant::now() + wait;
    let header = request.header.clone();
    let mut stopping = context.stopping.clone();
    let (context, listener) = (Arc::clone(context), Arc::clone(listener));
    Outcome::Later(Box::pin(async move {
        let _place = place;
        if !nearby.is_empty() {
            nearby.choose(&context, &mut fetch.reads).await;
            fetch.read(false);
        }
        let fetch = fetch.complete(min_bytes, deadline, &mut stopping).await;
        reply(&header, fetch.respond(&context, &listener))
    }))
}

/// A place for a fetch that waits for so many partitions.
fn place(places: &Semaphore, partitions: usize) -> Option<SemaphorePermit<'_>> {
    places.try_acquire_many(u32::try_from(partitions).ok()?).ok()
}

fn reply(header: &RequestHeader, body: FetchResponse) -> Outcome {
    match encode_fetch_response(header.version, header.correlation_id, body) {
        Ok(response) => Outcome::Reply(response),
        Err(e) => Outcome::Close(format!("response cannot be encoded: {e}")),
    }
}

fn session_request(version: i16, asked: FetchRequest) -> SessionRequest {
    let by_id = version >= TOPIC_ID_FROM;
    let topic_key = |name: &str, id| if by_id { TopicKey::Id(id) } else { TopicKey::Name(name.into()) };
    let epoch = |e: i32| (e >= 0).then_some(LeaderEpoch(e));
    let mut asks = Vec::new();
    for topic in &asked.topics {
        let key = topic_key(&topic.topic, topic.topic_id);
        asks.extend(topic.partitions.iter().map(|p| Ask {
            topic: key.clone(),
            partition: p.partition,
            from: Offset(p.fetch_offset),
            max_bytes: p.partition_max_bytes,
            current_epoch: epoch(p.current_leader_epoch),
            last_fetched_epoch: epoch(p.last_fetched_epoch),
        }));
    }
    let mut forgotten: Vec<AskKey> = Vec::new();
    for topic in &asked.forgotten_topics_data {
        let key = topic_key(&topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|p| (key.clone(), *p)));
    }
    SessionRequest { session_id: asked.session_id, epoch: asked.session_epoch, by_id, asks, forgotten }
}

/// Whether the client keeps a session.
enum Follow {
    None,
    New { id: i32, session: Arc<Mutex<FetchSession>> },
    On { id: i32, session: Arc<Mutex<FetchSession>> },
}

/// One partition of a fetch.
struct PartitionRead {
    ask: Ask,
    partition: Result<Arc<Partition>, ResponseError>,
    result: Result<Option<Read>, ReadRefused>,
    /// The node to read from instead of this one.
    preferred: Option<NodeId>,
}

struct Fetch {
    reads: Vec<PartitionRead>,
    /// Bytes that the response may have, but for one batch.
    budget: usize,
    follow: Follow,
    /// A replica that does not lead may answer.
    from_follower: bool,
    isolation: Isolation,
}

fn resolve(context: &Context, access: &Access, is_replica: bool, asks: Vec<Ask>) -> Vec<PartitionRead> {
    let may_replicate = !is_replica || access.may(Operation::ClusterAction, Resource::Cluster);
    let find_topic = |topic: &TopicKey| {
        let of_topic = |found: Found| {
            match is_replica {
                true if may_replicate => {}
                true => return Err(ResponseError::TopicAuthorizationFailed),
                false => access.check(Operation::Read, Resource::Topic(found.name.as_str()))?,
            }
            Ok(found)
        };
        match topic {
            // What may not be read is as if it were not looked for.
            TopicKey::Name(name) if !is_replica => {
                access.check(Operation::Read, Resource::Topic(name))?;
                context.find_by_name(name)
            }
            TopicKey::Name(_) if !may_replicate => Err(ResponseError::TopicAuthorizationFailed),
            TopicKey::Name(name) => context.find_by_name(name),
            TopicKey::Id(id) => context.find_by_id(*id).and_then(of_topic),
        }
    };
    // Partitions of a topic come one after another: it is found once.
    let mut last: Option<(TopicKey, Result<Found, ResponseError>)> = None;
    let mut find = |ask: &Ask| {
        let (_, found) = match last.take() {
            Some(last_one) if last_one.0 == ask.topic => last.insert(last_one),
            _ => last.insert((ask.topic.clone(), find_topic(&ask.topic))),
        };
        found.as_ref().map_err(|error| *error).and_then(|topic| context.partition(topic, ask.partition))
    };
    let read = |ask| PartitionRead { partition: find(&ask), ask, result: Ok(None), preferred: None };
    asks.into_iter().map(read).collect()
}

impl Fetch {
    /// Reads every partition in order until the budget is spent.
    fn read(&mut self, may_block: bool) {
        let mut left = self.budget;
        let mut at_least_one = true;
        for read in &mut self.reads {
            let Ok(partition) = &read.partition else { continue };
            if read.preferred.is_some() {
                read.result = partition.look(read.ask.current_epoch).map(Some);
                continue;
            }
            let ask = ReadAsk {
                from: read.ask.from,
                max_bytes: usize::try_from(read.ask.max_bytes).unwrap_or(0).min(left),
                at_least_one,
                current_epoch: read.ask.current_epoch,
                last_fetched_epoch: read.ask.last_fetched_epoch,
                may_block,
                from_follower: self.from_follower,
                isolation: self.isolation,
            };
            read.result = partition.read(&ask).map(Some);
            let bytes = read.bytes();
            left = left.saturating_sub(bytes);
            at_least_one &= bytes == 0;
        }
    }

    fn bytes(&self) -> usize {
        self.reads.iter().map(PartitionRead::bytes).sum()
    }

    fn is_cold(&self) -> bool {
        self.reads.iter().any(|r| r.result.as_ref().err() == Some(&ReadRefused::Cold))
    }

    /// Something must be told at once, or there is enough.
    fn is_complete(&self, min_bytes: usize) -> bool {
        if self.is_cold() {
            return false;
        }
        self.reads.is_empty() || self.reads.iter().any(PartitionRead::is_urgent) || self.bytes() >= min_bytes
    }

    async fn read_cold(mut self) -> Self {
        if !self.is_cold() {
            return self;
        }
        let read = tokio::task::spawn_blocking(move || {
            self.read(true);
            self
        });
        read.await.expect("a read does not panic")
    }

    /// Waits until there is enough or the deadline is over.
    async fn complete(
        self,
        min_bytes: usize,
        deadline: Instant,
        stopping: &mut tokio::sync::watch::Receiver<bool>,
    ) -> Self {
        let mut fetch = self.read_cold().await;
        if fetch.is_complete(min_bytes) || deadline <= Instant::now() {
            return fetch;
        }
        let partitions = fetch.reads.iter().filter_map(|r| r.partition.as_ref().ok().cloned()).collect();
        let missing = |fetch: &Self| i64::try_from(min_bytes.saturating_sub(fetch.bytes())).unwrap_or(i64::MAX);
        let wait = FetchWait::register(partitions);
        let mut is_over = false;
        loop {
            // Too little does not wake: at the end of the wait it is told all the same.
            let mark = wait.mark();
            fetch.read(false);
            fetch = fetch.read_cold().await;
            if is_over || fetch.is_complete(min_bytes) {
                return fetch;
            }
            tokio::select! {
                () = wait.woken(mark, missing(&fetch)) => {}
                () = tokio::time::sleep_until(deadline) => is_over = true,
                _ = stopping.wait_for(|stop| *stop) => is_over = true,
            }
        }
    }

    fn respond(self, context: &Context, listener: &Listener) -> FetchResponse {
        let (session_id, session, tells_all) = match &self.follow {
            Follow::None => (0, None, true),
            Follow::New { id, session } => (*id, Some(session), true),
            Follow::On { id, session } => (*id, Some(session), false),
        };
        let mut session = session.map(|s| s.lock().unwrap_or_else(PoisonError::into_inner));
        let mut topics: Vec<FetchTopicResponse> = Vec::new();
        for read in self.reads {
            let key = read.ask.key();
            let response = read.respond();
            let tell = session.as_mut().is_none_or(|s| s.note(&key, &answer(&response)));
            if !tell && !tells_all {
                continue;
            }
            let topic = match key.0 {
                TopicKey::Name(name) => TopicRef::Name(StrBytes::from_string(name.to_string())),
                TopicKey::Id(id) => TopicRef::Id(id),
            };
            match topics.last_mut() {
                Some(last) if last.topic == topic => last.partitions.push(response),
                _ => topics.push(FetchTopicResponse { topic, partitions: vec![response] }),
            }
        }
        let mut response = FetchResponse { session_id, topics, ..FetchResponse::default() };
        name_leaders(&mut response, context, listener);
        response
    }
}

/// Where this node does not lead, or the client knows an older leader, it is told who leads (KIP-951).
fn name_leaders(response: &mut FetchResponse, context: &Context, listener: &Listener) {
    let names_leader = [ResponseError::NotLeaderOrFollower, ResponseError::FencedLeaderEpoch].map(|e| e.code());
    for topic in &mut response.topics {
        for partition in topic.partitions.iter_mut().filter(|p| names_leader.contains(&p.error_code)) {
            partition.current_leader =
                context.point_to_leader(listener, &topic.topic, partition.index, &mut response.node_endpoints);
        }
    }
}

fn answer(response: &FetchPartitionResponse) -> Answer {
    Answer {
        has_records: !response.records.is_empty(),
        is_error: response.error_code != 0,
        must_tell: response.diverging_epoch.is_some() || response.preferred_read_replica >= 0,
        high_watermark: response.high_watermark,
        last_stable: response.last_stable_offset,
        log_start: response.log_start_offset,
    }
}

impl PartitionRead {
    fn bytes(&self) -> usize {
        match &self.result {
            Ok(Some(read)) => read.slice.as_ref().map_or(0, |s| s.len),
            _ => 0,
        }
    }

    fn is_urgent(&self) -> bool {
        match (&self.partition, &self.result) {
            (Err(_), _) | (_, Err(_)) => true,
            (_, Ok(read)) => self.preferred.is_some() || read.as_ref().is_some_and(|r| r.diverging.is_some()),
        }
    }

    fn respond(self) -> FetchPartitionResponse {
        let mut response = FetchPartitionResponse {
            index: self.ask.partition,
            error_code: 0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: None,
            preferred_read_replica: -1,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            records: Vec::new(),
        };
        let error = match (&self.partition, self.result) {
            (Err(error), _) => *error,
            (_, Err(refused)) => errors::of_read(&refused),
            (_, Ok(None)) => return response,
            (_, Ok(Some(read))) => {
                response.preferred_read_replica = self.preferred.map_or(-1, |node| node.0);
                response.high_watermark = read.high_watermark.0;
                response.last_stable_offset = read.last_stable.0;
                response.log_start_offset = read.log_start.0;
                response.aborted_transactions = read.aborted.map(|aborted| {
                    let to_wire = |a: &millstream_core::partition::AbortedTransaction| AbortedTransaction {
                        producer_id: a.producer_id.0,
                        first_offset: a.first_offset.0,
                    };
                    aborted.iter().map(to_wire).collect()
                });
                response.diverging_epoch =
                    read.diverging.map(|(epoch, end)| EpochEndOffset { epoch: epoch.0, end_offset: end.0 });
                if let Some(s) = read.slice {
                    response.records.push(Part::File(FileRange { file: s.file, position: s.position, len: s.len }));
                }
                return response;
            }
        };
        response.error_code = error.code();
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_partitions_are_waited_for_and_no_more() {
        let places = Semaphore::new(10);
        let first = place(&places, 8);
        assert!(first.is_some() && place(&places, 3).is_none() && place(&places, 2).is_some());
        drop(first);
        assert!(place(&places, 10).is_some() && place(&places, usize::MAX).is_none());
    }
}
