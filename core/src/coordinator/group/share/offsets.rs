//! Where groups without members begin: their offsets are altered and deleted by whoever runs them, and go with the groups.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::command::DescribeGroups;
use super::super::consumer::Target;
use super::super::decision::Decision;
use super::super::ids::{GroupId, ReplyToken};
use super::super::reply::Reply;
use super::super::shard::Shard;
use super::command::{
    AlterShareOffsets, AlterShareTopic, AlteredTopic, DeleteShareOffsets, InitializeShares, InitializedTopic,
    ShareOffsetsAltered, ShareOffsetsError, ShareOffsetsToDelete, ShareReply,
};
use super::partitions::{SharePartitions, TopicPartitions, add};
use super::state::ShareGroup;
use super::target::ShareWork;
use crate::types::{Offset, Timestamp, TopicId, TopicName};

impl Shard {
    /// Partitions that are initialized, of topics that are there.
    pub(super) fn share_partitions(&self, token: ReplyToken, id: &GroupId) -> Decision {
        let group = self.groups.get(id).and_then(|group| group.share.as_deref());
        let known = group.and_then(|group| group.partitions.as_deref());
        let named = |(id, known): (&TopicId, &TopicPartitions)| {
            let topic = self.surroundings.topics.by_id(*id)?;
            let partitions = known.partitions.iter().copied().collect();
            Some(InitializedTopic { id: *id, name: topic.name.as_str().into(), partitions })
        };
        let topics = known.into_iter().flat_map(|known| &known.initialized).filter_map(named).collect();
        Decision::reply(token, Reply::Share(ShareReply::Partitions(topics)))
    }

    /// A group that is not there comes to be.
    pub(super) fn alter_share_offsets(&self, now: Timestamp, alter: &AlterShareOffsets) -> Decision {
        let refuse = |error| Decision::reply(alter.token, Reply::Share(ShareReply::AlterOffsets(Err(error))));
        let group = match self.groups.contains_key(&alter.group) {
            false => Cow::Owned(ShareGroup::default()),
            true => match self.share_group(&alter.group) {
                Ok(group) if group.members.is_empty() => Cow::Borrowed(group),
                Ok(_) => return refuse(ShareOffsetsError::NonEmpty),
                Err(refused) => return refuse(ShareOffsetsError::GroupNotFound(refused.message)),
            },
        };
        let mut work = ShareWork::new(self, now, &alter.group, group);
        let (mut asked, mut begun) = (BTreeMap::new(), BTreeMap::new());
        let look = |topic: &AlterShareTopic| work.alter_topic(topic, &mut asked, &mut begun);
        let topics = alter.topics.iter().map(look).collect();
        if !begun.is_empty() {
            let mut partitions = work.partitions();
            partitions.begin(&begun);
            work.emit_partitions(partitions);
        }
        let epoch = work.group.epoch.epoch;
        let initialize = InitializeShares { group: alter.group.clone(), epoch, topics: asked };
        let altered = ShareOffsetsAltered { initialize, topics };
        work.decision.replies.push((alter.token, Reply::Share(ShareReply::AlterOffsets(Ok(altered)))));
        work.decision
    }

    /// From now on the topics' partitions are not assigned.
    pub(super) fn delete_share_offsets(&self, now: Timestamp, delete: &DeleteShareOffsets) -> Decision {
        let reply = |result| Reply::Share(ShareReply::DeleteOffsets(result));
        let group = match self.share_group_without_members(&delete.group) {
            Ok(group) => group,
            Err(error) => return Decision::reply(delete.token, reply(Err(error))),
        };
        let mut work = ShareWork::new(self, now, &delete.group, Cow::Borrowed(group));
        let mut result = ShareOffsetsToDelete { topics: Vec::new(), nothing: Vec::new() };
        if group.partitions.is_some() {
            let mut partitions = work.partitions();
            for name in &delete.topics {
                work.delete_topic(name, &mut partitions, &mut result);
            }
            work.emit_partitions(partitions);
        }
        work.decision.replies.push((delete.token, reply(Ok(result))));
        work.decision
    }

    pub(super) fn share_offsets_deleted(
        &self,
        now: Timestamp,
        token: ReplyToken,
        id: &GroupId,
        topics: &[TopicId],
    ) -> Decision {
        let done = (token, Reply::Share(ShareReply::OffsetsDeleted));
        let Some(group) = self.share_group(id).ok().filter(|group| group.partitions.is_some()) else {
            return Decision { replies: vec![done], ..Decision::nothing() };
        };
        let mut work = ShareWork::new(self, now, id, Cow::Borrowed(group));
        let mut partitions = work.partitions();
        partitions.deleting.retain(|topic, _| !topics.contains(topic));
        work.emit_partitions(partitions);
        work.decision.replies.push(done);
        work.decision
    }

