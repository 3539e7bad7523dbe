//! What Kafka 4.3.1 answered to the same requests, but where a test says that we differ.

mod acls;
mod configs;
mod image;
mod members;
mod moves;
mod others;
mod raise;
mod scram;
mod topics;

use uuid::Uuid;

use super::*;
use crate::config::{BrokerConfig, ConfigMap};
use crate::types::{DirectoryId, NodeId, TopicId};

fn map(pairs: &[(&str, &str)]) -> ConfigMap {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn broker(pairs: &[(&str, &str)]) -> BrokerConfig {
    BrokerConfig::new(map(pairs)).expect("settings that go together")
}

fn node(id: i32) -> Node {
    Node {
        id: NodeId(id),
        directory: DirectoryId(Uuid::from_u128(id as u128)),
        rack: (id % 2 == 0).then(|| format!("rack{id}")),
        endpoints: vec![Endpoint { listener: "PLAINTEXT".into(), host: "h".into(), port: 9092, protocol: 0 }],
        rpc_address: "h:33145".into(),
        features: FEATURES
            .iter()
            .map(|feature| FeatureRange { name: feature.name.into(), min: feature.min, max: feature.max })
            .collect(),
    }
}

/// A cluster of nodes 1 to `count`.
fn cluster(count: i32) -> Image {
    let mut image = Image::default();
    form_cluster("cluster", &[]).iter().for_each(|command| image.apply(command));
    for id in 1..=count {
        register_node(&image, node(id)).commands.iter().for_each(|command| image.apply(command));
    }
    image
}

/// Decides on one cluster after another request; ids and picks count up.
struct Controller {
    image: Image,
    broker: BrokerConfig,
    fresh: u128,
}

impl Controller {
    fn new(nodes: i32) -> Self {
        Self { image: cluster(nodes), broker: BrokerConfig::default(), fresh: 0 }
    }

    fn nodes(&self) -> Vec<UsableNode> {
        let usable = |node: &std::sync::Arc<Node>| UsableNode { id: node.id, rack: node.rack.clone(), alive: true };
        self.image.nodes().map(usable).collect()
    }

    fn apply(&mut self, commands: &[Command]) {
        for command in commands {
            self.image.apply(command);
        }
        self.broker = self.image.broker_config(&self.broker);
    }

    fn create_all(
        &mut self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Vec<(String, Result<CreatedTopic, CreateTopicError>)> {
        let nodes = self.nodes();
        let mut next_id = || {
            self.fresh += 1;
            TopicId(Uuid::from_u128(self.fresh))
        };
        let by = TopicCreation {
            image: &self.image,
            broker: &self.broker,
            nodes: &nodes,
            next_id: &mut next_id,
            pick: &mut |_| 0,
        };
        let decision = create_topics(by, topics, validate_only);
        self.apply(&decision.commands);
        decision.reply
    }

    fn create(&mut self, topic: NewTopic) -> Result<CreatedTopic, CreateTopicError> {
        self.create_all(&[topic], false).pop().expect("one result").1
    }

    fn refusal(&mut self, topic: NewTopic) -> String {
        self.create(topic).expect_err("refused").to_string()
    }
}

fn new_topic(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic { name: name.into(), partitions, replication_factor, ..NewTopic::default() }
}

fn with_configs(mut topic: NewTopic, configs: &[(&str, Option<&str>)]) -> NewTopic {
    topic.configs = configs.iter().map(|(name, value)| ((*name).into(), value.map(Into::into))).collect();
    topic
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> NewTopic {
    let replicas = |ids: &[i32]| ids.iter().copied().map(NodeId).collect();
    NewTopic {
        assignments: assignments.iter().map(|(number, ids)| (*number, replicas(ids))).collect(),
        ..new_topic(name, -1, -1)
    }
}
