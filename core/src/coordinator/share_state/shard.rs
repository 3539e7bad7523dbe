//! All share-partitions of one partition of `__share_group_state`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::command::{
    Command, DeleteState, InitializeState, ReadState, ReadSummary, Reply, ShareStateError, WriteState,
};
use super::decision::{Applied, Decision};
use super::merge::merge;
use super::record::{Change, Update, decode};
use super::state::{NOT_COUNTED, ShareState, ShareStateKey, ShareSummary};
use crate::coordinator::DecodeError;
use crate::types::{LeaderEpoch, Timestamp, TopicId, TopicName};

/// Share-partitions after which a look at all of them pauses, so that other commands get their turn.
const KEYS_PER_PASS: usize = 10_000;

/// The state machine. One owner; dropped when the node no longer leads the partition.
#[derive(Debug, Default)]
pub struct Shard {
    kept: BTreeMap<ShareStateKey, Kept>,
}

/// A state, and the highest epochs that it ever had: a group that begins anew does not let those before it back in.
#[derive(Debug)]
struct Kept {
    state: ShareState,
    leader_epoch: LeaderEpoch,
    state_epoch: i32,
}

impl Shard {
    /// Share-partitions in memory.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub fn get(&self, key: &ShareStateKey) -> Option<&ShareState> {
        self.kept.get(key).map(|kept| &kept.state)
    }

    /// What `command` leads to. Changes nothing.
    pub fn decide(&self, now: Timestamp, command: &Command) -> Decision {
        match command {
            Command::Initialize(initialize) => self.initialize(now, initialize),
            Command::Read(read) => self.read(now, read),
            Command::Write(write) => self.write(now, write),
            Command::Delete(delete) => self.delete(delete),
            Command::ReadSummary(read) => Decision::reply(read.token, Reply::ReadSummary(self.summary(read))),
            Command::Loaded => Decision::default(),
            Command::TopicsDeleted { topics, after } => self.forget_topics(topics, after.as_ref()),
        }
    }

    /// Carries a decision out in memory, once its records are appended.
    pub fn apply(&mut self, decision: Decision) -> Applied {
        let Decision { changes, replies, again } = decision;
        for (key, to) in changes {
            self.put(key, to);
        }
        Applied { replies, again }
    }

    /// Takes a committed record in, as it stands in the log. One of another kind is passed over.
    pub fn replay_encoded(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        match decode(key, value)? {
            Some(Change::Snapshot(key, to)) => self.put(key, to),
            Some(Change::Update(key, update)) => self.update(key, update),
            None => {}
        }
        Ok(())
    }

    fn put(&mut self, key: ShareStateKey, to: Option<ShareState>) {
        let Some(state) = to else {
            self.kept.remove(&key);
            return;
        };
        let (mut leader_epoch, mut state_epoch) = (state.leader_epoch, state.state_epoch);
        if let Some(before) = self.kept.get(&key) {
            leader_epoch = leader_epoch.max(before.leader_epoch);
            state_epoch = state_epoch.max(before.state_epoch);
        }
        self.kept.insert(key, Kept { state, leader_epoch, state_epoch });
    }

    /// A change that Kafka wrote. One that is for an earlier snapshot is part of what is here.
    fn update(&mut self, key: ShareStateKey, update: Update) {
        let Update { snapshot_epoch, leader_epoch, start, delivery_complete, batches } = update;
        let state = match self.get(&key) {
            Some(before) if before.snapshot_epoch != snapshot_epoch => return,
            Some(before) => {
                let start = start.or(before.start);
                ShareState {
                    leader_epoch: leader_epoch.unwrap_or(before.leader_epoch),
                    start,
                    delivery_complete,
                    batches: merge(&before.batches, &batches, start),
                    ..before.clone()
                }
            }
            None => ShareState {
                snapshot_epoch,
                state_epoch: 0,
                leader_epoch: leader_epoch.unwrap_or_default(),
                start,
                delivery_complete,
                created_at: Timestamp(0),
                written_at: Timestamp(0),
                batches: merge(&[], &batches, start),
            },
        };
        self.put(key, Some(state));
    }

    fn initialize(&self, now: Timestamp, initialize: &InitializeState) -> Decision {
        let InitializeState { token, key, state_epoch, start, .. } = initialize;
        if let Err(error) = self.initializable(initialize) {
            return Decision::reply(*token, Reply::Initialize(Err(error)));
        }
        let before = self.get(key).map(|state| state.snapshot_epoch);
        let state = ShareState {
            snapshot_epoch: before.map_or(0, |epoch| epoch.wrapping_add(1)),
            state_epoch: state_epoch.unwrap_or(-1),
            leader_epoch: LeaderEpoch(0),
            start: *start,
            delivery_complete: start.map_or(NOT_COUNTED, |_| 0),
            created_at: now,
            written_at: now,
            batches: Vec::new(),
        };
        Decision::reply(*token, Reply::Initialize(Ok(()))).with(key.clone(), Some(state))
    }

    fn initializable(&self, initialize: &InitializeState) -> Result<(), ShareStateError> {
        let InitializeState { key, is_known, state_epoch, .. } = initialize;
        if key.partition < 0 {
            return Err(ShareStateError::NegativePartition);
        }
        let last = self.kept.get(key).map(|kept| kept.state_epoch);
        if last.is_some_and(|last| state_epoch.is_some_and(|epoch| epoch < last)) {
            return Err(ShareStateError::FencedStateEpoch);
        }
        if *is_known { Ok(()) } else { Err(ShareStateError::UnknownPartition) }
    }

    fn read(&self, now: Timestamp, read: &ReadState) -> Decision {
        let kept = match self.readable(read) {
            Ok(kept) => kept,
            Err(error) => return Decision::reply(read.token, Reply::Read(Err(error))),
        };
        let decision = Decision::reply(read.token, Reply::Read(Ok(kept.state.clone())));
        match read.leader_epoch {
            Some(leader_epoch) if leader_epoch != kept.leader_epoch => {
                let state = ShareState { leader_epoch, ..next(&kept.state, now) };
                decision.with(read.key.clone(), Some(state))
            }
            _ => decision,
        }
    }

    fn readable(&self, read: &ReadState) -> Result<&Kept, ShareStateError> {
        if read.key.partition < 0 {
            return Err(ShareStateError::NegativePartition);
        }
        let kept = self.kept.get(&read.key).ok_or(ShareStateError::ReadUninitialized)?;
        if read.leader_epoch.is_some_and(|epoch| epoch < kept.leader_epoch) {
            return Err(ShareStateError::FencedLeaderEpoch);
        }
        if read.is_known { Ok(kept) } else { Err(ShareStateError::UnknownPartition) }
    }

    fn write(&self, now: Timestamp, write: &WriteState) -> Decision {
        let kept = match self.writable(write) {
            Ok(kept) => kept,
            Err(error) => return Decision::reply(write.token, Reply::Write(Err(error))),
        };
        // The epochs stay: only a read makes a leader the one that counts. The start never goes back, though Kafka would
        // let it: a write that was sent again may come after a later one, and what is done with stays so.
        let start = write.start.max(kept.state.start);
        let is_late = write.start.is_some() && write.start < kept.state.start;
        let state = ShareState {
            start,
            delivery_complete: if is_late { kept.state.delivery_complete } else { write.delivery_complete },
            batches: merge(&kept.state.batches, &write.batches, start),
            ..next(&kept.state, now)
        };
        Decision::reply(write.token, Reply::Write(Ok(()))).with(write.key.clone(), Some(state))
    }

    fn writable(&self, write: &WriteState) -> Result<&Kept, ShareStateError> {
        if write.key.partition < 0 {
            return Err(ShareStateError::NegativePartition);
        }
        let kept = self.kept.get(&write.key).ok_or(ShareStateError::WriteUninitialized)?;
        if write.leader_epoch.is_some_and(|epoch| epoch < kept.leader_epoch) {
            return Err(ShareStateError::FencedLeaderEpoch);
        }
        if write.state_epoch.is_some_and(|epoch| epoch < kept.state_epoch) {
            return Err(ShareStateError::FencedStateEpoch);
        }
        if !write.is_known {
            return Err(ShareStateError::UnknownPartition);
        }
        match write.batches.iter().any(|batch| batch.last < batch.first) {
            true => Err(ShareStateError::InvalidBatch),
            false => Ok(kept),
        }
    }

    /// What is not there is deleted.
    fn delete(&self, delete: &DeleteState) -> Decision {
        let outcome = is_there(&delete.key, delete.is_known);
        let decision = Decision::reply(delete.token, Reply::Delete(outcome));
        match outcome {
            Ok(()) if self.kept.contains_key(&delete.key) => decision.with(delete.key.clone(), None),
            _ => decision,
        }
    }

    fn summary(&self, read: &ReadSummary) -> Result<ShareSummary, ShareStateError> {
        is_there(&read.key, read.is_known)?;
        let nothing =
            ShareSummary { state_epoch: 0, leader_epoch: LeaderEpoch(0), start: None, delivery_complete: NOT_COUNTED };
        Ok(self.get(&read.key).map_or(nothing, ShareState::summary))
    }

    fn forget_topics(&self, topics: &Arc<[(TopicName, TopicId)]>, after: Option<&ShareStateKey>) -> Decision {
        let mut decision = Decision::default();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.kept.range((from, Bound::Unbounded));
        let mut last = None;
        for (key, _) in rest.by_ref().take(KEYS_PER_PASS) {
            if topics.iter().any(|(_, id)| *id == key.topic) {
                decision.changes.push((key.clone(), None));
            }
            last = Some(key);
        }
        if let (Some(last), Some(_)) = (last, rest.next()) {
            decision.again = Some(Command::TopicsDeleted { topics: Arc::clone(topics), after: Some(last.clone()) });
        }
        decision
    }
}

fn is_there(key: &ShareStateKey, is_known: bool) -> Result<(), ShareStateError> {
    match (key.partition, is_known) {
        (..0, _) => Err(ShareStateError::NegativePartition),
        (_, false) => Err(ShareStateError::UnknownPartition),
        (_, true) => Ok(()),
    }
}

/// The same as the next snapshot.
fn next(state: &ShareState, now: Timestamp) -> ShareState {
    let snapshot_epoch = state.snapshot_epoch.wrapping_add(1);
    ShareState { snapshot_epoch, created_at: now, written_at: now, ..state.clone() }
}
