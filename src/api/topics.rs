//! CreateTopics (19), DeleteTopics (20) and CreatePartitions (37). What is allowed is decided in `core::controller`.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use millstream_core::controller::{
    CreateTopicError, CreatedTopic, DeletedTopic, Image, MorePartitions, NewTopic, PARTITIONS_PER_REQUEST_MAX,
    TopicToDelete, create_partitions, delete_topics,
};
use millstream_core::security::Operation;
use millstream_core::types::{NodeId, TopicId};

use super::compute::compute;
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::controller::ControllerError;
use crate::protocol::{Decode, RequestBody, StrBytes};

/// What a client waits at least. One that does not want to wait at all still learns of a refusal, and most often of
/// success.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// Topics go by their ids, if wanted, from this version of DeleteTopics on.
const DELETE_BY_ID_FROM: i16 = 6;
/// CreateTopics tells what it made from this version on.
const CREATED_TOLD_FROM: i16 = 5;

pub fn handle_create<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let (asked, request) = match read::<CreateTopicsRequest>(request).await {
            Ok(read) => read,
            Err(close) => return close,
        };
        let refuse_all = |error: ResponseError, message: StrBytes| {
            let refuse = |topic: &CreatableTopic| refused_creation(topic.name.clone(), error, message.clone());
            CreateTopicsResponse::default().with_topics(asked.topics.iter().map(refuse).collect())
        };
        // As many partitions at least: what the controller would find too.
        if asked.topics.len() > PARTITIONS_PER_REQUEST_MAX {
            let error = CreateTopicError::TooManyPartitions;
            let body = refuse_all(errors::of_create_topic(&error), errors::message(&error));
            return Outcome::reply(&request.header, &body);
        }
        let (allowed, forbidden) = creatable(&request.access, &asked.topics);
        let topics = allowed.into_iter().map(new_topic).collect();
        let creations = in_time(asked.timeout_ms, context.create_topics(topics, asked.validate_only)).await;
        let version = request.header.version;
        let row = |(name, result): (String, Result<CreatedTopic, CreateTopicError>)| {
            if result.is_ok() && !asked.validate_only {
                request.changed("topic created", &name);
            }
            let may_see = request.access.may_quietly(Operation::DescribeConfigs, Resource::Topic(&name));
            creation(version, name, result, may_see)
        };
        let unauthorized = |topic: &CreatableTopic| {
            let message = StrBytes::from_static_str("Authorization failed.");
            refused_creation(topic.name.clone(), ResponseError::TopicAuthorizationFailed, message)
        };
        let body = match creations {
            Ok(creations) => CreateTopicsResponse::default()
                .with_topics(creations.into_iter().map(row).chain(forbidden.into_iter().map(unauthorized)).collect()),
            Err(failed) => refuse_all(failed.error, failed.message),
        };
        Outcome::reply(&request.header, &body)
    })
}

pub fn handle_delete<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let (asked, request) = match read::<DeleteTopicsRequest>(request).await {
            Ok(read) => read,
            Err(close) => return close,
        };
        let version = request.header.version;
        let (topics, mut forbidden) = deletable(context, &request.access, topics_to_delete(&asked, version));
        let settings = Arc::clone(&context.controller.published().settings);
        let wanted = topics.clone();
        let deletion = context.controller.change(move |image: &Image| delete_topics(image, &settings, &wanted));
        let responses = match in_time(asked.timeout_ms, deletion).await {
            Ok(deleted) => {
                for gone in deleted.iter().filter(|topic| topic.result.is_ok()) {
                    request.changed("topic deleted", gone.name.as_deref().unwrap_or_default());
                }
                deleted.into_iter().map(|topic| deletion_result(version, topic)).collect()
            }
            Err(failed) => topics.into_iter().map(|topic| failed.of_deletion(topic)).collect(),
        };
        let mut responses: Vec<_> = responses;
        responses.append(&mut forbidden);
        Outcome::reply(&request.header, &DeleteTopicsResponse::default().with_responses(responses))
    })
}

