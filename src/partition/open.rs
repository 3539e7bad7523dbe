//! Partitions come to a shard and leave it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Weak};

use millstream_core::partition::Producers;
use millstream_core::replica::HardState;
use millstream_core::types::{PartitionId, RaftIndex, RaftTerm};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::append::{AppendError, answer};
use super::confirm::Confirms;
use super::handle::{Leadership, Partition};
use super::in_sync::InSync;
use super::keep::{Kept, put_events};
use super::members::Members;
use super::shard::{Owned, Shard};
use crate::log::LogConfig;
use crate::raft::{Group, Member, Recovered};
use crate::store;

/// A partition to take over.
pub(super) struct Opening {
    pub shared: Arc<Partition>,
    pub config: LogConfig,
    pub replica: Replica,
    pub member: Member,
    pub members: Option<Members>,
    /// It stands for election at once.
    pub stands: bool,
}

/// What an opening found.
pub(super) enum Replica {
    Recovered(Box<Recovered>),
    /// It starts offline, and is opened when that can be.
    Halted,
    /// It is damaged and stays offline.
    Lost,
}

/// What became of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    Done,
    Unknown,
}

impl Shard {
    pub(super) fn open(&mut self, partitions: Vec<Opening>, reply: oneshot::Sender<()>) {
        let mut waiting = HashSet::new();
        let mut batch = store::Batch::default();
        let now = Instant::now();
        for Opening { shared, config, replica, member, members, stands } in partitions {
            let id = shared.id;
            self.incarnations += 1;
            match replica {
                Replica::Recovered(recovered) => {
                    let mut owned = Owned::new(shared, config, member, *recovered, self.incarnations, &mut batch);
                    match owned.group.as_ref().is_some_and(Group::has_others) {
                        true => {
                            self.awake.insert(id);
                            if stands {
                                owned.stand_eagerly(now);
                            }
                        }
                        false => drop(waiting.insert(id)),
                    }
                    owned.wanted = members;
                    self.note_learning(&owned);
                    self.owned.insert(id, owned);
                    self.touch(id);
                }
                Replica::Halted | Replica::Lost => {
                    if matches!(replica, Replica::Halted) {
                        self.halted.insert(id);
                    }
                    shared.set_leadership(Leadership::Offline);
                    self.owned.insert(id, Owned::offline(shared, config, member, self.incarnations));
                }
            }
        }
        self.shared.write(batch, store::Durability::Buffered);
        if waiting.is_empty() {
            answer(reply, ());
        } else {
            self.openings.push((waiting, reply));
        }
    }

    /// Puts a replica that was opened again in the place of the halted one.
    pub(super) fn replace(&mut self, id: PartitionId, recovered: Recovered) {
        let Some(old) = self.owned.remove(&id) else { return };
        self.incarnations += 1;
        let mut batch = store::Batch::default();
        old.shared.set_leadership(Leadership::Starting);
        let wanted = old.wanted;
        let mut owned = Owned::new(old.shared, old.config, old.member, recovered, self.incarnations, &mut batch);
        self.shared.write(batch, store::Durability::Buffered);
        owned.wanted = wanted;
        self.note_learning(&owned);
        self.awake.insert(id);
        self.owned.insert(id, owned);
        self.touch(id);
    }

    /// The partition leads, or will not: those who opened it wait no longer.
    pub(super) fn has_opened(&mut self, id: PartitionId) {
        let mut at = 0;
        while let Some((waiting, _)) = self.openings.get_mut(at) {
            waiting.remove(&id);
            if waiting.is_empty() {
                let (_, reply) = self.openings.swap_remove(at);
                answer(reply, ());
            } else {
                at += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, id: PartitionId) -> Removed {
        let Some(mut owned) = self.owned.remove(&id) else { return Removed::Unknown };
        owned.shared.set_leadership(Leadership::Starting);
        owned.refuse_all(AppendError::NotLeader);
        owned.shared.waiters.changed();
        self.unsaved.remove(&id);
        self.awake.remove(&id);
        self.halted.remove(&id);
        self.hurt.remove(&id);
        self.learning.remove(&id);
        self.cancel_compaction(id);
        self.has_opened(id);
        Removed::Done
    }
}

impl Owned {
    fn new(
        shared: Arc<Partition>,
        config: LogConfig,
        member: Member,
        recovered: Recovered,
        incarnation: u64,
        batch: &mut store::Batch,
    ) -> Self {
        let Recovered { mut group, log_start, high_watermark, applied, producers, aborted, events } = recovered;
        put_events(batch, shared.id, &events);
        shared.set_view(group.view());
        shared.set_epochs(group.epochs());
        shared.set_log_end(group.end_offset());
        shared.advance_log_start(log_start.max(shared.log_start()));
        shared.advance_high_watermark(high_watermark.max(shared.high_watermark()));
        {
            let mut known = shared.write_aborted();
            match high_watermark >= shared.high_watermark() {
                true => *known = aborted,
                // What was committed before it was halted is applied again, a little later; readers may come before that.
                false => aborted.iter().for_each(|aborted| known.push(*aborted)),
            }
        }
        if let Some(last_stable) = producers.last_stable_offset(high_watermark) {
            shared.advance_last_stable(last_stable);
        }
        if group.has_others() {
            shared.set_leadership(Leadership::Following);
        } else {
            group.campaign();
        }
        let mut kept = Kept::new();
        if group.log().ends_segments_below(shared.log_start()) {
            kept.delete_is_due();
        }
        Self { group: Some(group), producers, applied, kept, ..Self::offline(shared, config, member, incarnation) }
    }

    fn offline(shared: Arc<Partition>, config: LogConfig, member: Member, incarnation: u64) -> Self {
        Self {
            shared,
            config,
            group: None,
            incarnation,
            producers: Producers::default(),
            applied: RaftIndex(0),
            hard_state: HardState::default(),
            hard_state_on_its_way: Weak::new(),
            uncommitted_bytes: 0,
            leaderless_since: None,
            waiting: VecDeque::new(),
            parked: VecDeque::new(),
            on_write: Vec::new(),
            trims: VecDeque::new(),
            kept: Kept::new(),
            broken: false,
            touched: false,
            follows_in: RaftTerm(0),
            leads_in: None,
            in_sync: InSync::default(),
            confirms: Confirms::default(),
            throttled: Vec::new(),
            wanted: None,
            calm_ticks: 0,
            members_are_due: true,
            eager_until: None,
            member,
        }
    }
}
