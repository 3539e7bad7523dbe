//! What DescribeConfigs and CreateTopics tell of settings: value, where it comes from, and by which names it could be
//! given (Kafka `ConfigHelper`).

use super::synonyms::of_one_listener;
use super::topic::effective;
use super::{
    BROKER_CONFIGS, BrokerConfig, CLIENT_METRICS_CONFIGS, ConfigDef, ConfigMap, ConfigType, GROUP_CONFIGS,
    TOPIC_CONFIGS, UpdateMode, broker_config, broker_synonyms, group_synonym, topic_synonyms,
};

/// Where a value comes from. The numbers are those of DescribeConfigs (`DescribeConfigsResponse.ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    ClientMetrics = 7,
    Group = 8,
}

impl ConfigSource {
    pub fn to_wire(self) -> i8 {
        self as i8
    }
}

/// A value that is set, or is the default, by one of the names that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynonymValue {
    pub name: String,
    /// `None`: it is a secret.
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// One setting, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None`: there is none, or it is a secret.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub kind: ConfigType,
    pub read_only: bool,
    pub sensitive: bool,
    /// The one in force first. Empty for defaults that no broker setting stands behind.
    pub synonyms: Vec<SynonymValue>,
    /// Empty when nobody knows the setting.
    pub documentation: String,
}

impl ConfigEntry {
    fn new(def: &ConfigDef, value: Option<String>, default_source: ConfigSource, synonyms: Vec<SynonymValue>) -> Self {
        let documentation = match def.used {
            true => def.documentation.to_owned(),
            false => format!("{} (It is kept, and has no effect here.)", def.documentation),
        };
        Self {
            name: def.name.to_owned(),
            value: value.filter(|_| !def.is_sensitive()),
            source: synonyms.first().map_or(default_source, |synonym| synonym.source),
            kind: def.kind,
            read_only: def.update == UpdateMode::Fixed,
            sensitive: def.is_sensitive(),
            synonyms,
            documentation,
        }
    }
}

/// The settings of a topic with these of its own.
pub fn topic(own: &ConfigMap, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let shown = TOPIC_CONFIGS.iter().filter(|def| !def.hidden || own.contains_key(def.name));
    let describe = |def: &ConfigDef| {
        let value = effective(def, own, broker).map(|value| value.to_string());
        // Kafka lists synonyms from that of the first name on: log.retention.hours alone gives none.
        let behind = topic_synonyms(def.name).first();
        let mut synonyms = behind.map(|synonym| set_by_names(synonym.name, broker)).unwrap_or_default();
        if own.contains_key(def.name) {
            synonyms.insert(0, set_as(def.name, value.clone(), ConfigSource::Topic));
        }
        ConfigEntry::new(def, value, ConfigSource::Default, synonyms)
    };
    shown.map(describe).collect()
}

/// The settings of a topic that was just created with these of its own, as CreateTopics returns them: without
/// synonyms, and with the values as they were given (Kafka `KafkaConfigSchema.resolveEffectiveTopicConfigs`).
pub fn created_topic(own: &ConfigMap, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let shown = TOPIC_CONFIGS.iter().filter(|def| !def.hidden || own.contains_key(def.name));
    let describe = |def: &ConfigDef| {
        let given = own.get(def.name).cloned();
        let source = match given {
            Some(_) => ConfigSource::Topic,
            None => source_of_topic_default(def, broker),
        };
        let value = given.or_else(|| effective(def, own, broker).map(|value| value.to_string()));
        ConfigEntry { source, ..ConfigEntry::new(def, value, source, Vec::new()) }
    };
    shown.map(describe).collect()
}

fn source_of_topic_default(def: &ConfigDef, broker: &BrokerConfig) -> ConfigSource {
    let synonyms = topic_synonyms(def.name);
    let is_set = |layer: &ConfigMap| synonyms.iter().any(|synonym| layer.contains_key(synonym.name));
    match () {
        () if is_set(&broker.for_this) => ConfigSource::DynamicBroker,
        () if is_set(&broker.for_all) => ConfigSource::DynamicDefaultBroker,
        () if is_set(&broker.given) => ConfigSource::StaticBroker,
        () => ConfigSource::Default,
    }
}

