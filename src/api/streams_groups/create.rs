//! The topics that applications need for themselves: made behind the back of the heartbeat that finds them missing, in the
//! name of its sender (`AutoTopicCreationManager.createStreamsInternalTopics`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, TopicName};
use millstream_core::controller::{CreateTopicError, NewTopic};
use millstream_core::coordinator::group::streams::InternalTopic;
use tokio::time::Instant;

use super::super::groups::str_bytes;
use super::super::{Context, Session};
use crate::controller::{Envelope, Forwarded};
use crate::protocol::client::{decode_response, encode_request};

/// The version of CreateTopics in which another node is asked.
const VERSION: i16 = 7;
/// How long a creation is tried.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the reason of one that failed is told. Every heartbeat tries again.
const TOLD_FOR: Duration = Duration::from_secs(60);
/// Topics that are created at a time, or whose failure is told; others come with a later heartbeat.
const TOPICS_MAX: usize = 10_000;
/// Bytes before a frame, which say how long it is.
const PREFIX_LEN: usize = 4;

/// Topics of applications that are being created, and those that could not be.
#[derive(Default)]
pub struct InternalTopics {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    under_way: HashSet<Arc<str>>,
    failed: HashMap<Arc<str>, (String, Instant)>,
}

impl InternalTopics {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why some of these topics could not be created a while ago.
    pub(super) fn failed<'a>(&self, names: impl Iterator<Item = &'a str>, now: Instant) -> BTreeMap<String, String> {
        let mut known = self.lock();
        known.failed.retain(|_, (_, at)| now.duration_since(*at) < TOLD_FOR);
        names.filter_map(|name| Some((name.to_owned(), known.failed.get(name)?.0.clone()))).collect()
    }

    /// Those of the topics that nobody is creating yet; from now on somebody is.
    fn begin(&self, topics: Vec<InternalTopic>) -> Vec<InternalTopic> {
        let mut known = self.lock();
        let begins = |topic: &InternalTopic| {
            known.under_way.len() + known.failed.len() < TOPICS_MAX && known.under_way.insert(Arc::clone(&topic.name))
        };
        topics.into_iter().filter(begins).collect()
    }

    fn end(&self, name: &Arc<str>, failure: Option<String>, now: Instant) {
        let mut known = self.lock();
        known.under_way.remove(name);
        match failure {
            Some(why) => drop(known.failed.insert(Arc::clone(name), (why, now))),
            None => drop(known.failed.remove(name)),
        }
    }
}

/// Creates topics, unless that is under way.
pub(super) fn create(context: &Arc<Context>, session: &Session, missing: Vec<InternalTopic>) {
    let topics = context.internal_topics.begin(missing);
    if topics.is_empty() {
        return;
    }
    let (context, by) = (Arc::clone(context), By::of(session));
    tokio::spawn(async move {
        let failures = by.create(&context, &topics).await;
        for topic in topics {
            let failure = failures.as_ref().map_or_else(|why| Some(why.clone()), |of| of.get(&*topic.name).cloned());
            match &failure {
                None => tracing::info!(topic = &*topic.name, "topic of a streams group created"),
                Some(why) => tracing::warn!(topic = &*topic.name, why, "topic of a streams group not created"),
            }
            context.internal_topics.end(&topic.name, failure, Instant::now());
        }
    });
}

/// In whose name.
struct By {
    listener: String,
    client: String,
    principal: String,
}

impl By {
    fn of(session: &Session) -> Self {
        let (client, principal) = (session.peer.to_string(), session.principal.to_string());
        Self { listener: session.listener.name.clone(), client, principal }
    }

