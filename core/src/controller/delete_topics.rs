//! DeleteTopics: by name or by id (Kafka `ControllerApis.deleteTopics`).

use std::collections::BTreeSet;

use super::{Command, Decision, Image};
use crate::config::BrokerConfig;
use crate::types::TopicId;

/// A topic as a client names it: by one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicToDelete {
    pub name: Option<String>,
    /// Zero: none.
    pub id: TopicId,
}

/// What became of it, with all that is known of its name and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    pub name: Option<String>,
    pub id: TopicId,
    pub result: Result<(), DeleteTopicError>,
}

/// Why a topic is not deleted, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicError {
    /// `delete.topic.enable` is false.
    #[error("Topic deletion is disabled.")]
    Disabled,
    #[error("Neither topic name nor id were specified.")]
    NoNameNoId,
    #[error("You may not specify both topic name and topic id.")]
    NameAndId,
    #[error("Duplicate topic name.")]
    DuplicateName,
    #[error("Duplicate topic id.")]
    DuplicateId,
    #[error("The provided topic name maps to an ID that was already supplied.")]
    NamedById,
    #[error("This server does not host this topic-partition.")]
    UnknownName,
    #[error("This server does not host this topic ID.")]
    UnknownId,
}

/// One result for each topic of the request; several equal ones share one.
pub fn delete_topics(image: &Image, broker: &BrokerConfig, topics: &[TopicToDelete]) -> Decision<Vec<DeletedTopic>> {
    let enabled = broker.boolean("delete.topic.enable");
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for topic in topics {
        if !seen.insert((topic.name.as_deref(), topic.id)) {
            twice.insert((topic.name.as_deref(), topic.id));
        }
    }
    let is_by_id = |topic: &&TopicToDelete| topic.name.is_none() && topic.id != TopicId::ZERO;
    let ids: BTreeSet<TopicId> = topics.iter().filter(is_by_id).map(|topic| topic.id).collect();
    let mut commands = Vec::new();
    let mut reply = Vec::new();
    for TopicToDelete { name, id } in topics {
        if !seen.remove(&(name.as_deref(), *id)) {
            continue;
        }
        let is_twice = twice.contains(&(name.as_deref(), *id));
        let (mut name, mut id) = (name.clone(), *id);
        let result = match (&name, id == TopicId::ZERO) {
            _ if !enabled => Err(DeleteTopicError::Disabled),
            (None, true) => Err(DeleteTopicError::NoNameNoId),
            (Some(_), false) => Err(DeleteTopicError::NameAndId),
            (Some(_), true) if is_twice => Err(DeleteTopicError::DuplicateName),
            (None, false) if is_twice => Err(DeleteTopicError::DuplicateId),
            (Some(by), true) => match image.topic_by_name(by) {
                None => Err(DeleteTopicError::UnknownName),
                Some(topic) => {
                    id = topic.id;
                    if ids.contains(&id) { Err(DeleteTopicError::NamedById) } else { Ok(()) }
                }
            },
            (None, false) => match image.topic(id) {
                None => Err(DeleteTopicError::UnknownId),
                Some(topic) => {
                    name = Some(topic.name.to_string());
                    Ok(())
                }
            },
        };
        if result.is_ok() {
            commands.push(Command::DeleteTopic { id });
        }
        reply.push(DeletedTopic { name, id, result });
    }
    Decision { commands, reply }
}
