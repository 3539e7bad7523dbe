//! Records of which the same is known.

use std::sync::Arc;

use super::partition::WriteId;
use crate::types::{Offset, Timestamp};

/// What has become of a record. The numbers are on the wire and on the disk (Kafka's `RecordState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    Available,
    /// Lent to a member until its lock ends. Never written: it is available to who takes over.
    Acquired,
    Acknowledged,
    /// Rejected, delivered too often, or gone from the log.
    Archived,
}

impl DeliveryState {
    pub fn number(self) -> i8 {
        match self {
            Self::Available => 0,
            Self::Acquired => 1,
            Self::Acknowledged => 2,
            Self::Archived => 4,
        }
    }

    /// `None` for a number that is no state.
    pub fn of_number(number: i8) -> Option<Self> {
        [Self::Available, Self::Acquired, Self::Acknowledged, Self::Archived]
            .into_iter()
            .find(|state| state.number() == number)
    }

    /// Never delivered again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }
}

/// Who has records, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub member: Arc<str>,
    pub until: Timestamp,
}

/// Consecutive offsets in one state. Its first offset is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Exclusive.
    pub end: Offset,
    pub state: DeliveryState,
    /// How often it was delivered.
    pub delivery_count: i16,
    /// Of who acquired it, also while the acknowledgement is being written.
    pub lock: Option<Lock>,
    /// The state is the new one, and counts when this write is done.
    pub writing: Option<WriteId>,
}

impl Run {
    pub fn is_acquirable(&self) -> bool {
        self.state == DeliveryState::Available && self.writing.is_none()
    }

    /// What no write can undo.
    pub fn is_done(&self) -> bool {
        self.state.is_terminal() && self.writing.is_none()
    }

    /// Where records go that are given back.
    pub fn released(&self, delivery_count_limit: i16) -> DeliveryState {
        if self.delivery_count >= delivery_count_limit { DeliveryState::Archived } else { DeliveryState::Available }
    }
}
