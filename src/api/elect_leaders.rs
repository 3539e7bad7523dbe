//! ElectLeaders (43, KIP-460): leaderships go to the preferred replicas, or to any (Kafka
//! `ReplicationControlManager.electLeaders`).
//!
//! Raft elects by itself wherever a majority lives, and never a replica that lacks what is acknowledged: an unclean
//! election finds a leader, or nobody who may be one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use millstream_core::controller::{Image, Partition};
use millstream_core::security::Operation;
use millstream_core::types::{NodeId, PartitionId};
use tokio::time::Instant;

use super::leaders::Lead;
use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::controller::{Envelope, TRANSFERS_MAX};
use crate::protocol::StrBytes;

/// Kafka's `ElectionType`; version 0 knows the first alone.
mod election_type {
    pub(super) const PREFERRED: i8 = 0;
    pub(super) const UNCLEAN: i8 = 1;
}

/// Longest that elections are waited for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Partitions that one request may name (Kafka `QuorumController.MAX_RECORDS_PER_USER_OP`).
const PARTITIONS_MAX: usize = 10_000;

/// What is said of a partition; `None`: the election was held.
type Verdict = Option<(ResponseError, String)>;

/// A partition as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    topic: StrBytes,
    partition: i32,
}

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: ElectLeadersRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let version = request.header.version;
        let kind = if version == 0 { election_type::PREFERRED } else { asked.election_type };
        let body = ElectLeadersResponse::default();
        if let Err(error) = request.access.check(Operation::Alter, Resource::Cluster) {
            let named = asked.topic_partitions.iter().flatten();
            let rows =
                named.flat_map(|of| of.partitions.iter().map(|p| Asked { topic: of.topic.0.clone(), partition: *p }));
            let refused = rows.map(|one| (one, Some((error, errors::words(error)))));
            let body = body.with_replica_election_results(to_wire(refused.collect()));
            let body = if version >= 1 { body.with_error_code(error.code()) } else { body };
            return Outcome::reply(&request.header, &body);
        }
        let is_known = matches!(kind, election_type::PREFERRED | election_type::UNCLEAN);
        let named = asked.topic_partitions.as_ref().map_or(0, |topics| topics.iter().map(|t| t.partitions.len()).sum());
        if !is_known || named > PARTITIONS_MAX {
            let code = ResponseError::InvalidRequest.code();
            return Outcome::reply(&request.header, &if version >= 1 { body.with_error_code(code) } else { body });
        }
        let timeout = Duration::from_millis(u64::try_from(asked.timeout_ms).unwrap_or(0)).min(WAIT_MAX);
        let verdicts = elect(context, &asked, kind, Instant::now() + timeout).await;
        Outcome::reply(&request.header, &body.with_replica_election_results(to_wire(verdicts)))
    })
}

async fn elect(
    context: &Context,
    asked: &ElectLeadersRequest,
    kind: i8,
    deadline: Instant,
) -> BTreeMap<Asked, Verdict> {
    let mut verdicts = BTreeMap::new();
    let mut to_elect = Vec::new();
    let now = context.controller.published();
    let all = asked.topic_partitions.is_none();
    for one in partitions(asked, &now.image) {
        match find(&now.image, &one) {
            Err(unknown) => drop(verdicts.insert(one, Some((ResponseError::UnknownTopicOrPartition, unknown)))),
            Ok((id, partition)) => {
                match step(&context.lead(id), partition, kind, &now.image, &|node| context.is_alive(node)) {
                    Step::Transfer { from, to } => to_elect.push((one, id, from, to)),
                    // Who asks for all of them is told of those that were elected.
                    Step::Told(ResponseError::ElectionNotNeeded) if all => {}
                    Step::Told(error) => drop(verdicts.insert(one, Some((error, errors::words(error))))),
                }
            }
        }
    }
    let mut by_leader: HashMap<NodeId, Vec<(PartitionId, NodeId)>> = HashMap::new();
    for (_, id, from, to) in &to_elect {
        by_leader.entry(*from).or_default().push((*id, *to));
    }
    let mut under_way = HashMap::new();
    for (leader, leaderships) in by_leader {
        for some in leaderships.chunks(TRANSFERS_MAX) {
            let begun = context.hand_over(leader, some, deadline).await;
            under_way.extend(some.iter().map(|(id, _)| *id).zip(begun));
        }
    }
    for (one, id, _, to) in to_elect {
        let verdict = match under_way.get(&id) {
            Some(true) if context.is_led_by(id, to, deadline).await => None,
            Some(true) => Some(ResponseError::RequestTimedOut),
            _ => Some(ResponseError::PreferredLeaderNotAvailable),
        };
        verdicts.insert(one, verdict.map(|error| (error, errors::words(error))));
    }
    verdicts
}

