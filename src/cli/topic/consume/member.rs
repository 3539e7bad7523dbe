//! A member of a consumer group of the classic protocol: joins, takes its share, commits, leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use millstream_core::types::TopicPartition;

use super::assign::{Subscriber, range, read_subscription, write_assignment, write_subscription};
use crate::cli::client::{Client, ClientError, CommittedOffset, Committer, text};
use crate::cli::group::read_assignment;
use crate::cli::output::remark;

/// How long the group does without a sign of life from us: Kafka's default.
const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
/// How long the others get to join after us.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);
/// `group.initial.rebalance.delay.ms` may keep the first members of a group waiting for longer than that.
const JOIN_PATIENCE: Duration = Duration::from_secs(120);
const PROTOCOL_TYPE: &str = "consumer";
/// Of `RangeAssignor`, the first that Kafka's consumers offer.
const ASSIGNOR: &str = "range";

pub struct Member {
    client: Arc<Client>,
    group: String,
    topics: Vec<String>,
    /// Empty: the coordinator has given none yet.
    id: String,
    generation: i32,
    /// Printed and not committed: the offset after the last record.
    positions: BTreeMap<TopicPartition, i64>,
}

/// Whether the membership goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Member,
    /// The group rebalances, or goes on without us: join again.
    Rejoin,
}

impl Member {
    pub fn new(client: &Arc<Client>, group: &str, topics: &[String]) -> Self {
        let (client, group, topics) = (Arc::clone(client), group.to_owned(), topics.to_vec());
        Self { client, group, topics, id: String::new(), generation: -1, positions: BTreeMap::new() }
    }

    /// Joins, or joins again. Gives our share, which may be empty, once all members have theirs.
    pub async fn join(&mut self) -> Result<Vec<TopicPartition>, ClientError> {
        let mut retry = self.client.retry();
        loop {
            let tried = match self.join_once().await {
                Ok(joined) => self.sync(&joined).await,
                Err(error) => Err(error),
            };
            let error = match tried {
                Ok(share) => return Ok(share),
                Err(error) => error,
            };
            match error.response() {
                Some(ResponseError::MemberIdRequired | ResponseError::RebalanceInProgress) => {}
                Some(ResponseError::UnknownMemberId | ResponseError::IllegalGeneration) => self.id.clear(),
                _ => retry.after(error).await?,
            }
        }
    }

    async fn join_once(&mut self) -> Result<JoinGroupResponse, ClientError> {
        let build = |version| {
            let metadata = write_subscription(&self.topics);
            let protocol = JoinGroupRequestProtocol::default().with_name(text(ASSIGNOR)).with_metadata(metadata);
            let request = JoinGroupRequest::default()
                .with_group_id(text(&self.group).into())
                .with_session_timeout_ms(millis(SESSION_TIMEOUT))
                .with_member_id(text(&self.id))
                .with_protocol_type(text(PROTOCOL_TYPE))
                .with_protocols(vec![protocol]);
            if version >= 1 { request.with_rebalance_timeout_ms(millis(REBALANCE_TIMEOUT)) } else { request }
        };
        let code = |response: &JoinGroupResponse| response.error_code;
        let joined = self.client.ask_coordinator_waiting(&self.group, build, code, JOIN_PATIENCE).await?;
        if [ResponseError::MemberIdRequired.code(), 0].contains(&joined.error_code) {
            self.id = joined.member_id.to_string();
        }
        ClientError::of_code(joined.error_code, None).map_or(Ok(joined), Err)
    }

    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Vec<TopicPartition>, ClientError> {
        self.generation = joined.generation_id;
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let shares = if leads { self.deal(joined).await? } else { Vec::new() };
        let build = |version| {
            let request = SyncGroupRequest::default()
                .with_group_id(text(&self.group).into())
                .with_generation_id(self.generation)
                .with_member_id(text(&self.id))
                .with_assignments(shares.clone());
            match version {
                // Mandatory from then on (KIP-559).
                5.. => request.with_protocol_type(Some(text(PROTOCOL_TYPE))).with_protocol_name(Some(text(ASSIGNOR))),
                _ => request,
            }
        };
        // The leader deals in its own time.
        let synced =
            self.client.ask_coordinator_waiting(&self.group, build, |r| r.error_code, REBALANCE_TIMEOUT).await?;
        match ClientError::of_code(synced.error_code, None) {
            Some(error) => Err(error),
            None => Ok(read_assignment(&synced.assignment).unwrap_or_default()),
        }
    }

