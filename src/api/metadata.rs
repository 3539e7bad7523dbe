//! Metadata (3): which nodes there are, and which of them serves what. Topics that are asked for and missing are
//! created on the way, where the client and the broker both allow it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use millstream_core::controller::{Image, NewTopic, Topic};
use millstream_core::security::Operation;
use millstream_core::types::{self, PartitionId, TopicId};
use uuid::Uuid;

use super::compute::compute;
use super::leaders::{Lead, Reach, describe};
use super::topic_creation::missing_topics;
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session};
use crate::config::Listener;
use crate::protocol::{RequestHeader, StrBytes};

/// Topics may go by their ids from this version on.
const TOPIC_ID_FROM: i16 = 12;
/// The cluster's operations are told in these versions only.
const CLUSTER_OPERATIONS: std::ops::RangeInclusive<i16> = 8..=10;
/// A topic's from this one on.
const TOPIC_OPERATIONS_FROM: i16 = 8;
/// About what one topic takes in a response.
const BYTES_PER_TOPIC: usize = 100;

pub fn handle<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(answer(Arc::clone(context), Arc::clone(&session.listener), request))
}

async fn answer(context: Arc<Context>, listener: Arc<Listener>, request: Request) -> Outcome {
    let asker = Arc::new(Asker { context, listener, request });
    let reader = Arc::clone(&asker);
    let first = compute(asker.request.body.len(), move || reader.read()).await;
    let (missing, size_bytes) = match first {
        First::Answered(outcome) => return outcome,
        First::ToCreate(missing) => (missing, asker.request.body.len()),
        First::ToList { size_bytes } => (Vec::new(), size_bytes),
    };
    if !missing.is_empty() {
        asker.context.create_on_demand(missing).await;
    }
    compute(size_bytes, move || asker.respond()).await
}

/// A request, and who answers it to whom. It is read again when something is to be done first: a million names take a
/// hundred megabytes, which are not to be held meanwhile.
struct Asker {
    context: Arc<Context>,
    listener: Arc<Listener>,
    request: Request,
}

/// What becomes of a request when it is first read.
enum First {
    Answered(Outcome),
    /// These are created before it is answered.
    ToCreate(Vec<NewTopic>),
    /// All topics are wanted, in a response of about this size.
    ToList {
        size_bytes: usize,
    },
}

impl Asker {
    fn read(&self) -> First {
        let asked: MetadataRequest = match self.request.decode() {
            Ok(asked) => asked,
            Err(close) => return First::Answered(close),
        };
        let may_create = asked.allow_auto_topic_creation;
        let (operations, wanted) = match self.understand(asked) {
            Ok(understood) => understood,
            Err(refused) => return First::Answered(refused),
        };
        let controller = &self.context.controller;
        let missing = match &wanted {
            Wanted::All => {
                return First::ToList { size_bytes: controller.look(|now| now.image.topic_count()) * BYTES_PER_TOPIC };
            }
            Wanted::Names(names) if may_create => controller.look(|now| {
                let is_on = now.settings.boolean("auto.create.topics.enable");
                let access = &self.request.access;
                let may_see = |name: &str| access.may_quietly(Operation::Describe, Resource::Topic(name));
                let may_be_made = |name: &&str| {
                    is_on && !controller.was_deleted(name) && may_see(name) && may_create_topic(access, name)
                };
                missing_topics(names.iter().map(|name| &**name).filter(may_be_made), &now.image, &now.settings)
            }),
            Wanted::Names(_) | Wanted::Ids(_) => Vec::new(),
        };
        match missing.is_empty() {
            true => First::Answered(self.describe(&operations, &wanted)),
            false => First::ToCreate(missing),
        }
    }

    fn respond(&self) -> Outcome {
        let understood = self.request.decode().and_then(|asked| self.understand(asked));
        match understood {
            Ok((operations, wanted)) => self.describe(&operations, &wanted),
            Err(outcome) => outcome,
        }
    }

    fn understand(&self, asked: MetadataRequest) -> Result<(Operations, Wanted), Outcome> {
        let header = &self.request.header;
        let operations = Operations {
            of_cluster: asked.include_cluster_authorized_operations && CLUSTER_OPERATIONS.contains(&header.version),
            of_topics: asked.include_topic_authorized_operations && header.version >= TOPIC_OPERATIONS_FROM,
            creates: asked.allow_auto_topic_creation,
        };
        match wanted(header.version, asked.topics) {
            Ok(wanted) => Ok((operations, wanted)),
            Err(topics) => Err(refuse_all(header, topics)),
        }
    }

    fn describe(&self, asked: &Operations, wanted: &Wanted) -> Outcome {
        let Self { context, listener, request } = self;
        let now = context.controller.published();
        let view = View {
            image: &now.image,
            reach: context.reach(listener),
            version: request.header.version,
            lead: &|id| context.lead(id),
            access: &request.access,
            tells_operations: asked.of_topics,
            creates: asked.creates && now.settings.boolean("auto.create.topics.enable"),
        };
        let brokers = context.reachable_nodes(listener).into_iter().map(|node| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(node.id.0))
                .with_host(node.host)
                .with_port(i32::from(node.port))
                .with_rack(node.rack)
        });
        let body = MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(context.cluster_id()))
            .with_controller_id(BrokerId(context.controller_node().0))
            .with_cluster_authorized_operations(request.access.cluster_operations_if(asked.of_cluster))
            .with_topics(view.topics(wanted));
        Outcome::reply(&request.header, &body)
    }
}

/// Whose operations a client wants to know too.
struct Operations {
    of_cluster: bool,
    of_topics: bool,
    /// And whether what is missing is to be made.
    creates: bool,
}

