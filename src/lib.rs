//! Millstream: a broker that speaks the Kafka wire protocol. The binary is a thin shell over this library.

pub mod log;
pub mod partition;
pub mod protocol;
pub mod raft;
pub mod store;