    /// The shares of all members: we lead.
    async fn deal(&self, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let subscriber = |member: &kafka_protocol::messages::join_group_response::JoinGroupResponseMember| Subscriber {
            id: member.member_id.to_string(),
            instance: member.group_instance_id.as_ref().map(ToString::to_string),
            topics: read_subscription(&member.metadata),
        };
        let members: Vec<Subscriber> = joined.members.iter().map(subscriber).collect();
        let mut topics: Vec<String> = members.iter().flat_map(|member| member.topics.clone()).collect();
        topics.sort();
        topics.dedup();
        let cluster = self.client.cluster(Some(&topics)).await?;
        // Topics that are not there (yet) have no partitions to deal.
        let count = |topic: &String| Some((topic.clone(), cluster.topic(topic).ok()?.partitions.len()));
        let counts = topics.iter().filter_map(count);
        let counts = counts.filter_map(|(topic, count)| Some((topic, i32::try_from(count).ok()?))).collect();
        let assignment = |(id, share): (String, Vec<(String, i32)>)| {
            SyncGroupRequestAssignment::default().with_member_id(text(&id)).with_assignment(write_assignment(&share))
        };
        Ok(range(&members, &counts).into_iter().map(assignment).collect())
    }

    /// What the group has committed.
    pub async fn committed(&self) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        self.client.committed_offsets(&self.group).await
    }

    /// Records up to `next` are printed.
    pub fn printed(&mut self, partition: &TopicPartition, next: i64) {
        self.positions.insert(partition.clone(), next);
    }

    /// Tells the group that we are there, and what is printed.
    pub async fn keep_up(&mut self) -> Result<Standing, ClientError> {
        let build = |_| {
            HeartbeatRequest::default()
                .with_group_id(text(&self.group).into())
                .with_generation_id(self.generation)
                .with_member_id(text(&self.id))
        };
        let beat = self.client.ask_coordinator(&self.group, build, |response| response.error_code).await;
        let error = match beat.map(|response| ClientError::of_code(response.error_code, None)) {
            Ok(error) => error,
            // The next one may pass.
            Err(error) if error.is_retriable() => return Ok(Standing::Member),
            Err(error) => return Err(error),
        };
        // In a rebalance the old owners may still commit.
        let rejoins = error.as_ref().is_some_and(is_over);
        match error {
            Some(error) if !rejoins => Err(error),
            _ => {
                self.commit().await?;
                Ok(if rejoins { Standing::Rejoin } else { Standing::Member })
            }
        }
    }

    /// Commits what is printed. Where the group goes on without us that is somebody else's by now, and told.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let positions = std::mem::take(&mut self.positions);
        let by = Committer { member: &self.id, generation: self.generation };
        let results = self.client.commit_offsets_as(&self.group, &positions, by).await?;
        for (partition, result) in results {
            match result {
                Ok(()) => {}
                Err(error) if is_over(&error) => {
                    let next = positions.get(&partition).copied().unwrap_or_default();
                    remark(&format!("millstream: {partition}: offset {next} is not committed: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Leaves, so that nobody waits for our session to end. Whatever becomes of it, we go.
    pub async fn leave(self) {
        let build = |version| {
            let request = LeaveGroupRequest::default().with_group_id(text(&self.group).into());
            match version {
                3.. => request.with_members(vec![MemberIdentity::default().with_member_id(text(&self.id))]),
                _ => request.with_member_id(text(&self.id)),
            }
        };
        drop(self.client.ask_coordinator(&self.group, build, |response| response.error_code).await);
    }
}

/// The generation, or our part in it, is over.
fn is_over(error: &ClientError) -> bool {
    use ResponseError::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    matches!(error.response(), Some(RebalanceInProgress | UnknownMemberId | IllegalGeneration))
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
