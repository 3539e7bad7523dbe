//! Which replica a consumer shall read from (KIP-392): the leader, or one in the consumer's own rack.

use crate::types::{NodeId, Offset};

/// What `replica.selector.class` names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaSelector {
    /// The leader, always.
    #[default]
    Leader,
    /// Kafka's `RackAwareReplicaSelector`: the leader if it is in the client's rack, else the longest log there.
    RackAware,
}

impl ReplicaSelector {
    /// By the name of Kafka's class; who names none gets the leader.
    pub fn of_class(name: Option<&str>) -> Self {
        match name {
            Some("org.apache.kafka.common.replica.RackAwareReplicaSelector") => Self::RackAware,
            _ => Self::Leader,
        }
    }

    /// Whether a client that says it is in `rack` may have to go to another replica than the leader's.
    pub fn may_redirect(self, rack: &str, leader_rack: Option<&str>) -> bool {
        self == Self::RackAware && !rack.is_empty() && leader_rack != Some(rack)
    }
}

/// A follower that is in sync and in the client's rack, and that the client can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearbyReplica {
    pub node: NodeId,
    /// The offset after the last record that it has, as far as its leader knows.
    pub log_end: Offset,
}

/// The leader's log, as far as consumers see it. No replica's log starts after its leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readable {
    pub log_start: Offset,
    pub high_watermark: Offset,
}

/// The one to read from: of those whose log reaches to the offset that is asked for, the one with the longest; of equals the
/// highest number. None: the leader (`ReplicaManager.findPreferredReadReplica`, `ReplicaView.comparator`).
///
/// With Kafka all that are in sync have all that is committed. Here a majority has: who lacks the record that is asked
/// for does not reach to it.
pub fn nearest(from: Offset, leader: Readable, nearby: impl IntoIterator<Item = NearbyReplica>) -> Option<NodeId> {
    let needed = if from < leader.high_watermark { from.plus(1) } else { from };
    let reaches = |replica: &NearbyReplica| leader.log_start <= from && needed <= replica.log_end;
    let reaching = nearby.into_iter().filter(reaches);
    reaching.max_by_key(|replica| (replica.log_end, replica.node)).map(|replica| replica.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selector_is_named_as_kafka_names_it() {
        let of = |name| ReplicaSelector::of_class(Some(name));
        assert_eq!(of("org.apache.kafka.common.replica.RackAwareReplicaSelector"), ReplicaSelector::RackAware);
        assert_eq!(of("org.apache.kafka.common.replica.LeaderSelector"), ReplicaSelector::Leader);
        assert_eq!(ReplicaSelector::of_class(None), ReplicaSelector::Leader);
    }

    #[test]
    fn who_is_in_the_leaders_rack_or_in_none_stays() {
        let (aware, leader) = (ReplicaSelector::RackAware, ReplicaSelector::Leader);
        assert!(aware.may_redirect("a", Some("b")) && aware.may_redirect("a", None));
        assert!(
            !aware.may_redirect("a", Some("a")) && !aware.may_redirect("", None) && !aware.may_redirect("", Some("b"))
        );
        assert!(!leader.may_redirect("a", Some("b")));
    }

    /// Each line: the offset asked for, the leader's log start and high watermark, node@log end of those nearby, and
    /// who is chosen.
    const STORIES: &str = "
        from 5   start 0 committed 10  2@10           => 2
        from 10  start 0 committed 10  2@10           => 2
        from 10  start 0 committed 11  2@10           => leader
        from 9   start 0 committed 11  2@10           => 2
        from 11  start 0 committed 10  2@10           => leader
        from 11  start 0 committed 10  2@11           => 2
        from 5   start 0 committed 10                 => leader
        from 5   start 0 committed 10  2@10 3@12 4@11 => 3
        from 11  start 0 committed 12  2@10 3@12 4@11 => 3
        from 12  start 0 committed 12  2@12 3@12      => 3
        from 3   start 4 committed 10  2@10           => leader
        from 4   start 4 committed 4   2@4            => 2
    ";

    #[test]
    fn the_longest_log_that_reaches_to_the_offset_is_chosen() {
        for story in STORIES.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (asked, chosen) = story.split_once("=>").expect("an outcome");
            let mut words = asked.split_whitespace();
            let mut number = |name| {
                assert_eq!(words.next(), Some(name), "{story}");
                Offset(words.next().and_then(|word| word.parse().ok()).expect("an offset"))
            };
            let (from, log_start, high_watermark) = (number("from"), number("start"), number("committed"));
            let nearby = words.map(|word| {
                let (node, end) = word.split_once('@').expect("node@offset");
                NearbyReplica {
                    node: NodeId(node.parse().expect("a node")),
                    log_end: Offset(end.parse().expect("an end")),
                }
            });
            let told = nearest(from, Readable { log_start, high_watermark }, nearby)
                .map_or("leader".to_owned(), |node| node.to_string());
            assert_eq!(told, chosen.trim(), "{story}");
        }
    }
}
