//! A member: what it said of itself, and which tasks it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::consumer::LEAVE_EPOCH;
use super::super::ids::{ClientHost, ClientId, InstanceId};
use super::tasks::HeldTasks;

/// What a member said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsSubscription {
    /// Nobody may have one in Kafka 4.3; records of later versions may.
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub rebalance_timeout_ms: i32,
    /// Of the topology that it runs.
    pub topology_epoch: i32,
    /// The process that it is a part of. Members of one process share their state on disk.
    pub process: Arc<str>,
    /// Where its application answers queries.
    pub endpoint: Option<Endpoint>,
    pub tags: Arc<ClientTags>,
}

pub type ClientTags = BTreeMap<Arc<str>, Arc<str>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Arc<str>,
    pub port: u16,
}

/// Which tasks a member has, and how far it is on the way to its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsCurrent {
    pub epoch: i32,
    /// It may not have heard of the newer one.
    pub previous_epoch: i32,
    pub state: StreamsMemberState,
    pub assigned: HeldTasks,
    /// It was told to give these up, and has not said that it did.
    pub revoking: HeldTasks,
}

/// How far a member is. The numbers are in records (`MemberState`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamsMemberState {
    #[default]
    Stable,
    /// It must give tasks up before it can go on.
    UnrevokedTasks,
    /// It has reached the epoch, but others still have tasks of its target.
    UnreleasedTasks,
    /// Of a later version of the protocol.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct StreamsMember {
    pub said: Arc<StreamsSubscription>,
    pub current: StreamsCurrent,
}

impl StreamsMember {
    /// One that is not there yet.
    pub fn nobody() -> Self {
        Self { said: Arc::new(StreamsSubscription::nobody()), current: StreamsCurrent::default() }
    }
}

impl StreamsSubscription {
    /// Of a member that is not there yet.
    pub fn nobody() -> Self {
        Self {
            instance: None,
            rack: None,
            client_id: ClientId::new("").expect("it is short"),
            client_host: ClientHost::new("").expect("it is short"),
            rebalance_timeout_ms: -1,
            topology_epoch: -1,
            process: Arc::from(""),
            endpoint: None,
            tags: Arc::default(),
        }
    }
}

impl StreamsCurrent {
    /// Of a member that has left: it has nothing.
    pub fn gone() -> Self {
        Self { epoch: LEAVE_EPOCH, previous_epoch: LEAVE_EPOCH, ..Self::default() }
    }

    pub fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == StreamsMemberState::Stable && self.epoch == target_epoch
    }
}

impl StreamsMemberState {
    pub fn to_wire(self) -> i8 {
        match self {
            Self::Stable => 1,
            Self::UnrevokedTasks => 2,
            Self::UnreleasedTasks => 3,
            Self::Unknown => 127,
        }
    }

    pub fn from_wire(state: i8) -> Self {
        match state {
            1 => Self::Stable,
            2 => Self::UnrevokedTasks,
            3 => Self::UnreleasedTasks,
            _ => Self::Unknown,
        }
    }
}
