//! A step from one membership to the next, as an entry of the log.

use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use crate::types::PeerId;

/// Changes that one step may hold.
pub(super) const CHANGES_MAX: usize = 256;

const ONE: u8 = 0;
const ENTER: u8 = 1;
const LEAVE: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// Also makes a learner a voter.
    AddVoter(PeerId),
    /// Also makes a voter a learner.
    AddLearner(PeerId),
    Remove(PeerId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfChange {
    /// One at once: never more than one voter comes or goes.
    One(PeerChange),
    /// The group becomes joint: the majority of the voters before and that of those after decide together.
    Enter(Vec<PeerChange>),
    /// The voters after decide alone. Leaders propose this by themselves.
    Leave,
}

impl PeerChange {
    pub fn peer(&self) -> PeerId {
        match self {
            Self::AddVoter(peer) | Self::AddLearner(peer) | Self::Remove(peer) => *peer,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let what: u8 = match self {
            Self::AddVoter(_) => 1,
            Self::AddLearner(_) => 2,
            Self::Remove(_) => 3,
        };
        out.push(what);
        out.extend_from_slice(&self.peer().0.to_be_bytes());
    }

    fn decode([what, peer @ ..]: &[u8; 9]) -> Option<Self> {
        let peer = PeerId(u64::from_be_bytes(*peer));
        match what {
            _ if peer.0 == 0 => None,
            1 => Some(Self::AddVoter(peer)),
            2 => Some(Self::AddLearner(peer)),
            3 => Some(Self::Remove(peer)),
            _ => None,
        }
    }

    fn to_raft(self) -> ConfChangeSingle {
        let mut change = ConfChangeSingle::default();
        change.set_node_id(self.peer().0);
        change.set_change_type(match self {
            Self::AddVoter(_) => ConfChangeType::AddNode,
            Self::AddLearner(_) => ConfChangeType::AddLearnerNode,
            Self::Remove(_) => ConfChangeType::RemoveNode,
        });
        change
    }
}

impl ConfChange {
    pub fn changes(&self) -> &[PeerChange] {
        match self {
            Self::One(change) => std::slice::from_ref(change),
            Self::Enter(changes) => changes,
            Self::Leave => &[],
        }
    }

    /// Layout, big endian: step u8 (0 one, 1 enter, 2 leave), and for each change: what u8 (1 voter, 2 learner, 3
    /// removed), peer id u64.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::One(_) => ONE,
            Self::Enter(_) => ENTER,
            Self::Leave => LEAVE,
        });
        for change in self.changes() {
            change.encode(out);
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (step, bytes) = bytes.split_first()?;
        let (changes, []) = bytes.as_chunks::<9>() else { return None };
        let change_count = changes.len();
        let mut changes = changes.iter().map(PeerChange::decode);
        match (*step, change_count) {
            (ONE, 1) => Some(Self::One(changes.next()??)),
            (ENTER, 1..=CHANGES_MAX) => Some(Self::Enter(changes.collect::<Option<_>>()?)),
            (LEAVE, 0) => Some(Self::Leave),
            _ => None,
        }
    }

    pub(super) fn to_raft(&self) -> ConfChangeV2 {
        let mut change = ConfChangeV2::default();
        // Raft never leaves by itself: it would not after a change of leaders.
        let is_joint = matches!(self, Self::Enter(_));
        change.set_transition(if is_joint { ConfChangeTransition::Explicit } else { ConfChangeTransition::Auto });
        change.set_changes(self.changes().iter().map(|change| change.to_raft()).collect::<Vec<_>>().into());
        change
    }
}
