//! Share sessions: which partitions a member fetches from this node, from request to request (Kafka `ShareSessionCache`,
//! `ShareSession`, `SharePartitionManager.newContext`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::types::PartitionId;

/// The epoch that opens a session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch that closes one.
const FINAL_EPOCH: i32 = -1;
/// Partitions of all sessions; each takes some 150 bytes.
const PARTITIONS_MAX: usize = 1_000_000;

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub group: Arc<str>,
    pub member: Arc<str>,
}

/// Why a request is refused. Its session stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareSessionError {
    /// SHARE_SESSION_NOT_FOUND.
    #[error("the member has no session here")]
    NotFound,
    /// INVALID_SHARE_SESSION_EPOCH.
    #[error("not the epoch that comes next")]
    InvalidEpoch,
    /// SHARE_SESSION_LIMIT_REACHED.
    #[error("there are as many sessions as may be")]
    LimitReached,
    /// INVALID_REQUEST.
    #[error("a request that opens a session acknowledges")]
    AcknowledgesAtOnce,
}

/// What a fetch says of its session.
#[derive(Clone, Debug)]
pub struct Open<'a> {
    pub key: &'a SessionKey,
    pub epoch: i32,
    /// Added to what is there.
    pub partitions: &'a [PartitionId],
    pub forgotten: &'a [PartitionId],
    pub acknowledges: bool,
    /// Number of the client's connection: its sessions go with it.
    pub connection: u64,
}

/// What a fetch is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// To be told of each of these partitions.
    New(Vec<PartitionId>),
    /// To be told of what is new: ask [`ShareSessions::tells`].
    On(Vec<PartitionId>),
    /// Nothing is fetched; then [`ShareSessions::close`].
    Final,
}

/// Somebody is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub key: SessionKey,
    /// Where the member may have acquired records.
    pub partitions: Vec<PartitionId>,
    /// Nobody of the group has a session here any more.
    pub is_last: bool,
}

/// The share sessions of a node.
#[derive(Debug)]
pub struct ShareSessions {
    /// `group.share.max.share.sessions`.
    max: usize,
    sessions: HashMap<SessionKey, Session>,
    by_connection: HashMap<u64, HashSet<SessionKey>>,
    members: HashMap<Arc<str>, usize>,
    partitions: usize,
}

#[derive(Debug)]
struct Session {
    /// Of the next request.
    next_epoch: i32,
    connection: u64,
    /// In the order in which they are fetched: what gave records goes to the end.
    by_place: BTreeMap<u64, PartitionId>,
    places: HashMap<PartitionId, Place>,
    next_place: u64,
}

#[derive(Debug)]
struct Place {
    at: u64,
    /// Whether the next answer names the partition even if there is nothing to say.
    must_tell: bool,
}

impl Session {
    fn new(connection: u64) -> Self {
        let (by_place, places) = (BTreeMap::new(), HashMap::new());
        Self { next_epoch: next_epoch(INITIAL_EPOCH), connection, by_place, places, next_place: 0 }
    }

    fn add(&mut self, partition: PartitionId, must_tell: bool) {
        let at = self.next_place;
        self.places.entry(partition).or_insert_with(|| {
            self.by_place.insert(at, partition);
            self.next_place += 1;
            Place { at, must_tell }
        });
    }

    fn forget(&mut self, partition: PartitionId) {
        if let Some(place) = self.places.remove(&partition) {
            self.by_place.remove(&place.at);
        }
    }

    fn move_to_end(&mut self, partition: PartitionId) {
        if let Some(place) = self.places.get_mut(&partition) {
            self.by_place.remove(&place.at);
            place.at = self.next_place;
            self.by_place.insert(place.at, partition);
            self.next_place += 1;
        }
    }

    fn all(&self) -> Vec<PartitionId> {
        self.by_place.values().copied().collect()
    }
}

fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        i32::MAX => 1,
        _ => epoch + 1,
    }
}

