//! A member's step: what it said is stored, the topology is configured with the topics that there are, the group's epoch
//! follows from both, the target assignment from the epoch, and what the member has from the target.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::command::TimerKey;
use super::super::consumer::{TargetEpoch, Topics, is_due};
use super::super::decision::Decision;
use super::super::ids::{GroupId, MemberId};
use super::super::record::{Record, StreamsChange};
use super::super::shard::Shard;
use super::assign::{MemberSpec, PartSpec, assign};
use super::command::{StreamsError, StreamsRefused, StreamsStatus, StreamsStatusKind};
use super::configure::{Configured, configure};
use super::member::{StreamsCurrent, StreamsMember, StreamsMemberState, StreamsSubscription};
use super::reconcile::Way;
use super::settings::{StreamsConfig, StreamsSettings};
use super::state::{AssignmentConfigs, NOT_VALIDATED, StreamsEpoch, StreamsGroup, StreamsSoft};
use super::tasks::Tasks;
use super::topology::Topology;
use crate::types::Timestamp;

/// The one setting that assignments depend on, by its name in records.
const NUM_STANDBY_REPLICAS: &str = "num.standby.replicas";

/// What a decision on a streams group works with, and what comes of it.
pub(super) struct StreamsWork<'a> {
    pub shard: &'a Shard,
    pub now: Timestamp,
    pub id: &'a GroupId,
    pub group: Cow<'a, StreamsGroup>,
    pub decision: Decision,
}

/// What a member comes with.
pub(super) struct Step<'a> {
    pub id: &'a MemberId,
    pub before: &'a StreamsMember,
    pub after: &'a Arc<StreamsSubscription>,
    /// What it says that it has, if it says.
    pub owned: Option<&'a Tasks>,
    /// The group's, after this step.
    pub topology: &'a Arc<Topology>,
}

/// The group after a step.
pub(super) struct Stepped {
    pub current: StreamsCurrent,
    pub configured: Arc<Configured>,
    /// The assignment was put off.
    pub delayed: Option<StreamsStatus>,
}

impl<'a> StreamsWork<'a> {
    pub fn new(shard: &'a Shard, now: Timestamp, id: &'a GroupId, group: Cow<'a, StreamsGroup>) -> Self {
        Self { shard, now, id, group, decision: Decision::nothing() }
    }

