//! Ids for idempotent producers, out of blocks that belong to this node alone.

use std::ops::Range;

use millstream_core::controller::{Decision, ProducerIdsExhausted, allocate_producer_ids};
use millstream_core::types::ProducerId;
use tokio::sync::Mutex;

use super::{Controller, ControllerError};

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
            *block = self.allocate_producer_ids().await?;
        }
        let id = block.start;
        block.start = ProducerId(id.0 + 1);
        Ok(id)
    }

    async fn allocate_producer_ids(&self) -> Result<Range<ProducerId>, ProducerIdError> {
        let node = self.published().settings.node_id();
        let allocated = self.change(move |image| match allocate_producer_ids(image, node) {
            Ok(Decision { commands, reply }) => Decision { commands, reply: Ok(reply) },
            Err(exhausted) => Decision { commands: Vec::new(), reply: Err(exhausted) },
        });
        Ok(allocated.await??)
    }
}
