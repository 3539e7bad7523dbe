//! DescribeCluster (60) and DescribeQuorum (55).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeQuorumRequest, DescribeQuorumResponse, TopicName,
};
use millstream_core::controller::{Image, Peer};
use millstream_core::security::Operation;
use millstream_core::types::{LeaderEpoch, NodeId, Offset};

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors, now};
use crate::controller::{METADATA_PARTITION, METADATA_TOPIC};
use crate::partition::{Partition, ReplicaProgress};
use crate::protocol::StrBytes;

/// Kafka's `EndpointType`: what a client wants to be told of.
mod endpoint_type {
    pub(super) const BROKERS: i8 = 1;
    pub(super) const CONTROLLERS: i8 = 2;
}

/// DescribeQuorum tells of nodes, disks and reasons from this version on.
const QUORUM_NODES_FROM: i16 = 2;
/// Topics and partitions that are refused one by one; nobody asks for more than one.
const QUORUM_ROWS_MAX: usize = 1_000;

pub fn handle<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(describe(context, session, &request)))
}

fn describe(context: &Context, session: &Session, request: &Request) -> Outcome {
    let asked: DescribeClusterRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    if let Some(refused) = refuse_endpoint_type(asked.endpoint_type) {
        return Outcome::reply(&request.header, &refused);
    }
    let told = match asked.include_fenced_brokers {
        true => context.known_nodes(&session.listener),
        false => context.reachable_nodes(&session.listener),
    };
    let brokers = told.into_iter().map(|node| {
        DescribeClusterBroker::default()
            .with_is_fenced(!context.is_alive(node.id))
            .with_broker_id(BrokerId(node.id.0))
            .with_host(node.host)
            .with_port(i32::from(node.port))
            .with_rack(node.rack)
    });
    let body = DescribeClusterResponse::default()
        .with_cluster_id(context.cluster_id())
        .with_controller_id(BrokerId(context.controller_node().0))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(
            request.access.cluster_operations_if(asked.include_cluster_authorized_operations),
        );
    Outcome::reply(&request.header, &body)
}

/// Clients are told of brokers only: controllers have no endpoints of their own (Kafka `AuthHelper`). Version 0 always
/// asks for brokers.
fn refuse_endpoint_type(wanted: i8) -> Option<DescribeClusterResponse> {
    let (error, message) = match wanted {
        endpoint_type::BROKERS => return None,
        endpoint_type::CONTROLLERS => (
            ResponseError::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                .to_owned(),
        ),
        other => (ResponseError::UnsupportedEndpointType, format!("Unsupported endpoint type {other}")),
    };
    let body = DescribeClusterResponse::default();
    Some(body.with_error_code(error.code()).with_error_message(Some(errors::message(&message))))
}

pub fn handle_quorum<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move { describe_quorum(context, &request).await })
}

async fn describe_quorum(context: &Context, request: &Request) -> Outcome {
    let asked: DescribeQuorumRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    if let Err(error) = request.access.check(Operation::Describe, Resource::Cluster) {
        let body = DescribeQuorumResponse::default().with_error_code(error.code());
        return Outcome::reply(&request.header, &body);
    }
    let state = match context.partitions.get(METADATA_PARTITION) {
        Some(partition) => quorum_state(context, &partition).await,
        None => None,
    };
    let heard = |node| {
        let silent_ms = i64::try_from((context.silent_for)(node)?.as_millis()).ok()?;
        Some(now().0.saturating_sub(silent_ms))
    };
    let version = request.header.version;
    let body = context.controller.look(|now| quorum(&asked, version, state.as_ref(), &now.image, &heard));
    Outcome::reply(&request.header, &body)
}

/// `None` where this node does not lead.
async fn quorum_state(context: &Context, partition: &Partition) -> Option<QuorumState> {
    let epoch = partition.leading_epoch()?;
    let replicas = partition.progress().await.ok().filter(|replicas| !replicas.is_empty())?;
    let high_watermark = partition.high_watermark();
    // Read last: it is never behind the high watermark.
    let log_end = partition.log_end();
    let (leader, log_start, now_ms) = (context.node_id(), partition.log_start(), now().0);
    Some(QuorumState { leader, epoch, log_start, high_watermark, log_end, replicas, now_ms })
}

/// When a node was heard of last, in milliseconds since 1970; `None`: never.
type Heard<'a> = &'a dyn Fn(NodeId) -> Option<i64>;

/// How the log of the metadata stands.
struct QuorumState {
    leader: NodeId,
    epoch: LeaderEpoch,
    log_start: Offset,
    high_watermark: Offset,
    log_end: Offset,
    replicas: Vec<ReplicaProgress>,
    now_ms: i64,
}

