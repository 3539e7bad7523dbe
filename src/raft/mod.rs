//! Carries out raft's effects for one replica: writes the log, keeps what is proposed until it is written, and tells
//! which entries are committed. Knows raft's entries and the log's frames, nothing of Kafka's requests.

mod anew;
mod group;
mod install;
mod outgoing;
mod payloads;
mod recovery;
mod work;

pub use anew::{begin_anew, hold, others_decide, recover_or_begin_anew};
pub use group::Group;
pub use install::{Replacement, finish_install, put_replacement};
pub use outgoing::Outgoing;
pub use recovery::{Member, RecoverError, Recovered, create, entry_of, recover};
pub use work::{Halted, NeededSnapshot, Proposed, Taken, Work};
