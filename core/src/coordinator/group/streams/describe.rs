//! StreamsGroupDescribe, and the way to what is decided of streams groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::command::DescribeGroups;
use super::super::decision::Decision;
use super::super::reply::Reply;
use super::super::shard::Shard;
use super::command::{
    DescribedStreamsGroup, DescribedStreamsMember, DescribedSubtopology, DescribedTopology, InternalTopic,
    StreamsCommand, StreamsReply,
};
use super::configure::{Configured, ConfiguredPart, configure};
use super::state::StreamsGroup;
use super::topology::{Subtopology, TopicInfo, Topology};
use crate::types::Timestamp;

impl Shard {
    pub(in super::super) fn decide_streams(&self, now: Timestamp, command: &StreamsCommand) -> Decision {
        match command {
            StreamsCommand::Heartbeat(beat) => self.streams_heartbeat(now, beat),
            StreamsCommand::Describe(describe) => self.describe_streams_groups(describe),
        }
    }

    fn describe_streams_groups(&self, describe: &DescribeGroups) -> Decision {
        let groups = describe.groups.iter().map(|id| {
            let streams = self.groups.get(id).map(|group| group.streams.as_deref());
            (id.clone(), streams.map(|streams| streams.map(|group| self.describe_streams_group(group))))
        });
        Decision::reply(describe.token, Reply::Streams(StreamsReply::Describe(groups.collect())))
    }

    fn describe_streams_group(&self, group: &StreamsGroup) -> DescribedStreamsGroup {
        let members = group.members.iter().map(|(id, member)| DescribedStreamsMember {
            member: id.clone(),
            said: Arc::clone(&member.said),
            epoch: member.current.epoch,
            assigned: member.current.assigned.plain(),
            target: group.target_of(id).as_ref().clone(),
        });
        DescribedStreamsGroup {
            state: group.state(),
            epoch: group.epoch.epoch,
            target_epoch: group.target_epoch.epoch,
            topology: group.topology.as_ref().map(|topology| self.describe_topology(topology)),
            members: members.collect(),
        }
    }

    fn describe_topology(&self, topology: &Topology) -> DescribedTopology {
        let configured = configure(topology, &self.surroundings.topics).ok().filter(Configured::is_ready);
        let configured = configured.and_then(|configured| configured.parts).unwrap_or_default();
        let part = |(id, part): (&Arc<str>, &Subtopology)| describe_part(id, part, configured.get(id));
        DescribedTopology { epoch: topology.epoch, subtopologies: topology.subtopologies.iter().map(part).collect() }
    }
}

fn describe_part(id: &Arc<str>, part: &Subtopology, configured: Option<&ConfiguredPart>) -> DescribedSubtopology {
    let topics = |said: &[TopicInfo], configured: Option<&BTreeMap<Arc<str>, InternalTopic>>| match configured {
        Some(configured) => configured.values().map(topic_info).collect(),
        None => {
            let mut topics = said.to_vec();
            topics.sort_by(|a, b| a.name.cmp(&b.name));
            topics
        }
    };
    DescribedSubtopology {
        id: Arc::clone(id),
        source_topics: sorted(&part.source_topics),
        repartition_sinks: sorted(&part.repartition_sinks),
        changelogs: topics(&part.changelogs, configured.map(|part| &part.changelogs)),
        repartition_sources: topics(&part.repartition_sources, configured.map(|part| &part.repartition_sources)),
    }
}

fn topic_info(topic: &InternalTopic) -> TopicInfo {
    TopicInfo {
        name: Arc::clone(&topic.name),
        partitions: topic.partition_count,
        replication_factor: topic.replication_factor.unwrap_or(0),
        configs: topic.configs.clone().into_iter().collect(),
    }
}

fn sorted(names: &[Arc<str>]) -> Vec<Arc<str>> {
    let mut names = names.to_vec();
    names.sort();
    names
}
