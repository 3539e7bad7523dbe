//! The way to the share coordinators, on whatever node they are: of the leaders of partitions, and of the coordinators of
//! share groups (Kafka's `DefaultStatePersister`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    DeleteShareGroupStateRequest, InitializeShareGroupStateRequest, ReadShareGroupStateRequest,
    delete_share_group_state_request, initialize_share_group_state_request, read_share_group_state_request,
    read_share_group_state_response,
};
use millstream_core::coordinator::group::GroupId;
use millstream_core::coordinator::group::consumer::Target;
use millstream_core::coordinator::group::share::InitializeShares;
use millstream_core::coordinator::share_state::ShareStateKey;
use millstream_core::share::{DeliveryState, StateBatch, StateWrite};
use millstream_core::types::{LeaderEpoch, NodeId, Offset, PartitionId, TopicId};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::StateRequest;
use crate::api::Context;
use crate::coordinator::{Kept, KeptPartitions, ShareKeeping, ShareSummaries, ShareSummary, coordinator_key};
use crate::protocol::StrBytes;
use crate::protocol::share_state::{
    OfTopic, ReadShareGroupStateSummaryRequest, SummaryPartition, SummaryResult, WireStateBatch,
    WriteShareGroupStateRequest, WriteStatePartition,
};
use crate::share::{Answer, ReadState, ShareError, ShareKey, ShareStates};

/// How long a coordinator is looked for, and asked again: within the time that clients wait for an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks, at first; then longer and longer.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(320);
/// What a request to another node may take besides.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// "None" on the wire.
const NONE: i64 = -1;
/// Of whoever leads no partition, in what it asks of one.
const NO_EPOCH: i32 = -1;

/// A share-partition of a group, within a request.
type Place = (TopicId, i32);

/// What share coordinators answered of a share-partition: Kafka's code, and what else there is.
type Row<T> = (i16, Option<T>);

/// What the rest of a node sees of the share coordinators.
pub struct ShareStateNodes {
    context: Weak<Context>,
}

impl ShareStateNodes {
    pub fn of(context: &Arc<Context>) -> Arc<Self> {
        Arc::new(Self { context: Arc::downgrade(context) })
    }
}

impl ShareStates for ShareStateNodes {
    fn read(&self, key: ShareKey, epoch: LeaderEpoch) -> Answer<ReadState> {
        let context = self.context.clone();
        Box::pin(async move {
            let context = context.upgrade().ok_or(ShareError::CoordinatorNotAvailable)?;
            read(&context, &key, epoch).await
        })
    }

    fn write(&self, key: ShareKey, epoch: LeaderEpoch, state_epoch: i32, write: StateWrite) -> Answer<()> {
        let context = self.context.clone();
        Box::pin(async move {
            let context = context.upgrade().ok_or(ShareError::CoordinatorNotAvailable)?;
            let partition = write_to_wire(&key, epoch, state_epoch, &write);
            let request = |_: &[Place]| WriteShareGroupStateRequest {
                group_id: StrBytes::from_string(key.group.to_string()),
                topics: vec![OfTopic { topic_id: key.id.topic.0, partitions: vec![partition.clone()] }],
            };
            let row = ask_one(&context, &key, request, |response| {
                by_place(response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions)), |row| {
                    (row.partition, row.error_code, ())
                })
            });
            row.await.map(|_| ())
        })
    }
}