/// All settings of a broker that are in force.
pub fn broker(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let shown = BROKER_CONFIGS.iter().filter(|def| !def.hidden || broker.is_set(def.name)).map(|def| def.name);
    let others = broker.set.keys().filter(|name| broker_config(name).is_none()).map(String::as_str);
    let mut entries: Vec<ConfigEntry> =
        shown.chain(others).map(|name| broker_entry(name, current(name, broker), set_by_names(name, broker))).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// The settings that were changed for all brokers.
pub fn all_brokers(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let describe = |(name, text): (&String, &String)| {
        let mut synonyms = set_by_names(name, broker);
        synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
        broker_entry(name, Some(text.clone()), synonyms)
    };
    broker.for_all.iter().map(describe).collect()
}

fn current(name: &str, broker: &BrokerConfig) -> Option<String> {
    match broker_config(name) {
        Some(_) => broker.value(name).map(|value| value.to_string()),
        None => broker.raw(name).map(str::to_owned),
    }
}

fn broker_entry(name: &str, value: Option<String>, synonyms: Vec<SynonymValue>) -> ConfigEntry {
    if let Some(def) = broker_config(name) {
        return ConfigEntry::new(def, value, ConfigSource::Default, synonyms);
    }
    let base = of_one_listener(name).and_then(broker_config);
    let kind = base.map_or(ConfigType::Unknown, |def| def.kind);
    ConfigEntry {
        name: name.to_owned(),
        value: value.filter(|_| !kind.is_sensitive()),
        source: synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source),
        kind,
        read_only: true,
        sensitive: kind.is_sensitive(),
        synonyms,
        documentation: base.map(|def| def.documentation.to_owned()).unwrap_or_default(),
    }
}

/// The settings of a group with these of its own.
pub fn group(own: &ConfigMap, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let describe = |def: &ConfigDef| {
        let behind = group_synonym(def.name);
        let given = own.get(def.name).and_then(|text| def.parse(text).ok()).map(|value| value.to_string());
        let of_broker = || behind.as_deref().and_then(|name| current(name, broker));
        let value = given.clone().or_else(of_broker).or_else(|| def.default.map(str::to_owned));
        let mut synonyms = match &behind {
            Some(name) => set_by_names(name, broker),
            None => vec![set_as(def.name, def.default.map(str::to_owned), ConfigSource::Default)],
        };
        if given.is_some() {
            synonyms.insert(0, set_as(def.name, given, ConfigSource::Group));
        }
        ConfigEntry::new(def, value, ConfigSource::Default, synonyms)
    };
    GROUP_CONFIGS.iter().map(describe).collect()
}

/// The settings of a client metrics subscription with these of its own.
pub fn client_metrics(own: &ConfigMap) -> Vec<ConfigEntry> {
    let describe = |def: &ConfigDef| {
        let given = own.get(def.name).and_then(|text| def.parse(text).ok()).map(|value| value.to_string());
        let synonyms: Vec<_> =
            given.clone().map(|value| set_as(def.name, Some(value), ConfigSource::ClientMetrics)).into_iter().collect();
        ConfigEntry::new(def, given.or_else(|| def.default.map(str::to_owned)), ConfigSource::Default, synonyms)
    };
    CLIENT_METRICS_CONFIGS.iter().map(describe).collect()
}

fn set_as(name: &str, value: Option<String>, source: ConfigSource) -> SynonymValue {
    SynonymValue { name: name.to_owned(), value, source }
}

/// Every layer's value by every name that a broker's setting has, from the first under its own name on.
fn set_by_names(name: &str, broker: &BrokerConfig) -> Vec<SynonymValue> {
    let names = broker_synonyms(name);
    let kind = names.iter().find_map(|name| broker_config(name)).map_or(ConfigType::Unknown, |def| def.kind);
    let shown = |text: &str| (!kind.is_sensitive()).then(|| text.to_owned());
    let layers = [
        (&broker.for_this, ConfigSource::DynamicBroker),
        (&broker.for_all, ConfigSource::DynamicDefaultBroker),
        (&broker.given, ConfigSource::StaticBroker),
    ];
    let mut found = Vec::new();
    for (layer, source) in layers {
        for name in &names {
            if let Some(text) = layer.get(*name) {
                found.push(set_as(name, shown(text), source));
            }
        }
    }
    for name in &names {
        if let Some(text) = broker_config(name).and_then(|def| def.default) {
            found.push(set_as(name, shown(text), ConfigSource::Default));
        }
    }
    let own = found.iter().position(|synonym| synonym.name == name).unwrap_or(found.len());
    found.split_off(own)
}
