use std::cell::Cell;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use millstream_core::config::describe::{ConfigEntry, ConfigSource, SynonymValue};
use millstream_core::config::{ConfigError, ConfigType};
use millstream_core::controller::{
    AlterConfigError, Alteration, Command, ConfigChange, ConfigOwner, Image, operation, resource_type,
};
use millstream_core::types::NodeId;

use super::LoggersError;
use super::describe::{Wanted, to_wire, within};
use super::list::{list, wanted};
use super::loggers::level_changes;
use crate::api::errors;
use crate::telemetry::{LevelChange, LevelError};

fn entry() -> ConfigEntry {
    ConfigEntry {
        name: "retention.ms".into(),
        value: Some("5".into()),
        source: ConfigSource::Topic,
        kind: ConfigType::Long,
        read_only: false,
        sensitive: false,
        synonyms: vec![SynonymValue {
            name: "log.retention.ms".into(),
            value: None,
            source: ConfigSource::StaticBroker,
        }],
        documentation: "Words.".into(),
    }
}

#[test]
fn synonyms_and_words_are_told_when_they_are_asked_for() {
    let all = to_wire(entry(), Wanted { synonyms: true, documentation: true });
    assert_eq!(
        (&*all.name, all.value.as_deref(), all.config_source, all.config_type),
        ("retention.ms", Some("5"), 1, 5)
    );
    assert_eq!(
        (&*all.synonyms[0].name, all.synonyms[0].value.as_deref(), all.synonyms[0].source),
        ("log.retention.ms", None, 4)
    );
    assert_eq!(all.documentation.as_deref(), Some("Words."));
    let few = to_wire(entry(), Wanted { synonyms: false, documentation: false });
    assert_eq!((few.synonyms.len(), few.documentation), (0, None));
    let unknown = ConfigEntry { documentation: String::new(), ..entry() };
    assert_eq!(to_wire(unknown, Wanted { synonyms: false, documentation: true }).documentation, None);
}

#[test]
fn an_answer_that_is_full_costs_no_more_work() {
    // Each twice, which counts once.
    let kinds = [0, 0, 1, 2, 1, 3, 4, 4];
    let resources: Vec<_> = kinds.map(|n| DescribeConfigsResource::default().with_resource_type(n)).into();
    let described = Cell::new(0);
    // A setting with its synonym each: some 60 bytes.
    let results = within(150, &resources, |_| {
        described.set(described.get() + 1);
        let configs = vec![to_wire(entry(), Wanted { synonyms: true, documentation: false })];
        DescribeConfigsResult::default().with_configs(configs)
    });
    let told: Vec<_> = results.iter().map(|r| (r.resource_type, r.error_code, r.configs.len())).collect();
    assert_eq!(told, [(0, 0, 1), (1, 0, 1), (2, 42, 0), (3, 42, 0), (4, 42, 0)]);
    assert_eq!(described.get(), 3, "the one that did not fit is the last that was looked at");
}

#[test]
fn a_brokers_setting_is_refused_with_another_code_than_a_topics() {
    let bad = || ConfigError::InvalidValue { name: "a".into(), value: "b".into(), reason: "c".into() };
    let of = |error| errors::of_alter_config(&error);
    assert_eq!(of(AlterConfigError::Config(bad())), ResponseError::InvalidConfig);
    assert_eq!(of(AlterConfigError::BrokerConfig(bad())), ResponseError::InvalidRequest);
    let unknown = ConfigError::UnknownBrokerConfig("a".into());
    assert_eq!(of(AlterConfigError::BrokerConfig(unknown)), ResponseError::InvalidConfig);
    let unknown = ConfigError::UnknownClientMetricsConfig("a".into());
    assert_eq!(of(AlterConfigError::Config(unknown)), ResponseError::InvalidRequest);
}

#[test]
fn levels_are_set_and_taken_back_on_this_node_alone() {
    let alteration = |name: &str, operation, value: Option<&str>| Alteration {
        resource_type: resource_type::BROKER_LOGGER,
        resource_name: name.into(),
        changes: vec![ConfigChange { name: "root".into(), operation, value: value.map(Into::into) }],
    };
    let changes = |name, operation, value| level_changes(&alteration(name, operation, value), NodeId(1));
    let change = |level: Option<&str>| vec![LevelChange { logger: "root".into(), level: level.map(Into::into) }];
    assert_eq!(changes("1", operation::SET, Some("WARN")), Ok(change(Some("WARN"))));
    // A value means nothing to a deletion.
    assert_eq!(changes("1", operation::DELETE, Some("WARN")), Ok(change(None)));
    for (refused, words, code) in [
        (
            changes("1", operation::APPEND, Some("WARN")),
            "APPEND operation is not allowed for the BROKER_LOGGER resource",
            42,
        ),
        (changes("2", operation::SET, Some("WARN")), "Unexpected node id. Expected 1, but received 2", 42),
        (changes("x", operation::SET, Some("WARN")), "Node id must be an integer, but it is: x", 42),
        (Err(LevelError::UnknownLogger("a".into()).into()), "Logger a does not exist!", 40),
    ] {
        let error: LoggersError = refused.expect_err("refused");
        assert_eq!((error.to_string().as_str(), errors::of_loggers(&error).code()), (words, code));
    }
}

#[test]
fn the_first_version_lists_subscriptions_and_the_second_all_that_has_settings() {
    let mut image = Image::default();
    let changes = vec![("interval.ms".to_owned(), Some("1000".to_owned()))];
    for owner in [ConfigOwner::AllBrokers, ConfigOwner::ClientMetrics("m".into()), ConfigOwner::Group("g".into())] {
        image.apply(&Command::ChangeConfigs { owner, changes: changes.clone() });
    }
    let names = |version, named: &[i8]| -> Result<Vec<(i8, String)>, ResponseError> {
        let resources = wanted(version, named)?.into_iter().flat_map(|kind| list(&image, kind));
        Ok(resources.map(|r| (r.resource_type, r.resource_name.to_string())).collect())
    };
    let (group, metrics) = ((resource_type::GROUP, "g".to_owned()), (resource_type::CLIENT_METRICS, "m".to_owned()));
    assert_eq!(names(0, &[]), Ok(vec![metrics.clone()]));
    assert_eq!(names(1, &[]), Ok(vec![group.clone(), metrics]));
    assert_eq!(names(1, &[resource_type::GROUP, resource_type::TOPIC]), Ok(vec![group]));
    assert_eq!(names(1, &[resource_type::TOPIC, 99]), Err(ResponseError::UnsupportedVersion));
}
