//! StreamsGroupHeartbeat: members come, change, give up and get tasks, and leave.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::command::TimerKey;
use super::super::consumer::LEAVE_EPOCH;
use super::super::decision::Decision;
use super::super::ids::{GroupId, MemberId};
use super::super::record::{Record, StreamsChange};
use super::super::reply::Reply;
use super::super::shard::Shard;
use super::super::state::{Group, Phase};
use super::command::{
    StreamsBeaten, StreamsError, StreamsHeartbeat, StreamsRefused, StreamsReply, StreamsStatus, StreamsStatusKind,
};
use super::configure::check;
use super::member::{StreamsCurrent, StreamsMember, StreamsSubscription};
use super::state::{StreamsEpoch, StreamsGroup, StreamsSoft};
use super::target::{Step, Stepped, StreamsWork};
use super::tasks::Tasks;
use super::topology::Topology;
use crate::types::Timestamp;

type Outcome = Result<(Decision, StreamsBeaten), StreamsRefused>;

impl Shard {
    pub(super) fn streams_heartbeat(&self, now: Timestamp, beat: &StreamsHeartbeat) -> Decision {
        let outcome = match beat.epoch {
            // Static members, who leave for a while, are not known in Kafka 4.3.
            ..=LEAVE_EPOCH => self.streams_leave(now, beat),
            _ => self.streams_beat(now, beat),
        };
        let answer = |answer| Reply::Streams(StreamsReply::Heartbeat(answer));
        match outcome {
            Ok((mut decision, beaten)) => {
                decision.replies.push((beat.token, answer(Ok(beaten))));
                decision
            }
            Err(refused) => Decision::reply(beat.token, answer(Err(refused))),
        }
    }

    fn streams_beat(&self, now: Timestamp, beat: &StreamsHeartbeat) -> Outcome {
        let joins = beat.epoch == 0;
        let mut work = self.streams_group_for(now, &beat.group, joins)?;
        work.refuse_if_full(&beat.member)?;
        let before = match work.member(&beat.member) {
            Err(_) if joins => StreamsMember::nobody(),
            known => known?,
        };
        check_epoch(&before.current, beat.epoch, beat.owned.as_ref())?;
        let after = Arc::new(subscription(&before.said, beat));
        let topology = work.topology(beat.topology.as_ref())?;
        let mut status: Vec<StreamsStatus> = work.stale_topology(&after).into_iter().collect();
        let owned = beat.owned.as_ref();
        let step = Step { id: &beat.member, before: &before, after: &after, owned, topology: &topology };
        let Stepped { current, configured, delayed } = work.advance(&step)?;
        let session_ms = work.config().session_timeout_ms(work.settings());
        work.decision.set_timer(session_of(&beat.group, &beat.member), session_ms);
        let has_changed = joins || current.assigned != before.current.assigned;
        // Kafka 4.3 does not tell again what an answer held that got lost: the member would wait for ever.
        let has = current.assigned.plain();
        let is_told = has_changed || owned.is_some_and(|owned| *owned != has);
        let (endpoint_epoch, endpoints) = work.endpoints(beat, &after, &current, &configured, has_changed);
        status.extend(delayed);
        status.extend(configured.problem.clone());
        status.extend(work.shutdown(beat));
        let beaten = StreamsBeaten {
            member: beat.member.clone(),
            epoch: current.epoch,
            heartbeat_interval_ms: work.config().heartbeat_interval_ms(work.settings()),
            status,
            tasks: is_told.then_some(has),
            endpoint_epoch,
            endpoints,
            create: configured.missing.clone(),
        };
        Ok((work.decision, beaten))
    }

    fn streams_leave(&self, now: Timestamp, beat: &StreamsHeartbeat) -> Outcome {
        let group = self.streams_group(&beat.group)?;
        let mut work = StreamsWork::new(self, now, &beat.group, Cow::Borrowed(group));
        work.member(&beat.member)?;
        if beat.shutdown {
            work.change_softly(StreamsSoft::Shutdown(beat.member.clone()));
        }
        let left = StreamsBeaten {
            member: beat.member.clone(),
            epoch: beat.epoch,
            heartbeat_interval_ms: 0,
            status: Vec::new(),
            tasks: None,
            endpoint_epoch: 0,
            endpoints: None,
            create: Vec::new(),
        };
        Ok((work.fence(&beat.member), left))
    }

    /// The group, or a new one. A classic group without members, or one that only keeps offsets, becomes one of streams.
    fn streams_group_for<'a>(
        &'a self,
        now: Timestamp,
        id: &'a GroupId,
        joins: bool,
    ) -> Result<StreamsWork<'a>, StreamsRefused> {
        let new = || StreamsWork::new(self, now, id, Cow::Owned(StreamsGroup::default()));
        match self.groups.get(id) {
            None if joins => Ok(new()),
            None => Err(not_found(format!("Streams group {id} not found."))),
            Some(group) if joins && group.is_classic() && group.classic.phase == Phase::Empty => {
                let mut work = new();
                work.replace_classic(group);
                Ok(work)
            }
            Some(_) => {
                let group = self.streams_group(id)?;
                Ok(StreamsWork::new(self, now, id, Cow::Borrowed(group)))
            }
        }
    }

    /// A group that is there, and is a streams group.
    pub(super) fn streams_group(&self, id: &GroupId) -> Result<&StreamsGroup, StreamsRefused> {
        let group = self.groups.get(id).ok_or_else(|| not_found(format!("Group {id} not found.")))?;
        group.streams.as_deref().ok_or_else(|| not_found(format!("Group {id} is not a streams group.")))
    }
}

