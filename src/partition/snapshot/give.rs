//! A leader's part: offers, and the pieces that are fetched.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::types::{NodeId, PartitionId, PeerId, RaftTerm};
use uuid::Uuid;

use super::super::ask::Told;
use super::super::shard::{Owned, Shard};
use super::super::shared::Shared;
use super::wire::{Offer, Piece, start_of};
use super::{Caller, Given, Offered};
use crate::raft::NeededSnapshot;
use crate::store::Checkpoint;

/// How long raft waits before it asks again for a snapshot that did not come through.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Most bytes of one piece.
pub(super) const PIECE_BYTES_MAX: u32 = 1 << 20;

/// What became of a snapshot that raft wanted a peer to have.
pub(in super::super) struct SnapshotEnded {
    pub id: PartitionId,
    incarnation: u64,
    term: RaftTerm,
    peer: PeerId,
    is_installed: bool,
}

/// An offer that is ready to go.
struct Ready {
    node: NodeId,
    body: Bytes,
    given: Given,
}

impl Shard {
    /// Offers what raft wants others to have. Each is answered by a `SnapshotEnded`.
    pub(in super::super) fn offer_snapshots(&mut self, id: PartitionId, needed: Vec<NeededSnapshot>) {
        for needed in needed {
            let Some(owned) = self.owned.get(&id) else { return };
            let ready = owned.offer(&self.shared, &needed);
            let mut ended = SnapshotEnded {
                id,
                incarnation: owned.incarnation,
                term: needed.term,
                peer: needed.peer,
                is_installed: false,
            };
            let (caller, told_to, name) = (self.shared.caller.clone(), self.told_to.clone(), owned.shared.name.clone());
            tokio::spawn(async move {
                let outcome = match ready {
                    Ok(ready) => bring(caller, ready).await,
                    Err(why) => Err(why.to_owned()),
                };
                match &outcome {
                    Ok(()) => tracing::info!(partition = %name, peer = %needed.peer, "a replica has a snapshot"),
                    Err(error) => {
                        tracing::debug!(partition = %name, peer = %needed.peer, %error, "snapshot was not taken yet");
                        tokio::time::sleep(TRY_AGAIN_AFTER).await;
                    }
                }
                ended.is_installed = outcome.is_ok();
                // An error: the shard has ended.
                drop(told_to.send(Told::SnapshotEnded(ended)));
            });
        }
    }

    /// Raft goes on with the peer.
    pub(in super::super) fn snapshot_ended(&mut self, ended: SnapshotEnded) {
        let SnapshotEnded { id, incarnation, term, peer, is_installed } = ended;
        let owned = self.owned.get_mut(&id).filter(|o| o.incarnation == incarnation);
        // Of a term before: what raft waits for now is another one.
        if let Some(group) = owned.and_then(|o| o.group.as_mut()).filter(|g| g.term() == term) {
            group.snapshot_ended(peer, is_installed);
            self.touch(id);
        }
    }
}

async fn bring(caller: Option<Caller>, ready: Ready) -> Result<(), String> {
    let caller = caller.ok_or("no way to other nodes")?;
    let Ready { node, body, given: _until_answered } = ready;
    caller(node, body).await.map(drop)
}

impl Owned {
    fn offer(&self, shared: &Shared, needed: &NeededSnapshot) -> Result<Ready, &'static str> {
        let NeededSnapshot { peer, term, meta } = needed;
        let group = self.group.as_ref().filter(|g| g.is_leader() && g.term() == *term).ok_or("it does not lead")?;
        let node = *shared.peers.load().get(peer).ok_or("its node is not known")?;
        let log = group.log();
        if log.before_first() != (meta.index, meta.term) {
            return Err("the log begins elsewhere by now");
        }
        let log_start = self.shared.log_start();
        let mut epochs = group.epochs().clone();
        epochs.truncate_from(meta.index.next());
        epochs.trim_to(log_start, log.first_index());
        let aborted = self.shared.aborted();
        let checkpoint = Checkpoint {
            log: start_of(meta, log.first_raft_offset()).checkpoint().encode(),
            log_start,
            applied: meta.index,
            epochs,
            // They may know batches that come after the snapshot: these are not folded in twice.
            producers: Cow::Borrowed(&self.producers),
            aborted: Cow::Borrowed(&aborted),
        };
        let segments = log.compacted_segments();
        let offer = Offer {
            id: self.shared.id,
            number: Uuid::new_v4(),
            term: *term,
            from: group.replica().peer(),
            to: *peer,
            meta: meta.clone(),
            segments: segments.iter().map(|segment| segment.meta).collect(),
            checkpoint,
        };
        let (number, body) = (offer.number, offer.encode());
        let offered = Offered { id: self.shared.id, to: *peer, segments: Arc::new(segments) };
        let given = shared.snapshots.give(number, offered).ok_or("others are under way")?;
        Ok(Ready { node, body, given })
    }
}

/// A piece of what was offered to a node.
pub(super) async fn piece(shared: Arc<Shared>, from: NodeId, piece: Piece) -> Result<Bytes, String> {
    let Piece { number, segment, position, len } = piece;
    let (to, segments) = shared.snapshots.offered(number).ok_or("no such snapshot is offered now")?;
    if shared.peers.load().get(&to) != Some(&from) || len > PIECE_BYTES_MAX {
        return Err("it was not offered that".to_owned());
    }
    let read = tokio::task::spawn_blocking(move || {
        let segment = segments.get(usize::try_from(segment).ok()?)?;
        segment.read(position, len as usize).transpose()
    });
    match read.await.map_err(|e| e.to_string())? {
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(e)) => Err(e.to_string()),
        None => Err("there is nothing of a segment".to_owned()),
    }
}
