//! A replica from what is on disk.

use std::sync::Arc;

use millstream_core::partition::{AbortedTransactions, BatchSequence, LeaderEpochs, Producers};
use millstream_core::replica::{
    BIRTH, BatchDescriptor, Entry, EntryDataError, EntryKind, HardState, Membership, Replica, Start,
};
use millstream_core::types::{LogMark, Offset, PartitionId, PeerId, RaftIndex, RaftTerm};

use super::Group;
use super::anew::held_until;
use super::install::finish_install;
use crate::log::{self, DataDir, Descriptor, Known, Log, LogConfig, LogEvent, LogStart, Opened, ScannedFrame};
use crate::store::{self, Durability, Store, StoreError};

/// A replica that was read back. It leads nothing yet: sync the data directory, then `campaign`.
pub struct Recovered {
    pub group: Group,
    pub log_start: Offset,
    /// The offset after all that is known to be committed.
    pub high_watermark: Offset,
    /// Entries up to here are folded into `producers`.
    pub applied: RaftIndex,
    /// The batches after `applied` are in its queue of the uncommitted.
    pub producers: Producers,
    /// Whose markers are in the log, up to `applied`.
    pub aborted: AbortedTransactions,
    /// What the store has to learn of the log.
    pub events: Vec<LogEvent>,
}

/// Why a replica could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Committed data is missing or damaged. Where others have it the replica begins anew; else an operator must look
    /// (`millstream debug log FILE`).
    #[error("{0}")]
    Lost(log::LostPlace),
    #[error("{0}")]
    Log(#[from] log::LogError),
    #[error("{0}")]
    Open(log::OpenError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Entry(#[from] EntryDataError),
    #[error("the stored checkpoint is of a log position that does not decode")]
    Checkpoint,
}

impl RecoverError {
    /// What is on disk is damaged; all else (no room, no descriptors, a disk that does not answer) may pass.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Entry(_) | Self::Checkpoint | Self::Store(StoreError::Damaged(_)))
    }
}

/// Which part of a group a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub peer: PeerId,
    /// The voters that the group was born with.
    pub voters: Vec<PeerId>,
    /// It neither votes nor stands for election before its log reaches there.
    pub since: LogMark,
}

/// Election timeouts are drawn from this: the replicas of a group must not stand at the same time, nor those of all
/// groups of a node.
fn seed(id: PartitionId, peer: PeerId) -> u64 {
    let (high, low) = id.topic.0.as_u64_pair();
    high ^ low.rotate_left(17) ^ (u64::from(id.partition.cast_unsigned()) << 32) ^ peer.0.rotate_left(48)
}

/// A replica with an empty log: newborn, of a group that this disk had a replica of before, or one that lost its log.
pub fn create(
    dir: &Arc<DataDir>,
    store: &Store,
    id: PartitionId,
    config: LogConfig,
    member: &Member,
) -> Result<Recovered, RecoverError> {
    let mut newborn = Start::newborn(member.peer, member.voters.clone(), seed(id, member.peer));
    if let Some(before) = store.hard_state(id)? {
        // A new term: what the one before said of its log, and is still on its way, is not heard any more.
        let term = RaftTerm(before.term.0 + 1);
        newborn.hard_state = HardState { term, ..newborn.hard_state };
        let mut batch = store::Batch::default();
        if store.held(id)?.is_some() {
            // It lost its log: what was folded from it is the same again, and who the members are, or were lately.
            store.forget_log(&mut batch, id)?;
            if let Some(known) = store.membership(id)? {
                (newborn.membership, newborn.membership_index) = known;
            }
        } else {
            store.forget_partition(&mut batch, id)?;
        }
        batch.put_hard_state(id, &newborn.hard_state);
        store.write(batch, Durability::Synced)?;
    }
    let start = LogStart { next_index: BIRTH.0.next(), prev_term: BIRTH.1, base_offset: Offset::ZERO };
    let log = Log::create(dir, id, config, start)?;
    let mut replica = Replica::new(newborn);
    replica.hold_until(held_until(store, id, member)?);
    Ok(Recovered {
        group: Group::new(replica, log, LeaderEpochs::default()),
        log_start: Offset::ZERO,
        high_watermark: Offset::ZERO,
        applied: BIRTH.0,
        producers: Producers::default(),
        aborted: AbortedTransactions::default(),
        events: Vec::new(),
    })
}

