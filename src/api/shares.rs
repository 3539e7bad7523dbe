//! ShareFetch (78) and ShareAcknowledge (79): records are lent to members of share groups, and given back (KIP-932).

mod acknowledge;
mod fetch;

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::security::Operation;
use millstream_core::share::SessionKey;

use super::share_groups::{is_enabled, is_member_id};
use super::{Access, Context, Resource, Session};
use crate::protocol::StrBytes;

pub use acknowledge::handle as handle_acknowledge;
pub use fetch::handle as handle_fetch;

/// From this version on there are acquire modes and renewals.
const RENEW_FROM: i16 = 2;

/// Whose session a request is about; what is wrong with the request else.
fn session_key(
    context: &Context,
    access: &Access,
    group: Option<&StrBytes>,
    member: Option<&StrBytes>,
) -> Result<SessionKey, ResponseError> {
    if !is_enabled(context) {
        return Err(ResponseError::UnsupportedVersion);
    }
    let group = group.ok_or(ResponseError::InvalidRequest)?;
    access.check(Operation::Read, Resource::Group(group))?;
    let member = member.filter(|member| is_member_id(member));
    let member = member.ok_or(ResponseError::InvalidRequest)?;
    Ok(SessionKey { group: group.as_str().into(), member: member.as_str().into() })
}

/// When the connection is gone its share sessions go, too.
fn keep_with(context: &Arc<Context>, session: &mut Session) {
    let number = session.connection_id;
    session.shares.get_or_insert_with(|| context.shares.connection(number));
}
