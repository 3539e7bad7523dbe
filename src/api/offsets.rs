//! OffsetCommit (8), OffsetFetch (9), TxnOffsetCommit (28), OffsetDelete (47): how far groups have come.
//!
//! Which topics and partitions there are is checked here; what a group may do, and what it has committed, is its
//! coordinator's to say.

mod commit;
mod delete;
mod fetch;
mod transactional;

pub use commit::handle as handle_commit;
pub use delete::handle as handle_delete;
pub use fetch::handle as handle_fetch;
pub use transactional::handle as handle_transactional;

use kafka_protocol::error::ResponseError;

use super::find::Found;
use crate::protocol::TopicRef;

/// From what a client names to the topic that is there.
type Find<'a> = dyn Fn(&TopicRef) -> Result<Found, ResponseError> + Send + Sync + 'a;

#[cfg(test)]
mod tests;
