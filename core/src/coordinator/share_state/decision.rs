//! What a command leads to.

use super::command::{Command, Reply};
use super::record::encode;
use super::state::{ShareState, ShareStateKey};
use crate::coordinator::EncodedRecord;
use crate::coordinator::ids::ReplyToken;

/// Decided and not yet done. Append the records, then apply the decision; let replies go when everything that was
/// appended so far is committed. If the append fails nothing has happened.
#[derive(Debug, Default)]
#[must_use]
pub struct Decision {
    /// In order. `None`: forgotten.
    pub(super) changes: Vec<(ShareStateKey, Option<ShareState>)>,
    pub(super) replies: Vec<(ReplyToken, Reply)>,
    pub(super) again: Option<Command>,
}

/// What remains to be done once a decision is applied.
#[derive(Debug)]
#[must_use]
pub struct Applied {
    pub replies: Vec<(ReplyToken, Reply)>,
    /// The work was cut short to bound its size: this command goes on with it.
    pub again: Option<Command>,
}

impl Decision {
    pub(super) fn reply(token: ReplyToken, reply: Reply) -> Self {
        Self { replies: vec![(token, reply)], ..Self::default() }
    }

    pub(super) fn with(mut self, key: ShareStateKey, to: Option<ShareState>) -> Self {
        self.changes.push((key, to));
        self
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = EncodedRecord> {
        self.changes.iter().map(|(key, to)| encode(key, to.as_ref()))
    }

    /// Records of many keys do not belong together.
    pub fn is_atomic(&self) -> bool {
        self.changes.len() == 1
    }
}
