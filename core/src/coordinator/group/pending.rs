//! Member ids that were given out and not used yet (KIP-394), and what a decision changes about them.
//!
//! Clients can leave any number of them behind, each until its session timeout, as in Kafka: so a draft holds the
//! changes only and copies nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::MemberId;

/// Ids that come (true) or go (false).
pub(super) type PendingChanges = BTreeMap<MemberId, bool>;

/// A group's pending ids as they are to be.
pub(super) struct PendingDraft<'a> {
    before: Option<&'a BTreeSet<MemberId>>,
    changes: PendingChanges,
    len: usize,
}

impl<'a> PendingDraft<'a> {
    /// `None`: a new group's.
    pub fn new(before: Option<&'a BTreeSet<MemberId>>) -> Self {
        Self { before, changes: PendingChanges::new(), len: before.map_or(0, BTreeSet::len) }
    }

    pub fn contains(&self, id: &MemberId) -> bool {
        let before = || self.before.is_some_and(|before| before.contains(id));
        self.changes.get(id).copied().unwrap_or_else(before)
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn insert(&mut self, id: &MemberId) {
        if !self.contains(id) {
            self.len += 1;
            self.changes.insert(id.clone(), true);
        }
    }

    pub fn remove(&mut self, id: &MemberId) {
        if self.contains(id) {
            self.len -= 1;
            self.changes.insert(id.clone(), false);
        }
    }

    pub fn finish(self) -> PendingChanges {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_what_was_there_with_its_changes() {
        let id = |name: &str| MemberId::new(name).unwrap();
        let before = BTreeSet::from([id("a"), id("b")]);
        let mut draft = PendingDraft::new(Some(&before));
        draft.remove(&id("a"));
        draft.remove(&id("a"));
        draft.remove(&id("nobody"));
        draft.insert(&id("c"));
        draft.insert(&id("c"));
        draft.remove(&id("b"));
        assert_eq!((draft.contains(&id("a")), draft.contains(&id("c")), draft.is_empty()), (false, true, false));
        draft.remove(&id("c"));
        assert!(draft.is_empty());
        draft.insert(&id("a"));
        assert_eq!(draft.finish(), BTreeMap::from([(id("a"), true), (id("b"), false), (id("c"), false)]));
        assert!(PendingDraft::new(None).is_empty());
    }
}
