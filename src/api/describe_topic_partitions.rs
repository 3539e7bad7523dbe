//! DescribeTopicPartitions (75, KIP-966): topics and their partitions in the order of their names, page by page.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};
use millstream_core::controller::{Image, Topic};
use millstream_core::security::Operation;
use millstream_core::types::PartitionId;

use super::compute::compute;
use super::leaders::{Lead, Reach, describe};
use super::metadata::missing;
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session};
use crate::config::Listener;
use crate::protocol::StrBytes;

/// The version of Metadata in which a partition is told in the same way.
const METADATA_VERSION: i16 = 13;

pub fn handle<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    let (context, listener) = (Arc::clone(context), Arc::clone(&session.listener));
    Box::pin(async move { compute(request.body.len(), move || answer(&context, &listener, &request)).await })
}

fn answer(context: &Context, listener: &Listener, request: &Request) -> Outcome {
    let asked: DescribeTopicPartitionsRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    let now = context.controller.published();
    let limit = now.settings.integer("max.request.partition.size.limit");
    let (access, lead) = (&request.access, &|id| context.lead(id));
    let view = View { image: &now.image, access, reach: context.reach(listener), lead };
    let body = match view.page(&asked, limit) {
        Ok(body) => body,
        Err(error) => refuse_all(&asked.topics, error),
    };
    Outcome::reply(&request.header, &body)
}

fn refuse_all(topics: &[TopicRequest], error: ResponseError) -> DescribeTopicPartitionsResponse {
    let refuse = |topic: &TopicRequest| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(topic.name.clone()))
            .with_error_code(error.code())
    };
    DescribeTopicPartitionsResponse::default().with_topics(topics.iter().map(refuse).collect())
}

/// What a page is made from.
struct View<'a> {
    image: &'a Image,
    access: &'a Access,
    reach: Reach,
    lead: &'a dyn Fn(PartitionId) -> Lead,
}

impl View<'_> {
    /// As many partitions as the client wants and `limit` allows, and where to go on (Kafka
    /// `DescribeTopicPartitionsRequestHandler`).
    ///
    /// # Errors
    ///
    /// INVALID_REQUEST: the cursor is none of the topics asked for, or no partition.
    fn page(
        &self,
        asked: &DescribeTopicPartitionsRequest,
        limit: i64,
    ) -> Result<DescribeTopicPartitionsResponse, ResponseError> {
        let all = asked.topics.is_empty();
        let (from, first) = match &asked.cursor {
            Some(cursor) => (&**cursor.topic_name, cursor.partition_index),
            None => ("", 0),
        };
        let first = usize::try_from(first).map_err(|_| ResponseError::InvalidRequest)?;
        let names: BTreeSet<&str> = match all {
            true => self.image.topics().map(|topic| topic.name.as_str()).filter(|name| *name >= from).collect(),
            false => asked.topics.iter().map(|topic| &**topic.name).filter(|name| *name >= from).collect(),
        };
        if !all && asked.cursor.is_some() && !names.contains(from) {
            return Err(ResponseError::InvalidRequest);
        }
        let mut refused = Vec::new();
        let room = i64::from(asked.response_partition_limit).min(limit).max(1);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let may_see = |name: &&str| {
            let may = self.access.may(Operation::Describe, Resource::Topic(name));
            if !may && !all {
                refused.push(unauthorized(name));
            }
            may
        };
        let names: Vec<&str> = names.into_iter().filter(may_see).collect();
        let mut page = self.page_of(&names, (from, first), room);
        page.topics.append(&mut refused);
        Ok(page)
    }

    fn page_of(
        &self,
        names: &[&str],
        (from, first): (&str, usize),
        mut room: usize,
    ) -> DescribeTopicPartitionsResponse {
        let mut page = DescribeTopicPartitionsResponse::default();
        for name in names.iter().copied() {
            if room == 0 {
                return page.with_next_cursor(Some(cursor(name, 0)));
            }
            let Some(topic) = self.image.topic_by_name(name) else {
                page.topics.push(self.absent(name));
                continue;
            };
            let first = if name == from { first } else { 0 };
            let end = first.saturating_add(room).min(topic.partitions.len());
            let partitions = self.partitions(topic, first, end);
            room -= partitions.len();
            page.topics.push(
                DescribeTopicPartitionsResponseTopic::default()
                    .with_name(Some(topic_name(name)))
                    .with_topic_id(topic.id.0)
                    .with_is_internal(topic.name.is_internal())
                    .with_partitions(partitions)
                    .with_topic_authorized_operations(self.access.operations(Resource::Topic(name))),
            );
            if end < topic.partitions.len() {
                return page.with_next_cursor(Some(cursor(name, end)));
            }
        }
        page
    }

    fn absent(&self, name: &str) -> DescribeTopicPartitionsResponseTopic {
        let (error, is_internal) = missing(name);
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(topic_name(name)))
            .with_error_code(error.code())
            .with_is_internal(is_internal)
            .with_topic_authorized_operations(self.access.operations(Resource::Topic(name)))
    }

    fn partitions(&self, topic: &Topic, first: usize, end: usize) -> Vec<DescribeTopicPartitionsResponsePartition> {
        let numbered = (0..).zip(&topic.partitions).take(end).skip(first);
        let described = numbered.map(|(index, partition)| {
            let lead = (self.lead)(PartitionId { topic: topic.id, partition: index });
            let told = describe(&lead, &self.reach, partition, METADATA_VERSION);
            // A partition without leader has no error here: that it has none says it.
            DescribeTopicPartitionsResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(told.leader_id)
                .with_leader_epoch(told.leader_epoch)
                .with_replica_nodes(told.replicas)
                .with_isr_nodes(told.isr)
                .with_offline_replicas(told.offline)
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()))
        });
        described.collect()
    }
}

