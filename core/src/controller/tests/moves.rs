//! Moves of replicas.

use std::sync::Arc;

use super::*;
use crate::types::{LogMark, PartitionId, PeerId, RaftIndex, RaftTerm, TopicName};

/// Where the leader says that the members are settled.
const AT: LogMark = LogMark { term: RaftTerm(7), index: RaftIndex(40) };

const ID: PartitionId = PartitionId { topic: TopicId(Uuid::from_u128(5)), partition: 0 };

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// Nodes 1 to 5, whose peers have the same numbers, and topic "t" with one partition.
fn image(replicas: &[i32]) -> Image {
    let mut image = Image::default();
    for id in 1..=5 {
        register_node(&image.clone(), node(id)).commands.iter().for_each(|command| image.apply(command));
    }
    let partition = Partition::born(nodes(replicas), &image);
    let name = TopicName::new("t").expect("legal");
    image.apply(&Command::CreateTopic(Topic {
        id: ID.topic,
        name,
        partitions: vec![partition],
        configs: Arc::default(),
    }));
    image
}

fn wanted(replicas: Option<&[i32]>) -> Reassignment {
    Reassignment { topic: "t".into(), partition: 0, replicas: replicas.map(nodes) }
}

fn ask(image: &mut Image, wanted: Reassignment, keep_count: bool) -> Result<(), String> {
    let Decision { commands, reply } = reassign(image, &[wanted], keep_count);
    commands.iter().for_each(|command| image.apply(command));
    reply[0].clone().map_err(|e| e.to_string())
}

fn to(image: &mut Image, replicas: &[i32]) {
    assert_eq!(ask(image, wanted(Some(replicas)), false), Ok(()));
}

/// The leader says that these vote.
fn say(image: &mut Image, moves: u64, voters: &[u64]) {
    let voters = voters.iter().copied().map(PeerId).collect();
    let group = SettledGroup { id: ID, moves, voters, at: AT };
    complete_moves(image, &[group]).commands.iter().for_each(|command| image.apply(command));
}

fn partition(image: &Image) -> &Partition {
    image.partition(ID).expect("it is there")
}

/// Replicas, adding, removing, as clients are told; which nodes have one.
fn told(image: &Image) -> (Vec<i32>, Vec<i32>, Vec<i32>, Vec<i32>) {
    let ids = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| node.0).collect::<Vec<_>>();
    let partition = partition(image);
    let on = (1..=5).filter(|id| partition.is_on(NodeId(*id))).collect();
    assert_eq!(image.moving_topics().count(), usize::from(partition.moving.is_some()));
    match partition.ongoing() {
        Some(o) => (ids(o.replicas), ids(o.adding), ids(o.removing), on),
        None => (ids(partition.told_replicas()), vec![], vec![], on),
    }
}

#[test]
fn replicas_move_and_those_that_leave_stay_until_the_group_is_without_them() {
    let mut image = image(&[1, 2]);
    to(&mut image, &[4, 2]);
    assert_eq!(told(&image), (vec![4, 2, 1], vec![4], vec![1], vec![1, 2, 4]));
    let members = partition(&image).members(&image.peers_by_node());
    assert_eq!(members.voters, [PeerId(4), PeerId(2)]);
    say(&mut image, 1, &[1, 2]);
    say(&mut image, 1, &[1, 2, 4]);
    say(&mut image, 0, &[2, 4]);
    assert!(partition(&image).moving.is_some(), "not yet, or said before it was known");
    say(&mut image, 1, &[2, 4]);
    assert_eq!(told(&image), (vec![4, 2], vec![], vec![], vec![2, 4]));
    assert_eq!(partition(&image).since, AT);
    assert_eq!(partition(&image).peers, [PeerId(1), PeerId(2)], "of the birth");
}

#[test]
fn there_may_be_more_replicas_and_fewer() {
    let mut image = image(&[1]);
    to(&mut image, &[1, 2, 3]);
    assert_eq!(told(&image), (vec![1, 2, 3], vec![2, 3], vec![], vec![1, 2, 3]));
    say(&mut image, 1, &[1, 2, 3]);
    to(&mut image, &[3, 1]);
    assert_eq!(told(&image), (vec![3, 1, 2], vec![], vec![2], vec![1, 2, 3]));
    let kept = ask(&mut image, wanted(Some(&[1, 2, 3])), true);
    assert_eq!(kept, Err("The replication factor is changed from 2 to 3".into()));
}

#[test]
fn another_order_is_there_at_once() {
    let mut image = image(&[1, 2, 3]);
    to(&mut image, &[1, 2, 3]);
    assert_eq!(partition(&image).moves, 0);
    to(&mut image, &[3, 1, 2]);
    assert_eq!(told(&image), (vec![3, 1, 2], vec![], vec![], vec![1, 2, 3]));
}

#[test]
fn a_cancelled_move_is_over_for_clients_and_goes_back_with_care() {
    let mut image = image(&[1, 2]);
    assert_eq!(ask(&mut image, wanted(None), false), Err("No partition reassignment is in progress.".into()));
    to(&mut image, &[3, 4]);
    to(&mut image, &[3, 5]);
    assert_eq!(told(&image), (vec![3, 5, 1, 2, 4], vec![3, 5], vec![1, 2, 4], vec![1, 2, 3, 4, 5]));
    assert_eq!(ask(&mut image, wanted(None), false), Ok(()));
    assert_eq!(told(&image), (vec![1, 2], vec![], vec![], vec![1, 2, 3, 4, 5]));
    assert_eq!(ask(&mut image, wanted(None), false), Err("No partition reassignment is in progress.".into()));
    say(&mut image, 2, &[1, 2]);
    assert!(partition(&image).is_on(NodeId(5)), "the leader did not know of the cancel");
    say(&mut image, 3, &[1, 2]);
    assert_eq!(told(&image), (vec![1, 2], vec![], vec![], vec![1, 2]));
}

#[test]
fn what_cannot_be_is_refused_in_kafkas_words() {
    let mut image = image(&[1]);
    let mut refused = |wanted| ask(&mut image, wanted, false).expect_err("refused");
    assert_eq!(refused(Reassignment { topic: "u".into(), ..wanted(None) }), "Unable to find a topic named u.");
    assert_eq!(refused(Reassignment { partition: 1, ..wanted(None) }), "Unable to find partition t:1.");
    assert_eq!(refused(Reassignment { partition: -1, ..wanted(None) }), "Unable to find partition t:-1.");
    let begin = "The manual partition assignment includes ";
    assert_eq!(refused(wanted(Some(&[]))), format!("{begin}an empty replica list."));
    assert_eq!(refused(wanted(Some(&[1, 1]))), format!("{begin}the broker 1 more than once."));
    assert_eq!(refused(wanted(Some(&[1, 9]))), format!("{begin}broker 9, but no such broker is registered."));
    assert_eq!(refused(wanted(Some(&[-1]))), format!("{begin}broker -1, but no such broker is registered."));
}

#[test]
fn a_topic_that_is_deleted_moves_no_more() {
    let mut image = image(&[1]);
    to(&mut image, &[2]);
    image.apply(&Command::DeleteTopic { id: ID.topic });
    assert_eq!(image.moving_topics().count(), 0);
    say(&mut image, 1, &[2]);
}
