//! Settings of topics, brokers and groups: what `topic` and `config` share.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use serde_json::{Value, json};

use super::client::{Client, ClientError, text};

/// Resources described in one request.
const RESOURCES_PER_REQUEST: usize = 100;

/// Whose settings. The numbers are Kafka's (`ConfigResource.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    Topic,
    Broker,
    Group,
}

impl OwnerKind {
    fn to_wire(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::Group => 32,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    /// None: secret, or not set.
    pub value: Option<String>,
    pub source: &'static str,
    pub is_default: bool,
    pub is_read_only: bool,
    pub is_sensitive: bool,
}

impl Setting {
    fn of(row: &DescribeConfigsResourceResult) -> Self {
        Self {
            name: row.name.to_string(),
            value: row.value.as_ref().map(ToString::to_string),
            source: source(row.config_source),
            is_default: row.config_source == 5,
            is_read_only: row.read_only,
            is_sensitive: row.is_sensitive,
        }
    }

    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "source": self.source,
            "read_only": self.is_read_only,
            "sensitive": self.is_sensitive,
        })
    }
}

/// Kafka's `ConfigSource`, in lower case.
fn source(number: i8) -> &'static str {
    match number {
        1 => "dynamic_topic_config",
        2 => "dynamic_broker_config",
        3 => "dynamic_default_broker_config",
        4 => "static_broker_config",
        5 => "default_config",
        6 => "dynamic_broker_logger_config",
        7 => "dynamic_client_metrics_config",
        8 => "dynamic_group_config",
        _ => "unknown",
    }
}

/// What a broker said of one owner's settings.
pub type Described = Result<Vec<Setting>, ClientError>;

impl Client {
    /// The settings of each owner, by name. A broker is asked for its own.
    pub async fn describe_settings(
        &self,
        kind: OwnerKind,
        names: &[String],
    ) -> Result<BTreeMap<String, Described>, ClientError> {
        let mut described = BTreeMap::new();
        for chunk in names.chunks(RESOURCES_PER_REQUEST) {
            let resource = |name: &String| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind.to_wire())
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            };
            let request = DescribeConfigsRequest::default().with_resources(chunk.iter().map(resource).collect());
            let response = match broker_of(kind, chunk) {
                Some(id) => self.broker(id, |_| request.clone()).await?,
                None => self.any(|_| request.clone()).await?,
            };
            for row in response.results {
                let answer = match ClientError::of_code(row.error_code, row.error_message.as_deref()) {
                    Some(error) => Err(error),
                    None => Ok(row.configs.iter().map(Setting::of).collect()),
                };
                described.insert(row.resource_name.to_string(), answer);
            }
        }
        Ok(described)
    }

    /// Changes settings of each owner. What became of it, by name.
    pub async fn alter_settings(
        &self,
        kind: OwnerKind,
        names: &[String],
        changes: &[Change],
        is_dry: bool,
    ) -> Result<BTreeMap<String, Result<(), ClientError>>, ClientError> {
        let resource = |name: &String| {
            AlterConfigsResource::default()
                .with_resource_type(kind.to_wire())
                .with_resource_name(text(name))
                .with_configs(changes.iter().map(Change::to_wire).collect())
        };
        let mut altered = BTreeMap::new();
        for chunk in names.chunks(RESOURCES_PER_REQUEST) {
            let request = IncrementalAlterConfigsRequest::default()
                .with_resources(chunk.iter().map(resource).collect())
                .with_validate_only(is_dry);
            let response = match broker_of(kind, chunk) {
                Some(id) => self.broker(id, |_| request.clone()).await?,
                None => {
                    let first =
                        |r: &IncrementalAlterConfigsResponse| r.responses.first().map_or(0, |row| row.error_code);
                    self.controller(|_| request.clone(), first).await?
                }
            };
            for row in response.responses {
                let error = ClientError::of_code(row.error_code, row.error_message.as_deref());
                altered.insert(row.resource_name.to_string(), error.map_or(Ok(()), Err));
            }
        }
        Ok(altered)
    }
}

/// The broker to ask for its own settings; the settings of all brokers (an empty name) any broker knows.
fn broker_of(kind: OwnerKind, names: &[String]) -> Option<i32> {
    match (kind, names) {
        (OwnerKind::Broker, [name]) => name.parse().ok(),
        _ => None,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Set(String, String),
    Delete(String),
    Append(String, String),
    Subtract(String, String),
}

impl Change {
    /// Kafka's `AlterConfigOp.OpType`.
    fn to_wire(&self) -> AlterableConfig {
        let (operation, key, value) = match self {
            Self::Set(key, value) => (0, key, Some(value)),
            Self::Delete(key) => (1, key, None),
            Self::Append(key, value) => (2, key, Some(value)),
            Self::Subtract(key, value) => (3, key, Some(value)),
        };
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(operation)
            .with_value(value.map(|value| text(value)))
    }
}

/// The changes of `--set` and `--delete`.
pub fn changes(set: &[(String, String)], delete: &[String]) -> Vec<Change> {
    let sets = set.iter().map(|(key, value)| Change::Set(key.clone(), value.clone()));
    sets.chain(delete.iter().cloned().map(Change::Delete)).collect()
}
