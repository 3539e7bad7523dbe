//! The settings of this node: read from flags, environment and file, merged and checked before anything starts.
//!
//! Which settings there are, what they may be and their defaults is core's (`millstream_core::config`); what a setting
//! means is known by the part that it tunes. Here they are only found and put together.

mod access;
mod directory;
mod error;
mod first_users;
mod keys;
mod listeners;
mod load;
mod properties;
mod rpc;
mod sasl;
mod yaml;

pub use access::AccessRules;
pub use directory::{DataDirectory, DirectoryError, Meta, base64, from_base64};
pub use error::ConfigError;
pub use first_users::FirstUsers;
pub use listeners::{HostPort, Listener, SecurityProtocol};
pub use load::{Flags, load};
pub use properties::{Property, parse as parse_properties};
pub use rpc::RpcSettings;
pub use sasl::{Mechanism, SaslListener, SaslListeners};

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use millstream_core::config::BrokerConfig;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    Flag(&'static str),
    /// The environment variable.
    Environment(String),
    /// The file, with the line where the format tells it.
    File {
        path: PathBuf,
        line: Option<usize>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
        }
    }
}

/// The merged and checked settings of this node.
#[derive(Clone, Debug)]
pub struct Config {
    /// All settings, typed, with their defaults: the static layer, to which dynamic ones may be added.
    pub broker: BrokerConfig,
    /// Where each setting that was given comes from.
    pub sources: BTreeMap<String, Source>,
    pub data_dir: PathBuf,
    /// At least one.
    pub listeners: Vec<Listener>,
    pub first_users: FirstUsers,
    /// Of the listeners that ask for a login.
    pub sasl: SaslListeners,
    /// `None`: everybody may do everything.
    pub access: Option<AccessRules>,
    pub admin: HostPort,
    /// `None`: no other node can reach this one, and it is a cluster of its own.
    pub rpc: Option<RpcSettings>,
    /// What an operator should hear once the log is set up: settings without effect, unknown settings of a
    /// properties file.
    pub warnings: Vec<String>,
}

impl Config {
    /// Names of the listeners that speak TLS.
    pub fn tls_listeners(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().filter(|listener| listener.protocol.is_tls()).map(|listener| listener.name.as_str())
    }

    /// The error for a value that only the part it tunes could judge.
    pub fn bad_value(&self, key: &str, allowed: &str) -> ConfigError {
        let value = self.broker.raw(key).unwrap_or_default();
        let shown = if keys::is_secret(key) { "[hidden]".to_owned() } else { format!("{value:?}") };
        ConfigError::BadValue {
            key: key.to_owned(),
            value: shown,
            allowed: allowed.to_owned(),
            source_of: self.sources.get(key).cloned().unwrap_or(Source::Default),
        }
    }
}

#[cfg(test)]
mod tests;
