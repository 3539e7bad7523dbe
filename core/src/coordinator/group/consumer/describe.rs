//! ConsumerGroupDescribe.

use super::super::command::DescribeGroups;
use super::super::decision::Decision;
use super::super::ids::MemberId;
use super::super::reply::{DescribedConsumer, DescribedConsumerGroup, DescribedTopic, Reply};
use super::super::shard::Shard;
use super::assign::Assignor;
use super::heartbeat::without_epochs;
use super::member::Target;
use super::state::{ConsumerGroup, Member};

impl Shard {
    pub(in super::super) fn describe_consumer_groups(&self, describe: &DescribeGroups) -> Decision {
        let groups = describe.groups.iter().map(|id| {
            let consumer = self.groups.get(id).map(|group| group.consumer.as_deref());
            (id.clone(), consumer.map(|consumer| consumer.map(|group| self.describe_consumer_group(group))))
        });
        Decision::reply(describe.token, Reply::DescribeConsumerGroups(groups.collect()))
    }

    fn describe_consumer_group(&self, group: &ConsumerGroup) -> DescribedConsumerGroup {
        let votes = |assignor: &Assignor| {
            let wants = |member: &&Member| member.subscription.assignor.as_deref() == Some(assignor.name());
            group.members.values().filter(wants).count()
        };
        let voted = Assignor::ALL.into_iter().filter(|assignor| votes(assignor) > 0).max_by_key(votes);
        DescribedConsumerGroup {
            state: group.state(),
            epoch: group.epoch.epoch,
            target_epoch: group.target_epoch.epoch,
            assignor: voted.unwrap_or_else(|| self.config.consumer.default_assignor()),
            members: group.members.iter().map(|(id, member)| self.describe_consumer(group, id, member)).collect(),
        }
    }

    fn describe_consumer(&self, group: &ConsumerGroup, id: &MemberId, member: &Member) -> DescribedConsumer {
        let mut held = without_epochs(&member.current.assigned);
        for (topic, partitions) in &member.current.revoking {
            held.entry(*topic).or_default().extend(partitions.keys());
        }
        DescribedConsumer {
            member: id.clone(),
            subscription: member.subscription.clone(),
            epoch: member.current.epoch,
            assigned: self.describe_partitions(&held),
            target: self.describe_partitions(&group.target_of(id)),
        }
    }

    /// Those of topics that there are.
    pub(in super::super) fn describe_partitions(&self, target: &Target) -> Vec<DescribedTopic> {
        let named = |(id, partitions): (&_, &std::collections::BTreeSet<i32>)| {
            let topic = self.surroundings.topics.by_id(*id)?;
            Some(DescribedTopic { id: *id, name: topic.name.clone(), partitions: partitions.iter().copied().collect() })
        };
        target.iter().filter_map(named).collect()
    }
}
