//! Whether settings may be as someone wants them to be: all of one topic's, group's, subscription's, or broker's.

use super::synonyms::of_one_listener;
use super::{
    BrokerConfig, ConfigError, ConfigMap, ConfigValue, TopicConfig, UpdateMode, broker_config, client_matches,
    client_metrics_config, group_config, limits, topic_config,
};

/// Longest value that is stored, in bytes (Kafka: the protocol's short strings).
pub const CONFIG_VALUE_LEN_MAX: usize = i16::MAX as usize;

/// All settings of one topic (Kafka `LogConfig.validate`).
pub fn check_topic(wanted: &ConfigMap, broker: &BrokerConfig) -> Result<(), ConfigError> {
    for name in wanted.keys() {
        topic_config(name).ok_or_else(|| ConfigError::UnknownTopicConfig(name.clone()))?;
    }
    for (name, text) in wanted {
        if let Some(def) = topic_config(name) {
            def.validate(text)?;
        }
    }
    let config = TopicConfig::resolve(wanted, broker);
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
        return Err(ConfigError::Conflict(format!(
            "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
            config.min_compaction_lag_ms, config.max_compaction_lag_ms
        )));
    }
    if wanted.get("remote.storage.enable").is_some_and(|text| text.trim().eq_ignore_ascii_case("true")) {
        return Err(ConfigError::Conflict(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
             storage."
                .to_owned(),
        ));
    }
    Ok(())
}

/// All settings of one group (Kafka `GroupConfig.validate`).
pub fn check_group(wanted: &ConfigMap, broker: &BrokerConfig) -> Result<(), ConfigError> {
    for name in wanted.keys() {
        group_config(name).ok_or_else(|| ConfigError::UnknownGroupConfig(name.clone()))?;
    }
    for (name, text) in wanted {
        if let Some(def) = group_config(name) {
            def.validate(text)?;
        }
    }
    let value = |name: &str| match group_config(name).zip(wanted.get(name)).map(|(def, text)| def.parse(text)) {
        Some(Ok(ConfigValue::Int(value))) => i64::from(value),
        _ => broker.integer(&format!("group.{name}")),
    };
    limits::check_group_bounds("", value, broker)
}

/// All settings of one client metrics subscription (Kafka `ClientMetricsConfigs.validate`).
pub fn check_client_metrics(wanted: &ConfigMap) -> Result<(), ConfigError> {
    for name in wanted.keys() {
        client_metrics_config(name).ok_or_else(|| ConfigError::UnknownClientMetricsConfig(name.clone()))?;
    }
    for (name, text) in wanted {
        let Some(def) = client_metrics_config(name) else { continue };
        match def.parse(text)? {
            ConfigValue::Int(interval) if !(100..=3_600_000).contains(&interval) => {
                return Err(ConfigError::ClientMetrics(format!(
                    "Invalid value {interval} for {name}, interval must be between 100 and 3600000 (1 hour)"
                )));
            }
            ConfigValue::List(items) => check_client_metrics_list(name, &items)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_client_metrics_list(name: &str, items: &[String]) -> Result<(), ConfigError> {
    if items.iter().any(String::is_empty) {
        return Err(ConfigError::EmptyItem { name: name.to_owned() });
    }
    match client_matches(items) {
        Err(bad) if name == "match" => Err(ConfigError::Conflict(format!("Illegal client matching pattern: {bad}"))),
        _ => Ok(()),
    }
}

/// TLS material: changed for one listener, never for all of them (Kafka `SslConfigs.RECONFIGURABLE_CONFIGS`).
const PER_LISTENER: &[&str] = &[
    "ssl.keystore.type",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.key.password",
    "ssl.truststore.type",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.truststore.certificates",
];

/// Settings of one listener that may be set for all brokers (Kafka `CLUSTER_LEVEL_LISTENER_CONFIGS`).
const PER_LISTENER_OF_ALL_BROKERS: &[&str] =
    &["max.connections", "max.connection.creation.rate", "num.network.threads"];

/// All settings that are changed while the broker runs, for it alone (`of_one`) or for all brokers (Kafka
/// `DynamicBrokerConfig.validate`).
///
/// Kafka also takes names it does not know, for its plugins. Here nobody would read them: they are refused.
pub fn check_broker_change(wanted: &ConfigMap, of_one: bool, broker: &BrokerConfig) -> Result<(), ConfigError> {
    let names = |is_bad: &dyn Fn(&str) -> bool| -> Option<Vec<String>> {
        let bad: Vec<String> = wanted.keys().filter(|name| is_bad(name)).cloned().collect();
        (!bad.is_empty()).then_some(bad)
    };
    if let Some(fixed) = names(&|name| broker_config(name).is_some_and(|def| def.update == UpdateMode::Fixed)) {
        return Err(ConfigError::NotDynamic(fixed));
    }
    if let Some(bare) = names(&|name| PER_LISTENER.contains(&name)) {
        return Err(ConfigError::NeedsListenerPrefix(bare));
    }
    for (name, text) in wanted {
        let def = broker_config(name).or_else(|| broker_config(of_one_listener(name)?));
        def.ok_or_else(|| ConfigError::UnknownBrokerConfig(name.clone()))?.validate(text)?;
    }
    let of_one_only = |name: &str| match of_one_listener(name) {
        Some(base) => !PER_LISTENER_OF_ALL_BROKERS.contains(&base),
        None => broker_config(name).is_some_and(|def| def.update == UpdateMode::Broker),
    };
    if !of_one && let Some(bad) = names(&of_one_only) {
        return Err(ConfigError::NotForAllBrokers(bad));
    }
    for (name, text) in wanted {
        let base = of_one_listener(name).unwrap_or(name);
        if ["max.connections", "max.connection.creation.rate"].contains(&base) && text.trim() == "0" {
            return Err(ConfigError::Conflict(format!("Invalid {base} {text}")));
        }
    }
    let changed = match of_one {
        true => broker.with_dynamic(&broker.for_all, wanted),
        false => broker.with_dynamic(wanted, &broker.for_this),
    };
    limits::check_broker(&changed)
}