fn unauthorized(name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_error_code(ResponseError::TopicAuthorizationFailed.code())
}

fn cursor(name: &str, partition: usize) -> Cursor {
    let index = i32::try_from(partition).unwrap_or(i32::MAX);
    Cursor::default().with_topic_name(topic_name(name)).with_partition_index(index)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_topic_partitions_request;

    use super::*;
    use crate::api::leaders::tests::{led_by, reach};
    use crate::api::metadata::tests::image;

    fn ask(topics: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> DescribeTopicPartitionsRequest {
        DescribeTopicPartitionsRequest::default()
            .with_topics(topics.iter().map(|name| TopicRequest::default().with_name(topic_name(name))).collect())
            .with_response_partition_limit(limit)
            .with_cursor(cursor.map(|(name, index)| {
                describe_topic_partitions_request::Cursor::default()
                    .with_topic_name(topic_name(name))
                    .with_partition_index(index)
            }))
    }

    /// Pages as text: partitions of each topic or its error, and where to go on.
    fn page(request: &DescribeTopicPartitionsRequest, limit: i64) -> String {
        let image = image(&[("b", 3), ("a", 2), ("d", 1)]);
        let access = &Access::unrestricted();
        let view = View { image: &image, access, reach: reach(1, &[1], &[1]), lead: &|_| led_by(1, 2) };
        let page = match view.page(request, limit) {
            Ok(page) => page,
            Err(error) => return format!("{error:?}"),
        };
        let topics = page.topics.iter().map(|topic| {
            let name = topic.name.as_ref().map_or("", |name| name);
            match topic.error_code {
                0 => format!("{name}{:?}", topic.partitions.iter().map(|p| p.partition_index).collect::<Vec<_>>()),
                error => format!("{name}!{error}"),
            }
        });
        let next = page.next_cursor.map(|c| format!("-> {}/{}", &**c.topic_name, c.partition_index));
        topics.chain(next).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_topics_come_by_name() {
        assert_eq!(page(&ask(&[], 100, None), 2_000), "a[0, 1] b[0, 1, 2] d[0]");
    }

    #[test]
    fn pages_follow_one_another() {
        assert_eq!(page(&ask(&[], 2, None), 2_000), "a[0, 1] -> b/0");
        assert_eq!(page(&ask(&[], 2, Some(("b", 0))), 2_000), "b[0, 1] -> b/2");
        assert_eq!(page(&ask(&[], 2, Some(("b", 2))), 2_000), "b[2] d[0]");
        assert_eq!(page(&ask(&[], 100, None), 3), "a[0, 1] b[0] -> b/1", "the broker's own limit");
        assert_eq!(page(&ask(&[], i32::MIN, None), 3), "a[0] -> a/1", "at least one");
    }

    #[test]
    fn missing_topics_have_their_errors_and_take_no_room() {
        assert_eq!(page(&ask(&["d", "c", "a", "a b", "a"], 3, None), 2_000), "a[0, 1] a b!17 c!3 d[0]");
        assert_eq!(page(&ask(&["a", "c"], 2, None), 2_000), "a[0, 1] -> c/0");
        assert_eq!(page(&ask(&["a", "c"], 2, Some(("c", 0))), 2_000), "c!3");
    }

    #[test]
    fn a_cursor_must_be_one_of_the_topics_asked_for() {
        assert_eq!(page(&ask(&["a", "b"], 9, Some(("d", 0))), 2_000), "InvalidRequest");
        assert_eq!(page(&ask(&["a", "b"], 9, Some(("b", -1))), 2_000), "InvalidRequest");
        assert_eq!(page(&ask(&["a", "b"], 9, Some(("b", 7))), 2_000), "b[]", "partitions beyond the end are none");
        assert_eq!(page(&ask(&[], 9, Some(("c", 1))), 2_000), "d[0]", "a topic deleted between two pages");
    }
}
