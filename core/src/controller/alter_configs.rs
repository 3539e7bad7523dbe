//! AlterConfigs and IncrementalAlterConfigs (Kafka `ConfigAdminManager` and `ConfigurationControlManager`).

use std::collections::{BTreeMap, HashSet};

use super::{Command, ConfigOwner, Decision, Image};
use crate::config::{
    BrokerConfig, CONFIG_VALUE_LEN_MAX, ConfigDef, ConfigError, ConfigMap, ConfigType, broker_config,
    check_broker_change, check_client_metrics, check_group, check_topic, client_metrics_config, group_config,
    topic_config,
};
use crate::types::{InvalidTopicName, NodeId, TopicName};

/// Kafka's numbers of what settings belong to (`ConfigResource.Type`).
pub mod resource_type {
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const BROKER_LOGGER: i8 = 8;
    pub const CLIENT_METRICS: i8 = 16;
    pub const GROUP: i8 = 32;
}

/// Kafka's numbers of what is done to a setting (`AlterConfigOp.OpType`).
pub mod operation {
    pub const SET: i8 = 0;
    pub const DELETE: i8 = 1;
    pub const APPEND: i8 = 2;
    pub const SUBTRACT: i8 = 3;
}

/// One setting to change. Without meaning to the operation in AlterConfigs: all are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub name: String,
    pub operation: i8,
    pub value: Option<String>,
}

/// All changes of one resource. They are made together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    pub resource_type: i8,
    pub resource_name: String,
    pub changes: Vec<ConfigChange>,
}

/// Why a resource's settings stay as they are, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterConfigError {
    #[error("Each resource must appear at most once.")]
    DuplicateResource,
    #[error("Error due to duplicate config keys")]
    DuplicateKeys,
    #[error("Null value not supported for : {}", .0.join(", "))]
    NullValues(Vec<String>),
    #[error("Unknown resource type {0}")]
    UnknownResourceType(i8),
    #[error("Unknown operations type {0}")]
    UnknownOperation(i8),
    #[error("Node id must be an integer, but it is: {0}")]
    NodeIdNotANumber(String),
    #[error("Unexpected broker id, expected {expected}, but received {got}")]
    OtherNode { expected: NodeId, got: String },
    #[error("Default topic resources are not allowed.")]
    DefaultTopic,
    #[error(transparent)]
    TopicName(#[from] InvalidTopicName),
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    #[error("Default group resources are not allowed.")]
    DefaultGroup,
    #[error("Subscription name can't be empty")]
    EmptySubscription,
    #[error("Can't {operation} to key {name} because its type is not LIST.")]
    NotAList { operation: &'static str, name: String },
    #[error("Config value {operation} is not allowed for config key: {name}")]
    BrokerNotAList { operation: &'static str, name: String },
    #[error("The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.")]
    TooLong,
    /// Of a topic, group or subscription.
    #[error(transparent)]
    Config(ConfigError),
    /// Of a broker: Kafka answers with another error code.
    #[error(transparent)]
    BrokerConfig(ConfigError),
}

type Reply = Vec<Result<(), AlterConfigError>>;

/// Changes settings one by one. `broker`: what is in force at the node that decides; `asked`: the one that was asked, which
/// takes changes of its own settings only. One result for each resource.
pub fn incremental_alter_configs(
    image: &Image,
    broker: &BrokerConfig,
    asked: NodeId,
    request: &[Alteration],
    validate_only: bool,
) -> Decision<Reply> {
    decide(image, broker, asked, request, validate_only, &incremental_change)
}

/// Replaces all settings of the resources. One result for each.
pub fn alter_configs(
    image: &Image,
    broker: &BrokerConfig,
    asked: NodeId,
    request: &[Alteration],
    validate_only: bool,
) -> Decision<Reply> {
    decide(image, broker, asked, request, validate_only, &|_, alteration, _| {
        let pairs =
            alteration.changes.iter().map(|change| (change.name.clone(), change.value.clone().unwrap_or_default()));
        Ok(pairs.collect())
    })
}

/// The settings that a resource would have, out of those it has.
type Change = dyn Fn(&Resource, &Alteration, &ConfigMap) -> Result<ConfigMap, AlterConfigError>;

fn decide(
    image: &Image,
    broker: &BrokerConfig,
    asked: NodeId,
    request: &[Alteration],
    validate_only: bool,
    change: &Change,
) -> Decision<Reply> {
    let mut times: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for alteration in request {
        *times.entry((alteration.resource_type, &alteration.resource_name)).or_default() += 1;
    }
    let mut commands = Vec::new();
    let mut reply = Vec::new();
    for alteration in request {
        let is_twice = times.get(&(alteration.resource_type, alteration.resource_name.as_str())) > Some(&1);
        let result = match is_twice {
            true => Err(AlterConfigError::DuplicateResource),
            false => alter(image, broker, asked, alteration, change),
        };
        reply.push(result.map(|command| commands.extend(command)));
    }
    match validate_only {
        true => Decision::only(reply),
        false => Decision { commands, reply },
    }
}

fn alter(
    image: &Image,
    broker: &BrokerConfig,
    asked: NodeId,
    alteration: &Alteration,
    change: &Change,
) -> Result<Option<Command>, AlterConfigError> {
    check_form(alteration)?;
    let resource = Resource::find(image, asked, alteration)?;
    let current = resource.owner().map(|owner| image.configs(&owner)).unwrap_or_default();
    let wanted = change(&resource, alteration, &current)?;
    let changed = |(name, value): &(&String, &String)| current.get(*name) != Some(*value);
    if wanted.iter().filter(changed).any(|(_, value)| value.len() > CONFIG_VALUE_LEN_MAX) {
        return Err(AlterConfigError::TooLong);
    }
    let owner = resource.check(&wanted, broker)?;
    // A broker's settings are written even if they stay the same: a key store behind them may have changed.
    let is_broker = matches!(owner, ConfigOwner::AllBrokers | ConfigOwner::Broker(_));
    let named = |name: &String| is_broker && alteration.changes.iter().any(|change| change.name == *name);
    let set = wanted
        .iter()
        .filter(|pair| changed(pair) || named(pair.0))
        .map(|(name, value)| (name.clone(), Some(value.clone())));
    let taken_back = current.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.clone(), None));
    let changes: Vec<_> = set.chain(taken_back).collect();
    Ok((!changes.is_empty()).then_some(Command::ChangeConfigs { owner, changes }))
}

