//! Who belongs to a group: the actual voters and learners, as the log made them.

use raft::eraftpb::ConfState;

use crate::types::PeerId;

const VERSION: u8 = 1;

/// The members of a group; each list is sorted and names nobody twice. A replica that was not told yet knows nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Their majority decides.
    pub voters: Vec<PeerId>,
    /// While the group is joint: those who voted before. Their majority decides, too.
    pub voters_outgoing: Vec<PeerId>,
    /// They get every entry and have no vote.
    pub learners: Vec<PeerId>,
    /// Outgoing voters that stay as learners when the group is joint no longer.
    pub learners_next: Vec<PeerId>,
    /// A later entry of the log tells that the change to this was committed: from then on no member forgets it in a
    /// crash, and the replicas of those who were removed may be deleted.
    pub is_settled: bool,
}

/// Bytes that are no membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no membership of a group")]
pub struct MembershipError;

impl Membership {
    /// Of a newborn group.
    pub fn of_voters(voters: impl IntoIterator<Item = PeerId>) -> Self {
        Self { voters: sorted(voters), is_settled: true, ..Self::default() }
    }

    /// Whether two majorities decide.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether the peer's vote counts, in one majority or in both.
    pub fn is_voter(&self, peer: PeerId) -> bool {
        self.voters.contains(&peer) || self.voters_outgoing.contains(&peer)
    }

    /// Whether the peer gets entries and has no vote.
    pub fn is_learner(&self, peer: PeerId) -> bool {
        self.learners.contains(&peer)
    }

    /// Every member once.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        let outgoing = self.voters_outgoing.iter().filter(|peer| !self.voters.contains(peer));
        self.voters.iter().chain(outgoing).chain(&self.learners).copied()
    }

    /// Whether this peer alone decides.
    pub fn is_sole_voter(&self, peer: PeerId) -> bool {
        self.voters == [peer] && self.voters_outgoing.iter().all(|p| *p == peer)
    }

    /// Layout, big endian: version u8; settled u8; voters, outgoing voters, learners, next learners: count u16, peer
    /// ids u64.
    ///
    /// # Panics
    /// With more than 65,535 members of a kind.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.is_settled)];
        for peers in [&self.voters, &self.voters_outgoing, &self.learners, &self.learners_next] {
            out.extend_from_slice(&u16::try_from(peers.len()).expect("a group is small").to_be_bytes());
            out.extend(peers.iter().flat_map(|peer| peer.0.to_be_bytes()));
        }
        out
    }

    /// Reads what `encode` wrote, and nothing that raft could not hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        let (&[version, is_settled], mut rest) = bytes.split_first_chunk().ok_or(MembershipError)?;
        if version != VERSION || is_settled > 1 {
            return Err(MembershipError);
        }
        let mut peers = || {
            let (count, after) = rest.split_first_chunk().ok_or(MembershipError)?;
            let len = usize::from(u16::from_be_bytes(*count)) * 8;
            let (peers, after) = after.split_at_checked(len).ok_or(MembershipError)?;
            rest = after;
            let (peers, _) = peers.as_chunks::<8>();
            Ok(peers.iter().map(|peer| PeerId(u64::from_be_bytes(*peer))).collect::<Vec<_>>())
        };
        let (voters, voters_outgoing, learners, learners_next) = (peers()?, peers()?, peers()?, peers()?);
        let membership = Self { voters, voters_outgoing, learners, learners_next, is_settled: is_settled == 1 };
        if rest.is_empty() && membership.is_sound() { Ok(membership) } else { Err(MembershipError) }
    }

    fn is_sound(&self) -> bool {
        let lists = [&self.voters, &self.voters_outgoing, &self.learners, &self.learners_next];
        let rises = lists.iter().all(|peers| peers.is_sorted_by(|a, b| a < b));
        let is_named = lists.iter().all(|peers| peers.first().is_none_or(|peer| peer.0 != 0));
        // Nobody decides only where nobody is known.
        let has_voters = !self.voters.is_empty() || lists.iter().all(|peers| peers.is_empty());
        let learners_only_learn = !self.learners.iter().any(|peer| self.is_voter(*peer));
        let is_outgoing = |peer: &PeerId| self.voters_outgoing.contains(peer) && !self.voters.contains(peer);
        rises && is_named && has_voters && learners_only_learn && self.learners_next.iter().all(is_outgoing)
    }

    pub(super) fn from_raft(state: &ConfState) -> Self {
        let peers = |ids: &[u64]| sorted(ids.iter().map(|id| PeerId(*id)));
        Self {
            voters: peers(&state.voters),
            voters_outgoing: peers(&state.voters_outgoing),
            learners: peers(&state.learners),
            learners_next: peers(&state.learners_next),
            is_settled: false,
        }
    }

    pub(super) fn to_raft(&self) -> ConfState {
        let ids = |peers: &[PeerId]| peers.iter().map(|peer| peer.0).collect::<Vec<_>>();
        let mut state = ConfState::default();
        state.set_voters(ids(&self.voters));
        state.set_voters_outgoing(ids(&self.voters_outgoing));
        state.set_learners(ids(&self.learners));
        state.set_learners_next(ids(&self.learners_next));
        state
    }
}

fn sorted(peers: impl IntoIterator<Item = PeerId>) -> Vec<PeerId> {
    let mut peers: Vec<PeerId> = peers.into_iter().collect();
    peers.sort_unstable();
    peers.dedup();
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers<const N: usize>(ids: [u64; N]) -> Vec<PeerId> {
        ids.map(PeerId).to_vec()
    }

    fn joint() -> Membership {
        Membership {
            voters: peers([1, 2, 5]),
            voters_outgoing: peers([1, 2, 3, 4]),
            learners: peers([7]),
            learners_next: peers([3]),
            is_settled: false,
        }
    }

    #[test]
    fn a_membership_is_read_as_it_was_written() {
        for membership in [Membership::default(), Membership::of_voters(peers([3, 1, 2])), joint()] {
            let bytes = membership.encode();
            assert_eq!(Membership::decode(&bytes), Ok(membership.clone()));
            assert_eq!(
                Membership { is_settled: membership.is_settled, ..Membership::from_raft(&membership.to_raft()) },
                membership
            );
            assert!((0..bytes.len()).all(|len| Membership::decode(&bytes[..len]).is_err()));
            assert!(Membership::decode(&[bytes, vec![0]].concat()).is_err());
        }
        assert_eq!(joint().peers().collect::<Vec<_>>(), peers([1, 2, 5, 3, 4, 7]));
    }

    #[test]
    fn a_membership_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut Membership)| {
            let mut membership = joint();
            change(&mut membership);
            assert_eq!(Membership::decode(&membership.encode()), Err(MembershipError), "{membership:?}");
        };
        refused(|m| m.voters.clear());
        refused(|m| m.voters.swap(0, 1));
        refused(|m| m.voters.push(PeerId(5)));
        refused(|m| m.voters.insert(0, PeerId(0)));
        refused(|m| m.learners[0] = PeerId(1));
        refused(|m| m.learners[0] = PeerId(4));
        refused(|m| m.learners_next[0] = PeerId(1));
        refused(|m| m.voters_outgoing.clear());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(0_u8..4, 0..60)) {
            if let Ok(membership) = Membership::decode(&bytes) {
                proptest::prop_assert_eq!(membership.encode(), bytes);
            }
        }
    }
}
