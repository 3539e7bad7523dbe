use uuid::Uuid;

use super::*;

fn directory(id: u128) -> DirectoryId {
    DirectoryId(Uuid::from_u128(id))
}

fn accepted(cluster_id: &str, former: i32) -> Standing {
    Standing::Accepted { cluster_id: cluster_id.to_owned(), former: NodeId(former) }
}

fn member(cluster_id: &str, peer: u64, founders: &[Founder]) -> Standing {
    Standing::Member { cluster_id: cluster_id.to_owned(), peer: PeerId(peer), founders: founders.to_vec() }
}

/// A seed whose directory has its own number.
fn seed(node: i32, standing: Standing) -> Answer {
    let directory = directory(u128::from(node.unsigned_abs()));
    Answer::Seed(Seed { node: NodeId(node), directory, address: format!("host-{node}:1"), standing })
}

fn step(node: i32, standing: &Standing, answers: &[Answer], is_late: bool) -> Step {
    let directory = directory(u128::from(node.unsigned_abs()));
    next_step(Own { node: NodeId(node), directory, address: "own:1", standing }, answers, is_late)
}

fn founder_nodes(step: Step) -> Vec<(u64, i32)> {
    match step {
        Step::Found { founders, .. } => founders.iter().map(|f| (f.peer.0, f.node.0)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_of_the_seeds_forms_when_a_majority_has_accepted() {
    use Answer::{Itself, Silent};
    let mine = accepted("c", 1);
    assert_eq!(step(1, &Standing::Empty, &[Itself, Silent, Silent], false), Step::Begin);
    assert_eq!(step(1, &mine, &[Itself, Silent, Silent], true), Step::Wait(None));
    let answers = [Itself, seed(2, Standing::Empty), Silent];
    assert_eq!(step(1, &mine, &answers, true), Step::Propose { cluster_id: "c".into(), to: vec![1] });
    let answers = [Itself, seed(2, accepted("c", 1)), Silent];
    assert_eq!(step(1, &mine, &answers, false), Step::Wait(None), "the third may be a moment late");
    assert_eq!(founder_nodes(step(1, &mine, &answers, true)), [(1, 1), (2, 2)]);
    let answers = [Itself, seed(2, accepted("c", 1)), seed(3, Standing::Empty)];
    assert_eq!(step(1, &mine, &answers, true), Step::Propose { cluster_id: "c".into(), to: vec![2] });
    let answers = [Itself, seed(2, accepted("c", 1)), seed(3, accepted("c", 1))];
    assert_eq!(founder_nodes(step(1, &mine, &answers, false)), [(1, 1), (2, 2), (3, 3)]);
    let own = Own { node: NodeId(1), directory: directory(1), address: "own:1", standing: &mine };
    assert!(has_majority(own, &answers) && !has_majority(own, &[Itself, Silent, Silent]));
}

#[test]
fn a_node_alone_forms_alone() {
    assert_eq!(step(1, &Standing::Empty, &[Answer::Itself], false), Step::Begin);
    assert_eq!(founder_nodes(step(1, &accepted("c", 1), &[Answer::Itself], false)), [(1, 1)]);
    // The same node by two names.
    assert_eq!(founder_nodes(step(1, &accepted("c", 1), &[Answer::Itself, Answer::Itself], false)), [(1, 1)]);
}

#[test]
fn founders_are_few_and_odd() {
    let answers = |count: i32, silent: usize| {
        let mut answers = vec![Answer::Itself];
        answers.extend((2..=count).map(|node| seed(node, accepted("c", 1))));
        answers.extend(std::iter::repeat_n(Answer::Silent, silent));
        answers
    };
    let count = |answers: &[Answer]| founder_nodes(step(1, &accepted("c", 1), answers, true)).len();
    let counts = [(2, 0), (2, 1), (3, 2), (4, 0), (4, 1), (5, 0), (6, 0), (9, 0)].map(|(n, s)| count(&answers(n, s)));
    assert_eq!(counts, [2, 2, 3, 3, 3, 5, 5, 5]);
    assert_eq!(step(1, &accepted("c", 1), &answers(2, 2), true), Step::Wait(None), "half is no majority");
}

#[test]
fn who_is_not_first_waits_for_a_cluster_and_takes_its_place() {
    let founders: Vec<Founder> = (1..=2)
        .map(|n| Founder {
            peer: PeerId(n),
            node: NodeId(i32::try_from(n).unwrap()),
            directory: directory(u128::from(n)),
            address: String::new(),
        })
        .collect();
    let waiting = [seed(1, accepted("c", 1)), Answer::Itself, Answer::Silent];
    assert_eq!(step(2, &Standing::Empty, &waiting, true), Step::Wait(None));
    assert_eq!(step(2, &accepted("c", 1), &waiting, true), Step::Wait(None));
    let formed = [seed(1, member("c", 1, &founders)), Answer::Itself, Answer::Silent];
    let taken = Step::Take { cluster_id: "c".into(), peer: PeerId(2), founders: founders.clone() };
    assert_eq!(step(2, &accepted("c", 1), &formed, false), taken);
    let join = Step::Join { cluster_id: "c".into() };
    assert_eq!(step(3, &accepted("c", 1), &formed, false), join, "accepted too late");
    assert_eq!(step(4, &Standing::Empty, &formed, false), join, "came later");
    assert_eq!(step(2, &accepted("d", 1), &formed, false), join, "waits for another one by now");
}

#[test]
fn a_first_seed_with_a_new_disk_joins_what_it_formed() {
    let formed = [Answer::Itself, seed(2, member("c", 2, &[])), Answer::Silent];
    let join = Step::Join { cluster_id: "c".into() };
    assert_eq!(step(1, &Standing::Empty, &formed, true), join);
    assert_eq!(step(1, &accepted("d", 1), &formed, true), join, "it had begun to form another");
    // Nobody who answers knows of a cluster, but it does itself.
    let outside = Standing::Outside { cluster_id: "c".into(), founders: Vec::new() };
    let empty = [Answer::Itself, seed(2, Standing::Empty), seed(3, Standing::Empty)];
    assert_eq!(step(1, &outside, &empty, true), Step::Wait(None));
    assert_eq!(step(1, &outside, &[Answer::Itself], true), Step::Wait(None));
    // What the old one left accepted is accepted anew.
    let left = [Answer::Itself, seed(2, accepted("c", 1)), seed(3, accepted("c", 1))];
    assert_eq!(step(1, &accepted("d", 1), &left, true), Step::Propose { cluster_id: "d".into(), to: vec![1, 2] });
}

#[test]
fn what_is_odd_is_said_and_nothing_is_formed() {
    let words = |step: Step| match step {
        Step::Wait(Some(words)) => words,
        other => panic!("{other:?}"),
    };
    let two = [seed(1, member("c", 1, &[])), seed(2, member("d", 1, &[]))];
    assert_eq!(words(step(3, &Standing::Empty, &two, true)), "the seeds are of different clusters, c and d");
    let outside = Standing::Outside { cluster_id: "x".into(), founders: Vec::new() };
    assert!(words(step(3, &outside, &two[..1], true)).contains("this data directory is of cluster x"));
    let mut twin = seed(2, accepted("c", 1));
    if let Answer::Seed(seed) = &mut twin {
        seed.directory = directory(77);
    }
    let twins = [Answer::Itself, seed(2, accepted("c", 1)), twin];
    assert!(words(step(1, &accepted("c", 1), &twins, true)).starts_with("there are two nodes 2"));
    let other = [Answer::Itself, seed(2, accepted("d", 9))];
    assert!(words(step(1, &accepted("c", 1), &other, true)).contains("the same list on every node"));
    assert!(words(step(1, &accepted("c", 9), &[Answer::Itself], true)).contains("empty the data directory"));
}

#[test]
fn a_proposal_is_accepted_once_or_from_the_same_node() {
    let take = |own: &Standing, is_first| accept(own, NodeId(2), is_first, "c", NodeId(1));
    let yes = Some(accepted("c", 1));
    assert_eq!(take(&Standing::Empty, false), yes);
    assert_eq!(take(&accepted("c", 1), false), yes, "again");
    assert_eq!(take(&accepted("d", 1), false), yes, "the former forgot");
    assert_eq!(take(&accepted("d", 3), false), None);
    assert_eq!(take(&accepted("d", 2), false), yes, "its own, which it gave up");
    assert_eq!(take(&accepted("d", 2), true), None);
    assert_eq!(take(&member("c", 2, &[]), false), None);
    assert_eq!(take(&Standing::Outside { cluster_id: "c".into(), founders: Vec::new() }, false), None);
}