    /// Why some topics could not be created; `Err`: why none could.
    async fn create(self, context: &Context, topics: &[InternalTopic]) -> Result<HashMap<String, String>, String> {
        let request = request(topics);
        let frame = encode_request(VERSION, 0, Some("millstream"), &request).map_err(|e| e.to_string())?;
        let Self { listener, client, principal } = self;
        let envelope = Envelope::Request { listener, client, principal, frame: frame.slice(PREFIX_LEN..) };
        match context.controller.forward(&envelope.encode(), Instant::now() + PATIENCE).await {
            Ok(Forwarded::Here) => {
                let creations = context.create_topics(topics.iter().map(new_topic).collect(), false).await;
                let failed = |(name, result): (String, Result<_, CreateTopicError>)| match result {
                    Ok(_) | Err(CreateTopicError::Exists(_)) => None,
                    Err(why) => Some((name, why.to_string())),
                };
                Ok(creations.map_err(|e| e.to_string())?.into_iter().filter_map(failed).collect())
            }
            Ok(Forwarded::Done(response)) => failures(&response),
            Ok(Forwarded::Close(reason)) => Err(reason),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// Of a response, whose frame this is.
fn failures(response: &Bytes) -> Result<HashMap<String, String>, String> {
    const TOPIC_ALREADY_EXISTS: i16 = 36;
    let frame = response.get(PREFIX_LEN..).map(|frame| response.slice_ref(frame)).unwrap_or_default();
    let (_, told) = decode_response::<CreateTopicsRequest>(VERSION, &frame).map_err(|e| e.to_string())?;
    let failed = told.topics.into_iter().filter(|row| ![0, TOPIC_ALREADY_EXISTS].contains(&row.error_code));
    let why = |code: i16, message: Option<&str>| message.map_or_else(|| format!("error {code}"), str::to_owned);
    Ok(failed.map(|row| (row.name.to_string(), why(row.error_code, row.error_message.as_deref()))).collect())
}

fn request(topics: &[InternalTopic]) -> CreateTopicsRequest {
    let config = |(key, value): (&Arc<str>, &Arc<str>)| {
        CreatableTopicConfig::default().with_name(str_bytes(key)).with_value(Some(str_bytes(value)))
    };
    let topic = |topic: &InternalTopic| {
        CreatableTopic::default()
            .with_name(TopicName(str_bytes(&topic.name)))
            .with_num_partitions(topic.partition_count)
            .with_replication_factor(topic.replication_factor.unwrap_or(-1))
            .with_configs(topic.configs.iter().map(config).collect())
    };
    let timeout_ms = i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX);
    CreateTopicsRequest::default().with_topics(topics.iter().map(topic).collect()).with_timeout_ms(timeout_ms)
}

fn new_topic(topic: &InternalTopic) -> NewTopic {
    let configs = topic.configs.iter().map(|(key, value)| (key.to_string(), Some(value.to_string())));
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.partition_count,
        replication_factor: topic.replication_factor.unwrap_or(-1),
        assignments: Vec::new(),
        configs: configs.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> InternalTopic {
        InternalTopic { name: name.into(), partition_count: 2, replication_factor: None, configs: BTreeMap::new() }
    }

    #[test]
    fn a_topic_is_created_by_one_at_a_time_and_a_failure_is_told_for_a_while() {
        let (topics, now) = (InternalTopics::default(), Instant::now());
        let names = |topics: &[InternalTopic]| topics.iter().map(|topic| topic.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&topics.begin(vec![topic("a"), topic("b")])), ["a", "b"]);
        assert_eq!(names(&topics.begin(vec![topic("a"), topic("c")])), ["c"]);
        topics.end(&"a".into(), Some("no room".to_owned()), now);
        topics.end(&"b".into(), None, now);
        assert_eq!(topics.failed(["a", "b"].into_iter(), now), [("a".to_owned(), "no room".to_owned())].into());
        assert_eq!(names(&topics.begin(vec![topic("a"), topic("b")])), ["a", "b"], "it is tried again");
        assert!(topics.failed(["a"].into_iter(), now + TOLD_FOR).is_empty());
        assert!(topics.lock().failed.is_empty());
    }

    #[test]
    fn what_another_node_made_of_it_is_understood() {
        use kafka_protocol::messages::CreateTopicsResponse;
        use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
        let row = |name: &str, code, message: Option<&str>| {
            CreatableTopicResult::default()
                .with_name(TopicName(str_bytes(name)))
                .with_error_code(code)
                .with_error_message(message.map(str_bytes))
        };
        let rows = vec![row("a", 0, None), row("b", 36, Some("there")), row("c", 37, Some("no")), row("d", 29, None)];
        let response = CreateTopicsResponse::default().with_topics(rows);
        let encoded = crate::protocol::encode_response(19, VERSION, 0, &response).expect("it is sound");
        let crate::protocol::Part::Bytes(frame) = encoded.into_parts().remove(0) else { panic!("no bytes") };
        let expected = [("c", "no"), ("d", "error 29")].map(|(name, why)| (name.to_owned(), why.to_owned()));
        assert_eq!(failures(&frame), Ok(expected.into()));
        assert!(failures(&Bytes::from_static(b"xy")).is_err());
    }
}