impl QuorumState {
    /// A replica as the wire has it (Kafka `LeaderState.describeReplicaState`).
    fn describe(
        &self,
        replica: &ReplicaProgress,
        peer: &Peer,
        tells_directory: bool,
        heard: Heard<'_>,
    ) -> ReplicaState {
        /// Kafka's word for "never" and "not known".
        const NEVER: i64 = -1;
        let is_leader = peer.node == self.leader;
        let is_here = is_leader || replica.is_active;
        let (log_end, seen, caught_up) = if is_here {
            let log_end = if is_leader { self.log_end } else { replica.log_end };
            (log_end.0, self.now_ms, if log_end >= self.high_watermark { self.now_ms } else { NEVER })
        } else {
            // Of one that has told this leader nothing, the progress is where the log starts: that is no place of its own.
            let log_end = if replica.log_end > self.log_start { replica.log_end.0 } else { NEVER };
            let seen = heard(peer.node).unwrap_or(NEVER);
            // It took what there was for as long as it was heard of.
            (log_end, seen, if log_end == NEVER { NEVER } else { seen })
        };
        let state = ReplicaState::default()
            .with_replica_id(BrokerId(peer.node.0))
            .with_log_end_offset(log_end)
            .with_last_fetch_timestamp(seen)
            .with_last_caught_up_timestamp(caught_up);
        match tells_directory {
            true => state.with_replica_directory_id(peer.directory.0),
            false => state,
        }
    }
}

/// Kafka `KafkaRaftClient.handleDescribeQuorumRequest`: there is one quorum, and it has to be asked for exactly.
fn quorum(
    asked: &DescribeQuorumRequest,
    version: i16,
    state: Option<&QuorumState>,
    image: &Image,
    heard: Heard<'_>,
) -> DescribeQuorumResponse {
    let asks_for_it = match asked.topics.as_slice() {
        [topic] => {
            &**topic.topic_name == METADATA_TOPIC
                && matches!(topic.partitions.as_slice(), [p] if p.partition_index == 0)
        }
        _ => false,
    };
    if !asks_for_it {
        return refuse_quorum(asked, ResponseError::UnknownTopicOrPartition);
    }
    let Some(state) = state else { return refuse_quorum(asked, ResponseError::NotLeaderOrFollower) };
    let tells_nodes = version >= QUORUM_NODES_FROM;
    let mut known: Vec<(&ReplicaProgress, &Peer)> =
        state.replicas.iter().filter_map(|replica| Some((replica, image.peer(replica.peer)?))).collect();
    known.sort_by_key(|(_, peer)| peer.node);
    let of = |is_voter: bool| {
        let replicas = known.iter().filter(|(replica, _)| replica.is_voter == is_voter);
        replicas.map(|(replica, peer)| state.describe(replica, peer, tells_nodes, heard)).collect::<Vec<_>>()
    };
    let partition = PartitionData::default()
        .with_leader_id(BrokerId(state.leader.0))
        .with_leader_epoch(state.epoch.0)
        .with_high_watermark(state.high_watermark.0)
        .with_current_voters(of(true))
        .with_observers(of(false));
    // Of voters only, as Kafka knows the listeners of no others.
    let voters = known.iter().filter(|(replica, _)| replica.is_voter && tells_nodes);
    let nodes = voters.filter_map(|(_, peer)| image.node(peer.node)).map(|node| {
        let listener = |e: &millstream_core::controller::Endpoint| {
            Listener::default()
                .with_name(StrBytes::from_string(e.listener.clone()))
                .with_host(StrBytes::from_string(e.host.clone()))
                .with_port(e.port)
        };
        Node::default().with_node_id(BrokerId(node.id.0)).with_listeners(node.endpoints.iter().map(listener).collect())
    });
    let topic = TopicData::default()
        .with_topic_name(TopicName(StrBytes::from_static_str(METADATA_TOPIC)))
        .with_partitions(vec![partition]);
    DescribeQuorumResponse::default().with_topics(vec![topic]).with_nodes(nodes.collect())
}

