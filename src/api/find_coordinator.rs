//! FindCoordinator (10): who coordinates a group, a transactional id, or a share-partition. One key up to version 3, then
//! many.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use millstream_core::security::Operation;
use millstream_core::types::PartitionId;
use tokio::time::Instant;

use super::nodes::ReachableNode;
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::coordinator::{CoordinatorError, key_of};
use crate::protocol::StrBytes;

/// Kafka's `CoordinatorType.GROUP`.
const GROUP: i8 = 0;
/// Kafka's `CoordinatorType.TRANSACTION`.
const TRANSACTION: i8 = 1;
/// Kafka's `CoordinatorType.SHARE`, whose keys are `GROUP:TOPIC-ID:PARTITION`.
const SHARE: i8 = 2;
/// From this version on share coordinators are looked for.
const SHARE_FROM: i16 = 6;

/// How long a client waits here for a coordinator that loads, instead of being sent away by it. A new one takes
/// milliseconds; some clients count every COORDINATOR_LOAD_IN_PROGRESS as a failure.
const LOAD_PATIENCE: Duration = Duration::from_secs(1);

/// Most keys of one request. A client with more groups asks again; one that asks for more is cut off, for a key of one
/// byte makes a hundred bytes of work and an answer of thirty.
const KEYS_MAX: usize = 100_000;

/// A node, or why there is none. The text goes to clients that can show it.
type Found<'a> = Result<&'a ReachableNode, (ResponseError, &'static str)>;

pub fn handle<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: FindCoordinatorRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let keys = if version < 4 { vec![asked.key] } else { asked.coordinator_keys };
        if keys.len() > KEYS_MAX {
            return Outcome::Close(format!("request: coordinators of {} keys at once", keys.len()));
        }
        let with_verdict = |key: StrBytes| (refused(&request.access, asked.key_type, &key), key);
        let keys: Vec<_> = keys.into_iter().map(with_verdict).collect();
        let is_any_allowed = keys.is_empty() || keys.iter().any(|(refused, _)| refused.is_none());
        let ready = match asked.key_type {
            // Nothing is made ready for whom it is not for.
            _ if !is_any_allowed => Err((ResponseError::CoordinatorNotAvailable, "nobody asks for one")),
            GROUP => with_groups(context).await.map(|()| Kind::Groups),
            TRANSACTION => with_transactions(context).await.map(|()| Kind::Transactions),
            SHARE if version >= SHARE_FROM => with_share_states(context).await.map(|()| Kind::ShareStates),
            SHARE => Err((ResponseError::InvalidRequest, "share coordinators are looked for from version 6 on")),
            // As what has no coordinator here, ever: a client that waited for one would wait for nothing.
            _ => Err((ResponseError::InvalidRequest, "this broker coordinates groups, transactions and shares only")),
        };
        if let Ok(kind) = ready {
            let deadline = Instant::now() + LOAD_PATIENCE;
            for (_, key) in keys.iter().filter(|(refused, _)| refused.is_none()) {
                settled(context, kind, key, deadline).await;
            }
        }
        let nodes = context.reachable_nodes(&session.listener);
        let found = keys.into_iter().map(|(refused, key)| {
            let node = match refused {
                Some(refused) => Err(refused),
                None => ready.and_then(|kind| find(context, kind, &nodes, &key)),
            };
            (key, node)
        });
        let body = to_wire(found.collect(), version);
        Outcome::reply(&request.header, &body)
    })
}

/// Whether a client may not be told who coordinates this.
fn refused(access: &Access, key_type: i8, key: &str) -> Option<(ResponseError, &'static str)> {
    let (operation, resource, message) = match key_type {
        GROUP => (Operation::Describe, Resource::Group(key), "Not authorized to access the group."),
        TRANSACTION => {
            let message = "The transactional id authorization failed.";
            (Operation::Describe, Resource::TransactionalId(key), message)
        }
        SHARE => (Operation::ClusterAction, Resource::Cluster, "Cluster authorization failed."),
        _ => return None,
    };
    access.check(operation, resource).err().map(|error| (error, message))
}

/// What is coordinated.
#[derive(Clone, Copy)]
enum Kind {
    Groups,
    Transactions,
    ShareStates,
}

impl Kind {
    /// The partition whose leader is the coordinator of `key`.
    fn partition_of(self, context: &Context, key: &str) -> Result<PartitionId, CoordinatorError> {
        match self {
            Self::Groups => context.groups.partition_id_for(key),
            Self::Transactions => context.transactions.partition_id_for(key),
            Self::ShareStates => context.share_states.partition_id_for(key),
        }
    }

    /// Waits until the coordinator, which is here, has its state.
    async fn loaded(self, context: &Context, key: &str, deadline: Instant) {
        match self {
            Self::Groups => context.groups.loaded(key, deadline).await,
            Self::Transactions => context.transactions.loaded(key, deadline).await,
            Self::ShareStates => context.share_states.loaded(key, deadline).await,
        }
    }
}

/// Makes the topic that coordinators of groups live on, at the first look for one. Whatever is the matter, it is the
/// broker's trouble: the client comes back.
async fn with_groups(context: &Context) -> Result<(), (ResponseError, &'static str)> {
    if context.groups.partition_count() > 0 {
        return Ok(());
    }
    let not_there = |_| (ResponseError::CoordinatorNotAvailable, "the topic of group offsets is not there yet");
    let (topic, partition_count) = context.ensure_offsets_topic().await.map_err(not_there)?;
    context.groups.follow(topic, partition_count);
    Ok(())
}