/// What does not depend on the resource.
fn check_form(alteration: &Alteration) -> Result<(), AlterConfigError> {
    let changes = &alteration.changes;
    let mut names = HashSet::new();
    if !changes.iter().all(|change| names.insert(&change.name)) {
        return Err(AlterConfigError::DuplicateKeys);
    }
    let is_null = |change: &&ConfigChange| change.operation != operation::DELETE && change.value.is_none();
    let nulls: Vec<String> = changes.iter().filter(is_null).map(|change| change.name.clone()).collect();
    if !nulls.is_empty() {
        return Err(AlterConfigError::NullValues(nulls));
    }
    match changes.iter().find(|change| !(operation::SET..=operation::SUBTRACT).contains(&change.operation)) {
        Some(change) => Err(AlterConfigError::UnknownOperation(change.operation)),
        None => Ok(()),
    }
}

/// What settings belong to, which may not be there: Kafka looks at the settings first.
enum Resource {
    Topic { name: String, owner: Option<ConfigOwner> },
    AllBrokers,
    Broker(NodeId),
    Group(String),
    ClientMetrics(String),
}

impl Resource {
    fn find(image: &Image, expected: NodeId, alteration: &Alteration) -> Result<Self, AlterConfigError> {
        let name = alteration.resource_name.clone();
        Ok(match alteration.resource_type {
            resource_type::TOPIC => {
                let owner = image.topic_by_name(&name).map(|topic| ConfigOwner::Topic(topic.id));
                Self::Topic { name, owner }
            }
            resource_type::BROKER if name.is_empty() => Self::AllBrokers,
            resource_type::BROKER => {
                let got: i32 = name.parse().map_err(|_| AlterConfigError::NodeIdNotANumber(name.clone()))?;
                if NodeId(got) != expected {
                    return Err(AlterConfigError::OtherNode { expected, got: name });
                }
                Self::Broker(expected)
            }
            resource_type::GROUP => Self::Group(name),
            resource_type::CLIENT_METRICS => Self::ClientMetrics(name),
            other => return Err(AlterConfigError::UnknownResourceType(other)),
        })
    }

    fn owner(&self) -> Option<ConfigOwner> {
        match self {
            Self::Topic { owner, .. } => owner.clone(),
            Self::AllBrokers => Some(ConfigOwner::AllBrokers),
            Self::Broker(id) => Some(ConfigOwner::Broker(*id)),
            Self::Group(name) => Some(ConfigOwner::Group(name.clone())),
            Self::ClientMetrics(name) => Some(ConfigOwner::ClientMetrics(name.clone())),
        }
    }

