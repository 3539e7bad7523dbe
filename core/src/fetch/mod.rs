//! Fetch sessions (KIP-227): what a client need not repeat, and what a response may leave out. And which replica a
//! consumer shall read from (KIP-392).

mod cache;
mod nearby;
mod session;

pub use cache::{Opened, SessionCache, SessionError, SessionRequest};
pub use nearby::{NearbyReplica, Readable, ReplicaSelector, nearest};
pub use session::{Answer, Ask, AskKey, Session, TopicKey};