/// Each partition once.
fn partitions(asked: &ElectLeadersRequest, image: &Image) -> Vec<Asked> {
    let mut all: Vec<Asked> = match &asked.topic_partitions {
        Some(topics) => topics
            .iter()
            .flat_map(|of| of.partitions.iter().map(|p| Asked { topic: of.topic.0.clone(), partition: *p }))
            .collect(),
        None => image
            .topics()
            .flat_map(|topic| {
                let name = StrBytes::from_string(topic.name.to_string());
                (0..).zip(&topic.partitions).map(move |(partition, _)| Asked { topic: name.clone(), partition })
            })
            .collect(),
    };
    all.sort();
    all.dedup();
    all
}

/// In Kafka's words, what there is not.
fn find<'a>(image: &'a Image, asked: &Asked) -> Result<(PartitionId, &'a Partition), String> {
    let Asked { topic: name, partition } = asked;
    let topic = image.topic_by_name(name).ok_or_else(|| format!("No such topic as {name}"))?;
    let id = PartitionId { topic: topic.id, partition: *partition };
    let number = usize::try_from(*partition).ok();
    let found = number.and_then(|number| topic.partitions.get(number));
    found.map(|found| (id, found)).ok_or_else(|| format!("No such partition as {name}-{partition}"))
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Transfer { from: NodeId, to: NodeId },
    Told(ResponseError),
}

fn step(lead: &Lead, partition: &Partition, kind: i8, image: &Image, is_alive: &dyn Fn(NodeId) -> bool) -> Step {
    let leader = lead.leader.filter(|leader| is_alive(*leader));
    let preferred = partition.replicas.first().copied();
    match (kind, leader, preferred) {
        (election_type::UNCLEAN, Some(_), _) => Step::Told(ResponseError::ElectionNotNeeded),
        (election_type::UNCLEAN, None, _) => Step::Told(ResponseError::EligibleLeadersNotAvailable),
        (_, Some(from), Some(to)) if from == to => Step::Told(ResponseError::ElectionNotNeeded),
        (_, Some(from), Some(to)) if is_alive(to) && lead.isr.contains(&to) && !image.is_drained(to) => {
            Step::Transfer { from, to }
        }
        _ => Step::Told(ResponseError::PreferredLeaderNotAvailable),
    }
}

fn to_wire(verdicts: BTreeMap<Asked, Verdict>) -> Vec<ReplicaElectionResult> {
    let mut topics: Vec<ReplicaElectionResult> = Vec::new();
    for (Asked { topic, partition }, verdict) in verdicts {
        let (code, message) = verdict.map_or((0, None), |(error, words)| (error.code(), Some(errors::message(&words))));
        let row =
            PartitionResult::default().with_partition_id(partition).with_error_code(code).with_error_message(message);
        match topics.last_mut() {
            Some(last) if *last.topic == topic => last.partition_result.push(row),
            _ => topics
                .push(ReplicaElectionResult::default().with_topic(TopicName(topic)).with_partition_result(vec![row])),
        }
    }
    topics
}

