//! A member: what it said of itself, and what it has.

use std::sync::Arc;

use super::super::consumer::{Target, TopicNames};
use super::super::ids::{ClientHost, ClientId};

/// What a member said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSubscription {
    pub rack: Option<Arc<str>>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub topics: Arc<TopicNames>,
}

impl ShareSubscription {
    /// Of a member that is not there yet.
    pub(super) fn nobody() -> Self {
        Self {
            rack: None,
            client_id: ClientId::new("").expect("it is short"),
            client_host: ClientHost::new("").expect("it is short"),
            topics: Arc::default(),
        }
    }
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareCurrent {
    pub epoch: i32,
    /// It may not have heard of the newer one.
    pub previous_epoch: i32,
    pub assigned: Target,
}

impl ShareCurrent {
    /// Of a member that has left: it has nothing.
    pub(super) fn gone() -> Self {
        let left = super::super::consumer::LEAVE_EPOCH;
        Self { epoch: left, previous_epoch: left, assigned: Target::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ShareMember {
    pub said: Arc<ShareSubscription>,
    pub current: ShareCurrent,
}
