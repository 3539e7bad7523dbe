//! Where the replicas of a broker that leaves go: onto racks that the partition is not on yet, then onto the brokers that
//! have least.

use std::collections::BTreeMap;

/// A partition and the brokers that it is, or shall be, on; the preferred leader first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    pub topic: String,
    pub partition: i32,
    pub replicas: Vec<i32>,
    /// Its topic has as many replicas as brokers allow: it may do with one less.
    pub is_internal: bool,
}

/// A partition that finds no other broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    pub topic: String,
    pub partition: i32,
    pub replicas: usize,
}

#[derive(Clone, Copy, Default)]
struct Load {
    replicas: usize,
    /// Partitions that it is the preferred leader of.
    leads: usize,
}

/// The partitions of the broker that leaves, as they shall be without it; its place in each goes to another one. Those of
/// internal topics that find none do without.
/// `brokers`: those that may take replicas, with their racks.
pub fn without(leaving: i32, brokers: &BTreeMap<i32, Option<String>>, all: &[Placed]) -> Result<Vec<Placed>, NoRoom> {
    let mut loads: BTreeMap<i32, Load> = brokers.keys().map(|id| (*id, Load::default())).collect();
    for partition in all {
        for (place, id) in partition.replicas.iter().enumerate() {
            if let Some(load) = loads.get_mut(id) {
                load.replicas += 1;
                load.leads += usize::from(place == 0);
            }
        }
    }
    let mut moved = Vec::new();
    for partition in all.iter().filter(|partition| partition.replicas.contains(&leaving)) {
        let leads = partition.replicas.first() == Some(&leaving);
        let rack_of = |id: i32| brokers.get(&id).and_then(Option::as_deref);
        let stay = || partition.replicas.iter().copied().filter(|id| *id != leaving);
        let best = loads.iter().filter(|(id, _)| !partition.replicas.contains(id)).min_by_key(|(id, load)| {
            let same_rack =
                rack_of(**id).map_or(0, |rack| stay().filter(|other| rack_of(*other) == Some(rack)).count());
            (same_rack, if leads { load.leads } else { 0 }, load.replicas, **id)
        });
        let Some(best) = best.map(|(id, _)| *id) else {
            if partition.is_internal && partition.replicas.len() > 1 {
                moved.push(Placed { replicas: stay().collect(), ..partition.clone() });
                continue;
            }
            let Placed { topic, partition, replicas, .. } = partition.clone();
            return Err(NoRoom { topic, partition, replicas: replicas.len() });
        };
        let load = loads.entry(best).or_default();
        load.replicas += 1;
        load.leads += usize::from(leads);
        let replicas = partition.replicas.iter().map(|id| if *id == leaving { best } else { *id }).collect();
        moved.push(Placed { replicas, ..partition.clone() });
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(replicas: &[&[i32]]) -> Vec<Placed> {
        let row = |(partition, on): (i32, &&[i32])| Placed {
            topic: "t".to_owned(),
            partition,
            replicas: on.to_vec(),
            is_internal: false,
        };
        (0..).zip(replicas).map(row).collect()
    }

    fn brokers(racks: &[(i32, &str)]) -> BTreeMap<i32, Option<String>> {
        racks.iter().map(|(id, rack)| (*id, Some((*rack).to_owned()).filter(|rack| !rack.is_empty()))).collect()
    }

    fn moved(leaving: i32, racks: &[(i32, &str)], all: &[&[i32]]) -> Vec<(i32, Vec<i32>)> {
        let moved = without(leaving, &brokers(racks), &placed(all)).expect("there is room");
        moved.into_iter().map(|row| (row.partition, row.replicas)).collect()
    }

    #[test]
    fn replicas_and_leaderships_spread_over_those_that_have_least() {
        let free = [(1, ""), (2, ""), (4, "")];
        let all: [&[i32]; 5] = [&[3, 1], &[3, 2], &[1, 3], &[2, 3], &[1, 2]];
        let expected = [(0, vec![4, 1]), (1, vec![4, 2]), (2, vec![1, 4]), (3, vec![2, 1])];
        assert_eq!(moved(3, &free, &all), expected);
        assert_eq!(moved(9, &free, &all), []);
    }

    #[test]
    fn a_rack_that_the_partition_is_not_on_comes_first() {
        let racks = [(1, "a"), (2, "b"), (4, "a"), (5, "c"), (6, "c")];
        let all: [&[i32]; 3] = [&[1, 2, 3], &[5, 3, 6], &[3, 2, 5]];
        assert_eq!(moved(3, &racks, &all), [(0, vec![1, 2, 6]), (1, vec![5, 4, 6]), (2, vec![4, 2, 5])]);
    }

    #[test]
    fn internal_topics_do_with_fewer_replicas() {
        let internal = |mut all: Vec<Placed>| {
            all.iter_mut().for_each(|partition| partition.is_internal = true);
            all
        };
        let moved = without(3, &brokers(&[(1, ""), (2, "")]), &internal(placed(&[&[1, 3, 2], &[3, 1]]))).expect("room");
        assert_eq!(moved, internal(placed(&[&[1, 2], &[2, 1]])));
        assert!(without(3, &BTreeMap::new(), &internal(placed(&[&[3]]))).is_err());
    }

    #[test]
    fn too_few_brokers_are_told_before_anything_moves() {
        let refused = without(3, &brokers(&[(1, ""), (2, "")]), &placed(&[&[3, 1], &[1, 2, 3]]));
        assert_eq!(refused, Err(NoRoom { topic: "t".to_owned(), partition: 1, replicas: 3 }));
    }
}
