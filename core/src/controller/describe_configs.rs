//! DescribeConfigs (Kafka `ConfigHelper.describeConfigs`).

use super::{ConfigOwner, Image, resource_type};
use crate::config::BrokerConfig;
use crate::config::describe::{self, ConfigEntry};
use crate::types::{InvalidTopicName, NodeId, TopicName};

/// Whose settings are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceToDescribe {
    pub resource_type: i8,
    pub resource_name: String,
    /// `None`, or none at all: every setting.
    pub names: Option<Vec<String>>,
}

/// Why settings are not described, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescribeConfigsError {
    #[error(transparent)]
    TopicName(#[from] InvalidTopicName),
    /// Kafka says nothing more.
    #[error("")]
    UnknownTopic,
    #[error("Broker id must be an integer, but it is: {0}")]
    NodeIdNotANumber(String),
    #[error("Unexpected broker id, expected {expected} or empty string, but received {got}")]
    OtherNode { expected: NodeId, got: String },
    #[error("Group name must not be empty")]
    EmptyGroup,
    #[error("Client metrics subscription name must not be empty")]
    EmptySubscription,
    #[error("Unsupported resource type: {0}")]
    UnsupportedResourceType(i8),
}

/// The settings of one resource. `broker`: what is in force at the node that is asked.
pub fn describe_configs(
    image: &Image,
    broker: &BrokerConfig,
    resource: &ResourceToDescribe,
) -> Result<Vec<ConfigEntry>, DescribeConfigsError> {
    let mut entries = describe_all(image, broker, resource)?;
    if let Some(names) = resource.names.as_ref().filter(|names| !names.is_empty()) {
        entries.retain(|entry| names.contains(&entry.name));
    }
    Ok(entries)
}

fn describe_all(
    image: &Image,
    broker: &BrokerConfig,
    resource: &ResourceToDescribe,
) -> Result<Vec<ConfigEntry>, DescribeConfigsError> {
    let name = &resource.resource_name;
    Ok(match resource.resource_type {
        resource_type::TOPIC => {
            TopicName::new(name)?;
            let topic = image.topic_by_name(name).ok_or(DescribeConfigsError::UnknownTopic)?;
            describe::topic(&topic.configs, broker)
        }
        resource_type::BROKER if name.is_empty() => describe::all_brokers(broker),
        resource_type::BROKER => {
            let got: i32 = name.parse().map_err(|_| DescribeConfigsError::NodeIdNotANumber(name.clone()))?;
            let expected = broker.node_id();
            if NodeId(got) != expected {
                return Err(DescribeConfigsError::OtherNode { expected, got: name.clone() });
            }
            describe::broker(broker)
        }
        resource_type::GROUP if name.is_empty() => return Err(DescribeConfigsError::EmptyGroup),
        resource_type::GROUP => describe::group(&image.configs(&ConfigOwner::Group(name.clone())), broker),
        resource_type::CLIENT_METRICS if name.is_empty() => return Err(DescribeConfigsError::EmptySubscription),
        resource_type::CLIENT_METRICS => {
            describe::client_metrics(&image.configs(&ConfigOwner::ClientMetrics(name.clone())))
        }
        other => return Err(DescribeConfigsError::UnsupportedResourceType(other)),
    })
}
