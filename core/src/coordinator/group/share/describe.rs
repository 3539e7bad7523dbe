//! ShareGroupDescribe, and the way to what is decided of share groups.

use super::super::command::DescribeGroups;
use super::super::decision::Decision;
use super::super::reply::Reply;
use super::super::shard::Shard;
use super::command::{DescribedShareGroup, DescribedShareMember, ShareCommand, ShareReply};
use super::state::ShareGroup;
use crate::types::Timestamp;

impl Shard {
    pub(in super::super) fn decide_share(&self, now: Timestamp, command: &ShareCommand) -> Decision {
        match command {
            ShareCommand::Heartbeat(beat) => self.share_heartbeat(now, beat),
            ShareCommand::Describe(describe) => self.describe_share_groups(describe),
            ShareCommand::Initialized { group, topics } => self.shares_initialized(now, group, topics),
            ShareCommand::NotInitialized { group, topics } => self.shares_not_initialized(now, group, topics),
            ShareCommand::Partitions { token, group } => self.share_partitions(*token, group),
            ShareCommand::AlterOffsets(alter) => self.alter_share_offsets(now, alter),
            ShareCommand::DeleteOffsets(delete) => self.delete_share_offsets(now, delete),
            ShareCommand::OffsetsDeleted { token, group, topics } => {
                self.share_offsets_deleted(now, *token, group, topics)
            }
            ShareCommand::DeleteState(delete) => self.delete_share_state(now, delete),
        }
    }

    fn describe_share_groups(&self, describe: &DescribeGroups) -> Decision {
        let groups = describe.groups.iter().map(|id| {
            let share = self.groups.get(id).map(|group| group.share.as_deref());
            (id.clone(), share.map(|share| share.map(|group| self.describe_share_group(group))))
        });
        Decision::reply(describe.token, Reply::Share(ShareReply::Describe(groups.collect())))
    }

    fn describe_share_group(&self, group: &ShareGroup) -> DescribedShareGroup {
        let members = group.members.iter().map(|(id, member)| DescribedShareMember {
            member: id.clone(),
            said: member.said.clone(),
            epoch: member.current.epoch,
            assigned: self.describe_partitions(&member.current.assigned),
        });
        DescribedShareGroup {
            state: group.state(),
            epoch: group.epoch.epoch,
            target_epoch: group.target_epoch.epoch,
            members: members.collect(),
        }
    }
}
