//! UpdateFeatures (57), and the features that ApiVersions tells (KIP-584, KIP-1022): what all nodes of the cluster
//! have agreed to be able to do.

use std::sync::Arc;

use kafka_protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{ApiVersionsResponse, UpdateFeaturesRequest, UpdateFeaturesResponse};
use millstream_core::controller::{FEATURES, Feature, FeatureUpdate, Image, update_features, upgrade_type};
use millstream_core::security::Operation;

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::protocol::StrBytes;

/// Before this version of ApiVersions clients stumble over a feature that may be off (KAFKA-17492).
const LEVEL_0_FROM: i16 = 4;
/// Before this version of UpdateFeatures a client says only that a downgrade is all right.
const UPGRADE_TYPE_FROM: i16 = 1;
/// Up to this version an update that went well is told feature by feature.
const RESULTS_UNTIL: i16 = 1;

/// UpdateFeatures: all of the updates are made, or none.
pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: UpdateFeaturesRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if let Err(error) = request.access.check(Operation::Alter, Resource::Cluster) {
            let body = UpdateFeaturesResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(errors::message(&error)));
            return Outcome::reply(&request.header, &body);
        }
        let version = request.header.version;
        let updates: Vec<FeatureUpdate> = asked.feature_updates.iter().map(|from| update(version, from)).collect();
        let (decider, validate_only) = (context.config.broker.node_id(), asked.validate_only);
        let decided =
            context.controller.change(move |image| update_features(image, decider, &updates, validate_only)).await;
        let failed = match decided {
            Ok(Ok(())) => {
                for update in asked.feature_updates.iter().filter(|_| !validate_only) {
                    request.changed("feature changed", &update.feature);
                }
                None
            }
            Ok(Err(error)) => Some((errors::of_update_features(&error), errors::message(&error))),
            Err(error) => Some((errors::of_controller(&error), errors::message(&error))),
        };
        let body = UpdateFeaturesResponse::default();
        Outcome::reply(
            &request.header,
            &match failed {
                None => body.with_error_message(None).with_results(results(version, &asked)),
                Some((error, message)) => body.with_error_code(error.code()).with_error_message(Some(message)),
            },
        )
    })
}

fn update(version: i16, from: &FeatureUpdateKey) -> FeatureUpdate {
    let upgrade_type = match version {
        UPGRADE_TYPE_FROM.. => from.upgrade_type,
        _ if from.allow_downgrade => upgrade_type::SAFE_DOWNGRADE,
        _ => upgrade_type::UPGRADE,
    };
    FeatureUpdate { name: from.feature.to_string(), level: from.max_version_level, upgrade_type }
}

fn results(version: i16, asked: &UpdateFeaturesRequest) -> Vec<UpdatableFeatureResult> {
    if version > RESULTS_UNTIL {
        return Vec::new();
    }
    let done = |from: &FeatureUpdateKey| {
        // Kafka's word for no error.
        let message = Some(StrBytes::from_static_str("NONE"));
        UpdatableFeatureResult::default().with_feature(from.feature.clone()).with_error_message(message)
    };
    asked.feature_updates.iter().map(done).collect()
}

/// Adds to an answer to ApiVersions what this node supports and what the cluster has agreed on.
pub(super) fn tell(version: i16, image: &Image, body: ApiVersionsResponse) -> ApiVersionsResponse {
    let supported = FEATURES.iter().filter(|feature| version >= LEVEL_0_FROM || feature.min > 0).map(supported);
    let finalized = image.features().map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    body.with_supported_features(supported.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(i64::try_from(image.version()).unwrap_or(i64::MAX))
}

fn supported(feature: &Feature) -> SupportedFeatureKey {
    SupportedFeatureKey::default()
        .with_name(StrBytes::from_static_str(feature.name))
        .with_min_version(feature.min)
        .with_max_version(feature.max)
}

#[cfg(test)]
mod tests {
    use millstream_core::controller::Command;

    use super::*;

    #[test]
    fn an_older_client_may_only_allow_a_downgrade() {
        let of = |version, allow_downgrade, upgrade_type| {
            let from =
                FeatureUpdateKey::default().with_allow_downgrade(allow_downgrade).with_upgrade_type(upgrade_type);
            update(version, &from).upgrade_type
        };
        assert_eq!((of(0, false, 1), of(0, true, 1)), (upgrade_type::UPGRADE, upgrade_type::SAFE_DOWNGRADE));
        assert_eq!((of(1, false, 3), of(2, false, 0)), (upgrade_type::UNSAFE_DOWNGRADE, 0));
    }

    #[test]
    fn clients_learn_what_is_supported_and_agreed() {
        let mut image = Image::default();
        image.apply(&Command::SetFeature { name: "metadata.version".into(), level: 29 });
        let supported = |version| {
            let body = tell(version, &image, ApiVersionsResponse::default());
            let row = |f: &SupportedFeatureKey| (f.name.to_string(), f.min_version, f.max_version);
            body.supported_features.iter().map(row).collect::<Vec<_>>()
        };
        assert_eq!(supported(4), FEATURES.iter().map(|f| (f.name.to_owned(), f.min, f.max)).collect::<Vec<_>>());
        assert_eq!(supported(3), [("metadata.version".to_owned(), 7, 30)], "others may be off");
        let body = tell(3, &image, ApiVersionsResponse::default());
        let finalized = &body.finalized_features[0];
        assert_eq!(
            (&*finalized.name, finalized.min_version_level, finalized.max_version_level),
            ("metadata.version", 29, 29)
        );
        assert_eq!(body.finalized_features_epoch, 1);
    }

    #[test]
    fn an_update_that_went_well_is_told_by_feature_to_older_clients_only() {
        let asked = UpdateFeaturesRequest::default().with_feature_updates(vec![
            FeatureUpdateKey::default().with_feature(StrBytes::from_static_str("metadata.version")),
        ]);
        assert_eq!(results(1, &asked)[0].error_message.as_deref(), Some("NONE"));
        assert!(results(2, &asked).is_empty());
    }
}