impl ShareSessions {
    pub fn new(max: usize) -> Self {
        let (sessions, by_connection, members) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { max, sessions, by_connection, members, partitions: 0 }
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Partitions of all sessions.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// A fetch begins.
    pub fn open(&mut self, open: &Open<'_>) -> Result<Opened, ShareSessionError> {
        match open.epoch {
            FINAL_EPOCH => {
                let session = self.sessions.get(open.key);
                session.map(|_| Opened::Final).ok_or(ShareSessionError::NotFound)
            }
            INITIAL_EPOCH if open.acknowledges => Err(ShareSessionError::AcknowledgesAtOnce),
            INITIAL_EPOCH => {
                // Its records stay acquired: it may go on to acknowledge them.
                self.remove(open.key);
                if self.sessions.len() >= self.max || self.partitions + open.partitions.len() > PARTITIONS_MAX {
                    return Err(ShareSessionError::LimitReached);
                }
                let mut session = Session::new(open.connection);
                open.partitions.iter().for_each(|partition| session.add(*partition, false));
                let all = session.all();
                self.partitions += all.len();
                self.by_connection.entry(open.connection).or_default().insert(open.key.clone());
                *self.members.entry(Arc::clone(&open.key.group)).or_default() += 1;
                self.sessions.insert(open.key.clone(), session);
                Ok(Opened::New(all))
            }
            epoch => {
                let room = PARTITIONS_MAX.saturating_sub(self.partitions);
                let session = self.sessions.get_mut(open.key).ok_or(ShareSessionError::NotFound)?;
                if session.next_epoch != epoch {
                    return Err(ShareSessionError::InvalidEpoch);
                }
                if open.partitions.len() > room {
                    return Err(ShareSessionError::LimitReached);
                }
                let before = session.places.len();
                open.partitions.iter().for_each(|partition| session.add(*partition, true));
                open.forgotten.iter().for_each(|partition| session.forget(*partition));
                session.next_epoch = next_epoch(epoch);
                self.partitions = self.partitions + session.places.len() - before;
                Ok(Opened::On(session.all()))
            }
        }
    }

    /// A request that only acknowledges. True: it closes the session, by [`Self::close`] when it is carried out.
    pub fn acknowledges(&mut self, key: &SessionKey, epoch: i32) -> Result<bool, ShareSessionError> {
        if epoch == INITIAL_EPOCH {
            return Err(ShareSessionError::InvalidEpoch);
        }
        let session = self.sessions.get_mut(key).ok_or(ShareSessionError::NotFound)?;
        if epoch == FINAL_EPOCH {
            return Ok(true);
        }
        if session.next_epoch != epoch {
            return Err(ShareSessionError::InvalidEpoch);
        }
        session.next_epoch = next_epoch(epoch);
        Ok(false)
    }

    /// Whether an answer to [`Opened::On`] names a partition.
    pub fn tells(&mut self, key: &SessionKey, partition: PartitionId, has_records: bool, is_error: bool) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return true };
        let Some(place) = session.places.get_mut(&partition) else { return true };
        let tells = has_records || is_error || place.must_tell;
        // When the error is over that is told, too.
        place.must_tell = is_error;
        if has_records {
            session.move_to_end(partition);
        }
        tells
    }

    /// The member closes its session. `None`: it has none.
    pub fn close(&mut self, key: &SessionKey) -> Option<Left> {
        let session = self.remove(key)?;
        let is_last = !self.members.contains_key(&key.group);
        Some(Left { key: key.clone(), partitions: session.all(), is_last })
    }

    /// A connection is gone, and all sessions with it.
    pub fn disconnected(&mut self, connection: u64) -> Vec<Left> {
        let keys = self.by_connection.get(&connection).cloned().unwrap_or_default();
        keys.iter().filter_map(|key| self.close(key)).collect()
    }

    fn remove(&mut self, key: &SessionKey) -> Option<Session> {
        let session = self.sessions.remove(key)?;
        self.partitions -= session.places.len();
        if let Some(keys) = self.by_connection.get_mut(&session.connection) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_connection.remove(&session.connection);
            }
        }
        if let Some(members) = self.members.get_mut(&key.group) {
            *members -= 1;
            if *members == 0 {
                self.members.remove(&key.group);
            }
        }
        Some(session)
    }
}

#[cfg(test)]
mod tests;
