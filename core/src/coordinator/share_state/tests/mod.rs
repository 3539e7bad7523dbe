mod merge;
mod records;
mod script;

use super::*;
use crate::coordinator::group::GroupId;
use crate::share::{DeliveryState, StateBatch};
use crate::types::{Offset, TopicId};

/// `GROUP:TOPIC:PARTITION`, the topic by a number.
fn key(text: &str) -> ShareStateKey {
    let mut words = text.split(':');
    let mut word = || words.next().unwrap();
    let group = GroupId::new(word()).unwrap();
    let topic = TopicId(uuid::Uuid::from_u128(word().parse().unwrap()));
    ShareStateKey { group, topic, partition: word().parse().unwrap() }
}

/// `FIRST-LAST:STATE:COUNT`.
fn batch(text: &str) -> StateBatch {
    let (range, rest) = text.split_once(':').unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let (state, count) = rest.split_once(':').unwrap();
    StateBatch {
        first: Offset(first.parse().unwrap()),
        last: Offset(last.parse().unwrap()),
        state: DeliveryState::of_number(state.parse().unwrap()).unwrap(),
        delivery_count: count.parse().unwrap(),
    }
}

fn show_batch(batch: &StateBatch) -> String {
    format!("{}-{}:{}:{}", batch.first, batch.last, batch.state.number(), batch.delivery_count)
}
