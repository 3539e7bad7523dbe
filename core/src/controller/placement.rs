//! Where the replicas of new partitions go: striped over racks and over the nodes of each rack, so that leaders and
//! replicas spread evenly (Kafka `StripedReplicaPlacer`).
//!
//! The first replica is on a node that is alive; the others go to live nodes of the other racks first, and to dead
//! ones when a rack has no more.

use std::collections::BTreeMap;

use crate::types::NodeId;

/// A registered node, as far as placement cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableNode {
    pub id: NodeId,
    pub rack: Option<String>,
    pub alive: bool,
}

/// Why there is no place for the replicas, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("All brokers are currently fenced, or have all their log directories cordoned.")]
    NoneAlive,
    #[error(
        "The target replication factor of {wanted} cannot be reached because only {registered} broker(s) are registered \
         or some brokers have all their log directories cordoned."
    )]
    TooFew { wanted: usize, registered: usize },
}

/// Replicas for `partitions` new partitions, the preferred leader of each first. `pick(n)` gives a random number
/// below `n`.
pub fn place(
    nodes: &[UsableNode],
    partitions: usize,
    replicas: usize,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Result<Vec<Vec<NodeId>>, PlacementError> {
    assert!(replicas > 0, "a partition of {replicas} replicas");
    let alive = nodes.iter().filter(|node| node.alive).count();
    if alive == 0 {
        return Err(PlacementError::NoneAlive);
    }
    if replicas > nodes.len() {
        return Err(PlacementError::TooFew { wanted: replicas, registered: nodes.len() });
    }
    let mut stripes = Stripes::new(nodes, alive, pick);
    Ok((0..partitions).map(|_| stripes.next(replicas, pick)).collect())
}

/// Nodes that take turns: for each partition everyone at most once, beginning where `begin` says.
#[derive(Default)]
struct Ring {
    nodes: Vec<NodeId>,
    /// Chosen by chance.
    origin: usize,
    start: usize,
    taken: usize,
}

impl Ring {
    fn begin(&mut self, start: usize) {
        self.start = self.origin + start;
        self.taken = 0;
    }

    fn next(&mut self) -> Option<NodeId> {
        let count = self.nodes.len();
        let turn = (self.taken < count).then(|| self.nodes[(self.start + self.taken) % count])?;
        self.taken += 1;
        Some(turn)
    }
}

#[derive(Default)]
struct Rack {
    alive: Ring,
    dead: Ring,
    /// Partitions since the last mixing whose first replica is here.
    led: usize,
}

struct Stripes {
    racks: Vec<Rack>,
    alive: usize,
    round: usize,
    first_rack: usize,
}

impl Stripes {
    fn new(nodes: &[UsableNode], alive: usize, pick: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut racks: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
        for node in nodes {
            let rack = racks.entry(node.rack.as_deref()).or_default();
            let ring = if node.alive { &mut rack.alive } else { &mut rack.dead };
            ring.nodes.push(node.id);
        }
        let mut racks: Vec<Rack> = racks.into_values().collect();
        for ring in racks.iter_mut().flat_map(|rack| [&mut rack.alive, &mut rack.dead]) {
            ring.nodes.sort();
            if !ring.nodes.is_empty() {
                ring.origin = pick(ring.nodes.len());
            }
        }
        let first_rack = pick(racks.len());
        Self { racks, alive, round: 0, first_rack }
    }

    fn next(&mut self, replicas: usize, pick: &mut dyn FnMut(usize) -> usize) -> Vec<NodeId> {
        // Every live node has led once: mix, so that the same sets of nodes do not come again.
        if self.round == self.alive && self.alive > 1 {
            self.shuffle(pick);
            self.round = 0;
        }
        let count = self.racks.len();
        for rack in &mut self.racks {
            // The nodes of a rack lead in turn, however many racks there are. (Kafka begins at the round here too, and
            // with three racks of three one node of each leads all.)
            rack.alive.begin(rack.led);
        }
        let mut rack = self.first_rack % count;
        let leader = loop {
            match self.racks[rack].alive.next() {
                Some(node) => break node,
                None => rack = (rack + 1) % count,
            }
        };
        for (at, other) in self.racks.iter_mut().enumerate() {
            match at == rack {
                true => other.led += 1,
                false => other.alive.begin(self.round),
            }
            other.dead.begin(self.round);
        }
        let mut placed = vec![leader];
        // The leader's rack is passed over once.
        let mut passed_over = Some(rack);
        let mut rack = self.first_rack % count;
        while placed.len() < replicas {
            if passed_over == Some(rack) {
                passed_over = None;
            } else {
                let Rack { alive, dead, .. } = &mut self.racks[rack];
                placed.extend(alive.next().or_else(|| dead.next()));
            }
            rack = (rack + 1) % count;
        }
        self.round += 1;
        self.first_rack = (self.first_rack + 1) % count;
        placed
    }

    fn shuffle(&mut self, pick: &mut dyn FnMut(usize) -> usize) {
        shuffle(&mut self.racks, pick);
        for rack in &mut self.racks {
            rack.led = 0;
            shuffle(&mut rack.alive.nodes, pick);
            shuffle(&mut rack.dead.nodes, pick);
        }
    }
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], pick: &mut dyn FnMut(usize) -> usize) {
    for last in (1..items.len()).rev() {
        items.swap(last, pick(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn nodes(racks: &[(i32, Option<&str>, bool)]) -> Vec<UsableNode> {
        let node = |(id, rack, alive): &(i32, Option<&str>, bool)| UsableNode {
            id: NodeId(*id),
            rack: rack.map(str::to_owned),
            alive: *alive,
        };
        racks.iter().map(node).collect()
    }

    /// A small generator: tests must give the same each time.
    fn numbers(mut state: usize) -> impl FnMut(usize) -> usize {
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    #[test]
    fn one_node_takes_all() {
        let placed = place(&nodes(&[(7, None, true)]), 3, 1, &mut numbers(1));
        assert_eq!(placed, Ok(vec![vec![NodeId(7)]; 3]));
    }

    #[test]
    fn more_replicas_than_nodes_find_no_place() {
        let placed = place(&nodes(&[(1, None, true)]), 1, 2, &mut numbers(1));
        assert_eq!(
            placed.expect_err("refused").to_string(),
            "The target replication factor of 2 cannot be reached because only 1 broker(s) are registered or some \
             brokers have all their log directories cordoned."
        );
        assert_eq!(place(&nodes(&[(1, None, false)]), 1, 1, &mut numbers(1)), Err(PlacementError::NoneAlive));
    }

    #[test]
    fn replicas_lie_in_different_racks_and_leaders_spread() {
        let cluster: Vec<_> = (0..9).map(|id| (id, Some(["a", "b", "c"][id as usize % 3]), true)).collect();
        for seed in 0..20 {
            let placed = place(&nodes(&cluster), 90, 3, &mut numbers(seed)).expect("room");
            let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
            for replicas in &placed {
                let racks: BTreeSet<i32> = replicas.iter().map(|node| node.0 % 3).collect();
                assert_eq!(racks.len(), 3, "{replicas:?}");
                *led.entry(replicas[0]).or_default() += 1;
            }
            assert!(led.values().all(|count| *count == 10), "{led:?}");
        }
    }

    #[test]
    fn a_dead_node_follows_but_does_not_come_first() {
        let placed = place(&nodes(&[(0, None, true), (1, None, false), (2, None, true)]), 10, 3, &mut numbers(3));
        for replicas in placed.expect("room") {
            assert_ne!(replicas[0], NodeId(1));
            assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 3);
        }
    }
}