impl ShareKeeping for ShareStateNodes {
    fn initialize(&self, asked: InitializeShares) -> Kept<KeptPartitions> {
        let context = self.context.clone();
        Box::pin(async move {
            let places = asked.topics.iter().flat_map(|(id, of)| of.keys().map(|index| (*id, *index))).collect();
            let Some(context) = context.upgrade() else { return not_available(places) };
            let request = |places: &[Place]| {
                use initialize_share_group_state_request::{InitializeStateData, PartitionData};
                let partition = |(topic, index): &Place| {
                    let start = asked.topics.get(topic).and_then(|of| of.get(index).copied().flatten());
                    PartitionData::default()
                        .with_partition(*index)
                        .with_state_epoch(asked.epoch)
                        .with_start_offset(start.map_or(NONE, |start| start.0))
                };
                let topics = by_topic(places, partition).map(|(topic_id, partitions)| {
                    InitializeStateData::default().with_topic_id(topic_id).with_partitions(partitions)
                });
                InitializeShareGroupStateRequest::default()
                    .with_group_id(StrBytes::from_string(asked.group.to_string()))
                    .with_topics(topics.collect())
            };
            let rows = ask_all(&context, &asked.group, places, request, |response| {
                by_place(response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions)), |row| {
                    (row.partition, row.error_code, ())
                })
            });
            kept(rows.await)
        })
    }

    fn delete(&self, group: GroupId, topics: Target) -> Kept<KeptPartitions> {
        let context = self.context.clone();
        Box::pin(async move {
            let places = topics.iter().flat_map(|(id, of)| of.iter().map(|index| (*id, *index))).collect();
            let Some(context) = context.upgrade() else { return not_available(places) };
            let request = |places: &[Place]| {
                use delete_share_group_state_request::{DeleteStateData, PartitionData};
                let partition = |(_, index): &Place| PartitionData::default().with_partition(*index);
                let topics = by_topic(places, partition).map(|(topic_id, partitions)| {
                    DeleteStateData::default().with_topic_id(topic_id).with_partitions(partitions)
                });
                DeleteShareGroupStateRequest::default()
                    .with_group_id(StrBytes::from_string(group.to_string()))
                    .with_topics(topics.collect())
            };
            let rows = ask_all(&context, &group, places, request, |response| {
                by_place(response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions)), |row| {
                    (row.partition, row.error_code, ())
                })
            });
            kept(rows.await)
        })
    }

    fn summaries(&self, group: GroupId, topics: Target) -> Kept<ShareSummaries> {
        let context = self.context.clone();
        Box::pin(async move {
            let places = topics.iter().flat_map(|(id, of)| of.iter().map(|index| (*id, *index))).collect();
            let Some(context) = context.upgrade() else { return ShareSummaries::new() };
            let request = |places: &[Place]| {
                let partition = |(_, index): &Place| SummaryPartition { partition: *index, leader_epoch: NO_EPOCH };
                let topics = by_topic(places, partition).map(|(topic_id, partitions)| OfTopic { topic_id, partitions });
                ReadShareGroupStateSummaryRequest {
                    group_id: StrBytes::from_string(group.to_string()),
                    topics: topics.collect(),
                }
            };
            let rows = ask_all(&context, &group, places, request, |response| {
                by_place(response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions)), |row| {
                    (row.partition, row.error_code, row)
                })
            });
            let told = rows.await.into_iter().filter_map(|((topic, partition), (code, row))| {
                let row = row.filter(|_| code == 0)?;
                Some((PartitionId { topic, partition }, summary_from_wire(&row)))
            });
            told.collect()
        })
    }
}

fn summary_from_wire(row: &SummaryResult) -> ShareSummary {
    ShareSummary {
        start: Some(row.start_offset).filter(|start| *start != NONE).map(Offset),
        leader_epoch: row.leader_epoch,
        delivery_complete: Some(row.delivery_complete_count).filter(|count| i64::from(*count) != NONE),
    }
}