/// What the frames after the checkpoint add.
struct Fold {
    epochs: LeaderEpochs,
    producers: Producers,
    aborted: AbortedTransactions,
    applied: RaftIndex,
    unapplied: Vec<Entry>,
    damage: Option<EntryDataError>,
}

impl Fold {
    fn frame(&mut self, frame: &ScannedFrame<'_>) {
        let d = &frame.descriptor;
        let batch = frame.header.as_ref().and_then(|h| BatchSequence::of(h, frame.bytes, d.base_offset));
        // Index 0: of a compacted segment, committed long ago, which holds no indexes.
        if d.index > RaftIndex(0) {
            self.epochs.note(d.term, d.index, d.base_offset);
        }
        if d.index <= self.applied {
            if let Some(batch) = batch {
                self.producers.replay(&batch);
                self.producers.take_aborted().into_iter().for_each(|aborted| self.aborted.push(aborted));
            }
            return;
        }
        if let Some(batch) = batch {
            self.producers.admit(batch);
        }
        match entry_of(d, frame.bytes) {
            Ok(entry) => self.unapplied.push(entry),
            Err(damage) => self.damage = Some(damage),
        }
    }
}

/// The entry that a frame of the log holds. `bytes`: an own entry's data, or the whole batch.
pub fn entry_of(d: &Descriptor, bytes: &[u8]) -> Result<Entry, EntryDataError> {
    let kind = match d.own_kind {
        Some(entry_type) => EntryKind::of_own_frame(entry_type, bytes)?,
        None => EntryKind::Batch(BatchDescriptor {
            base_offset: d.base_offset,
            count: i32::try_from(d.count).map_err(|_| EntryDataError { len: bytes.len(), kind: None })?,
            size_bytes: d.size_bytes,
            crc: d.crc,
        }),
    };
    Ok(Entry { index: d.index, term: d.term, kind })
}

/// What the store keeps of a replica: where its log stood, where it starts, and the fold of the entries up to there.
fn saved(store: &Store, id: PartitionId) -> Result<(Known, Offset, Fold), RecoverError> {
    let known_segments = store.segments(id)?;
    let segments: Result<_, _> = known_segments.iter().map(|bytes| log::SegmentMeta::decode(bytes)).collect();
    let stored = store.checkpoint(id)?;
    let checkpoint = match &stored {
        Some(c) => Some(log::Checkpoint::decode(&c.log).map_err(|_| RecoverError::Checkpoint)?),
        None => None,
    };
    let (log_start, applied, epochs, producers, aborted) = match stored {
        Some(mut c) => {
            // The table may have been ahead of the position; what is there follows again.
            if let Some(position) = &checkpoint {
                c.epochs.truncate_from(position.next_index);
            }
            (c.log_start, c.applied, c.epochs, c.producers.into_owned(), c.aborted.into_owned())
        }
        None => (Offset::ZERO, BIRTH.0, LeaderEpochs::default(), Producers::default(), AbortedTransactions::default()),
    };
    let known = Known {
        // What does not decode is rebuilt from the segments themselves.
        segments: segments.unwrap_or_default(),
        checkpoint,
        synced_end: store.synced_end(id)?.map(|end| end.last_index.next()),
    };
    Ok((known, log_start, Fold { epochs, producers, aborted, applied, unapplied: Vec::new(), damage: None }))
}

