//! ShareFetch (78) and ShareAcknowledge (79): records are lent to members of share groups, and given back (KIP-932).

mod acknowledge;
mod fetch;

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::share::SessionKey;

use super::{Context, Session};
use crate::protocol::StrBytes;

pub use acknowledge::handle as handle_acknowledge;
pub use fetch::handle as handle_fetch;

/// The feature that switches share groups on.
const SHARE_VERSION: &str = "share.version";
/// UTF-16 units of a member id: those of a UUID in its long form.
const MEMBER_ID_LEN_MAX: usize = 36;
/// From this version on there are acquire modes and renewals.
const RENEW_FROM: i16 = 2;

/// Whose session a request is about; what is wrong with the request else.
fn session_key(
    context: &Context,
    group: Option<&StrBytes>,
    member: Option<&StrBytes>,
) -> Result<SessionKey, ResponseError> {
    if !context.controller.look(|now| now.image.feature(SHARE_VERSION) > 0) {
        return Err(ResponseError::UnsupportedVersion);
    }
    let group = group.ok_or(ResponseError::InvalidRequest)?;
    let member = member.filter(|member| (1..=MEMBER_ID_LEN_MAX).contains(&member.encode_utf16().count()));
    let member = member.ok_or(ResponseError::InvalidRequest)?;
    Ok(SessionKey { group: group.as_str().into(), member: member.as_str().into() })
}

/// When the connection is gone its share sessions go, too.
fn keep_with(context: &Arc<Context>, session: &mut Session) {
    let number = session.connection_id;
    session.shares.get_or_insert_with(|| context.shares.connection(number));
}
