//! Which node leads a partition, as Metadata and DescribeTopicPartitions tell it.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use millstream_core::controller::Partition;
use millstream_core::types::{LeaderEpoch, NodeId, PartitionId};

use super::Context;
use crate::partition::Leadership;

/// Leader epoch on the wire where none is known.
const NO_EPOCH: i32 = -1;
/// Kafka's `MetadataResponse.NO_LEADER_ID`.
const NO_LEADER: BrokerId = BrokerId(-1);

/// What is known of a partition's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// This node leads.
    Here(LeaderEpoch),
    /// Nobody does yet.
    Nobody(Option<LeaderEpoch>),
    /// Nobody does: the replica's log cannot be used.
    Offline(Option<LeaderEpoch>),
}

impl Context {
    pub fn lead(&self, id: PartitionId) -> Lead {
        let Some(partition) = self.partitions.get(id) else { return Lead::Nobody(None) };
        // The leadership before the epoch: a leader's epoch is there before it leads.
        let leadership = partition.leadership();
        let epoch = partition.leader_epoch();
        // Before a replica is open its epoch is 0, lower than any it was told with: then better none.
        let known = (epoch.0 > 0).then_some(epoch);
        match leadership {
            Leadership::Leading => Lead::Here(epoch),
            Leadership::Starting | Leadership::Following => Lead::Nobody(known),
            Leadership::Offline => Lead::Offline(known),
        }
    }
}

/// A partition's fields that both APIs have.
#[derive(Debug, PartialEq)]
pub struct Described {
    pub error: Option<ResponseError>,
    pub leader_id: BrokerId,
    pub leader_epoch: i32,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub offline: Vec<BrokerId>,
}

/// Describes a partition. Its in-sync replicas are never none, as with Kafka: without a leader all are still named.
pub fn describe(lead: Lead, node: NodeId, partition: &Partition) -> Described {
    let replicas: Vec<BrokerId> = partition.replicas.iter().map(|id| BrokerId(id.0)).collect();
    let on_wire = |epoch: Option<LeaderEpoch>| epoch.map_or(NO_EPOCH, |epoch| epoch.0);
    match lead {
        Lead::Here(epoch) => Described {
            error: None,
            leader_id: BrokerId(node.0),
            leader_epoch: epoch.0,
            isr: vec![BrokerId(node.0)],
            replicas,
            offline: Vec::new(),
        },
        Lead::Nobody(epoch) => Described {
            error: Some(ResponseError::LeaderNotAvailable),
            leader_id: NO_LEADER,
            leader_epoch: on_wire(epoch),
            isr: replicas.clone(),
            replicas,
            offline: Vec::new(),
        },
        Lead::Offline(epoch) => Described {
            error: Some(ResponseError::LeaderNotAvailable),
            leader_id: NO_LEADER,
            leader_epoch: on_wire(epoch),
            isr: replicas.clone(),
            offline: replicas.clone(),
            replicas,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lead: Lead) -> (i32, i32, usize, usize, Option<ResponseError>) {
        let d = describe(lead, NodeId(5), &Partition { replicas: vec![NodeId(5)], peers: vec![] });
        assert_eq!(d.replicas, [BrokerId(5)]);
        (d.leader_id.0, d.leader_epoch, d.isr.len(), d.offline.len(), d.error)
    }

    #[test]
    fn a_partition_that_is_led_is_whole() {
        assert_eq!(told(Lead::Here(LeaderEpoch(3))), (5, 3, 1, 0, None));
    }

    #[test]
    fn one_that_nobody_leads_says_so_and_keeps_its_epoch() {
        let error = Some(ResponseError::LeaderNotAvailable);
        assert_eq!(told(Lead::Nobody(None)), (-1, -1, 1, 0, error));
        assert_eq!(told(Lead::Offline(Some(LeaderEpoch(3)))), (-1, 3, 1, 1, error));
    }
}