/// The terms of the log's entries, and where they begin. A table that was stored by an older program may not reach back
/// to the first of them: it was trimmed to the log start, which entries of the same segment precede.
fn terms(log: &Log, epochs: &LeaderEpochs) -> Result<Vec<(RaftTerm, RaftIndex)>, RecoverError> {
    let term_at = |index| log.term_at(index).ok_or(log::LogError::Read(log::ReadError::NoEntry { index }));
    let known = epochs.starts().iter().map(|start| (start.term, start.start_index));
    let end = epochs.starts().first().map_or(log.last_index().next(), |first| first.start_index);
    let (mut terms, mut at) = (Vec::new(), log.first_index());
    while at < end {
        let term = term_at(at)?;
        terms.push((term, at));
        // Terms rise: the next begins where the first other one is.
        let (mut low, mut high) = (at.0 + 1, end.0);
        while low < high {
            let middle = low + (high - low) / 2;
            if term_at(RaftIndex(middle))? == term { low = middle + 1 } else { high = middle }
        }
        at = RaftIndex(low);
    }
    terms.extend(known);
    Ok(terms)
}

/// Reads a replica back. A log that was never begun is begun, the install of a snapshot that was begun is finished.
pub fn recover(
    dir: &Arc<DataDir>,
    store: &Store,
    id: PartitionId,
    config: LogConfig,
    member: &Member,
) -> Result<Recovered, RecoverError> {
    if store.is_installing(id)? {
        finish_install(dir, store, id)?;
    }
    let (known, log_start, mut fold) = saved(store, id)?;
    let Opened { log, events } = match Log::open(dir, id, config.clone(), known, &mut |frame| fold.frame(frame)) {
        Ok(opened) => opened,
        Err(log::OpenError::Newborn) => return create(dir, store, id, config, member),
        Err(log::OpenError::Lost { place }) => return Err(RecoverError::Lost(place)),
        Err(e) => return Err(RecoverError::Open(e)),
    };
    if let Some(damage) = fold.damage {
        return Err(RecoverError::Entry(damage));
    }
    if log.first_offset() > log_start {
        // The log start is stored and synced before anything below it is deleted.
        let reason = format!("the log begins at offset {}, after its start {log_start}", log.first_offset());
        let path = dir.path().join("log").join(id.topic.to_string()).join(id.partition.to_string());
        return Err(RecoverError::Lost(log::LostPlace { path, position: 0, reason }));
    }
    let terms = terms(&log, &fold.epochs)?;
    let unapplied = fold.unapplied.iter().find_map(|entry| match entry.kind {
        EntryKind::Batch(batch) => Some(batch.base_offset),
        _ => None,
    });
    let high_watermark = unapplied.unwrap_or(log.next_offset());
    let birth = || (Membership::of_voters(member.voters.iter().copied()), BIRTH.0);
    let (membership, membership_index) = store.membership(id)?.unwrap_or_else(birth);
    let hard_state = entered(store, id, log.last_term())?;
    let mut replica = Replica::new(Start {
        peer: member.peer,
        membership,
        membership_index,
        hard_state,
        before_first: log.before_first(),
        last: (log.last_index(), log.last_term()),
        terms,
        applied: fold.applied,
        unapplied: fold.unapplied,
        seed: seed(id, member.peer),
    });
    replica.hold_until(held_until(store, id, member)?);
    Ok(Recovered {
        group: Group::new(replica, log, fold.epochs),
        log_start,
        high_watermark,
        applied: fold.applied,
        producers: fold.producers,
        aborted: fold.aborted,
        events,
    })
}

/// What is stored of terms and votes. A term that only the log shows is stored now: should the log be lost one day, nothing
/// else would say in which terms the replica has given its word.
fn entered(store: &Store, id: PartitionId, shown: RaftTerm) -> Result<HardState, StoreError> {
    let stored = store.hard_state(id)?.unwrap_or_default();
    if stored.term >= shown {
        return Ok(stored);
    }
    let entered = HardState { term: shown, vote: PeerId(0), ..stored };
    let mut batch = store::Batch::default();
    batch.put_hard_state(id, &entered);
    store.write(batch, Durability::Synced)?;
    Ok(entered)
}

#[cfg(test)]
mod tests {
    use millstream_core::types::{Timestamp, TopicId};
    use uuid::Uuid;

    use super::*;
    use crate::log::FlushConfig;

