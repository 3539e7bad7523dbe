//! Every setting of a broker, a topic, a group and a client metrics subscription: what it is called, what it may be,
//! and what is in force.
//!
//! The settings themselves are the tables in `tables/`, one line each, read at first use. Here is what follows from
//! them: checking a value ([`ConfigDef::parse`]), the value in force out of several layers ([`BrokerConfig`],
//! [`TopicConfig`]), and the answer to DescribeConfigs ([`describe`]). Reading files, flags and the environment is
//! not done here, nor is storing changes (`controller`).

mod broker;
mod change;
mod client_match;
mod definition;
pub mod describe;
mod error;
mod limits;
mod synonyms;
mod table;
mod throttled;
mod topic;
mod value;

pub use broker::{BrokerConfig, listener_key};
pub use change::{CONFIG_VALUE_LEN_MAX, check_broker_change, check_client_metrics, check_group, check_topic};
pub use client_match::{ClientAttribute, ClientMatches, client_matches};
pub use definition::{Allowed, ConfigDef, ConfigType, UpdateMode};
pub use error::ConfigError;
pub use synonyms::{Synonym, broker_synonyms, group_synonym, topic_synonyms};
pub use table::{
    BROKER_CONFIGS, CLIENT_METRICS_CONFIGS, GROUP_CONFIGS, TOPIC_CONFIGS, broker_config, broker_configs,
    client_metrics_config, group_config, topic_config,
};
pub use throttled::ThrottledReplicas;
pub use topic::{CleanupPolicy, CompressionTarget, TopicConfig};
pub use value::ConfigValue;

/// Settings as they were given: name to text. Sorted, so that everything computed from it is the same everywhere.
pub type ConfigMap = std::collections::BTreeMap<String, String>;

#[cfg(test)]
mod tests;
