//! Fetch sessions (KIP-227): what a client need not repeat, and what a response may leave out.

mod cache;
mod session;

pub use cache::{Opened, SessionCache, SessionError, SessionRequest};
pub use session::{Answer, Ask, AskKey, Session, TopicKey};
