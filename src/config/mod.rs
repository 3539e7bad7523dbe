//! The settings of this node: read from flags, environment and file, merged and checked before anything starts.
//!
//! Keys are Kafka's own wherever Kafka has the setting; This module merges and
//! checks; what a setting means is known by the part that it tunes.

mod directory;
mod error;
mod listeners;
mod properties;
mod yaml;

pub use directory::{DataDirectory, DirectoryError};
pub use error::ConfigError;
pub use listeners::{HostPort, Listener, SecurityProtocol};

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use millstream_core::types::NodeId;

use crate::telemetry::LoggingConfig;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Flag(String),
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
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
        }
    }
}

/// One key that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub value: String,
    pub source: Source,
}

/// The merged and checked settings of this node. Values that nobody set are the defaults of the key's definition.
#[derive(Clone, Debug)]
pub struct Config {
    /// What was set, by key. Every key is known and every value was accepted by its definition.
    settings: BTreeMap<String, Setting>,
    pub node_id: NodeId,
    pub data_dir: PathBuf,
    /// At least one.
    pub listeners: Vec<Listener>,
    pub admin: HostPort,
    pub logging: LoggingConfig,
    /// What an operator should hear once the log is set up: keys without effect, unknown keys of a properties file.
    pub warnings: Vec<String>,
}

impl Config {
    /// What was set, by key: the static broker configuration as DescribeConfigs shows it.
    pub fn settings(&self) -> &BTreeMap<String, Setting> {
        &self.settings
    }

    /// The value of a key, set or default; `None` where neither is there.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.settings.get(key) {
            Some(setting) => Some(&setting.value),
            None => None,
        }
    }

    /// A number.
    ///
    /// # Panics
    /// When the key is not defined as a number with a default: a mistake in the program, not in a file.
    pub fn int(&self, key: &str) -> i64 {
        let text = self.text(key).unwrap_or_else(|| panic!("{key} has no default"));
        text.trim().parse().unwrap_or_else(|_| panic!("{key} was checked to be a number: {text}"))
    }

    /// A number below zero is `None` (Kafka's "no limit"), and so is a key without a value.
    pub fn limit(&self, key: &str) -> Option<u64> {
        self.text(key).and_then(|text| text.trim().parse().ok())
    }

    /// `true` or `false`, in any case as Kafka takes it.
    pub fn flag(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
    }

    /// A list by commas, trimmed, without empty items.
    pub fn list(&self, key: &str) -> Vec<&str> {
        let text = self.text(key).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
    }
}
