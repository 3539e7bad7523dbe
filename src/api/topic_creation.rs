//! Topics that come into being: because a client asks for it, or because it asks for what is not there.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::config::BrokerConfig;
use millstream_core::controller::{
    CreateTopicError, CreatedTopic, Image, NewTopic, PARTITIONS_PER_REQUEST_MAX, TopicCreation, auto_created_topic,
    create_topics,
};
use millstream_core::types::{PartitionId, TopicId, TopicName};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use super::Context;
use crate::controller::{ControllerError, Envelope, Forwarded};

/// Topics that one Metadata request may bring into being. The others come with the client's next try.
const AUTO_CREATED_MAX: usize = 1_000;
/// How long one waits for topics that it brings into being; they come later all the same.
const AUTO_CREATION_WAIT: Duration = Duration::from_millis(500);
/// How long the first elections of new partitions are waited for: a client that is told of a topic wants to use it.
const ELECTION_WAIT: Duration = Duration::from_millis(500);
/// Requests whose missing topics are being created at a time. Beyond: the client's next try does it.
const AUTO_CREATIONS_MAX: usize = 16;
/// Topics that come into being because a client asks about them.
pub struct OnDemand {
    /// Requests whose missing topics are being created.
    creations: Semaphore,
}

impl Default for OnDemand {
    fn default() -> Self {
        Self { creations: Semaphore::new(AUTO_CREATIONS_MAX) }
    }
}

/// What became of each name.
pub(super) type Creations = Vec<(String, Result<CreatedTopic, CreateTopicError>)>;

impl Context {
    /// Creates topics, or only says what would become of them. Ends when their partitions are led, or soon after.
    pub(super) async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Creations, ControllerError> {
        let settings = Arc::clone(&self.controller.published().settings);
        let usable_nodes = self.usable_nodes();
        let decide = move |image: &Image| {
            let by = TopicCreation {
                image,
                broker: &settings,
                nodes: &usable_nodes(image),
                next_id: &mut fresh_topic_id,
                pick: &mut |below| rand::random_range(0..below),
            };
            create_topics(by, &topics, validate_only)
        };
        let creations = self.controller.change(decide).await?;
        if !validate_only {
            let made = creations.iter().filter(|(_, result)| result.is_ok()).map(|(name, _)| name.clone());
            self.led(&made.collect::<Vec<_>>(), Instant::now() + ELECTION_WAIT).await;
        }
        Ok(creations)
    }

    /// Creates topics that a client asked about, if not too many do so at the same time.
    pub(super) async fn create_on_demand(&self, topics: Vec<NewTopic>) {
        if let Ok(_permit) = self.on_demand.creations.try_acquire() {
            self.auto_create(topics).await;
        }
    }

    /// Creates topics that the broker needs, wherever that is decided, and waits a little for them.
    pub(super) async fn auto_create(&self, topics: Vec<NewTopic>) {
        let count = topics.len();
        let deadline = Instant::now() + AUTO_CREATION_WAIT;
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        let making = async {
            match self.controller.forward(&Envelope::Topics(names.clone()).encode(), deadline).await? {
                Forwarded::Here => log(self.create_topics(topics, false).await?),
                Forwarded::Done(_) | Forwarded::Close(_) => {}
            }
            Ok::<(), ControllerError>(())
        };
        match tokio::time::timeout_at(deadline, making).await {
            // It goes on without us.
            Err(_elapsed) => tracing::info!(count, "topics are being created on demand"),
            Ok(Err(error)) => tracing::warn!(count, %error, "topics could not be created on demand"),
            Ok(Ok(())) => self.led(&names, deadline).await,
        }
    }

    /// Of these names, the topics that are missing, as the broker makes them by itself.
    pub(super) fn missing(&self, names: &[String]) -> Vec<NewTopic> {
        self.controller.look(|now| missing_topics(names.iter().map(String::as_str), &now.image, &now.settings))
    }

    /// Waits until somebody leads every partition of these topics, as far as this node knows.
    async fn led(&self, names: &[String], deadline: Instant) {
        let mut changes = self.partitions.leaders().changes();
        let waiting = async { while self.is_any_leaderless(names) && changes.changed().await.is_ok() {} };
        // Not in time: the client finds it out.
        drop(tokio::time::timeout_at(deadline, waiting).await);
    }

