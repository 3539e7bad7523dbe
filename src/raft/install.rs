//! A replica takes over what its leader's log no longer tells: the files that were fetched and what goes with them.
//!
//! The fetched files lie whole and synced beside the old log. One synced write of the store then forgets all that was
//! kept about the old log and puts down what belongs to the new one, and that the files are to be exchanged. A crash
//! before it leaves the old replica as it was, one after it a replica that finishes the exchange before it opens: there
//! is no moment at which a vote or an acknowledged entry is forgotten.

use millstream_core::replica::{BIRTH, HardState, SnapshotMeta};
use millstream_core::types::{PartitionId, PeerId, RaftIndex, RaftTerm};

use super::RecoverError;
use crate::log::{DataDir, LogError, SegmentMeta};
use crate::store::{Batch, Checkpoint, Durability, Store, StoreError, SyncedEnd};

/// What the store shall know of a replica in the place of all that it does.
#[derive(Debug)]
pub struct Replacement<'a> {
    /// Of the leader that gave the snapshot.
    pub term: RaftTerm,
    pub meta: &'a SnapshotMeta,
    /// At the beginning of the fresh active segment.
    pub checkpoint: &'a Checkpoint<'static>,
    /// The segments before that.
    pub segments: &'a [SegmentMeta],
}

/// The one write that makes a replica another: to be synced.
///
/// # Errors
/// What is stored could not be read.
pub fn put_replacement(store: &Store, id: PartitionId, by: &Replacement<'_>) -> Result<Batch, StoreError> {
    let Replacement { term, meta, checkpoint, segments } = by;
    let newborn = HardState { term: BIRTH.1, vote: PeerId(0), commit: BIRTH.0 };
    let own = store.hard_state(id)?.unwrap_or(newborn);
    // A vote in the leader's term stays given. In a term before, it does not matter any more.
    let vote = if own.term >= *term { own.vote } else { PeerId(0) };
    let mut batch = Batch::default();
    store.forget_partition(&mut batch, id)?;
    batch.put_hard_state(id, &HardState { term: own.term.max(*term), vote, commit: meta.index });
    batch.put_membership(id, &meta.membership, meta.membership_index);
    batch.put_checkpoint(id, checkpoint);
    for segment in *segments {
        batch.put_segment(id, segment.base_offset, &segment.encode());
    }
    let next_offset = crate::log::Checkpoint::decode(&checkpoint.log).map(|position| position.next_offset);
    let next_offset = next_offset.map_err(|_| StoreError::Damaged("snapshot"))?;
    batch.put_synced_end(id, SyncedEnd { last_index: RaftIndex(meta.index.0), next_offset });
    batch.put_installing(id);
    Ok(batch)
}

