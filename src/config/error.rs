//! Why a start ends before it began. One line: the key, the value, what is allowed.

use std::path::PathBuf;

use super::Source;

/// A configuration that is not carried out. Ends the start with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{key}={value}: not allowed, must be {allowed} ({source_of})")]
    BadValue { key: String, value: String, allowed: String, source_of: Source },
    #[error("{key}: unknown key ({source_of}){}", did_you_mean(.suggestion.as_deref()))]
    UnknownKey { key: String, source_of: Source, suggestion: Option<String> },
    #[error("--set {given}: must be KEY=VALUE")]
    BadSet { given: String },
    #[error("{key}={value} contradicts {other}={other_value}: give one of them")]
    Contradiction { key: String, value: String, other: String, other_value: String },
    #[error("{key}={value}: {text}")]
    NotServed { key: String, value: String, text: String },
    #[error("{path}: {text}", path = path.display())]
    File { path: PathBuf, text: String },
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|s| format!("; did you mean {s}?")).unwrap_or_default()
}
