//! Topologies with the topics that there are.

use super::super::super::consumer::Topics;
use super::super::super::consumer::tests::topics;
use super::super::configure::{check, configure};
use super::super::{CopartitionGroup, Subtopology, Topology};
use super::topology;

fn known(named: &[(&str, usize)]) -> Topics {
    topics(1, named, &Topics::default())
}

/// How many tasks each subtopology has, what is missing, and what is wrong.
fn outcome(text: &str, named: &[(&str, usize)]) -> String {
    let configured = match configure(&topology(0, text), &known(named)) {
        Ok(configured) => configured,
        Err(why) => return why,
    };
    let parts = configured.parts.iter().flatten().map(|(id, part)| format!("{id}:{}", part.task_count));
    let missing = configured.missing.iter().map(|topic| format!("+{}:{}", topic.name, topic.partition_count));
    let problem = configured.problem.iter().map(|status| format!("{:?}: {}", status.kind, status.detail));
    parts.chain(missing).chain(problem).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_subtopology_has_as_many_tasks_as_the_widest_of_its_topics_has_partitions() {
    assert_eq!(outcome("0;src=a,b 1;src=b", &[("a", 3), ("b", 5)]), "0:5 1:5");
    assert_eq!(outcome("0;src=a;log=l", &[("a", 3), ("l", 3)]), "0:3");
}

#[test]
fn source_topics_must_be_there() {
    assert_eq!(outcome("0;src=a,b", &[("b", 1)]), "MissingSourceTopics: Source topics a are missing.");
    let many = "0;src=a,b,c,d,e";
    assert_eq!(outcome(many, &[]), "MissingSourceTopics: Source topics a, b, c and 2 additional topics are missing.");
}

#[test]
fn internal_topics_are_to_be_created() {
    assert_eq!(
        outcome("0;src=a;sink=r;log=k 1;rep=r;log=l", &[("a", 3)]),
        "0:3 1:3 +k:3 +l:3 +r:3 MissingInternalTopics: Internal topics are missing: k, l, r"
    );
    assert_eq!(
        outcome("0;src=a;sink=r 1;rep=r:5;log=l", &[("a", 3), ("r", 5)]),
        "0:3 1:5 +l:5 MissingInternalTopics: Internal topics are missing: l"
    );
    assert_eq!(outcome("0;src=a;sink=r 1;rep=r;log=l", &[("a", 3), ("r", 3), ("l", 3)]), "0:3 1:3");
}

#[test]
fn a_topic_between_subtopologies_is_as_wide_as_what_its_writer_reads() {
    // Through several subtopologies, whatever their order.
    assert_eq!(
        outcome("0;rep=r;sink=s 1;rep=s 2;src=a;sink=r", &[("a", 4)]),
        "0:4 1:4 2:4 +r:4 +s:4 MissingInternalTopics: Internal topics are missing: r, s"
    );
}

#[test]
fn topologies_that_cannot_be_are_refused() {
    assert_eq!(
        outcome("0;rep=r;sink=s 1;rep=s;sink=r", &[]),
        "Failed to compute number of partitions for all repartition topics. There may be loops in the topology that \
         cannot be resolved."
    );
    assert_eq!(
        outcome("0;src=a;rep=r", &[("a", 1)]),
        "Failed to compute number of partitions for all repartition topics, because a repartition source topic is never \
         used as a sink topic."
    );
    assert_eq!(outcome("0;log=l", &[]), "No source topics found for subtopology 0");
}

#[test]
fn topics_that_are_there_must_be_as_wide_as_they_are_to_be() {
    assert_eq!(
        outcome("0;src=a;log=l", &[("a", 3), ("l", 2)]),
        "IncorrectlyPartitionedTopics: Existing topic l has different number of partitions: expected 3, found 2"
    );
}

#[test]
fn topics_that_are_read_together_must_be_equally_wide() {
    assert_eq!(outcome("0;src=a,b;co=a+b", &[("a", 3), ("b", 3)]), "0:3");
    assert_eq!(
        outcome("0;src=a,b;co=a+b", &[("a", 3), ("b", 2)]),
        "IncorrectlyPartitionedTopics: Following topics do not have the same number of partitions: [{a=3, b=2}]"
    );
    // One of the application's own follows the one that it does not make.
    assert_eq!(
        outcome("0;src=a;sink=r 1;src=b;rep=r;co=b+r", &[("a", 3), ("b", 5)]),
        "0:3 1:5 +r:5 MissingInternalTopics: Internal topics are missing: r"
    );
    assert_eq!(
        outcome("0;src=a;sink=r 1;src=b;rep=r:4;co=b+r", &[("a", 3), ("b", 5)]),
        "IncorrectlyPartitionedTopics: Number of partitions [4] of repartition topic [r] doesn't match number of \
         partitions [5] of the source topic."
    );
    // Of the application's own alone, the widest or the fixed one counts.
    assert_eq!(
        outcome("0;src=a;sink=r 1;src=b;sink=s 2;rep=r,s;co=r+s", &[("a", 3), ("b", 5)]),
        "0:3 1:5 2:5 +r:5 +s:5 MissingInternalTopics: Internal topics are missing: r, s"
    );
    assert_eq!(
        outcome("0;src=a;sink=r 1;src=b;sink=s 2;rep=r,s:2;co=r+s", &[("a", 3), ("b", 5)]),
        "0:3 1:5 2:2 +r:2 +s:2 MissingInternalTopics: Internal topics are missing: r, s"
    );
    assert_eq!(
        outcome("0;src=a;sink=r,s 1;rep=r:3,s:2;co=r+s", &[("a", 3)]),
        "IncorrectlyPartitionedTopics: Following topics do not have the same number of partitions: [{r=3, s=2}]"
    );
    // Groups do not mind each other.
    assert_eq!(
        outcome("0;src=a;sink=r,s,u,v 1;rep=r:3,s;co=r+s 2;rep=u:2,v;co=u+v", &[("a", 1)]),
        "0:1 1:3 2:2 +r:3 +s:3 +u:2 +v:2 MissingInternalTopics: Internal topics are missing: r, s, u and 1 additional topics"
    );
}

#[test]
fn what_a_topology_may_not_say() {
    let good = || topology(0, "0;src=a;rep=r;sink=r;log=l;co=a+r").as_ref().clone();
    assert_eq!(check(&good()), Ok(()));
    assert!(check(&Topology { epoch: -1, ..good() }).is_err());
    let cases: [fn(&mut Subtopology); 6] = [
        |part| part.changelogs[0].name = "no topic".into(),
        |part| part.repartition_sources[0].partitions = -1,
        |part| part.changelogs[0].replication_factor = -2,
        |part| part.copartition_groups.push(CopartitionGroup { source_topics: vec![1], ..CopartitionGroup::default() }),
        |part| part.copartition_groups[0].source_patterns.push(0),
        |part| part.copartition_groups[0].repartition_sources.push(-1),
    ];
    for case in cases {
        let mut topology = good();
        case(topology.subtopologies.get_mut("0").unwrap());
        assert!(check(&topology).is_err(), "{topology:?}");
    }
}
