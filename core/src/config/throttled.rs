//! `leader.replication.throttled.replicas` and `follower.replication.throttled.replicas` (KIP-73).

use crate::types::NodeId;

/// Replicas of a topic whose catching up is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThrottledReplicas {
    /// `*`
    All,
    /// Partitions and the nodes of their replicas.
    Listed(Vec<(i32, NodeId)>),
}

impl ThrottledReplicas {
    /// Reads `PARTITION:NODE` items that were checked before; others are passed over.
    pub fn of(items: &[String]) -> Self {
        if items.iter().any(|item| item == "*") {
            return Self::All;
        }
        let replica = |item: &String| {
            let (partition, node) = item.split_once(':')?;
            Some((partition.trim().parse().ok()?, NodeId(node.trim().parse().ok()?)))
        };
        Self::Listed(items.iter().filter_map(replica).collect())
    }

    pub fn has(&self, partition: i32, node: NodeId) -> bool {
        match self {
            Self::All => true,
            Self::Listed(replicas) => replicas.contains(&(partition, node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_throttled_where_it_is_listed() {
        let of = |items: &[&str]| ThrottledReplicas::of(&items.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>());
        let listed = of(&["0:1", "1:2", "", "x:y"]);
        assert!(listed.has(0, NodeId(1)) && listed.has(1, NodeId(2)));
        assert!(!listed.has(0, NodeId(2)) && !listed.has(2, NodeId(1)));
        assert!(of(&["*"]).has(7, NodeId(7)));
        assert!(!of(&[]).has(0, NodeId(0)));
    }
}
