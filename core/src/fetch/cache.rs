//! The sessions of a node (Kafka `FetchSessionCache`, `FetchManager.newContext`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use super::session::{Ask, AskKey, Session};
use crate::types::Timestamp;

/// A session that was used within this time is not given up for another, milliseconds
/// (`min.incremental.fetch.session.eviction.ms`).
const EVICTION_MS: i64 = 120_000;
/// Partitions that one session may hold, and all together: a client that asks for more is served without a session.
/// Kafka has no such bound; a partition takes some 200 bytes for as long as the session lives.
const SESSION_PARTITIONS_MAX: usize = 10_000;
const PARTITIONS_MAX: usize = 1_000_000;
/// "No session", and the epoch that ends one.
const FINAL_EPOCH: i32 = -1;

/// The session part of a Fetch.
pub struct SessionRequest {
    /// 0: none.
    pub session_id: i32,
    /// -1: no session wanted; 0: a new one; above: the next of this session.
    pub epoch: i32,
    /// Topics go by id (version 13 and newer).
    pub by_id: bool,
    pub asks: Vec<Ask>,
    pub forgotten: Vec<AskKey>,
}

/// How a Fetch is to be served.
pub enum Opened {
    /// All of this, and everything is told.
    Full(Vec<Ask>),
    /// All of this, everything is told, and the client may go on incrementally.
    Created { id: i32, session: Arc<Mutex<Session>> },
    /// Only changes are told.
    Incremental { id: i32, session: Arc<Mutex<Session>> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("no such fetch session")]
    IdNotFound,
    #[error("not the next epoch of the fetch session")]
    InvalidEpoch,
    #[error("the session names topics otherwise than the request")]
    TopicId,
}

struct Slot {
    session: Arc<Mutex<Session>>,
    last_used: Timestamp,
    /// What the session holds.
    partitions: usize,
}

/// At most `slots_max` sessions; when all are in use, clients are served without one.
pub struct SessionCache {
    slots: HashMap<i32, Slot>,
    slots_max: usize,
    /// Of all sessions.
    partitions: usize,
}

impl SessionCache {
    /// `slots_max`: `max.incremental.fetch.session.cache.slots`, default 1,000.
    pub fn new(slots_max: usize) -> Self {
        Self { slots: HashMap::new(), slots_max, partitions: 0 }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Finds or makes the session of a request. `random_id`: any number; it becomes the id of a new session.
    pub fn open(&mut self, now: Timestamp, request: SessionRequest, random_id: i32) -> Result<Opened, SessionError> {
        if request.epoch == FINAL_EPOCH || request.epoch == 0 {
            self.remove(request.session_id);
            if request.epoch == FINAL_EPOCH {
                return Ok(Opened::Full(last_of_each(request.asks)));
            }
            return Ok(self.create(now, request, random_id));
        }
        let slot = self.slots.get_mut(&request.session_id).ok_or(SessionError::IdNotFound)?;
        let shared = slot.session.clone();
        let mut session = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if session.next_epoch != request.epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.by_id != request.by_id && !session.is_empty() {
            return Err(SessionError::TopicId);
        }
        slot.last_used = now;
        session.next_epoch = if request.epoch == i32::MAX { 1 } else { request.epoch + 1 };
        session.by_id = request.by_id;
        // In Kafka's order: what is named in both is forgotten.
        for ask in request.asks {
            session.put(ask);
        }
        for key in &request.forgotten {
            session.forget(key);
        }
        let partitions = session.len();
        drop(session);
        self.partitions = self.partitions - slot.partitions + partitions;
        slot.partitions = partitions;
        if partitions == 0 {
            // Nothing is left to be followed (Kafka closes such a session too).
            self.remove(request.session_id);
            return Ok(Opened::Full(Vec::new()));
        }
        if partitions > SESSION_PARTITIONS_MAX || self.partitions > PARTITIONS_MAX {
            // The client asks for everything anew, and is served without a session.
            self.remove(request.session_id);
            return Err(SessionError::IdNotFound);
        }
        Ok(Opened::Incremental { id: request.session_id, session: shared })
    }

    fn remove(&mut self, id: i32) {
        if let Some(slot) = self.slots.remove(&id) {
            self.partitions -= slot.partitions;
        }
    }

    fn create(&mut self, now: Timestamp, request: SessionRequest, random_id: i32) -> Opened {
        let asks = last_of_each(request.asks);
        if asks.is_empty() || asks.len() > SESSION_PARTITIONS_MAX || !self.make_room(now, asks.len()) {
            return Opened::Full(asks);
        }
        // Ids are from 1; a taken one yields to the next free.
        let mut id = random_id.checked_abs().unwrap_or(1).max(1);
        while self.slots.contains_key(&id) {
            id = if id == i32::MAX { 1 } else { id + 1 };
        }
        let partitions = asks.len();
        let mut session = Session::new(request.by_id);
        for ask in asks {
            session.put(ask);
        }
        let session = Arc::new(Mutex::new(session));
        self.partitions += partitions;
        self.slots.insert(id, Slot { session: session.clone(), last_used: now, partitions });
        Opened::Created { id, session }
    }

    /// Makes room for a session of so many partitions, at most at the cost of the oldest one.
    fn make_room(&mut self, now: Timestamp, partitions: usize) -> bool {
        if self.has_room(partitions) {
            return true;
        }
        let oldest = self.slots.iter().min_by_key(|(_, slot)| slot.last_used).map(|(id, s)| (*id, s.last_used));
        if let Some((id, used)) = oldest
            && now.0.saturating_sub(used.0) > EVICTION_MS
        {
            self.remove(id);
        }
        self.has_room(partitions)
    }

    fn has_room(&self, partitions: usize) -> bool {
        self.slots.len() < self.slots_max && self.partitions + partitions <= PARTITIONS_MAX
    }
}

/// Each partition once, where it first stood, as it was last asked for (Kafka `FetchRequest.fetchData`).
fn last_of_each(asks: Vec<Ask>) -> Vec<Ask> {
    let mut places = HashMap::with_capacity(asks.len());
    let mut kept: Vec<Ask> = Vec::with_capacity(asks.len());
    for ask in asks {
        match places.entry(ask.key()) {
            Entry::Occupied(place) => kept[*place.get()] = ask,
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(ask);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests;
