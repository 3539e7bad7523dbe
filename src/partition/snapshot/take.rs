//! A receiver's part: fetches what was offered, and exchanges the replica's log for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::types::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::super::ask::Ask;
use super::super::cleaner::is_compacting;
use super::super::handle::Partition;
use super::super::registry::Partitions;
use super::super::shard::Shard;
use super::super::shared::Shared;
use super::super::throttle::{THROTTLED_BYTES, give_room};
use super::Caller;
use super::give::{self, PIECE_BYTES_MAX};
use super::wire::{Offer, Piece, Said};
use crate::log::{Incoming, SegmentMeta};
use crate::raft::{self, Replacement};
use crate::store::Durability;

/// Bytes a second that one snapshot is fetched with at most: clients need the network and the disk, too.
const BYTES_PER_SECOND_MAX: f64 = (64 << 20) as f64;
/// How soon a replica is asked again that cannot be exchanged just now, and how often.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);
const ASK_TIMES: usize = 500;

/// How long the asker of a piece is let wait for room within a limit. It offers the rest again.
const PIECE_WITHIN: Duration = Duration::from_secs(30);

/// What a shard says to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    /// The replica lacks it.
    Needed,
    /// The replica has what it stands for.
    NotNeeded,
    Installed,
    /// Needed, but not just now.
    Later,
    Refused(&'static str),
}

impl Partitions {
    /// Answers what another node's partitions ask by a call (`Caller`).
    ///
    /// # Errors
    /// In words: the other one tries again, or knows better by then.
    pub async fn answer(&self, from: NodeId, body: Bytes) -> Result<Bytes, String> {
        let shared = self.shared().clone();
        match Said::decode(body).map_err(|e| e.to_string())? {
            Said::Room(bytes) => {
                give_room(&shared, usize::try_from(bytes).unwrap_or(usize::MAX)).await.map(|()| Bytes::new())
            }
            Said::Piece(piece) => {
                let partition = shared.snapshots.partition_of(piece.number).and_then(|id| self.get(id));
                if partition.is_some_and(|partition| partition.throttles_leader(shared.identity.node)) {
                    let taken = shared.throttles.leader.take(usize::try_from(piece.len).unwrap_or(usize::MAX));
                    tokio::time::timeout(PIECE_WITHIN, taken).await.map_err(|_| "no room within the limit now")?;
                }
                give::piece(shared, from, piece).await
            }
            Said::Offer(offer) => {
                if shared.peers.load().get(&offer.from) != Some(&from) || offer.to != shared.identity.peer {
                    return Err("the offer is not of that node, or not for this one".to_owned());
                }
                let (shard, partition) = (self.shard(offer.id).clone(), self.get(offer.id));
                let partition = partition.ok_or("the partition is not here")?;
                // Goes on when nobody waits for the answer any more.
                let taken = tokio::spawn(async move { take(&shared, &shard, &partition, from, (*offer).into()).await });
                taken.await.map_err(|e| e.to_string())?.map(|()| Bytes::new())
            }
        }
    }
}

