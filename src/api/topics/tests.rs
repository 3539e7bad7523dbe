use kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use millstream_core::controller::DeleteTopicError;
use uuid::Uuid;

use super::*;
use crate::protocol::Encode;

fn name(text: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(text))
}

#[test]
fn a_wanted_topic_is_taken_as_it_stands() {
    let config = |key, value: Option<&'static str>| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(key))
            .with_value(value.map(StrBytes::from_static_str))
    };
    let assignment = CreatableReplicaAssignment::default().with_partition_index(2).with_broker_ids(vec![BrokerId(7)]);
    let asked = CreatableTopic::default()
        .with_name(name("t"))
        .with_num_partitions(-1)
        .with_replication_factor(3)
        .with_assignments(vec![assignment])
        .with_configs(vec![config("retention.ms", Some("1")), config("segment.ms", None)]);
    let topic = new_topic(&asked);
    assert_eq!((topic.name.as_str(), topic.partitions, topic.replication_factor), ("t", -1, 3));
    assert_eq!(topic.assignments, [(2, vec![NodeId(7)])]);
    let configs: Vec<_> = topic.configs.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
    assert_eq!(configs, [("retention.ms", Some("1")), ("segment.ms", None)]);
}

#[test]
fn what_was_created_is_told_in_every_version() {
    let created =
        CreatedTopic { id: TopicId(Uuid::from_u128(5)), partitions: 3, replication_factor: 1, configs: vec![] };
    for version in 2..=7 {
        let made = creation(version, "t".to_owned(), Ok(created.clone()), true);
        let expected = if version >= 5 { (3, 1) } else { (-1, -1) };
        assert_eq!((made.error_code, &made.error_message), (0, &None));
        assert_eq!((made.num_partitions, made.replication_factor), expected);
        let refused = creation(version, "x".repeat(32_767), Err(CreateTopicError::Exists("x".repeat(32_767))), true);
        assert_eq!(refused.error_code, ResponseError::TopicAlreadyExists.code());
        let body = CreateTopicsResponse::default().with_topics(vec![made, refused]);
        body.encode_body(version, &mut bytes::BytesMut::new()).expect("it can be said in this version");
    }
}

#[test]
fn topics_to_delete_go_by_name_and_later_by_id_too() {
    let named = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]);
    assert_eq!(topics_to_delete(&named, 5), [TopicToDelete { name: Some("t".to_owned()), id: TopicId::ZERO }]);
    let id = Uuid::from_u128(5);
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let by_name = DeleteTopicState::default().with_name(Some(name("t")));
    let asked = DeleteTopicsRequest::default().with_topics(vec![by_id, by_name]);
    let expected = [
        TopicToDelete { name: None, id: TopicId(id) },
        TopicToDelete { name: Some("t".to_owned()), id: TopicId::ZERO },
    ];
    assert_eq!(topics_to_delete(&asked, 6), expected);
}

#[test]
fn what_was_deleted_is_told_in_every_version() {
    let id = TopicId(Uuid::from_u128(5));
    for version in 1..=6 {
        let told = |result| deletion_result(version, DeletedTopic { name: Some("t".to_owned()), id, result });
        let disabled = if version < 3 { ResponseError::InvalidRequest } else { ResponseError::TopicDeletionDisabled };
        assert_eq!(told(Err(DeleteTopicError::Disabled)).error_code, disabled.code());
        let body = DeleteTopicsResponse::default()
            .with_responses(vec![told(Ok(())), told(Err(DeleteTopicError::UnknownName))]);
        assert_eq!(body.responses.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0, 3]);
        body.encode_body(version, &mut bytes::BytesMut::new()).expect("it can be said in this version");
    }
}

#[test]
fn new_partitions_may_be_assigned_or_not() {
    let assignment = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
    let asked = CreatePartitionsTopic::default().with_name(name("t")).with_count(4);
    assert_eq!(more_partitions(&asked.clone().with_assignments(None)).assignments, None);
    let assigned = more_partitions(&asked.with_assignments(Some(vec![assignment])));
    assert_eq!((assigned.topic.as_str(), assigned.count), ("t", 4));
    assert_eq!(assigned.assignments, Some(vec![vec![NodeId(1), NodeId(2)]]));
}

#[tokio::test]
async fn a_change_that_takes_longer_than_the_client_waits_times_out() {
    let never = std::future::pending::<Result<(), ControllerError>>();
    let failed = in_time(1, never).await.expect_err("timed out");
    assert_eq!(failed.error, ResponseError::RequestTimedOut);
    for timeout_ms in [0, -1, i32::MIN] {
        let soon = async {
            tokio::task::yield_now().await;
            Ok(5)
        };
        assert_eq!(in_time(timeout_ms, soon).await.ok(), Some(5), "a short wait in any case");
    }
    let refused = in_time(1, async { Err::<(), _>(ControllerError::NotAvailable) }).await;
    assert_eq!(refused.err().map(|f| f.error), Some(ResponseError::NotController));
}
