//! `rpc.listener`, `rpc.advertised` and `seeds`: how the nodes of a cluster find each other.

use millstream_core::config::BrokerConfig;

use super::HostPort;
use super::keys;

/// Where this node is for the others, and where the others are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcSettings {
    pub listener: HostPort,
    /// What the others are told. Port 0 stands for the port that was bound.
    pub advertised: HostPort,
    /// The nodes that form the cluster, in the order that all of them agree on. Empty: this node alone.
    pub seeds: Vec<HostPort>,
}

impl RpcSettings {
    /// `None`: neither an address nor seeds were given. `host_name` stands in for an advertised address that nobody
    /// gave when the listener binds to every address. An error names the key, its value and what is allowed.
    pub(super) fn of(
        broker: &BrokerConfig,
        host_name: &str,
    ) -> Result<Option<Self>, (&'static str, String, &'static str)> {
        let seeds = broker.list(keys::SEEDS);
        if !broker.is_set(keys::RPC) && seeds.is_empty() {
            return Ok(None);
        }
        let parse = |key, text: &str| HostPort::parse(text).ok_or((key, text.to_owned(), "HOST:PORT"));
        let listener = parse(keys::RPC, broker.text(keys::RPC).unwrap_or_default())?;
        let advertised = match broker.text(keys::RPC_ADVERTISED) {
            Some(text) => parse(keys::RPC_ADVERTISED, text)?,
            None => match listener.host.as_str() {
                "" | "0.0.0.0" | "::" => HostPort { host: host_name.to_owned(), port: listener.port },
                _ => listener.clone(),
            },
        };
        if matches!(advertised.host.as_str(), "" | "0.0.0.0" | "::") {
            return Err((keys::RPC_ADVERTISED, advertised.to_string(), "an address that other nodes can connect to"));
        }
        let seeds = seeds.iter().map(|seed| parse(keys::SEEDS, seed)).collect::<Result<_, _>>()?;
        Ok(Some(Self { listener, advertised, seeds }))
    }
}