async fn read(context: &Arc<Context>, key: &ShareKey, epoch: LeaderEpoch) -> Result<ReadState, ShareError> {
    let request = |_: &[Place]| {
        use read_share_group_state_request::{PartitionData, ReadStateData};
        let partition = PartitionData::default().with_partition(key.id.partition).with_leader_epoch(epoch.0);
        let topic = ReadStateData::default().with_topic_id(key.id.topic.0).with_partitions(vec![partition]);
        ReadShareGroupStateRequest::default()
            .with_group_id(StrBytes::from_string(key.group.to_string()))
            .with_topics(vec![topic])
    };
    let row = ask_one(context, key, request, |response| {
        by_place(response.results.into_iter().map(|topic| (topic.topic_id, topic.partitions)), |row| {
            (row.partition, row.error_code, row)
        })
    });
    let row = row.await?.ok_or(ShareError::Unsound)?;
    let batch = |batch: &read_share_group_state_response::StateBatch| {
        Some(StateBatch {
            first: Offset(batch.first_offset),
            last: Offset(batch.last_offset),
            state: DeliveryState::of_number(batch.delivery_state)?,
            delivery_count: batch.delivery_count,
        })
    };
    let batches = row.state_batches.iter().map(batch).collect::<Option<_>>();
    Ok(ReadState {
        state_epoch: row.state_epoch,
        start: Some(row.start_offset).filter(|start| *start != NONE).map(Offset),
        batches: batches.ok_or(ShareError::Unsound)?,
    })
}

fn write_to_wire(key: &ShareKey, epoch: LeaderEpoch, state_epoch: i32, write: &StateWrite) -> WriteStatePartition {
    let batch = |batch: &StateBatch| WireStateBatch {
        first_offset: batch.first.0,
        last_offset: batch.last.0,
        delivery_state: batch.state.number(),
        delivery_count: batch.delivery_count,
    };
    WriteStatePartition {
        partition: key.id.partition,
        state_epoch,
        leader_epoch: epoch.0,
        start_offset: write.start.0,
        delivery_complete_count: write.delivery_complete,
        state_batches: write.batches.iter().map(batch).collect(),
    }
}

/// The places of a request's topics, in order.
fn by_topic<P>(places: &[Place], partition: impl Fn(&Place) -> P) -> impl Iterator<Item = (Uuid, Vec<P>)> {
    let mut topics: BTreeMap<TopicId, Vec<P>> = BTreeMap::new();
    for place in places {
        topics.entry(place.0).or_default().push(partition(place));
    }
    topics.into_iter().map(|(topic, partitions)| (topic.0, partitions))
}

/// The rows of a response's topics.
fn by_place<P, T>(
    topics: impl Iterator<Item = (Uuid, Vec<P>)>,
    row: impl Fn(P) -> (i32, i16, T),
) -> BTreeMap<Place, Row<T>> {
    let rows = topics.flat_map(|(topic, partitions)| partitions.into_iter().map(move |one| (TopicId(topic), one)));
    rows.map(|(topic, one)| {
        let (partition, code, more) = row(one);
        ((topic, partition), (code, Some(more)))
    })
    .collect()
}

fn not_available(places: BTreeSet<Place>) -> KeptPartitions {
    let code = ResponseError::CoordinatorNotAvailable.code();
    kept(places.into_iter().map(|place| (place, (code, None::<()>))).collect())
}

fn kept(rows: BTreeMap<Place, Row<()>>) -> KeptPartitions {
    let mut topics: BTreeMap<TopicId, Vec<(i32, i16)>> = BTreeMap::new();
    for ((topic, index), (code, _)) in rows {
        topics.entry(topic).or_default().push((index, code));
    }
    topics.into_iter().collect()
}

/// As [`ask_all`], of one share-partition and as its leader sees it.
async fn ask_one<Q: StateRequest, T>(
    context: &Arc<Context>,
    key: &ShareKey,
    request: impl Fn(&[Place]) -> Q,
    rows: impl Fn(Q::Response) -> BTreeMap<Place, Row<T>>,
) -> Result<Option<T>, ShareError> {
    let group = GroupId::new(&key.group).map_err(|_| ShareError::GroupNotFound)?;
    let place = (key.id.topic, key.id.partition);
    let mut answered = ask_all(context, &group, BTreeSet::from([place]), request, rows).await;
    let (code, more) = answered.remove(&place).unwrap_or((ResponseError::CoordinatorNotAvailable.code(), None));
    match ResponseError::try_from_code(code) {
        None => Ok(more),
        Some(error) => Err(of_code(error)),
    }
}

