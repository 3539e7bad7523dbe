//! Groups of several replicas over real logs, on a network that the test decides.

use millstream_core::record::BatchBuilder;
use millstream_core::replica::{BIRTH, Start};
use millstream_core::types::{PartitionId, ProducerEpoch, ProducerId, Sequence, TopicId};
use uuid::Uuid;

use super::*;
use crate::log::{DataDir, FlushConfig, LogConfig, LogStart};

struct Member {
    group: Group,
    /// Of producers with an identity, as they were taken from leaders.
    taken: Vec<BatchSequence>,
    _dir: tempfile::TempDir,
}

impl Member {
    fn born(peer: u64, of: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), FlushConfig::default()).unwrap();
        let id = PartitionId { topic: TopicId(Uuid::from_u128(7)), partition: 0 };
        let start = LogStart { next_index: BIRTH.0.next(), prev_term: BIRTH.1, base_offset: Offset::ZERO };
        let log = Log::create(&dir, id, LogConfig::default(), start).unwrap();
        let replica = Replica::new(Start::newborn(PeerId(peer), (1..=of).map(PeerId).collect(), peer << 48));
        Self { group: Group::new(replica, log, LeaderEpochs::default()), taken: Vec::new(), _dir: root }
    }

    /// Works until there is no more to be done; every disk is fast.
    fn work(&mut self) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        loop {
            let work = self.group.work(Timestamp(1), &mut |_, _| true).unwrap();
            outgoing.extend(work.outgoing);
            self.taken.extend(work.taken.into_iter().flat_map(|taken| taken.batches));
            let applied = work.committed.last().map(|last| self.group.applied(last.index));
            if let Some(number) = work.unsynced {
                self.group.flushed(number);
            } else if applied.is_none() {
                return outgoing;
            }
        }
    }
}

/// Delivers what `passes` (from, to, whether it is urgent) lets through, until all is said.
fn talk(members: &mut [Member], passes: impl Fn(u64, u64, bool) -> bool) {
    loop {
        let said: Vec<Outgoing> = members.iter_mut().flat_map(Member::work).collect();
        let passed = said.into_iter().filter(|o| passes(o.message.from().0, o.to.0, o.is_urgent));
        let mut is_quiet = true;
        for Outgoing { to, message, payloads, .. } in passed {
            members[to.0 as usize - 1].group.step(message, payloads).unwrap();
            is_quiet = false;
        }
        if is_quiet {
            return;
        }
    }
}

/// Lets the time of some go on until one of them leads.
fn elect(members: &mut [Member], of: &[u64], passes: impl Fn(u64, u64, bool) -> bool) -> u64 {
    for _ in 0..100 {
        of.iter().for_each(|peer| members[*peer as usize - 1].group.tick());
        talk(members, &passes);
        if let Some(leader) = of.iter().find(|peer| members[**peer as usize - 1].group.is_leader()) {
            return *leader;
        }
    }
    panic!("none of {of:?} leads");
}

#[test]
fn what_a_deposed_leader_gets_back_of_its_own_is_taken_as_anybodys() {
    let mut members: Vec<Member> = (1..=5).map(|peer| Member::born(peer, 5)).collect();
    members[0].group.campaign();
    talk(&mut members, |_, _, _| true);
    assert!(members[0].group.is_leader());
    // The second alone gets what the first proposes.
    let mut builder = BatchBuilder::new().producer(ProducerId(9), ProducerEpoch(0), Sequence(0));
    builder.push(Timestamp(1), None, Some(b"of the first"), &[]);
    let bytes = builder.finish();
    let header = BatchHeader::parse(&bytes).unwrap();
    let own = members[0].group.propose_batch(&header, bytes).unwrap();
    talk(&mut members, |from, to, _| from.max(to) == 2);
    assert_eq!(members[1].group.log().last_index(), own.index);
    // Another of those who know nothing of it leads, and tells nobody but the first what it begins with.
    let rest = [3, 4, 5];
    let among_rest = |from, to, is_urgent| rest.contains(&from) && (to == 1 || is_urgent && rest.contains(&to));
    let other = elect(&mut members, &rest, among_rest);
    assert!(members[0].group.log().term_at(own.index) > Some(own.term), "what was proposed is gone");
    // That one dies, too, and the second brings back what the first once proposed.
    let alive: Vec<u64> = [2, 3, 4, 5].into_iter().filter(|peer| *peer != other).collect();
    let votes_alone = |from, to, is_urgent| is_urgent && alive.contains(&from) && alive.contains(&to);
    assert_eq!(elect(&mut members, &alive, votes_alone), 2);
    members[1].group.tick();
    talk(&mut members, |from, to, _| from.max(to) == 2);
    assert_eq!(members[0].group.log().term_at(own.index), Some(own.term));
    let expected = BatchSequence::of(&header, &[], own.base_offset);
    assert_eq!(members[0].taken, expected.into_iter().collect::<Vec<_>>());
}
