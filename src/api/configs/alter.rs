//! AlterConfigs and IncrementalAlterConfigs (Kafka `ConfigAdminManager`).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::incremental_alter_configs_response as incremental;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use millstream_core::config::BrokerConfig;
use millstream_core::controller::{
    AlterConfigError, Alteration, ConfigChange, Decision, Image, alter_configs, incremental_alter_configs, operation,
    resource_type,
};

use super::loggers::{self, LoggersError};
use crate::api::{BoxFuture, Context, Outcome, Request, Session, errors};
use crate::controller::ControllerError;
use crate::protocol::StrBytes;

/// Resources, and settings, that one request may be about: while the controller decides, nobody else's request is
/// decided (Kafka `QuorumController.MAX_RECORDS_PER_USER_OP`).
const CHANGES_MAX: usize = 10_000;

/// Why a resource's settings stay as they are.
#[derive(Clone, Debug, thiserror::Error)]
enum AlterError {
    #[error(transparent)]
    Settings(#[from] AlterConfigError),
    #[error(transparent)]
    Loggers(#[from] LoggersError),
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error("Unable to perform excessively large batch operation.")]
    TooMany,
}

impl AlterError {
    fn code(&self) -> ResponseError {
        match self {
            Self::Settings(error) => errors::of_alter_config(error),
            Self::Loggers(error) => errors::of_loggers(error),
            Self::Controller(error) => errors::of_controller(error),
            Self::TooMany => ResponseError::PolicyViolation,
        }
    }
}

type Results = Vec<Result<(), AlterError>>;
type Decide = fn(&Image, &BrokerConfig, &[Alteration], bool) -> Decision<Vec<Result<(), AlterConfigError>>>;

/// AlterConfigs: all settings of the resources are replaced.
pub fn handle_alter<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: AlterConfigsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if is_too_much(asked.resources.iter().map(|resource| resource.configs.len())) {
            let (code, message) = told(&Err(AlterError::TooMany));
            let refused = asked.resources.into_iter().map(|of| {
                AlterConfigsResourceResponse::default()
                    .with_error_code(code)
                    .with_error_message(message.clone())
                    .with_resource_type(of.resource_type)
                    .with_resource_name(of.resource_name)
            });
            let body = AlterConfigsResponse::default().with_responses(refused.collect());
            return Outcome::reply(&request.header, &body);
        }
        let alterations: Arc<[Alteration]> = asked.resources.iter().map(replacement).collect();
        let results = decide(context, &alterations, asked.validate_only, alter_configs).await;
        let responses = alterations.iter().zip(results).map(|(of, result)| {
            let (code, message) = told(&result);
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(of.resource_type)
                .with_resource_name(StrBytes::from_string(of.resource_name.clone()))
        });
        let body = AlterConfigsResponse::default().with_responses(responses.collect());
        Outcome::reply(&request.header, &body)
    })
}

/// IncrementalAlterConfigs: settings are changed one by one. Levels of the log are settings of a broker's loggers.
pub fn handle_incremental<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: IncrementalAlterConfigsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if is_too_much(asked.resources.iter().map(|resource| resource.configs.len())) {
            let (code, message) = told(&Err(AlterError::TooMany));
            let refused = asked.resources.into_iter().map(|of| {
                incremental::AlterConfigsResourceResponse::default()
                    .with_error_code(code)
                    .with_error_message(message.clone())
                    .with_resource_type(of.resource_type)
                    .with_resource_name(of.resource_name)
            });
            let body = IncrementalAlterConfigsResponse::default().with_responses(refused.collect());
            return Outcome::reply(&request.header, &body);
        }
        let validate_only = asked.validate_only;
        let alterations: Arc<[Alteration]> = asked.resources.iter().map(alteration).collect();
        let mut results = decide(context, &alterations, validate_only, incremental_alter_configs).await;
        for (result, wanted) in results.iter_mut().zip(alterations.iter()) {
            // The controller checked their form, and knows no more of them.
            const LOGGERS: AlterConfigError = AlterConfigError::UnknownResourceType(resource_type::BROKER_LOGGER);
            if matches!(result, Err(AlterError::Settings(error)) if *error == LOGGERS) {
                *result = loggers::alter(context, wanted, validate_only).map_err(AlterError::from);
            }
        }
        let responses = alterations.iter().zip(results).map(|(of, result)| {
            let (code, message) = told(&result);
            incremental::AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(of.resource_type)
                .with_resource_name(StrBytes::from_string(of.resource_name.clone()))
        });
        let body = IncrementalAlterConfigsResponse::default().with_responses(responses.collect());
        Outcome::reply(&request.header, &body)
    })
}

fn told(result: &Result<(), AlterError>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(()) => (0, None),
        Err(error) => (error.code().code(), Some(errors::message(error))),
    }
}

/// Looked at before anything is copied. `changes`: of each resource.
fn is_too_much(changes: impl ExactSizeIterator<Item = usize>) -> bool {
    changes.len() > CHANGES_MAX || changes.sum::<usize>() > CHANGES_MAX
}

/// One result for each alteration. What is changed is in force on this node when this returns.
async fn decide(context: &Context, wanted: &Arc<[Alteration]>, validate_only: bool, decide: Decide) -> Results {
    let settings = Arc::clone(&context.controller.published().settings);
    let request = Arc::clone(wanted);
    let decided = context.controller.change(move |image| decide(image, &settings, &request, validate_only)).await;
    match decided {
        Ok(results) => results.into_iter().map(|result| result.map_err(AlterError::from)).collect(),
        Err(error) => wanted.iter().map(|_| Err(AlterError::from(error))).collect(),
    }
}

fn replacement(from: &kafka_protocol::messages::alter_configs_request::AlterConfigsResource) -> Alteration {
    let change = |config: &kafka_protocol::messages::alter_configs_request::AlterableConfig| ConfigChange {
        name: config.name.to_string(),
        operation: operation::SET,
        value: config.value.as_ref().map(|value| value.to_string()),
    };
    Alteration {
        resource_type: from.resource_type,
        resource_name: from.resource_name.to_string(),
        changes: from.configs.iter().map(change).collect(),
    }
}

fn alteration(from: &kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource) -> Alteration {
    let change = |config: &kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig| ConfigChange {
        name: config.name.to_string(),
        operation: config.config_operation,
        value: config.value.as_ref().map(|value| value.to_string()),
    };
    Alteration {
        resource_type: from.resource_type,
        resource_name: from.resource_name.to_string(),
        changes: from.configs.iter().map(change).collect(),
    }
}
