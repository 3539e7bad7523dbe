//! Ids for idempotent producers, out of blocks that belong to this node alone.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::controller::{Decision, ProducerIdsExhausted, allocate_producer_ids};
use millstream_core::types::{NodeId, ProducerId};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::ask::Forwarded;
use super::envelope::Envelope;
use super::{Controller, ControllerError};

/// How long a producer waits for a controller. It comes again by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerIdError {
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error(transparent)]
    Exhausted(#[from] ProducerIdsExhausted),
}

/// The block in use: what is left of it is lost when the node stops. The lock is held while the next block is asked
/// for, so that of all who find this one used up one asks and the others wait; nothing else is locked meanwhile.
pub(super) type Block = Mutex<Range<ProducerId>>;

impl Controller {
    /// An id that no other producer has or had.
    pub async fn next_producer_id(&self) -> Result<ProducerId, ProducerIdError> {
        let mut block = self.producer_ids.lock().await;
        if block.is_empty() {
            *block = self.next_block().await?;
        }
        let id = block.start;
        block.start = ProducerId(id.0 + 1);
        Ok(id)
    }

    async fn next_block(&self) -> Result<Range<ProducerId>, ProducerIdError> {
        match self.forward(&Envelope::ProducerIds.encode(), Instant::now() + PATIENCE).await? {
            Forwarded::Here => self.allocate_producer_ids(self.partitions.identity().node).await,
            Forwarded::Done(block) => decode_block(block),
            Forwarded::Close(_) => Err(ControllerError::NotAvailable.into()),
        }
    }

    /// A block for `node`, which this one decides on.
    pub async fn allocate_producer_ids(&self, node: NodeId) -> Result<Range<ProducerId>, ProducerIdError> {
        let allocated = self.change(move |image| match allocate_producer_ids(image, node) {
            Ok(Decision { commands, reply }) => Decision { commands, reply: Ok(reply) },
            Err(exhausted) => Decision { commands: Vec::new(), reply: Err(exhausted) },
        });
        Ok(allocated.await??)
    }
}

/// For another node: first id and the one after the last; both 0 when there are none left.
pub fn encode_block(block: Result<Range<ProducerId>, ProducerIdsExhausted>) -> Bytes {
    let block = block.unwrap_or(ProducerId(0)..ProducerId(0));
    let mut to = BytesMut::new();
    to.put_i64(block.start.0);
    to.put_i64(block.end.0);
    to.freeze()
}

fn decode_block(mut from: Bytes) -> Result<Range<ProducerId>, ProducerIdError> {
    match (from.try_get_i64(), from.try_get_i64()) {
        (Ok(start), Ok(end)) if start < end => Ok(ProducerId(start)..ProducerId(end)),
        (Ok(_), Ok(_)) => Err(ProducerIdsExhausted.into()),
        _ => Err(ControllerError::NotAvailable.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_survives_its_bytes() {
        let block = ProducerId(1_000)..ProducerId(2_000);
        assert_eq!(decode_block(encode_block(Ok(block.clone()))), Ok(block));
        let none = decode_block(encode_block(Err(ProducerIdsExhausted)));
        assert_eq!(none, Err(ProducerIdError::Exhausted(ProducerIdsExhausted)));
        let short = decode_block(Bytes::from_static(&[1, 2, 3]));
        assert_eq!(short, Err(ProducerIdError::Controller(ControllerError::NotAvailable)));
    }
}