    pub fn config(&self) -> &'a StreamsConfig {
        &self.shard.config.streams
    }

    pub fn settings(&self) -> StreamsSettings {
        self.shard.settings_of(self.id).streams
    }

    pub fn topics(&self) -> &'a Arc<Topics> {
        &self.shard.surroundings.topics
    }

    pub fn emit(&mut self, change: StreamsChange) {
        self.decision.records.push(Record::Streams { group: self.id.clone(), change });
    }

    pub fn change_softly(&mut self, change: StreamsSoft) {
        self.decision.streams_soft.push((self.id.clone(), change));
    }

    pub fn advance(&mut self, step: &Step<'_>) -> Result<Stepped, StreamsRefused> {
        let has_changed = *step.after != step.before.said;
        if has_changed {
            self.emit(StreamsChange::Member(step.id.clone(), Some(Arc::clone(step.after))));
        }
        if self.group.topology.is_none() {
            self.emit(StreamsChange::Topology(Some(Arc::clone(step.topology))));
        }
        let (configured, metadata_hash) = self.configure(step.topology)?;
        check_owned(&configured, step.owned)?;
        let epoch = self.bump_epoch(step, &configured, metadata_hash, has_changed);
        let is_delayed = self.wait_for_more();
        let (target_epoch, target, delayed) = if is_delayed {
            let detail = "Assignment delayed due to the configured initial rebalance delay.";
            (self.group.target_epoch.epoch, Arc::default(), Some(delayed(detail)))
        } else {
            self.retarget(Some(step), &epoch, &configured)
        };
        let current = self.reconcile(step, target_epoch, &target)?;
        Ok(Stepped { current, configured, delayed })
    }

    /// The topology with the topics as they are, and their hash.
    fn configure(&mut self, topology: &Topology) -> Result<(Arc<Configured>, i64), StreamsRefused> {
        if let (Some(_), Some(known)) = (&self.group.topology, &self.group.soft.configured) {
            return Ok((Arc::clone(known), self.group.epoch.metadata_hash));
        }
        let configured = configure(topology, self.topics())
            .map_err(|message| StreamsRefused { error: StreamsError::InvalidTopology, message })?;
        let configured = Arc::new(configured);
        self.change_softly(StreamsSoft::Configured(Arc::clone(&configured)));
        Ok((configured, self.topics().hash_of(topology.topics().keys())))
    }

    /// The group's epoch after the step: it grows with everything that an assignment depends on.
    fn bump_epoch(&mut self, step: &Step<'_>, configured: &Configured, metadata_hash: i64, must: bool) -> StreamsEpoch {
        let before = &self.group.epoch;
        let validated = if configured.is_ready() { step.topology.epoch } else { NOT_VALIDATED };
        let configs = self.assignment_configs();
        let bump = must
            || metadata_hash != before.metadata_hash
            || validated != before.validated_topology_epoch
            || configs != *before.configs;
        if !bump {
            return before.clone();
        }
        let epoch = StreamsEpoch {
            epoch: before.epoch + 1,
            metadata_hash,
            validated_topology_epoch: validated,
            configs: Arc::new(configs),
        };
        self.emit(StreamsChange::Group(Some(epoch.clone())));
        epoch
    }

    fn assignment_configs(&self) -> AssignmentConfigs {
        let standbys = self.config().num_standby_replicas(self.settings());
        AssignmentConfigs::from([(Arc::from(NUM_STANDBY_REPLICAS), standbys.to_string().into())])
    }

    /// Whether the first assignment of a group waits for more members.
    fn wait_for_more(&mut self) -> bool {
        if self.group.soft.is_delayed {
            return true;
        }
        let delay_ms = self.config().initial_rebalance_delay_ms(self.settings());
        let waits = self.group.members.is_empty() && delay_ms > 0;
        if waits {
            self.decision.set_timer(TimerKey::FirstAssignment { group: self.id.clone() }, delay_ms);
            self.change_softly(StreamsSoft::Delayed(true));
        }
        waits
    }

    /// The member's target: of a new target assignment, where the group's epoch asks for one and the last is old enough.
    pub fn retarget(
        &mut self,
        step: Option<&Step<'_>>,
        epoch: &StreamsEpoch,
        configured: &Configured,
    ) -> (i32, Arc<Tasks>, Option<StreamsStatus>) {
        let last = self.group.target_epoch;
        let known = step.map(|step| self.group.target_of(step.id)).unwrap_or_default();
        if last.epoch >= epoch.epoch {
            return (last.epoch, known, None);
        }
        if !is_due(last, self.config().assignment_interval_ms(self.settings()), self.now) {
            let detail = "Assignment delayed due to the configured assignment interval.";
            return (last.epoch, known, Some(delayed(detail)));
        }
        let mut own = Arc::default();
        for (id, target) in self.assignment(step, epoch, configured) {
            let target = Arc::new(target);
            if step.is_some_and(|step| *step.id == id) {
                own = Arc::clone(&target);
            }
            if self.group.targets.get(&id) != Some(&target) {
                self.emit(StreamsChange::Target(id, Some(target)));
            }
        }
        self.emit(StreamsChange::TargetEpoch(Some(TargetEpoch { epoch: epoch.epoch, at: self.now })));
        (epoch.epoch, own, None)
    }

    /// What each member is to have: nothing while topics are missing or do not fit.
    fn assignment(
        &self,
        step: Option<&Step<'_>>,
        epoch: &StreamsEpoch,
        configured: &Configured,
    ) -> BTreeMap<MemberId, Tasks> {
        let mut said: BTreeMap<&MemberId, &Arc<StreamsSubscription>> =
            self.group.members.iter().map(|(id, member)| (id, &member.said)).collect();
        said.extend(step.map(|step| (step.id, step.after)));
        let parts = match &configured.parts {
            Some(parts) if configured.is_ready() => parts,
            _ => return said.into_keys().map(|id| (id.clone(), Tasks::default())).collect(),
        };
        let part = |(id, part): (&Arc<str>, &super::configure::ConfiguredPart)| PartSpec {
            id: Arc::clone(id),
            task_count: part.task_count,
            is_stateful: part.is_stateful(),
        };
        let parts: Vec<PartSpec> = parts.iter().map(part).collect();
        let spec = |(id, said): (&&MemberId, &&Arc<StreamsSubscription>)| MemberSpec {
            process: Arc::clone(&said.process),
            target: self.group.target_of(id),
        };
        let members: Vec<MemberSpec> = said.iter().map(spec).collect();
        let standbys = epoch.configs.get(NUM_STANDBY_REPLICAS).and_then(|count| count.parse().ok()).unwrap_or(0);
        said.into_keys().cloned().zip(assign(&members, &parts, standbys)).collect()
    }

    /// What the member has after this step.
    fn reconcile(
        &mut self,
        step: &Step<'_>,
        target_epoch: i32,
        target: &Tasks,
    ) -> Result<StreamsCurrent, StreamsRefused> {
        let before = &step.before.current;
        let way = Way { target_epoch, target, process: &step.after.process, owned: step.owned, group: &self.group };
        let next = way.next(before).map_err(|_| StreamsRefused {
            error: StreamsError::FencedEpoch,
            message:
                "The streams group member is in a unknown state. The member must abandon all its tasks and rejoin."
                    .to_owned(),
        })?;
        if next == *before {
            return Ok(next);
        }
        self.emit(StreamsChange::Current(step.id.clone(), Some(next.clone())));
        let key = TimerKey::Revoke { group: self.id.clone(), member: step.id.clone() };
        if next.state == StreamsMemberState::UnrevokedTasks {
            self.decision.set_timer(key, step.after.rebalance_timeout_ms);
        } else {
            self.decision.cancel_timer(key);
        }
        Ok(next)
    }
}

fn delayed(detail: &str) -> StreamsStatus {
    StreamsStatus { kind: StreamsStatusKind::AssignmentDelayed, detail: detail.to_owned() }
}

/// A member may not have what there is not, as far as that is known.
fn check_owned(configured: &Configured, owned: Option<&Tasks>) -> Result<(), StreamsRefused> {
    let refuse = |message| Err(StreamsRefused { error: StreamsError::InvalidRequest, message });
    let Some(owned) = owned.filter(|_| configured.is_ready()) else { return Ok(()) };
    let all = [&owned.active, &owned.standby, &owned.warmup];
    for (id, partitions) in all.into_iter().flatten() {
        let Some(count) = configured.task_count(id) else {
            return refuse(format!("Subtopology {id} does not exist in the topology."));
        };
        if let Some(partition) = out_of(partitions, count) {
            return refuse(format!(
                "Task {partition} for subtopology {id} is invalid. Number of tasks for this subtopology: {count}"
            ));
        }
    }
    Ok(())
}

fn out_of(partitions: &BTreeSet<i32>, count: i32) -> Option<i32> {
    partitions.iter().copied().find(|partition| !(0..count).contains(partition))
}
