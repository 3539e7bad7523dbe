//! How many partitions the topics of an application's own are to have (`RepartitionTopics`,
//! `CopartitionedTopicsEnforcer`, `ChangelogTopics`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::super::consumer::Topics;
use super::configure::{NotConfigured, incorrectly_partitioned, no_sources};
use super::topology::{CopartitionGroup, Subtopology, Topology};

type Counts = BTreeMap<Arc<str>, i32>;

/// Of all topics of the application's own. All topics that it only reads are there.
pub(super) fn decide_partition_counts(topology: &Topology, topics: &Topics) -> Result<Counts, NotConfigured> {
    let mut counts = repartition_counts(topology, topics)?;
    for part in topology.subtopologies.values() {
        for group in &part.copartition_groups {
            enforce(part, group, topics, &mut counts)?;
        }
    }
    for (id, part) in &topology.subtopologies {
        let of_sources = part.sources().filter_map(|name| count_of(name, topics, &counts)).max();
        let of_sources = of_sources.ok_or_else(|| no_sources(id))?;
        counts.extend(part.changelogs.iter().map(|topic| (Arc::clone(&topic.name), of_sources)));
    }
    Ok(counts)
}

/// A topic that is there has as many as it has.
fn count_of(name: &Arc<str>, topics: &Topics, counts: &Counts) -> Option<i32> {
    topics.by_name(name).map(|topic| topic.partition_count).or_else(|| counts.get(name).copied())
}

/// A topic between two subtopologies has as many as the widest of those that its writer reads, as far as they are known
/// when it is its turn: the writer may read such topics itself.
fn repartition_counts(topology: &Topology, topics: &Topics) -> Result<Counts, NotConfigured> {
    let parts = || topology.subtopologies.values();
    let fixed = parts().flat_map(|part| &part.repartition_sources).filter(|topic| topic.partitions != 0);
    let mut counts: Counts = fixed.map(|topic| (Arc::clone(&topic.name), topic.partitions)).collect();
    let mut readers: BTreeMap<&Arc<str>, Vec<&Subtopology>> = BTreeMap::new();
    for part in parts() {
        part.repartition_sources.iter().for_each(|topic| readers.entry(&topic.name).or_default().push(part));
    }
    let mut due: VecDeque<&Subtopology> = parts().collect();
    while let Some(part) = due.pop_front() {
        // Once some are known they all are: nobody is looked at more often than it has something to learn.
        if part.repartition_sinks.iter().all(|sink| counts.contains_key(sink)) {
            continue;
        }
        let of_repartition = part.repartition_sources.iter().filter_map(|topic| counts.get(&topic.name).copied());
        let of_sources = part.source_topics.iter().filter_map(|name| topics.by_name(name));
        let widest = of_repartition.chain(of_sources.map(|topic| topic.partition_count)).max();
        let Some(widest) = widest else { continue };
        for sink in &part.repartition_sinks {
            if !counts.contains_key(sink) {
                counts.insert(Arc::clone(sink), widest);
                due.extend(readers.get(sink).into_iter().flatten());
            }
        }
    }
    let fail = |why: &str| {
        let why = format!("Failed to compute number of partitions for all repartition topics{why}");
        Err(NotConfigured::Topology(why))
    };
    if parts().flat_map(|part| &part.repartition_sinks).any(|sink| !counts.contains_key(sink)) {
        return fail(". There may be loops in the topology that cannot be resolved.");
    }
    if parts().flat_map(|part| &part.repartition_sources).any(|topic| !counts.contains_key(&topic.name)) {
        return fail(", because a repartition source topic is never used as a sink topic.");
    }
    Ok(counts)
}

/// Topics that are read together must have the same number of partitions; those of the application's own get it.
///
/// Kafka 4.3 looks here at the fixed topics of the whole topology, so that two groups could not have different numbers.
/// As in its client (`CopartitionedTopicsEnforcer` of the classic protocol), those of the group count.
fn enforce(
    part: &Subtopology,
    group: &CopartitionGroup,
    topics: &Topics,
    counts: &mut Counts,
) -> Result<(), NotConfigured> {
    let place = |place: &i16| usize::try_from(*place).unwrap_or(usize::MAX);
    let own: Vec<_> =
        group.repartition_sources.iter().filter_map(|at| part.repartition_sources.get(place(at))).collect();
    let own_names: BTreeSet<&Arc<str>> = own.iter().map(|topic| &topic.name).collect();
    let fixed: BTreeSet<&Arc<str>> =
        own.iter().filter(|topic| topic.partitions != 0).map(|topic| &topic.name).collect();
    let others = group.source_topics.iter().filter_map(|at| part.source_topics.get(place(at)));
    let others: BTreeSet<&Arc<str>> = others.filter(|name| !own_names.contains(name)).collect();
    let with_counts = |names: &BTreeSet<&Arc<str>>| -> BTreeMap<Arc<str>, i32> {
        let with_count = |name: &&Arc<str>| Some((Arc::clone(name), count_of(name, topics, counts)?));
        names.iter().filter_map(with_count).collect()
    };
    let (of_own, of_others) = (with_counts(&own_names), with_counts(&others));
    let wanted = if !of_others.is_empty() {
        the_same(of_others.values().copied()).ok_or_else(|| not_the_same(&of_others))?
    } else if !fixed.is_empty() {
        the_same(with_counts(&fixed).into_values()).ok_or_else(|| not_the_same(&of_own))?
    } else {
        of_own.values().copied().max()
    };
    let Some(wanted) = wanted else { return Ok(()) };
    for (name, count) in of_own {
        if count != wanted && fixed.contains(&name) {
            return Err(incorrectly_partitioned(format!(
                "Number of partitions [{count}] of repartition topic [{name}] doesn't match number of partitions \
                 [{wanted}] of the source topic."
            )));
        }
        counts.insert(name, wanted);
    }
    Ok(())
}

/// `None`: they differ. `Some(None)`: there are none.
fn the_same(mut counts: impl Iterator<Item = i32>) -> Option<Option<i32>> {
    let Some(first) = counts.next() else { return Some(None) };
    counts.all(|count| count == first).then_some(Some(first))
}

fn not_the_same(counts: &BTreeMap<Arc<str>, i32>) -> NotConfigured {
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name}={count}")).collect();
    let counts = counts.join(", ");
    incorrectly_partitioned(format!("Following topics do not have the same number of partitions: [{{{counts}}}]"))
}
