use super::*;
use crate::types::Offset;

fn newborn() -> Replica {
    Replica::new(Start::newborn(PeerId(1), vec![PeerId(1)], 1))
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
        learners: Vec::new(),
        hard_state: HardState { term: RaftTerm(2), vote: PeerId(1), commit: RaftIndex(2) },
        before_first: BIRTH,
        last: (RaftIndex(4), RaftTerm(2)),
        terms: vec![(RaftTerm(2), RaftIndex(2))],
        applied: RaftIndex(2),
        unapplied: unapplied.clone(),
        seed: 1,
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

fn peers(peer: u64) -> Replica {
    Replica::new(Start::newborn(PeerId(peer), vec![PeerId(1), PeerId(2), PeerId(3)], peer))
}

/// Lets three replicas talk until nothing is left to say; every disk is fast.
fn talk(replicas: &mut [Replica; 3]) -> Vec<Message> {
    let mut said = Vec::new();
    loop {
        let mut messages = Vec::new();
        for replica in replicas.iter_mut() {
            while let Some(e) = replica.effects() {
                messages.extend(e.messages.into_iter().chain(e.persisted_messages));
                replica.persisted(e.number);
                if let Some(last) = e.committed.last() {
                    replica.applied(last.index);
                }
            }
        }
        if messages.is_empty() {
            return said;
        }
        for message in messages {
            said.push(message.clone());
            replicas[message.to().0 as usize - 1].step(message).unwrap();
        }
    }
}

#[test]
fn what_replicas_say_is_read_as_it_was_said() {
    let mut replicas = [peers(1), peers(2), peers(3)];
    replicas[1].campaign();
    let mut said = talk(&mut replicas);
    assert!(replicas[1].is_leader());
    assert_eq!(replicas[0].leader(), Some(PeerId(2)));
    replicas[1].propose(batch(0)).unwrap();
    replicas[1].propose(EntryKind::TrimPrefix(Offset(2))).unwrap();
    said.extend(talk(&mut replicas));
    replicas[1].tick();
    said.extend(talk(&mut replicas));
    replicas[1].transfer_leader(PeerId(3));
    said.extend(talk(&mut replicas));
    assert!(replicas[2].is_leader(), "the leadership was handed over");
    assert!(said.iter().any(|m| m.is_heartbeat()) && said.iter().any(|m| m.entries().count() > 0));
    for message in said {
        let bytes = message.encode().unwrap();
        assert_eq!(Message::decode(&bytes), Ok(message));
        for len in 0..bytes.len() {
            assert!(Message::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        assert_eq!(Message::decode(&[bytes, vec![0]].concat()), Err(MessageError::Length));
    }
}

#[test]
fn a_message_of_lengths_that_are_not_there_is_refused() {
    let mut replicas = [peers(1), peers(2), peers(3)];
    replicas[0].campaign();
    let said = talk(&mut replicas);
    let bytes = said.iter().find(|m| m.entries().count() > 0).unwrap().encode().unwrap();
    let context_at = 1 + 10 * 8 + 1;
    let with = |at: usize, value: u32| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        Message::decode(&bytes)
    };
    assert!(matches!(with(context_at, u32::MAX), Err(MessageError::TooMuch { what: "context", .. })));
    assert!(matches!(with(context_at + 4, u32::MAX), Err(MessageError::TooMuch { what: "entries", .. })));
    let mut other = bytes.clone();
    other[0] = 77;
    assert_eq!(Message::decode(&other), Err(MessageError::Type(77)));
}

#[test]
fn what_a_leader_believes_synced_and_is_not_there_is_lost() {
    let mut replicas = [peers(1), peers(2), peers(3)];
    replicas[0].campaign();
    talk(&mut replicas);
    replicas[0].propose(batch(0)).unwrap();
    talk(&mut replicas);
    // Replica 2 comes back with nothing and keeps its name.
    replicas[1] = peers(2);
    replicas[0].tick();
    let heartbeat = |e: Effects| e.messages.into_iter().find(|m| m.is_heartbeat() && m.to() == PeerId(2));
    let heartbeat = std::iter::from_fn(|| replicas[0].effects()).find_map(heartbeat).unwrap();
    let lost = StepError::Lost { commit: heartbeat.commit(), last: BIRTH.0 };
    assert_eq!(replicas[1].step(heartbeat.clone()), Err(lost));
    assert_eq!(replicas[2].step(heartbeat), Err(StepError::NotOurs { to: PeerId(2) }));
}

proptest::proptest! {
    #[test]
    fn no_bytes_of_a_peer_cause_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), kind in 1_u8..12) {
        let with_kind: Vec<u8> = std::iter::once(kind).chain(bytes.iter().copied()).collect();
        drop(Message::decode(&bytes));
        if let Ok(message) = Message::decode(&with_kind) {
            proptest::prop_assert_eq!(message.encode().unwrap(), with_kind);
        }
    }
}
