//! AlterConfigs, IncrementalAlterConfigs, DescribeConfigs.

use super::*;
use crate::config::describe::ConfigSource;

fn change(operation: i8, name: &str, value: Option<&str>) -> ConfigChange {
    ConfigChange { name: name.into(), operation, value: value.map(Into::into) }
}

fn set(name: &str, value: &str) -> ConfigChange {
    change(operation::SET, name, Some(value))
}

fn alteration(resource_type: i8, name: &str, changes: &[ConfigChange]) -> Alteration {
    Alteration { resource_type, resource_name: name.into(), changes: changes.to_vec() }
}

fn with_topic() -> Controller {
    let mut controller = Controller::new(1);
    controller.create(new_topic("t", 1, 1)).expect("created");
    controller
}

impl Controller {
    fn incremental(&mut self, resource_type: i8, name: &str, changes: &[ConfigChange]) -> Result<(), String> {
        let request = [alteration(resource_type, name, changes)];
        let decision = incremental_alter_configs(&self.image, &self.broker, self.broker.node_id(), &request, false);
        self.apply(&decision.commands);
        decision.reply[0].clone().map_err(|e| e.to_string())
    }

    fn on_topic(&mut self, change: ConfigChange) -> Result<(), String> {
        self.incremental(resource_type::TOPIC, "t", &[change])
    }

    fn topic_value(&self, name: &str) -> Option<String> {
        self.image.topic_by_name("t").expect("there").configs.get(name).cloned()
    }
}

#[test]
fn settings_are_set_and_deleted_one_by_one() {
    let mut controller = with_topic();
    assert_eq!(controller.on_topic(set("retention.ms", "5")), Ok(()));
    assert_eq!(controller.on_topic(set("segment.ms", "6")), Ok(()));
    assert_eq!(
        *controller.image.topic_by_name("t").expect("there").configs,
        map(&[("retention.ms", "5"), ("segment.ms", "6")])
    );
    let version = controller.image.version();
    // What stays as it is is not written again.
    assert_eq!(controller.on_topic(set("segment.ms", "6")), Ok(()));
    assert_eq!(controller.on_topic(change(operation::DELETE, "unknown", None)), Ok(()));
    assert_eq!(controller.image.version(), version);
    assert_eq!(controller.on_topic(change(operation::DELETE, "retention.ms", None)), Ok(()));
    assert_eq!(controller.topic_value("retention.ms"), None);
}

#[test]
fn lists_get_longer_and_shorter() {
    let mut controller = with_topic();
    assert_eq!(controller.on_topic(change(operation::APPEND, "cleanup.policy", Some("compact,delete"))), Ok(()));
    assert_eq!(controller.topic_value("cleanup.policy").as_deref(), Some("delete,compact"));
    assert_eq!(controller.on_topic(change(operation::SUBTRACT, "cleanup.policy", Some("delete"))), Ok(()));
    assert_eq!(controller.topic_value("cleanup.policy").as_deref(), Some("compact"));
    assert_eq!(controller.on_topic(change(operation::SUBTRACT, "cleanup.policy", Some("compact"))), Ok(()));
    assert_eq!(controller.topic_value("cleanup.policy").as_deref(), Some(""));
    assert_eq!(controller.on_topic(set("leader.replication.throttled.replicas", "1:1,1:1,2:2,1:1")), Ok(()));
    let shorter = change(operation::SUBTRACT, "leader.replication.throttled.replicas", Some("1:1,3:3,1:1"));
    assert_eq!(controller.on_topic(shorter), Ok(()));
    assert_eq!(controller.topic_value("leader.replication.throttled.replicas").as_deref(), Some("2:2,1:1"));
    assert_eq!(
        controller.on_topic(change(operation::APPEND, "retention.ms", Some("5"))),
        Err("Can't APPEND to key retention.ms because its type is not LIST.".into())
    );
    assert_eq!(
        controller.on_topic(change(operation::SUBTRACT, "foo", Some("5"))),
        Err("Can't SUBTRACT to key foo because its type is not LIST.".into())
    );
    assert!(controller.on_topic(change(operation::APPEND, "cleanup.policy", Some("foo"))).is_err());
}