/// Which topics a client wants to know about.
#[derive(Debug, PartialEq)]
enum Wanted {
    All,
    /// None twice.
    Ids(BTreeSet<Uuid>),
    /// As they were sent.
    Names(Vec<StrBytes>),
}

/// All topics: null, and in version 0 an empty list. One id makes it a request by ids, and names are passed over then
/// (Kafka `KafkaApis.handleTopicMetadataRequest`). The error: a topic has neither, or an id before its time.
fn wanted(version: i16, topics: Option<Vec<MetadataRequestTopic>>) -> Result<Wanted, Vec<MetadataRequestTopic>> {
    let Some(topics) = topics.filter(|topics| version > 0 || !topics.is_empty()) else { return Ok(Wanted::All) };
    let is_bad = |topic: &MetadataRequestTopic| match version {
        TOPIC_ID_FROM.. => topic.name.is_none() && topic.topic_id.is_nil(),
        _ => topic.name.is_none() || !topic.topic_id.is_nil(),
    };
    if topics.iter().any(is_bad) {
        return Err(topics);
    }
    let ids: BTreeSet<Uuid> = topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil()).collect();
    match ids.is_empty() {
        true => Ok(Wanted::Names(topics.into_iter().filter_map(|topic| topic.name).map(|name| name.0).collect())),
        false => Ok(Wanted::Ids(ids)),
    }
}

fn refuse_all(header: &RequestHeader, topics: Vec<MetadataRequestTopic>) -> Outcome {
    let refuse = |topic: MetadataRequestTopic| {
        MetadataResponseTopic::default()
            .with_name(Some(topic.name.unwrap_or_default()))
            .with_topic_id(topic.topic_id)
            .with_error_code(ResponseError::InvalidRequest.code())
    };
    Outcome::reply(header, &MetadataResponse::default().with_topics(topics.into_iter().map(refuse).collect()))
}

/// What topics are described from.
struct View<'a> {
    image: &'a Image,
    reach: Reach,
    version: i16,
    lead: &'a dyn Fn(PartitionId) -> Lead,
    access: &'a Access,
    tells_operations: bool,
    /// What is missing would be made.
    creates: bool,
}

impl View<'_> {
    /// Each topic once.
    fn topics(&self, wanted: &Wanted) -> Vec<MetadataResponseTopic> {
        match wanted {
            Wanted::All => {
                let may_see = |topic: &&Arc<Topic>| {
                    self.access.may_quietly(Operation::Describe, Resource::Topic(topic.name.as_str()))
                };
                self.image.topics().filter(may_see).map(|topic| self.topic(topic)).collect()
            }
            Wanted::Ids(ids) => ids.iter().map(|id| self.topic_by_id(*id)).collect(),
            Wanted::Names(names) => {
                let mut seen = HashSet::with_capacity(names.len());
                let each_once = names.iter().filter(|name| seen.insert(&***name));
                each_once.map(|name| self.topic_by_name(name)).collect()
            }
        }
    }

    fn topic_by_id(&self, id: Uuid) -> MetadataResponseTopic {
        match self.image.topic(TopicId(id)) {
            // An id tells nothing: that there is such a topic is no secret.
            Some(topic) if !self.access.may(Operation::Describe, Resource::Topic(topic.name.as_str())) => {
                MetadataResponseTopic::default()
                    .with_name(None)
                    .with_topic_id(id)
                    .with_error_code(ResponseError::TopicAuthorizationFailed.code())
            }
            Some(topic) => self.topic(topic),
            None => MetadataResponseTopic::default()
                .with_name(None)
                .with_topic_id(id)
                .with_error_code(ResponseError::UnknownTopicId.code()),
        }
    }

    fn topic_by_name(&self, name: &StrBytes) -> MetadataResponseTopic {
        let refused = |error: ResponseError| {
            MetadataResponseTopic::default().with_name(Some(TopicName(name.clone()))).with_error_code(error.code())
        };
        // Not even looked for.
        if let Err(error) = self.access.check(Operation::Describe, Resource::Topic(name)) {
            return refused(error);
        }
        if let Some(topic) = self.image.topic_by_name(name) {
            return self.topic(topic);
        }
        let (error, is_internal) = missing(name);
        if self.creates && !may_create_topic(self.access, name) {
            return refused(ResponseError::TopicAuthorizationFailed).with_is_internal(is_internal);
        }
        refused(error).with_is_internal(is_internal).with_topic_authorized_operations(self.operations(name))
    }

    fn operations(&self, name: &str) -> i32 {
        self.access.operations_if(self.tells_operations, Resource::Topic(name))
    }

    fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
            let lead = (self.lead)(PartitionId { topic: topic.id, partition: index });
            let told = describe(&lead, &self.reach, partition, self.version);
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(told.error.map_or(0, |error| error.code()))
                .with_leader_id(told.leader_id)
                .with_leader_epoch(told.leader_epoch)
                .with_replica_nodes(told.replicas)
                .with_isr_nodes(told.isr)
                .with_offline_replicas(told.offline)
        });
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
            .with_topic_id(topic.id.0)
            .with_is_internal(topic.name.is_internal())
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(self.operations(topic.name.as_str()))
    }
}

/// Whether a client may have a topic made: by what it may do with the cluster, or with the topic.
fn may_create_topic(access: &Access, name: &str) -> bool {
    access.may_quietly(Operation::Create, Resource::Cluster) || access.may(Operation::Create, Resource::Topic(name))
}

/// What is told of a topic that is not there, and whether it would be an internal one.
pub(super) fn missing(name: &str) -> (ResponseError, bool) {
    match types::TopicName::new(name) {
        Ok(name) => (ResponseError::UnknownTopicOrPartition, name.is_internal()),
        Err(_) => (ResponseError::InvalidTopicException, false),
    }
}

#[cfg(test)]
pub(super) mod tests;
