//! Listeners and connections: from bytes on a socket to frames, and from replies back, in request order.
//!
//! Knows nothing of Kafka's messages but their length prefix; `api` does the rest.

mod accept;
mod bind;
mod config;
mod connection;
mod frame;
mod limits;
mod memory;
mod notices;
mod outgoing;
mod replies;
mod server;
mod socket;
#[cfg(test)]
mod tests;
mod tls;

pub use bind::{BindError, Bound, bind};
pub use config::NetConfig;
pub use limits::{ConnectionLimits, LimitsHandle};
pub use server::Server;
