//! CreateTopics, CreatePartitions, DeleteTopics, and topics that create themselves.

use super::*;
use crate::config::describe::ConfigSource;

use crate::types::PeerId;
#[test]
fn a_topic_is_created_with_what_was_asked_for() {
    let mut controller = Controller::new(1);
    let wanted = with_configs(new_topic("t", 3, 1), &[("retention.ms", Some("5"))]);
    let created = controller.create(wanted).expect("created");
    assert_eq!((created.partitions, created.replication_factor), (3, 1));
    let retention = created.configs.iter().find(|entry| entry.name == "retention.ms").expect("described");
    assert_eq!((retention.value.as_deref(), retention.source), (Some("5"), ConfigSource::Topic));
    let topic = controller.image.topic_by_name("t").expect("there").clone();
    assert_eq!((topic.id, topic.partitions.len()), (created.id, 3));
    assert_eq!(topic.partitions[2].replicas, [NodeId(1)]);
    assert_eq!(*topic.configs, map(&[("retention.ms", "5")]));
}

#[test]
fn minus_one_takes_the_brokers_defaults() {
    let mut controller = Controller::new(2);
    controller.broker = broker(&[("num.partitions", "4"), ("default.replication.factor", "2")]);
    let created = controller.create(new_topic("t", -1, -1)).expect("created");
    assert_eq!((created.partitions, created.replication_factor), (4, 2));
}

#[test]
fn numbers_that_make_no_topic_are_refused() {
    let mut controller = Controller::new(1);
    for count in [0, -2] {
        let words = "Number of partitions was set to an invalid non-positive value.";
        assert_eq!(controller.refusal(new_topic("t", count, 1)), words);
        let words = "Replication factor must be larger than 0, or -1 to use the default value.";
        assert_eq!(controller.refusal(new_topic("t", 1, count as i16)), words);
        assert_eq!(controller.refusal(new_topic("t", count, count as i16)), words);
    }
    assert_eq!(
        controller.refusal(new_topic("t", 1, 2)),
        "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached because only \
         1 broker(s) are registered or some brokers have all their log directories cordoned."
    );
}

#[test]
fn a_request_for_too_many_partitions_is_refused_as_a_whole() {
    let mut controller = Controller::new(1);
    for topics in [
        vec![new_topic("big", 1_000_000_000, 1)],
        vec![new_topic("a", 10_001, 1)],
        vec![new_topic("a", 9_999, 1), new_topic("b", 2, 1)],
        vec![new_topic("a", i32::MAX, 1), new_topic("b", i32::MAX, 1), new_topic("c", i32::MAX, 1)],
    ] {
        for (name, result) in controller.create_all(&topics, false) {
            assert_eq!(result, Err(CreateTopicError::TooManyPartitions), "{name}");
        }
    }
    assert!(controller.create(new_topic("most", 10_000, 1)).is_ok());
}

