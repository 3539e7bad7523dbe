//! Names and numbers of the group protocol.

use std::fmt;

use crate::coordinator::ids::text;
pub use crate::coordinator::ids::{ReplyToken, TEXT_LEN_MAX, TextTooLong};

text!(
    /// A group's name. Empty is legal for consumers that only commit offsets.
    GroupId
);
text!(
    /// A member's id, given by the coordinator. Where it may lack, "no id yet" is `None`; an empty one is nobody's.
    MemberId
);
text!(
    /// A static member's name (`group.instance.id`, KIP-345), given by its operator.
    InstanceId
);
text!(
    /// What kind of group: `consumer`, `connect`, ... A stored empty text is `None`.
    ProtocolType
);
text!(
    /// One way to assign that a member supports: `range`, `cooperative-sticky`, ...
    ProtocolName
);
text!(
    /// The client's name for itself, from the request header.
    ClientId
);
text!(
    /// Where the client connects from, as Kafka prints it: `/127.0.0.1`.
    ClientHost
);

impl ProtocolType {
    /// Kafka's consumers (`ConsumerProtocol.PROTOCOL_TYPE`): their subscriptions can be read.
    pub const CONSUMER: &'static str = "consumer";
    /// Members of share groups (`ShareGroup.PROTOCOL_TYPE`).
    pub const SHARE: &'static str = "share";
    /// Members of streams groups (`StreamsGroup.PROTOCOL_TYPE`).
    pub const STREAMS: &'static str = "streams";

    pub fn is_consumer(&self) -> bool {
        self.as_str() == Self::CONSUMER
    }
}

/// A group's generation: 0 before the first rebalance, then one more with each. -1 on the wire is "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Generation(pub i32);

impl Generation {
    /// After `i32::MAX` comes 0: a negative generation would read as "none".
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(0))
    }

    /// False for the -1 of those who are no members.
    pub fn is_given(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
