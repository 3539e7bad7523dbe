use super::*;
use crate::types::Offset;

fn newborn() -> Replica {
    Replica::new(Start {
        peer: PeerId(1),
        voters: vec![PeerId(1)],
        hard_state: HardState { term: BIRTH.1, vote: PeerId(0), commit: BIRTH.0 },
        before_first: BIRTH,
        last: BIRTH,
        applied: BIRTH,
        unapplied: Vec::new(),
    })
}

fn batch(base: i64) -> EntryKind {
    EntryKind::Batch(BatchDescriptor { base_offset: Offset(base), count: 3, size_bytes: 100, crc: 7 })
}

#[test]
fn a_sole_voter_leads_at_once_and_commits_only_what_is_persisted() {
    let mut r = newborn();
    r.campaign();
    assert!(r.is_leader());
    let e = r.effects().unwrap();
    assert_eq!(e.append, [Entry { index: RaftIndex(2), term: RaftTerm(2), kind: EntryKind::Empty }]);
    assert!(e.must_sync_hard_state);
    assert_eq!(e.hard_state.unwrap().term, RaftTerm(2));
    assert!(e.committed.is_empty());
    assert!(r.effects().is_none_or(|e| e.committed.is_empty()), "nothing commits before it is persisted");
    r.persisted(e.number);
    let e = r.effects().unwrap();
    assert_eq!(e.committed.len(), 1);
    r.applied(RaftIndex(2));

    let (term, index) = r.propose(batch(0)).unwrap();
    assert_eq!((term, index), (RaftTerm(2), RaftIndex(3)));
    r.propose(batch(3)).unwrap();
    let first = r.effects().unwrap();
    assert_eq!(first.append.len(), 2);
    r.propose(batch(6)).unwrap();
    let second = r.effects().unwrap();
    assert_eq!(second.append.len(), 1);
    r.persisted(first.number);
    r.propose(batch(9)).unwrap();
    let e = r.effects().unwrap();
    assert_eq!(e.hard_state.unwrap().commit, RaftIndex(4));
    assert!(!e.must_sync_hard_state, "the commit index alone is not synced");
    assert_eq!(e.append.len(), 1);
    assert_eq!(e.committed.iter().map(|e| e.index.0).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(e.committed[1].kind, batch(3));
    r.applied(RaftIndex(4));
    r.persisted(e.number.max(second.number));
    assert_eq!(r.effects().unwrap().committed.len(), 2);
}

#[test]
fn a_restart_commits_the_synced_tail_in_a_new_term() {
    let unapplied = vec![
        Entry { index: RaftIndex(3), term: RaftTerm(2), kind: batch(0) },
        Entry { index: RaftIndex(4), term: RaftTerm(2), kind: EntryKind::TrimPrefix(Offset(1)) },
    ];
    let mut r = Replica::new(Start {
        peer: PeerId(1),
        voters: vec![PeerId(1)],
        hard_state: HardState { term: RaftTerm(2), vote: PeerId(1), commit: RaftIndex(2) },
        before_first: BIRTH,
        last: (RaftIndex(4), RaftTerm(2)),
        applied: (RaftIndex(2), RaftTerm(2)),
        unapplied: unapplied.clone(),
    });
    r.campaign();
    let e = r.effects().unwrap();
    assert_eq!(e.hard_state.unwrap().term, RaftTerm(3));
    assert_eq!(e.append, [Entry { index: RaftIndex(5), term: RaftTerm(3), kind: EntryKind::Empty }]);
    assert!(e.committed.is_empty());
    r.persisted(e.number);
    let committed = r.effects().unwrap().committed;
    assert_eq!(committed[..2], unapplied);
    assert_eq!(committed.len(), 3);
}

#[test]
fn entry_data_round_trips_and_refuses_the_unknown() {
    for kind in [EntryKind::Empty, batch(12), EntryKind::TrimPrefix(Offset(99))] {
        assert_eq!(EntryKind::decode(&kind.encode()), Ok(kind));
    }
    assert!(EntryKind::decode(&[9]).is_err());
    assert!(EntryKind::decode(&[1, 0]).is_err());
    assert!(EntryKind::decode(&[2, 0, 0]).is_err());
}
