//! Who belongs to which group.

use super::*;
use crate::types::PeerId;

/// Founders 1 to `count`, none of which has registered.
fn formed(count: i32) -> (Image, Vec<Peer>) {
    let founder = |id: i32| Peer {
        id: PeerId(id.unsigned_abs().into()),
        node: NodeId(id),
        directory: DirectoryId(Uuid::from_u128(id as u128)),
    };
    let founders: Vec<Peer> = (1..=count).map(founder).collect();
    let mut image = Image::default();
    form_cluster("c", &founders).iter().for_each(|command| image.apply(command));
    (image, founders)
}

fn register(image: &mut Image, node: Node) {
    register_node(image, node).commands.iter().for_each(|command| image.apply(command));
}

fn metadata(image: &Image, founders: &[Peer]) -> (Vec<u64>, Vec<u64>) {
    let members = image.metadata_members(founders);
    let ids = |peers: Vec<PeerId>| peers.into_iter().map(|peer| peer.0).collect();
    (ids(members.voters), ids(members.learners))
}

#[test]
fn founders_vote_whether_they_have_come_or_not() {
    let (mut image, founders) = formed(3);
    assert_eq!(metadata(&image, &founders), (vec![1, 2, 3], vec![]));
    register(&mut image, node(2));
    let (mut voters, learners) = metadata(&image, &founders);
    voters.sort_unstable();
    assert_eq!((voters, learners), (vec![1, 2, 3], vec![]));
    for count in [2, 4, 5] {
        let (image, founders) = formed(count);
        assert_eq!(metadata(&image, &founders).0.len(), founders.len());
    }
}

#[test]
fn later_nodes_learn_and_take_the_vote_of_one_that_is_gone() {
    let (mut image, founders) = formed(3);
    (1..=5).for_each(|id| register(&mut image, node(id)));
    assert_eq!(metadata(&image, &founders), (vec![1, 2, 3], vec![4, 5]));
    remove_node(&image, NodeId(2)).commands.iter().for_each(|command| image.apply(command));
    assert_eq!(metadata(&image, &founders), (vec![1, 3, 4], vec![5]));
    [4, 5].into_iter().for_each(|id| {
        remove_node(&image, NodeId(id)).commands.iter().for_each(|command| image.apply(command));
    });
    assert_eq!(metadata(&image, &founders), (vec![1, 3, 2], vec![]), "nobody else could have it");
}

/// What the operator wants of a node.
fn state(image: &mut Image, node: i32, value: Option<&str>) {
    let changes = vec![("broker.state".to_owned(), value.map(str::to_owned))];
    image.apply(&Command::ChangeConfigs { owner: ConfigOwner::Broker(NodeId(node)), changes });
}

#[test]
fn a_node_that_leaves_gives_its_vote_away_and_gets_no_partitions() {
    let (mut image, founders) = formed(3);
    (1..=4).for_each(|id| register(&mut image, node(id)));
    state(&mut image, 2, Some("drained"));
    assert_eq!(metadata(&image, &founders), (vec![1, 2, 3], vec![4]));
    assert!(image.is_drained(NodeId(2)) && !image.is_leaving(NodeId(2)));
    assert_eq!(image.usable_nodes(|_| true).len(), 4);
    state(&mut image, 2, Some("leaving"));
    assert_eq!(metadata(&image, &founders), (vec![1, 3, 4], vec![2]));
    assert!(image.usable_nodes(|_| true).iter().all(|usable| usable.id != NodeId(2)));
    remove_node(&image, NodeId(2)).commands.iter().for_each(|command| image.apply(command));
    remove_node(&image, NodeId(4)).commands.iter().for_each(|command| image.apply(command));
    assert_eq!(metadata(&image, &founders), (vec![1, 3], vec![]), "it has left for good");
    // It comes again, and is as any other.
    register(&mut image, node(2));
    assert!(!image.is_drained(NodeId(2)));
    assert_eq!(metadata(&image, &founders), (vec![1, 2, 3], vec![]));
    (1..=3).for_each(|id| state(&mut image, id, Some("leaving")));
    assert_eq!(metadata(&image, &founders), (vec![1, 2, 3], vec![]), "somebody has to stay");
}

#[test]
fn a_node_whose_directory_is_cordoned_gets_no_partitions() {
    let (mut image, _) = formed(1);
    [1, 2].into_iter().for_each(|id| register(&mut image, node(id)));
    let cordon = |value: &str| Command::ChangeConfigs {
        owner: ConfigOwner::Broker(NodeId(2)),
        changes: vec![("cordoned.log.dirs".to_owned(), Some(value.to_owned()))],
    };
    image.apply(&cordon("*"));
    assert_eq!(image.usable_nodes(|_| true).len(), 1);
    image.apply(&cordon(""));
    assert_eq!(image.usable_nodes(|_| true).len(), 2);
}

#[test]
fn one_node_that_others_join_votes_alone_until_there_are_three() {
    let (mut image, founders) = formed(1);
    register(&mut image, node(1));
    assert_eq!(metadata(&image, &founders), (vec![1], vec![]));
    register(&mut image, node(2));
    assert_eq!(metadata(&image, &founders), (vec![1], vec![2]));
    register(&mut image, node(3));
    assert_eq!(metadata(&image, &founders), (vec![1, 2, 3], vec![]));
}

#[test]
fn a_new_disk_takes_the_place_of_the_old_one_everywhere() {
    let (mut image, founders) = formed(3);
    (1..=3).for_each(|id| register(&mut image, node(id)));
    let partition = Partition::born(vec![NodeId(3), NodeId(1)], &image);
    register(&mut image, Node { directory: DirectoryId(Uuid::from_u128(77)), ..node(3) });
    assert_eq!(metadata(&image, &founders), (vec![1, 2, 4], vec![]));
    let peers = image.peers_by_node();
    assert_eq!(partition.members(&peers).voters, [PeerId(4), PeerId(1)]);
    assert_eq!(partition.peers, [PeerId(3), PeerId(1)]);
    // The old disk comes back.
    register(&mut image, node(3));
    assert_eq!(partition.members(&image.peers_by_node()).voters, [PeerId(3), PeerId(1)]);
    // The node is gone for good: its replica is named until it is moved.
    remove_node(&image, NodeId(3)).commands.iter().for_each(|command| image.apply(command));
    assert_eq!(partition.members(&image.peers_by_node()).voters, [PeerId(4), PeerId(1)]);
}