async fn take(
    shared: &Arc<Shared>,
    shard: &mpsc::Sender<Ask>,
    partition: &Arc<Partition>,
    from: NodeId,
    offer: Arc<Offer<'static>>,
) -> Result<(), String> {
    let (id, giver) = (offer.id, (offer.from, offer.term));
    let _place = shared.snapshots.take(id, giver).ok_or("others are under way")?;
    match ask(shard, |reply| Ask::LookAtOffer { offer: offer.clone(), reply }).await? {
        Verdict::Needed => {}
        verdict => return ended(shared, &offer, verdict).await,
    }
    if !shared.dir.has_room_for(offer.size_bytes()) {
        return Err("no room for a snapshot".to_owned());
    }
    let (dir, keeps) = (shared.dir.clone(), shared.snapshots.fetch_from(id, giver));
    let incoming = blocking(move || Incoming::begin(&dir, id, keeps)).await?;
    let mut fetch = Fetch {
        caller: shared.caller.clone().ok_or("no way to other nodes")?,
        shared: shared.clone(),
        partition: partition.clone(),
        from,
        offer: offer.clone(),
        incoming: incoming.clone(),
        began: Instant::now(),
        fetched_bytes: 0,
    };
    for (ordinal, meta) in (0..).zip(&offer.segments) {
        fetch.segment(ordinal, *meta, shard).await?;
    }
    // What is left of a fetch that was broken off is not fetched again.
    let (bytes, kept_bytes) = (fetch.fetched_bytes, offer.size_bytes().saturating_sub(fetch.fetched_bytes));
    tracing::info!(partition = %partition.name, bytes, kept_bytes, "the segments of a snapshot are fetched");
    let whole = offer.clone();
    blocking(move || incoming.finish(&whole.segments, whole.start())).await?;
    for _ in 0..ASK_TIMES {
        match ask(shard, |reply| Ask::InstallSnapshot { offer: offer.clone(), reply }).await? {
            Verdict::Later => tokio::time::sleep(ASK_AGAIN_AFTER).await,
            verdict => return ended(shared, &offer, verdict).await,
        }
    }
    Err("the replica is busy".to_owned())
}

/// What was fetched is of no use any more, but where it might be later.
async fn ended(shared: &Arc<Shared>, offer: &Offer<'static>, verdict: Verdict) -> Result<(), String> {
    let id = offer.id;
    match verdict {
        Verdict::Installed => {
            shared.snapshots.forget_fetched(id);
            let dir = shared.dir.clone();
            // The old log. What cannot be deleted now goes with the next that is.
            drop(blocking(move || dir.empty_trash()).await);
        }
        Verdict::NotNeeded if shared.snapshots.forget_fetched(id) => {
            let dir = shared.dir.clone();
            blocking(move || dir.discard_incoming(id)).await?;
        }
        Verdict::NotNeeded => {}
        Verdict::Needed | Verdict::Later => return Err("the replica is not ready".to_owned()),
        Verdict::Refused(why) => return Err(why.to_owned()),
    }
    Ok(())
}

