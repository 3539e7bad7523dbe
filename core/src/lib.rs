//! The rules of the broker: what becomes of a batch, when a rebalance ends, how far the high watermark may move.
//!
//! No sockets, files, tasks, clocks or random numbers: the caller passes them in.

pub mod client_metrics;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod fetch;
pub mod forming;
pub mod partition;
pub mod record;
pub mod replica;
pub mod security;
pub mod share;
pub mod types;
