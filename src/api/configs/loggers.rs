//! The levels of this node's log, as settings of the resource BROKER_LOGGER (Kafka `RuntimeLoggerManager`, KIP-412).

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use millstream_core::controller::{Alteration, ConfigChange, operation};
use millstream_core::types::NodeId;

use super::describe::refused;
use crate::api::{Context, errors};
use crate::protocol::StrBytes;
use crate::telemetry::{LevelChange, LevelError};

/// `DescribeConfigsResponse.ConfigSource.DYNAMIC_BROKER_LOGGER_CONFIG`.
const SOURCE: i8 = 6;

/// Why levels are not described or changed, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoggersError {
    #[error("Broker id must not be empty")]
    NoNode,
    #[error("{who} id must be an integer, but it is: {got}")]
    NotANumber { who: &'static str, got: String },
    #[error("Unexpected broker id, expected {expected} but received {got}")]
    OtherNodeDescribed { expected: NodeId, got: String },
    #[error("Unexpected node id. Expected {expected}, but received {got}")]
    OtherNode { expected: NodeId, got: i32 },
    #[error("{0} operation is not allowed for the BROKER_LOGGER resource")]
    Operation(&'static str),
    #[error(transparent)]
    Level(#[from] LevelError),
}

pub(super) fn describe(context: &Context, resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    if let Err(error) = check_described(&resource.resource_name, context.config.broker.node_id()) {
        return refused(errors::of_loggers(&error), &error);
    }
    let names = resource.configuration_keys.as_ref().filter(|names| !names.is_empty());
    let is_wanted = |logger: &str| names.is_none_or(|names| names.iter().any(|name| **name == *logger));
    let levels = context.log_levels.describe();
    let configs = levels.into_iter().filter(|(logger, _)| is_wanted(logger)).map(|(logger, level)| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(logger))
            .with_value(Some(StrBytes::from_static_str(level)))
            .with_config_source(SOURCE)
    });
    DescribeConfigsResult::default().with_error_message(None).with_configs(configs.collect())
}

fn check_described(name: &str, own: NodeId) -> Result<(), LoggersError> {
    if name.is_empty() {
        return Err(LoggersError::NoNode);
    }
    let got: i32 = name.parse().map_err(|_| LoggersError::NotANumber { who: "Broker", got: name.to_owned() })?;
    match NodeId(got) == own {
        true => Ok(()),
        false => Err(LoggersError::OtherNodeDescribed { expected: own, got: name.to_owned() }),
    }
}

/// Changes levels here and now: they are no metadata, and the next start forgets them.
pub(super) fn alter(context: &Context, wanted: &Alteration, validate_only: bool) -> Result<(), LoggersError> {
    let changes = level_changes(wanted, context.config.broker.node_id())?;
    context.log_levels.change(&changes, validate_only)?;
    if !validate_only {
        for LevelChange { logger, level } in &changes {
            let level = level.as_deref().unwrap_or("that of the others");
            tracing::info!(logger, level, "level of the log changed");
        }
    }
    Ok(())
}

/// The form of the changes was checked: no operation is unknown, no value missing.
pub(super) fn level_changes(wanted: &Alteration, own: NodeId) -> Result<Vec<LevelChange>, LoggersError> {
    let name = &wanted.resource_name;
    let got: i32 = name.parse().map_err(|_| LoggersError::NotANumber { who: "Node", got: name.clone() })?;
    if NodeId(got) != own {
        return Err(LoggersError::OtherNode { expected: own, got });
    }
    let change = |change: &ConfigChange| {
        let level = match change.operation {
            operation::SET => change.value.clone(),
            operation::DELETE => None,
            operation::APPEND => return Err(LoggersError::Operation("APPEND")),
            _ => return Err(LoggersError::Operation("SUBTRACT")),
        };
        Ok(LevelChange { logger: change.name.clone(), level })
    };
    wanted.changes.iter().map(change).collect()
}
