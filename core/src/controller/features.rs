//! Features: what all nodes of the cluster have agreed to be able to do, in levels (Kafka `FeatureControlManager`).

use super::{Command, Decision, Image, Peer};
use crate::types::NodeId;

/// A feature that this program publishes. Only what works is published: clients steer by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// The lowest level that can be finalized, above 0 for "off".
    pub min: i16,
    pub max: i16,
}

const METADATA_VERSION: &str = "metadata.version";
/// What transactional producers and their coordinators may do.
pub const TRANSACTION_VERSION: &str = "transaction.version";

/// 1: consumer groups of the new protocol (KIP-848).
pub const GROUP_VERSION: &str = "group.version";

/// 1: share groups (KIP-932).
pub const SHARE_VERSION: &str = "share.version";

/// 1: streams groups (KIP-1071).
pub const STREAMS_VERSION: &str = "streams.version";

/// `metadata.version` 30 is Kafka 4.3. It says nothing of our own metadata, whose commands carry their versions.
pub const FEATURES: &[Feature] = &[
    Feature { name: METADATA_VERSION, min: 7, max: 30 },
    // From 2 on the epoch of a producer rises with each of its transactions (KIP-890).
    Feature { name: TRANSACTION_VERSION, min: 0, max: 2 },
    Feature { name: GROUP_VERSION, min: 0, max: 1 },
    Feature { name: SHARE_VERSION, min: 0, max: 1 },
    Feature { name: STREAMS_VERSION, min: 0, max: 1 },
];

/// Kafka's numbers of how a level may change (`FeatureUpdate.UpgradeType`).
pub mod upgrade_type {
    pub const UPGRADE: i8 = 1;
    pub const SAFE_DOWNGRADE: i8 = 2;
    pub const UNSAFE_DOWNGRADE: i8 = 3;
}

/// A level that a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    pub name: String,
    /// 0: off.
    pub level: i16,
    pub upgrade_type: i8,
}

/// Why no feature changes, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The update failed for all features since the following feature had an error: {reason}")]
pub struct UpdateFeaturesError {
    reason: String,
}

/// The first commands of a cluster: its name, the disks that form it, every feature at its highest level.
pub fn form_cluster(cluster_id: &str, seeds: &[Peer]) -> Vec<Command> {
    let mut commands = vec![Command::FormCluster { cluster_id: cluster_id.to_owned() }];
    commands.extend(seeds.iter().copied().map(Command::AssignPeer));
    commands.extend(
        FEATURES.iter().map(|feature| Command::SetFeature { name: feature.name.to_owned(), level: feature.max }),
    );
    commands
}

/// All updates, or none of them. `decider`: the node that decides.
pub fn update_features(
    image: &Image,
    decider: NodeId,
    updates: &[FeatureUpdate],
    validate_only: bool,
) -> Decision<Result<(), UpdateFeaturesError>> {
    let mut commands = Vec::new();
    for update in updates {
        if let Err(reason) = check(image, decider, update) {
            return Decision::only(Err(UpdateFeaturesError { reason }));
        }
        if update.level != image.feature(&update.name) {
            commands.push(Command::SetFeature { name: update.name.clone(), level: update.level });
        }
    }
    match validate_only {
        true => Decision::only(Ok(())),
        false => Decision { commands, reply: Ok(()) },
    }
}

fn check(image: &Image, decider: NodeId, update: &FeatureUpdate) -> Result<(), String> {
    let FeatureUpdate { name, level, upgrade_type } = update;
    let invalid = |reason: &str| Err(format!("Invalid update version {level} for feature {name}. {reason}"));
    if !(upgrade_type::UPGRADE..=upgrade_type::UNSAFE_DOWNGRADE).contains(upgrade_type) {
        return invalid("The controller does not support the given upgrade type.");
    }
    if *level < 0 {
        return invalid("A feature version cannot be less than 0.");
    }
    let known = FEATURES.iter().find(|feature| feature.name == name);
    if let Some(reason) =
        unsupported(*level, known.map(|feature| (feature.min, feature.max)), format!("Local controller {decider}"))
    {
        return invalid(&reason);
    }
    for node in image.nodes() {
        let range = node.features.iter().find(|range| range.name == *name).map(|range| (range.min, range.max));
        if let Some(reason) = unsupported(*level, range, format!("Broker {}", node.id)) {
            return invalid(&reason);
        }
    }
    if known.is_none() {
        return invalid(&format!("Feature {name} not found."));
    }
    let current = image.feature(name);
    if *level > current && *upgrade_type != upgrade_type::UPGRADE {
        return invalid("Can't downgrade to a newer version.");
    }
    if *level >= current {
        return Ok(());
    }
    if *upgrade_type == upgrade_type::UPGRADE {
        return invalid(
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade.",
        );
    }
    match name.as_str() {
        METADATA_VERSION => Err(metadata_downgrade(current, *level, *upgrade_type)),
        _ => Ok(()),
    }
}

/// Kafka 4.3 refuses every step below its own level.
fn metadata_downgrade(current: i16, level: i16, upgrade_type: i8) -> String {
    let reason = match upgrade_type {
        upgrade_type::UNSAFE_DOWNGRADE => "Unsafe metadata downgrade is not supported in this version.",
        _ => "Refusing to perform the requested downgrade because it might delete metadata information.",
    };
    format!("Unsupported metadata.version downgrade from {current} to {level}. {reason}")
}

/// A feature that is not known is known at level 0.
fn unsupported(level: i16, range: Option<(i16, i16)>, who: String) -> Option<String> {
    match range {
        None if level == 0 => None,
        None => Some(format!("{who} does not support this feature.")),
        Some((min, max)) if (min..=max).contains(&level) => None,
        Some((min, max)) => Some(format!("{who} only supports versions {min}-{max}")),
    }
}
