use std::collections::BTreeMap;

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

/// A loss of power takes back a vote that was not synced, and the same term may be led again with other entries.
#[test]
fn a_sole_voter_tells_its_learners_nothing_of_a_term_before_its_vote_is_on_disk() {
    let membership = Membership { learners: vec![PeerId(2)], ..Membership::of_voters([PeerId(1)]) };
    let mut r = Replica::new(Start { membership, ..Start::newborn(PeerId(1), vec![PeerId(1)], 1) });
    r.campaign();
    assert!(r.is_leader());
    let first = r.effects().unwrap();
    assert!(first.must_sync_hard_state && first.messages.is_empty());
    r.tick();
    r.propose(batch(0)).unwrap();
    let second = r.effects().unwrap();
    assert!(second.messages.is_empty());
    let held = [first.persisted_messages, second.persisted_messages].concat();
    assert!(held.iter().any(|m| m.to() == PeerId(2) && m.term() == RaftTerm(2)), "it is told afterwards");
    r.persisted(first.number);
    r.tick();
    assert!(!r.effects().unwrap().messages.is_empty());
}

#[test]
fn a_restart_commits_the_synced_tail_in_a_new_term() {
    let unapplied = vec![
        Entry { index: RaftIndex(3), term: RaftTerm(2), kind: batch(0) },
        Entry { index: RaftIndex(4), term: RaftTerm(2), kind: EntryKind::TrimPrefix(Offset(1)) },
    ];
    let mut r = Replica::new(Start {
        peer: PeerId(1),
        membership: Membership::of_voters([PeerId(1)]),
        membership_index: BIRTH.0,
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
    let changes =
        vec![PeerChange::AddVoter(PeerId(4)), PeerChange::Remove(PeerId(3)), PeerChange::AddLearner(PeerId(2))];
    let kinds = [
        EntryKind::Empty,
        batch(12),
        EntryKind::TrimPrefix(Offset(99)),
        EntryKind::ConfChange(ConfChange::One(PeerChange::AddLearner(PeerId(9)))),
        EntryKind::ConfChange(ConfChange::Enter(changes)),
        EntryKind::ConfChange(ConfChange::Leave),
        EntryKind::ConfSettled,
    ];
    for kind in kinds {
        let data = kind.encode();
        assert_eq!(EntryKind::decode(&data), Ok(kind.clone()));
        let Some((entry_type, data)) = kind.own_frame() else { continue };
        assert_eq!(EntryKind::of_own_frame(entry_type, &data), Ok(kind));
        assert!(EntryKind::of_own_frame(entry_type + 1, &data).is_err());
    }
    for data in [&[3][..], &[3, 2, 0], &[3, 1], &[3, 0], &[3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[4, 0]] {
        assert!(EntryKind::decode(data).is_err(), "{data:?}");
    }
    assert!(EntryKind::decode(&[9]).is_err());
    assert!(EntryKind::decode(&[1, 0]).is_err());
    assert!(EntryKind::decode(&[2, 0, 0]).is_err());
}

fn peers(peer: u64) -> Replica {
    Replica::new(Start::newborn(PeerId(peer), vec![PeerId(1), PeerId(2), PeerId(3)], peer))
}

/// Lets replicas talk until nothing is left to say; every disk is fast. The one of peer n is at place n - 1.
fn talk(replicas: &mut [Replica]) -> Vec<Message> {
    talk_of(replicas, &mut BTreeMap::new())
}

/// The log is everybody's: who lacks entries that were applied gets them from there.
fn talk_of(replicas: &mut [Replica], log: &mut BTreeMap<RaftIndex, Entry>) -> Vec<Message> {
    let mut said = Vec::new();
    loop {
        let mut messages = Vec::new();
        for replica in replicas.iter_mut() {
            while let Some(e) = replica.effects() {
                messages.extend(e.messages.into_iter().chain(e.persisted_messages));
                replica.persisted(e.number);
                log.extend(e.append.into_iter().map(|e| (e.index, e)));
                if let Some(last) = e.committed.last() {
                    replica.applied(last.index);
                }
                for Fetch { low, high } in e.fetches {
                    let entries: Vec<Entry> = log.range(low..high).map(|(_, e)| e.clone()).collect();
                    replica.fetched(low, &entries);
                }
            }
        }
        if messages.is_empty() {
            return said;
        }
        for message in messages {
            said.push(message.clone());
            if let Some(to) = replicas.get_mut(message.to().0 as usize - 1) {
                to.step(message).unwrap();
            }
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
    replicas[1].propose_conf_change(&ConfChange::One(PeerChange::AddLearner(PeerId(9)))).unwrap();
    said.extend(talk(&mut replicas));
    replicas[1].transfer_leader(PeerId(3));
    said.extend(talk(&mut replicas));
    assert!(replicas[2].is_leader(), "the leadership was handed over");
    assert!(said.iter().any(|m| m.is_heartbeat()) && said.iter().any(|m| m.entries().count() > 0));
    for message in said {
        let bytes = message.encode().unwrap();
        // A conf change leaves what only its proposer's raft reads behind.
        let is_change = |e: Result<Entry, _>| matches!(e.unwrap().kind, EntryKind::ConfChange(_));
        match Message::decode(&bytes) {
            Ok(read) if message.entries().any(is_change) => assert_eq!(read.encode().unwrap(), bytes),
            read => assert_eq!(read, Ok(message)),
        }
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

fn born(peer: u64, voters: &[u64]) -> Replica {
    Replica::new(Start::newborn(PeerId(peer), voters.iter().map(|id| PeerId(*id)).collect(), peer))
}

fn ids(peers: &[PeerId]) -> Vec<u64> {
    peers.iter().map(|peer| peer.0).collect()
}

#[test]
fn members_come_as_learners_are_promoted_and_replaced_in_one_joint_step() {
    let log = &mut BTreeMap::new();
    let mut replicas: Vec<Replica> = (1..=4).map(|peer| born(peer, &[1, 2, 3])).collect();
    replicas[0].campaign();
    talk_of(&mut replicas, log);
    replicas[0].propose_conf_change(&ConfChange::One(PeerChange::AddLearner(PeerId(4)))).unwrap();
    replicas[0].propose(batch(0)).unwrap();
    talk_of(&mut replicas, log);
    assert_eq!(ids(&replicas[3].membership().learners), [4]);
    assert!(replicas.iter().all(|r| r.membership() == replicas[0].membership() && r.membership().is_settled));
    let learner = replicas[0].progress().find(|(peer, _)| *peer == PeerId(4)).unwrap().1;
    assert!(learner.is_learner && !learner.is_voter && learner.matched == replicas[0].last_index());

    let change = ConfChange::Enter(vec![PeerChange::AddVoter(PeerId(4)), PeerChange::Remove(PeerId(2))]);
    replicas[0].propose_conf_change(&change).unwrap();
    assert_eq!(replicas[0].propose_conf_change(&change), Err(ConfChangeError::Pending));
    talk_of(&mut replicas, log);
    let now = replicas[0].membership();
    assert_eq!((ids(&now.voters), now.is_joint(), now.is_settled), (vec![1, 3, 4], false, true));
    for peer in [3, 4] {
        assert_eq!(replicas[peer - 1].membership(), now, "peer {peer}");
    }
    replicas[0].transfer_leader(PeerId(4));
    talk_of(&mut replicas, log);
    assert!(replicas[3].is_leader(), "who was a learner may lead");
}

#[test]
fn a_leader_that_goes_hands_the_leadership_over_before_the_group_forgets_it() {
    let mut replicas: Vec<Replica> = (1..=3).map(|peer| born(peer, &[1, 2, 3])).collect();
    replicas[0].campaign();
    talk(&mut replicas);
    let remove = PeerChange::Remove(PeerId(1));
    assert_eq!(replicas[0].propose_conf_change(&ConfChange::One(remove)), Err(ConfChangeError::OfLeader));
    assert_eq!(replicas[0].propose_conf_change(&ConfChange::Enter(vec![remove])), Ok((RaftTerm(2), RaftIndex(3))));
    talk(&mut replicas);
    replicas[0].tick();
    talk(&mut replicas);
    assert!(!replicas[0].is_leader());
    let leader = replicas[1..].iter().find(|r| r.is_leader()).unwrap();
    assert_eq!(ids(&leader.membership().voters), [2, 3]);
    assert!(leader.membership().is_settled);
}

#[test]
fn a_change_that_cannot_be_is_refused_before_it_is_in_the_log() {
    let mut replicas = [peers(1), peers(2), peers(3)];
    let add = ConfChange::One(PeerChange::AddVoter(PeerId(9)));
    assert!(matches!(replicas[1].propose_conf_change(&add), Err(ConfChangeError::NotLeader(_))));
    replicas[0].campaign();
    talk(&mut replicas);
    let last = replicas[0].last_index();
    let all_go = [1, 2, 3].map(|id| PeerChange::Remove(PeerId(id))).to_vec();
    let twice = vec![PeerChange::Remove(PeerId(2)), PeerChange::AddLearner(PeerId(2))];
    let mut refused = |change| replicas[0].propose_conf_change(&change).unwrap_err();
    assert!(matches!(refused(ConfChange::Enter(all_go)), ConfChangeError::Impossible(_)));
    assert!(matches!(refused(ConfChange::Enter(twice)), ConfChangeError::Impossible(_)));
    assert!(matches!(refused(ConfChange::Leave), ConfChangeError::Impossible(_)));
    assert!(matches!(refused(ConfChange::One(PeerChange::AddVoter(PeerId(0)))), ConfChangeError::Impossible(_)));
    assert_eq!(refused(ConfChange::One(PeerChange::AddVoter(PeerId(3)))), ConfChangeError::NoChange);
    assert_eq!(replicas[0].last_index(), last);
}

#[test]
fn a_replica_starts_with_what_its_log_knows_of_the_members() {
    // Two changes are in the log and the commit index on disk is older than both: the second says that the first is
    // committed, and nobody may stand for election before it has applied it.
    let change = |index, id| Entry {
        index: RaftIndex(index),
        term: RaftTerm(2),
        kind: EntryKind::ConfChange(ConfChange::One(PeerChange::AddVoter(PeerId(id)))),
    };
    let start = Start {
        hard_state: HardState { term: RaftTerm(2), vote: PeerId(1), commit: RaftIndex(2) },
        last: (RaftIndex(5), RaftTerm(2)),
        terms: vec![(RaftTerm(2), RaftIndex(2))],
        applied: RaftIndex(2),
        unapplied: vec![change(3, 4), Entry { kind: EntryKind::ConfSettled, ..change(4, 0) }, change(5, 5)],
        ..Start::newborn(PeerId(1), vec![PeerId(1), PeerId(2), PeerId(3)], 1)
    };
    let mut r = Replica::new(start.clone());
    assert_eq!(r.commit_index(), RaftIndex(3));
    r.campaign();
    let e = r.effects().unwrap();
    assert!(e.messages.is_empty() && e.persisted_messages.is_empty());
    assert_eq!(e.committed.len(), 1);
    let (index, membership) = e.membership.unwrap();
    assert_eq!((index, ids(&membership.voters)), (RaftIndex(3), vec![1, 2, 3, 4]));
    r.applied(RaftIndex(3));
    assert_eq!(r.effects().unwrap().persisted_messages.len(), 3, "now it stands, before all four");

    // A membership that was stored beside an older applied index is not made again.
    let mut r = Replica::new(Start { membership, membership_index: RaftIndex(3), ..start });
    let e = r.effects().unwrap();
    assert_eq!((e.committed.len(), e.membership), (1, None));
}

#[test]
fn who_is_left_alone_leads_alone_and_who_was_removed_is_quiet() {
    let mut replicas: Vec<Replica> = (1..=2).map(|peer| born(peer, &[1, 2])).collect();
    replicas[0].campaign();
    talk(&mut replicas);
    replicas[0].propose_conf_change(&ConfChange::Enter(vec![PeerChange::Remove(PeerId(1))])).unwrap();
    talk(&mut replicas);
    replicas[0].tick();
    talk(&mut replicas);
    assert!(replicas[1].is_leader() && replicas[1].membership().is_settled);
    assert_eq!(ids(&replicas[1].membership().voters), [2]);
    // It heard of the end of the joint membership, or not; its voice changes nothing.
    (0..30).for_each(|_| replicas[0].tick());
    talk(&mut replicas);
    assert!(replicas[1].is_leader() && !replicas[0].is_leader());
}

#[test]
fn a_sole_voter_does_not_stand_before_its_log_is_on_disk() {
    let mut replicas: Vec<Replica> = (1..=2).map(|peer| born(peer, &[1, 2])).collect();
    replicas[0].campaign();
    talk(&mut replicas);
    // Peer 2 has its part of the log on disk up to the change that leaves it alone; what follows is on its way.
    replicas[0].propose_conf_change(&ConfChange::One(PeerChange::Remove(PeerId(2)))).unwrap();
    talk(&mut replicas);
    let sole = &mut replicas[0];
    sole.propose(batch(0)).unwrap();
    let e = sole.effects().unwrap();
    sole.step(Message(raft::eraftpb::Message {
        msg_type: raft::eraftpb::MessageType::MsgHeartbeat,
        from: 2,
        to: 1,
        term: sole.term().0 + 1,
        ..Default::default()
    }))
    .unwrap();
    let number = e.number;
    for _ in 0..30 {
        sole.tick();
        assert!(!sole.is_leader(), "a batch is not on disk yet");
        drop(sole.effects());
    }
    sole.campaign();
    assert!(!sole.is_leader());
    sole.persisted(number);
    assert!(sole.is_leader(), "it was asked to stand, and may");
}

#[test]
fn who_comes_empty_gets_a_snapshot_and_then_the_entries_after_it() {
    let log = &mut BTreeMap::new();
    let mut replicas: Vec<Replica> = (1..=3).map(|peer| born(peer, &[1, 2, 3])).collect();
    replicas.push(Replica::new(Start::empty(PeerId(4), 4)));
    replicas[0].campaign();
    talk_of(&mut replicas, log);
    for base in 0..10 {
        replicas[0].propose(batch(base * 3)).unwrap();
        talk_of(&mut replicas, log);
    }
    let before_first = (RaftIndex(7), RaftTerm(2));
    replicas[0].compacted(before_first);
    replicas[0].propose_conf_change(&ConfChange::One(PeerChange::AddLearner(PeerId(4)))).unwrap();
    let said = loop {
        let said = talk_of(&mut replicas, log);
        if said.iter().any(|m| m.snapshot().is_some()) {
            break said;
        }
        replicas[0].tick();
    };
    let told = said.iter().find(|m| m.snapshot().is_some()).unwrap();
    let bytes = told.encode().unwrap();
    assert_eq!(Message::decode(&bytes).as_ref(), Ok(told));
    assert!((0..bytes.len()).all(|len| Message::decode(&bytes[..len]).is_err()));
    let meta = told.snapshot().unwrap();
    assert_eq!((meta.index, meta.term), before_first);
    assert_eq!((ids(&meta.membership.learners), meta.membership_index > meta.index), (vec![4], true));
    replicas[0].tick();
    talk_of(&mut replicas, log);
    assert_eq!(replicas[3].commit_index(), replicas[0].commit_index());
    assert_eq!(replicas[3].membership(), replicas[0].membership());
    assert!(replicas[0].progress().all(|(_, progress)| !progress.is_snapshot_pending));
}

#[test]
fn a_read_waits_for_the_word_of_a_majority() {
    let mut replicas = [peers(1), peers(2), peers(3)];
    assert!(replicas[0].read_index().is_err());
    replicas[0].campaign();
    talk(&mut replicas);
    replicas[0].propose(batch(0)).unwrap();
    talk(&mut replicas);
    let commit = replicas[0].commit_index();
    let number = replicas[0].read_index().unwrap();
    let e = replicas[0].effects().unwrap();
    assert_eq!((e.reads.len(), e.messages.len()), (0, 2));
    let asked = e.messages.into_iter().find(|m| m.to() == PeerId(2)).unwrap();
    replicas[1].step(asked).unwrap();
    let answers = std::iter::from_fn(|| replicas[1].effects()).flat_map(|e| e.persisted_messages).collect::<Vec<_>>();
    answers.into_iter().for_each(|answer| replicas[0].step(answer).unwrap());
    assert_eq!(replicas[0].effects().unwrap().reads, [Read { number, index: commit }]);

    let mut sole = newborn();
    sole.campaign();
    while let Some(e) = sole.effects() {
        sole.persisted(e.number);
    }
    let number = sole.read_index().unwrap();
    assert_eq!(sole.effects().unwrap().reads[0].number, number);
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
