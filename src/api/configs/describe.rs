//! DescribeConfigs: every setting with its value, where it comes from, and what it does (Kafka `ConfigHelper`).

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use millstream_core::config::describe::ConfigEntry;
use millstream_core::controller::{ResourceToDescribe, describe_configs, resource_type};
use millstream_core::security::Operation;

use super::loggers;
use crate::api::compute::compute;
use crate::api::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::controller::Published;
use crate::protocol::StrBytes;

/// Bytes that one answer may hold: all settings of some 15,000 topics. A few bytes of a request ask for many of an
/// answer; what is asked for beyond is refused.
const TOLD_BYTES_MAX: usize = 32 << 20;
/// About what one resource takes in an answer.
const BYTES_PER_RESOURCE: usize = 4 << 10;

/// What a client wants to know of each setting.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub synonyms: bool,
    pub documentation: bool,
}

/// DescribeConfigs.
pub fn handle_describe<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DescribeConfigsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let context = Arc::clone(context);
        let size_bytes = asked.resources.len().saturating_mul(BYTES_PER_RESOURCE);
        compute(size_bytes, move || Outcome::reply(&request.header, &describe(&context, &request.access, &asked))).await
    })
}

fn describe(context: &Context, access: &Access, asked: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let now = context.controller.published();
    let wanted = Wanted { synonyms: asked.include_synonyms, documentation: asked.include_documentation };
    let results = within(TOLD_BYTES_MAX, &asked.resources, |resource| {
        let name = &resource.resource_name;
        if let Err(error) = may(access, Operation::DescribeConfigs, resource.resource_type, name) {
            return refused(error, &error);
        }
        match resource.resource_type {
            resource_type::BROKER_LOGGER => loggers::describe(context, resource),
            _ => of_settings(&now, resource, wanted),
        }
    });
    DescribeConfigsResponse::default().with_results(results)
}

/// Whether a client may do this with the settings of something. Brokers, their loggers and client metrics go with the
/// cluster; what has no settings is not refused for this.
pub(super) fn may(access: &Access, operation: Operation, kind: i8, name: &str) -> Result<(), ResponseError> {
    match kind {
        resource_type::TOPIC => access.check(operation, Resource::Topic(name)),
        resource_type::GROUP => access.check(operation, Resource::Group(name)),
        resource_type::BROKER | resource_type::BROKER_LOGGER | resource_type::CLIENT_METRICS => {
            access.check(operation, Resource::Cluster)
        }
        _ => Ok(()),
    }
}

/// Describes resources one after the other until the answer is full. What is asked for twice is told once, for so do
/// clients keep it.
pub(super) fn within(
    told_bytes_max: usize,
    resources: &[DescribeConfigsResource],
    describe: impl Fn(&DescribeConfigsResource) -> DescribeConfigsResult,
) -> Vec<DescribeConfigsResult> {
    let mut room = Some(told_bytes_max);
    let mut seen = HashSet::new();
    let one = |resource: &DescribeConfigsResource| {
        let answer = room.and_then(|left| {
            let answer = describe(resource);
            room = left.checked_sub(answer.configs.iter().map(size_bytes).sum());
            room.is_some().then_some(answer)
        });
        let answer = answer
            .unwrap_or_else(|| refused(ResponseError::InvalidRequest, &"More is asked for than one answer may hold."));
        answer.with_resource_type(resource.resource_type).with_resource_name(resource.resource_name.clone())
    };
    let key =
        |of: &DescribeConfigsResource| (of.resource_type, of.resource_name.clone(), of.configuration_keys.clone());
    resources.iter().filter(|resource| seen.insert(key(resource))).map(one).collect()
}

/// About what a setting takes on the wire.
fn size_bytes(config: &DescribeConfigsResourceResult) -> usize {
    const FIXED: usize = 16;
    let text = |text: &Option<StrBytes>| text.as_ref().map_or(0, |text| text.len());
    let synonyms = config.synonyms.iter().map(|synonym| FIXED + synonym.name.len() + text(&synonym.value));
    FIXED + config.name.len() + text(&config.value) + text(&config.documentation) + synonyms.sum::<usize>()
}

fn of_settings(now: &Published, resource: &DescribeConfigsResource, wanted: Wanted) -> DescribeConfigsResult {
    let names = resource.configuration_keys.as_ref();
    let to_describe = ResourceToDescribe {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.to_string(),
        names: names.map(|names| names.iter().map(|name| name.to_string()).collect()),
    };
    match describe_configs(&now.image, &now.settings, &to_describe) {
        Ok(entries) => DescribeConfigsResult::default()
            .with_error_message(None)
            .with_configs(entries.into_iter().map(|entry| to_wire(entry, wanted)).collect()),
        Err(error) => refused(errors::of_describe_configs(&error), &error),
    }
}

/// An error without words is told without.
pub(super) fn refused(error: ResponseError, message: &impl std::fmt::Display) -> DescribeConfigsResult {
    let message = Some(errors::message(message)).filter(|message| !message.is_empty());
    DescribeConfigsResult::default().with_error_code(error.code()).with_error_message(message)
}

pub(super) fn to_wire(entry: ConfigEntry, wanted: Wanted) -> DescribeConfigsResourceResult {
    let text = |text: Option<String>| text.map(StrBytes::from_string);
    let synonyms = if wanted.synonyms { entry.synonyms } else { Vec::new() };
    let synonym = |synonym: millstream_core::config::describe::SynonymValue| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_string(synonym.name))
            .with_value(text(synonym.value))
            .with_source(synonym.source.to_wire())
    };
    let documentation = Some(entry.documentation).filter(|words| wanted.documentation && !words.is_empty());
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(entry.name))
        .with_value(text(entry.value))
        .with_config_source(entry.source.to_wire())
        .with_config_type(entry.kind.to_wire())
        .with_read_only(entry.read_only)
        .with_is_sensitive(entry.sensitive)
        .with_synonyms(synonyms.into_iter().map(synonym).collect())
        .with_documentation(text(documentation))
}