    /// Whether it may have these settings, all of them; and whose they are.
    fn check(self, wanted: &ConfigMap, broker: &BrokerConfig) -> Result<ConfigOwner, AlterConfigError> {
        match self {
            Self::Topic { name, .. } if name.is_empty() => Err(AlterConfigError::DefaultTopic),
            Self::Topic { name, owner } => {
                TopicName::new(&name)?;
                check_topic(wanted, broker).map_err(AlterConfigError::Config)?;
                owner.ok_or(AlterConfigError::UnknownTopic(name))
            }
            Self::AllBrokers => {
                check_broker_change(wanted, false, broker).map_err(AlterConfigError::BrokerConfig)?;
                Ok(ConfigOwner::AllBrokers)
            }
            Self::Broker(id) => {
                check_broker_change(wanted, true, broker).map_err(AlterConfigError::BrokerConfig)?;
                Ok(ConfigOwner::Broker(id))
            }
            Self::Group(name) if name.is_empty() => Err(AlterConfigError::DefaultGroup),
            Self::Group(name) => {
                check_group(wanted, broker).map_err(AlterConfigError::Config)?;
                Ok(ConfigOwner::Group(name))
            }
            Self::ClientMetrics(name) if name.is_empty() => Err(AlterConfigError::EmptySubscription),
            Self::ClientMetrics(name) => {
                check_client_metrics(wanted).map_err(AlterConfigError::Config)?;
                Ok(ConfigOwner::ClientMetrics(name))
            }
        }
    }

    fn config_def(&self, name: &str) -> Option<&'static ConfigDef> {
        match self {
            Self::Topic { .. } => topic_config(name),
            Self::AllBrokers | Self::Broker(_) => broker_config(name),
            Self::Group(_) => group_config(name),
            Self::ClientMetrics(_) => client_metrics_config(name),
        }
    }

    /// The definition of a list that is to get longer or shorter.
    fn list(&self, name: &str, operation: &'static str) -> Result<&'static ConfigDef, AlterConfigError> {
        let def = self.config_def(name);
        if let Some(def) = def.filter(|def| def.kind == ConfigType::List) {
            return Ok(def);
        }
        let name = name.to_owned();
        Err(match self {
            Self::AllBrokers | Self::Broker(_) if def.is_none() => {
                AlterConfigError::BrokerConfig(ConfigError::UnknownBrokerConfig(name))
            }
            Self::AllBrokers | Self::Broker(_) => AlterConfigError::BrokerNotAList {
                operation: if operation == "APPEND" { "append" } else { "subtract" },
                name,
            },
            _ => AlterConfigError::NotAList { operation, name },
        })
    }
}

fn incremental_change(
    resource: &Resource,
    alteration: &Alteration,
    current: &ConfigMap,
) -> Result<ConfigMap, AlterConfigError> {
    let mut wanted = current.clone();
    for ConfigChange { name, operation, value } in &alteration.changes {
        let value = value.as_deref().unwrap_or_default();
        let value = match *operation {
            operation::SET => value.to_owned(),
            operation::DELETE => {
                wanted.remove(name);
                continue;
            }
            operation::APPEND => {
                let def = resource.list(name, "APPEND")?;
                longer(items(current.get(name).map(String::as_str).or(def.default)), value)
            }
            _ => {
                let def = resource.list(name, "SUBTRACT")?;
                shorter(items(current.get(name).map(String::as_str).or(def.default)), value)
            }
        };
        wanted.insert(name.clone(), value);
    }
    Ok(wanted)
}

fn items(list: Option<&str>) -> Vec<&str> {
    list.unwrap_or_default().split(',').filter(|item| !item.is_empty()).collect()
}

/// With those of `more` that it lacks.
fn longer<'a>(mut items: Vec<&'a str>, more: &'a str) -> String {
    let mut known: HashSet<&str> = items.iter().copied().collect();
    items.extend(more.split(',').filter(|item| known.insert(item)));
    items.join(",")
}

/// Without those of `less`: each of them takes one of its like away.
fn shorter(mut items: Vec<&str>, less: &str) -> String {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for item in less.split(',') {
        *times.entry(item).or_default() += 1;
    }
    items.retain(|item| match times.get_mut(item) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    });
    items.join(",")
}
