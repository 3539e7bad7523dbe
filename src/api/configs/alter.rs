//! AlterConfigs and IncrementalAlterConfigs (Kafka `ConfigAdminManager`).

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource as WantedSettings;
use kafka_protocol::messages::incremental_alter_configs_response as incremental;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use millstream_core::config::BrokerConfig;
use millstream_core::controller::{
    AlterConfigError, Alteration, ConfigChange, Decision, Image, alter_configs, incremental_alter_configs, operation,
    resource_type,
};
use millstream_core::security::Operation;
use millstream_core::types::NodeId;
use tokio::time::Instant;

use super::describe::may;
use super::loggers::{self, LoggersError};
use crate::api::forward::ask;
use crate::api::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::controller::{ControllerError, Forwarded};
use crate::protocol::StrBytes;
use crate::protocol::client::{decode_response, encode_request};

/// Resources, and settings, that one request may be about: while the controller decides, nobody else's request is
/// decided (Kafka `QuorumController.MAX_RECORDS_PER_USER_OP`).
const CHANGES_MAX: usize = 10_000;

/// How long another node is waited for that is to change settings.
const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes before a frame that say its length.
const LENGTH_PREFIX_LEN: usize = 4;

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
    #[error("{0}")]
    NotAllowed(ResponseError),
}

impl AlterError {
    fn code(&self) -> ResponseError {
        match self {
            Self::Settings(error) => errors::of_alter_config(error),
            Self::Loggers(error) => errors::of_loggers(error),
            Self::Controller(error) => errors::of_controller(error),
            Self::TooMany => ResponseError::PolicyViolation,
            Self::NotAllowed(error) => *error,
        }
    }
}

type Results = Vec<Result<(), AlterError>>;
type Decide = fn(&Image, &BrokerConfig, NodeId, &[Alteration], bool) -> Decision<Vec<Result<(), AlterConfigError>>>;

/// AlterConfigs: all settings of the resources are replaced.
pub fn handle_alter<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
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
        let decide = (asked.validate_only, alter_configs as Decide);
        let results = decide_allowed(context, session, &request.access, &alterations, decide).await;
        tell(&request, &alterations, &results, asked.validate_only);
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

/// Whether the leader of the metadata is to carry out an IncrementalAlterConfigs alone. Levels of the log are this
/// node's own.
pub fn is_for_controller(request: &Request) -> bool {
    let asked = request.decode::<IncrementalAlterConfigsRequest>();
    asked.is_ok_and(|asked| asked.resources.iter().all(|of| of.resource_type != resource_type::BROKER_LOGGER))
}

/// IncrementalAlterConfigs: settings are changed one by one. Levels of the log are settings of a broker's loggers.
pub fn handle_incremental<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
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
        let names: Vec<(i8, StrBytes)> =
            asked.resources.iter().map(|of| (of.resource_type, of.resource_name.clone())).collect();
        let is_levels = |kind: i8| kind == resource_type::BROKER_LOGGER;
        let validate_only = asked.validate_only;
        let (levels, settings): (Vec<_>, Vec<_>) =
            asked.resources.into_iter().partition(|of| is_levels(of.resource_type));
        let mut levels_told = alter_levels(context, &request.access, &levels, validate_only).into_iter();
        let elsewhere = match levels.is_empty() || settings.is_empty() || session.is_forwarded() {
            true => None,
            // The request was kept here for its levels.
            false => alter_elsewhere(context, session, request.header.version, &settings, validate_only).await,
        };
        let settings_told = match elsewhere {
            Some(told) => told,
            None if settings.is_empty() => Vec::new(),
            None => {
                let alterations: Arc<[Alteration]> = settings.iter().map(alteration).collect();
                let decide = (validate_only, incremental_alter_configs as Decide);
                let results = decide_allowed(context, session, &request.access, &alterations, decide).await;
                tell(&request, &alterations, &results, validate_only);
                results.iter().map(told).collect()
            }
        };
        let mut settings_told = settings_told.into_iter();
        let responses = names.into_iter().map(|(kind, name)| {
            let row = if is_levels(kind) { levels_told.next() } else { settings_told.next() };
            let (code, message) = row.unwrap_or_else(|| told(&Err(ControllerError::NotAvailable.into())));
            incremental::AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(kind)
                .with_resource_name(name)
        });
        let body = IncrementalAlterConfigsResponse::default().with_responses(responses.collect());
        Outcome::reply(&request.header, &body)
    })
}

