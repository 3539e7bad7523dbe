//! Topics that are created because someone needs them: a client's (Kafka `AutoTopicCreationManager`), and the
//! broker's own.

use super::{Image, NewTopic};
use crate::config::BrokerConfig;

/// The topic of this name as the broker creates it by itself.
///
/// Internal topics get fewer replicas than they are configured for while there are fewer nodes: else a single node
/// could not have any.
pub fn auto_created_topic(name: &str, image: &Image, broker: &BrokerConfig) -> NewTopic {
    let Some(configs) = internal_topic_configs(name, image, broker) else {
        return NewTopic { name: name.to_owned(), partitions: -1, replication_factor: -1, ..NewTopic::default() };
    };
    let partitions = match name {
        "__consumer_offsets" => broker.integer("offsets.topic.num.partitions"),
        "__transaction_state" => broker.integer("transaction.state.log.num.partitions"),
        _ => broker.integer("share.coordinator.state.topic.num.partitions"),
    };
    NewTopic {
        name: name.to_owned(),
        partitions: i32::try_from(partitions).expect("an int in the table"),
        replication_factor: replicas(name, image, broker),
        assignments: Vec::new(),
        configs: configs.into_iter().map(|(name, value)| (name.to_owned(), Some(value))).collect(),
    }
}

/// Settings that an internal topic is created with; `None` for any other.
pub fn internal_topic_configs(name: &str, image: &Image, broker: &BrokerConfig) -> Option<Vec<(&'static str, String)>> {
    let in_sync =
        |name: &str, setting| broker.integer(setting).min(i64::from(replicas(name, image, broker))).to_string();
    Some(match name {
        "__consumer_offsets" => vec![
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", segment_bytes("offsets.topic.segment.bytes", broker)),
        ],
        "__transaction_state" => vec![
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "uncompressed".to_owned()),
            ("min.insync.replicas", in_sync(name, "transaction.state.log.min.isr")),
            ("segment.bytes", segment_bytes("transaction.state.log.segment.bytes", broker)),
            ("unclean.leader.election.enable", "false".to_owned()),
        ],
        "__share_group_state" => vec![
            // Kafka's is "delete", for ever: its coordinator cuts off what is redundant. Here each record is all there
            // is to say of its key.
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("min.insync.replicas", in_sync(name, "share.coordinator.state.topic.min.isr")),
            ("segment.bytes", segment_bytes("share.coordinator.state.topic.segment.bytes", broker)),
        ],
        _ => return None,
    })
}

/// The broker's setting may be smaller than a topic's may.
fn segment_bytes(setting: &str, broker: &BrokerConfig) -> String {
    const TOPIC_MIN: i64 = 1 << 20;
    broker.integer(setting).max(TOPIC_MIN).to_string()
}

fn replicas(name: &str, image: &Image, broker: &BrokerConfig) -> i16 {
    let nodes = i64::try_from(image.nodes().len()).unwrap_or(i64::MAX).max(1);
    i16::try_from(configured_replicas(name, broker).min(nodes)).expect("a short in the table")
}

/// Replicas that an internal topic is configured for.
pub(super) fn configured_replicas(name: &str, broker: &BrokerConfig) -> i64 {
    match name {
        "__consumer_offsets" => broker.integer("offsets.topic.replication.factor"),
        "__transaction_state" => broker.integer("transaction.state.log.replication.factor"),
        _ => broker.integer("share.coordinator.state.topic.replication.factor"),
    }
}
