//! What the members' applications can be asked about (`EndpointToPartitionsManager`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::command::{EndpointPartitions, StreamsHeartbeat};
use super::configure::Configured;
use super::member::{StreamsCurrent, StreamsSubscription};
use super::state::StreamsSoft;
use super::target::StreamsWork;
use super::tasks::{TaskSet, Tasks};
use super::topology::Topology;

impl StreamsWork<'_> {
    /// The epoch of what can be asked, and that itself for a member that knows another one. It grows when somebody
    /// who can be asked gets other tasks.
    pub fn endpoints(
        &mut self,
        beat: &StreamsHeartbeat,
        said: &StreamsSubscription,
        current: &StreamsCurrent,
        configured: &Configured,
        has_other_tasks: bool,
    ) -> (i32, Option<Vec<EndpointPartitions>>) {
        let mut epoch = self.group.soft.endpoint_epoch;
        if has_other_tasks && said.endpoint.is_some() {
            epoch = epoch.wrapping_add(1).max(0);
        }
        let told = (epoch != beat.endpoint_epoch).then(|| self.all_endpoints(beat, said, current, configured));
        if !self.shard.groups.contains_key(self.id) {
            // Kafka forgets it with the group that it makes for the answer, and says 0.
            return (0, told);
        }
        if epoch != self.group.soft.endpoint_epoch {
            self.change_softly(StreamsSoft::EndpointEpoch(epoch));
        }
        (epoch, told)
    }

    fn all_endpoints(
        &self,
        beat: &StreamsHeartbeat,
        said: &StreamsSubscription,
        current: &StreamsCurrent,
        configured: &Configured,
    ) -> Vec<EndpointPartitions> {
        let topology = self.group.topology.as_ref().or(beat.topology.as_ref());
        let Some(topology) = topology.filter(|_| configured.parts.is_some()) else { return Vec::new() };
        let of = |said: &StreamsSubscription, current: &StreamsCurrent| {
            let Tasks { active, standby, .. } = current.assigned.plain();
            Some(EndpointPartitions {
                endpoint: said.endpoint.clone()?,
                active: self.partitions(topology, &active),
                standby: self.partitions(topology, &standby),
            })
        };
        let others = self.group.members.iter().filter(|(id, _)| **id != beat.member);
        let mut all: Vec<EndpointPartitions> =
            others.filter_map(|(_, member)| of(&member.said, &member.current)).collect();
        all.extend(of(said, current));
        all
    }

    /// The partitions that tasks read. Kafka takes as many as a topic has of the first tasks; a task reads the partition
    /// of its own number, if the topic has it.
    fn partitions(&self, topology: &Topology, tasks: &TaskSet) -> Vec<(Arc<str>, Vec<i32>)> {
        let mut all = Vec::new();
        for (id, tasks) in tasks {
            let Some(part) = topology.subtopologies.get(id) else { continue };
            for name in part.sources().collect::<BTreeSet<_>>() {
                let Some(topic) = self.topics().by_name(name) else { continue };
                let read = tasks.iter().copied().filter(|task| *task < topic.partition_count);
                all.push((Arc::clone(name), read.collect()));
            }
        }
        all
    }
}