    #[test]
    fn a_term_that_only_the_log_shows_is_stored() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
        let store = Store::open(&root.path().join("kv")).unwrap();
        let id = PartitionId { topic: TopicId(Uuid::from_u128(7)), partition: 0 };
        let start = LogStart { next_index: RaftIndex(2), prev_term: BIRTH.1, base_offset: Offset::ZERO };
        let mut log = Log::create(&dir, id, LogConfig::default(), start).unwrap();
        let (entry_type, data) = EntryKind::Empty.own_frame().unwrap();
        let payload = log::Payload::Own { entry_type, data };
        let entry = log::Entry { index: RaftIndex(2), term: RaftTerm(5), next_offset: Offset::ZERO, payload };
        log.append(&[entry], Timestamp(1)).unwrap();
        drop(log);
        let mut batch = store::Batch::default();
        let before = HardState { term: RaftTerm(3), vote: PeerId(2), commit: BIRTH.0 };
        batch.put_hard_state(id, &before);
        store.write(batch, Durability::Synced).unwrap();
        let member = Member { peer: PeerId(1), voters: [1, 2, 3].map(PeerId).to_vec(), since: LogMark::default() };
        recover(&dir, &store, id, LogConfig::default(), &member).unwrap();
        let expected = HardState { term: RaftTerm(5), vote: PeerId(0), ..before };
        assert_eq!(store.hard_state(id).unwrap(), Some(expected));
    }

    #[test]
    fn a_replica_that_returns_after_it_was_once_held_enters_a_new_term() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
        let store = Store::open(&root.path().join("kv")).unwrap();
        let id = PartitionId { topic: TopicId(Uuid::from_u128(7)), partition: 0 };
        // It began anew in this term, learnt all in it and said so. Then it was deleted, and a crash kept that from the store.
        let mut batch = store::Batch::default();
        batch.put_held(id, RaftTerm(5));
        batch.put_hard_state(id, &HardState { term: RaftTerm(5), vote: PeerId(2), commit: RaftIndex(40) });
        store.write(batch, Durability::Synced).unwrap();
        let since = LogMark { term: RaftTerm(5), index: RaftIndex(60) };
        let member = Member { peer: PeerId(1), voters: [1, 2, 3].map(PeerId).to_vec(), since };
        let created = create(&dir, &store, id, LogConfig::default(), &member).unwrap();
        assert_eq!(created.group.term(), RaftTerm(6), "what it said in the term before counts no more");
        let expected = HardState { term: RaftTerm(6), vote: PeerId(0), commit: BIRTH.0 };
        assert_eq!(store.hard_state(id).unwrap(), Some(expected));
    }

    #[test]
    fn terms_that_the_table_does_not_reach_back_to_are_found_in_the_log() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
        let id = PartitionId { topic: TopicId(Uuid::from_u128(7)), partition: 0 };
        let start = LogStart { next_index: RaftIndex(2), prev_term: BIRTH.1, base_offset: Offset::ZERO };
        let mut log = Log::create(&dir, id, LogConfig::default(), start).unwrap();
        let mut table = LeaderEpochs::default();
        for (term, indexes) in [(2, 2..9), (3, 9..10), (5, 10..30), (9, 30..41)] {
            for index in indexes {
                let (entry_type, data) = EntryKind::Empty.own_frame().unwrap();
                let payload = log::Payload::Own { entry_type, data };
                let (index, term) = (RaftIndex(index), RaftTerm(term));
                log.append(&[log::Entry { index, term, next_offset: Offset::ZERO, payload }], Timestamp(1)).unwrap();
                table.note(term, index, Offset::ZERO);
            }
        }
        let all = [(2, 2), (3, 9), (5, 10), (9, 30)].map(|(term, index)| (RaftTerm(term), RaftIndex(index)));
        assert_eq!(terms(&log, &table).unwrap(), all);
        for known in 0..4 {
            let mut trimmed = LeaderEpochs::default();
            table.starts()[known..].iter().for_each(|s| trimmed.note(s.term, s.start_index, s.start_offset));
            assert_eq!(terms(&log, &trimmed).unwrap(), all);
        }
        assert_eq!(terms(&log, &LeaderEpochs::default()).unwrap(), all);
    }
}
