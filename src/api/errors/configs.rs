//! Of settings and features.

use kafka_protocol::error::ResponseError;
use millstream_core::config::ConfigError;
use millstream_core::controller::{AlterConfigError, DescribeConfigsError, UpdateFeaturesError};

use crate::api::configs::LoggersError;
use crate::telemetry::LevelError;

pub fn of_alter_config(error: &AlterConfigError) -> ResponseError {
    match error {
        AlterConfigError::DuplicateResource
        | AlterConfigError::DuplicateKeys
        | AlterConfigError::NullValues(_)
        | AlterConfigError::UnknownResourceType(_)
        | AlterConfigError::UnknownOperation(_)
        | AlterConfigError::NodeIdNotANumber(_)
        | AlterConfigError::OtherNode { .. }
        | AlterConfigError::DefaultTopic
        | AlterConfigError::DefaultGroup
        | AlterConfigError::EmptySubscription => ResponseError::InvalidRequest,
        AlterConfigError::TopicName(_) => ResponseError::InvalidTopicException,
        AlterConfigError::UnknownTopic(_) => ResponseError::UnknownTopicOrPartition,
        AlterConfigError::NotAList { .. } | AlterConfigError::BrokerNotAList { .. } | AlterConfigError::TooLong => {
            ResponseError::InvalidConfig
        }
        AlterConfigError::Config(error) => of_config(error),
        AlterConfigError::BrokerConfig(error) => of_broker_config(error),
    }
}

/// Of a topic, a group or a client metrics subscription.
fn of_config(error: &ConfigError) -> ResponseError {
    match error {
        ConfigError::UnknownClientMetricsConfig(_) | ConfigError::ClientMetrics(_) => ResponseError::InvalidRequest,
        ConfigError::UnknownTopicConfig(_)
        | ConfigError::UnknownGroupConfig(_)
        | ConfigError::UnknownBrokerConfig(_)
        | ConfigError::InvalidValue { .. }
        | ConfigError::EmptyList { .. }
        | ConfigError::EmptyItem { .. }
        | ConfigError::Conflict(_)
        | ConfigError::OutOfBounds { .. }
        | ConfigError::NotDynamic(_)
        | ConfigError::NeedsListenerPrefix(_)
        | ConfigError::NotForAllBrokers(_) => ResponseError::InvalidConfig,
    }
}

/// Of a broker: what is well said and cannot be is an invalid request with Kafka (KAFKA-13609).
fn of_broker_config(error: &ConfigError) -> ResponseError {
    match error {
        ConfigError::UnknownBrokerConfig(_) => ResponseError::InvalidConfig,
        ConfigError::UnknownTopicConfig(_)
        | ConfigError::UnknownGroupConfig(_)
        | ConfigError::UnknownClientMetricsConfig(_)
        | ConfigError::InvalidValue { .. }
        | ConfigError::EmptyList { .. }
        | ConfigError::EmptyItem { .. }
        | ConfigError::Conflict(_)
        | ConfigError::OutOfBounds { .. }
        | ConfigError::ClientMetrics(_)
        | ConfigError::NotDynamic(_)
        | ConfigError::NeedsListenerPrefix(_)
        | ConfigError::NotForAllBrokers(_) => ResponseError::InvalidRequest,
    }
}

pub fn of_describe_configs(error: &DescribeConfigsError) -> ResponseError {
    match error {
        DescribeConfigsError::TopicName(_) => ResponseError::InvalidTopicException,
        DescribeConfigsError::UnknownTopic => ResponseError::UnknownTopicOrPartition,
        DescribeConfigsError::NodeIdNotANumber(_)
        | DescribeConfigsError::OtherNode { .. }
        | DescribeConfigsError::EmptyGroup
        | DescribeConfigsError::EmptySubscription
        | DescribeConfigsError::UnsupportedResourceType(_) => ResponseError::InvalidRequest,
    }
}

/// Of the levels of this node's log.
pub fn of_loggers(error: &LoggersError) -> ResponseError {
    match error {
        LoggersError::Level(LevelError::UnknownLogger(_) | LevelError::UnknownLevel { .. }) => {
            ResponseError::InvalidConfig
        }
        LoggersError::NoNode
        | LoggersError::NotANumber { .. }
        | LoggersError::OtherNodeDescribed { .. }
        | LoggersError::OtherNode { .. }
        | LoggersError::Operation(_)
        | LoggersError::Level(LevelError::Root) => ResponseError::InvalidRequest,
    }
}

pub fn of_update_features(error: &UpdateFeaturesError) -> ResponseError {
    let UpdateFeaturesError { .. } = error;
    ResponseError::InvalidUpdateVersion
}
