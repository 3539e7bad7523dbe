//! Coordinators as pure state machines: *decide* what a command means, then *apply* what was decided.
//!
//! A coordinator reads its state and answers a command with a decision: records for its partition of an internal
//! topic, replies, timers. Nothing changes until the decision is applied, which the caller does once the records
//! are appended; replies leave once the records are committed. No clocks, no fresh ids, no input or output here.

pub mod group;
pub mod ids;
#[cfg(test)]
mod scripts;
pub mod share_state;
pub mod timers;
pub mod txn;
pub mod undecided;
mod wire;

pub use wire::{DecodeError, EncodedRecord};