/// Exchanges the files, as often as it takes. Blocks for the disk.
///
/// # Errors
/// It is to be tried again: until then the replica cannot be opened.
pub fn finish_install(dir: &DataDir, store: &Store, id: PartitionId) -> Result<(), RecoverError> {
    let exchanged = dir.make_way(id).and_then(|()| dir.move_in(id));
    exchanged.map_err(|source| LogError::Io { path: dir.path().to_owned(), source })?;
    let mut batch = Batch::default();
    batch.delete_installing(id);
    // Synced: the next log that is fetched must not be taken for this one.
    Ok(store.write(batch, Durability::Synced)?)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::Path;
    use std::sync::Arc;

    use millstream_core::partition::{LeaderEpochs, Producers};
    use millstream_core::replica::Membership;
    use millstream_core::types::{LogMark, Offset, TopicId};
    use uuid::Uuid;

    use super::super::{Member, create, recover};
    use super::*;
    use crate::log::{FlushConfig, Incoming, LogConfig, LogStart};

    const ID: PartitionId = PartitionId { topic: TopicId(Uuid::from_u128(7)), partition: 0 };
    const START: LogStart = LogStart { next_index: RaftIndex(21), prev_term: RaftTerm(3), base_offset: Offset(90) };

    fn member() -> Member {
        Member { peer: PeerId(3), voters: [1, 2, 3].map(PeerId).into(), since: LogMark::default() }
    }

    fn open(root: &Path) -> (Arc<DataDir>, Store) {
        (DataDir::open(root, FlushConfig::default()).unwrap(), Store::open(&root.join("kv")).unwrap())
    }

    /// A replica that voted for peer 1 in term 5, and beside it a log that was fetched.
    fn prepare(root: &Path) {
        let (dir, store) = open(root);
        drop(create(&dir, &store, ID, LogConfig::default(), &member()).unwrap());
        let mut batch = Batch::default();
        batch.put_hard_state(ID, &HardState { term: RaftTerm(5), vote: PeerId(1), commit: RaftIndex(1) });
        batch.apply_coordinator_record(ID, b"key", Some(b"value"));
        batch.put_coordinator_applied(ID, Offset(17));
        store.write(batch, Durability::Synced).unwrap();
        let incoming = Incoming::begin(&dir, ID, false).unwrap();
        incoming.finish(&[], START).unwrap();
        assert!(incoming.is_whole(&[], START));
        assert!(!incoming.is_whole(&[], LogStart { base_offset: Offset(91), ..START }));
    }

    fn write(store: &Store, term: u64) {
        let membership = Membership::of_voters([1, 2, 3, 4].map(PeerId));
        let meta = SnapshotMeta { index: RaftIndex(20), term: RaftTerm(3), membership, membership_index: RaftIndex(9) };
        let checkpoint = Checkpoint {
            log: START.checkpoint().encode(),
            log_start: Offset(90),
            applied: RaftIndex(20),
            epochs: LeaderEpochs::default(),
            producers: Cow::Owned(Producers::default()),
            aborted: Cow::default(),
        };
        let by = Replacement { term: RaftTerm(term), meta: &meta, checkpoint: &checkpoint, segments: &[] };
        store.write(put_replacement(store, ID, &by).unwrap(), Durability::Synced).unwrap();
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_replica_or_the_new_one() {
        type Step = fn(&DataDir, &Store);
        let steps: [Step; 4] = [
            |_, store| write(store, 5),
            |dir, _| dir.make_way(ID).unwrap(),
            |dir, _| dir.move_in(ID).unwrap(),
            |dir, store| finish_install(dir, store, ID).unwrap(),
        ];
        for done in 0..=steps.len() {
            let root = tempfile::tempdir().unwrap();
            prepare(root.path());
            {
                let (dir, store) = open(root.path());
                steps[..done].iter().for_each(|step| step(&dir, &store));
            }
            // Twice: the second start finds nothing to do.
            for _ in 0..2 {
                let (dir, store) = open(root.path());
                let recovered = recover(&dir, &store, ID, LogConfig::default(), &member()).unwrap();
                let (last, voters) = (recovered.group.log().last_index(), recovered.group.replica().membership());
                let hard_state = store.hard_state(ID).unwrap().unwrap();
                assert_eq!((hard_state.term, hard_state.vote), (RaftTerm(5), PeerId(1)), "the vote stays given");
                assert_eq!(recovered.group.term(), RaftTerm(5));
                if done == 0 {
                    assert_eq!((last, voters.voters.len()), (RaftIndex(1), 3));
                    assert_eq!(store.coordinator_applied(ID).unwrap(), Offset(17));
                } else {
                    assert_eq!((last, voters.voters.len()), (RaftIndex(20), 4));
                    assert_eq!(recovered.group.log().before_first(), (RaftIndex(20), RaftTerm(3)));
                    assert_eq!(recovered.group.commit_index(), RaftIndex(20));
                    assert_eq!((recovered.log_start, recovered.applied), (Offset(90), RaftIndex(20)));
                    assert_eq!(recovered.group.log().next_offset(), Offset(90));
                    assert_eq!(store.coordinator_applied(ID).unwrap(), Offset(0), "to be folded anew");
                    assert!(!store.is_installing(ID).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_vote_of_a_term_before_is_void() {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let (dir, store) = open(root.path());
        write(&store, 6);
        let recovered = recover(&dir, &store, ID, LogConfig::default(), &member()).unwrap();
        assert_eq!(recovered.group.term(), RaftTerm(6));
        assert_eq!(store.hard_state(ID).unwrap().unwrap().vote, PeerId(0));
    }
}
