//! ListConfigResources: everything that has settings (KIP-1142). Its first version listed client metrics
//! subscriptions alone (KIP-714).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use millstream_core::controller::{ConfigOwner, Image, resource_type};
use millstream_core::security::Operation;

use crate::api::{BoxFuture, Context, Outcome, Request, Resource, Session};
use crate::protocol::StrBytes;

/// In the order in which Kafka lists them.
const KINDS: &[i8] = &[
    resource_type::GROUP,
    resource_type::CLIENT_METRICS,
    resource_type::BROKER_LOGGER,
    resource_type::BROKER,
    resource_type::TOPIC,
];

/// ListConfigResources.
pub fn handle_list<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(answer(context, &request)))
}

fn answer(context: &Context, request: &Request) -> Outcome {
    let asked: ListConfigResourcesRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    if let Err(error) = request.access.check(Operation::DescribeConfigs, Resource::Cluster) {
        let body = ListConfigResourcesResponse::default().with_error_code(error.code());
        return Outcome::reply(&request.header, &body);
    }
    let body = match wanted(request.header.version, &asked.resource_types) {
        Ok(kinds) => {
            let now = context.controller.published();
            let resources = kinds.iter().flat_map(|kind| list(&now.image, *kind));
            ListConfigResourcesResponse::default().with_config_resources(resources.collect())
        }
        Err(error) => ListConfigResourcesResponse::default().with_error_code(error.code()),
    };
    Outcome::reply(&request.header, &body)
}

/// What is to be listed; nothing named means everything.
pub(super) fn wanted(version: i16, named: &[i8]) -> Result<Vec<i8>, ResponseError> {
    let known = if version == 0 { &[resource_type::CLIENT_METRICS] } else { KINDS };
    if named.iter().any(|kind| !known.contains(kind)) {
        return Err(ResponseError::UnsupportedVersion);
    }
    Ok(known.iter().copied().filter(|kind| named.is_empty() || named.contains(kind)).collect())
}

pub(super) fn list(image: &Image, kind: i8) -> Vec<ConfigResource> {
    let resource = |name: String| {
        ConfigResource::default().with_resource_type(kind).with_resource_name(StrBytes::from_string(name))
    };
    match kind {
        resource_type::TOPIC => image.topics().map(|topic| resource(topic.name.to_string())).collect(),
        resource_type::BROKER | resource_type::BROKER_LOGGER => {
            image.nodes().map(|node| resource(node.id.to_string())).collect()
        }
        _ => {
            let name = |owner: &ConfigOwner| match owner {
                ConfigOwner::Group(name) if kind == resource_type::GROUP => Some(name.clone()),
                ConfigOwner::ClientMetrics(name) if kind == resource_type::CLIENT_METRICS => Some(name.clone()),
                _ => None,
            };
            image.config_owners().filter_map(name).map(resource).collect()
        }
    }
}