/// A row of an answer: code and words.
type Told = (i16, Option<StrBytes>);

/// Levels of this node's log.
fn alter_levels(context: &Context, access: &Access, levels: &[WantedSettings], validate_only: bool) -> Vec<Told> {
    // The metadata knows their form, and no more of them.
    const LOGGERS: AlterConfigError = AlterConfigError::UnknownResourceType(resource_type::BROKER_LOGGER);
    let alterations: Vec<Alteration> = levels.iter().map(alteration).collect();
    let now = context.controller.published();
    let checked = incremental_alter_configs(&now.image, &now.settings, context.node_id(), &alterations, true).reply;
    let result = |(result, wanted): (Result<(), AlterConfigError>, &Alteration)| match result {
        _ if !access.may(Operation::AlterConfigs, Resource::Cluster) => {
            Err(AlterError::NotAllowed(ResponseError::ClusterAuthorizationFailed))
        }
        Err(LOGGERS) => loggers::alter(context, wanted, validate_only).map_err(AlterError::from),
        result => result.map_err(AlterError::from),
    };
    checked.into_iter().zip(&alterations).map(result).map(|result| told(&result)).collect()
}

/// Has another node change settings. `None`: this one decides, or nobody does.
async fn alter_elsewhere(
    context: &Context,
    session: &Session,
    version: i16,
    settings: &[WantedSettings],
    validate_only: bool,
) -> Option<Vec<Told>> {
    let asked =
        IncrementalAlterConfigsRequest::default().with_resources(settings.to_vec()).with_validate_only(validate_only);
    let frame = encode_request(version, 0, Some(&session.client_id), &asked).ok()?;
    let deadline = Instant::now() + ELSEWHERE_PATIENCE;
    let answer = match ask(context, session, frame.slice(LENGTH_PREFIX_LEN..), deadline).await {
        Ok(Forwarded::Done(answer)) if answer.len() > LENGTH_PREFIX_LEN => answer.slice(LENGTH_PREFIX_LEN..),
        _ => return None,
    };
    let (_, answer) = decode_response::<IncrementalAlterConfigsRequest>(version, &answer).ok()?;
    Some(answer.responses.into_iter().map(|row| (row.error_code, row.error_message)).collect())
}

/// To the audit log: what was changed.
fn tell(request: &Request, alterations: &[Alteration], results: &Results, validate_only: bool) {
    let changed = alterations.iter().zip(results).filter(|(_, result)| result.is_ok() && !validate_only);
    for (of, _) in changed {
        let names: Vec<&str> = of.changes.iter().map(|change| change.name.as_str()).collect();
        let kind = match of.resource_type {
            resource_type::TOPIC => "topic",
            resource_type::GROUP => "group",
            resource_type::CLIENT_METRICS => "client metrics",
            _ => "broker",
        };
        request.changed("settings changed", &format!("{kind} {}: {}", of.resource_name, names.join(",")));
    }
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

/// One result for each alteration, of those that the client may make.
async fn decide_allowed(
    context: &Context,
    session: &Session,
    access: &Access,
    wanted: &Arc<[Alteration]>,
    (validate_only, how): (bool, Decide),
) -> Results {
    if access.is_unrestricted() {
        return decide(context, session, wanted, validate_only, how).await;
    }
    let verdict = |of: &Alteration| may(access, Operation::AlterConfigs, of.resource_type, &of.resource_name).err();
    let refused: Vec<Option<ResponseError>> = wanted.iter().map(verdict).collect();
    let allowed = wanted.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
    let allowed: Arc<[Alteration]> = allowed.map(|(of, _)| of.clone()).collect();
    let mut decided = decide(context, session, &allowed, validate_only, how).await.into_iter();
    let result = |refused: Option<ResponseError>| match refused {
        Some(error) => Err(AlterError::NotAllowed(error)),
        None => decided.next().expect("each alteration has its result"),
    };
    refused.into_iter().map(result).collect()
}

/// One result for each alteration. What is changed is in force on this node when this returns.
async fn decide(
    context: &Context,
    session: &Session,
    wanted: &Arc<[Alteration]>,
    validate_only: bool,
    decide: Decide,
) -> Results {
    let asked = session.forwarded_by.unwrap_or_else(|| context.node_id());
    let settings = Arc::clone(&context.controller.published().settings);
    let request = Arc::clone(wanted);
    let decided =
        context.controller.change(move |image| decide(image, &settings, asked, &request, validate_only)).await;
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

fn alteration(from: &WantedSettings) -> Alteration {
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
