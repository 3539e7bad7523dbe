//! What share coordinators keep of share groups that are to be deleted goes first.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::group::share::{ShareCommand, ShareOffsetsError, ShareReply};
use millstream_core::coordinator::group::{Command, DescribeGroups, GroupId, Reply};

use super::NO_TOKEN;
use crate::api::groups::answered;
use crate::api::{Context, errors};
use crate::coordinator::CoordinatorError;

/// Deletes the state of share groups among `groups`, all of one coordinator. Those that cannot be deleted, and why: their
/// groups are to stay, so that another deletion finds what is left.
pub async fn delete_states(
    context: &Context,
    groups: &[GroupId],
) -> Result<BTreeMap<GroupId, ResponseError>, CoordinatorError> {
    let Some(first) = groups.first() else { return Ok(BTreeMap::new()) };
    let delete = DescribeGroups { token: NO_TOKEN, groups: groups.to_vec() };
    let command = move |token| Command::Share(ShareCommand::DeleteState(DescribeGroups { token, ..delete }));
    let begun = match answered(context, context.groups.ask_for(first.as_str(), command).await).await? {
        Reply::Share(ShareReply::DeleteState(begun)) => begun,
        other => unreachable!("a deletion was answered with {other:?}"),
    };
    let mut refused = BTreeMap::new();
    for (group, state) in begun {
        let error = match state {
            Ok(state) => {
                let kept = context.share_keepers.delete(group.clone(), state).await;
                first_error(kept.as_ref())
            }
            Err(error) => Some(of(&error)),
        };
        if let Some(error) = error {
            refused.insert(group, error);
        }
    }
    Ok(refused)
}

fn of(error: &ShareOffsetsError) -> ResponseError {
    errors::of_share_offsets(error).0
}

fn first_error(kept: Option<&crate::coordinator::KeptPartitions>) -> Option<ResponseError> {
    match kept {
        None => Some(ResponseError::CoordinatorNotAvailable),
        Some(kept) => kept.iter().flat_map(|(_, of)| of).find_map(|(_, code)| ResponseError::try_from_code(*code)),
    }
}