fn not_found(message: String) -> StreamsRefused {
    StreamsRefused { error: StreamsError::GroupNotFound, message }
}

pub(super) fn session_of(group: &GroupId, member: &MemberId) -> TimerKey {
    TimerKey::Session { group: group.clone(), member: member.clone() }
}

/// What is left out stays as it was.
fn subscription(before: &StreamsSubscription, beat: &StreamsHeartbeat) -> StreamsSubscription {
    StreamsSubscription {
        instance: None,
        rack: beat.rack.clone().or_else(|| before.rack.clone()),
        client_id: beat.client_id.clone(),
        client_host: beat.client_host.clone(),
        rebalance_timeout_ms: beat.rebalance_timeout_ms.unwrap_or(before.rebalance_timeout_ms),
        topology_epoch: beat.topology.as_ref().map_or(before.topology_epoch, |topology| topology.epoch),
        process: beat.process.clone().unwrap_or_else(|| Arc::clone(&before.process)),
        endpoint: beat.endpoint.clone().or_else(|| before.endpoint.clone()),
        tags: beat.tags.clone().unwrap_or_else(|| Arc::clone(&before.tags)),
    }
}

/// A member may be one epoch behind, if it missed our answer and has nothing that it must not have.
fn check_epoch(current: &StreamsCurrent, epoch: i32, owned: Option<&Tasks>) -> Result<(), StreamsRefused> {
    let fenced = |what: &str| StreamsRefused {
        error: StreamsError::FencedEpoch,
        message: format!(
            "The streams group member has a {what} member epoch ({epoch}) than the one known by the group coordinator \
             ({}). The member must abandon all its partitions and rejoin.",
            current.epoch
        ),
    };
    let may_be_behind = || owned.is_some_and(|owned| owned.are_within(&current.assigned));
    match epoch {
        0 => Ok(()),
        _ if epoch > current.epoch => Err(fenced("greater")),
        _ if epoch == current.epoch => Ok(()),
        _ if epoch == current.previous_epoch && may_be_behind() => Ok(()),
        _ => Err(fenced("smaller")),
    }
}

impl StreamsWork<'_> {
    fn replace_classic(&mut self, group: &Group) {
        self.decision.records.push(Record::GroupMetadata { group: self.id.clone(), value: None });
        for member in &group.pending_joins {
            self.decision.cancel_timer(session_of(self.id, member));
        }
    }

    fn refuse_if_full(&self, id: &MemberId) -> Result<(), StreamsRefused> {
        let max = self.config().group_size_max;
        if self.group.members.len() < max || self.group.members.contains_key(id) {
            return Ok(());
        }
        let message = format!("The streams group has reached its maximum capacity of {max} members.");
        Err(StreamsRefused { error: StreamsError::GroupFull, message })
    }

    fn member(&self, id: &MemberId) -> Result<StreamsMember, StreamsRefused> {
        self.group.members.get(id).cloned().ok_or_else(|| {
            let message = format!("Member {id} is not a member of group {}.", self.id);
            StreamsRefused { error: StreamsError::UnknownMember, message }
        })
    }

    /// The group's topology: the first that a member brings. Others must bring the same, or an older one.
    fn topology(&self, brought: Option<&Arc<Topology>>) -> Result<Arc<Topology>, StreamsRefused> {
        let invalid =
            |message: &str| StreamsRefused { error: StreamsError::InvalidRequest, message: message.to_owned() };
        if let Some(brought) = brought {
            check(brought).map_err(|message| StreamsRefused { error: StreamsError::InvalidTopology, message })?;
        }
        match (&self.group.topology, brought) {
            (None, Some(brought)) => Ok(Arc::clone(brought)),
            (None, None) => Err(invalid("The topology is null and the group topology is also null.")),
            (Some(known), Some(brought)) if known.epoch <= brought.epoch && known != brought => {
                Err(invalid("Topology updates are not supported yet."))
            }
            (Some(known), _) => Ok(Arc::clone(known)),
        }
    }

    fn stale_topology(&self, said: &StreamsSubscription) -> Option<StreamsStatus> {
        let (own, known) = (said.topology_epoch, self.group.topology.as_ref()?.epoch);
        (own < known).then(|| StreamsStatus {
            kind: StreamsStatusKind::StaleTopology,
            detail: format!("The member's topology epoch {own} is behind the group's topology epoch {known}."),
        })
    }

    /// Whether somebody asked for the end of the application, this member now included.
    fn shutdown(&mut self, beat: &StreamsHeartbeat) -> Option<StreamsStatus> {
        if beat.shutdown {
            self.change_softly(StreamsSoft::Shutdown(beat.member.clone()));
        }
        let by = self.group.soft.shutdown_by.as_ref().or(beat.shutdown.then_some(&beat.member))?;
        Some(StreamsStatus {
            kind: StreamsStatusKind::ShutdownApplication,
            detail: format!(
                "Streams group member {by} encountered a fatal error and requested a shutdown for the entire application."
            ),
        })
    }

    /// Takes a member out.
    pub fn fence(mut self, id: &MemberId) -> Decision {
        self.emit(StreamsChange::Current(id.clone(), None));
        self.emit(StreamsChange::Target(id.clone(), None));
        self.emit(StreamsChange::Member(id.clone(), None));
        let epoch = StreamsEpoch { epoch: self.group.epoch.epoch + 1, ..self.group.epoch.clone() };
        self.emit(StreamsChange::Group(Some(epoch)));
        self.decision.cancel_timer(session_of(self.id, id));
        self.decision.cancel_timer(TimerKey::Revoke { group: self.id.clone(), member: id.clone() });
        self.decision
    }
}
