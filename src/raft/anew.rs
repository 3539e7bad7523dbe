//! A replica whose disk lost part of what it had acknowledged goes on as one that learns.
//!
//! It keeps its peer id and its votes, enters a new term and holds its tongue: it takes what a leader sends and acknowledges
//! that, but neither votes nor stands before its log has an entry of the new term or a later one. Why that is enough:
//! with it silent, a leader is elected by a majority of which every member has all that was committed, or has it as one of
//! those who elect must have it. So each leader of a later term has everything, and the first entry of its term comes after
//! it: a log that holds that entry holds all that this replica ever acknowledged, or that is void. What it had said before
//! is of an earlier term, which no leader listens to any more; and the leader that hears of the new term steps down, so
//! that none goes on counting on it.

use std::sync::Arc;

use millstream_core::replica::{BIRTH, HardState};
use millstream_core::types::{LogMark, PartitionId, PeerId, RaftTerm};

use super::{Member, RecoverError, Recovered, recover};
use crate::log::{DataDir, LogConfig, LogError};
use crate::store::{Batch, Durability, Store, StoreError};

/// Until where the log must reach before the replica votes or stands again.
pub(super) fn held_until(store: &Store, id: PartitionId, member: &Member) -> Result<LogMark, StoreError> {
    // Whatever the log of a leader of the later term holds, it holds what was settled in the earlier one.
    let term = store.held(id)?.unwrap_or_default().max(member.since.term);
    Ok(LogMark { term, ..member.since })
}

/// Whether the others decide without this replica, as far as it knows: they bring back what is lost, and elect who does.
/// Of two nobody could, for one that begins anew has no vote until there is a leader.
pub fn others_decide(store: &Store, id: PartitionId, member: &Member) -> Result<bool, StoreError> {
    let is_majority = |voters: &[PeerId]| {
        let others = voters.iter().filter(|voter| **voter != member.peer).count();
        others > voters.len() / 2
    };
    Ok(match store.membership(id)? {
        None => is_majority(&member.voters),
        Some((now, _)) => is_majority(&now.voters) && (!now.is_joint() || is_majority(&now.voters_outgoing)),
    })
}

/// The log is whole and shorter than what the replica has acknowledged in terms up to `heard`: it goes on from there. To be
/// opened again afterwards. Blocks for the disk.
///
/// # Errors
/// Nothing has changed.
pub fn hold(store: &Store, id: PartitionId, heard: RaftTerm) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    put_held(store, &mut batch, id, heard)?;
    store.write(batch, Durability::Synced)
}

/// The log is damaged: it is set aside, and the replica begins with an empty one. What was folded from committed entries
/// stays, for they are the same again. To be opened again afterwards. Blocks for the disk.
///
/// # Errors
/// It is to be tried again. A crash on the way leaves a replica that is held, with its log as it was.
pub fn begin_anew(dir: &Arc<DataDir>, store: &Store, id: PartitionId) -> Result<(), RecoverError> {
    let mut batch = Batch::default();
    store.forget_log(&mut batch, id)?;
    put_held(store, &mut batch, id, RaftTerm(0))?;
    store.write(batch, Durability::Synced)?;
    dir.set_aside(id).map_err(|source| LogError::Io { path: dir.path().to_owned(), source })?;
    Ok(())
}

/// Reads a replica back; begins anew where it is damaged and the others bring back what is lost.
///
/// # Errors
/// As of `recover`.
pub fn recover_or_begin_anew(
    dir: &Arc<DataDir>,
    store: &Store,
    id: PartitionId,
    config: LogConfig,
    member: &Member,
) -> Result<Recovered, RecoverError> {
    match recover(dir, store, id, config.clone(), member) {
        Err(damage) if damage.is_final() && others_decide(store, id, member)? => {
            tracing::error!(
                topic = %id.topic,
                partition = id.partition,
                %damage,
                "a log is damaged and set aside in damaged/, the replica learns anew from the others"
            );
            begin_anew(dir, store, id)?;
            recover(dir, store, id, config, member)
        }
        recovered => recovered,
    }
}

fn put_held(store: &Store, batch: &mut Batch, id: PartitionId, heard: RaftTerm) -> Result<(), StoreError> {
    let before = store.hard_state(id)?.map_or(BIRTH.1, |before| before.term).max(heard);
    let term = RaftTerm(before.0 + 1);
    batch.put_hard_state(id, &HardState { term, vote: PeerId(0), commit: BIRTH.0 });
    batch.put_held(id, term);
    Ok(())
}

#[cfg(test)]
mod tests {
    use millstream_core::replica::Membership;
    use millstream_core::types::RaftIndex;
    use millstream_core::types::TopicId;

    use super::*;
    use crate::log::FlushConfig;

    #[test]
    fn who_begins_anew_knows_the_members_as_before() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
        let store = Store::open(&root.path().join("kv")).unwrap();
        let id = PartitionId { topic: TopicId(uuid::Uuid::from_u128(1)), partition: 0 };
        // Born alone, it got company.
        let member = Member { peer: PeerId(1), voters: vec![PeerId(1)], since: LogMark::default() };
        let now = Membership::of_voters([1, 2, 3].map(PeerId));
        let mut batch = Batch::default();
        batch.put_membership(id, &now, RaftIndex(9));
        batch.put_hard_state(id, &HardState { term: RaftTerm(4), vote: PeerId(1), commit: RaftIndex(20) });
        store.write(batch, Durability::Synced).unwrap();
        for time in ["first", "second"] {
            assert!(others_decide(&store, id, &member).unwrap(), "at the {time} damage");
            begin_anew(&dir, &store, id).unwrap();
            let replica = recover(&dir, &store, id, LogConfig::default(), &member).unwrap();
            let replica = replica.group.replica();
            assert_eq!((replica.membership(), replica.membership_index()), (&now, RaftIndex(9)));
            assert!(replica.is_held());
        }
    }

    #[test]
    fn the_others_decide_where_they_are_a_majority_of_who_votes_now_and_voted_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let id = PartitionId { topic: TopicId(uuid::Uuid::from_u128(1)), partition: 0 };
        let peers = |ids: &[u64]| ids.iter().copied().map(PeerId).collect::<Vec<_>>();
        let member = |voters: &[u64]| Member { peer: PeerId(1), voters: peers(voters), since: LogMark::default() };
        let decide = |voters: &[u64]| others_decide(&store, id, &member(voters)).unwrap();
        assert_eq!([decide(&[1]), decide(&[1, 2]), decide(&[1, 2, 3]), decide(&[2, 3])], [false, false, true, true]);
        let stored = |voters: &[u64], before: &[u64]| {
            let now = Membership { voters_outgoing: peers(before), ..Membership::of_voters(peers(voters)) };
            let mut batch = Batch::default();
            batch.put_membership(id, &now, RaftIndex(5));
            store.write(batch, Durability::Synced).unwrap();
            decide(&[1, 2, 3])
        };
        assert!(!stored(&[1, 2], &[]) && stored(&[1, 2, 3], &[]) && stored(&[2], &[]));
        assert!(!stored(&[1, 2, 3], &[1, 2]) && !stored(&[1, 2], &[1, 2, 3]) && stored(&[1, 2, 3], &[2, 3, 4]));
    }
}
