//! Assignors, with the examples that Kafka's own are shown by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::tests::{topic_id, topics};
use super::{Assignor, MemberSpec, Spec};
use crate::coordinator::group::consumer::{Target, Topics};
use crate::coordinator::group::{InstanceId, MemberId};

/// A member: id, topics, what it had.
type Given<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a [i32])]);

fn target(of: &[(&str, &[i32])]) -> Target {
    of.iter().map(|(name, partitions)| (topic_id(name), partitions.iter().copied().collect())).collect()
}

fn assign(assignor: Assignor, counts: &[(&str, usize)], members: &[Given<'_>]) -> Vec<Target> {
    let known = topics(1, counts, &Topics::default());
    let member = |(id, subscribed, had): &Given<'_>| MemberSpec {
        id: MemberId::new(id).unwrap(),
        instance: id.strip_prefix("static-").map(|name| InstanceId::new(name).unwrap()),
        topics: Arc::new(subscribed.iter().map(|name| topic_id(name)).collect()),
        target: Arc::new(target(had)),
    };
    let members: Vec<MemberSpec> = members.iter().map(member).collect();
    let alike = members.windows(2).all(|pair| pair[0].topics == pair[1].topics);
    let spec = Spec { members, alike, topics: &known };
    assignor.assign(&spec).into_iter().map(|target| target.as_ref().clone()).collect()
}

fn sizes(targets: &[Target]) -> Vec<usize> {
    targets.iter().map(|target| target.values().map(BTreeSet::len).sum()).collect()
}

#[test]
fn ranges_of_equal_topics_go_together() {
    let both: &[&str] = &["t1", "t3"];
    let assigned = assign(Assignor::Range, &[("t1", 3), ("t3", 2)], &[("A", both, &[]), ("B", both, &[])]);
    let expected = [target(&[("t1", &[0, 1]), ("t3", &[0])]), target(&[("t1", &[2]), ("t3", &[1])])];
    assert_eq!(assigned, expected);
}

#[test]
fn ranges_are_among_the_subscribers_of_each_topic() {
    let members: [Given<'_>; 3] = [("A", &["t1", "t2"], &[]), ("B", &["t3"], &[]), ("C", &["t2", "t3"], &[])];
    let assigned = assign(Assignor::Range, &[("t1", 3), ("t2", 3), ("t3", 2)], &members);
    let expected = [
        target(&[("t1", &[0, 1, 2]), ("t2", &[0, 1])]),
        target(&[("t3", &[0])]),
        target(&[("t2", &[2]), ("t3", &[1])]),
    ];
    assert_eq!(assigned, expected);
}

#[test]
fn static_members_have_their_ranges_first() {
    let t: &[&str] = &["t"];
    let assigned = assign(Assignor::Range, &[("t", 3)], &[("A", t, &[]), ("static-z", t, &[]), ("static-y", t, &[])]);
    assert_eq!(assigned, [target(&[("t", &[2])]), target(&[("t", &[1])]), target(&[("t", &[0])])]);
}

#[test]
fn more_members_than_partitions_leaves_some_without() {
    let t: &[&str] = &["t"];
    for assignor in Assignor::ALL {
        let assigned = assign(assignor, &[("t", 2)], &[("A", t, &[]), ("B", t, &[]), ("C", t, &[])]);
        let mut sizes = sizes(&assigned);
        sizes.sort_unstable();
        assert_eq!(sizes, [0, 1, 1], "{assignor:?}");
    }
}

#[test]
fn a_new_member_gets_its_share_and_nothing_else_moves() {
    let both: &[&str] = &["t1", "t2"];
    let members: [Given<'_>; 3] = [
        ("A", both, &[("t1", &[0, 2]), ("t2", &[0])]),
        ("B", both, &[("t1", &[1]), ("t2", &[1, 2])]),
        ("C", both, &[]),
    ];
    let assigned = assign(Assignor::Uniform, &[("t1", 3), ("t2", 3)], &members);
    assert_eq!(sizes(&assigned), [2, 2, 2]);
    assert_eq!(assigned[0], target(&[("t1", &[0, 2])]));
    assert_eq!(assigned[1], target(&[("t1", &[1]), ("t2", &[1])]));
    assert_eq!(assigned[2], target(&[("t2", &[0, 2])]));
}

#[test]
fn nobody_subscribes_nobody_gets() {
    for assignor in Assignor::ALL {
        assert_eq!(assign(assignor, &[("t", 2)], &[("A", &[], &[])]), [Target::new()]);
        assert!(assign(assignor, &[("t", 2)], &[]).is_empty());
    }
}

/// As in Kafka's `UniformHeterogeneousAssignmentBuilderTest`.
#[test]
fn those_with_few_topics_are_served_from_them() {
    let members: [Given<'_>; 3] =
        [("A", &["t1", "t2"], &[("t1", &[0, 1, 2]), ("t2", &[0, 1, 2, 3])]), ("B", &["t1"], &[]), ("C", &["t2"], &[])];
    let assigned = assign(Assignor::Uniform, &[("t1", 3), ("t2", 4)], &members);
    let sizes = sizes(&assigned);
    assert_eq!(sizes.iter().sum::<usize>(), 7);
    assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
}

fn member() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), 4)
}

proptest! {
    /// Twice in a row nothing moves; every partition with a subscriber has one owner, who subscribes to it.
    #[test]
    fn all_is_dealt_once_and_stays(
        counts in prop::collection::vec(1..8_usize, 4),
        wants in prop::collection::vec(member(), 1..8),
        alike in any::<bool>(),
    ) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let counts: Vec<(&str, usize)> = NAMES.into_iter().zip(counts).collect();
        let wants: Vec<Vec<&str>> = wants.iter().map(|wants| {
            let wants = if alike { &[true, false, true, true][..] } else { wants };
            NAMES.into_iter().zip(wants).filter(|(_, wants)| **wants).map(|(name, _)| name).collect()
        }).collect();
        let ids: Vec<String> = (0..wants.len()).map(|at| format!("m{at}")).collect();
        for assignor in Assignor::ALL {
            let given: Vec<Given<'_>> = ids.iter().zip(&wants).map(|(id, wants)| (&**id, &wants[..], &[][..])).collect();
            let first = assign(assignor, &counts, &given);
            let mut owners: BTreeMap<_, usize> = BTreeMap::new();
            for (targets, wants) in first.iter().zip(&wants) {
                for (topic, partitions) in targets {
                    prop_assert!(wants.iter().any(|name| topic_id(name) == *topic));
                    partitions.iter().for_each(|index| *owners.entry((*topic, *index)).or_default() += 1);
                }
            }
            let wanted: usize =
                counts.iter().filter(|(name, _)| wants.iter().any(|wants| wants.contains(name))).map(|(_, n)| n).sum();
            prop_assert_eq!(owners.len(), wanted);
            prop_assert!(owners.values().all(|owners| *owners == 1));
            let had: Vec<Vec<(&str, Vec<i32>)>> = first.iter().map(|targets| {
                NAMES.into_iter().filter_map(|name| {
                    Some((name, targets.get(&topic_id(name))?.iter().copied().collect()))
                }).collect()
            }).collect();
            let had: Vec<Vec<(&str, &[i32])>> =
                had.iter().map(|had| had.iter().map(|(name, of)| (*name, &of[..])).collect()).collect();
            let given: Vec<Given<'_>> =
                ids.iter().zip(&wants).zip(&had).map(|((id, wants), had)| (&**id, &wants[..], &had[..])).collect();
            prop_assert_eq!(assign(assignor, &counts, &given), first);
        }
    }
}
