//! The settings of one broker that are in force, out of three layers over the defaults.

use std::collections::HashMap;

use super::{BROKER_CONFIGS, ConfigError, ConfigMap, ConfigValue, UpdateMode, broker_config, broker_synonyms, limits};
use crate::types::NodeId;

/// What a broker was started with, what was changed for all brokers, what was changed for this one, and what follows.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    pub(super) given: ConfigMap,
    pub(super) for_all: ConfigMap,
    pub(super) for_this: ConfigMap,
    /// All layers put together, as text; names that are not set are not in it.
    pub(super) set: ConfigMap,
    /// Every setting of the table that has a value.
    values: HashMap<&'static str, ConfigValue>,
}

/// The name of one listener's own setting.
pub fn listener_key(listener: &str, name: &str) -> String {
    format!("listener.name.{}.{name}", listener.to_ascii_lowercase())
}

impl Default for BrokerConfig {
    /// A broker started without any setting.
    fn default() -> Self {
        Self::new(ConfigMap::new()).expect("the defaults go together")
    }
}

impl BrokerConfig {
    /// Settings given at the start. Names that the table lacks are kept as they are.
    ///
    /// # Errors
    ///
    /// A value that its setting does not allow, or two that do not go together.
    pub fn new(mut given: ConfigMap) -> Result<Self, ConfigError> {
        for (name, text) in &given {
            if let Some(def) = broker_config(name) {
                def.validate(text)?;
            }
        }
        // Two names of one number; Kafka shows both as set.
        match (given.get("node.id").cloned(), given.get("broker.id").cloned()) {
            (Some(node), None) => given.insert("broker.id".to_owned(), node),
            (None, Some(broker)) if broker.trim() != "-1" => given.insert("node.id".to_owned(), broker),
            _ => None,
        };
        let config = Self::of_layers(given, ConfigMap::new(), ConfigMap::new());
        limits::check_broker(&config)?;
        Ok(config)
    }

    /// The same broker with settings changed while it runs: `for_all` brokers and `for_this` one. What cannot be
    /// (any more) is passed over, as Kafka does: a cluster must not fail to start over it.
    pub fn with_dynamic(&self, for_all: &ConfigMap, for_this: &ConfigMap) -> Self {
        let sound = |layer: &ConfigMap| -> ConfigMap {
            let may_change = |(name, text): &(&String, &String)| match broker_config(name) {
                Some(def) => def.update != UpdateMode::Fixed && def.validate(text).is_ok(),
                None => true,
            };
            layer.iter().filter(may_change).map(|(name, text)| (name.clone(), text.clone())).collect()
        };
        Self::of_layers(self.given.clone(), sound(for_all), sound(for_this))
    }

    fn of_layers(given: ConfigMap, for_all: ConfigMap, for_this: ConfigMap) -> Self {
        let mut set = given.clone();
        for layer in [&for_all, &for_this] {
            for (name, text) in layer {
                // A change of log.retention.ms beats log.retention.hours given at the start, and the other way round.
                if !name.starts_with("listener.name.") {
                    for synonym in broker_synonyms(name) {
                        set.remove(synonym);
                    }
                }
                set.insert(name.clone(), text.clone());
            }
        }
        let value = |def: &super::ConfigDef| match set.get(def.name) {
            Some(text) => def.parse(text).ok(),
            None => def.default_value(),
        };
        let values = BROKER_CONFIGS.iter().filter_map(|def| Some((def.name, value(def)?))).collect();
        Self { given, for_all, for_this, set, values }
    }

    /// The value in force; `None` when it is not set and has no default. `name` is one of the table's.
    pub fn value(&self, name: &str) -> Option<&ConfigValue> {
        assert!(broker_config(name).is_some(), "no broker has a setting {name}");
        self.values.get(name)
    }

    /// Whether it was given at the start or changed since.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// As it was given, also of names that the table lacks (`listener.name.<listener>.…`).
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.set.get(name).map(String::as_str)
    }

    /// A setting of one listener, as text: its own (`listener.name.<listener>.<name>`), else that of all listeners, else
    /// the default.
    pub fn of_listener(&self, listener: &str, name: &str) -> Option<&str> {
        let own = self.raw(&listener_key(listener, name));
        own.or_else(|| self.raw(name)).or_else(|| broker_config(name)?.default).map(str::trim)
    }

    pub fn boolean(&self, name: &str) -> bool {
        match self.value(name) {
            Some(ConfigValue::Boolean(value)) => *value,
            other => panic!("{name} is no boolean with a default: {other:?}"),
        }
    }

    /// Ints, longs and shorts alike.
    pub fn integer(&self, name: &str) -> i64 {
        self.try_integer(name).unwrap_or_else(|| panic!("{name} is no number with a default"))
    }

    /// The same of a setting without a default.
    pub fn try_integer(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            ConfigValue::Int(value) => Some(i64::from(*value)),
            ConfigValue::Short(value) => Some(i64::from(*value)),
            ConfigValue::Long(value) => Some(*value),
            other => panic!("{name} is no whole number: {other:?}"),
        }
    }

    pub fn double(&self, name: &str) -> f64 {
        match self.value(name) {
            Some(ConfigValue::Double(value)) => *value,
            other => panic!("{name} is no number with a default: {other:?}"),
        }
    }

    /// Strings, class names and passwords.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            ConfigValue::Text(value) => Some(value),
            other => panic!("{name} is no text: {other:?}"),
        }
    }

    /// Empty when it is not set.
    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            None => &[],
            Some(ConfigValue::List(items)) => items,
            other => panic!("{name} is no list: {other:?}"),
        }
    }

    /// This node's number.
    pub fn node_id(&self) -> NodeId {
        NodeId(i32::try_from(self.integer("node.id")).expect("an int in the table"))
    }
}