#[test]
fn what_cannot_be_is_refused_in_kafkas_words() {
    let mut controller = with_topic();
    let (topic, group, metrics) = (resource_type::TOPIC, resource_type::GROUP, resource_type::CLIENT_METRICS);
    let long = "1".repeat(32_768);
    for (kind, name, changes, words) in [
        (topic, "t", vec![set("foo", "bar")], "Unknown topic config name: foo"),
        (topic, "t", vec![change(0, "cleanup.policy", None)], "Null value not supported for : cleanup.policy"),
        (
            topic,
            "t",
            vec![set("cleanup.policy", "a"), set("cleanup.policy", "b")],
            "Error due to duplicate config keys",
        ),
        (topic, "t", vec![change(9, "cleanup.policy", Some(""))], "Unknown operations type 9"),
        (topic, "nope", vec![set("cleanup.policy", "delete")], "The topic 'nope' does not exist."),
        (topic, "nope", vec![set("cleanup.polic", "delete")], "Unknown topic config name: cleanup.polic"),
        (topic, "", vec![set("cleanup.policy", "delete")], "Default topic resources are not allowed."),
        (
            topic,
            "b d",
            vec![set("cleanup.policy", "delete")],
            "Topic name is invalid: 'b d' contains one or more characters other than ASCII alphanumerics, '.', '_' and \
             '-'",
        ),
        (
            topic,
            "t",
            vec![set("retention.ms", &long)],
            "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.",
        ),
        (group, "", vec![set("consumer.session.timeout.ms", "50000")], "Default group resources are not allowed."),
        (group, "g", vec![set("foo", "1")], "Unknown group config name: foo"),
        (metrics, "", vec![set("metrics", "a")], "Subscription name can't be empty"),
        (metrics, "m", vec![set("foo", "a")], "Unknown client metrics configuration: foo"),
        (resource_type::BROKER_LOGGER, "1", vec![set("root", "INFO")], "Unknown resource type 8"),
        (77, "1", vec![set("root", "INFO")], "Unknown resource type 77"),
    ] {
        assert_eq!(controller.incremental(kind, name, &changes), Err(words.to_owned()));
    }
    // One bad change undoes the good ones beside it.
    assert!(controller.incremental(topic, "t", &[set("retention.ms", "5"), set("segment.ms", "0")]).is_err());
    assert_eq!(controller.topic_value("retention.ms"), None);
}

#[test]
fn a_resource_twice_in_a_request_is_refused_both_times() {
    let controller = with_topic();
    let request = [
        alteration(resource_type::TOPIC, "t", &[set("retention.ms", "5")]),
        alteration(resource_type::GROUP, "t", &[set("consumer.session.timeout.ms", "50000")]),
        alteration(resource_type::TOPIC, "t", &[set("segment.ms", "5")]),
    ];
    let decision =
        incremental_alter_configs(&controller.image, &controller.broker, controller.broker.node_id(), &request, false);
    let twice = Err(AlterConfigError::DuplicateResource);
    assert_eq!(decision.reply, [twice.clone(), Ok(()), twice]);
    assert_eq!(decision.commands.len(), 1);
    let decision =
        incremental_alter_configs(&controller.image, &controller.broker, controller.broker.node_id(), &request, true);
    assert_eq!((decision.reply.len(), decision.commands.len()), (3, 0));
}

#[test]
fn a_brokers_settings_change_for_it_or_for_all() {
    let mut controller = with_topic();
    let broker = resource_type::BROKER;
    assert_eq!(controller.incremental(broker, "1", &[set("log.retention.ms", "7")]), Ok(()));
    assert_eq!(controller.incremental(broker, "", &[set("log.segment.bytes", "1048576")]), Ok(()));
    assert_eq!(controller.broker.integer("log.retention.ms"), 7);
    assert_eq!(controller.broker.integer("log.segment.bytes"), 1 << 20);
    // Written again though nothing changed: files behind a setting may have.
    let version = controller.image.version();
    assert_eq!(controller.incremental(broker, "1", &[set("log.retention.ms", "7")]), Ok(()));
    assert_eq!(controller.image.version(), version + 1);
    for (name, changes, words) in [
        ("2", set("log.retention.ms", "5"), "Unexpected broker id, expected 1, but received 2"),
        ("x", set("log.retention.ms", "5"), "Node id must be an integer, but it is: x"),
        ("1", set("node.id", "7"), "Cannot update these configs dynamically: [node.id]"),
        ("1", set("listener.name.a.max.connections", "0"), "Invalid max.connections 0"),
        (
            "1",
            change(operation::APPEND, "log.retention.ms", Some("a")),
            "Config value append is not allowed for config key: log.retention.ms",
        ),
        ("1", change(operation::APPEND, "foo", Some("a")), "Unknown config name: foo"),
        (
            "",
            set("sasl.enabled.mechanisms", "PLAIN"),
            "Cannot update these configs at default cluster level, broker id must be specified: \
             [sasl.enabled.mechanisms]",
        ),
    ] {
        assert_eq!(controller.incremental(broker, name, &[changes]), Err(words.to_owned()));
    }
    assert_eq!(
        controller.incremental(broker, "1", &[change(operation::APPEND, "log.cleanup.policy", Some("compact"))]),
        Ok(())
    );
    assert_eq!(controller.broker.list("log.cleanup.policy"), ["delete", "compact"]);
    assert_eq!(controller.incremental(broker, "1", &[change(operation::DELETE, "log.retention.ms", None)]), Ok(()));
    assert_eq!(controller.broker.try_integer("log.retention.ms"), None);
}

