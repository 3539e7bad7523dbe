//! Carries out raft's effects for one replica: writes the log, keeps what is proposed until it is written, and tells
//! which entries are committed. Knows raft's entries and the log's frames, nothing of Kafka's requests.

mod group;
mod recovery;

pub use group::{Flight, Group, Halted, Proposed, Work};
pub use recovery::{RecoverError, Recovered, create, recover};
