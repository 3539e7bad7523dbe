//! A share group's view of one partition (KIP-932): which records are available, acquired by whom, and done with.
//!
//! As Kafka's `SharePartition` and `InFlightState` (4.3) decide. Kafka keeps a state for a fetched batch and splits it into
//! one for each record where they differ; here a [`Run`](run::Run) is as long as its records are alike, and is split where
//! they are not. Changes that must outlive the node are [`StateWrite`]s for the share coordinator: acknowledgements
//! count once that is done. Acquisitions are not written: who takes over counts a delivery less.

mod aborted;
mod acknowledge;
mod acquire;
mod partition;
mod run;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod writes;

pub use acknowledge::{AckType, AcknowledgeError, Acknowledgement};
pub use acquire::{Acquire, AcquireMode, Acquired, FetchedBatch};
pub use partition::{InvalidState, ShareLimits, SharePartition, StateBatch, StateWrite, WriteId};
pub use run::DeliveryState;
pub use session::{Left, Open, Opened, SessionKey, ShareSessionError, ShareSessions};
pub use settings::{OffsetReset, ShareSettings};
pub use writes::WriteQueue;
