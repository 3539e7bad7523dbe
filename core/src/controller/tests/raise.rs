//! Internal topics as nodes come.

use super::*;

fn offsets(nodes: i32, replicas: i16) -> Controller {
    let mut controller = Controller::new(nodes);
    controller.create(new_topic("__consumer_offsets", 6, replicas)).expect("created");
    controller
}

fn raise(controller: &mut Controller, alive: &[i32]) -> Vec<Vec<i32>> {
    let mut nodes = controller.nodes();
    nodes.iter_mut().for_each(|node| node.alive = alive.contains(&node.id.0));
    let raised = raise_internal_topics(&controller.image, &controller.broker, &nodes);
    controller.apply(&raised.commands);
    let topic = controller.image.topic_by_name("__consumer_offsets").expect("there");
    topic.partitions.iter().map(|p| p.replicas.iter().map(|node| node.0).collect()).collect()
}

#[test]
fn the_third_node_brings_all_replicas_and_leaders_spread() {
    let mut controller = offsets(1, 1);
    register_node(&controller.image, node(2)).commands.iter().for_each(|command| controller.image.apply(command));
    assert_eq!(raise(&mut controller, &[1, 2]), vec![vec![1]; 6], "two would need each other");
    register_node(&controller.image, node(3)).commands.iter().for_each(|command| controller.image.apply(command));
    assert_eq!(raise(&mut controller, &[1, 2]), vec![vec![1]; 6], "it is dead");
    let raised = raise(&mut controller, &[1, 2, 3]);
    for replicas in &raised {
        assert_eq!(replicas.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{replicas:?}");
    }
    for node in 1..=3 {
        assert_eq!(raised.iter().filter(|replicas| replicas[0] == node).count(), 2, "node {node} of {raised:?}");
    }
    let again = controller.image.version();
    raise(&mut controller, &[1, 2, 3]);
    assert_eq!(controller.image.version(), again, "nothing is left to be done");
}

#[test]
fn as_many_as_are_configured_and_no_others_are_moved() {
    let mut controller = offsets(5, 2);
    let before = raise(&mut controller, &[]);
    controller.broker = broker(&[("offsets.topic.replication.factor", "2")]);
    assert_eq!(raise(&mut controller, &[1, 2, 3, 4, 5]), before);
    controller.broker = broker(&[("offsets.topic.replication.factor", "4")]);
    let raised = raise(&mut controller, &[1, 2, 3, 4, 5]);
    for (replicas, before) in raised.iter().zip(&before) {
        assert!(replicas.len() == 4 && before.iter().all(|node| replicas.contains(node)), "{before:?}: {replicas:?}");
    }
    let held = |node: i32| raised.iter().filter(|replicas| replicas.contains(&node)).count();
    assert!((1..=5).all(|node| (4..=6).contains(&held(node))), "{raised:?}");
}
