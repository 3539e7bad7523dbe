//! Millstream: a broker that speaks the Kafka wire protocol. The binary is a thin shell over this library.

pub mod admin;
pub mod api;
pub mod cli;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod log;
pub mod net;
pub mod partition;
pub mod protocol;
pub mod raft;
pub mod rpc;
pub mod share;
pub mod startup;
pub mod store;
pub mod telemetry;
pub mod tls;