pub fn handle_create_partitions<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let (asked, request) = match read::<CreatePartitionsRequest>(request).await {
            Ok(read) => read,
            Err(close) => return close,
        };
        let may_alter =
            |topic: &&CreatePartitionsTopic| request.access.may(Operation::Alter, Resource::Topic(&topic.name));
        let (allowed, forbidden): (Vec<_>, Vec<_>) = asked.topics.iter().partition(may_alter);
        let wanted: Vec<MorePartitions> = allowed.into_iter().map(more_partitions).collect();
        let (usable_nodes, validate_only) = (context.usable_nodes(), asked.validate_only);
        let creation = context.controller.change(move |image: &Image| {
            let pick = &mut |below| rand::random_range(0..below);
            create_partitions(image, &usable_nodes(image), pick, &wanted, validate_only)
        });
        let result = |name: TopicName, error: Option<(ResponseError, StrBytes)>| {
            let (code, message) = error.map_or((0, None), |(e, message)| (e.code(), Some(message)));
            CreatePartitionsTopicResult::default().with_name(name).with_error_code(code).with_error_message(message)
        };
        let results = match in_time(asked.timeout_ms, creation).await {
            Ok(results) => results
                .into_iter()
                .map(|(name, outcome)| {
                    if outcome.is_ok() && !validate_only {
                        request.changed("partitions added", &name);
                    }
                    let error = outcome.err().map(|e| (errors::of_create_partitions(&e), errors::message(&e)));
                    result(topic_name(name), error)
                })
                .collect(),
            Err(failed) => asked
                .topics
                .iter()
                .map(|topic| result(topic.name.clone(), Some((failed.error, failed.message.clone()))))
                .collect(),
        };
        let mut results: Vec<_> = results;
        let error = ResponseError::TopicAuthorizationFailed;
        results.extend(
            forbidden.into_iter().map(|topic| result(topic.name.clone(), Some((error, errors::message(&error))))),
        );
        Outcome::reply(&request.header, &CreatePartitionsResponse::default().with_results(results))
    })
}

/// The typed request, read where it holds up nobody.
async fn read<T: RequestBody + Decode + Send + 'static>(request: Request) -> Result<(T, Request), Outcome> {
    compute(request.body.len(), move || Ok((request.decode()?, request))).await
}

/// Why nothing is known of the outcome.
#[derive(Debug)]
struct Failed {
    error: ResponseError,
    message: StrBytes,
}

impl Failed {
    fn of_deletion(&self, topic: TopicToDelete) -> DeletableTopicResult {
        DeletableTopicResult::default()
            .with_name(topic.name.map(topic_name))
            .with_topic_id(topic.id.0)
            .with_error_code(self.error.code())
            .with_error_message(Some(self.message.clone()))
    }
}

/// Waits for a change as long as the client does. It comes true later all the same.
async fn in_time<R>(timeout_ms: i32, change: impl Future<Output = Result<R, ControllerError>>) -> Result<R, Failed> {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).max(WAIT_MIN);
    match tokio::time::timeout(timeout, change).await {
        Ok(done) => done.map_err(|e| Failed { error: errors::of_controller(&e), message: errors::message(&e) }),
        Err(_elapsed) => {
            let message = "The request timed out. The change goes on.";
            Err(Failed { error: ResponseError::RequestTimedOut, message: StrBytes::from_static_str(message) })
        }
    }
}

fn topic_name(name: String) -> TopicName {
    TopicName(StrBytes::from_string(name))
}

fn node_ids(ids: &[BrokerId]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(id.0)).collect()
}

fn new_topic(asked: &CreatableTopic) -> NewTopic {
    let assigned = asked.assignments.iter().map(|a| (a.partition_index, node_ids(&a.broker_ids)));
    let configs = asked.configs.iter().map(|c| (c.name.to_string(), c.value.as_ref().map(|value| value.to_string())));
    NewTopic {
        name: asked.name.to_string(),
        partitions: asked.num_partitions,
        replication_factor: asked.replication_factor,
        assignments: assigned.collect(),
        configs: configs.collect(),
    }
}

/// Topics that a client may have made, and those that it may not: by what it may do with the cluster, or with each. What
/// is named twice is refused for that.
fn creatable<'a>(access: &Access, topics: &'a [CreatableTopic]) -> (Vec<&'a CreatableTopic>, Vec<&'a CreatableTopic>) {
    if access.may_quietly(Operation::Create, Resource::Cluster) {
        return (topics.iter().collect(), Vec::new());
    }
    let mut times: HashMap<&str, usize> = HashMap::new();
    topics.iter().for_each(|topic| *times.entry(&topic.name).or_default() += 1);
    let may = |topic: &&CreatableTopic| {
        times[&**topic.name] > 1 || access.may(Operation::Create, Resource::Topic(&topic.name))
    };
    topics.iter().partition(may)
}

