//! What members say of records, alone (ShareAcknowledge) or with a fetch.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::security::Operation;
use millstream_core::share::{AckType, Acknowledgement, SessionKey};
use millstream_core::types::{Offset, PartitionId, TopicId};
use uuid::Uuid;

use super::{RENEW_FROM, session_key};
use crate::api::{Access, BoxFuture, Context, Outcome, Request, Session, errors};
use crate::config::Listener;
use crate::protocol::share_acknowledge::{
    ShareAcknowledgePartitionResponse, ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareAcknowledgeTopicResponse,
};
use crate::protocol::share_fetch::{AcknowledgementBatch, ShareTopic};
use crate::protocol::{StrBytes, TopicRef};
use crate::share::Acknowledging;

pub fn handle<'a>(context: &'a Arc<Context>, session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(start(context, &session.listener, request)))
}

fn start(context: &Arc<Context>, listener: &Arc<Listener>, request: Request) -> Outcome {
    let asked: ShareAcknowledgeRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    let header = request.header;
    let refuse = |error: ResponseError| {
        let error_code = error.code();
        Outcome::reply(&header, &ShareAcknowledgeResponse { error_code, ..ShareAcknowledgeResponse::default() })
    };
    let key = match session_key(context, &request.access, asked.group_id.as_ref(), asked.member_id.as_ref()) {
        Ok(key) => key,
        Err(error) => return refuse(error),
    };
    let closes = match context.shares.acknowledges(&key, asked.share_session_epoch) {
        Ok(closes) => closes,
        Err(error) => return refuse(errors::of_share_session(error)),
    };
    let started = acknowledge(context, &request.access, &key, &asked.topics, (header.version, asked.is_renew_ack));
    let (context, listener) = (Arc::clone(context), Arc::clone(listener));
    let rest = async move {
        let ended = outcomes(started).await;
        if closes {
            context.shares.close(&key);
        }
        let acquisition_lock_timeout_ms = lock_ms(&context, &key);
        let mut body = ShareAcknowledgeResponse { acquisition_lock_timeout_ms, ..ShareAcknowledgeResponse::default() };
        for outcome in ended {
            let names_leader = outcome.error == Some(ResponseError::NotLeaderOrFollower);
            let current_leader = names_leader.then(|| {
                let topic = TopicRef::Id(outcome.topic);
                context.point_to_leader(&listener, &topic, outcome.index, &mut body.node_endpoints)
            });
            let partition = ShareAcknowledgePartitionResponse {
                index: outcome.index,
                error_code: outcome.error.map_or(0, |error| error.code()),
                error_message: outcome.message,
                current_leader: current_leader.flatten(),
            };
            match body.topics.iter_mut().find(|topic| topic.topic_id == outcome.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => body
                    .topics
                    .push(ShareAcknowledgeTopicResponse { topic_id: outcome.topic, partitions: vec![partition] }),
            }
        }
        Outcome::reply(&header, &body)
    };
    Outcome::Later(Box::pin(rest))
}

/// How long the group's records are locked, for the wire.
pub(super) fn lock_ms(context: &Context, key: &SessionKey) -> i32 {
    i32::try_from(context.shares.settings(&key.group).limits.lock_ms).unwrap_or(i32::MAX)
}

/// Acknowledgements of a partition, on their way.
pub(super) struct Started {
    topic: Uuid,
    index: i32,
    outcome: Result<Option<Acknowledging>, ResponseError>,
}

/// What became of them.
pub(super) struct Ended {
    pub topic: Uuid,
    pub index: i32,
    pub error: Option<ResponseError>,
    pub message: Option<StrBytes>,
}