#[test]
fn names_are_checked_and_must_differ_in_more_than_dots() {
    let mut controller = Controller::new(1);
    assert_eq!(
        controller.refusal(new_topic("b d", 1, 1)),
        "Topic name is invalid: 'b d' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    );
    assert_eq!(controller.refusal(new_topic("", 1, 1)), "Topic name is invalid: the empty string is not allowed");
    assert!(controller.create(new_topic("a.b", 1, 1)).is_ok());
    assert_eq!(controller.refusal(new_topic("a.b", 1, 1)), "Topic 'a.b' already exists.");
    assert_eq!(controller.refusal(new_topic("a_b", 1, 1)), "Topic 'a_b' collides with existing topic: a.b");
    let id = controller.image.topic_by_name("a.b").expect("there").id;
    controller.apply(&[Command::DeleteTopic { id }]);
    assert!(controller.create(new_topic("a_b", 1, 1)).is_ok());
    // Within one request Kafka does not look.
    let results = controller.create_all(&[new_topic("q.w", 1, 1), new_topic("q_w", 1, 1)], false);
    assert!(results.iter().all(|(_, result)| result.is_ok()));
}

#[test]
fn a_name_twice_in_a_request_makes_no_topic() {
    let mut controller = Controller::new(1);
    let topics = [new_topic("t", 1, 1), new_topic("u", 1, 1), new_topic("t", 2, 1)];
    let results = controller.create_all(&topics, false);
    let names: Vec<_> = results.iter().map(|(name, result)| (name.as_str(), result.is_ok())).collect();
    assert_eq!(names, [("t", false), ("u", true)]);
    assert_eq!(results[0].1, Err(CreateTopicError::Duplicate));
    assert_eq!(
        controller.refusal(new_topic("__cluster_metadata", 1, 1)),
        "Creation of internal topic __cluster_metadata is prohibited."
    );
}

#[test]
fn settings_are_checked_before_numbers() {
    let mut controller = Controller::new(1);
    let mut refusal = |partitions, configs: &[(&str, Option<&str>)]| {
        controller.refusal(with_configs(new_topic("t", partitions, 1), configs))
    };
    assert_eq!(refusal(1, &[("foo", Some("bar"))]), "Unknown topic config name: foo");
    assert_eq!(
        refusal(0, &[("retention.ms", Some("x"))]),
        "Invalid value x for configuration retention.ms: Not a number of type LONG"
    );
    assert_eq!(
        refusal(1, &[("retention.ms", None), ("segment.ms", None)]),
        "Null value not supported for topic configs: retention.ms,segment.ms"
    );
    assert_eq!(
        refusal(1, &[("min.compaction.lag.ms", Some("50")), ("max.compaction.lag.ms", Some("5"))]),
        "conflict topic config setting min.compaction.lag.ms (50) > max.compaction.lag.ms (5)"
    );
    let long = "1".repeat(32_768);
    assert_eq!(
        refusal(1, &[("retention.ms", Some(&long))]),
        "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes."
    );
}

#[test]
fn replicas_named_by_the_client_are_checked() {
    let mut controller = Controller::new(2);
    let created = controller.create(assigned("m", &[(1, &[1, 2]), (0, &[2, 1])])).expect("created");
    assert_eq!((created.partitions, created.replication_factor), (2, 2));
    let topic = controller.image.topic_by_name("m").expect("there");
    assert_eq!(topic.partitions[0].replicas, [NodeId(2), NodeId(1)]);
    for (assignments, words) in [
        (&[(1, &[1][..])][..], "partitions should be a consecutive 0-based integer sequence"),
        (&[(-1, &[1])], "partitions should be a consecutive 0-based integer sequence"),
        (&[(0, &[1]), (0, &[2])], "Found multiple manual partition assignments for partition 0"),
        (&[(0, &[3])], "The manual partition assignment includes broker 3, but no such broker is registered."),
        (&[(0, &[1, 1])], "The manual partition assignment includes the broker 1 more than once."),
        (&[(0, &[])], "The manual partition assignment includes an empty replica list."),
        (
            &[(0, &[1]), (1, &[1, 2])],
            "The manual partition assignment includes a partition with 2 replica(s), but this is not consistent with \
             previous partitions, which have 1 replica(s).",
        ),
    ] {
        assert_eq!(controller.refusal(assigned("x", assignments)), words);
    }
    let both = NewTopic { partitions: 1, ..assigned("x", &[(0, &[1])]) };
    assert_eq!(
        controller.refusal(both),
        "A manual partition assignment was specified, but numPartitions was not set to -1."
    );
    let both = NewTopic { replication_factor: 1, ..assigned("x", &[(0, &[1])]) };
    assert_eq!(
        controller.refusal(both),
        "A manual partition assignment was specified, but replication factor was not set to -1."
    );
}

#[test]
fn validating_only_changes_nothing() {
    let mut controller = Controller::new(1);
    let before = controller.image.clone();
    let results = controller.create_all(&[new_topic("t", 1, 1), new_topic("u", 0, 1)], true);
    assert!(results[0].1.is_ok() && results[1].1.is_err());
    assert_eq!(controller.image, before);
}

fn more(topic: &str, count: i32) -> MorePartitions {
    MorePartitions { topic: topic.into(), count, assignments: None }
}

fn more_on(topic: &str, count: i32, assignments: &[&[i32]]) -> MorePartitions {
    let assignments = assignments.iter().map(|ids| ids.iter().copied().map(NodeId).collect()).collect();
    MorePartitions { topic: topic.into(), count, assignments: Some(assignments) }
}

#[test]
fn partitions_only_grow() {
    let mut controller = Controller::new(1);
    controller.create(new_topic("t", 1, 1)).expect("created");
    controller.create(new_topic("__consumer_offsets", 1, 1)).expect("created");
    let refusal = |controller: &Controller, wanted: MorePartitions| {
        let decision = create_partitions(&controller.image, &controller.nodes(), &mut |_| 0, &[wanted], false);
        assert!(decision.commands.is_empty());
        decision.reply[0].1.clone().expect_err("refused").to_string()
    };
    for (wanted, words) in [
        (more("t", 1), "Topic already has 1 partition(s)."),
        (more("t", 0), "The topic t currently has 1 partition(s); 0 would not be an increase."),
        (more("t", -5), "The topic t currently has 1 partition(s); -5 would not be an increase."),
        (more("nope", 2), "This server does not host this topic-partition."),
        (
            more_on("t", 3, &[&[1]]),
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            more_on("t", 2, &[&[2]]),
            "The manual partition assignment includes broker 2, but no such broker is registered.",
        ),
        (more_on("t", 2, &[&[1, 1]]), "The manual partition assignment includes the broker 1 more than once."),
        (more_on("t", 2, &[&[]]), "The manual partition assignment includes an empty replica list."),
        (
            more("__consumer_offsets", 100),
            "The partitions of __consumer_offsets cannot be added to: each group's offsets are in the one that its name \
             hashes to.",
        ),
        // Kafka answers with an unknown server error.
        (more("t", 1_000_000_000), "Excessively large number of partitions per request."),
        (more("t", i32::MAX), "Excessively large number of partitions per request."),
    ] {
        assert_eq!(refusal(&controller, wanted), words);
    }
    let twice = [more("t", 2), more("t", 3)];
    let decision = create_partitions(&controller.image, &controller.nodes(), &mut |_| 0, &twice, false);
    assert_eq!(decision.reply, [("t".to_owned(), Err(CreatePartitionsError::Duplicate))]);

    let wanted = [more("t", 3)];
    let decision = create_partitions(&controller.image, &controller.nodes(), &mut |_| 0, &wanted, true);
    assert_eq!((decision.commands.len(), decision.reply[0].1.is_ok()), (0, true));
    let decision = create_partitions(&controller.image, &controller.nodes(), &mut |_| 0, &wanted, false);
    controller.apply(&decision.commands);
    let topic = controller.image.topic_by_name("t").expect("there");
    assert_eq!(
        topic.partitions,
        vec![Partition { replicas: vec![NodeId(1)], peers: vec![PeerId(1)], ..Partition::default() }; 3]
    );
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    let mut controller = Controller::new(1);
    let mut id_of = |name| controller.create(new_topic(name, 1, 1)).expect("created").id;
    let (a, b, c) = (id_of("a"), id_of("b"), id_of("c"));
    let by_name = |name: &str| TopicToDelete { name: Some(name.into()), id: TopicId::ZERO };
    let by_id = |id| TopicToDelete { name: None, id };
    let request = [
        by_name("a"),
        by_id(b),
        by_id(TopicId::ZERO),
        TopicToDelete { name: Some("c".into()), id: c },
        by_name("nope"),
        by_id(TopicId(Uuid::from_u128(99))),
        by_name("c"),
        by_name("c"),
    ];
    let decision = delete_topics(&controller.image, &controller.broker, &request);
    let told: Vec<_> = decision
        .reply
        .iter()
        .map(|topic| (topic.name.as_deref(), topic.id, topic.result.clone().map_err(|e| e.to_string())))
        .collect();
    assert_eq!(told[0], (Some("a"), a, Ok(())));
    assert_eq!(told[1], (Some("b"), b, Ok(())));
    assert_eq!(told[2], (None, TopicId::ZERO, Err("Neither topic name nor id were specified.".into())));
    assert_eq!(told[3], (Some("c"), c, Err("You may not specify both topic name and topic id.".into())));
    assert_eq!(told[4].2, Err("This server does not host this topic-partition.".into()));
    assert_eq!(told[5].2, Err("This server does not host this topic ID.".into()));
    assert_eq!(told[6], (Some("c"), TopicId::ZERO, Err("Duplicate topic name.".into())));
    assert_eq!(told.len(), 7);

    let both = delete_topics(&controller.image, &controller.broker, &[by_name("c"), by_id(c)]);
    let results: Vec<_> = both.reply.iter().map(|topic| topic.result.clone()).collect();
    assert_eq!(results, [Err(DeleteTopicError::NamedById), Ok(())]);

    controller.apply(&decision.commands);
    assert_eq!(controller.image.topic_count(), 1);
    assert!(controller.image.topic(a).is_none() && controller.image.topic_by_name("c").is_some());

    let disabled = delete_topics(&controller.image, &broker(&[("delete.topic.enable", "false")]), &[by_name("c")]);
    assert_eq!(disabled.reply[0].result, Err(DeleteTopicError::Disabled));
}

#[test]
fn internal_topics_are_created_as_kafka_does_but_for_few_nodes() {
    let mut controller = Controller::new(1);
    let wanted = auto_created_topic("__consumer_offsets", &controller.image, &controller.broker);
    assert_eq!((wanted.partitions, wanted.replication_factor), (50, 1));
    controller.create(wanted).expect("created");
    let configs = controller.image.topic_by_name("__consumer_offsets").expect("there").configs.clone();
    let expected = [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
    assert_eq!(*configs, map(&expected));

    let wanted = auto_created_topic("__transaction_state", &cluster(5), &controller.broker);
    assert_eq!(wanted.replication_factor, 3);
    assert!(wanted.configs.contains(&("min.insync.replicas".into(), Some("2".into()))));
    for name in ["__transaction_state", "__share_group_state"] {
        let wanted = auto_created_topic(name, &controller.image, &controller.broker);
        assert!(wanted.configs.contains(&("min.insync.replicas".into(), Some("1".into()))));
        controller.create(wanted).expect("created");
    }
    assert_eq!(auto_created_topic("t", &controller.image, &controller.broker), new_topic("t", -1, -1));
}
