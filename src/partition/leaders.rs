//! Who leads which partition of the cluster. Leaders announce it themselves (`announce`); nothing of it is on disk.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use millstream_core::types::{LeaderEpoch, NodeId, PartitionId, PeerId, RaftIndex};
use tokio::sync::watch;
use uuid::Uuid;

/// What a leader says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderInfo {
    pub node: NodeId,
    /// False: it led last, and does so no more.
    pub leads: bool,
    pub epoch: LeaderEpoch,
    /// The nodes whose replicas are caught up, the leader's own included, by id. Empty as long as nobody has said so.
    pub isr: Vec<NodeId>,
    /// Who votes, sorted; empty while that changes.
    pub voters: Vec<PeerId>,
    /// The entry of the log that made them the voters.
    pub members_index: RaftIndex,
    /// The change of the replicas that the leader knows of (`Partition::moves` of the metadata).
    pub moves: u64,
}

impl LeaderInfo {
    /// Of whom nothing more is known.
    pub fn of(node: NodeId, epoch: LeaderEpoch) -> Self {
        Self { node, leads: true, epoch, isr: Vec::new(), voters: Vec::new(), members_index: RaftIndex(0), moves: 0 }
    }
}

/// The leaders of all partitions, as far as they are known here. The higher epoch wins: what is told of a partition
/// never goes back.
#[derive(Debug)]
pub struct Leaders {
    map: RwLock<HashMap<PartitionId, Told>>,
    changes: watch::Sender<u64>,
}

/// What was said, and which start of the process it was that said so; the nil UUID where that is not known.
#[derive(Clone, Debug)]
struct Told {
    info: LeaderInfo,
    boot: Uuid,
}

impl Default for Leaders {
    fn default() -> Self {
        Self { map: RwLock::default(), changes: watch::channel(0).0 }
    }
}

impl Leaders {
    /// Who leads a partition, or led it last. It may have died since.
    pub fn get(&self, id: PartitionId) -> Option<LeaderInfo> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(|told| told.info.clone())
    }

    /// The partitions that a node leads, or led last.
    pub(super) fn of_node(&self, node: NodeId) -> Vec<(PartitionId, LeaderInfo)> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let of_node = map.iter().filter(|(_, told)| told.info.node == node);
        of_node.map(|(id, told)| (*id, told.info.clone())).collect()
    }

    /// A number that grows with every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes what leaders say; what is older than what is known is passed over. Gives how many were news.
    pub(super) fn note(&self, boot: Uuid, told: impl IntoIterator<Item = (PartitionId, LeaderInfo)>) -> usize {
        let mut news = 0;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for (id, info) in told {
            let known = map.get_mut(&id);
            match known {
                Some(known) if known.info == info => known.boot = boot,
                Some(known) if known.info.epoch > info.epoch => {}
                _ => {
                    map.insert(id, Told { info, boot });
                    news += 1;
                }
            }
        }
        drop(map);
        if news > 0 {
            self.changes.send_modify(|version| *version += 1);
        }
        news
    }

    /// Raft says who leads in a term, before the leader itself does. It does not say who is in sync: those who were.
    pub(super) fn note_early(&self, id: PartitionId, node: NodeId, epoch: LeaderEpoch) {
        let known = self.get(id);
        if known.as_ref().is_none_or(|known| known.epoch < epoch) {
            let mut isr = known.map(|known| known.isr).unwrap_or_default();
            if let Err(at) = isr.binary_search(&node)
                && !isr.is_empty()
            {
                isr.insert(at, node);
            }
            self.note(Uuid::nil(), [(id, LeaderInfo { isr, ..LeaderInfo::of(node, epoch) })]);
        }
    }

    /// A node has started anew: what it led before it leads no more, until it says so again.
    pub(super) fn note_start(&self, node: NodeId, boot: Uuid) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut news = 0;
        for told in map.values_mut().filter(|told| told.info.node == node && told.info.leads && told.boot != boot) {
            told.info.leads = false;
            news += 1;
        }
        drop(map);
        if news > 0 {
            self.changes.send_modify(|version| *version += news);
        }
    }

    /// The partition is gone.
    pub(super) fn forget(&self, id: PartitionId) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::types::TopicId;

    use super::*;

    #[test]
    fn the_higher_epoch_wins_and_the_same_may_change_its_followers() {
        let (leaders, boot) = (Leaders::default(), Uuid::from_u128(1));
        let changes = leaders.changes();
        let id = PartitionId { topic: TopicId(Uuid::from_u128(7)), partition: 0 };
        let info = |node, epoch, isr: &[i32]| LeaderInfo {
            isr: isr.iter().map(|n| NodeId(*n)).collect(),
            ..LeaderInfo::of(NodeId(node), LeaderEpoch(epoch))
        };
        assert_eq!(leaders.note(boot, [(id, info(1, 5, &[1]))]), 1);
        assert_eq!(leaders.note(boot, [(id, info(1, 5, &[1, 2]))]), 1);
        assert_eq!(leaders.note(boot, [(id, info(1, 5, &[1, 2])), (id, info(2, 4, &[2]))]), 0);
        assert_eq!(leaders.get(id), Some(info(1, 5, &[1, 2])));
        assert_eq!(*changes.borrow(), 2);
        leaders.note_early(id, NodeId(2), LeaderEpoch(5));
        assert_eq!(leaders.get(id), Some(info(1, 5, &[1, 2])));
        leaders.note_early(id, NodeId(2), LeaderEpoch(6));
        assert_eq!(leaders.get(id), Some(info(2, 6, &[1, 2])));
        leaders.note_early(id, NodeId(3), LeaderEpoch(7));
        assert_eq!(leaders.get(id), Some(info(3, 7, &[1, 2, 3])));
        leaders.note_start(NodeId(3), boot);
        assert_eq!(
            leaders.get(id),
            Some(LeaderInfo { leads: false, ..info(3, 7, &[1, 2, 3]) }),
            "nobody knows who said so"
        );
        assert_eq!(leaders.note(boot, [(id, info(3, 7, &[3]))]), 1, "it was only just elected");
        leaders.note_start(NodeId(3), boot);
        assert_eq!(leaders.get(id), Some(info(3, 7, &[3])));
        leaders.note_start(NodeId(3), Uuid::from_u128(2));
        assert_eq!(leaders.get(id), Some(LeaderInfo { leads: false, ..info(3, 7, &[3]) }));
        leaders.forget(id);
        assert_eq!(leaders.get(id), None);
        leaders.note_early(id, NodeId(3), LeaderEpoch(7));
        assert_eq!(leaders.get(id), Some(info(3, 7, &[])), "nobody has said who is in sync");
    }
}
