//! Nodes, producer ids, features.

use super::*;
use crate::types::{PeerId, ProducerId};

#[test]
fn a_disk_keeps_its_identity_and_a_new_disk_gets_a_new_one() {
    let mut image = cluster(2);
    assert_eq!(image.peer_of_node(NodeId(2)), Some(PeerId(2)));
    let again = register_node(&image, node(2));
    assert_eq!((again.reply, again.commands.len()), (PeerId(2), 0));

    let moved = Node { rpc_address: "other:1".into(), ..node(2) };
    let decision = register_node(&image, moved.clone());
    assert_eq!((decision.reply, decision.commands.len()), (PeerId(2), 1));
    decision.commands.iter().for_each(|command| image.apply(command));
    assert_eq!(**image.node(NodeId(2)).expect("there"), moved);

    let wiped = Node { directory: DirectoryId(Uuid::from_u128(77)), ..node(2) };
    let decision = register_node(&image, wiped);
    assert_eq!(decision.reply, PeerId(3));
    decision.commands.iter().for_each(|command| image.apply(command));
    assert_eq!(image.peer_of_node(NodeId(2)), Some(PeerId(3)));
    assert_eq!(image.peer(PeerId(2)).map(|peer| peer.directory), Some(node(2).directory));

    remove_node(&image, NodeId(2)).commands.iter().for_each(|command| image.apply(command));
    assert_eq!(remove_node(&image, NodeId(2)).reply, Err(NodeNotRegistered(NodeId(2))));
    // Of a node that is gone, the peer ids stay taken.
    assert_eq!(register_node(&image, node(9)).reply, PeerId(4));
}

#[test]
fn producer_ids_are_given_once() {
    let mut image = cluster(1);
    for expected in [0, 1_000, 2_000] {
        let decision = allocate_producer_ids(&image, NodeId(1)).expect("ids");
        assert_eq!(decision.reply, ProducerId(expected)..ProducerId(expected + 1_000));
        decision.commands.iter().for_each(|command| image.apply(command));
    }
    image.apply(&Command::AllocateProducerIds { node: NodeId(1), next: ProducerId(i64::MAX - 5) });
    assert_eq!(allocate_producer_ids(&image, NodeId(1)), Err(ProducerIdsExhausted));
}

#[test]
fn features_change_together_or_not_at_all() {
    let image = cluster(1);
    let known = [
        ("group.version", 1),
        ("metadata.version", 30),
        ("share.version", 1),
        ("streams.version", 1),
        ("transaction.version", 2),
    ];
    assert_eq!(image.features().collect::<Vec<_>>(), known);
    let refusal = |name: &str, level, upgrade_type| {
        let update = FeatureUpdate { name: name.into(), level, upgrade_type };
        let decision = update_features(&image, NodeId(1), &[update], false);
        assert!(decision.commands.is_empty());
        decision.reply.map_err(|e| e.to_string())
    };
    let failed = |reason: &str| {
        Err(format!("The update failed for all features since the following feature had an error: {reason}"))
    };
    for (name, level, upgrade_type, reason) in [
        ("metadata.version", 31, 1, "Local controller 1 only supports versions 7-30"),
        ("foo", 1, 1, "Local controller 1 does not support this feature."),
        ("foo", 0, 2, "Feature foo not found."),
        ("metadata.version", -1, 1, "A feature version cannot be less than 0."),
        ("metadata.version", 30, 9, "The controller does not support the given upgrade type."),
        (
            "metadata.version",
            20,
            1,
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade.",
        ),
    ] {
        let words = format!("Invalid update version {level} for feature {name}. {reason}");
        assert_eq!(refusal(name, level, upgrade_type), failed(&words));
    }
    assert_eq!(
        refusal("metadata.version", 29, 2),
        failed(
            "Unsupported metadata.version downgrade from 30 to 29. Refusing to perform the requested downgrade because \
             it might delete metadata information."
        )
    );
    assert_eq!(
        refusal("metadata.version", 29, 3),
        failed(
            "Unsupported metadata.version downgrade from 30 to 29. Unsafe metadata downgrade is not supported in this \
             version."
        )
    );
    assert_eq!(refusal("metadata.version", 30, 1), Ok(()));
}

#[test]
fn transactions_may_go_back_to_an_older_version() {
    let mut image = cluster(1);
    for level in [1, 0, 2] {
        let upgrade_type = if level == 2 { upgrade_type::UPGRADE } else { upgrade_type::SAFE_DOWNGRADE };
        let update = FeatureUpdate { name: TRANSACTION_VERSION.into(), level, upgrade_type };
        let decision = update_features(&image, NodeId(1), &[update], false);
        assert_eq!(decision.reply, Ok(()));
        decision.commands.iter().for_each(|command| image.apply(command));
        assert_eq!(image.feature(TRANSACTION_VERSION), level);
    }
}

#[test]
fn a_feature_that_some_node_lacks_is_not_raised() {
    let mut image = cluster(1);
    image.apply(&Command::SetFeature { name: "metadata.version".into(), level: 20 });
    let raise = [FeatureUpdate { name: "metadata.version".into(), level: 30, upgrade_type: upgrade_type::UPGRADE }];
    assert_eq!(update_features(&image, NodeId(1), &raise, true).commands.len(), 0);
    assert_eq!(update_features(&image, NodeId(1), &raise, false).commands.len(), 1);
    image.apply(&Command::RegisterNode(Node { features: Vec::new(), ..node(5) }));
    let refused = update_features(&image, NodeId(1), &raise, false).reply.expect_err("refused").to_string();
    assert!(refused.ends_with("Broker 5 does not support this feature."), "{refused}");
}

#[test]
fn two_nodes_that_live_are_not_at_one_address() {
    let at = |id, address: &str| Node { rpc_address: address.to_owned(), ..node(id) };
    let mut image = cluster(1);
    let taken_in = take_in_node(&image, at(2, "a:1"), |_| true);
    assert!(taken_in.reply.is_ok());
    taken_in.commands.iter().for_each(|command| image.apply(command));
    let refused = take_in_node(&image, at(3, "a:1"), |_| true);
    let taken = AddressTaken { node: NodeId(3), holder: NodeId(2), address: "a:1".to_owned() };
    assert_eq!((refused.commands.len(), refused.reply), (0, Err(taken)));
    assert!(take_in_node(&image, at(3, "a:1"), |node| node != NodeId(2)).reply.is_ok(), "its holder is gone");
    assert!(take_in_node(&image, at(2, "a:1"), |_| true).reply.is_ok(), "its own");
    assert!(take_in_node(&image, at(3, "a:2"), |_| true).reply.is_ok());
}