/// As Kafka's `SharePartition.fetchPersisterError`, but for INVALID_REQUEST, which says that nobody began there.
fn of_code(error: ResponseError) -> ShareError {
    match error {
        error if may_pass(error) => ShareError::CoordinatorNotAvailable,
        ResponseError::GroupIdNotFound => ShareError::GroupNotFound,
        ResponseError::UnknownTopicOrPartition | ResponseError::InvalidRequest => ShareError::UnknownPartition,
        ResponseError::FencedLeaderEpoch | ResponseError::FencedStateEpoch => ShareError::NotLeader,
        _ => ShareError::Unsound,
    }
}

fn may_pass(error: ResponseError) -> bool {
    matches!(
        error,
        ResponseError::NotCoordinator
            | ResponseError::CoordinatorLoadInProgress
            | ResponseError::CoordinatorNotAvailable
    )
}

/// Asks the coordinators of share-partitions, each node for all of its; again and again while there is none, until
/// everything is answered or it takes too long. What was asked may have been done although nobody says so: asked again
/// it comes to the same.
async fn ask_all<Q: StateRequest, T>(
    context: &Arc<Context>,
    group: &GroupId,
    places: BTreeSet<Place>,
    request: impl Fn(&[Place]) -> Q,
    rows: impl Fn(Q::Response) -> BTreeMap<Place, Row<T>>,
) -> BTreeMap<Place, Row<T>> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = PAUSE_MIN;
    let mut answered: BTreeMap<Place, Row<T>> = BTreeMap::new();
    let mut open = places;
    loop {
        let nodes = nodes_of(context, group, &open).await;
        let mut asked = JoinSet::new();
        for (node, places) in nodes {
            let (context, request) = (Arc::clone(context), request(&places));
            asked.spawn(async move { (places, ask_node(&context, node, request).await) });
        }
        for (places, response) in asked.join_all().await {
            let mut told = response.map(&rows).unwrap_or_default();
            for place in places {
                let Some(row) = told.remove(&place) else { continue };
                if !ResponseError::try_from_code(row.0).is_some_and(may_pass) {
                    open.remove(&place);
                }
                answered.insert(place, row);
            }
        }
        let next = Instant::now() + pause;
        if open.is_empty() || next >= deadline {
            break;
        }
        tokio::time::sleep_until(next).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    for place in open {
        answered.entry(place).or_insert((ResponseError::CoordinatorNotAvailable.code(), None));
    }
    answered
}

async fn ask_node<Q: StateRequest>(context: &Arc<Context>, node: NodeId, request: Q) -> Option<Q::Response> {
    if node == context.node_id() {
        return Some(request.carry_out(context, Ok(())).await);
    }
    // A node that stands still is asked no longer than its coordinators may take.
    let within = context.share_states.config().write_timeout + ON_THE_WAY;
    tokio::time::timeout(within, context.ask_node(node, Q::VERSION, &request)).await.ok().flatten()
}

/// Where the coordinators of share-partitions are now. Those that have none are left out.
async fn nodes_of(context: &Context, group: &GroupId, places: &BTreeSet<Place>) -> BTreeMap<NodeId, Vec<Place>> {
    let mut nodes: BTreeMap<NodeId, Vec<Place>> = BTreeMap::new();
    if context.with_share_states().await.is_err() {
        return nodes;
    }
    for (topic, partition) in places {
        let key = ShareStateKey { group: group.clone(), topic: *topic, partition: *partition };
        let Ok(home) = context.share_states.partition_id_for(&coordinator_key(&key)) else { continue };
        let Some(node) = context.lead(home).leader.filter(|node| context.is_alive(*node)) else { continue };
        nodes.entry(node).or_default().push((*topic, *partition));
    }
    nodes
}
