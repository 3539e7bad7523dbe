//! The sessions of a node (Kafka `FetchSessionCache`, `FetchManager.newContext`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::session::{Ask, AskKey, Session};
use crate::types::Timestamp;

/// A session that was used within this time is not given up for another, milliseconds
/// (`min.incremental.fetch.session.eviction.ms`).
const EVICTION_MS: i64 = 120_000;
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
}

/// At most `slots_max` sessions; when all are in use, clients are served without one.
pub struct SessionCache {
    slots: HashMap<i32, Slot>,
    slots_max: usize,
}

impl SessionCache {
    /// `slots_max`: `max.incremental.fetch.session.cache.slots`, default 1,000.
    pub fn new(slots_max: usize) -> Self {
        Self { slots: HashMap::new(), slots_max }
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
            self.slots.remove(&request.session_id);
            if request.epoch == FINAL_EPOCH {
                return Ok(Opened::Full(request.asks));
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
        for key in &request.forgotten {
            session.forget(key);
        }
        for ask in request.asks {
            session.put(ask);
        }
        let emptied = session.is_empty();
        drop(session);
        if emptied {
            // Nothing is left to be followed (Kafka closes such a session too).
            self.slots.remove(&request.session_id);
            return Ok(Opened::Full(Vec::new()));
        }
        Ok(Opened::Incremental { id: request.session_id, session: shared })
    }

    fn create(&mut self, now: Timestamp, request: SessionRequest, random_id: i32) -> Opened {
        if request.asks.is_empty() || !self.make_room(now) {
            return Opened::Full(request.asks);
        }
        // Ids are from 1; a taken one yields to the next free.
        let mut id = random_id.checked_abs().unwrap_or(1).max(1);
        while self.slots.contains_key(&id) {
            id = if id == i32::MAX { 1 } else { id + 1 };
        }
        let mut session = Session::new(request.by_id);
        for ask in request.asks {
            session.put(ask);
        }
        let session = Arc::new(Mutex::new(session));
        self.slots.insert(id, Slot { session: session.clone(), last_used: now });
        Opened::Created { id, session }
    }

    fn make_room(&mut self, now: Timestamp) -> bool {
        if self.slots.len() < self.slots_max {
            return true;
        }
        let oldest = self.slots.iter().min_by_key(|(_, slot)| slot.last_used).map(|(id, s)| (*id, s.last_used));
        match oldest {
            Some((id, used)) if now.0.saturating_sub(used.0) > EVICTION_MS => {
                self.slots.remove(&id);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
