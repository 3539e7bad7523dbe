//! What frames between nodes carry. The numbers are the wire's: explicit, and never used again for anything else.

/// The first frame of a connection, from the node that dialled.
pub const HELLO: u8 = 1;
/// The answer to it.
pub const HELLO_REPLY: u8 = 2;
/// The sender lives. Body: its boot id.
pub const HEARTBEAT: u8 = 3;
/// The answer to a call.
pub const CALL_REPLY: u8 = 4;
/// A question; names the kind that is asked.
pub const CALL: u8 = 5;

/// Messages of raft groups.
pub const RAFT: u8 = 10;
/// Who leads what.
pub const LEADERS: u8 = 11;
/// Which groups sleep.
pub const SLEEP: u8 = 12;

/// Forming a cluster.
pub const FORM: u8 = 20;
/// A node asks to be taken in, or tells where it is now.
pub const REGISTER: u8 = 21;
/// A request that only the leader of the metadata can carry out.
pub const FORWARD: u8 = 22;
/// State of a replica, in pieces.
pub const SNAPSHOT: u8 = 30;

/// Version of the bodies of a kind that this node writes.
pub(super) const VERSION: u8 = 1;

/// What may be asked on a connection between nodes that are not of one cluster yet.
pub(super) fn is_for_strangers(kind: u8) -> bool {
    matches!(kind, FORM | REGISTER)
}
