//! Producer ids are given out to nodes in blocks, so that a node need not ask for each (Kafka
//! `ProducerIdControlManager`).

use std::ops::Range;

use super::{Command, Decision, Image};
use crate::types::{NodeId, ProducerId};

/// Ids in a block. What a node has not given out when it stops is lost.
pub const PRODUCER_ID_BLOCK_LEN: i64 = 1_000;

/// Every id was given out: at one a microsecond after 292,000 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit")]
pub struct ProducerIdsExhausted;

/// A block for `node` alone.
pub fn allocate_producer_ids(image: &Image, node: NodeId) -> Result<Decision<Range<ProducerId>>, ProducerIdsExhausted> {
    let first = image.next_producer_id();
    let next = first.0.checked_add(PRODUCER_ID_BLOCK_LEN).map(ProducerId).ok_or(ProducerIdsExhausted)?;
    Ok(Decision { commands: vec![Command::AllocateProducerIds { node, next }], reply: first..next })
}