impl Context {
    /// Has the node that leads some partitions hand them over. Says of each whether that is under way.
    async fn hand_over(&self, leader: NodeId, leaderships: &[(PartitionId, NodeId)], deadline: Instant) -> Vec<bool> {
        if leader == self.node_id() {
            return self.hand_over_own(leaderships).await;
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        let envelope = Envelope::Transfer(leaderships.to_vec());
        let begun = self.controller.ask_node(leader, &envelope, patience).await.unwrap_or_default();
        begun.iter().map(|begun| *begun == 1).collect()
    }

    /// Hands over leaderships of this node.
    pub(super) async fn hand_over_own(&self, leaderships: &[(PartitionId, NodeId)]) -> Vec<bool> {
        let mut begun = Vec::with_capacity(leaderships.len());
        for (id, to) in leaderships {
            begun.push(self.partitions.transfer(*id, *to).await);
        }
        begun
    }

    async fn is_led_by(&self, id: PartitionId, node: NodeId, deadline: Instant) -> bool {
        let mut changes = self.partitions.leaders().changes();
        let led = async {
            while self.lead(id).leader != Some(node) {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout_at(deadline, led).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::elect_leaders_request::TopicPartitions;

    use super::*;
    use crate::api::leaders::tests::led_by;
    use crate::api::metadata::tests::image;
    use crate::protocol::Encode;

    fn steps(lead: &Lead, alive: &[i32]) -> (Step, Step) {
        let partition = Partition { replicas: [1, 2, 3].map(NodeId).to_vec(), ..Partition::default() };
        let is_alive = |node: NodeId| alive.contains(&node.0);
        let step = |kind| step(lead, &partition, kind, &Image::default(), &is_alive);
        (step(election_type::PREFERRED), step(election_type::UNCLEAN))
    }

    #[test]
    fn the_preferred_replica_is_elected_if_it_lives_and_is_in_sync() {
        use ResponseError::{ElectionNotNeeded, EligibleLeadersNotAvailable, PreferredLeaderNotAvailable};
        let not_needed = || Step::Told(ElectionNotNeeded);
        let not_available = || Step::Told(PreferredLeaderNotAvailable);
        assert_eq!(steps(&led_by(1, 3), &[1, 2, 3]), (not_needed(), not_needed()));
        let second = Lead { isr: vec![NodeId(1), NodeId(2)], ..led_by(2, 3) };
        let transfer = Step::Transfer { from: NodeId(2), to: NodeId(1) };
        assert_eq!(steps(&second, &[1, 2, 3]), (transfer, not_needed()));
        assert_eq!(steps(&second, &[2, 3]), (not_available(), not_needed()));
        assert_eq!(steps(&led_by(2, 3), &[1, 2, 3]), (not_available(), not_needed()), "out of sync");
        assert_eq!(steps(&second, &[1, 3]), (not_available(), Step::Told(EligibleLeadersNotAvailable)));
        assert_eq!(steps(&Lead::default(), &[1]), (not_available(), Step::Told(EligibleLeadersNotAvailable)));
    }

    #[test]
    fn each_partition_is_looked_for_once_and_null_means_all() {
        let image = image(&[("b", 1), ("a", 2)]);
        let named = |name: &'static str, partitions: &[i32]| {
            TopicPartitions::default()
                .with_topic(TopicName(StrBytes::from_static_str(name)))
                .with_partitions(partitions.to_vec())
        };
        let told = |topics: Option<Vec<TopicPartitions>>| {
            let asked = ElectLeadersRequest::default().with_topic_partitions(topics);
            partitions(&asked, &image).into_iter().map(|one| find(&image, &one).map(|(id, _)| id.partition)).collect()
        };
        let all: Vec<Result<i32, String>> = told(None);
        assert_eq!(all, [Ok(0), Ok(1), Ok(0)]);
        let some: Vec<Result<i32, String>> = told(Some(vec![named("a", &[1, 1, 2]), named("c", &[0])]));
        assert_eq!(some, [Ok(1), Err("No such partition as a-2".into()), Err("No such topic as c".into())]);
    }

    #[test]
    fn rows_are_gathered_by_topic_and_every_version_can_say_them() {
        let asked = |topic, partition| Asked { topic: StrBytes::from_static_str(topic), partition };
        let refused = Some((ResponseError::ElectionNotNeeded, "why".to_owned()));
        let verdicts = BTreeMap::from([(asked("a", 0), None), (asked("a", 1), refused), (asked("b", 0), None)]);
        let rows = to_wire(verdicts);
        assert_eq!(rows.iter().map(|row| row.partition_result.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(rows[0].partition_result[1].error_code, 84);
        for version in 0..=2 {
            let body = ElectLeadersResponse::default().with_replica_election_results(rows.clone());
            body.encode_body(version, &mut bytes::BytesMut::new()).expect("it can be said in this version");
        }
    }
}