async fn ask(shard: &mpsc::Sender<Ask>, ask: impl FnOnce(oneshot::Sender<Verdict>) -> Ask) -> Result<Verdict, String> {
    let (reply, verdict) = oneshot::channel();
    shard.send(ask(reply)).await.map_err(|_| "the node stops")?;
    verdict.await.map_err(|_| "the node stops".to_owned())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// Fetches what was offered.
struct Fetch {
    caller: Caller,
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    from: NodeId,
    offer: Arc<Offer<'static>>,
    incoming: Incoming,
    began: Instant,
    fetched_bytes: u64,
}

impl Fetch {
    /// What this replica takes is limited here.
    fn is_throttled(&self) -> bool {
        self.partition.throttles_follower(self.shared.identity.node)
    }

    fn piece_bytes_max(&self) -> usize {
        match self.is_throttled() || self.partition.throttles_leader(self.from) {
            true => THROTTLED_BYTES,
            false => PIECE_BYTES_MAX as usize,
        }
    }

    /// Fetches what lacks of a segment, and checks it.
    async fn segment(&mut self, ordinal: u32, meta: SegmentMeta, shard: &mpsc::Sender<Ask>) -> Result<(), String> {
        let incoming = self.incoming.clone();
        let mut file = blocking(move || incoming.segment(&meta)).await?;
        while file.len() < meta.length {
            if shard.is_closed() {
                return Err("the node stops".to_owned());
            }
            let len = (meta.length - file.len()).min(self.piece_bytes_max() as u64) as u32;
            if self.is_throttled() {
                self.shared.throttles.follower.take(len as usize).await;
            }
            let piece = Piece { number: self.offer.number, segment: ordinal, position: file.len(), len };
            let bytes = (self.caller)(self.from, piece.encode()).await?;
            if bytes.len() != len as usize {
                return Err("a piece of another length than asked for".to_owned());
            }
            file = blocking(move || file.push(&bytes).map(|()| file)).await?;
            self.fetched_bytes += u64::from(len);
            let due = self.began + Duration::from_secs_f64(self.fetched_bytes as f64 / BYTES_PER_SECOND_MAX);
            tokio::time::sleep_until(due).await;
        }
        let incoming = self.incoming.clone();
        blocking(move || incoming.close(file, &meta)).await
    }
}

impl Shard {
    /// Whether the replica lacks what is offered.
    pub(in super::super) fn look_at_offer(&self, offer: &Offer<'static>) -> Verdict {
        let Some(owned) = self.owned.get(&offer.id) else { return Verdict::Refused("the partition is not here") };
        let Some(group) = &owned.group else { return Verdict::Refused("the partition is offline") };
        if group.term() > offer.term {
            return Verdict::Refused("the offer is of a leader of the past");
        }
        if group.is_leader() {
            return Verdict::Refused("the replica leads");
        }
        let (index, term) = (offer.meta.index, offer.meta.term);
        // An entry that stands there tells that all before it do, too, and what follows it may have been acknowledged:
        // none of that is given up. The leader finds out with its next append.
        let stands = |log: &crate::log::Log| tokio::task::block_in_place(|| log.term_at(index)) == Some(term);
        if group.commit_index() >= index || group.log().last_index() >= index && stands(group.log()) {
            return Verdict::NotNeeded;
        }
        Verdict::Needed
    }

    /// Exchanges the replica's log for the one that was fetched, and opens it again.
    pub(in super::super) fn install_snapshot(&mut self, offer: &Offer<'static>) -> Verdict {
        match self.look_at_offer(offer) {
            Verdict::Needed => {}
            verdict => return verdict,
        }
        let id = offer.id;
        if is_compacting(&self.compacting, id) {
            // Its files must not turn up in the new log.
            self.cancel_compaction(id);
            return Verdict::Later;
        }
        // What is on its way to the store now would be written over what is installed: a term or a vote, forgotten.
        let Some(owned) = self.owned.get(&id) else { return Verdict::Refused("the partition is not here") };
        if owned.group.as_ref().is_some_and(|group| group.is_syncing_hard_state()) {
            return Verdict::Later;
        }
        let (shared, handle) = (self.shared.clone(), owned.shared.clone());
        let (config, member) = (owned.config.clone(), owned.member.clone());
        let incoming = Incoming::of(&shared.dir, id);
        if !tokio::task::block_in_place(|| incoming.is_whole(&offer.segments, offer.start())) {
            return Verdict::Refused("what was fetched is not there any more");
        }
        // From here on the old replica does nothing any more. Whatever fails, what is on disk is opened again.
        self.halt(id);
        let by = Replacement {
            term: offer.term,
            meta: &offer.meta,
            checkpoint: &offer.checkpoint,
            segments: &offer.segments,
        };
        let write = || match raft::put_replacement(&shared.store, id, &by) {
            Ok(batch) => handle.replace_with(|| shared.write(batch, Durability::Synced)),
            Err(e) => {
                tracing::error!(partition = %handle.name, error = %e, "a snapshot could not be installed");
                false
            }
        };
        if !tokio::task::block_in_place(write) {
            return Verdict::Refused("the store could not be written");
        }
        let recovered = tokio::task::block_in_place(|| raft::recover(&shared.dir, &shared.store, id, config, &member));
        match recovered {
            Ok(recovered) => {
                self.halted.remove(&id);
                // Whatever was wrong with the log before is gone with it.
                self.hurt.remove(&id);
                // All of it was synced where it was put together.
                self.replace(id, recovered);
                handle.waiters.changed();
                tracing::info!(partition = %handle.name, index = %offer.meta.index, "a snapshot is installed");
                Verdict::Installed
            }
            Err(e) => {
                tracing::error!(partition = %handle.name, error = %e, "a snapshot is not installed yet");
                Verdict::Refused("the partition is offline")
            }
        }
    }
}
