//! Why a start ends before it began. One line: the key, the value, what is allowed.

use std::path::PathBuf;

use super::Source;

/// A configuration that is not carried out. Ends the start with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{key}={value}: not allowed, must be {allowed} ({source_of})")]
    BadValue { key: String, value: String, allowed: String, source_of: Source },
    #[error("{key}: unknown key{} ({source_of})", did_you_mean(*.suggestion))]
    UnknownKey { key: String, source_of: Source, suggestion: Option<&'static str> },
    #[error("--set {given}: must be KEY=VALUE")]
    BadSet { given: String },
    /// What settings of brokers should never be refused for at a start, in core's words.
    #[error("{0}")]
    Conflict(#[from] millstream_core::config::ConfigError),
    /// Allowed by itself, but not beside others.
    #[error("{key}={value}: {text} ({source_of})")]
    OutOfBounds { key: String, value: String, text: String, source_of: Source },
    #[error("{path}: {text}", path = path.display())]
    File { path: PathBuf, text: String },
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|s| format!(", did you mean {s}?")).unwrap_or_default()
}
