//! Messages to other replicas, and the batches that go beside them.

use bytes::Bytes;
use millstream_core::replica::{EntryKind, Message};
use millstream_core::types::PeerId;

use super::payloads::Payloads;
use crate::log::{LogView, ReadError};

/// Bytes of batches in one message, but for one batch.
const PAYLOAD_BYTES_MAX: u64 = 1 << 20;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub to: PeerId,
    /// It must not wait behind batches.
    pub is_urgent: bool,
    pub message: Message,
    /// A batch for each entry that has one, in order.
    pub payloads: Vec<Bytes>,
}

/// Adds a message, in parts where its batches are many. What cannot be read is not sent: raft sends it again, and finds
/// the same.
pub(super) fn add(out: &mut Vec<Outgoing>, message: Message, payloads: &mut Payloads, view: &LogView) {
    let parts = message.cut(PAYLOAD_BYTES_MAX).expect("raft gives back what was proposed");
    for part in parts {
        let payloads = match gather(&part, payloads, view) {
            Ok(payloads) => payloads,
            Err(e) => {
                tracing::warn!(error = %e, "what a follower lacks could not be read");
                return;
            }
        };
        let (to, is_urgent) = (part.to(), part.is_urgent());
        out.push(Outgoing { to, is_urgent, message: part, payloads });
    }
}

fn gather(message: &Message, payloads: &mut Payloads, view: &LogView) -> Result<Vec<Bytes>, ReadError> {
    let mut gathered = Vec::new();
    for entry in message.entries() {
        let entry = entry.expect("raft gives back what was proposed");
        if let EntryKind::Batch(_) = entry.kind {
            gathered.push(match payloads.get(entry.term, entry.index) {
                Some(bytes) => bytes,
                None => view.payload(entry.index)?.1,
            });
        }
    }
    Ok(gathered)
}