    /// All partitions of the groups become such whose state is being deleted. One that fails is asked for again by the
    /// next deletion of the group.
    pub(super) fn delete_share_state(&self, now: Timestamp, delete: &DescribeGroups) -> Decision {
        let mut decision = Decision::nothing();
        decision.atomic = false;
        let mut results = Vec::new();
        for id in delete.groups.iter().collect::<BTreeSet<_>>() {
            let group = match self.share_group_without_members(id) {
                Ok(group) => group,
                // Of another protocol, or nothing.
                Err(ShareOffsetsError::GroupNotFound(_)) => continue,
                Err(error) => {
                    results.push((id.clone(), Err(error)));
                    continue;
                }
            };
            let Some(known) = group.partitions.as_deref() else { continue };
            let all = self.all_share_state(known);
            let mut work = ShareWork::new(self, now, id, Cow::Borrowed(group));
            let deleting = all.iter().map(|(id, topic)| (*id, topic.name.clone())).collect();
            work.emit_partitions(SharePartitions { deleting, ..SharePartitions::default() });
            decision.records.append(&mut work.decision.records);
            decision.share_soft.append(&mut work.decision.share_soft);
            let plain: Target = all.into_iter().map(|(id, topic)| (id, topic.partitions)).collect();
            if !plain.is_empty() {
                results.push((id.clone(), Ok(plain)));
            }
        }
        decision.replies.push((delete.token, Reply::Share(ShareReply::DeleteState(results))));
        decision
    }

    /// With what an earlier deletion left.
    fn all_share_state(&self, known: &SharePartitions) -> BTreeMap<TopicId, TopicPartitions> {
        let mut all = known.all();
        let left = known.deleting.keys().filter_map(|id| {
            let topic = self.surroundings.topics.by_id(*id)?;
            let partitions = (0..topic.partition_count).collect();
            Some((*id, TopicPartitions { name: topic.name.as_str().into(), partitions }))
        });
        add(&mut all, &left.collect());
        all
    }

    fn share_group_without_members(&self, id: &GroupId) -> Result<&ShareGroup, ShareOffsetsError> {
        let group = self.share_group(id).map_err(|refused| ShareOffsetsError::GroupNotFound(refused.message))?;
        if group.members.is_empty() { Ok(group) } else { Err(ShareOffsetsError::NonEmpty) }
    }

    /// Topics are gone, and what share coordinators had of them: they see to that themselves.
    pub(in super::super) fn forget_share_topics(
        &self,
        id: &GroupId,
        group: &ShareGroup,
        topics: &Arc<[(TopicName, TopicId)]>,
        decision: &mut Decision,
    ) {
        let gone = topics.iter().map(|(_, id)| *id).collect();
        let mut partitions = match &group.partitions {
            Some(known) => SharePartitions::clone(known),
            None => return,
        };
        if partitions.forget(&gone) {
            let change = super::super::record::ShareChange::Partitions(Some(Arc::new(partitions)));
            decision.records.push(super::super::record::Record::Share { group: id.clone(), change });
        }
    }
}

impl ShareWork<'_> {
    fn alter_topic(
        &self,
        topic: &AlterShareTopic,
        asked: &mut BTreeMap<TopicId, BTreeMap<i32, Option<Offset>>>,
        begun: &mut BTreeMap<TopicId, TopicPartitions>,
    ) -> AlteredTopic {
        let Some(known) = self.topics().by_name(&topic.name) else {
            let partitions = topic.partitions.iter().map(|(index, _)| (*index, false)).collect();
            return AlteredTopic { name: topic.name.clone(), id: None, partitions };
        };
        let begun = begun
            .entry(known.id)
            .or_insert_with(|| TopicPartitions { name: topic.name.clone(), partitions: BTreeSet::new() });
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (index, start) in &topic.partitions {
            let is_there = (0..known.partition_count).contains(index);
            partitions.push((*index, is_there));
            if is_there {
                begun.partitions.insert(*index);
                asked.entry(known.id).or_default().insert(*index, Some(*start));
            }
        }
        AlteredTopic { name: topic.name.clone(), id: Some(known.id), partitions }
    }

    fn delete_topic(&self, name: &Arc<str>, partitions: &mut SharePartitions, result: &mut ShareOffsetsToDelete) {
        let Some(known) = self.topics().by_name(name) else { return result.nothing.push((name.clone(), true)) };
        let indexes: Vec<i32> = match partitions.initialized.remove(&known.id) {
            Some(topic) => {
                partitions.deleting.insert(known.id, name.clone());
                topic.partitions.into_iter().collect()
            }
            // An earlier deletion did not come to its end.
            None if partitions.deleting.contains_key(&known.id) => (0..known.partition_count).collect(),
            None => return result.nothing.push((name.clone(), false)),
        };
        result.topics.push(InitializedTopic { id: known.id, name: name.clone(), partitions: indexes });
    }
}
