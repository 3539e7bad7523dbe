//! Taking records back from a member: because it says so, because it left, because its time is over.

use std::collections::BTreeSet;

use super::partition::{ShareLimits, SharePartition, StateWrite, WriteId};
use super::run::DeliveryState;
use crate::types::{Offset, Timestamp};

/// What a member says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckType {
    /// There is no such record.
    Gap,
    Accept,
    Release,
    Reject,
    /// It needs longer.
    Renew,
}

impl AckType {
    /// `None` for a number that is no type.
    pub fn of_number(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::Gap),
            1 => Some(Self::Accept),
            2 => Some(Self::Release),
            3 => Some(Self::Reject),
            4 => Some(Self::Renew),
            _ => None,
        }
    }
}

/// Of consecutive records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub first: Offset,
    /// Inclusive.
    pub last: Offset,
    /// One for all, or one for each.
    pub types: Vec<AckType>,
}

/// Why nothing of a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcknowledgeError {
    /// INVALID_RECORD_STATE.
    #[error("not all records are acquired by the member")]
    NotAcquired,
    /// INVALID_REQUEST.
    #[error("the range ends behind what was acquired, or types and offsets do not match")]
    OutOfRange,
    /// INVALID_RECORD_STATE.
    #[error("locks are not renewed in this group")]
    RenewDisabled,
}

impl SharePartition {
    /// All or nothing. `None`: there is nothing to write, and it counts at once.
    pub fn acknowledge(
        &mut self,
        now: Timestamp,
        limits: &ShareLimits,
        member: &str,
        acknowledgements: &[Acknowledgement],
    ) -> Result<Option<StateWrite>, AcknowledgeError> {
        // On a copy, which takes its place when all is well: what a request repeats is refused as Kafka does.
        let mut to = self.clone();
        let id = to.take_write_id();
        let mut changed = BTreeSet::new();
        for acknowledgement in acknowledgements {
            to.acknowledge_range(now, limits, member, acknowledgement, id, &mut changed)?;
        }
        let write = to.write(id, changed);
        *self = to;
        Ok(write)
    }

    fn acknowledge_range(
        &mut self,
        now: Timestamp,
        limits: &ShareLimits,
        member: &str,
        acknowledgement: &Acknowledgement,
        id: WriteId,
        changed: &mut BTreeSet<Offset>,
    ) -> Result<(), AcknowledgeError> {
        let Acknowledgement { first, last, types } = acknowledgement;
        let end = last.0.checked_add(1).map(Offset).filter(|end| end > first).ok_or(AcknowledgeError::OutOfRange)?;
        let is_one_each = i64::try_from(types.len()).is_ok_and(|len| first.0.checked_add(len) == Some(end.0));
        let Some(&first_type) = types.first().filter(|_| types.len() == 1 || is_one_each) else {
            return Err(AcknowledgeError::OutOfRange);
        };
        // Records that are gone meanwhile need no word.
        if end <= self.start {
            return Ok(());
        }
        let from = (*first).max(self.start);
        if self.runs.range(..=from).next().is_none() {
            return Err(AcknowledgeError::NotAcquired);
        }
        if self.runs.range(..end).next_back().is_none_or(|(_, run)| run.end < end) {
            return Err(AcknowledgeError::OutOfRange);
        }
        if types.len() == 1 {
            return self.acknowledge_alike(now, limits, member, (*first, end), first_type, id, changed);
        }
        let mut at = *first;
        for alike in types.chunk_by(|a, b| a == b) {
            let (Some(&ack), Ok(len)) = (alike.first(), i64::try_from(alike.len())) else { continue };
            let next = Offset(at.0 + len);
            self.acknowledge_alike(now, limits, member, (at, next), ack, id, changed)?;
            at = next;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the rest of one operation")]
    fn acknowledge_alike(
        &mut self,
        now: Timestamp,
        limits: &ShareLimits,
        member: &str,
        (first, end): (Offset, Offset),
        ack: AckType,
        id: WriteId,
        changed: &mut BTreeSet<Offset>,
    ) -> Result<(), AcknowledgeError> {
        if ack == AckType::Renew && !limits.may_renew {
            return Err(AcknowledgeError::RenewDisabled);
        }
        let mut at = first.max(self.start);
        self.split(at);
        self.split(end);
        while at < end {
            let run = self.runs.get_mut(&at).ok_or(AcknowledgeError::NotAcquired)?;
            let is_acquired = run.state == DeliveryState::Acquired && run.writing.is_none();
            let lock = run.lock.as_mut().filter(|lock| is_acquired && *lock.member == *member);
            let lock = lock.ok_or(AcknowledgeError::NotAcquired)?;
            let to = match ack {
                AckType::Renew => {
                    lock.until = Timestamp(now.0.saturating_add(limits.lock_ms));
                    at = run.end;
                    continue;
                }
                AckType::Accept => DeliveryState::Acknowledged,
                AckType::Gap | AckType::Reject => DeliveryState::Archived,
                AckType::Release => run.released(limits.delivery_count),
            };
            run.state = to;
            run.writing = Some(id);
            changed.insert(at);
            at = run.end;
        }
        Ok(())
    }

    /// The member closed its session: it gives back all it has. `None`: it has nothing.
    pub fn release_member(&mut self, limits: &ShareLimits, member: &str) -> Option<StateWrite> {
        let id = self.take_write_id();
        let mut changed = Vec::new();
        for (first, run) in &mut self.runs {
            let is_its = run.lock.as_ref().is_some_and(|lock| *lock.member == *member);
            if is_its && run.state == DeliveryState::Acquired && run.writing.is_none() {
                run.state = run.released(limits.delivery_count);
                run.writing = Some(id);
                changed.push(*first);
            }
        }
        self.write(id, changed)
    }

    /// Takes back what was acquired for too long. It is free at once: the write is only for who takes over, and may
    /// fail. What is being acknowledged is left to that. `None`: no lock has ended.
    pub fn expire(&mut self, now: Timestamp, limits: &ShareLimits) -> Option<StateWrite> {
        let id = self.take_write_id();
        let mut changed = Vec::new();
        for (first, run) in &mut self.runs {
            let is_over = run.lock.as_ref().is_some_and(|lock| lock.until <= now);
            if is_over && run.state == DeliveryState::Acquired && run.writing.is_none() {
                run.state = run.released(limits.delivery_count);
                run.lock = None;
                changed.push(*first);
            }
        }
        let write = self.write(id, changed);
        self.advance();
        write
    }
}