fn creation(
    version: i16,
    name: String,
    result: Result<CreatedTopic, CreateTopicError>,
    may_see_configs: bool,
) -> CreatableTopicResult {
    let created = match result {
        Ok(created) => created,
        Err(error) => {
            return refused_creation(topic_name(name), errors::of_create_topic(&error), errors::message(&error));
        }
    };
    let result = CreatableTopicResult::default().with_name(topic_name(name)).with_error_message(None);
    if version < CREATED_TOLD_FROM {
        return result;
    }
    if !may_see_configs {
        let error = ResponseError::TopicAuthorizationFailed;
        return result.with_topic_id(created.id.0).with_topic_config_error_code(error.code()).with_configs(None);
    }
    let configs = created.configs.into_iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_string(entry.name))
            .with_value(entry.value.map(StrBytes::from_string))
            .with_read_only(entry.read_only)
            .with_config_source(entry.source.to_wire())
            .with_is_sensitive(entry.sensitive)
    });
    result
        .with_topic_id(created.id.0)
        .with_num_partitions(i32::try_from(created.partitions).unwrap_or(i32::MAX))
        .with_replication_factor(i16::try_from(created.replication_factor).unwrap_or(i16::MAX))
        .with_configs(Some(configs.collect()))
}

fn refused_creation(name: TopicName, error: ResponseError, message: StrBytes) -> CreatableTopicResult {
    CreatableTopicResult::default().with_name(name).with_error_code(error.code()).with_error_message(Some(message))
}

fn topics_to_delete(asked: &DeleteTopicsRequest, version: i16) -> Vec<TopicToDelete> {
    match version {
        DELETE_BY_ID_FROM.. => asked
            .topics
            .iter()
            .map(|t| TopicToDelete { name: t.name.as_ref().map(|name| name.to_string()), id: TopicId(t.topic_id) })
            .collect(),
        _ => {
            let names = asked.topic_names.iter();
            names.map(|name| TopicToDelete { name: Some(name.to_string()), id: TopicId::ZERO }).collect()
        }
    }
}

/// Topics that a client may delete, and what it is told of the others (`ControllerApis.deleteTopics`). What is named twice
/// is refused for that.
fn deletable(
    context: &Context,
    access: &Access,
    topics: Vec<TopicToDelete>,
) -> (Vec<TopicToDelete>, Vec<DeletableTopicResult>) {
    if access.may_quietly(Operation::Delete, Resource::Cluster) {
        return (topics, Vec::new());
    }
    let mut times: HashMap<(Option<String>, TopicId), usize> = HashMap::new();
    topics.iter().for_each(|topic| *times.entry((topic.name.clone(), topic.id)).or_default() += 1);
    let mut forbidden = Vec::new();
    let mut may = |topic: &TopicToDelete| {
        let found = match (&topic.name, topic.id) {
            (Some(name), TopicId::ZERO) => Some(name.clone()),
            (None, id) if id != TopicId::ZERO => context.find_by_id(id.0).ok().map(|found| found.name.to_string()),
            _ => None,
        };
        let Some(name) = found.filter(|_| times[&(topic.name.clone(), topic.id)] == 1) else { return true };
        let resource = Resource::Topic(&name);
        let may_see = access.may_quietly(Operation::Describe, resource);
        // Of what is not there only who may know of it is told.
        if may_see && topic.name.is_some() && context.find_by_name(&name).is_err() {
            return true;
        }
        if access.may(Operation::Delete, resource) && may_see {
            return true;
        }
        let error = ResponseError::TopicAuthorizationFailed;
        let told = DeletableTopicResult::default()
            .with_name((may_see || topic.name.is_some()).then(|| topic_name(name.clone())))
            .with_topic_id(topic.id.0)
            .with_error_code(error.code())
            .with_error_message(Some(errors::message(&error)));
        forbidden.push(told);
        false
    };
    let allowed = topics.into_iter().filter(|topic| may(topic)).collect();
    (allowed, forbidden)
}

fn deletion_result(version: i16, deleted: DeletedTopic) -> DeletableTopicResult {
    let error = deleted.result.err();
    DeletableTopicResult::default()
        .with_name(deleted.name.map(topic_name))
        .with_topic_id(deleted.id.0)
        .with_error_code(error.as_ref().map_or(0, |e| errors::of_delete_topic(e, version).code()))
        .with_error_message(error.map(|e| errors::message(&e)))
}

fn more_partitions(asked: &CreatePartitionsTopic) -> MorePartitions {
    let assigned = asked.assignments.as_ref();
    MorePartitions {
        topic: asked.name.to_string(),
        count: asked.count,
        assignments: assigned.map(|all| all.iter().map(|a| node_ids(&a.broker_ids)).collect()),
    }
}

#[cfg(test)]
mod tests;