fn refuse_quorum(asked: &DescribeQuorumRequest, error: ResponseError) -> DescribeQuorumResponse {
    let message = Some(errors::message(&error));
    if asked.topics.iter().map(|topic| 1 + topic.partitions.len()).sum::<usize>() > QUORUM_ROWS_MAX {
        let error = ResponseError::InvalidRequest;
        return DescribeQuorumResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(errors::message(&error)));
    }
    let topics = asked.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            PartitionData::default()
                .with_partition_index(p.partition_index)
                .with_error_code(error.code())
                .with_error_message(message.clone())
        });
        TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions.collect())
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_quorum_request;
    use millstream_core::controller::Command;
    use millstream_core::types::PeerId;

    use super::*;
    use crate::api::nodes::tests::register;
    use crate::protocol::Encode;

    fn ask(topics: &[(&'static str, &[i32])]) -> DescribeQuorumRequest {
        let topics = topics.iter().map(|(name, partitions)| {
            let partition = |p: &i32| describe_quorum_request::PartitionData::default().with_partition_index(*p);
            describe_quorum_request::TopicData::default()
                .with_topic_name(TopicName(StrBytes::from_static_str(name)))
                .with_partitions(partitions.iter().map(partition).collect())
        });
        DescribeQuorumRequest::default().with_topics(topics.collect())
    }

    fn state() -> QuorumState {
        QuorumState {
            leader: NodeId(3),
            epoch: LeaderEpoch(7),
            log_start: Offset(5),
            high_watermark: Offset(41),
            log_end: Offset(42),
            replicas: vec![replica(3, true, 40, true), replica(9, false, 12, true), replica(1, true, 41, false)],
            now_ms: 1_000,
        }
    }

    fn replica(node: u64, is_voter: bool, log_end: i64, is_active: bool) -> ReplicaProgress {
        ReplicaProgress { peer: PeerId(node), is_voter, log_end: Offset(log_end), is_active }
    }

    /// Nodes 1, 3 and 9, on the peers of the same number.
    fn cluster() -> Image {
        let mut image = Image::default();
        for id in [1, 3, 9] {
            register(&mut image, id, &[("PLAINTEXT", "localhost", 9092)]);
            let directory = image.node(NodeId(id)).expect("registered").directory;
            let peer = Peer { id: PeerId(id.unsigned_abs().into()), node: NodeId(id), directory };
            image.apply(&Command::AssignPeer(peer));
        }
        image
    }

    #[test]
    fn the_quorum_is_told_in_every_version() {
        let image = cluster();
        for version in 0..=2 {
            let told = quorum(&ask(&[(METADATA_TOPIC, &[0])]), version, Some(&state()), &image, &|_| Some(900));
            let partition = &told.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.leader_id.0, partition.leader_epoch), (0, 3, 7));
            assert_eq!(partition.high_watermark, 41);
            let rows = |replicas: &[ReplicaState]| {
                let row = |r: &ReplicaState| {
                    (r.replica_id.0, r.log_end_offset, r.last_fetch_timestamp, r.last_caught_up_timestamp)
                };
                replicas.iter().map(row).collect::<Vec<_>>()
            };
            assert_eq!(rows(&partition.current_voters), [(1, 41, 900, 900), (3, 42, 1_000, 1_000)]);
            assert_eq!(rows(&partition.observers), [(9, 12, 1_000, -1)]);
            assert_eq!(partition.current_voters[0].replica_directory_id.is_nil(), version < 2);
            assert_eq!(told.nodes.len(), if version == 2 { 2 } else { 0 });
            let mut bytes = bytes::BytesMut::new();
            told.encode_body(version, &mut bytes).expect("it can be said in this version");
        }
    }

    /// Kafka keeps the last times; of a voter that this leader has heard nothing of it knows neither times nor a place.
    #[test]
    fn a_voter_that_is_gone_is_not_taken_for_one_that_keeps_up() {
        let image = cluster();
        let row = |log_end, heard: Option<i64>| {
            let whole_log_is_gone = QuorumState { log_start: Offset(41), ..state() };
            let state = QuorumState { replicas: vec![replica(1, true, log_end, false)], ..whole_log_is_gone };
            let told = quorum(&ask(&[(METADATA_TOPIC, &[0])]), 2, Some(&state), &image, &|_| heard);
            let row = &told.topics[0].partitions[0].current_voters[0];
            (row.log_end_offset, row.last_fetch_timestamp, row.last_caught_up_timestamp)
        };
        assert_eq!(row(42, Some(900)), (42, 900, 900));
        assert_eq!(row(41, Some(900)), (-1, 900, -1));
        assert_eq!(row(41, None), (-1, -1, -1));
    }

    #[test]
    fn only_the_one_quorum_is_known() {
        let image = Image::default();
        let error = |topics: &[(&'static str, &[i32])], state: Option<&QuorumState>| {
            quorum(&ask(topics), 2, state, &image, &|_| None).topics[0].partitions[0].error_code
        };
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        assert_eq!(error(&[("orders", &[0])], Some(&state())), unknown);
        assert_eq!(error(&[(METADATA_TOPIC, &[1])], Some(&state())), unknown);
        assert_eq!(error(&[(METADATA_TOPIC, &[0, 1])], Some(&state())), unknown);
        assert_eq!(error(&[(METADATA_TOPIC, &[0]), ("orders", &[0])], Some(&state())), unknown);
        assert_eq!(error(&[(METADATA_TOPIC, &[0])], None), ResponseError::NotLeaderOrFollower.code());
        assert_eq!(quorum(&ask(&[]), 2, Some(&state()), &image, &|_| None).topics.len(), 0);
        let many: Vec<i32> = (0..1_000).collect();
        for version in 0..=2 {
            let refused = quorum(&ask(&[("orders", &many)]), version, Some(&state()), &image, &|_| None);
            assert_eq!((refused.error_code, refused.topics.len()), (ResponseError::InvalidRequest.code(), 0));
            refused.encode_body(version, &mut bytes::BytesMut::new()).expect("it can be said in this version");
        }
    }

    #[test]
    fn only_brokers_are_told_of() {
        let code = |kind| refuse_endpoint_type(kind).map(|body| body.error_code);
        assert_eq!(code(1), None);
        assert_eq!(code(2), Some(ResponseError::MismatchedEndpointType.code()));
        assert_eq!(code(0), Some(ResponseError::UnsupportedEndpointType.code()));
        assert_eq!(code(3), Some(ResponseError::UnsupportedEndpointType.code()));
    }
}
