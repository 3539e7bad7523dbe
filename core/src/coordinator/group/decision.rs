//! What a command leads to.

use super::command::{Command, Effect, TimerChange, TimerKey};
use super::consumer::{SoftChange, Surroundings};
use super::ids::{GroupId, ReplyToken};
use super::pending::PendingChanges;
use super::record::Record;
use super::reply::Reply;
use super::share::ShareSoft;
use super::state::ClassicGroup;
use super::streams::StreamsSoft;

/// Decided and not yet done. Append `records`, then apply the decision, then set the timers; let the replies go when
/// everything that was appended so far is committed. If the append fails nothing has happened, and the command's
/// own token is to be answered.
#[derive(Debug)]
#[must_use]
pub struct Decision {
    /// In order.
    pub records: Vec<Record>,
    /// The records are one batch. Otherwise they may be cut into several, and any first part of them makes sense.
    pub atomic: bool,
    pub replies: Vec<(ReplyToken, Reply)>,
    pub timers: Vec<TimerChange>,
    /// The work was cut short to bound its size: this command, put after applying, goes on with it.
    pub again: Option<Command>,
    /// The volatile part of groups, as it is to be.
    pub(super) drafts: Vec<Drafted>,
    /// The same of consumer groups.
    pub(super) soft: Vec<(GroupId, SoftChange)>,
    /// And of share groups.
    pub(super) share_soft: Vec<(GroupId, ShareSoft)>,
    /// And of streams groups.
    pub(super) streams_soft: Vec<(GroupId, StreamsSoft)>,
    pub(super) surroundings: Option<Surroundings>,
    /// Once the records are committed.
    pub effects: Vec<Effect>,
}

#[derive(Debug)]
pub(super) struct Drafted {
    pub group: GroupId,
    pub classic: ClassicGroup,
    pub pending: PendingChanges,
}

impl Decision {
    pub(super) fn nothing() -> Self {
        Self {
            records: Vec::new(),
            atomic: true,
            replies: Vec::new(),
            timers: Vec::new(),
            again: None,
            drafts: Vec::new(),
            soft: Vec::new(),
            share_soft: Vec::new(),
            streams_soft: Vec::new(),
            surroundings: None,
            effects: Vec::new(),
        }
    }

    pub(super) fn reply(token: ReplyToken, reply: Reply) -> Self {
        let mut decision = Self::nothing();
        decision.replies.push((token, reply));
        decision
    }

    /// A delay of nothing or less, which clients may ask for, is a millisecond: a timer that sets itself again is not
    /// due again at once.
    pub(super) fn set_timer(&mut self, key: TimerKey, after_ms: i32) {
        self.timers.push(TimerChange::Set { key, after_ms: u64::try_from(after_ms).unwrap_or(0).max(1) });
    }

    pub(super) fn cancel_timer(&mut self, key: TimerKey) {
        self.timers.push(TimerChange::Cancel(key));
    }
}
