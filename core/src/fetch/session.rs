//! One fetch session: its partitions in the order in which they are served.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::types::{LeaderEpoch, Offset};

/// A topic as the client names it. Ids since Fetch version 13.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

/// A partition as the client names it.
pub type AskKey = (TopicKey, i32);

/// What the client wants of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    pub topic: TopicKey,
    pub partition: i32,
    pub from: Offset,
    pub max_bytes: i32,
    pub current_epoch: Option<LeaderEpoch>,
    pub last_fetched_epoch: Option<LeaderEpoch>,
}

impl Ask {
    pub fn key(&self) -> AskKey {
        (self.topic.clone(), self.partition)
    }
}

/// What a response says of a partition; what the session remembers of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub has_records: bool,
    pub is_error: bool,
    /// Something that is never left out: a diverging epoch, a preferred replica.
    pub must_tell: bool,
    pub high_watermark: i64,
    pub last_stable: i64,
    pub log_start: i64,
}

struct Cached {
    ask: Ask,
    /// As last told; -1 before the first response.
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
}

/// The partitions of one client's session.
pub struct Session {
    /// The epoch of the next request.
    pub(super) next_epoch: i32,
    pub(super) by_id: bool,
    /// Served in rising place; one that gave records goes to the end, so that none starves.
    by_place: BTreeMap<u64, Cached>,
    places: HashMap<AskKey, u64>,
    next_place: u64,
}

impl Session {
    pub(super) fn new(by_id: bool) -> Self {
        Self { next_epoch: 1, by_id, by_place: BTreeMap::new(), places: HashMap::new(), next_place: 0 }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds a partition, or changes what is wanted of it.
    pub(super) fn put(&mut self, ask: Ask) {
        if let Some(cached) = self.places.get(&ask.key()).and_then(|place| self.by_place.get_mut(place)) {
            cached.ask = ask;
            return;
        }
        let place = self.take_place();
        self.places.insert(ask.key(), place);
        self.by_place.insert(place, Cached { ask, high_watermark: -1, last_stable: -1, log_start: -1 });
    }

    pub(super) fn forget(&mut self, key: &AskKey) {
        if let Some(place) = self.places.remove(key) {
            self.by_place.remove(&place);
        }
    }

    fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// What to serve, in order.
    pub fn asks(&self) -> Vec<Ask> {
        self.by_place.values().map(|c| c.ask.clone()).collect()
    }

    /// Notes what a response will say; true when it has to say it (`CachedPartition.maybeUpdateResponseData`).
    pub fn note(&mut self, key: &AskKey, answer: &Answer) -> bool {
        let Some(place) = self.places.get(key).copied() else { return true };
        let Some(cached) = self.by_place.get_mut(&place) else { return true };
        let mut tell = answer.has_records || answer.must_tell;
        if cached.high_watermark != answer.high_watermark {
            cached.high_watermark = answer.high_watermark;
            tell = true;
        }
        // Kafka does not look at it; without it consumers of committed records would not learn how far they lag.
        if cached.last_stable != answer.last_stable {
            cached.last_stable = answer.last_stable;
            tell = true;
        }
        if cached.log_start != answer.log_start {
            cached.log_start = answer.log_start;
            tell = true;
        }
        if answer.is_error {
            // An error is told every time: forgetting the watermark makes the next good answer be told as well.
            cached.high_watermark = -1;
            tell = true;
        }
        if answer.has_records && !answer.is_error {
            self.move_to_end(place);
        }
        tell
    }

    fn move_to_end(&mut self, place: u64) {
        let last = self.take_place();
        if let Some(cached) = self.by_place.remove(&place) {
            self.places.insert(cached.ask.key(), last);
            self.by_place.insert(last, cached);
        }
    }
}
