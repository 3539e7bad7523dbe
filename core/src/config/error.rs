//! What is wrong with a setting, in Kafka's words where clients show them to people.

/// Why a setting is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("Unknown topic config name: {0}")]
    UnknownTopicConfig(String),
    #[error("Unknown group config name: {0}")]
    UnknownGroupConfig(String),
    #[error("Unknown client metrics configuration: {0}")]
    UnknownClientMetricsConfig(String),
    #[error("Unknown config name: {0}")]
    UnknownBrokerConfig(String),
    /// A value of the wrong type or out of its range.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    InvalidValue { name: String, value: String, reason: String },
    #[error("Configuration '{name}' must not be empty. Valid values include: {allowed}")]
    EmptyList { name: String, allowed: String },
    #[error("Configuration '{name}' values must not be empty.")]
    EmptyItem { name: String },
    /// Two settings that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// A value of the setting `name` that is none by itself, or beside others.
    #[error("{text}")]
    OutOfBounds { name: String, text: String },
    /// A client metrics interval or pattern that nobody could follow.
    #[error("{0}")]
    ClientMetrics(String),
    /// Broker settings that cannot be changed while the broker runs.
    #[error("Cannot update these configs dynamically: [{}]", .0.join(", "))]
    NotDynamic(Vec<String>),
    #[error(
        "These security configs can be dynamically updated only per-listener using the listener prefix: [{}]",
        .0.join(", ")
    )]
    NeedsListenerPrefix(Vec<String>),
    #[error("Cannot update these configs at default cluster level, broker id must be specified: [{}]", .0.join(", "))]
    NotForAllBrokers(Vec<String>),
}
