//! A drained node leads nothing that another can lead: what it comes to lead it hands on (`broker.state`).

use std::sync::Weak;
use std::time::Duration;

use millstream_core::controller::Image;
use millstream_core::types::{NodeId, PartitionId};

use super::Controller;

/// How soon what the node has come to lead goes on.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks after that for as long as there is a controller.
pub(super) async fn run(controller: Weak<Controller>) {
    let mut was_drained = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(controller) = controller.upgrade() else { return };
        let own = controller.partitions.identity().node;
        let is_drained = controller.look(|now| now.image.is_drained(own));
        if is_drained != was_drained {
            tracing::info!(is_drained, "this node is to lead nothing, or may lead again");
            was_drained = is_drained;
        }
        if is_drained {
            controller.hand_on(own).await;
        }
    }
}

impl Controller {
    async fn hand_on(&self, own: NodeId) {
        let is_alive = |node| self.rpc.as_ref().is_some_and(|rpc| rpc.is_alive(node));
        for partition in self.partitions.all().into_iter().filter(|partition| partition.is_leading()) {
            let Some(told) = self.partitions.leaders().get(partition.id).filter(|told| told.node == own) else {
                continue;
            };
            let can_lead = |node: NodeId| node != own && told.isr.contains(&node) && is_alive(node);
            if let Some(to) = self.look(|now| heir(&now.image, partition.id, &told.isr, &can_lead)) {
                // Not under way: the next look tries again.
                let _is_under_way: bool = self.partitions.transfer(partition.id, to).await;
            }
        }
    }
}

/// Who is to lead instead: the replica that is preferred most; of the metadata, which no topic names, any.
fn heir(image: &Image, id: PartitionId, in_sync: &[NodeId], can_lead: &dyn Fn(NodeId) -> bool) -> Option<NodeId> {
    let replicas = image.partition(id).map_or(in_sync, |partition| &partition.replicas);
    replicas.iter().copied().find(|node| can_lead(*node) && !image.is_drained(*node))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_core::controller::{Command, ConfigOwner, Partition, Topic};
    use millstream_core::types::{TopicId, TopicName};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_next_that_is_in_sync_and_not_drained_leads_instead() {
        let topic = TopicId(Uuid::from_u128(9));
        let replicas = [1, 2, 3, 4].map(NodeId).to_vec();
        let mut image = Image::default();
        image.apply(&Command::CreateTopic(Topic {
            id: topic,
            name: TopicName::new("t").expect("a name"),
            partitions: vec![Partition { replicas, ..Partition::default() }],
            configs: Arc::default(),
        }));
        let state = |value: &str| vec![("broker.state".to_owned(), Some(value.to_owned()))];
        for (node, value) in [(1, "drained"), (2, "leaving"), (4, "active")] {
            image.apply(&Command::ChangeConfigs { owner: ConfigOwner::Broker(NodeId(node)), changes: state(value) });
        }
        let id = PartitionId { topic, partition: 0 };
        let find = |able: &[i32]| heir(&image, id, &[], &|node| able.contains(&node.0));
        assert_eq!(find(&[2, 3, 4]), Some(NodeId(3)));
        assert_eq!(find(&[2, 4]), Some(NodeId(4)));
        assert_eq!(find(&[2]), None);
        let metadata = PartitionId { topic: TopicId(Uuid::from_u128(1)), partition: 0 };
        assert_eq!(heir(&image, metadata, &[NodeId(1), NodeId(3)], &|node| node != NodeId(1)), Some(NodeId(3)));
    }
}
