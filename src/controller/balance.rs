//! Leaderships go back to the preferred replicas: every leader looks now and then whether the partition would rather be
//! led elsewhere (Kafka `ReplicationControlManager.maybeBalancePartitionLeaders`).

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use millstream_core::controller::Image;
use millstream_core::types::{NodeId, PartitionId};

use super::Controller;

/// Leaderships that one look hands over; the others are the next one's
/// (Kafka `QuorumController.MAX_ELECTIONS_PER_IMBALANCE`).
const TRANSFERS_MAX: usize = 1_000;

/// Balances as the settings say, for as long as there is a controller.
pub(super) async fn run(controller: Weak<Controller>) {
    loop {
        let Some(seconds) = controller
            .upgrade()
            .map(|controller| controller.look(|now| now.settings.integer("leader.imbalance.check.interval.seconds")))
        else {
            return;
        };
        tokio::time::sleep(Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1))).await;
        let Some(controller) = controller.upgrade() else { return };
        if controller.look(|now| now.settings.boolean("auto.leader.rebalance.enable")) {
            let count = controller.balance().await;
            if count > 0 {
                tracing::info!(count, "leaderships go back to the preferred replicas");
            }
        }
    }
}

impl Controller {
    /// Hands over what this node leads and another one should, as far as that one can. Gives how many are under way.
    pub async fn balance(&self) -> usize {
        let own = self.partitions.identity().node;
        let led = self.partitions.all().into_iter().filter(|partition| partition.is_leading());
        let in_sync: HashMap<PartitionId, Vec<NodeId>> = led
            .filter_map(|partition| {
                let told = self.partitions.leaders().get(partition.id).filter(|told| told.node == own)?;
                Some((partition.id, told.isr))
            })
            .collect();
        let is_alive = |node| self.rpc.as_ref().is_some_and(|rpc| rpc.is_alive(node));
        let misplaced = self.look(|now| misplaced(&now.image, own, &in_sync, &is_alive));
        let mut count = 0;
        for (id, to) in misplaced {
            count += usize::from(self.partitions.transfer(id, to).await);
        }
        count
    }
}

/// Of the partitions that `own` leads, those that another node should lead and can: it lives, and is in sync.
fn misplaced(
    image: &Image,
    own: NodeId,
    in_sync: &HashMap<PartitionId, Vec<NodeId>>,
    is_alive: &dyn Fn(NodeId) -> bool,
) -> Vec<(PartitionId, NodeId)> {
    // The first that may lead: the others of a drained one take its place until it is back.
    let preferred =
        |id: &PartitionId| image.partition(*id)?.replicas.iter().copied().find(|node| !image.is_drained(*node));
    let mut misplaced: Vec<_> = in_sync
        .iter()
        .filter_map(|(id, in_sync)| {
            let to = preferred(id).filter(|to| *to != own && in_sync.contains(to) && is_alive(*to))?;
            Some((*id, to))
        })
        .collect();
    misplaced.sort_unstable();
    misplaced.truncate(TRANSFERS_MAX);
    misplaced
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_core::controller::{Command, Partition, Topic};
    use millstream_core::types::{TopicId, TopicName};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_another_node_should_lead_goes_there_if_it_lives_and_is_in_sync() {
        let topic = TopicId(Uuid::from_u128(9));
        let on =
            |nodes: &[i32]| Partition { replicas: nodes.iter().map(|n| NodeId(*n)).collect(), ..Partition::default() };
        let mut image = Image::default();
        image.apply(&Command::CreateTopic(Topic {
            id: topic,
            name: TopicName::new("t").expect("a name"),
            partitions: vec![on(&[1, 2]), on(&[2, 1]), on(&[3, 1]), on(&[4, 1]), on(&[2, 1])],
            configs: Arc::default(),
        }));
        let id = |partition| PartitionId { topic, partition };
        let isr = |nodes: &[i32]| nodes.iter().map(|n| NodeId(*n)).collect::<Vec<_>>();
        // Of partition 1 the preferred leader is in sync, of 2 it is not, of 3 it is dead; 4 is led elsewhere.
        let led = [(id(0), isr(&[1, 2])), (id(1), isr(&[1, 2])), (id(2), isr(&[1])), (id(3), isr(&[1, 4]))];
        let found = misplaced(&image, NodeId(1), &HashMap::from(led), &|node| node != NodeId(4));
        assert_eq!(found, [(id(1), NodeId(2))]);
    }
}
