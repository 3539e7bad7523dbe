//! Compatibility tests: unchanged clients and a raw client against the real binary. Each API of `docs/PROTOCOL.md` has
//! a test of its name here.

mod absent_members;
mod cli;
mod cli_group;
mod clients;
mod cluster;
mod configs;
mod consumers;
mod crash;
mod deposed;
mod failover;
mod fetch;
mod followers;
mod forming;
mod groups;
mod harness;
mod hostile;
mod leadership;
mod leaving;
mod limits;
mod list_offsets;
mod metadata;
mod network;
mod offsets;
mod power;
mod process;
mod produce;
mod reassign;
mod repair;
mod replication;
mod snapshots;
mod stderr;
mod storage;
mod throttles;
mod topics;
mod versions;