/// Starts all that a request acknowledges (`KafkaApis.handleAcknowledgements`).
pub(super) fn acknowledge(
    context: &Arc<Context>,
    access: &Access,
    key: &SessionKey,
    topics: &[ShareTopic],
    (version, renews): (i16, bool),
) -> Vec<Started> {
    let mut seen = HashSet::new();
    let mut started = Vec::new();
    for topic in topics {
        let known = access.find(context, Operation::Read, &TopicRef::Id(topic.topic_id));
        for partition in &topic.partitions {
            let index = partition.index;
            if !seen.insert((topic.topic_id, index)) {
                continue;
            }
            let outcome = known.as_ref().map_err(|error| *error).and_then(|topic| {
                let acknowledgements = from_wire(&partition.acknowledgements, version, renews)?;
                if !(0..topic.partition_count).contains(&index) {
                    return Err(ResponseError::UnknownTopicOrPartition);
                }
                let id = PartitionId { topic: TopicId(topic.id.0), partition: index };
                let has_some = !acknowledgements.is_empty();
                Ok(has_some.then(|| context.shares.acknowledge(key, id, &acknowledgements)))
            });
            started.push(Started { topic: topic.topic_id, index, outcome });
        }
    }
    // As Kafka: where nothing is acknowledged at all, nothing is said of it.
    if !started.iter().any(|one| matches!(one.outcome, Ok(Some(_)))) {
        started.retain(|one| one.outcome.is_err());
    }
    started
}

/// What of a partition's acknowledgements can be told to be wrong without its records
/// (`KafkaApis.validateAcknowledgementBatches`).
fn from_wire(
    batches: &[AcknowledgementBatch],
    version: i16,
    renews: bool,
) -> Result<Vec<Acknowledgement>, ResponseError> {
    let mut last_before = -1;
    let mut acknowledgements = Vec::with_capacity(batches.len());
    for batch in batches {
        let AcknowledgementBatch { first_offset: first, last_offset: last, types } = batch;
        let is_one_each = i64::try_from(types.len()).is_ok_and(|len| last.checked_sub(*first) == Some(len - 1));
        let is_in_order = first <= last && *first >= last_before;
        let is_allowed = |ack: &AckType| *ack != AckType::Renew || renews && version >= RENEW_FROM;
        let types: Option<Vec<AckType>> =
            types.iter().map(|number| AckType::of_number(*number).filter(is_allowed)).collect();
        let types = types.filter(|types| is_in_order && (types.len() == 1 || !types.is_empty() && is_one_each));
        let types = types.ok_or(ResponseError::InvalidRequest)?;
        last_before = *last;
        acknowledgements.push(Acknowledgement { first: Offset(*first), last: Offset(*last), types });
    }
    Ok(acknowledgements)
}

/// Ends when all of them count, or are refused.
pub(super) async fn outcomes(started: Vec<Started>) -> Vec<Ended> {
    let mut ended = Vec::with_capacity(started.len());
    for Started { topic, index, outcome } in started {
        let (error, message) = match outcome {
            Ok(None) => (None, None),
            Err(error) => (Some(error), None),
            Ok(Some(acknowledging)) => match acknowledging.outcome().await {
                Ok(()) => (None, None),
                Err(error) => (Some(errors::of_share(&error)), Some(errors::message(&error))),
            },
        };
        ended.push(Ended { topic, index, error, message });
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_that_cannot_be_are_refused() {
        let batch = |first_offset, last_offset, types: &[i8]| AcknowledgementBatch {
            first_offset,
            last_offset,
            types: types.to_vec(),
        };
        let check = |batches: &[AcknowledgementBatch], version, renews| {
            from_wire(batches, version, renews).map(|acknowledgements| acknowledgements.len())
        };
        let refused = Err(ResponseError::InvalidRequest);
        assert_eq!(check(&[], 2, false), Ok(0));
        assert_eq!(check(&[batch(3, 5, &[1]), batch(6, 7, &[2, 3])], 1, false), Ok(2));
        // Kafka lets a batch begin where the one before ends; its records decide.
        assert_eq!(check(&[batch(3, 5, &[1]), batch(5, 7, &[2])], 1, false), Ok(2));
        for bad in [
            vec![batch(5, 4, &[1])],
            vec![batch(3, 5, &[])],
            vec![batch(3, 5, &[1, 1])],
            vec![batch(3, 5, &[1, 1, 1, 1])],
            vec![batch(3, 5, &[5])],
            vec![batch(3, 5, &[-1])],
            vec![batch(6, 7, &[1]), batch(3, 5, &[1])],
            vec![batch(-9, 5, &[1])],
            vec![batch(i64::MIN, i64::MAX, &[1])],
        ] {
            assert_eq!(check(&bad, 2, true), refused, "{bad:?}");
        }
        let renewal = [batch(3, 5, &[1, 4, 1])];
        assert_eq!(check(&renewal, 2, true), Ok(1));
        assert_eq!(check(&renewal, 2, false), refused);
        assert_eq!(check(&renewal, 1, true), refused);
    }
}