#[test]
fn the_older_request_replaces_all_settings() {
    let mut controller = with_topic();
    controller.on_topic(set("retention.ms", "5")).expect("set");
    let request = [alteration(resource_type::TOPIC, "t", &[set("segment.ms", "6"), set("flush.ms", "7")])];
    let decision = alter_configs(&controller.image, &controller.broker, controller.broker.node_id(), &request, false);
    assert_eq!(decision.reply, [Ok(())]);
    controller.apply(&decision.commands);
    assert_eq!(
        *controller.image.topic_by_name("t").expect("there").configs,
        map(&[("flush.ms", "7"), ("segment.ms", "6")])
    );
    let request = [alteration(resource_type::TOPIC, "t", &[change(operation::SET, "segment.ms", None)])];
    let decision = alter_configs(&controller.image, &controller.broker, controller.broker.node_id(), &request, false);
    assert_eq!(decision.reply, [Err(AlterConfigError::NullValues(vec!["segment.ms".into()]))]);
}

#[test]
fn groups_and_subscriptions_keep_settings() {
    let mut controller = with_topic();
    assert_eq!(
        controller.incremental(resource_type::GROUP, "g", &[set("consumer.session.timeout.ms", "50000")]),
        Ok(())
    );
    // Kafka knows no list in a subscription.
    assert_eq!(
        controller.incremental(resource_type::CLIENT_METRICS, "m", &[change(operation::APPEND, "metrics", Some("a"))]),
        Ok(())
    );
    let owners: Vec<_> = controller.image.config_owners().cloned().collect();
    assert_eq!(owners, [ConfigOwner::Group("g".into()), ConfigOwner::ClientMetrics("m".into())]);
    controller
        .incremental(resource_type::GROUP, "g", &[change(operation::DELETE, "consumer.session.timeout.ms", None)])
        .expect("deleted");
    assert_eq!(controller.image.config_owners().count(), 1);
}

#[test]
fn settings_are_described_for_every_kind_of_resource() {
    let mut controller = with_topic();
    controller.on_topic(set("retention.ms", "5")).expect("set");
    controller.incremental(resource_type::BROKER, "", &[set("log.retention.ms", "7")]).expect("set");
    let describe = |kind, name: &str, names: Option<&[&str]>| {
        let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let resource = ResourceToDescribe { resource_type: kind, resource_name: name.into(), names };
        describe_configs(&controller.image, &controller.broker, &resource).map_err(|e| e.to_string())
    };
    let entries = describe(resource_type::TOPIC, "t", Some(&["retention.ms", "nope"])).expect("described");
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].value.as_deref(), entries[0].synonyms.len()), (Some("5"), 3));
    assert_eq!(describe(resource_type::TOPIC, "t", Some(&[])).map(|e| e.len()), Ok(34));
    let of_broker = describe(resource_type::BROKER, "1", Some(&["log.retention.ms"])).expect("described");
    assert_eq!(of_broker[0].source, ConfigSource::DynamicDefaultBroker);
    assert_eq!(describe(resource_type::BROKER, "", None).map(|e| e.len()), Ok(1));
    assert_eq!(describe(resource_type::GROUP, "g", None).map(|e| e.len()), Ok(17));
    assert_eq!(describe(resource_type::CLIENT_METRICS, "m", None).map(|e| e.len()), Ok(3));
    for (kind, name, words) in [
        (resource_type::TOPIC, "nope", ""),
        (resource_type::TOPIC, "", "Topic name is invalid: the empty string is not allowed"),
        (resource_type::BROKER, "7", "Unexpected broker id, expected 1 or empty string, but received 7"),
        (resource_type::BROKER, "x", "Broker id must be an integer, but it is: x"),
        (resource_type::GROUP, "", "Group name must not be empty"),
        (resource_type::CLIENT_METRICS, "", "Client metrics subscription name must not be empty"),
        (77, "", "Unsupported resource type: 77"),
    ] {
        assert_eq!(describe(kind, name, None), Err(words.to_owned()));
    }
}
