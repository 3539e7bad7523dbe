//! What a connection knows about its client, for handlers to read.

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_core::types::NodeId;

use super::sasl::Login;
use crate::config::Listener;
use crate::share;
use crate::telemetry::ClientConnection;

/// State of one connection. Handlers of one connection run one after the other, so each may change it.
pub struct Session {
    /// Unique in the life of the process.
    pub connection_id: u64,
    /// The listener it came in by: Metadata answers with that listener's advertised addresses.
    pub listener: Arc<Listener>,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// Client id of the latest request; empty when it sent none.
    pub client_id: String,
    /// What ApiVersions (v3 and up) told.
    pub software: Option<ClientSoftware>,
    /// Who it is, as Kafka writes it (`User:ANONYMOUS` without authentication).
    pub principal: Arc<str>,
    /// Where it is on its way in.
    pub login: Login,
    /// The client is a node of this cluster, which asks in its own name and may do everything.
    pub is_node: bool,
    /// The client is this other node's, which sent its request here because this one decides.
    pub forwarded_by: Option<NodeId>,
    /// Its share sessions, once it has opened one.
    pub shares: Option<share::Connection>,
    /// Once its client has asked which metrics to push.
    pub telemetry: Option<ClientConnection>,
}

/// Name and version of a client library (KIP-511), checked to hold `[a-zA-Z0-9.-]` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSoftware {
    pub name: String,
    pub version: String,
}

impl Session {
    pub fn new(connection_id: u64, listener: Arc<Listener>, local: SocketAddr, peer: SocketAddr) -> Self {
        let login = if listener.protocol.is_sasl() { Login::Awaited } else { Login::NotAsked };
        Self {
            connection_id,
            listener,
            local,
            peer,
            client_id: String::new(),
            software: None,
            principal: "User:ANONYMOUS".into(),
            login,
            is_node: false,
            forwarded_by: None,
            shares: None,
            telemetry: None,
        }
    }

    pub fn is_forwarded(&self) -> bool {
        self.forwarded_by.is_some()
    }
}