    fn is_any_leaderless(&self, names: &[String]) -> bool {
        let now = self.controller.published();
        let topics = names.iter().filter_map(|name| now.image.topic_by_name(name));
        topics.into_iter().any(|topic| {
            let mut ids = (0..).zip(&topic.partitions).map(|(partition, _)| PartitionId { topic: topic.id, partition });
            ids.any(|id| self.lead(id).leader.is_none())
        })
    }
}

/// Tells what became of topics that nobody asked for in so many words.
pub(super) fn log(creations: Creations) {
    for (name, result) in creations {
        match result {
            Ok(created) => tracing::info!(topic = name, partitions = created.partitions, "topic created on demand"),
            Err(CreateTopicError::Exists(_)) => {}
            Err(error) => tracing::warn!(topic = name, %error, "topic could not be created on demand"),
        }
    }
}

/// Of the names that a client wants to know about, the topics that are missing and may be made.
pub(super) fn missing_topics<'a>(
    names: impl Iterator<Item = &'a str>,
    image: &Image,
    broker: &BrokerConfig,
) -> Vec<NewTopic> {
    let mut seen = HashSet::new();
    let mut partitions = 0;
    let mut missing = Vec::new();
    for name in names {
        if image.topic_by_name(name).is_some() || TopicName::new(name).is_err() || !seen.insert(name) {
            continue;
        }
        let topic = auto_created_topic(name, image, broker);
        partitions += match topic.partitions {
            -1 => broker.integer("num.partitions"),
            count => i64::from(count),
        };
        let is_full = missing.len() == AUTO_CREATED_MAX || partitions > PARTITIONS_PER_REQUEST_MAX as i64;
        // The first is taken however large it is: the refusal is then the controller's.
        if is_full && !missing.is_empty() {
            break;
        }
        missing.push(topic);
    }
    missing
}

/// A random id. Like Kafka's, none begins with '-' where it is printed in base64: command lines take that for an option.
fn fresh_topic_id() -> TopicId {
    const DASH: u8 = 62;
    loop {
        let id = Uuid::new_v4();
        let [first, ..] = id.as_bytes();
        if first >> 2 != DASH {
            return TopicId(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::controller::{Command, Topic};

    use super::*;

    fn broker(settings: &[(&str, &str)]) -> BrokerConfig {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        BrokerConfig::new(settings.collect()).expect("good settings")
    }

    fn names(topics: &[NewTopic]) -> Vec<&str> {
        topics.iter().map(|topic| topic.name.as_str()).collect()
    }

    #[test]
    fn only_what_is_missing_and_can_be_is_made_and_once() {
        let mut image = Image::default();
        let there = TopicName::new("there").expect("a name");
        image.apply(&Command::CreateTopic(Topic {
            id: TopicId(Uuid::from_u128(9)),
            name: there,
            partitions: Vec::new(),
            configs: Arc::default(),
        }));
        let asked = ["there", "new", "..", "new", "a b", "other"];
        let missing = missing_topics(asked.into_iter(), &image, &BrokerConfig::default());
        assert_eq!(names(&missing), ["new", "other"]);
    }

    #[test]
    fn one_request_makes_a_bounded_number_of_topics_and_partitions() {
        let many: Vec<String> = (0..3_000).map(|n| format!("t{n}")).collect();
        let made = |settings: &[(&str, &str)]| {
            missing_topics(many.iter().map(String::as_str), &Image::default(), &broker(settings)).len()
        };
        assert_eq!(made(&[]), AUTO_CREATED_MAX);
        assert_eq!(made(&[("num.partitions", "100")]), 100);
        assert_eq!(made(&[("num.partitions", "20000")]), 1, "left to the controller to refuse");
    }

    #[test]
    fn internal_topics_count_with_their_own_partitions() {
        let broker = broker(&[("offsets.topic.num.partitions", "9999"), ("num.partitions", "2")]);
        let made = missing_topics(["__consumer_offsets", "t"].into_iter(), &Image::default(), &broker);
        assert_eq!(names(&made), ["__consumer_offsets"]);
    }

    #[test]
    fn a_fresh_id_is_printable() {
        for _ in 0..1_000 {
            let TopicId(id) = fresh_topic_id();
            assert_ne!(id.as_bytes()[0] >> 2, 62);
            assert!(!id.is_nil());
        }
    }
}