/// The same for transactions.
async fn with_transactions(context: &Context) -> Result<(), (ResponseError, &'static str)> {
    if context.transactions.partition_count() > 0 {
        return Ok(());
    }
    let not_there = |_| (ResponseError::CoordinatorNotAvailable, "the topic of transactions is not there yet");
    let (topic, partition_count) = context.ensure_transactions_topic().await.map_err(not_there)?;
    context.transactions.follow(topic, partition_count);
    Ok(())
}

/// The same for share-partitions.
async fn with_share_states(context: &Context) -> Result<(), (ResponseError, &'static str)> {
    let not_there = |_| (ResponseError::CoordinatorNotAvailable, "the topic of share groups' state is not there yet");
    context.with_share_states().await.map_err(not_there)
}

/// Waits until it is known who the coordinator is, and if that is this node, until it can coordinate.
async fn settled(context: &Context, kind: Kind, key: &str, deadline: Instant) {
    let Ok(partition) = kind.partition_of(context, key) else { return };
    let mut leaders = context.partitions.leaders().changes();
    loop {
        match context.lead(partition).leader.filter(|node| context.is_alive(*node)) {
            Some(node) if node == context.node_id() => return kind.loaded(context, key, deadline).await,
            Some(_) => return,
            None => {}
        }
        tokio::select! {
            changed = leaders.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(deadline) => return,
        }
    }
}

fn find<'a>(context: &Context, kind: Kind, nodes: &'a [ReachableNode], key: &str) -> Found<'a> {
    if matches!(kind, Kind::ShareStates) && key_of(key).is_none() {
        return Err((ResponseError::InvalidRequest, "a share-partition is GROUP:TOPIC-ID:PARTITION"));
    }
    let not_available = |e| (errors::of_coordinator_at_find(e), "the coordinator is not available");
    let partition = kind.partition_of(context, key).map_err(not_available)?;
    let leader = context.lead(partition).leader;
    let node = leader.and_then(|leader| nodes.iter().find(|node| node.id == leader));
    node.ok_or_else(|| not_available(CoordinatorError::NotAvailable))
}

fn to_wire(found: Vec<(StrBytes, Found<'_>)>, version: i16) -> FindCoordinatorResponse {
    let mut rows = found.into_iter().map(|(key, node)| {
        let row = Coordinator::default().with_key(key);
        match node {
            // The name is shared by all rows.
            Ok(ReachableNode { id, host, port, .. }) => {
                row.with_node_id(BrokerId(id.0)).with_host(host.clone()).with_port(i32::from(*port))
            }
            Err((error, message)) => row
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_static_str(message)))
                .with_node_id(BrokerId(-1))
                .with_port(-1),
        }
    });
    if version >= 4 {
        return FindCoordinatorResponse::default().with_coordinators(rows.collect());
    }
    let row = rows.next().unwrap_or_default();
    FindCoordinatorResponse::default()
        .with_error_code(row.error_code)
        .with_error_message(row.error_message.filter(|_| version >= 1))
        .with_node_id(row.node_id)
        .with_host(row.host)
        .with_port(row.port)
}

#[cfg(test)]
mod tests {
    use millstream_core::types::NodeId;

    use super::*;
    use crate::protocol::allocated::allocated_by;
    use crate::protocol::encode_response;

    fn node(host: StrBytes) -> ReachableNode {
        ReachableNode { id: NodeId(7), host, port: 9092, rack: None }
    }

    #[test]
    fn a_node_and_an_error_are_said_in_every_version() {
        let node = node(StrBytes::from_static_str("broker"));
        for version in 0..=6 {
            let key = StrBytes::from_static_str("g");
            let there = to_wire(vec![(key.clone(), Ok(&node))], version);
            let refused = to_wire(vec![(key, Err((ResponseError::InvalidRequest, "why")))], version);
            for body in [&there, &refused] {
                encode_response(10, version, 1, body).unwrap();
            }
            if version < 4 {
                assert_eq!((there.error_code, there.node_id.0, &*there.host, there.port), (0, 7, "broker", 9092));
                assert_eq!((refused.error_code, refused.node_id.0, &*refused.host, refused.port), (42, -1, "", -1));
                assert_eq!(refused.error_message.is_some(), version >= 1);
            } else {
                let row = &there.coordinators[0];
                assert_eq!((row.error_code, row.node_id.0, &*row.host, row.port), (0, 7, "broker", 9092));
                let row = &refused.coordinators[0];
                assert_eq!((row.error_code, row.node_id.0, row.port), (42, -1, -1));
                assert_eq!((&*row.key, row.error_message.as_deref()), ("g", Some("why")));
            }
        }
    }

    #[test]
    fn the_name_of_the_node_is_not_copied_for_each_key() {
        let node = node(StrBytes::from_string("n".repeat(200)));
        let found = (0..KEYS_MAX).map(|_| (StrBytes::from_static_str("g"), Ok(&node))).collect();
        let (body, allocated) = allocated_by(|| to_wire(found, 4));
        assert_eq!(body.coordinators.len(), KEYS_MAX);
        assert!(allocated < 200 * KEYS_MAX, "{allocated} bytes");
    }
}
